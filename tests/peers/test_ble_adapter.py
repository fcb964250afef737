"""The owner of an adapter, whatever that does: never two things at once, never a storm, and it never gives up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.ingest.ble_adapter import BURST, EVERY_S, Adapter
from agent.ingest.ble_errors import RadioError
from agent.ingest.ble_radio import Radio, Sighting
from firmware_bridge.devices import Advertisement, LinkError
from tests.peers.ble_house import fly

ADDRESSES = [f"F0:11:22:33:44:0{number}" for number in range(4)]
LINKS = 2
OUTCOMES = ("well", "refused", "slowly", "fault")


class ScriptedRadio(Radio):
    """An adapter that does what the script says, call after call, and after its end all is well."""

    def __init__(self, script: list[str]) -> None:
        super().__init__("hci0")
        self._script = iter(script)
        self._busy = False
        self._advertising: asyncio.Task[None] | None = None
        self.attempts_s: list[float] = []
        self.power_cycles = 0

    async def start_scan(self, heard: Callable[[Sighting], None]) -> None:
        assert self._advertising is None, "two searches at once"
        await self._called("scan")
        self._advertising = asyncio.create_task(_advertise(heard))

    async def stop_scan(self) -> None:
        if self._advertising is not None:
            self._advertising.cancel()
            self._advertising = None
            await self._called("stop")

    async def connect(self, sighting: Sighting, lost: Callable[[], None]) -> Any:
        assert self._advertising is None, "connecting while searching"
        self.attempts_s.append(asyncio.get_running_loop().time())
        try:
            await self._called("connect")
        except RadioError as error:
            raise LinkError("refused", str(error)) from error
        return object()

    async def power_cycle(self) -> None:
        self.power_cycles += 1
        await self._called("power")

    async def hang_up(self, is_ours: Callable[[str, str], bool]) -> int:
        return 0

    async def close(self) -> None:
        with suppress(RadioError):
            await self.stop_scan()

    async def _called(self, what: str) -> None:
        assert not self._busy, "two calls at once"
        self._busy = True
        try:
            outcome = next(self._script, "well")
            await asyncio.sleep(8.0 if outcome == "slowly" else 0.1)
            if outcome == "refused":
                raise RadioError("busy", what)
            if outcome == "fault":
                raise RadioError("failed", what)
        finally:
            self._busy = False


async def _advertise(heard: Callable[[Sighting], None]) -> None:
    while True:
        await asyncio.sleep(0.5)
        for address in ADDRESSES:
            now_s = asyncio.get_running_loop().time()
            heard(Sighting(address, Advertisement(), -60, now_s, None))  # type: ignore[arg-type]


async def keep_in_touch(adapter: Adapter, address: str, connected: list[str]) -> None:
    """What a device does with an adapter."""
    while True:
        sighting = await adapter.find(lambda one: one.address == address)
        async with adapter.link():
            assert adapter.in_use <= LINKS
            with suppress(LinkError):
                await adapter.connect(sighting, lambda: None)
                connected.append(address)
                await asyncio.sleep(20)
        await adapter.turn()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(OUTCOMES), max_size=60))
def test_whatever_an_adapter_does_every_device_is_connected_in_the_end(script: list[str]) -> None:
    async def scenario() -> None:
        radio = ScriptedRadio(script)
        adapter = Adapter(radio, links=LINKS)
        connected: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(adapter.run(lambda *_: False))]
            running += [tasks.create_task(keep_in_touch(adapter, address, connected)) for address in ADDRESSES]
            await asyncio.sleep(3600)
            assert not any(task.done() for task in running)
            for task in running:
                task.cancel()
        assert set(connected[-40:]) == set(ADDRESSES)
        assert adapter.trouble == ""
        assert radio.power_cycles <= 4
        spare = BURST + len(ADDRESSES)  # a token may be kept until the device is heard
        for first, last in itertools.combinations(range(len(radio.attempts_s)), 2):
            passed_s = radio.attempts_s[last] - radio.attempts_s[first]
            assert last - first <= spare + passed_s / EVERY_S

    fly(scenario())


def test_what_is_broken_for_good_is_told_and_tried_seldom() -> None:
    async def scenario() -> None:
        radio = ScriptedRadio(["refused"] * 10_000)
        adapter = Adapter(radio)
        running = asyncio.create_task(adapter.run(lambda *_: False))
        seeking = asyncio.create_task(adapter.find(lambda _: True))
        await asyncio.sleep(120)
        assert adapter.trouble == "the adapter hci0 does not work: scan"
        await asyncio.sleep(24 * 3600)
        assert radio.power_cycles <= 2 + 24
        for task in (running, seeking):
            task.cancel()
        await asyncio.gather(running, seeking, return_exceptions=True)

    fly(scenario())


def test_a_fault_of_our_own_ends_nothing() -> None:
    class Broken(ScriptedRadio):
        async def start_scan(self, heard: Callable[[Sighting], None]) -> None:
            if len(self.attempts_s) == 0:
                self.attempts_s.append(0.0)
                raise ZeroDivisionError
            await super().start_scan(heard)

    async def scenario() -> None:
        adapter = Adapter(Broken([]))
        running = asyncio.create_task(adapter.run(lambda *_: False))
        assert (await adapter.find(lambda one: one.address == ADDRESSES[2])).address == ADDRESSES[2]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    fly(scenario())


def test_a_search_that_cannot_be_ended_does_not_keep_the_agent_from_its_end() -> None:
    class Stuck(ScriptedRadio):
        async def stop_scan(self) -> None:
            await super().stop_scan()
            raise RadioError("failed", "no discovery started")

    async def scenario() -> None:
        adapter = Adapter(Stuck([]))
        running = asyncio.create_task(adapter.run(lambda *_: False))
        seeking = asyncio.create_task(adapter.find(lambda _: False))
        await asyncio.sleep(5)
        for task in (seeking, running):
            task.cancel()
        await asyncio.gather(seeking, running, return_exceptions=True)
        assert running.cancelled()

    fly(scenario())
