"""Polar Measurement Data (PMD): the frame in which a Polar sensor sends samples. What is in it, see polar_pmd_samples.

A frame is one notification: type, time, frame type, body; little-endian. The time is that of the frame's LAST sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from firmware_bridge.chunk import NS_PER_S, DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range

SERVICE = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
CONTROL_POINT = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
DATA = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"

MIN_MTU = 232
"""Below this a sensor refuses to start (PmdStatus.INVALID_MTU)."""
EPOCH_NS = 946_684_800 * NS_PER_S
"""2000-01-01T00:00:00Z in UTC ns. A sensor's clock often stands elsewhere: only differences of its times are used."""

_TYPE_BITS, _COMPRESSED = 0x3F, 0x80


class PmdType(IntEnum):
    """What is measured."""

    ECG = 0
    PPG = 1
    ACC = 2
    PPI = 3
    """Time from pulse to pulse."""
    GYRO = 5
    MAGNETOMETER = 6


TYPES = {int(member): member for member in PmdType}


@dataclass(frozen=True, slots=True)
class PmdFrame:
    """One frame; `bytes(f)` and `PmdFrame.from_bytes` are each other's inverse, byte for byte."""

    measurement: PmdType
    last_ns: int
    """When the last sample was taken, in ns since 2000-01-01 on the sensor's own clock. 64 bits."""
    frame_type: int
    """How the body is laid out, 0 to 127; by measurement."""
    body: bytes
    compressed: bool = False
    """Whether the body holds a reference and differences."""
    marks: int = 0
    """The upper two bits of the type byte, as sent."""

    SIZE = 10
    """Bytes before the body."""

    def __post_init__(self) -> None:
        check_range("marks", self.marks, 0, 3, 0)
        check_range("time", self.last_ns, 0, (1 << 64) - 1, 1)
        check_range("frame type", self.frame_type, 0, 0x7F, 9)

    @property
    def layout(self) -> int:
        """The frame type byte as sent: 0x80 and above where compressed."""
        return self.frame_type | _COMPRESSED * self.compressed

    def __bytes__(self) -> bytes:
        head = bytes([self.measurement | self.marks << 6]) + self.last_ns.to_bytes(8, "little")
        return head + bytes([self.layout]) + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> PmdFrame:
        """The frame that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        kind = reader.unsigned(1, "measurement type")
        if kind & _TYPE_BITS not in TYPES:
            raise DecodeError(f"measurement type {kind & _TYPE_BITS} is unknown", 0)
        last_ns = reader.unsigned(8, "time")
        layout = reader.unsigned(1, "frame type")
        body = reader.take(reader.left, "body")
        return cls(
            TYPES[kind & _TYPE_BITS], last_ns, layout & ~_COMPRESSED, body, bool(layout & _COMPRESSED), kind >> 6
        )
