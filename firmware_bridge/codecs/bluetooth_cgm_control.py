"""CGM Specific Ops Control Point (0x2AAC): interval, calibration, alert levels, start and stop of a session.

Which operand an operation has is fixed, so a length tells whether an E2E-CRC follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_cgm_crc import is_secured, with_crc
from firmware_bridge.codecs.bluetooth_glucose_sample import sample_from_byte, sample_to_byte
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat


class CgmOp(IntEnum):
    """What is asked or answered; an answer to GET is the operation after it, to all else ANSWER."""

    SET_INTERVAL = 0x01
    GET_INTERVAL = 0x02
    INTERVAL = 0x03
    SET_CALIBRATION = 0x04
    GET_CALIBRATION = 0x05
    CALIBRATION = 0x06
    SET_PATIENT_HIGH = 0x07
    GET_PATIENT_HIGH = 0x08
    PATIENT_HIGH = 0x09
    SET_PATIENT_LOW = 0x0A
    GET_PATIENT_LOW = 0x0B
    PATIENT_LOW = 0x0C
    SET_HYPO = 0x0D
    GET_HYPO = 0x0E
    HYPO = 0x0F
    SET_HYPER = 0x10
    GET_HYPER = 0x11
    HYPER = 0x12
    SET_FALL_RATE = 0x13
    GET_FALL_RATE = 0x14
    FALL_RATE = 0x15
    SET_RISE_RATE = 0x16
    GET_RISE_RATE = 0x17
    RISE_RATE = 0x18
    RESET_DEVICE_ALERT = 0x19
    START_SESSION = 0x1A
    STOP_SESSION = 0x1B
    ANSWER = 0x1C


class CgmResult(IntEnum):
    """How a request ended."""

    SUCCESS = 1
    OP_NOT_SUPPORTED = 2
    OPERAND_INVALID = 3
    NOT_COMPLETED = 4
    OUT_OF_RANGE = 5


class CalibrationStatus(IntFlag):
    """How a calibration went; 0: well. A bit not named here is kept."""

    REJECTED = 1
    OUT_OF_RANGE = 2
    PENDING = 4


_WELL = CalibrationStatus(0)


@dataclass(frozen=True, slots=True)
class CgmCalibration:
    """A finger-stick that the sensor is calibrated by: ten bytes."""

    concentration: Sfloat
    """mg/dL."""
    offset_min: int
    """When, in minutes since the session started."""
    sample_type: int
    """A SampleType where it is known."""
    sample_location: int
    """A SampleLocation where it is known."""
    next_min: int
    """When the next is due, in minutes since the session started; 0: not known, or now."""
    record: int
    """Number of this calibration; 0 in a request to set one."""
    status: CalibrationStatus = _WELL

    def __post_init__(self) -> None:
        sample_to_byte(self.sample_type, self.sample_location)
        check_range("calibration time", self.offset_min, 0, 0xFFFF, 3)
        check_range("next calibration time", self.next_min, 0, 0xFFFF, 6)
        check_range("calibration record", self.record, 0, 0xFFFF, 8)
        check_range("calibration status", self.status, 0, 0xFF, 10)

    def __bytes__(self) -> bytes:
        return (
            bytes(self.concentration)
            + self.offset_min.to_bytes(2, "little")
            + bytes([sample_to_byte(self.sample_type, self.sample_location)])
            + self.next_min.to_bytes(2, "little")
            + self.record.to_bytes(2, "little")
            + bytes([self.status])
        )


@dataclass(frozen=True, slots=True)
class CgmAnswer:
    """How the request with code `request` ended; the code is the one written, known or not."""

    request: int
    result: CgmResult

    def __post_init__(self) -> None:
        check_range("operation asked for", self.request, 0, 0xFF, 1)

    def __bytes__(self) -> bytes:
        return bytes([self.request, self.result])


Operand = int | Sfloat | CgmCalibration | CgmAnswer | None

_OPS = {int(member): member for member in CgmOp}
_RESULTS = {int(member): member for member in CgmResult}
_INTERVALS = (CgmOp.SET_INTERVAL, CgmOp.INTERVAL)
_CALIBRATIONS = (CgmOp.SET_CALIBRATION, CgmOp.CALIBRATION)
_BARE = (
    *(op for op in CgmOp if op.name.startswith("GET_") and op is not CgmOp.GET_CALIBRATION),
    CgmOp.RESET_DEVICE_ALERT,
    CgmOp.START_SESSION,
    CgmOp.STOP_SESSION,
)


def _operand_type(op: CgmOp) -> type[int | Sfloat | CgmCalibration | CgmAnswer] | None:
    if op in _BARE:
        return None
    if op in _CALIBRATIONS:
        return CgmCalibration
    if op is CgmOp.ANSWER:
        return CgmAnswer
    return int if op in (*_INTERVALS, CgmOp.GET_CALIBRATION) else Sfloat


@dataclass(frozen=True, slots=True)
class CgmControl:
    """One request or answer; `bytes(c)` and `CgmControl.from_bytes` are each other's inverse, byte for byte."""

    op: CgmOp
    operand: Operand = None
    """By operation: minutes between measurements (0: no periodic ones, 255: as fast as the sensor can) or the number
    of a calibration (65,535: the last) as int; a level in mg/dL, or a rate in mg/dL a minute, as Sfloat; a calibration;
    an answer; None for the rest."""
    secured: bool = False

    def __post_init__(self) -> None:
        expected = _operand_type(self.op)
        if (self.operand is not None) if expected is None else not isinstance(self.operand, expected):
            raise DecodeError(f"operation 0x{self.op.value:02x} does not take {self.operand!r}", 1)
        if isinstance(self.operand, int):
            check_range("operand", self.operand, 0, 0xFF if self.op in _INTERVALS else 0xFFFF, 1)

    def __bytes__(self) -> bytes:
        body = bytes([self.op])
        if isinstance(self.operand, int):
            body += self.operand.to_bytes(1 if self.op in _INTERVALS else 2, "little")
        elif self.operand is not None:
            body += bytes(self.operand)
        return with_crc(body) if self.secured else body

    @classmethod
    def from_bytes(cls, data: bytes) -> CgmControl:
        """What `data`, all of it, says; raises DecodeError."""
        reader = ByteReader(data)
        code = reader.unsigned(1, "operation")
        if code not in _OPS:
            raise DecodeError(f"operation 0x{code:02x} is unknown", 0)
        op = _OPS[code]
        operand = _read_operand(op, reader)
        return cls(op, operand, secured=is_secured(data, reader.offset))


def _read_operand(op: CgmOp, reader: ByteReader) -> Operand:
    expected = _operand_type(op)
    if expected is None:
        return None
    if expected is int:
        return reader.unsigned(1 if op in _INTERVALS else 2, "operand")
    if expected is Sfloat:
        return Sfloat(reader.unsigned(2, "level"))
    if expected is CgmCalibration:
        return CgmCalibration(
            Sfloat(reader.unsigned(2, "concentration")),
            reader.unsigned(2, "calibration time"),
            *sample_from_byte(reader.unsigned(1, "sample")),
            reader.unsigned(2, "next calibration time"),
            reader.unsigned(2, "calibration record"),
            CalibrationStatus(reader.unsigned(1, "calibration status")),
        )
    request, result = reader.unsigned(1, "operation asked for"), reader.unsigned(1, "result")
    if result not in _RESULTS:
        raise DecodeError(f"result {result} is unknown", 2)
    return CgmAnswer(request, _RESULTS[result])
