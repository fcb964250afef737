"""The agent's source of wearables at work over real BlueZ, for a test to wait for what it delivers and says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.config import BleConfig, parse_config
from agent.ingest.ble import BleSource
from agent.ingest.device_status import DeviceStatus
from agent.ingest.source import Delivery
from firmware_bridge.chunk import Chunk

PATIENCE_S = 90.0
"""For anything that shall happen; the guest computes slowly."""


def wearable(profile: str, address: str, more: str = "") -> BleConfig:
    """A wearable of the config, read as the agent reads it."""
    text = (
        '[agent]\nid = "guest"\n[[patient]]\nid = "p1"\n[[patient.source]]\ntype = "ble"\n'
        f'profile = "{profile}"\naddress = "{address}"\n{more}\n'
    )
    (source,) = parse_config(text, Path("vagus.toml"), {}).patients[0].sources
    assert isinstance(source, BleConfig)
    return source


class Listener:
    """A source that runs, and what came of it."""

    def __init__(self, source: BleSource) -> None:
        self.source = source
        self.chunks: list[Chunk] = []
        self._came = asyncio.Condition()

    async def deliver(self, delivery: Delivery) -> None:
        self.chunks.extend(delivery.chunks)
        async with self._came:
            self._came.notify_all()

    async def more(self, chunks: int = 2) -> list[Chunk]:
        """The next chunks from now on."""
        had = len(self.chunks)
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: len(self.chunks) >= had + chunks)
        return self.chunks[had:]

    @property
    def status(self) -> DeviceStatus:
        (status,) = self.source.devices()
        return status

    async def until(self, condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
        """Wait until it is true; it is looked at five times a second."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"still not so: {self.source.devices()}, {self.source.troubles()}") from None


@asynccontextmanager
async def listening(*wearables: BleConfig) -> AsyncIterator[Listener]:
    """A source at work. What it raises, the test raises."""
    source = BleSource(wearables)
    listener = Listener(source)
    running = asyncio.create_task(source.run(listener.deliver))
    await asyncio.sleep(0)
    try:
        yield listener
    finally:
        if running.done():
            running.result()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
