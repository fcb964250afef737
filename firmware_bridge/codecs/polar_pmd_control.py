"""The control point of Polar Measurement Data: what a sensor offers, with which settings, start, stop, and its answers.

Read, it says what the sensor offers. Written to, it notifies an answer. On its own it notifies what it has stopped.
The settings 0, 1 and 2 are verified against worked bytes; the sizes of the others, and how a very long answer goes on
in further packets (which is refused here), are from vendor material.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.polar_pmd import TYPES, PmdType

_READ, _STOPPED, _ANSWER = 0x0F, 0x01, 0xF0
_RECORDING = 0x80


class PmdOp(IntEnum):
    """What is asked."""

    SETTINGS = 1
    START = 2
    STOP = 3


class PmdSettingType(IntEnum):
    """What can be set."""

    RATE_HZ = 0
    RESOLUTION_BITS = 1
    RANGE = 2
    """Full scale each way, in the measurement's unit (g, degrees/s, gauss)."""
    MILLI_RANGE = 3
    CHANNELS = 4
    FACTOR = 5
    """What a sample is to be multiplied by; float32, only in the answer to START."""
    SECURITY = 6


class PmdStatus(IntEnum):
    """How a request ended. Those from 0 to 13 are known by name; any other is refused."""

    SUCCESS = 0
    INVALID_OP = 1
    INVALID_MEASUREMENT = 2
    NOT_SUPPORTED = 3
    INVALID_LENGTH = 4
    INVALID_PARAMETER = 5
    ALREADY_IN_STATE = 6
    INVALID_RESOLUTION = 7
    INVALID_RATE = 8
    INVALID_RANGE = 9
    INVALID_MTU = 10
    INVALID_CHANNELS = 11
    INVALID_STATE = 12
    IN_CHARGER = 13


_OPS = {int(member): member for member in PmdOp}
_SETTINGS = {int(member): member for member in PmdSettingType}
_STATUSES = {int(member): member for member in PmdStatus}
_VALUE_SIZES = (2, 2, 2, 4, 1, 4, 16)


@dataclass(frozen=True, slots=True)
class PmdSetting:
    """One setting with all its values: those to choose from in an answer, the one chosen in a request."""

    kind: PmdSettingType
    values: tuple[int, ...]
    """As sent, little-endian and unsigned; a FACTOR as the 32 bits of its float."""

    def __post_init__(self) -> None:
        check_range("number of values", len(self.values), 0, 0xFF)
        for value in self.values:
            check_range("value", value, 0, (1 << 8 * _VALUE_SIZES[self.kind]) - 1)

    @classmethod
    def of_factor(cls, factor: float) -> PmdSetting:
        """The setting that tells a sample's factor; rounded to float32."""
        return cls(PmdSettingType.FACTOR, (int.from_bytes(struct.pack("<f", factor), "little"),))

    def __bytes__(self) -> bytes:
        size = _VALUE_SIZES[self.kind]
        return bytes([self.kind, len(self.values)]) + b"".join(value.to_bytes(size, "little") for value in self.values)


def values_of(settings: tuple[PmdSetting, ...], kind: PmdSettingType) -> tuple[int, ...]:
    """All values of one kind, in the order sent; empty where there are none."""
    return tuple(value for setting in settings if setting.kind is kind for value in setting.values)


@dataclass(frozen=True, slots=True)
class PmdOffers:
    """What the control point says when it is read; `bytes(o)` gives back what was read, byte for byte."""

    bits: int
    """Bit n: the measurement with number n is there."""
    rest: bytes = b""
    """What follows, which means nothing to us."""

    def __post_init__(self) -> None:
        check_range("offers", self.bits, 0, 0xFF, 1)

    @property
    def measurements(self) -> frozenset[PmdType]:
        return frozenset(kind for kind in PmdType if self.bits >> kind & 1)

    def __bytes__(self) -> bytes:
        return bytes([_READ, self.bits]) + self.rest

    @classmethod
    def from_bytes(cls, data: bytes) -> PmdOffers:
        """What `data`, all of it, says; raises DecodeError."""
        reader = ByteReader(data)
        if (mark := reader.unsigned(1, "mark")) != _READ:
            raise DecodeError(f"0x{mark:02x} does not begin a list of offers (0x0f)", 0)
        bits = reader.unsigned(1, "offers")
        return cls(bits, reader.take(reader.left, "the rest"))


