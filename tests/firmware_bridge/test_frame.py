"""Our firmware's frame: FRAME.md held to its word, round trips, and damage of every sort."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bridge_examples import CGM, ECG, T0_NS, TWO_LEADS, assert_valid, ecg_chunk, reading
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError, Stream
from firmware_bridge.frame import OVERHEAD, UNIT_CODES, Frame, FrameFlag, SampleFormat, decode, encode
from firmware_bridge.serial_line import MAX_FRAME_BYTES, LineReader, to_line

EXAMPLES = re.findall(
    r"```\n(.*?)```", (Path(__file__).parents[2] / "firmware_bridge/FRAME.md").read_text("utf-8"), re.DOTALL
)
WORKED = bytes.fromhex(EXAMPLES[0])


def signed(data: bytes) -> bytes:
    """A frame's bytes, edited, with the checksum made right again."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def edited(offset: int, replacement: bytes) -> bytes:
    return signed(WORKED[:offset] + replacement + WORKED[offset + len(replacement) :])


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    sample_format = draw(st.sampled_from(SampleFormat))
    channels = draw(st.integers(1, 16))
    size = sample_format.width * channels * draw(st.integers(1, 20))
    return Frame(
        stream_id=draw(st.integers(0, 255)),
        flags=draw(st.sampled_from([FrameFlag.NONE, FrameFlag.UTC])),
        sample_format=sample_format,
        channels=channels,
        unit=draw(st.sampled_from(UNIT_CODES)),
        boot_id=draw(st.integers(0, 0xFFFF)),
        time_us=draw(st.integers(0, (1 << 64) - 1)),
        sequence=draw(st.integers(0, 0xFFFF_FFFF)),
        rate_mhz=draw(st.integers(0, 4_000_000)),
        scale=draw(st.floats(1e-20, 1e20)),
        samples=draw(st.binary(min_size=size, max_size=size)),
    )


def test_the_worked_example_reads_as_frame_md_says() -> None:
    frame = Frame.from_bytes(WORKED)
    assert frame == Frame(
        stream_id=3,
        flags=FrameFlag.UTC,
        sample_format=SampleFormat.INT16,
        channels=2,
        unit="mV",
        boot_id=0x1234,
        time_us=1_795_000_000_123_456,
        sequence=66,
        rate_mhz=250_000,
        scale=0.005,
        samples=np.array([[1, -2], [300, -400], [32767, -32768]], "<i2").tobytes(),
    )
    assert bytes(frame) == WORKED
    assert bytes.fromhex(EXAMPLES[1]) == to_line(frame)


def test_the_worked_example_decodes_to_millivolts() -> None:
    (chunk,) = decode(WORKED, TWO_LEADS)
    assert (chunk.t0_ns, chunk.seq, chunk.boot_id) == (T0_NS, 66, 0x1234)
    np.testing.assert_allclose(chunk.samples, [[0.005, -0.01], [1.5, -2.0], [163.835, -163.84]], rtol=1e-7)


@given(frames())
def test_bytes_and_frame_are_each_others_inverse(frame: Frame) -> None:
    data = bytes(frame)
    assert Frame.from_bytes(data) == frame
    assert bytes(Frame.from_bytes(data)) == data
    assert len(data) == OVERHEAD + len(frame.samples)
    assert frame.counts().shape == (frame.count, frame.channels)


@pytest.mark.parametrize(("sample_format", "scale"), [(1, 0.001), (2, 1e-5), (3, 1.0)])
@pytest.mark.parametrize("stream", [ECG, TWO_LEADS])
def test_a_chunk_comes_back_to_within_half_a_count(stream: Stream, sample_format: int, scale: float) -> None:
    sent = ecg_chunk(stream)
    (got,) = decode(encode(sent, sample_format=SampleFormat(sample_format), scale=scale), stream)
    half_a_count = scale / 2 if sample_format != SampleFormat.FLOAT32 else -1e-7
    assert np.abs(got.samples - sent.samples).max() <= half_a_count + 1e-7
    assert (got.t0_ns, got.seq, got.boot_id, got.stream) == (sent.t0_ns, sent.seq, sent.boot_id, stream)


def test_int24_reaches_both_ends_of_its_range() -> None:
    counts = [[-(1 << 23)], [-1], [0], [1], [(1 << 23) - 1]]
    data = b"".join(count[0].to_bytes(3, "little", signed=True) for count in counts)
    assert replace(
        Frame.from_bytes(WORKED), sample_format=SampleFormat.INT24, channels=1, samples=data
    ).counts().tolist() == (counts)


