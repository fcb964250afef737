"""Five wearables at once over Bluetooth: what they cost the agent, whole and with nothing but its Bluetooth source.

The wearables, and the radio between, are made of software and run in this process; the agent is another one. It has
bumble for a host, so what BlueZ would do outside of it is in the figure as well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.bench.figures import finish, head, machine, row
from agent.bench.live import cpu_s, rss_mb
from agent.broker import LocalBroker
from agent.ingest.bluetooth import VARIABLE
from agent.ingest.simulate import SimulatedPatient
from firmware_bridge.chunk import NS_PER_S

MEASURED_S = 60.0
GOAL_PERCENT = 5.0
CONNECTED_S = 60.0
SETTLED_S = 5.0
ALONE = "agent.bench.source_alone"
_ADDRESS = "C0:00:00:00:00:0{}"
WEARABLES = {
    _ADDRESS.format(1): "polar-h10",
    _ADDRESS.format(2): "polar-h10",
    _ADDRESS.format(3): "vagus-firmware",
    _ADDRESS.format(4): "pulse-oximeter",
    _ADDRESS.format(5): "cgm",
}
"""Each worn by another person."""


def ble_command(args: argparse.Namespace) -> int:
    """Only five wearables over Bluetooth: print what they cost, and write JSON where asked; 1 past the goal."""
    figures = asyncio.run(wearable_figures(MEASURED_S))
    sys.stdout.write(f"{len(WEARABLES)} wearables over Bluetooth for {MEASURED_S:.0f} s on {machine()}\n")
    head(("process", "CPU % of a core", "RSS MB", "notifications a second"))
    for what, words in (("source", "the Bluetooth source alone"), ("agent", "the whole agent, with its models")):
        keys = ("cpu_percent", "rss_mb", "notifications_a_second")
        row((words, *(f"{figures[what][key]:.1f}" for key in keys)))
    kept = figures["source"]["cpu_percent"] <= GOAL_PERCENT
    sys.stdout.write(f"goal for the source: {GOAL_PERCENT:.0f} %: {'kept' if kept else 'MISSED'}\n")
    finish("ble", figures, args)
    return 0 if kept else 1


async def wearable_figures(seconds: float) -> dict[str, Any]:
    """CPU of one core, in %, and memory, in MB, while all five send for `seconds`; raises TimeoutError."""
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as name:
        folder = Path(name)
        async with LocalBroker() as broker, _worn() as (port, worn):
            environment = os.environ | {VARIABLE: f"bumble:tcp-client:127.0.0.1:{port}"}
            figures: dict[str, Any] = {"seconds": seconds, "wearables": list(WEARABLES.values())}
            for what, module in (("source", [ALONE]), ("agent", ["agent.cli", "run"])):
                config = folder / f"{what}.toml"
                config.write_text(_config(folder / what, broker.port))
                figures[what] = await _measured(
                    [sys.executable, "-m", *module, str(config)], environment, worn, seconds
                )
            return figures


async def _measured(
    command: list[str], environment: Mapping[str, str], worn: list[Any], seconds: float
) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(CONNECTED_S):
            for one in worn:
                await one.heard.wait()
        await asyncio.sleep(SETTLED_S)
        began_s, cpu_before_s = time.monotonic(), cpu_s(process.pid)
        frames = sum(one.sent for one in worn)
        await asyncio.sleep(seconds)
        passed_s = time.monotonic() - began_s
        return {
            "cpu_percent": 100 * (cpu_s(process.pid) - cpu_before_s) / passed_s,
            "rss_mb": rss_mb(process.pid),
            "notifications_a_second": (sum(one.sent for one in worn) - frames) / passed_s,
        }
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def _worn() -> AsyncIterator[tuple[int, list[Any]]]:
    """All five on their people, and the port at which a controller is to be had."""
    from firmware_bridge.emulator import (  # noqa: PLC0415 - needs bumble
        Air,
        DeviceTime,
        GlucoseSensor,
        OwnFirmware,
        Oximeter,
        PolarH10,
        Repeated,
        Sensor,
        at_rate,
    )

    def ecg_uv(seed: int, rate_hz: float) -> Repeated:
        return Repeated(SimulatedPatient(seed, rate_hz).samples * 1000)

    air = Air()
    now_ns = time.time_ns()
    board = Sensor(at_rate(1, "ecg", "uV", 250), ecg_uv(3, 250))
    oximeter, board_address, cgm = (_ADDRESS.format(place) for place in (4, 3, 5))
    worn = [
        *(PolarH10(air, _ADDRESS.format(place), ecg_uv=ecg_uv(place, 130)) for place in (1, 2)),
        OwnFirmware(air, board_address, [board]),
        Oximeter(air, oximeter),
        GlucoseSensor(
            air, cgm, time=DeviceTime(now_ns), mg_dl=[120.0] * 1000, session_start_ns=now_ns - 24 * 3600 * NS_PER_S
        ),
    ]
    async with contextlib.AsyncExitStack() as stack:
        for one in worn:
            await stack.enter_async_context(one)
        port = await stack.enter_async_context(air.serve())
        yield port, worn


def _config(state_dir: Path, port: int) -> str:
    agent = f'[agent]\nid = "bench"\nstate_dir = {json.dumps(str(state_dir))}\n'
    mqtt = f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
    patients = "".join(
        f'[[patient]]\nid = "p{place}"\n[[patient.source]]\ntype = "ble"\nprofile = "{profile}"\n'
        f'address = "{address}"\ndevice = "d{place}"\n'
        for place, (address, profile) in enumerate(WEARABLES.items())
    )
    return f"{agent}{mqtt}{patients}"
