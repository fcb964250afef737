"""CGM Feature (0x2AA8): what the device can do, what it measures in, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import check_range
from firmware_bridge.codecs.bluetooth_cgm_crc import check_crc, with_crc
from firmware_bridge.codecs.bluetooth_glucose_sample import sample_from_byte, sample_to_byte

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


@dataclass(frozen=True, slots=True)
class CgmFeature:
    """The characteristic; `bytes(f)` and `CgmFeature.from_bytes` are each other's inverse, byte for byte."""

    features: CgmFeatures
    sample_type: int
    """A SampleType where it is known."""
    sample_location: int
    """A SampleLocation where it is known."""

    def __post_init__(self) -> None:
        check_range("features", self.features, 0, 0xFF_FFFF, 0)
        sample_to_byte(self.sample_type, self.sample_location)

    @property
    def secured(self) -> bool:
        """Whether every value of this device must end with an E2E-CRC."""
        return bool(self.features & CgmFeatures.E2E_CRC)

    def __bytes__(self) -> bytes:
        body = self.features.to_bytes(3, "little") + bytes([sample_to_byte(self.sample_type, self.sample_location)])
        return with_crc(body) if self.secured else body + NO_CRC

    @classmethod
    def from_bytes(cls, data: bytes) -> CgmFeature:
        """The value that `data`, all of it, is; raises DecodeError."""
        if len(data) != SIZE:
            raise DecodeError(f"{len(data)} bytes, expected {SIZE}", min(len(data), SIZE))
        feature = cls(CgmFeatures(int.from_bytes(data[:3], "little")), *sample_from_byte(data[3]))
        if feature.secured:
            check_crc(data)
        elif data[4:] != NO_CRC:
            raise DecodeError("crc is not 0xffff, and the device says it has none", 4)
        return feature
