"""A night of wearables that come and go: no sample twice, none wrong, every glucose reading, and nothing that grows.

A quarter of an hour of it runs always; `make test-night` runs eight hours, and VAGUS_NIGHT_H says how many otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from agent.ingest.ble import BleSource, Clocks, open_descriptors
from agent.ingest.ble_bumble import bumble_backend
from agent.ingest.source import Delivery
from firmware_bridge.chunk import NS_PER_S, Chunk
from firmware_bridge.emulator import Air, FrameFault, GlucoseSensor, Oximeter, Peripheral, PolarH10, Repeated
from firmware_bridge.emulator.polar_h10 import SWITCHED_ON_NS
from tests.peers.ble_house import EPOCH_NS, LoopTime, fly, now_ns, wall_ns, wearable

HOURS = float(os.environ.get("VAGUS_NIGHT_H", "0.25"))
QUIET_S = 120.0
H10, FINGER, CGM = (f"F0:11:22:33:44:0{place}" for place in range(1, 4))
PERIOD = 20_000
NAMED_UV = np.arange(PERIOD) - PERIOD // 2
"""Every sample says which one it is."""
CHANCE = {FrameFault.LOSE: 0.002, FrameFault.DUPLICATE: 0.002, FrameFault.REORDER: 0.002}


class Ledger:
    """What was delivered, without keeping it: what is wrong with it, how much there was."""

    def __init__(self) -> None:
        self.chunks = Counter[str]()
        self.samples = 0
        self.wrong: list[str] = []
        self.glucose: dict[int, float] = {}
        self._seen = np.full(round((HOURS + 1) * 3600 * 130), fill_value=False)

    async def deliver(self, delivery: Delivery) -> None:
        for chunk in delivery.chunks:
            self.chunks[chunk.stream.channel] += 1
            if chunk.stream.channel == "ecg":
                self._ecg(chunk)
            elif chunk.stream.channel == "glucose":
                self._glucose(chunk)

    def _ecg(self, chunk: Chunk) -> None:
        uv = np.rint(chunk.samples[:, 0].astype(np.float64) * 1000).astype(int)
        if np.any(np.diff(uv) % PERIOD != 1):
            self.wrong.append(f"samples that do not follow one another, at {chunk.t0_ns}")
        self.samples += len(uv)
        # Which turn of the recording it was, the time says; it is known to far less than half a turn (77 s).
        turns = round(((chunk.t0_ns - EPOCH_NS) * 130 / NS_PER_S - (uv[0] + PERIOD // 2)) / PERIOD)
        first = turns * PERIOD + uv[0] + PERIOD // 2
        if self._seen[first : first + len(uv)].any():
            self.wrong.append(f"sample {first} twice")
        self._seen[first : first + len(uv)] = True

    def _glucose(self, chunk: Chunk) -> None:
        if chunk.t0_ns in self.glucose:
            self.wrong.append(f"glucose of {chunk.t0_ns} twice")
        self.glucose[chunk.t0_ns] = round(float(chunk.samples[0, 0]), 3)


async def trouble(air: Air, h10: PolarH10, cgm: GlucoseSensor, chance: random.Random, until_s: float) -> Counter[str]:
    """One thing after another goes wrong until then; returns how often each."""

    async def carried_off(device: Peripheral) -> None:
        await device.go_away()
        await asyncio.sleep(chance.uniform(20, 400))
        await device.come_back()

    async def silence() -> None:
        h10.faults.silent = True
        await asyncio.sleep(60)
        h10.faults.silent = False

    async def cut() -> None:
        h10.faults.once(FrameFault.CUT)

    async def adapter_pulled_out() -> None:
        air.adapters[-1].pull_out()

    kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("strap out of range", lambda: carried_off(h10)),
        ("sensor out of range", lambda: carried_off(cgm)),
        ("strap hangs up", h10.disconnect),
        ("silence while connected", silence),
        ("cut in mid-frame", cut),
        ("adapter pulled out", adapter_pulled_out),
    ]
    happened = Counter[str]()
    loop = asyncio.get_running_loop()
    while loop.time() < until_s:
        await asyncio.sleep(chance.uniform(60, 300))
        name, happen = kinds[happened.total() % len(kinds)] if happened.total() < len(kinds) else chance.choice(kinds)
        happened[name] += 1
        await happen()
    return happened


def rss_kb() -> int:
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS:")]
    return int(line.split()[1])


def held() -> tuple[int, int, int, int]:
    """Objects, descriptors, tasks, and kB of memory."""
    gc.collect()
    return len(gc.get_objects()), open_descriptors(), len(asyncio.all_tasks()), rss_kb()


def test_a_night(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "agent")  # what is captured is kept, and would be taken for a leak
    began_s = time.monotonic()

    async def scenario() -> None:
        air, ledger = Air(), Ledger()
        h10 = PolarH10(air, H10, ecg_uv=Repeated(NAMED_UV), time=LoopTime(SWITCHED_ON_NS, drift_ppm=30))
        h10.faults.by_chance(CHANCE)
        finger = Oximeter(air, FINGER, time=LoopTime())
        mg_dl = [100.0 + index % 50 for index in range(round(HOURS * 60 + 60) // 5)]
        cgm = GlucoseSensor(air, CGM, time=LoopTime(EPOCH_NS), mg_dl=mg_dl, session_start_ns=EPOCH_NS)
        wearables = [
            wearable(profile, address, f"p{address[-1]}", more="pair_min = 60")
            for profile, address in (("polar-h10", H10), ("pulse-oximeter", FINGER), ("cgm", CGM))
        ]
        async with air.serve() as port, h10, finger, cgm:
            backend = bumble_backend(f"tcp-client:127.0.0.1:{port}", bonds=tmp_path / "bonds.json")
            source = BleSource(wearables, backend_of=lambda _: backend, clocks=Clocks(now_ns, wall_ns))
            running = asyncio.create_task(source.run(ledger.deliver))
            await asyncio.sleep(QUIET_S)
            at_first = held()
            end_s = HOURS * 3600 - 2 * QUIET_S
            happened = await trouble(air, h10, cgm, random.Random(8), end_s)
            await asyncio.sleep(QUIET_S + 300)
            at_last = held()
            statuses = source.devices()
            assert {status.state for status in statuses} == {"connected"}
            assert source.troubles() == {}
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        stream_s = asyncio.get_running_loop().time()
        assert ledger.wrong == []
        minutes = [index * 5 for index in range(len(ledger.glucose))]
        assert ledger.glucose == {EPOCH_NS + minute * 60 * NS_PER_S: mg_dl[minute // 5] for minute in minutes}
        assert len(minutes) >= (stream_s - QUIET_S) // 300
        assert ledger.samples > 0.5 * 130 * stream_s
        assert ledger.chunks["spo2"] > 0.9 * stream_s * 0.8
        objects, descriptors, tasks, kb = (last - first for first, last in zip(at_first, at_last, strict=True))
        print(  # noqa: T201 - the figures are what it is run for
            f"\n{stream_s / 3600:.2f} h in {time.monotonic() - began_s:.0f} s: {ledger.samples} samples of ECG "
            f"({100 * ledger.samples / (130 * stream_s):.1f} %), {len(ledger.glucose)} of glucose; "
            f"{dict(happened)}; more objects {objects}, descriptors {descriptors}, tasks {tasks}, memory {kb} kB"
        )
        assert descriptors == 0
        assert tasks <= 2
        assert objects < 1000
        assert kb < 8000

    fly(scenario())
