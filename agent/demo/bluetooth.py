"""The demo's glucose sensor over a Bluetooth link made of software, where bumble is installed.

The sensor and all that Bluetooth is made of live in this process; the agent, in its own, is lent a controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from firmware_bridge.chunk import Chunk, Stream

if TYPE_CHECKING:
    from firmware_bridge.emulator import Air, GlucoseSensor

log = logging.getLogger(__name__)

ADDRESS = "C6:6C:75:63:6F:01"
PROFILE = "cgm"
FOUND_S = 10.0
"""To find, pair with and read out a sensor takes less than a second, or something is wrong."""


class VirtualBluetooth:
    """A space in which the sensor can be heard, and the way for the agent to listen into it."""

    def __init__(self, air: Air, port: int) -> None:
        self._air = air
        self.setting = f"bumble:tcp-client:127.0.0.1:{port}"
        """What VAGUS_BLUETOOTH is to be for the agent."""
        self._on = contextlib.AsyncExitStack()

    async def switch_on(self, readings: Sequence[Chunk]) -> bool:
        """A sensor that has stored those of the readings that are past; whether the agent fetches them in time."""
        try:
            async with asyncio.timeout(FOUND_S):
                sensor = await self._on.enter_async_context(_sensor(self._air, readings))
                await sensor.has_reported.wait()
        except Exception as error:  # the demo has another way to go on, whatever is wrong with this one
            log.debug("no glucose sensor over Bluetooth", exc_info=error)
            return False
        return True

    async def close(self) -> None:
        """Switch the sensor off."""
        await self._on.aclose()


@asynccontextmanager
async def virtual_bluetooth() -> AsyncIterator[VirtualBluetooth | None]:
    """Nothing where it cannot be had: bumble is not installed, or the loopback interface is closed to us."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            from firmware_bridge.emulator import Air  # noqa: PLC0415 - needs bumble

            air = Air()
            port = await stack.enter_async_context(air.serve())
        except (ImportError, OSError):
            yield None
            return
        bluetooth = VirtualBluetooth(air, port)
        stack.push_async_callback(bluetooth.close)
        yield bluetooth


def _sensor(air: Air, readings: Sequence[Chunk]) -> GlucoseSensor:
    from firmware_bridge.emulator import DeviceTime, GlucoseSensor  # noqa: PLC0415

    return GlucoseSensor(
        air,
        ADDRESS,
        time=DeviceTime(time.time_ns()),
        mg_dl=[float(one.samples[0, 0]) for one in readings],
        session_start_ns=readings[0].t0_ns,
        interval_min=round(readings[0].stream.interval_s / 60),
    )


def source_lines(stream: Stream) -> list[str]:
    """The sensor in the agent's config."""
    return [
        "[[patient.source]]",
        'type = "ble"',
        f"profile = {json.dumps(PROFILE)}",
        f"address = {json.dumps(ADDRESS)}",
        f"device = {json.dumps(stream.device)}",
    ]
