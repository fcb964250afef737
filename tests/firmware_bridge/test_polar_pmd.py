"""Polar Measurement Data: worked examples, round trips, damage."""

from __future__ import annotations

import numpy as np
import pytest
from bluetooth_examples import decodes_back_or_refuses, octets, refuses_every_shortening
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_control import (
    PmdAnswer,
    PmdOffers,
    PmdOp,
    PmdRequest,
    PmdSetting,
    PmdSettingType,
    PmdStatus,
    PmdStopped,
    notification_from_bytes,
    values_of,
)
from firmware_bridge.codecs.polar_pmd_ppi import PulseInterval, ppi_frame, pulse_intervals
from firmware_bridge.codecs.polar_pmd_samples import LAYOUTS, acceleration_unit, counts, ecg_frame, frame_of

ECG_SETTINGS = (PmdSetting(PmdSettingType.RATE_HZ, (130,)), PmdSetting(PmdSettingType.RESOLUTION_BITS, (14,)))
CONTROL = (PmdOffers.from_bytes, PmdRequest.from_bytes, PmdAnswer.from_bytes, PmdStopped.from_bytes)


def test_a_strap_that_offers_ecg_and_acceleration() -> None:
    data = bytes.fromhex("0F05") + bytes(15)
    offers = PmdOffers.from_bytes(data)
    assert offers.measurements == {PmdType.ECG, PmdType.ACC}
    assert bytes(offers) == data


def test_the_settings_of_an_ecg() -> None:
    assert bytes(PmdRequest(PmdOp.SETTINGS, PmdType.ECG)) == bytes.fromhex("0100")
    data = bytes.fromhex("F001000000000182000101 0E00")
    answer = PmdAnswer.from_bytes(data)
    assert answer == PmdAnswer(PmdOp.SETTINGS, PmdType.ECG, PmdStatus.SUCCESS, ECG_SETTINGS)
    assert values_of(answer.settings, PmdSettingType.RATE_HZ) == (130,)
    assert values_of(answer.settings, PmdSettingType.RANGE) == ()
    assert bytes(answer) == data


def test_an_ecg_is_started_and_stopped() -> None:
    request = PmdRequest(PmdOp.START, PmdType.ECG, ECG_SETTINGS)
    assert bytes(request) == bytes.fromhex("0200 000182000101 0E00".replace(" ", ""))
    assert PmdRequest.from_bytes(bytes(request)) == request
    assert PmdAnswer.from_bytes(bytes.fromhex("F002000000")) == PmdAnswer(PmdOp.START, PmdType.ECG, PmdStatus.SUCCESS)
    assert bytes(PmdRequest(PmdOp.STOP, PmdType.ECG)) == bytes.fromhex("0300")


def test_acceleration_is_started_with_a_range() -> None:
    request = PmdRequest.from_bytes(bytes.fromhex("0202 02010800 0001C800 01011000".replace(" ", "")))
    assert [(setting.kind, setting.values) for setting in request.settings] == [
        (PmdSettingType.RANGE, (8,)),
        (PmdSettingType.RATE_HZ, (200,)),
        (PmdSettingType.RESOLUTION_BITS, (16,)),
    ]


def test_a_refusal_may_end_with_its_status() -> None:
    data = bytes.fromhex("F002000A")
    assert PmdAnswer.from_bytes(data) == PmdAnswer(PmdOp.START, PmdType.ECG, PmdStatus.INVALID_MTU, more=None)
    assert bytes(PmdAnswer.from_bytes(data)) == data


def test_a_factor_is_a_positive_number_or_refused() -> None:
    answer = PmdAnswer(PmdOp.START, PmdType.ACC, PmdStatus.SUCCESS, (PmdSetting.of_factor(0.25),))
    assert PmdAnswer.from_bytes(bytes(answer)).factor == 0.25
    assert PmdAnswer(PmdOp.START, PmdType.ACC, PmdStatus.SUCCESS).factor == 1.0
    for factor in (float("nan"), float("inf"), 0.0, -1.0):
        with pytest.raises(DecodeError, match="factor is not a positive number") as raised:
            PmdAnswer.from_bytes(
                bytes(PmdAnswer(PmdOp.START, PmdType.ACC, PmdStatus.SUCCESS, (PmdSetting.of_factor(factor),)))
            )
        assert raised.value.offset == 7


def test_a_sensor_that_stops_on_its_own_and_one_that_answers() -> None:
    assert notification_from_bytes(b"\x01\x00\x02") == PmdStopped((PmdType.ECG, PmdType.ACC))
    assert isinstance(notification_from_bytes(bytes.fromhex("F003000000")), PmdAnswer)


