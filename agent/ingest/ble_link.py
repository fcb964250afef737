"""One connection as a session wants it: waits bounded, every error a LinkError, arrival stamped in the callback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from agent.ingest.ble_errors import link_error
from firmware_bridge.devices import Arrival, LinkError

if TYPE_CHECKING:
    from bleak import BleakClient
    from bleak.backends.characteristic import BleakGATTCharacteristic

PATIENCE_S = 10.0
"""For one answer of a device; without a pairing agent BlueZ would wait for 40 s and more."""
PAIR_S = 40.0
"""Somebody may have to press a button."""
DISCONNECT_S = 5.0

T = TypeVar("T")
Notified = Callable[[str, bytes, Arrival], None]


class BleLink:
    """firmware_bridge.devices.Link over a client of bleak. `lost` is set once the connection is gone."""

    def __init__(
        self, client: BleakClient, arrival: Callable[[], Arrival], notified: Notified, lost: asyncio.Event
    ) -> None:
        """`arrival`: when now is; `notified`: where goes what comes, except answers that somebody waits for."""
        self._client, self._arrival, self._notified, self.lost = client, arrival, notified, lost
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._subscribed: set[str] = set()
        self._found: dict[str, BleakGATTCharacteristic] = {}
        for characteristic in client.services.characteristics.values():
            self._found.setdefault(characteristic.uuid.lower(), characteristic)

    @property
    def mtu(self) -> int:
        """By what a write may carry: BlueZ tells it in no other way."""
        sizes = [one.max_write_without_response_size + 3 for one in self._found.values()]
        return max(sizes, default=23)

    @property
    def characteristics(self) -> frozenset[str]:
        return frozenset(self._found)

    async def read(self, characteristic: str) -> bytes:
        found = self._characteristic(characteristic)
        return bytes(await self._bounded(self._client.read_gatt_char(found), f"reading {characteristic}", PATIENCE_S))

    async def write(self, characteristic: str, data: bytes, *, response: bool = True) -> None:
        found = self._characteristic(characteristic)
        writing = self._client.write_gatt_char(found, data, response=response)
        await self._bounded(writing, f"writing {characteristic}", PATIENCE_S)

    async def subscribe(self, characteristic: str) -> None:
        found = self._characteristic(characteristic)
        if characteristic in self._subscribed:
            return

        def came(_sender: BleakGATTCharacteristic, data: bytearray) -> None:
            self._came(characteristic, bytes(data))

        self._subscribed.add(characteristic)
        try:
            await self._bounded(self._client.start_notify(found, came), f"subscribing to {characteristic}", PATIENCE_S)
        except LinkError:
            self._subscribed.discard(characteristic)
            raise

    async def ask(self, characteristic: str, data: bytes, *, timeout_s: float | None = None) -> bytes:
        if characteristic in self._asked:
            raise LinkError("refused", f"asking {characteristic}: an answer is still awaited")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[characteristic] = answer
        patience_s = PATIENCE_S if timeout_s is None else timeout_s
        try:
            await self.write(characteristic, data)
            return await self._bounded(answer, f"asking {characteristic}", patience_s)
        finally:
            self._asked.pop(characteristic, None)
            answer.cancel()

    async def pair(self) -> None:
        """Make a bond, if there is none yet; raises LinkError with the fault "bond"."""
        try:
            await self._bounded(self._client.pair(), "pairing", PAIR_S)
        except LinkError as error:
            raise LinkError("bond", str(error)) from error

    def _came(self, characteristic: str, data: bytes) -> None:
        arrival = self._arrival()
        answer = self._asked.get(characteristic)
        if answer is not None and not answer.done():
            answer.set_result(data)
            return
        self._notified(characteristic, data, arrival)

    def _characteristic(self, characteristic: str) -> BleakGATTCharacteristic:
        found = self._found.get(characteristic)
        if found is None:
            raise LinkError("missing", f"it has no characteristic {characteristic}")
        return found

    async def _bounded(self, awaitable: Awaitable[T], what: str, seconds: float) -> T:
        """Its result; an end as soon as the link is lost or time is up."""
        if self.lost.is_set():
            _abandon(awaitable)
            raise LinkError("lost", f"{what}: the link is lost")
        task = asyncio.ensure_future(awaitable)
        lost = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait({task, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            gone = lost.done()
        finally:
            lost.cancel()
            task.cancel()
        if task.done() and not task.cancelled():
            return _result(task, what)
        raise (
            LinkError("lost", f"{what}: the link is lost")
            if gone
            else LinkError("timeout", f"{what}: no answer in {seconds:.0f} s")
        )


def _result(task: asyncio.Future[T], what: str) -> T:
    try:
        return task.result()
    except Exception as error:
        raise link_error(error, what) from error


def _abandon(awaitable: Awaitable[object]) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
