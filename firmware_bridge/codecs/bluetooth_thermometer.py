"""Temperature Measurement (0x2A1C): a body temperature, where it was taken, and when."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Float

_FAHRENHEIT, _TIME, _SITE = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Temperature:
    """One measurement; `bytes(t)` and `Temperature.from_bytes` are each other's inverse, byte for byte."""

    reading: Float
    """°C, or °F where `fahrenheit` says so."""
    fahrenheit: bool = False
    time: DateTime | None = None
    """On the thermometer's own clock."""
    site: int | None = None
    """1 armpit, 2 body, 3 ear, 4 finger, 5 gut, 6 mouth, 7 rectum, 8 toe, 9 eardrum."""

    def __post_init__(self) -> None:
        check_range("site", self.site or 0, 0, 0xFF)

    @property
    def celsius(self) -> float | None:
        """°C in float64; None where a special value says that there is no reading."""
        value = self.reading.value
        return (value - 32) / 1.8 if value is not None and self.fahrenheit else value

    def __bytes__(self) -> bytes:
        flags = _FAHRENHEIT * self.fahrenheit | _TIME * (self.time is not None) | _SITE * (self.site is not None)
        time = b"" if self.time is None else bytes(self.time)
        return bytes([flags]) + bytes(self.reading) + time + (b"" if self.site is None else bytes([self.site]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Temperature:
        """The measurement that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        flags = reader.unsigned(1, "flags")
        if flags & ~7:
            raise DecodeError(f"flags 0x{flags:02x} have bits this profile does not know", 0)
        reading = Float(reader.unsigned(4, "temperature"))
        time = DateTime.from_bytes(reader.take(DateTime.SIZE, "time"), 5) if flags & _TIME else None
        site = reader.unsigned(1, "site") if flags & _SITE else None
        reader.finish("the measurement")
        return cls(reading, bool(flags & _FAHRENHEIT), time, site)
