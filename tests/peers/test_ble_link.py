"""A link as sessions want it: no wait is for ever, every error is a LinkError, an answer goes to whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from bleak.exc import BleakError, BleakGATTProtocolError

from agent.ingest.ble_link import PATIENCE_S, BleLink
from firmware_bridge.clock import Arrival
from firmware_bridge.devices import LinkError
from tests.peers.ble_house import fly

CONTROL, DATA = "0000aaaa-0000-1000-8000-00805f9b34fb", "0000bbbb-0000-1000-8000-00805f9b34fb"
NOW = Arrival(1, 2)


@dataclass
class Client:
    """bleak's, as far as a link uses it; `hangs` for ever, or `fails`, in everything it is asked for."""

    hangs: bool = False
    fails: Exception | None = None
    answers_at_once: bytes | None = None
    subscriptions: int = 0
    callbacks: dict[str, Callable[[object, bytearray], None]] = field(default_factory=dict)

    @property
    def services(self) -> Any:
        found = [SimpleNamespace(uuid=uuid.upper(), max_write_without_response_size=244) for uuid in (CONTROL, DATA)]
        return SimpleNamespace(characteristics=dict(enumerate(found)))

    async def _ask(self) -> None:
        if self.fails is not None:
            raise self.fails
        if self.hangs:
            await asyncio.Event().wait()

    async def read_gatt_char(self, _found: Any) -> bytearray:
        await self._ask()
        return bytearray(b"read")

    async def write_gatt_char(self, found: Any, data: bytes, *, response: bool) -> None:
        assert response
        if self.answers_at_once is not None:  # before the write itself is acknowledged, as devices may
            self.callbacks[found.uuid.lower()](None, bytearray(self.answers_at_once))
        await self._ask()

    async def start_notify(self, found: Any, callback: Callable[[object, bytearray], None]) -> None:
        await self._ask()
        self.subscriptions += 1
        self.callbacks[found.uuid.lower()] = callback

    async def pair(self) -> None:
        await self._ask()


def linked(client: Client) -> tuple[BleLink, list[tuple[str, bytes]], asyncio.Event]:
    heard: list[tuple[str, bytes]] = []
    lost = asyncio.Event()

    def notified(characteristic: str, data: bytes, arrival: Arrival) -> None:
        assert arrival is NOW
        heard.append((characteristic, data))

    return BleLink(client, lambda: NOW, notified, lost), heard, lost  # type: ignore[arg-type]


CALLS: dict[str, Callable[[BleLink], Coroutine[Any, Any, Any]]] = {
    "read": lambda link: link.read(DATA),
    "write": lambda link: link.write(DATA, b"x"),
    "subscribe": lambda link: link.subscribe(DATA),
    "ask": lambda link: link.ask(CONTROL, b"x"),
    "pair": lambda link: link.pair(),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_waits_for_ever(call: str) -> None:
    async def scenario() -> None:
        link, _, _ = linked(Client(hangs=True))
        with pytest.raises(LinkError) as fault:
            await CALLS[call](link)
        assert fault.value.fault == ("bond" if call == "pair" else "timeout")
        assert asyncio.get_running_loop().time() <= 4 * PATIENCE_S

    fly(scenario())


@pytest.mark.parametrize("call", CALLS)
def test_a_link_that_is_lost_ends_every_wait_at_once(call: str) -> None:
    async def scenario() -> None:
        link, _, lost = linked(Client(hangs=True))
        asyncio.get_running_loop().call_later(1.0, lost.set)
        for _ in range(2):
            with pytest.raises(LinkError) as fault:
                await CALLS[call](link)
            assert fault.value.fault == ("bond" if call == "pair" else "lost")
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)

    fly(scenario())


@pytest.mark.parametrize("call", [call for call in CALLS if call != "pair"])
@pytest.mark.parametrize(
    ("error", "fault"),
    [(BleakGATTProtocolError(0x0F), "bond"), (BleakGATTProtocolError(0x80), "refused"), (EOFError(), "lost")],
)
def test_what_fails_is_a_link_error(call: str, error: Exception, fault: str) -> None:
    async def scenario() -> None:
        link, _, _ = linked(Client(fails=error))
        with pytest.raises(LinkError) as found:
            await CALLS[call](link)
        assert found.value.fault == fault

    fly(scenario())


def test_a_characteristic_that_is_not_there_is_missing() -> None:
    async def scenario() -> None:
        link, _, _ = linked(Client())
        assert link.characteristics == {CONTROL, DATA}
        assert link.mtu == 247
        with pytest.raises(LinkError) as found:
            await link.read("0000cccc-0000-1000-8000-00805f9b34fb")
        assert found.value.fault == "missing"

    fly(scenario())


def test_an_answer_goes_to_whoever_asked_and_what_else_comes_to_the_session() -> None:
    async def scenario() -> None:
        client = Client(answers_at_once=b"answer")
        link, heard, _ = linked(client)
        await link.subscribe(CONTROL)
        await link.subscribe(DATA)
        await link.subscribe(DATA)
        assert client.subscriptions == 2
        assert await link.ask(CONTROL, b"question") == b"answer"
        client.callbacks[CONTROL](None, bytearray(b"unasked"))
        client.callbacks[DATA](None, bytearray(b"data"))
        assert heard == [(CONTROL, b"unasked"), (DATA, b"data")]

    fly(scenario())


def test_two_questions_at_once_are_one_too_many() -> None:
    async def scenario() -> None:
        link, _, _ = linked(Client())
        await link.subscribe(CONTROL)
        first = asyncio.create_task(link.ask(CONTROL, b"1", timeout_s=5))
        await asyncio.sleep(0)
        with pytest.raises(LinkError, match="still awaited"):
            await link.ask(CONTROL, b"2")
        with pytest.raises(LinkError, match="no answer in 5 s"):
            await first

    fly(scenario())


def test_a_subscription_that_failed_may_be_tried_again() -> None:
    async def scenario() -> None:
        client = Client(fails=BleakError("odd"))
        link, _, _ = linked(client)
        with pytest.raises(LinkError):
            await link.subscribe(DATA)
        client.fails = None
        await link.subscribe(DATA)
        assert client.subscriptions == 1

    fly(scenario())
