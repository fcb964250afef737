"""Asking a CGM: stored records, interval, calibration, alert levels, sessions; and what it answers."""

from __future__ import annotations

import pytest
from bluetooth_examples import decodes_back_or_refuses, refuses_every_shortening, secured_or_not
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_control import (
    CalibrationStatus,
    CgmAnswer,
    CgmCalibration,
    CgmControl,
    CgmOp,
    CgmResult,
)
from firmware_bridge.codecs.bluetooth_cgm_crc import with_crc
from firmware_bridge.codecs.bluetooth_glucose_sample import SampleLocation, SampleType
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpCount,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)

FINGER_STICK = CgmCalibration(Sfloat.of(104), 90, SampleType.CAPILLARY_WHOLE_BLOOD, SampleLocation.FINGER, 810, 3)
OPERANDS = {
    CgmOp.SET_INTERVAL: 5,
    CgmOp.INTERVAL: 255,
    CgmOp.GET_CALIBRATION: 0xFFFF,
    CgmOp.SET_CALIBRATION: FINGER_STICK,
    CgmOp.CALIBRATION: FINGER_STICK,
    CgmOp.ANSWER: CgmAnswer(0x1A, CgmResult.SUCCESS),
}
LEVELS = {op for op in CgmOp if op.name.endswith(("HIGH", "LOW", "HYPO", "HYPER", "RATE")) and "GET_" not in op.name}


def control(op: CgmOp, secured: bool) -> CgmControl:
    return CgmControl(op, OPERANDS.get(op, Sfloat.of(70) if op in LEVELS else None), secured)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("0101", RacpRequest(RacpOp.REPORT, RacpOperator.ALL)),
        ("0103011E00", RacpRequest(RacpOp.REPORT, RacpOperator.AT_LEAST, (30,))),
        ("0104011E003C00", RacpRequest(RacpOp.REPORT, RacpOperator.WITHIN, (30, 60))),
        ("0106", RacpRequest(RacpOp.REPORT, RacpOperator.LAST)),
        ("0401", RacpRequest(RacpOp.COUNT, RacpOperator.ALL)),
        ("0403011E00", RacpRequest(RacpOp.COUNT, RacpOperator.AT_LEAST, (30,))),
        ("0300", RacpRequest(RacpOp.ABORT, RacpOperator.NONE)),
        ("0201", RacpRequest(RacpOp.DELETE, RacpOperator.ALL)),
        ("05000C00", RacpCount(12)),
        ("06000101", RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS)),
        ("06000106", RacpAnswer(RacpOp.REPORT, RacpResult.NO_RECORDS)),
        ("06000002", RacpAnswer(None, RacpResult.OP_NOT_SUPPORTED)),
    ],
)
def test_requests_and_answers_about_stored_records(data: str, said: RacpRequest | RacpCount | RacpAnswer) -> None:
    assert racp_from_bytes(bytes.fromhex(data)) == said
    assert bytes(said).hex().upper() == data
    refuses_every_shortening(bytes.fromhex(data), racp_from_bytes)


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        ("0701", "operation 7", 0),
        ("0107", "operator 7", 1),
        ("0103021E00", "filter type 2", 2),
        ("0101FF", "1 bytes follow the request", 2),
        ("0104013C001E00", "from 60 to 30 there is nothing", 3),
        ("0100", "operator 0 does not go with operation 1", 1),
        ("0301", "operator 1 does not go with operation 3", 1),
        ("05010C00", "operator 1 in an answer", 1),
        ("0600010A", "result 10", 3),
        ("06000901", "operation asked for 9", 2),
        ("05000C0000", "follow the number of records", 4),
    ],
)
def test_what_nobody_says_about_stored_records(data: str, reason: str, offset: int) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        racp_from_bytes(bytes.fromhex(data))
    assert raised.value.offset == offset


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("0105", CgmControl(CgmOp.SET_INTERVAL, 5)),
        ("02", CgmControl(CgmOp.GET_INTERVAL)),
        ("1A", CgmControl(CgmOp.START_SESSION)),
        ("1C1A01", CgmControl(CgmOp.ANSWER, CgmAnswer(0x1A, CgmResult.SUCCESS))),
        ("1C2A02", CgmControl(CgmOp.ANSWER, CgmAnswer(0x2A, CgmResult.OP_NOT_SUPPORTED))),
        ("0A4600", CgmControl(CgmOp.SET_PATIENT_LOW, Sfloat.of(70))),
        ("1503F0", CgmControl(CgmOp.FALL_RATE, Sfloat.of(0.3))),
        ("0468005A00112A03030000", CgmControl(CgmOp.SET_CALIBRATION, FINGER_STICK)),
    ],
)
def test_requests_and_answers_of_the_control_point(data: str, said: CgmControl) -> None:
    assert CgmControl.from_bytes(bytes.fromhex(data)) == said
    assert bytes(said).hex().upper() == data


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("op", CgmOp)
def test_every_operation_comes_back(op: CgmOp, secured: bool) -> None:
    said = control(op, secured)
    assert CgmControl.from_bytes(bytes(said)) == said
    damaged = bytes(said)[:-1]
    with pytest.raises(DecodeError):
        CgmControl.from_bytes(damaged)


def test_no_operand_and_a_strange_one_are_refused_when_built() -> None:
    for op in CgmOp:
        if control(op, False).operand is not None:
            with pytest.raises(DecodeError, match="does not take None"):
                CgmControl(op)
        else:
            with pytest.raises(DecodeError, match="does not take 1"):
                CgmControl(op, 1)
    with pytest.raises(DecodeError, match="operand 256 is not 0 to 255"):
        CgmControl(CgmOp.SET_INTERVAL, 256)


def test_a_calibration_still_at_work_says_so() -> None:
    data = bytes.fromhex("0668005A00112A03030004")
    operand = CgmControl.from_bytes(data).operand
    assert isinstance(operand, CgmCalibration)
    assert operand.status == CalibrationStatus.PENDING


@settings(deadline=None)
@given(secured_or_not(st.one_of(st.binary(max_size=16), st.binary(max_size=12).map(lambda b: b"\x04" + b))))
def test_any_bytes(data: bytes) -> None:
    decodes_back_or_refuses(data, racp_from_bytes)
    decodes_back_or_refuses(data, CgmControl.from_bytes)


@settings(deadline=None)
@given(st.integers(0, 0x1D), st.binary(max_size=11))
def test_any_operand_of_any_operation(op: int, operand: bytes) -> None:
    decodes_back_or_refuses(bytes([op]) + operand, CgmControl.from_bytes)
    decodes_back_or_refuses(with_crc(bytes([op]) + operand), CgmControl.from_bytes)


@settings(deadline=None)
@given(st.integers(0, 7), st.integers(0, 7), st.binary(max_size=6))
def test_any_operand_about_stored_records(op: int, operator: int, rest: bytes) -> None:
    decodes_back_or_refuses(bytes([op, operator]) + rest, racp_from_bytes)
