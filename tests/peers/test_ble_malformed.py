"""What cannot be read costs nothing but itself: notifications by the thousand that are none, counted to the last.

`make test-malformed` sends 100,000; VAGUS_MALFORMED says how many otherwise.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from firmware_bridge.chunk import NS_PER_S, DecodeError
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement, measurements
from firmware_bridge.codecs.bluetooth_heart_rate import HeartRate
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat
from firmware_bridge.codecs.bluetooth_oximeter import Oximetry, Saturation
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_samples import counts, ecg_frame
from firmware_bridge.emulator import (
    Air,
    GlucoseSensor,
    OwnFirmware,
    Oximeter,
    Peripheral,
    PolarH10,
    Repeated,
    Sensor,
    at_rate,
)
from firmware_bridge.emulator.polar_h10 import SWITCHED_ON_NS
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from tests.peers.ble_house import EPOCH_NS, LoopTime, fly, house, wearable

HOW_MANY = int(os.environ.get("VAGUS_MALFORMED", "4000"))
H10, BOARD, FINGER, CGM = (f"F0:11:22:33:44:0{place}" for place in range(1, 5))
ECG = np.arange(-1000, 1000)

Read = Callable[[bytes], Any]


def refused(read: Read, good: bytes, chance: random.Random) -> Iterator[bytes]:
    """Broken ones of a good notification, each of which cannot be read."""
    while True:
        broken = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        sent = bytes(broken)[: chance.choice([len(broken), chance.randrange(len(broken) + 1)])]
        if chance.random() < 0.1:
            sent = chance.randbytes(chance.randrange(245))
        try:
            read(sent)
        except DecodeError:
            yield sent


def read_pmd(data: bytes) -> None:
    """As the session does: of what it did not ask for, it looks at no sample."""
    frame = PmdFrame.from_bytes(data)
    if frame.measurement is PmdType.ECG:
        counts(frame)


async def flood(device: Peripheral, characteristic: Any, broken: Iterator[bytes], how_many: int) -> None:
    """Send them between the good ones, as fast as the link carries them."""
    for number in range(how_many):
        await device.device.notify_subscribers(characteristic, next(broken))
        if number % 50 == 0:
            await asyncio.sleep(0.001)


def test_every_malformed_notification_is_counted_and_none_does_harm(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        air, chance = Air(), random.Random(5)
        h10 = PolarH10(air, H10, ecg_uv=Repeated(ECG), time=LoopTime(SWITCHED_ON_NS))
        board = OwnFirmware(air, BOARD, [Sensor(at_rate(1, "ecg", "uV", 250), Repeated(ECG))], time=LoopTime())
        finger = Oximeter(air, FINGER, time=LoopTime())
        cgm = GlucoseSensor(
            air, CGM, time=LoopTime(EPOCH_NS), mg_dl=[100.0] * 500, session_start_ns=EPOCH_NS - 3600 * NS_PER_S
        )
        frame = Frame(1, FrameFlag.NONE, SampleFormat.INT16, 1, "uV", 1, 0, 0, 250_000, 1.0, bytes(100))
        saturation = Saturation(Sfloat.of(97), Sfloat.of(65))
        floods: list[tuple[Peripheral, Any, Read, bytes, str]] = [
            (h10, h10._data, read_pmd, bytes(ecg_frame(10**18, np.zeros((73, 1), np.int64))), "polar-h10"),
            (h10, h10._measurement, HeartRate.from_bytes, bytes(HeartRate(72, 3, rr_intervals=(800,))), "polar-h10"),
            (board, board._frames, Frame.from_bytes, bytes(frame), "vagus-firmware"),
            (finger, finger._continuous, Oximetry.from_bytes, bytes(Oximetry(saturation)), "pulse-oximeter"),
            (cgm, cgm._measurement, measurements, bytes(CgmMeasurement(Sfloat.of(100), 9, secured=True)), "cgm"),
        ]
        share = HOW_MANY // len(floods)
        wearables = [
            wearable(profile, address, f"p{place}")
            for place, (profile, address) in enumerate(
                [("polar-h10", H10), ("vagus-firmware", BOARD), ("pulse-oximeter", FINGER), ("cgm", CGM)]
            )
        ]
        async with h10, board, finger, cgm, house(air, *wearables) as inside:
            await inside.until(lambda one: {chunk.stream.device for chunk in one.chunks()} == set(EXPECTED))
            await asyncio.sleep(5)
            assert not any(status.counts.get("malformed") for status in inside.source.devices())
            await asyncio.gather(
                *(
                    flood(device, characteristic, refused(read, good, chance), share)
                    for device, characteristic, read, good, _ in floods
                )
            )
            await asyncio.sleep(1)
            for device, times in EXPECTED.items():
                status = inside.status(device)
                assert status.state == "connected"
                assert status.counts["malformed"] == times * share
                assert "faults" not in status.counts
                assert status.counts["connections"] == 1
            before = len(inside.chunks("ecg"))
            await inside.until(lambda one: len(one.chunks("ecg")) > before + 20)
        assert sum(chunk.samples.shape[0] for chunk in inside.chunks("ecg")) > 0

    fly(scenario())
    warned = [record for record in caplog.records if "so far" in record.getMessage()]
    assert 0 < len(warned) <= len(EXPECTED) + HOW_MANY // 1000 + 1


EXPECTED = {"polar-h10": 2, "vagus-firmware": 1, "pulse-oximeter": 1, "cgm": 1}
"""By device, how many of the floods are its."""
