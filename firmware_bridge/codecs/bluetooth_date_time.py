"""Date Time (0x2A08): seven bytes, a field of 0 is one the device does not know."""

from __future__ import annotations

import calendar
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import check_range

_LAYOUT = struct.Struct("<HBBBBB")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DateTime:
    """A wall clock's reading; which zone's, the characteristic around it says. Raises DecodeError on no such date."""

    year: int
    """1582 to 9999; 0: not known. Likewise month and day."""
    month: int
    day: int
    hour: int
    minute: int
    second: int

    SIZE = _LAYOUT.size

    def __post_init__(self) -> None:
        _check((self.year, self.month, self.day, self.hour, self.minute, self.second), 0)

    def __bytes__(self) -> bytes:
        return _LAYOUT.pack(self.year, self.month, self.day, self.hour, self.minute, self.second)

    @classmethod
    def from_bytes(cls, data: bytes, base: int = 0) -> DateTime:
        """The date and time that `data`, all of it, is; raises DecodeError, counting bytes from `base`."""
        if len(data) != cls.SIZE:
            raise DecodeError(f"a date and time has {cls.SIZE} bytes, {len(data)} are there", base)
        fields = _LAYOUT.unpack(data)
        _check(fields, base)
        return cls(*fields)

    @property
    def known(self) -> bool:
        """Whether year, month and day are all there."""
        return bool(self.year and self.month and self.day)

    def since_epoch_s(self) -> int:
        """Seconds from 1970-01-01 to this reading, on one and the same wall clock; raises DecodeError unless known."""
        if not self.known:
            raise DecodeError("the device does not know the date")
        moment = datetime(self.year, self.month, self.day, self.hour, self.minute, self.second, tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(seconds=1)


def _check(fields: tuple[int, ...], base: int) -> None:
    year, month, day, hour, minute, second = fields
    if year:
        check_range("year", year, 1582, 9999, base)
    check_range("month", month, 0, 12, base + 2)
    days = calendar.monthrange(year, month)[1] if year and month else 31
    check_range("day", day, 0, days, base + 3)
    check_range("hour", hour, 0, 23, base + 4)
    check_range("minute", minute, 0, 59, base + 5)
    check_range("second", second, 0, 59, base + 6)