def test_a_value_too_large_for_its_format_is_not_sent_wrapped() -> None:
    with pytest.raises(ValueError, match="more than 16 bits"):
        encode(ecg_chunk(), sample_format=SampleFormat.INT16, scale=1e-5)


def test_one_glucose_reading_is_a_frame_of_one() -> None:
    (got,) = decode(encode(reading(104.0)), CGM)
    assert got.samples.tolist() == [[104.0]]


def test_a_frame_on_the_devices_own_clock_is_refused_in_plain_words() -> None:
    with pytest.raises(DecodeError, match="counts from the device's start"):
        decode(edited(2, b"\x00"), TWO_LEADS)


@pytest.mark.parametrize(
    ("offset", "replacement", "reason"),
    [
        (0, b"\x02", "version 2"),
        (2, b"\x81", "flags 0x81"),
        (3, b"\x00", "sample format 0"),
        (3, b"\x04", "sample format 4"),
        (3, b"\x03", "are declared"),
        (4, b"\x00", "are declared"),
        (4, b"\x11", "are declared"),
        (5, b"\x0e", "unit code 14"),
        (20, b"\xff\xff\xff\xff", "rate"),
        (24, struct.pack("<f", float("nan")), "scale"),
        (24, struct.pack("<f", float("-inf")), "scale"),
        (24, struct.pack("<f", 0.0), "scale"),
        (24, struct.pack("<f", -0.005), "scale"),
        (28, b"\xff\xff\xff\xff", "4294967295 samples"),
        (28, b"\x00\x00\x00\x00", "are declared"),
    ],
)
def test_each_field_out_of_range_is_refused_where_it_stands(offset: int, replacement: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        Frame.from_bytes(edited(offset, replacement))
    assert raised.value.offset in (offset, 28)


def test_no_bit_flipped_goes_unnoticed() -> None:
    for bit in range(len(WORKED) * 8):
        damaged = bytearray(WORKED)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            Frame.from_bytes(bytes(damaged))


def test_no_truncation_goes_unnoticed() -> None:
    for end in range(len(WORKED)):
        with pytest.raises(DecodeError):
            Frame.from_bytes(WORKED[:end])
    with pytest.raises(DecodeError):
        Frame.from_bytes(WORKED + b"\0")


def test_a_frame_of_nothing_is_refused() -> None:
    empty = signed(WORKED[:28] + bytes(4) + bytes(4))
    with pytest.raises(DecodeError, match="0 bytes are not 1"):
        Frame.from_bytes(empty)


@given(st.integers(0, 31), st.binary(min_size=1, max_size=8))
def test_any_header_under_a_right_checksum_decodes_or_is_refused(offset: int, replacement: bytes) -> None:
    data = edited(offset, replacement[: 32 - offset])
    try:
        chunks = decode(data, TWO_LEADS)
    except DecodeError:
        return
    assert_valid(chunks, TWO_LEADS)


@given(st.lists(frames(), min_size=1, max_size=4), st.data())
def test_a_serial_line_torn_anywhere_gives_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    line = b"\0" + b"".join(map(to_line, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=6)))
    reader, got = LineReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        got += reader.push(line[start:end])
    assert got == sent


def test_a_damaged_frame_costs_only_itself() -> None:
    frame = Frame.from_bytes(WORKED)
    good = to_line(frame)
    first, second, third = LineReader().push(good[:9] + b"\0" + b"\xff\x01\0" + good)
    assert isinstance(first, DecodeError)
    assert isinstance(second, DecodeError)
    assert third == frame


def test_a_line_without_delimiters_is_dropped_and_recovered_from() -> None:
    reader = LineReader()
    for _ in range(MAX_FRAME_BYTES // 1000 + 2):
        assert reader.push(b"x" * 1000) == []
    error, frame = reader.push(b"\0" + to_line(Frame.from_bytes(WORKED)))
    assert "no delimiter" in str(error)
    assert frame == Frame.from_bytes(WORKED)


@given(st.lists(st.binary(max_size=60)))
def test_noise_on_the_line_gives_only_errors_or_frames(pieces: list[bytes]) -> None:
    reader = LineReader()
    for piece in pieces:
        assert all(isinstance(item, Frame | DecodeError) for item in reader.push(piece))
