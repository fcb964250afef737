"""The demo's strap and glucose sensor over a Bluetooth link made of software, where bumble is installed.

They, and all that Bluetooth is made of, live in this process; the agent, in its own, is lent a controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

if TYPE_CHECKING:
    from firmware_bridge.emulator import Air, GlucoseSensor, PolarH10

log = logging.getLogger(__name__)

ECG_HZ = 130.0
"""What the strap takes."""
STRAP, STRAP_PROFILE = "C6:6C:75:63:6F:01", "polar-h10"
GLUCOSE, GLUCOSE_PROFILE = "C6:6C:75:63:6F:02", "cgm"
FOUND_S = 15.0
"""To find both, to pair and to read out takes a second, or something is wrong."""
FRAME_S = 73 / ECG_HZ


class VirtualBluetooth:
    """A space in which the wearables can be heard, and the way for the agent to listen into it."""

    def __init__(self, air: Air, port: int) -> None:
        self._air = air
        self.setting = f"bumble:tcp-client:127.0.0.1:{port}"
        """What VAGUS_BLUETOOTH is to be for the agent."""
        self._on = contextlib.AsyncExitStack()

    async def switch_on(self, ecg: Sequence[Chunk], readings: Sequence[Chunk]) -> int | None:
        """A strap that plays the chunks, and a sensor that has stored those of the readings that are past.

        Returns UTC ns of the strap's first sample, once the agent listens to both; None where it does not in time.
        """
        try:
            async with asyncio.timeout(FOUND_S):
                strap = await self._on.enter_async_context(_strap(self._air, ecg))
                sensor = await self._on.enter_async_context(_sensor(self._air, readings))
                await strap.started.wait()
                strap.spawn(_keep_silent(strap, _gaps_s(ecg)))
                await sensor.has_reported.wait()
        except Exception as error:  # the demo has another way to go on, whatever is wrong with this one
            log.debug("nothing over Bluetooth", exc_info=error)
            return None
        return time.time_ns() - round(strap.ecg_s * NS_PER_S)

    async def close(self) -> None:
        """Switch them off."""
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


def source_lines(ecg: Stream, glucose: Stream) -> list[str]:
    """Both in the agent's config."""
    lines = []
    for stream, profile, address in ((ecg, STRAP_PROFILE, STRAP), (glucose, GLUCOSE_PROFILE, GLUCOSE)):
        lines += [
            "[[patient.source]]",
            'type = "ble"',
            f"profile = {json.dumps(profile)}",
            f"address = {json.dumps(address)}",
            f"device = {json.dumps(stream.device)}",
            *(['streams = ["ecg"]'] if stream is ecg else []),
            "",
        ]
    return lines[:-1]


def _strap(air: Air, ecg: Sequence[Chunk]) -> PolarH10:
    from firmware_bridge.emulator import Played, PolarH10  # noqa: PLC0415

    uv = np.zeros(_index(ecg, ecg[-1].end_ns))
    for chunk in ecg:
        at = _index(ecg, chunk.t0_ns)
        uv[at : at + len(chunk.samples)] = 1000.0 * chunk.samples[: len(uv) - at, 0]
    return PolarH10(air, STRAP, ecg_uv=Played(uv))


def _sensor(air: Air, readings: Sequence[Chunk]) -> GlucoseSensor:
    from firmware_bridge.emulator import DeviceTime, GlucoseSensor  # noqa: PLC0415

    return GlucoseSensor(
        air,
        GLUCOSE,
        time=DeviceTime(time.time_ns()),
        mg_dl=[float(one.samples[0, 0]) for one in readings],
        session_start_ns=readings[0].t0_ns,
        interval_min=round(readings[0].stream.interval_s / 60),
    )


def _index(ecg: Sequence[Chunk], t_ns: int) -> int:
    return round((t_ns - ecg[0].t0_ns) * ECG_HZ / NS_PER_S)


def _gaps_s(ecg: Sequence[Chunk]) -> list[tuple[float, float]]:
    """From when to when there is nothing, in s from the first sample."""
    return [
        ((one.end_ns - ecg[0].t0_ns) / NS_PER_S, (following.t0_ns - ecg[0].t0_ns) / NS_PER_S)
        for one, following in pairwise(ecg)
        if following.t0_ns - one.end_ns > NS_PER_S / ECG_HZ
    ]


async def _keep_silent(strap: PolarH10, gaps_s: Sequence[tuple[float, float]]) -> None:
    """Send nothing while there is nothing, up to the first frame that is whole again."""
    for start_s, end_s in gaps_s:
        await asyncio.sleep(max(0.0, start_s - strap.ecg_s))
        strap.faults.silent = True
        await asyncio.sleep(max(0.0, end_s + FRAME_S - strap.ecg_s))
        strap.faults.silent = False
