"""A house for wearables in tests: virtual ones on a virtual link, the agent's source beside them, and time that flies.

On the loop here an hour passes as soon as nobody has anything to do in it: radio, device clocks and the source's own
two clocks all read that loop's time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agent.config import BleConfig, parse_config
from agent.ingest.ble import BleSource, Clocks
from agent.ingest.ble_bumble import BumbleBackend, bumble_backend
from agent.ingest.device_status import DeviceStatus
from agent.ingest.source import Delivery
from firmware_bridge.chunk import NS_PER_S, Chunk
from firmware_bridge.emulator import Air, DeviceTime

EPOCH_NS = 1_767_225_600 * NS_PER_S
"""2026-01-01: when the loop's time is 0."""
LIMIT_S = 60.0
"""Of real time, after which a test has hung."""


class _Selector(selectors.DefaultSelector):
    """Never waits where the loop says for how long: that time is said to have passed."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(LIMIT_S if timeout is None else 0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits for ever")
        if not ready and timeout:
            self.passed_s += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes where everybody waits."""

    def __init__(self) -> None:
        self._flying = _Selector()
        super().__init__(self._flying)

    def time(self) -> float:
        return self._flying.passed_s


def now_ns() -> int:
    """The loop's time, in ns."""
    return round(asyncio.get_running_loop().time() * NS_PER_S)


def wall_ns() -> int:
    return EPOCH_NS + now_ns()


class LoopTime(DeviceTime):
    """The clock of a wearable, on the loop's time."""

    def __init__(self, epoch_ns: int = 0, *, drift_ppm: float = 0.0) -> None:
        super().__init__(epoch_ns, drift_ppm=drift_ppm)
        self.set(epoch_ns)

    def now_ns(self) -> int:
        return self._epoch_ns + round((now_ns() - self._from_ns) * self._rate)

    def set(self, epoch_ns: int) -> None:
        self._epoch_ns, self._from_ns = epoch_ns, now_ns()


def fly(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)


def wearable(profile: str, address: str, patient: str = "p1", more: str = "") -> BleConfig:
    """A wearable of the config, read as the agent reads it."""
    text = (
        f'[agent]\nid = "house"\n[[patient]]\nid = "{patient}"\n[[patient.source]]\ntype = "ble"\n'
        f'profile = "{profile}"\naddress = "{address}"\n{more}\n'
    )
    (source,) = parse_config(text, Path("vagus.toml"), {}).patients[0].sources
    assert isinstance(source, BleConfig)
    return source


class House:
    """The source of an agent, and what it delivers."""

    def __init__(self, source: BleSource, backend: BumbleBackend) -> None:
        self.source, self.backend = source, backend
        self.deliveries: list[Delivery] = []
        self.is_busy = asyncio.Event()
        """Set: it takes nothing."""
        self._came = asyncio.Condition()

    async def deliver(self, delivery: Delivery) -> None:
        while self.is_busy.is_set():
            await asyncio.sleep(0.1)
        self.deliveries.append(delivery)
        async with self._came:
            self._came.notify_all()

    def chunks(self, channel: str = "", device: str = "") -> list[Chunk]:
        """What was delivered, of one channel of one device or of all."""
        return [
            chunk
            for delivery in self.deliveries
            for chunk in delivery.chunks
            if channel in {"", chunk.stream.channel} and device in {"", chunk.stream.device}
        ]

    async def until(self, condition: Callable[[House], bool], within_s: float = 60.0) -> None:
        """Wait until something delivered makes it true."""
        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(lambda: condition(self))

    async def until_status(self, condition: Callable[[DeviceStatus], bool], within_s: float = 60.0) -> DeviceStatus:
        """Wait until the status of the only device makes it true; it is looked at ten times a second."""
        async with asyncio.timeout(within_s):
            while not condition(self.status()):
                await asyncio.sleep(0.1)
        return self.status()

    def status(self, device: str = "") -> DeviceStatus:
        """Of one device, or of the only one."""
        found = [one for one in self.source.devices() if device in {"", one.device}]
        assert len(found) == 1
        return found[0]


@asynccontextmanager
async def house(
    air: Air, *wearables: BleConfig, backend: BumbleBackend | None = None, **more: Any
) -> AsyncIterator[House]:
    """A source at work. What it raises, the test raises."""
    backend = backend or bumble_backend(air.adapter)
    more.setdefault("backend_of", lambda _adapter: backend)
    more.setdefault("clocks", Clocks(now_ns, wall_ns))
    source = BleSource(
        wearables,
        chance=lambda: 0.5,
        **more,
    )
    inside = House(source, backend)
    running = asyncio.create_task(source.run(inside.deliver))
    await asyncio.sleep(0)
    try:
        yield inside
    finally:
        if running.done():
            running.result()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
