"""Our own frames over the Nordic UART service: bare or in lines, in pieces, with holes that are asked for."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_link import Ear, ScriptedLink, at, opened

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.nordic_uart import RX, TX, UartReader
from firmware_bridge.devices import Advertisement, Session, profiles, recognise
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from firmware_bridge.resend import ResendRequest
from firmware_bridge.serial_line import to_line

PROFILE = profiles()["vagus-firmware-uart"]


def frame(sequence: int, stream_id: int = 3, unit: str | None = "mV", rate_mhz: int = 250_000) -> Frame:
    """25 samples of ECG, or one reading."""
    count = 25 if rate_mhz else 1
    samples = (np.arange(count, dtype="<i2") + sequence).tobytes()
    return Frame(
        stream_id, FrameFlag.NONE, SampleFormat.INT16, 1, unit, 7, sequence * 100_000, sequence, rate_mhz, 0.5, samples
    )


def push(session: Session, data: bytes, seconds: float) -> None:
    session.notified(TX, data, at(seconds))


def sequences(ear: Ear) -> list[tuple[str, int | None]]:
    return [(chunk.stream.channel, chunk.seq) for chunk in ear.chunks]


@pytest.mark.parametrize("bare", [True, False])
def test_frames_come_bare_or_as_lines_in_any_pieces(bare: bool) -> None:
    session, ear = opened(PROFILE)
    for number in range(4):
        data = bytes(frame(number)) if bare else to_line(frame(number))
        pieces = [data] if bare else [data[:7], data[7:40], data[40:]]
        for piece in pieces:
            push(session, piece, number * 0.1)
    assert sequences(ear) == [("ecg", n) for n in range(4)]
    assert ear.chunks[1].samples.ravel().tolist() == [0.5 * (n + 1) for n in range(25)]


def test_streams_are_known_by_their_units_and_others_are_left_out() -> None:
    session, ear = opened(PROFILE, ["ecg", "temperature"])
    push(session, bytes(frame(0, 1, "uV")), 0)
    push(session, bytes(frame(0, 2, "Cel", 0)), 0)
    push(session, bytes(frame(0, 4, "%", 0)), 0)
    push(session, bytes(frame(0, 5, "mV")), 0)
    assert sequences(ear) == [("ecg", 0), ("temperature", 0)]
    assert ear.dropped == ["unknown stream", "unknown stream"]


def test_a_frame_without_a_unit_is_of_the_only_stream_that_it_can_be_of() -> None:
    session, ear = opened(PROFILE, ["ecg"])
    push(session, bytes(frame(0, unit=None)), 0)
    assert sequences(ear) == [("ecg", 0)]
    session, ear = opened(PROFILE, ["ecg", "ppg"])
    push(session, bytes(frame(0, unit=None)), 0)
    assert sequences(ear) == []


@pytest.mark.parametrize("bare", [True, False])
def test_a_hole_is_asked_for_in_the_way_the_device_speaks(bare: bool) -> None:
    async def run() -> bytes:
        session, ear = opened(PROFILE)
        link = ScriptedLink({RX: b"", TX: b""})
        await session.start(link)
        tending = asyncio.create_task(session.tend(link))
        for number in (0, 1, 4):
            push(session, bytes(frame(number)) if bare else to_line(frame(number)), number * 0.1)
        while not link.written:
            await asyncio.sleep(0)
        tending.cancel()
        assert sequences(ear) == [("ecg", 0), ("ecg", 1), ("ecg", 4)]
        [(characteristic, written)] = link.written
        assert characteristic == RX
        return written

    written = asyncio.run(run())
    request = ResendRequest.from_bytes(written if bare else cobs.decode(written[:-1]))
    assert request == ResendRequest(3, 7, 2, 2)


def test_damage_is_told_and_costs_one_frame() -> None:
    for bare in (True, False):
        session, ear = opened(PROFILE)
        for number in range(3):
            data = bytearray(bytes(frame(number)) if bare else to_line(frame(number)))
            if number == 1:
                data[36] ^= 0x40
            push(session, bytes(data), number * 0.1)
        assert sequences(ear) == [("ecg", 0), ("ecg", 2)]
        assert sum(len(heard.refused) for heard in ear.heard) == 1


def test_it_is_known_by_its_service() -> None:
    assert recognise(Advertisement("", frozenset({"6e400001-b5a3-f393-e0a9-e50e24dcca9e"}))) == [PROFILE]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=80) | st.builds(frame, st.integers(0, 9)).map(bytes), max_size=20))
def test_whatever_comes_only_a_decode_error_is_raised(came: list[bytes]) -> None:
    session, ear = opened(PROFILE, {offer.channel for offer in PROFILE.offers})
    for data in came:
        try:
            push(session, data, 0)
        except DecodeError:
            continue
    assert all(np.isfinite(chunk.samples).all() for chunk in ear.chunks)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_lines_come_back_however_they_are_cut(numbers: list[int], sizes: list[int]) -> None:
    line = b"".join(to_line(frame(number)) for number in numbers)
    reader, got, at_byte = UartReader(), [], 0
    while at_byte < len(line):
        size = sizes[len(got) % len(sizes)]
        got += reader.push(line[at_byte : at_byte + size])
        at_byte += size
    assert got == [frame(number) for number in numbers]
