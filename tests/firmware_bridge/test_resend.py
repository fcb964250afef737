"""What goes between our own firmware and its host besides frames: FRAME.md held to its word, and damage."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chunk import CANONICAL_UNIT, DecodeError
from firmware_bridge.description import KIND_CODES, DescribedStream, Description
from firmware_bridge.frame import Frame
from firmware_bridge.resend import MAX_FRAMES, SIZE, ResendRequest

EXAMPLES = [
    bytes.fromhex(text)
    for text in re.findall(
        r"```\n(.*?)```", (Path(__file__).parents[2] / "firmware_bridge/FRAME.md").read_text("utf-8"), re.DOTALL
    )
]
REQUEST, REQUEST_LINE, DESCRIPTION = EXAMPLES[2:5]


def test_the_request_reads_as_frame_md_says() -> None:
    assert ResendRequest.from_bytes(REQUEST) == ResendRequest(stream_id=3, boot_id=0x1234, first=64, count=3)
    assert bytes(ResendRequest(3, 0x1234, 64, 3)) == REQUEST
    assert cobs.encode(REQUEST) + b"\0" == REQUEST_LINE


def test_the_description_reads_as_frame_md_says() -> None:
    described = Description(
        0x1234,
        (
            DescribedStream(3, "ecg", "mV", 250_000, 0, ("I", "II")),
            DescribedStream(7, "temperature", "Cel", 0, 60),
        ),
    )
    assert Description.from_bytes(DESCRIPTION) == described
    assert bytes(described) == DESCRIPTION


@st.composite
def requests(draw: st.DrawFn) -> ResendRequest:
    first = draw(st.integers(0, 0xFFFF_FFFF))
    count = draw(st.integers(1, min(MAX_FRAMES, (1 << 32) - first)))
    return ResendRequest(draw(st.integers(0, 0xFF)), draw(st.integers(0, 0xFFFF)), first, count)


@given(requests())
def test_a_request_and_its_bytes_are_each_others_inverse(request: ResendRequest) -> None:
    data = bytes(request)
    assert len(data) == SIZE
    assert ResendRequest.from_bytes(data) == request


@given(requests(), st.integers(0, SIZE * 8 - 1))
def test_no_bit_of_a_request_can_fall_over_unnoticed(request: ResendRequest, bit: int) -> None:
    data = bytearray(bytes(request))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecodeError):
        ResendRequest.from_bytes(bytes(data))


@given(st.binary(max_size=40))
def test_any_bytes_are_a_request_or_a_decode_error(data: bytes) -> None:
    for said in (data, data[:12] + zlib.crc32(data[:12]).to_bytes(4, "little")):
        try:
            request = ResendRequest.from_bytes(said)
        except DecodeError:
            continue
        assert bytes(request) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stream_id": 256}, "stream id 256"),
        ({"boot_id": -1}, "boot id -1"),
        ({"first": 1 << 32}, "first sequence"),
        ({"count": 0}, "count 0 is not 1 to 256"),
        ({"count": 257}, "count 257"),
        ({"first": 0xFFFF_FFFF, "count": 2}, "count 2 is not 1 to 1"),
    ],
)
def test_a_request_that_cannot_be_is_not_made(fields: dict[str, int], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        replace(ResendRequest(3, 0x1234, 64, 3), **fields)


def test_neither_can_be_taken_for_the_other_or_for_a_frame() -> None:
    for read in (Frame.from_bytes, Description.from_bytes):
        with pytest.raises(DecodeError):
            read(REQUEST)
    with pytest.raises(DecodeError):
        ResendRequest.from_bytes(DESCRIPTION)


@st.composite
def described_streams(draw: st.DrawFn, stream_id: int) -> DescribedStream:
    kind = draw(st.sampled_from(KIND_CODES[1:]))
    assert kind is not None
    sampled = draw(st.booleans())
    names = draw(st.lists(st.text(max_size=7), min_size=1, max_size=4))
    return DescribedStream(
        stream_id,
        kind,
        CANONICAL_UNIT[kind],
        draw(st.integers(1, 4_000_000)) if sampled else 0,
        0 if sampled else draw(st.integers(1, 0xFFFF)),
        tuple(names),
    )


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    ids = draw(st.lists(st.integers(0, 255), min_size=1, max_size=6, unique=True))
    return Description(draw(st.integers(0, 0xFFFF)), tuple(draw(described_streams(one)) for one in ids))


@given(descriptions())
def test_a_description_and_its_bytes_are_each_others_inverse(described: Description) -> None:
    assert Description.from_bytes(bytes(described)) == described


@given(descriptions(), st.data())
def test_a_damaged_description_is_another_one_or_a_decode_error(described: Description, data: st.DataObject) -> None:
    said = bytearray(bytes(described))
    for _ in range(data.draw(st.integers(1, 4))):
        said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(said[: data.draw(st.integers(0, len(said)))])
    for damaged in (bytes(said), cut):
        try:
            read = Description.from_bytes(damaged)
        except DecodeError:
            continue
        assert bytes(read) == damaged


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (0, 2, "version 2"),
        (1, 0, "number of streams 0"),
        (5, 0, r"kind code 0 is unknown \(byte 5\)"),
        (6, 0, r"unit code 0 is unknown \(byte 6\)"),
        (6, 6, r"stream 3: unit 'g' cannot be converted to 'mV'"),
        (7, 0, "number of channels 0"),
        (12, 1, "a rate or an interval, and not both"),
        (15, 0xFF, r"not UTF-8 \(byte 15\)"),
        (19, 3, "two streams have the same id"),
    ],
)
def test_what_a_description_gets_wrong_is_said(offset: int, value: int, said: str) -> None:
    data = bytearray(DESCRIPTION)
    data[offset] = value
    with pytest.raises(DecodeError, match=said):
        Description.from_bytes(bytes(data))
