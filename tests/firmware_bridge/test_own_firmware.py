"""A device with our own firmware as the BLE source speaks with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from firmware_bridge.chunk import Chunk, DecodeError
from firmware_bridge.clock import Arrival
from firmware_bridge.description import DescribedStream, Description
from firmware_bridge.devices import (
    Advertisement,
    DeviceRefusedError,
    Heard,
    LinkError,
    OptionValue,
    profiles,
    recognise,
)
from firmware_bridge.devices.own_firmware import CONTROL, DESCRIPTION, FRAMES, PROFILE, SERVICE, OwnFirmwareSession
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from firmware_bridge.resend import ResendRequest

ECG = DescribedStream(3, "ecg", "uV", 250_000, 0)
ACC = DescribedStream(4, "acc", "mg", 50_000, 0, ("x", "y", "z"))
SKIN = DescribedStream(5, "temperature", "Cel", 0, 30)
S = 1_000_000_000
NOON_NS = 1_795_000_000 * S


@dataclass
class Device:
    """One connection to a device that has these streams."""

    streams: tuple[DescribedStream, ...] = (ECG, ACC, SKIN)
    characteristics: frozenset[str] = frozenset({FRAMES, CONTROL, DESCRIPTION})
    mtu: int = 247
    fault: str = ""
    """What becomes of a write."""
    subscribed: list[str] = field(default_factory=list)
    written: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def read(self, characteristic: str) -> bytes:
        assert characteristic == DESCRIPTION
        return bytes(Description(1, self.streams))

    async def write(self, characteristic: str, data: bytes, *, response: bool = True) -> None:
        assert (characteristic, response) == (CONTROL, False)
        self.written.put_nowait(data)
        if self.fault:
            raise LinkError(self.fault, "no")  # type: ignore[arg-type]

    async def subscribe(self, characteristic: str) -> None:
        self.subscribed.append(characteristic)

    async def ask(self, characteristic: str, data: bytes, *, timeout_s: float | None = None) -> bytes:
        raise AssertionError


def opened(*channels: str, **said: OptionValue) -> tuple[OwnFirmwareSession, list[Heard]]:
    """A session of which `channels` are wanted, with those options, and what it emits."""
    options: Mapping[str, OptionValue] = {option.name: option.default for option in PROFILE.options} | said
    streams = {one.channel: one.stream("p1", "own", options) for one in PROFILE.offers if one.channel in channels}
    heard: list[Heard] = []
    return OwnFirmwareSession(streams, options, heard.append), heard


def ecg(k: int, boot_id: int = 1) -> bytes:
    return bytes(
        Frame(3, FrameFlag.NONE, SampleFormat.INT16, 1, "uV", boot_id, k * 400_000, k, 250_000, 1.0, b"\1\0" * 100)
    )


def at(seconds: float) -> Arrival:
    return Arrival(round(seconds * S), NOON_NS)


def chunks(heard: list[Heard]) -> list[Chunk]:
    return [chunk for one in heard for chunk in one.chunks]


def test_it_is_known_by_its_service() -> None:
    assert profiles()["vagus-firmware"] is PROFILE
    assert recognise(Advertisement(name="anything", services=frozenset({SERVICE}))) == [PROFILE]


def test_with_nothing_but_its_address_its_ecg_is_taken_and_dated() -> None:
    session, heard = opened(*(offer.channel for offer in PROFILE.offers if offer.default))
    device = Device()
    asyncio.run(session.start(device))
    assert device.subscribed == [FRAMES]
    session.notified(FRAMES, ecg(0), at(100.41))
    session.notified(FRAMES, ecg(1), at(100.80))
    session.notified(FRAMES, ecg(1), at(100.81))
    first, second = chunks(heard)
    assert [chunk.stream.key for chunk in (first, second)] == ["p1/own/ecg"] * 2
    np.testing.assert_allclose(first.samples, np.full((100, 1), 0.001), rtol=1e-6)
    assert (first.boot_id, second.seq) == (1, 1)
    assert abs(second.t0_ns - NOON_NS - 100.404 * S) < 0.02 * S
    assert heard[-1].dropped == ("duplicate",)


def test_several_streams_each_in_its_unit() -> None:
    session, heard = opened("ecg", "acc", "temperature")
    asyncio.run(session.start(Device()))
    g = np.array([[1000, 0, -1000]], "<i2").repeat(20, axis=0)
    acc = Frame(4, FrameFlag.UTC, SampleFormat.INT16, 3, "mg", 1, NOON_NS // 1000, 0, 50_000, 1.0, g.tobytes())
    warm = Frame(5, FrameFlag.UTC, SampleFormat.INT16, 1, "Cel", 1, NOON_NS // 1000, 0, 0, 0.01, b"\x4c\x0e")
    for one in (bytes(acc), bytes(warm)):
        session.notified(FRAMES, one, at(1))
    moved, skin = chunks(heard)
    assert moved.samples[0].tolist() == [1.0, 0.0, -1.0]
    assert skin.samples.tolist() == [[pytest.approx(36.6)]]
    assert skin.t0_ns == NOON_NS


def test_what_is_missed_is_asked_for_while_connected() -> None:
    async def connected() -> None:
        session, heard = opened("ecg")
        device = Device()
        await session.start(device)
        tending = asyncio.create_task(session.tend(device))
        for k in (0, 1, 4):
            session.notified(FRAMES, ecg(k), at(0.4 * k + 0.4))
        assert await device.written.get() == bytes(ResendRequest(3, 1, 2, 2))
        session.notified(FRAMES, ecg(2), at(2.1))
        session.notified(FRAMES, ecg(3), at(2.2))
        assert [chunk.seq for chunk in chunks(heard)] == [0, 1, 4, 2, 3]
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)

    asyncio.run(connected())


def test_a_device_that_takes_no_requests_goes_on_without() -> None:
    async def connected() -> None:
        session, heard = opened("ecg")
        await session.start(without := Device(characteristics=frozenset({FRAMES, DESCRIPTION})))
        await session.tend(without)  # returns
        await session.start(refusing := Device(fault="refused"))
        tending = asyncio.create_task(session.tend(refusing))
        for first in (0, 10):
            session.notified(FRAMES, ecg(first), at(0.4 * first + 0.4))
            session.notified(FRAMES, ecg(first + 2), at(0.4 * first + 1.2))
            await refusing.written.get()
        assert not tending.done()
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        assert len(chunks(heard)) == 4

    asyncio.run(connected())


def test_a_lost_link_ends_the_tending() -> None:
    async def connected() -> None:
        session, _ = opened("ecg")
        await session.start(device := Device(fault="lost"))
        for k in (0, 2):
            session.notified(FRAMES, ecg(k), at(0.4 * k + 0.4))
        with pytest.raises(LinkError):
            await session.tend(device)
        await session.start(again := Device())
        for k in (100, 102):
            session.notified(FRAMES, ecg(k), at(0.4 * k + 0.4))
        tending = asyncio.create_task(session.tend(again))
        assert await again.written.get() == bytes(ResendRequest(3, 1, 101, 1))
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)

    asyncio.run(connected())


def test_what_comes_again_after_a_reconnection_is_still_known() -> None:
    session, heard = opened("ecg")
    for connection in range(2):
        asyncio.run(session.start(Device()))
        session.notified(FRAMES, ecg(0), at(1 + connection))
    assert len(chunks(heard)) == 1
    session.notified(FRAMES, ecg(0, boot_id=2), at(9))
    assert [chunk.boot_id for chunk in chunks(heard)] == [1, 2]


@pytest.mark.parametrize(
    ("wanted", "streams", "said"),
    [
        (("ecg",), (ACC, SKIN), r'does not send ecg: write streams = \["acc", "temperature"\]'),
        (("ecg",), (replace(ECG, rate_mhz=500_000),), r"write options = \{ ecg_rate_hz = 500.0 \}"),
        (
            ("ecg",),
            (replace(ECG, channels=("I", "II")), SKIN),
            r'write options = \{ ecg_columns = "I,II" \}',
        ),
        (("temperature",), (replace(SKIN, interval_s=300),), "temperature_interval_s = 300.0"),
        (("temperature",), (replace(SKIN, interval_s=0, rate_mhz=1000),), "comes as a sampled signal"),
        (("acc",), (replace(ACC, channels=("x", "y")),), 'acc_columns = "x,y"'),
    ],
)
def test_a_device_that_differs_is_refused_with_what_to_write(
    wanted: tuple[str, ...], streams: tuple[DescribedStream, ...], said: str
) -> None:
    session, _ = opened(*wanted)
    with pytest.raises(DeviceRefusedError, match=said):
        asyncio.run(session.start(Device(streams)))


def test_the_options_make_it_fit() -> None:
    session, _ = opened("ecg", "acc", ecg_rate_hz=500.0, ecg_columns="I, II", acc_columns="x,y,z")
    asyncio.run(session.start(Device((replace(ECG, rate_mhz=500_000, channels=("I", "II")), ACC))))
    unnamed = replace(ACC, channels=("", "", ""))
    session, _ = opened("acc")
    asyncio.run(session.start(Device((unnamed,))))


def test_what_cannot_be_read_says_so_and_harms_nothing() -> None:
    session, heard = opened("ecg")
    asyncio.run(session.start(Device()))
    for damaged in (b"", ecg(0)[:-1], ecg(0)[:-1] + b"\0"):
        with pytest.raises(DecodeError):
            session.notified(FRAMES, damaged, at(1))
    session.notified(CONTROL, ecg(0), at(1))
    assert heard == []
    session.notified(FRAMES, ecg(0), at(1))
    assert len(chunks(heard)) == 1
