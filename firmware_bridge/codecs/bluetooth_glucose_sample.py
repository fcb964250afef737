"""What glucose was measured in, and where: one byte, shared by CGM, its calibrations and glucose meters."""

from __future__ import annotations

from enum import IntEnum

from firmware_bridge.codecs.bluetooth_bytes import check_range


class SampleType(IntEnum):
    """What is measured. A number not named here is reserved."""

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
    """Where. A number not named here is reserved."""

    FINGER = 1
    ALTERNATE_SITE = 2
    EARLOBE = 3
    CONTROL_SOLUTION = 4
    SUBCUTANEOUS_TISSUE = 5
    NOT_AVAILABLE = 15


_TYPES = {int(member): member for member in SampleType}
_LOCATIONS = {int(member): member for member in SampleLocation}


def sample_from_byte(byte: int) -> tuple[int, int]:
    """Type from the low nibble, location from the high one; a number that is reserved stays a number."""
    return _TYPES.get(byte & 0xF, byte & 0xF), _LOCATIONS.get(byte >> 4, byte >> 4)


def sample_to_byte(kind: int, location: int) -> int:
    """The byte for a type and a location; raises DecodeError where one is not 0 to 15."""
    check_range("sample type", kind, 0, 0xF)
    check_range("sample location", location, 0, 0xF)
    return kind | location << 4