def test_two_samples_of_ecg() -> None:
    data = bytes.fromhex("00 0094357700000000 00 0280FF 028000".replace(" ", ""))
    frame = PmdFrame.from_bytes(data)
    assert (frame.measurement, frame.last_ns, frame.layout) == (PmdType.ECG, 2_000_000_000, 0)
    assert counts(frame).tolist() == [[-32766], [32770]]
    assert bytes(frame) == data
    assert bytes(ecg_frame(2_000_000_000, np.array([[-32766], [32770]]))) == data


@given(st.lists(st.integers(-(1 << 23), (1 << 23) - 1), min_size=1, max_size=80), st.integers(0, (1 << 64) - 1))
def test_any_ecg_comes_back(uv: list[int], last_ns: int) -> None:
    frame = PmdFrame.from_bytes(bytes(ecg_frame(last_ns, np.array(uv).reshape(-1, 1))))
    assert counts(frame).ravel().tolist() == uv


def test_an_ecg_that_needs_more_than_its_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 24 bits"):
        ecg_frame(0, np.array([[1 << 23]]))


@pytest.mark.parametrize(
    ("frame", "why", "offset"),
    [
        (PmdFrame(PmdType.ECG, 0, 0, b""), "0 bytes are not one or more samples", 10),
        (PmdFrame(PmdType.ECG, 0, 0, bytes(4)), "4 bytes are not one or more samples", 13),
        (PmdFrame(PmdType.ECG, 0, 1, bytes(3)), "ECG frame type 0x01 is unknown", 9),
        (PmdFrame(PmdType.ECG, 0, 0, bytes(3), compressed=True), "ECG frame type 0x80 is unknown", 9),
        (PmdFrame(PmdType.ACC, 0, 1, bytes(7)), "7 bytes are not one or more samples of 6", 16),
        (PmdFrame(PmdType.PPI, 0, 0, bytes(6)), "PPI frame type 0x00 is unknown", 9),
        (PmdFrame(PmdType.ACC, 0, 1, bytes(5), compressed=True), "reference needs 2 bytes, 1 are left", 14),
        (PmdFrame(PmdType.ACC, 0, 1, bytes(6) + b"\x21\x01", compressed=True), "33 bits a difference", 16),
        (PmdFrame(PmdType.ACC, 0, 1, bytes(6) + b"\x08\x02" + bytes(5), compressed=True), "differences needs 6", 18),
        (PmdFrame(PmdType.ACC, 0, 1, bytes(6) + b"\x08", compressed=True), "samples of a block needs 1", 17),
        (
            PmdFrame(PmdType.PPG, 0, 0, bytes(12) + (b"\x20\x01" + b"\xff\xff\xff\x7f" * 4) * 2, compressed=True),
            "add up to more than 32 bits",
            10,
        ),
    ],
)
def test_what_holds_no_samples_says_where(frame: PmdFrame, why: str, offset: int) -> None:
    with pytest.raises(DecodeError, match=why) as raised:
        counts(frame)
    assert raised.value.offset == offset


def test_acceleration_as_differences_of_ten_bits() -> None:
    # 190, -105, -85 in ten bits each, the lowest first.
    packed = (190 | (1024 - 105) << 10 | (1024 - 85) << 20).to_bytes(4, "little")
    data = bytes.fromhex("02 0094357700000000 81 7107F06A9E8D 0A01".replace(" ", "")) + packed
    frame = PmdFrame.from_bytes(data)
    assert counts(frame).tolist() == [[1905, 27376, -29282], [2095, 27271, -29367]]
    assert bytes(frame_of(PmdType.ACC, 2_000_000_000, counts(frame), 1, compressed=True))[:16] == data[:16]


def test_differences_of_no_bits_repeat_the_sample() -> None:
    frame = PmdFrame(PmdType.ACC, 0, 1, bytes.fromhex("0100 0200 0300 0003".replace(" ", "")), compressed=True)
    assert counts(frame).tolist() == [[1, 2, 3]] * 4


@settings(deadline=None)
@given(st.sampled_from(list(LAYOUTS)), st.integers(0, 1 << 30), st.integers(1, 600), st.integers(1, 24))
def test_any_samples_come_back_in_every_layout(kind: tuple[PmdType, int], seed: int, n: int, bits: int) -> None:
    layout = LAYOUTS[kind]
    limit = 1 << (min(bits, layout.bits) - 1)
    samples = np.random.default_rng(seed).integers(-limit, limit, (n, layout.channels))
    compressed = bool(kind[1] & 0x80)
    frame = frame_of(kind[0], 7, samples, kind[1] & 0x7F, compressed=compressed)
    back = PmdFrame.from_bytes(bytes(frame))
    assert np.array_equal(counts(back), samples)
    assert (back.measurement, back.layout, back.last_ns) == (*kind, 7)


