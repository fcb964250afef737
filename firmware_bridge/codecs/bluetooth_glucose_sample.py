"""What glucose was measured in, and where: one byte, shared by CGM, its calibrations and glucose meters."""

from __future__ import annotations

from enum import IntEnum

from firmware_bridge.chunk import DecodeError


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
