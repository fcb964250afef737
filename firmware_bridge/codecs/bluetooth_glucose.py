"""Glucose Measurement (0x2A18): one finger-stick of a glucose meter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from firmware_bridge.chunk import DecodeError, unit_factor
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_glucose_sample import sample_from_byte, sample_to_byte
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat

OVERRUN_MIN, UNDERRUN_MIN = 0x7FFF, -0x8000
"""Time offsets that stand for "further than can be said"."""


class MeterFlag(IntFlag):
    """Which fields there are, and how they are meant."""

    TIME_OFFSET = 1
    CONCENTRATION = 2
    MOLAR = 4
    STATUS = 8
    CONTEXT_FOLLOWS = 16


class MeterStatus(IntFlag):
    """What the meter says of the measurement; a bit not named here is kept."""

    BATTERY_LOW = 1 << 0
    MALFUNCTION = 1 << 1
    SAMPLE_TOO_SMALL = 1 << 2
    STRIP_INSERTION_ERROR = 1 << 3
    STRIP_TYPE_WRONG = 1 << 4
    ABOVE_DEVICE_RANGE = 1 << 5
    BELOW_DEVICE_RANGE = 1 << 6
    TEMPERATURE_TOO_HIGH = 1 << 7
    TEMPERATURE_TOO_LOW = 1 << 8
    STRIP_PULLED_EARLY = 1 << 9
    DEVICE_FAULT = 1 << 10
    TIME_FAULT = 1 << 11


@dataclass(frozen=True, slots=True)
class GlucoseSample:
    """How much, in what, and where from."""

    concentration: Sfloat
    """kg/L or mol/L: the measurement's `molar` says."""
    kind: int
    """A SampleType where it is known."""
    location: int
    """A SampleLocation where it is known."""

    def __bytes__(self) -> bytes:
        return bytes(self.concentration) + bytes([sample_to_byte(self.kind, self.location)])


@dataclass(frozen=True, slots=True)
class GlucoseMeasurement:
    """One record; `bytes(m)` and `GlucoseMeasurement.from_bytes` are each other's inverse, byte for byte."""

    sequence: int
    """Counts the meter's records."""
    base_time: DateTime
    """The meter's clock, in no particular zone."""
    offset_min: int | None = None
    """Minutes from there to the time its user reads on it; what the user did to set the clock."""
    sample: GlucoseSample | None = None
    status: MeterStatus | None = None
    molar: bool = False
    """Whether the concentration is in mol/L."""
    context_follows: bool = False
    """Whether a context with the same sequence number comes."""

    def __post_init__(self) -> None:
        check_range("sequence number", self.sequence, 0, 0xFFFF, 1)
        if self.offset_min is not None:
            check_range("time offset", self.offset_min, UNDERRUN_MIN, OVERRUN_MIN, 10)
        check_range("status", self.status or 0, 0, 0xFFFF)

    @property
    def mg_dl(self) -> float | None:
        """The concentration, in float64; None where there is none, or no number."""
        if self.sample is None:
            return None
        if not self.molar:
            return self.sample.concentration.scaled(5)
        mmol_l = self.sample.concentration.scaled(3)
        return None if mmol_l is None else mmol_l * unit_factor("mmol/L", "mg/dL")

    def local_since_epoch_s(self) -> int:
        """The time its user reads on the meter, as seconds from 1970 on the same wall clock; whoever knows the zone
        makes it UTC. Raises DecodeError where it is not known."""
        if self.offset_min in (OVERRUN_MIN, UNDERRUN_MIN):
            raise DecodeError("the meter's clock was set further than it can say", 10)
        return self.base_time.since_epoch_s() + 60 * (self.offset_min or 0)

    def __bytes__(self) -> bytes:
        flags = MeterFlag(0)
        body = self.sequence.to_bytes(2, "little") + bytes(self.base_time)
        if self.offset_min is not None:
            flags |= MeterFlag.TIME_OFFSET
            body += self.offset_min.to_bytes(2, "little", signed=True)
        if self.sample is not None:
            flags |= MeterFlag.CONCENTRATION
            body += bytes(self.sample)
        if self.status is not None:
            flags |= MeterFlag.STATUS
            body += self.status.to_bytes(2, "little")
        flags |= MeterFlag.MOLAR * self.molar | MeterFlag.CONTEXT_FOLLOWS * self.context_follows
        return bytes([flags]) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> GlucoseMeasurement:
        """The record that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        flags = reader.unsigned(1, "flags")
        if flags & ~0x1F:
            raise DecodeError(f"flags 0x{flags:02x} have bits this profile does not know", 0)
        sequence = reader.unsigned(2, "sequence number")
        base_time = DateTime.from_bytes(reader.take(DateTime.SIZE, "base time"), 3)
        offset_min = reader.signed(2, "time offset") if flags & MeterFlag.TIME_OFFSET else None
        sample = None
        if flags & MeterFlag.CONCENTRATION:
            concentration = Sfloat(reader.unsigned(2, "concentration"))
            sample = GlucoseSample(concentration, *sample_from_byte(reader.unsigned(1, "type and location")))
        status = MeterStatus(reader.unsigned(2, "status")) if flags & MeterFlag.STATUS else None
        reader.finish("the measurement")
        return cls(
            sequence,
            base_time,
            offset_min,
            sample,
            status,
            molar=bool(flags & MeterFlag.MOLAR),
            context_follows=bool(flags & MeterFlag.CONTEXT_FOLLOWS),
        )