def test_what_fits_no_layout_is_not_written() -> None:
    for measurement, samples, frame_type, compressed in (
        (PmdType.PPI, np.zeros((1, 1), int), 0, False),
        (PmdType.ACC, np.zeros((1, 1), int), 1, False),
        (PmdType.ACC, np.array([[0, 0, 1 << 15]]), 1, True),
        (PmdType.ACC, np.array([[0, 0, -(1 << 15) - 1]]), 1, False),
    ):
        with pytest.raises(ValueError, match=r"no \w+ frame type|needs? more than 16 bits"):
            frame_of(measurement, 0, samples, frame_type, compressed=compressed)


def test_acceleration_is_in_g_only_where_a_factor_makes_it_so() -> None:
    compressed = [PmdFrame(PmdType.ACC, 0, frame_type, b"", compressed=True) for frame_type in (0, 1)]
    assert [acceleration_unit(frame, 0.000244) for frame in compressed] == ["g", "mg"]
    assert [acceleration_unit(frame, 1.0) for frame in compressed] == ["mg", "mg"]


def test_pulse_intervals_with_movement_and_without_contact() -> None:
    data = bytes.fromhex(
        "03 0000000000000000 00 483203 0A00 06 000000 1E00 07 3E2003 0500 04 3E2003 0500 00".replace(" ", "")
    )
    got = pulse_intervals(PmdFrame.from_bytes(data))
    assert got[0] == PulseInterval(72, 818, 10, 6)
    assert [(one.moved, one.contact, one.valid) for one in got] == [
        (False, True, True), (True, True, False), (False, False, False), (False, None, True),
    ]  # fmt: skip
    assert bytes(ppi_frame(0, got)) == data
    with pytest.raises(DecodeError, match="7 bytes are not one or more intervals") as raised:
        pulse_intervals(PmdFrame(PmdType.PPI, 0, 0, bytes(7)))
    assert raised.value.offset == 16


settings_of_any_kind = st.sampled_from(
    [(kind, size) for kind, size in zip(PmdSettingType, (2, 2, 2, 4, 1, 4, 16), strict=True) if kind != 5]
).flatmap(
    lambda one: st.builds(
        PmdSetting, st.just(one[0]), st.lists(st.integers(0, (1 << 8 * one[1]) - 1), max_size=4).map(tuple)
    )
)


@given(
    st.builds(
        PmdAnswer,
        st.sampled_from(PmdOp),
        st.sampled_from(PmdType),
        st.sampled_from(PmdStatus),
        st.lists(settings_of_any_kind, max_size=4).map(tuple),
        st.booleans(),
        st.booleans(),
    )
)
def test_any_answer_comes_back(answer: PmdAnswer) -> None:
    assert PmdAnswer.from_bytes(bytes(answer)) == answer


def test_a_shortened_answer_is_no_other() -> None:
    data = bytes(PmdAnswer(PmdOp.SETTINGS, PmdType.ECG, PmdStatus.SUCCESS, ECG_SETTINGS[:1]))
    # Where an answer may end, it does not say that more should follow.
    whole = {4, 5}
    for size in set(range(len(data))) - whole:
        with pytest.raises(DecodeError):
            PmdAnswer.from_bytes(data[:size])
    refuses_every_shortening(bytes(PmdFrame(PmdType.ECG, 1, 0, b"")), PmdFrame.from_bytes)


@settings(deadline=None)
@given(st.binary(max_size=40), octets)
def test_any_bytes(data: bytes, first: int) -> None:
    for from_bytes in (*CONTROL, PmdFrame.from_bytes):
        decodes_back_or_refuses(data, from_bytes)
    for kind, layout in LAYOUTS:
        frame = PmdFrame(kind, 0, layout & 0x7F, data, bool(layout & 0x80))
        try:
            assert counts(frame).shape[1] == LAYOUTS[kind, layout].channels
        except DecodeError as error:
            assert error.offset is not None  # noqa: PT017
            assert 9 <= error.offset <= len(bytes(frame))  # noqa: PT017
    for mark in (b"\xf0\x01\x00\x00\x00", b"\xf0\x02\x02\x00\x00", b"\x02\x02", b"\x0f", b"\x01", bytes([first])):
        for from_bytes in CONTROL:
            decodes_back_or_refuses(mark + data, from_bytes)
