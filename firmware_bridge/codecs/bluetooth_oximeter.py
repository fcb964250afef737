"""PLX Continuous and Spot-Check Measurement (0x2A5F, 0x2A5E): oxygen saturation and pulse rate of a pulse oximeter.

The continuous one is verified against worked bytes; the spot check is laid out as the profile has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat


class OximeterFlag(IntFlag):
    """Which optional fields there are."""

    FAST = 1
    SLOW = 2
    MEASUREMENT_STATUS = 4
    DEVICE_STATUS = 8
    PULSE_AMPLITUDE = 16


class SpotCheckFlag(IntFlag):
    """Which optional fields a spot check has, and whether its time can be believed."""

    TIME = 1
    MEASUREMENT_STATUS = 2
    DEVICE_STATUS = 4
    PULSE_AMPLITUDE = 8
    CLOCK_NOT_SET = 16


class OximeterMeasurementStatus(IntFlag):
    """How the value came about; a bit not named here is kept."""

    ONGOING = 1 << 5
    EARLY_ESTIMATE = 1 << 6
    VALIDATED = 1 << 7
    FULLY_QUALIFIED = 1 << 8
    FROM_STORAGE = 1 << 9
    DEMONSTRATION = 1 << 10
    TESTING = 1 << 11
    CALIBRATING = 1 << 12
    UNAVAILABLE = 1 << 13
    QUESTIONABLE = 1 << 14
    INVALID = 1 << 15


class OximeterDeviceStatus(IntFlag):
    """How the sensor does; a bit not named here is kept."""

    DISPLAY_UPDATE = 1 << 0
    EQUIPMENT_MALFUNCTION = 1 << 1
    IRREGULAR_PROCESSING = 1 << 2
    INADEQUATE_SIGNAL = 1 << 3
    POOR_SIGNAL = 1 << 4
    LOW_PERFUSION = 1 << 5
    ERRATIC_SIGNAL = 1 << 6
    NON_PULSATILE = 1 << 7
    QUESTIONABLE_PULSE = 1 << 8
    ANALYSING = 1 << 9
    INTERFERENCE = 1 << 10
    NOT_ON_USER = 1 << 11
    UNKNOWN_SENSOR = 1 << 12
    DISPLACED = 1 << 13
    SENSOR_MALFUNCTION = 1 << 14
    SENSOR_DISCONNECTED = 1 << 15


@dataclass(frozen=True, slots=True)
class Saturation:
    """Oxygen saturation and pulse rate over one averaging time."""

    spo2: Sfloat
    """%."""
    pulse_rate: Sfloat
    """1/min."""

    def __bytes__(self) -> bytes:
        return bytes(self.spo2) + bytes(self.pulse_rate)


@dataclass(frozen=True, slots=True)
class Oximetry:
    """One measurement; `bytes(o)` and `Oximetry.from_bytes` are each other's inverse, byte for byte."""

    normal: Saturation
    fast: Saturation | None = None
    slow: Saturation | None = None
    measurement_status: OximeterMeasurementStatus | None = None
    device_status: OximeterDeviceStatus | None = None
    pulse_amplitude: Sfloat | None = None
    """%: how much the light varies with the pulse."""

    def __post_init__(self) -> None:
        check_range("measurement status", self.measurement_status or 0, 0, 0xFFFF)
        check_range("device status", self.device_status or 0, 0, 0xFF_FFFF)

    def __bytes__(self) -> bytes:
        status, device = self.measurement_status, self.device_status
        parts = {
            OximeterFlag.FAST: self.fast,
            OximeterFlag.SLOW: self.slow,
            OximeterFlag.MEASUREMENT_STATUS: None if status is None else status.to_bytes(2, "little"),
            OximeterFlag.DEVICE_STATUS: None if device is None else device.to_bytes(3, "little"),
            OximeterFlag.PULSE_AMPLITUDE: self.pulse_amplitude,
        }
        flags = sum(flag for flag, part in parts.items() if part is not None)
        body = b"".join(bytes(part) for part in parts.values() if part is not None)
        return bytes([flags]) + bytes(self.normal) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Oximetry:
        """The measurement that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        flags = reader.unsigned(1, "flags")
        if flags & ~0x1F:
            raise DecodeError(f"flags 0x{flags:02x} have bits this profile does not know", 0)
        normal = _saturation(reader, "SpO2 and pulse rate")
        fast = _saturation(reader, "fast values") if flags & OximeterFlag.FAST else None
        slow = _saturation(reader, "slow values") if flags & OximeterFlag.SLOW else None
        measurement = reader.unsigned(2, "measurement status") if flags & OximeterFlag.MEASUREMENT_STATUS else None
        device = reader.unsigned(3, "device status") if flags & OximeterFlag.DEVICE_STATUS else None
        amplitude = reader.unsigned(2, "pulse amplitude") if flags & OximeterFlag.PULSE_AMPLITUDE else None
        reader.finish("the measurement")
        return cls(
            normal,
            fast,
            slow,
            None if measurement is None else OximeterMeasurementStatus(measurement),
            None if device is None else OximeterDeviceStatus(device),
            None if amplitude is None else Sfloat(amplitude),
        )


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """One reading taken on purpose; `bytes(s)` and `SpotCheck.from_bytes` are each other's inverse, byte for byte."""

    normal: Saturation
    time: DateTime | None = None
    """On the oximeter's own clock."""
    measurement_status: OximeterMeasurementStatus | None = None
    device_status: OximeterDeviceStatus | None = None
    pulse_amplitude: Sfloat | None = None
    clock_not_set: bool = False
    """Whether the oximeter does not know the time."""

    def __post_init__(self) -> None:
        check_range("measurement status", self.measurement_status or 0, 0, 0xFFFF)
        check_range("device status", self.device_status or 0, 0, 0xFF_FFFF)

    def __bytes__(self) -> bytes:
        status, device = self.measurement_status, self.device_status
        parts = {
            SpotCheckFlag.TIME: self.time,
            SpotCheckFlag.MEASUREMENT_STATUS: None if status is None else status.to_bytes(2, "little"),
            SpotCheckFlag.DEVICE_STATUS: None if device is None else device.to_bytes(3, "little"),
            SpotCheckFlag.PULSE_AMPLITUDE: self.pulse_amplitude,
        }
        flags = SpotCheckFlag.CLOCK_NOT_SET * self.clock_not_set
        flags += sum(flag for flag, part in parts.items() if part is not None)
        body = b"".join(bytes(part) for part in parts.values() if part is not None)
        return bytes([flags]) + bytes(self.normal) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> SpotCheck:
        """The measurement that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        flags = reader.unsigned(1, "flags")
        if flags & ~0x1F:
            raise DecodeError(f"flags 0x{flags:02x} have bits this profile does not know", 0)
        normal = _saturation(reader, "SpO2 and pulse rate")
        time = DateTime.from_bytes(reader.take(DateTime.SIZE, "time"), 5) if flags & SpotCheckFlag.TIME else None
        measurement = reader.unsigned(2, "measurement status") if flags & SpotCheckFlag.MEASUREMENT_STATUS else None
        device = reader.unsigned(3, "device status") if flags & SpotCheckFlag.DEVICE_STATUS else None
        amplitude = reader.unsigned(2, "pulse amplitude") if flags & SpotCheckFlag.PULSE_AMPLITUDE else None
        reader.finish("the measurement")
        return cls(
            normal,
            time,
            None if measurement is None else OximeterMeasurementStatus(measurement),
            None if device is None else OximeterDeviceStatus(device),
            None if amplitude is None else Sfloat(amplitude),
            bool(flags & SpotCheckFlag.CLOCK_NOT_SET),
        )


def _saturation(reader: ByteReader, name: str) -> Saturation:
    return Saturation(Sfloat(reader.unsigned(2, name)), Sfloat(reader.unsigned(2, name)))
