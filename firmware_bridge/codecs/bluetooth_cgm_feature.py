"""CGM Feature (0x2AA8): what the device can do, what it measures in, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import check_range
from firmware_bridge.codecs.bluetooth_cgm_crc import check_crc, with_crc

SIZE = 6
NO_CRC = b"\xff\xff"


class CgmFeatures(IntFlag):
    """What the device supports; a bit not named here is kept."""

    CALIBRATION = 1 << 0
    PATIENT_ALERTS = 1 << 1
    HYPO_ALERTS = 1 << 2
    HYPER_ALERTS = 1 << 3
    RATE_ALERTS = 1 << 4
    DEVICE_ALERT = 1 << 5
    MALFUNCTION_DETECTION = 1 << 6
    TEMPERATURE_DETECTION = 1 << 7
    RANGE_DETECTION = 1 << 8
    BATTERY_DETECTION = 1 << 9
    SENSOR_TYPE_DETECTION = 1 << 10
    DEVICE_FAULT = 1 << 11
    E2E_CRC = 1 << 12
    MULTIPLE_BONDS = 1 << 13
    MULTIPLE_SESSIONS = 1 << 14
    TREND = 1 << 15
    QUALITY = 1 << 16


class SampleType(IntEnum):
    """What is measured. A value not named here is reserved."""

    RESERVED = 0
    CAPILLARY_WHOLE_BLOOD = 1
    CAPILLARY_PLASMA = 2
    VENOUS_WHOLE_BLOOD = 3
    VENOUS_PLASMA = 4
    ARTERIAL_WHOLE_BLOOD = 5
    ARTERIAL_PLASMA = 6
    UNDETERMINED_WHOLE_BLOOD = 7
    UNDETERMINED_PLASMA = 8
    INTERSTITIAL_FLUID = 9
    CONTROL_SOLUTION = 10


class SampleLocation(IntEnum):
    """Where. A value not named here is reserved."""

    RESERVED = 0
    FINGER = 1
    ALTERNATE_SITE = 2
    EARLOBE = 3
    CONTROL_SOLUTION = 4
    SUBCUTANEOUS_TISSUE = 5
    NOT_AVAILABLE = 15


_TYPES = {int(member): member for member in SampleType}
_LOCATIONS = {int(member): member for member in SampleLocation}


def sample_from_byte(byte: int, offset: int) -> tuple[SampleType, SampleLocation]:
    """Type from the low nibble, location from the high one; raises DecodeError for a reserved value, but for 0."""
    kind, location = _TYPES.get(byte & 0xF), _LOCATIONS.get(byte >> 4)
    if kind is None or location is None:
        raise DecodeError(f"sample 0x{byte:02x} has a type or location that is reserved", offset)
    return kind, location


@dataclass(frozen=True, slots=True)
class CgmFeature:
    """The characteristic; `bytes(f)` and `CgmFeature.from_bytes` are each other's inverse, byte for byte."""

    features: CgmFeatures
    sample_type: SampleType
    sample_location: SampleLocation

    def __post_init__(self) -> None:
        check_range("features", self.features, 0, 0xFF_FFFF, 0)

    @property
    def secured(self) -> bool:
        """Whether every value of this device must end with an E2E-CRC."""
        return bool(self.features & CgmFeatures.E2E_CRC)

    def __bytes__(self) -> bytes:
        body = self.features.to_bytes(3, "little") + bytes([self.sample_type | self.sample_location << 4])
        return with_crc(body) if self.secured else body + NO_CRC

    @classmethod
    def from_bytes(cls, data: bytes) -> CgmFeature:
        """The value that `data`, all of it, is; raises DecodeError."""
        if len(data) != SIZE:
            raise DecodeError(f"{len(data)} bytes, expected {SIZE}", min(len(data), SIZE))
        feature = cls(CgmFeatures(int.from_bytes(data[:3], "little")), *sample_from_byte(data[3], 3))
        if feature.secured:
            check_crc(data)
        elif data[4:] != NO_CRC:
            raise DecodeError("crc is not 0xffff, and the device says it has none", 4)
        return feature
