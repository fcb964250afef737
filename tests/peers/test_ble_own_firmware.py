"""Our own firmware over a bad link and through restarts: every sample that comes is the right one, and comes once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from firmware_bridge.chunk import NS_PER_S, Chunk
from firmware_bridge.emulator import Air, FrameFault, OwnFirmware, Repeated, Sensor, at_rate
from tests.peers.ble_house import EPOCH_NS, House, LoopTime, fly, house, wearable

ADDRESS = "F0:11:22:33:44:01"
RATE_HZ = 250
PERIOD = 32_000
NAMED = np.arange(PERIOD) - PERIOD // 2
"""Every sample says which one it is; the same ones come again after 128 s."""


def board(air: Air, drift_ppm: float = 0.0) -> OwnFirmware:
    ecg = Sensor(at_rate(3, "ecg", "uV", RATE_HZ), Repeated(NAMED))
    return OwnFirmware(air, ADDRESS, [ecg], time=LoopTime(drift_ppm=drift_ppm))


def numbers(chunk: Chunk) -> np.ndarray:
    """Which samples the chunk holds, by what they say and when they are said to have been taken."""
    named = np.rint(chunk.samples[:, 0].astype(float) * 1000).astype(int) + PERIOD // 2
    turns = round(((chunk.t0_ns - EPOCH_NS) * RATE_HZ / NS_PER_S - named[0]) / PERIOD)
    return named + turns * PERIOD


def all_numbers(inside: House) -> Iterator[int]:
    for chunk in inside.chunks():
        yield from numbers(chunk).tolist()


@pytest.mark.parametrize("seed", range(2))
def test_a_bad_link_costs_little_and_nothing_comes_wrong_or_twice(seed: int) -> None:
    async def scenario() -> None:
        air = Air()
        async with board(air, 40.0) as device, house(air, wearable("vagus-firmware", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) > 5)
            device.faults = type(device.faults)(seed)
            device.faults.by_chance(
                {
                    FrameFault.LOSE: 0.05,
                    FrameFault.DUPLICATE: 0.05,
                    FrameFault.REORDER: 0.05,
                    FrameFault.CORRUPT: 0.05,
                }
            )
            await asyncio.sleep(120)
            device.faults.by_chance({})
            await asyncio.sleep(3)
            counts = inside.status().counts
            corrupt, lost = device.faults.counts[FrameFault.CORRUPT], device.faults.counts[FrameFault.LOSE]
            assert counts["malformed"] == corrupt
            assert counts["connections"] == 1
            assert device.resent >= (corrupt + lost) // 2
        heard = list(all_numbers(inside))
        assert len(heard) == len(set(heard))
        span = max(heard) - min(heard) + 1
        # What is lost twice, as a frame and as its repetition, stays lost.
        assert len(heard) > 0.97 * span
        for chunk in inside.chunks():
            assert set(np.diff(numbers(chunk))) <= {1}

    fly(scenario())


def test_restarts_broken_links_and_cut_frames_are_holes_and_nothing_else() -> None:
    async def scenario() -> None:
        air, chance = Air(), random.Random(4)
        async with board(air) as device, house(air, wearable("vagus-firmware", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) > 5)
            for _ in range(5):
                await device.reboot()
                await asyncio.sleep(chance.uniform(5, 40))
                device.faults.once(FrameFault.CUT)
                await asyncio.sleep(chance.uniform(5, 40))
                await device.go_away()
                await asyncio.sleep(chance.uniform(0.1, 60))
                await device.come_back()
                await asyncio.sleep(chance.uniform(20, 60))
        heard = list(all_numbers(inside))
        assert len(heard) == len(set(heard))
        assert len({chunk.boot_id for chunk in inside.chunks()}) >= 6
        late_ns = [chunk.t0_ns - EPOCH_NS - round(numbers(chunk)[0] * NS_PER_S / RATE_HZ) for chunk in inside.chunks()]
        assert max(late_ns) - min(late_ns) < 0.3 * NS_PER_S

    fly(scenario())
