"""The one owner of an adapter: it searches for everybody, connects for one at a time, and mends what is stuck."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from agent.ingest.ble_errors import RadioError
from agent.ingest.ble_pacing import Repair, RepairLadder, TokenBucket
from agent.ingest.ble_radio import Radio, Sighting, obey
from firmware_bridge.devices import LinkError

if TYPE_CHECKING:
    from bleak import BleakClient

log = logging.getLogger(__name__)

LINKS = 5
"""As many as the weakest adapters in use (a Raspberry Pi's own) keep up."""
BURST, EVERY_S = 5, 5.0
"""Attempts to connect at once, and the seconds for each one more."""
QUIET_S = 90.0
"""A search that hears nobody for so long is begun anew."""
LEAST_S = 2.0
"""While somebody is still sought, those who want to connect wait for so long: they must not starve the search."""
SCAN_S = 300.0
"""So is any that lasts so long: some controllers report a device once a search."""
FAILURES = 5
"""So many connections in a row that come to nothing speak against the adapter."""

HANG_UP_EVERY_S = 60.0

IsOurs = Callable[[Sighting], bool]


class Adapter:
    """One adapter and its links. Searching and connecting exclude each other: controllers do badly at both at once."""

    def __init__(self, radio: Radio, *, links: int = LINKS) -> None:
        self.radio = radio
        self.links = links
        self.in_use = 0
        self.power_cycles = 0
        self._slots = asyncio.Semaphore(links)
        self._bucket = TokenBucket(BURST, EVERY_S)
        self._ladder = RepairLadder()
        self._air = asyncio.Lock()
        self._callers = 0
        self._failures = 0
        self._why = ""
        """What was wrong last: what is so again and again is logged once."""
        self._seekers: list[tuple[IsOurs, asyncio.Future[Sighting]]] = []
        self._news = asyncio.Event()
        self._heard_s = 0.0
        self._hang_up_due_s = 0.0

    @property
    def trouble(self) -> str:
        """Why it cannot be used, once everything was tried; empty: it can, as far as is known."""
        return f"{self.radio.name} does not work: {self._ladder.told}" if self._ladder.told else ""

    @property
    def is_full(self) -> bool:
        """Whether all links are in use."""
        return self._slots.locked()

    async def find(self, is_ours: IsOurs) -> Sighting:
        """The next sighting of a device, whenever that is."""
        found: asyncio.Future[Sighting] = asyncio.get_running_loop().create_future()
        seeker = (is_ours, found)
        self._seekers.append(seeker)
        self._news.set()
        try:
            return await found
        finally:
            self._seekers.remove(seeker)
            self._news.set()

    async def turn(self) -> None:
        """Wait until one more attempt to connect does the adapter no harm."""
        await asyncio.sleep(self._bucket.take(_now_s()))

    @asynccontextmanager
    async def link(self) -> AsyncIterator[None]:
        """One of its links, as soon as one is free."""
        async with self._slots:
            self.in_use += 1
            try:
                yield
            finally:
                self.in_use -= 1

    async def connect(self, sighting: Sighting, lost: Callable[[], None]) -> BleakClient:
        """As Radio.connect, while nobody else searches or connects."""
        async with self._alone():
            try:
                client = await self.radio.connect(sighting, lost)
            except LinkError:
                self._failures += 1
                raise
        self._failures = 0
        self._ladder.worked()
        return client

    async def forget(self, sighting: Sighting) -> None:
        """As Radio.forget, while nobody else searches or connects."""
        async with self._alone():
            await self.radio.forget(sighting)

    async def run(self, is_ours: Callable[[str, str], bool]) -> None:
        """Search whenever somebody is sought, until cancelled.

        `is_ours`: whether a device, by address and name, is one of ours to which there should be no link now.
        """
        try:
            while True:
                obey()
                try:
                    await self._search(is_ours)
                except RadioError as error:
                    await self._mend(str(error))
                except Exception as error:
                    log.exception("%s: fault while searching", self.radio.name)
                    await self._mend(f"the search failed ({type(error).__name__})")
        finally:
            await self.radio.close()

    async def _search(self, is_ours: Callable[[str, str], bool]) -> None:
        """One search, until nobody is sought any more or somebody wants to connect."""
        while not self._seekers or self._callers:
            self._news.clear()
            await self._news.wait()
        if self._failures >= FAILURES:
            self._failures = 0
            await self._repair(self._ladder.quiet(_now_s(), self.in_use > 0), "connections come to nothing")
        async with self._air:
            await self._hang_up(is_ours)
            await self.radio.start_scan(self._heard)
            self._ladder.worked()
            self._why = ""
            try:
                quiet = await self._listen()
            except BaseException:
                with suppress(RadioError):  # which must not take the place of a cancellation
                    await self.radio.stop_scan()
                raise
            await self.radio.stop_scan()
        if quiet:
            await self._repair(self._ladder.quiet(_now_s(), self.in_use > 0), "nobody at all is heard")

    async def _listen(self) -> bool:
        """Wait for the end of a search; whether it ends because nothing was heard."""
        began_s = self._heard_s = _now_s()
        while self._seekers:
            obey()
            self._news.clear()
            until_s = min(began_s + SCAN_S, self._heard_s + QUIET_S)
            if self._callers:
                until_s = min(until_s, began_s + LEAST_S)
            if _now_s() >= until_s:
                return _now_s() >= self._heard_s + QUIET_S
            try:
                async with asyncio.timeout_at(until_s):
                    await self._news.wait()
            except TimeoutError:
                continue
        return False

    def _heard(self, sighting: Sighting) -> None:
        self._heard_s = sighting.at_s
        for is_ours, found in self._seekers:
            if not found.done() and is_ours(sighting):
                found.set_result(sighting)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        self._callers += 1
        self._news.set()
        try:
            async with self._air:
                yield
        finally:
            self._callers -= 1
            self._news.set()

    async def _mend(self, why: str) -> None:
        """The adapter refused; do the next thing about it, and wait."""
        was_told = self._ladder.told
        if why != self._why:
            log.warning("%s: %s", self.radio.name, why)
        self._why = why
        repair, wait_s = self._ladder.failed(_now_s(), why)
        if self._ladder.told and not was_told:
            log.error("%s", self.trouble)
        await self._repair(repair, why)
        await asyncio.sleep(wait_s)

    async def _repair(self, repair: Repair, why: str) -> None:
        level = logging.WARNING if repair is Repair.POWER_CYCLE else logging.DEBUG
        log.log(level, "%s: %s: %s", self.radio.name, why, repair.value)
        if repair is not Repair.POWER_CYCLE:
            return  # the next search is a new one
        self.power_cycles += 1
        try:
            async with self._alone():
                await self.radio.power_cycle()
        except RadioError as error:
            log.warning("%s: %s", self.radio.name, error)
        obey()

    async def _hang_up(self, is_ours: Callable[[str, str], bool]) -> None:
        """End links of our devices that nobody owns: a killed agent's, or one that could not be ended."""
        if _now_s() < self._hang_up_due_s:
            return
        self._hang_up_due_s = _now_s() + HANG_UP_EVERY_S
        try:
            ended = await self.radio.hang_up(is_ours)
        except RadioError as error:
            log.debug("%s: %s", self.radio.name, error)
            return
        if ended:
            log.info("%s: %d links that nobody owned were ended", self.radio.name, ended)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