@dataclass(frozen=True, slots=True)
class PmdRequest:
    """What is written: ask for settings, start with some, stop."""

    op: PmdOp
    measurement: PmdType
    settings: tuple[PmdSetting, ...] = ()
    recording: bool = False
    """Whether the sensor is to keep the samples instead of sending them."""

    def __post_init__(self) -> None:
        if self.settings and self.op is not PmdOp.START:
            raise DecodeError(f"operation {self.op.value} takes no settings", 2)

    def __bytes__(self) -> bytes:
        return bytes([self.op, self.measurement | _RECORDING * self.recording]) + b"".join(map(bytes, self.settings))

    @classmethod
    def from_bytes(cls, data: bytes) -> PmdRequest:
        """What `data`, all of it, asks; raises DecodeError."""
        reader = ByteReader(data)
        op = _known(_OPS, reader.unsigned(1, "operation"), "operation", 0)
        kind = reader.unsigned(1, "measurement type")
        measurement = _known(TYPES, kind & ~_RECORDING, "measurement type", 1)
        return cls(op, measurement, _settings(reader), bool(kind & _RECORDING))


@dataclass(frozen=True, slots=True)
class PmdAnswer:
    """How a request ended, and the settings asked for or taken."""

    op: PmdOp
    measurement: PmdType
    status: PmdStatus
    settings: tuple[PmdSetting, ...] = ()
    more: bool | None = False
    """Whether further packets follow; None: the answer ends before it says so."""
    recording: bool = False

    def __post_init__(self) -> None:
        if self.settings and self.more is None:
            raise DecodeError("settings in an answer that ends before them", 4)

    @property
    def factor(self) -> float:
        """What samples are to be multiplied by; 1 where the sensor names none."""
        sent = values_of(self.settings, PmdSettingType.FACTOR)
        return struct.unpack("<f", sent[0].to_bytes(4, "little"))[0] if sent else 1.0

    def __bytes__(self) -> bytes:
        head = bytes([_ANSWER, self.op, self.measurement | _RECORDING * self.recording, self.status])
        if self.more is None:
            return head
        return head + bytes([self.more]) + b"".join(map(bytes, self.settings))

    @classmethod
    def from_bytes(cls, data: bytes) -> PmdAnswer:
        """The answer that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        if (mark := reader.unsigned(1, "mark")) != _ANSWER:
            raise DecodeError(f"0x{mark:02x} does not begin an answer (0xf0)", 0)
        op = _known(_OPS, reader.unsigned(1, "operation"), "operation", 1)
        kind = reader.unsigned(1, "measurement type")
        measurement = _known(TYPES, kind & ~_RECORDING, "measurement type", 2)
        status = _known(_STATUSES, reader.unsigned(1, "status"), "status", 3)
        more = None
        if reader.left:
            more = _known({0: False, 1: True}, reader.unsigned(1, "more"), "mark of more packets", 4)
        return cls(op, measurement, status, _settings(reader), more, bool(kind & _RECORDING))


@dataclass(frozen=True, slots=True)
class PmdStopped:
    """The sensor has ended these on its own."""

    measurements: tuple[PmdType, ...]

    def __bytes__(self) -> bytes:
        return bytes([_STOPPED, *self.measurements])

    @classmethod
    def from_bytes(cls, data: bytes) -> PmdStopped:
        """What `data`, all of it, says; raises DecodeError."""
        reader = ByteReader(data)
        if (mark := reader.unsigned(1, "mark")) != _STOPPED:
            raise DecodeError(f"0x{mark:02x} does not tell of a stop (0x01)", 0)
        kinds = reader.take(reader.left, "measurement types")
        return cls(tuple(_known(TYPES, kind, "measurement type", 1 + i) for i, kind in enumerate(kinds)))


def notification_from_bytes(data: bytes) -> PmdAnswer | PmdStopped:
    """What the control point notified; raises DecodeError."""
    return PmdStopped.from_bytes(data) if data[:1] == bytes([_STOPPED]) else PmdAnswer.from_bytes(data)


def _settings(reader: ByteReader) -> tuple[PmdSetting, ...]:
    settings = []
    while reader.left:
        at = reader.offset
        kind = _known(_SETTINGS, reader.unsigned(1, "setting"), "setting", at)
        count = reader.unsigned(1, "number of values")
        at = reader.offset
        values = tuple(reader.unsigned(_VALUE_SIZES[kind], f"setting {kind.value}") for _ in range(count))
        if kind is PmdSettingType.FACTOR and not all(_is_factor(value) for value in values):
            raise DecodeError("the factor is not a positive number", at)
        settings.append(PmdSetting(kind, values))
    return tuple(settings)


def _is_factor(bits: int) -> bool:
    factor = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return math.isfinite(factor) and factor > 0


_Member = TypeVar("_Member")


def _known(members: dict[int, _Member], value: int, name: str, offset: int) -> _Member:
    if value not in members:
        raise DecodeError(f"{name} {value} is unknown", offset)
    return members[value]
