"""Current Time (0x2A2B): a device's clock, read to compare and written to set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_date_time import DateTime


class AdjustReason(IntFlag):
    """Why the clock was last set; a bit not named here is kept."""

    MANUAL = 1
    EXTERNAL = 2
    TIME_ZONE = 4
    DAYLIGHT_SAVING = 8


_NONE = AdjustReason(0)


@dataclass(frozen=True, slots=True)
class CurrentTime:
    """The characteristic; `bytes(c)` and `CurrentTime.from_bytes` are each other's inverse, byte for byte."""

    local: DateTime
    weekday: int = 0
    """1 Monday to 7 Sunday; 0: not known."""
    fraction: int = 0
    """1/256 s past the second."""
    reason: AdjustReason = _NONE

    def __post_init__(self) -> None:
        check_range("weekday", self.weekday, 0, 7, 7)
        check_range("fraction", self.fraction, 0, 0xFF, 8)
        check_range("reason", self.reason, 0, 0xFF, 9)

    def __bytes__(self) -> bytes:
        return bytes(self.local) + bytes([self.weekday, self.fraction, self.reason])

    @classmethod
    def from_bytes(cls, data: bytes) -> CurrentTime:
        """The value that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        local = DateTime.from_bytes(reader.take(DateTime.SIZE, "date and time"))
        weekday, fraction = reader.unsigned(1, "weekday"), reader.unsigned(1, "fraction")
        reason = AdjustReason(reader.unsigned(1, "reason"))
        reader.finish("the time")
        return cls(local, weekday, fraction, reason)
