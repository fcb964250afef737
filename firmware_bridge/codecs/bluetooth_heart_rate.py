"""Heart Rate Measurement (0x2A37): what a chest strap or a wrist says about once a second."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range

_WIDE, _ENERGY, _RR = 1, 8, 16
_CONTACT_SHIFT = 1
RR_PER_S = 1024


@dataclass(frozen=True, slots=True)
class HeartRate:
    """One measurement; `bytes(h)` and `HeartRate.from_bytes` are each other's inverse, byte for byte."""

    bpm: int
    contact_bits: int = 0
    """As sent: 0 and 1 the sensor cannot tell, 2 no contact, 3 contact."""
    energy_kj: int | None = None
    """Spent since it was last set to 0; stays at 65,535."""
    rr_intervals: tuple[int, ...] | None = None
    """In 1/1024 s, the oldest first; None: not sent."""
    wide: bool = False
    """Whether the rate takes two bytes."""

    def __post_init__(self) -> None:
        check_range("heart rate", self.bpm, 0, 0xFFFF if self.wide else 0xFF, 1)
        check_range("contact", self.contact_bits, 0, 3, 0)
        check_range("energy", self.energy_kj or 0, 0, 0xFFFF)
        for interval in self.rr_intervals or ():
            check_range("RR interval", interval, 0, 0xFFFF)

    @property
    def contact(self) -> bool | None:
        """Whether the sensor touches the skin; None where it cannot tell."""
        return bool(self.contact_bits & 1) if self.contact_bits & 2 else None

    @property
    def rr_s(self) -> tuple[float, ...]:
        """RR intervals in s, the oldest first."""
        return tuple(interval / RR_PER_S for interval in self.rr_intervals or ())

    def __bytes__(self) -> bytes:
        flags = _WIDE * self.wide | self.contact_bits << _CONTACT_SHIFT
        body = self.bpm.to_bytes(2 if self.wide else 1, "little")
        if self.energy_kj is not None:
            flags |= _ENERGY
            body += self.energy_kj.to_bytes(2, "little")
        if self.rr_intervals is not None:
            flags |= _RR
            body += b"".join(interval.to_bytes(2, "little") for interval in self.rr_intervals)
        return bytes([flags]) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> HeartRate:
        """The measurement that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        flags = reader.unsigned(1, "flags")
        if flags & ~0x1F:
            raise DecodeError(f"flags 0x{flags:02x} have bits this profile does not know", 0)
        bpm = reader.unsigned(2 if flags & _WIDE else 1, "heart rate")
        energy_kj = reader.unsigned(2, "energy") if flags & _ENERGY else None
        intervals = None
        if flags & _RR:
            intervals = tuple(reader.unsigned(2, "RR interval") for _ in range((reader.left + 1) // 2))
        reader.finish("the measurement")
        return cls(bpm, flags >> _CONTACT_SHIFT & 3, energy_kj, intervals, wide=bool(flags & _WIDE))
