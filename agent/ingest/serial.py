"""Devices with our own firmware on serial lines and USB, each port kept open by itself, as one source."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from agent.config.serial import SerialConfig
from agent.ingest.delivery import delivery_of
from agent.ingest.device_status import DeviceStatus
from agent.ingest.serial_port import SerialPort
from agent.ingest.source import Delivery
from firmware_bridge.chunk import Chunk
from firmware_bridge.clock import Arrival, SteadyUtc

BUFFER_CHUNKS = 4096
"""Chunks that may wait for a receiver that is busy; a serial line cannot be told to wait."""


class SerialSource:
    """All ports of a config. They are open while `run` runs."""

    def __init__(
        self,
        streams: Sequence[SerialConfig],
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._steady, self._monotonic_ns, self._wall_ns = SteadyUtc(), monotonic_ns, wall_ns
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue(BUFFER_CHUNKS)
        self._overflows = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        by_port: dict[tuple[str, int], list[SerialConfig]] = {}
        for one in streams:
            by_port.setdefault((one.port, one.baud), []).append(one)
        self._ports = [
            SerialPort(port, baud, {one.stream_id: one.stream for one in several}, self._arrival, self._take)
            for (port, baud), several in by_port.items()
        ]

    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Hand on what the devices send until cancelled; every port is closed then."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                for port in self._ports:
                    tasks.create_task(port.run())
                while True:
                    await deliver(await self._waiting.get())
        finally:
            self._loop = None

    def devices(self) -> Sequence[DeviceStatus]:
        """Every device, at this moment."""
        loop = self._loop
        if loop is not None:
            now_s = loop.time()
            return [status for port in self._ports for status in port.status(now_s)]
        words = "its port is not open: the agent has not started yet, or stops"
        return [DeviceStatus(*one, "stopped", words) for port in self._ports for one in port.devices]

    def troubles(self) -> Mapping[str, str]:
        """Ports that are there and cannot be used."""
        refusals = [port.refusal for port in self._ports if port.refusal]
        return {"serial_port": "; ".join(refusals)} if refusals else {}

    def counters(self) -> dict[str, int]:
        return {"serial chunks waiting": self._waiting.qsize(), "serial chunks lost": self._overflows}

    def _arrival(self) -> Arrival:
        return self._steady.arrival(self._monotonic_ns(), self._wall_ns())

    def _take(self, chunk: Chunk) -> None:
        """Called by a port. Where the receiver is busy for too long, the oldest goes."""
        if self._waiting.full():
            self._waiting.get_nowait()
            self._overflows += 1
        self._waiting.put_nowait(delivery_of(chunk, self._wall_ns()))
