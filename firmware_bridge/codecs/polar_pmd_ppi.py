"""Times from pulse to pulse in a frame of Polar Measurement Data, six bytes each. From vendor material."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType

_MOVED, _CONTACT, _CONTACT_SUPPORTED = 1, 2, 4
SIZE = 6


@dataclass(frozen=True, slots=True)
class PulseInterval:
    """One interval; `bytes(p)` and `pulse_intervals` are each other's inverse, byte for byte."""

    bpm: int
    """As the sensor shows it; 0: none."""
    interval_ms: int
    error_ms: int
    """By how much it may be wrong, as the sensor reckons."""
    flags: int

    def __post_init__(self) -> None:
        check_range("heart rate", self.bpm, 0, 0xFF, 0)
        check_range("interval", self.interval_ms, 0, 0xFFFF, 1)
        check_range("error", self.error_ms, 0, 0xFFFF, 3)
        check_range("flags", self.flags, 0, 0xFF, 5)

    @property
    def moved(self) -> bool:
        """Whether movement makes it worthless."""
        return bool(self.flags & _MOVED)

    @property
    def contact(self) -> bool | None:
        """Whether the sensor touches the skin; None where it cannot tell."""
        return bool(self.flags & _CONTACT) if self.flags & _CONTACT_SUPPORTED else None

    @property
    def valid(self) -> bool:
        return self.interval_ms > 0 and not self.moved and self.contact is not False

    def __bytes__(self) -> bytes:
        return (
            bytes([self.bpm])
            + self.interval_ms.to_bytes(2, "little")
            + self.error_ms.to_bytes(2, "little")
            + bytes([self.flags])
        )


def pulse_intervals(frame: PmdFrame) -> tuple[PulseInterval, ...]:
    """All intervals of a frame, the oldest first; raises DecodeError."""
    if frame.measurement is not PmdType.PPI or frame.layout != 0:
        raise DecodeError(f"{frame.measurement.name} frame type 0x{frame.layout:02x} holds no pulse intervals", 9)
    if not frame.body or len(frame.body) % SIZE:
        whole = len(frame.body) // SIZE * SIZE
        raise DecodeError(f"{len(frame.body)} bytes are not one or more intervals of {SIZE}", PmdFrame.SIZE + whole)
    reader = ByteReader(frame.body, PmdFrame.SIZE)
    return tuple(
        PulseInterval(
            reader.unsigned(1, "heart rate"),
            reader.unsigned(2, "interval"),
            reader.unsigned(2, "error"),
            reader.unsigned(1, "flags"),
        )
        for _ in range(len(frame.body) // SIZE)
    )


def ppi_frame(last_ns: int, intervals: tuple[PulseInterval, ...]) -> PmdFrame:
    """The frame that carries them."""
    return PmdFrame(PmdType.PPI, last_ns, 0, b"".join(map(bytes, intervals)))
