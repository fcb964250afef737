"""CGM Session Run Time (0x2AAB): for how long the sensor is expected to work."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_cgm_crc import is_secured, with_crc


@dataclass(frozen=True, slots=True)
class CgmSessionRun:
    """The characteristic; `bytes(r)` and `CgmSessionRun.from_bytes` are each other's inverse, byte for byte."""

    hours: int
    """From the session's start to the end of the sensor's life."""
    secured: bool = False

    def __post_init__(self) -> None:
        check_range("run time", self.hours, 0, 0xFFFF, 0)

    def __bytes__(self) -> bytes:
        body = self.hours.to_bytes(2, "little")
        return with_crc(body) if self.secured else body

    @classmethod
    def from_bytes(cls, data: bytes) -> CgmSessionRun:
        """The value that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        hours = reader.unsigned(2, "run time")
        return cls(hours, secured=is_secured(data, reader.offset))
