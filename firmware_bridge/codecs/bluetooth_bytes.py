"""A characteristic's value read byte by byte, little-endian; every shortage is a DecodeError with its offset."""

from __future__ import annotations

from firmware_bridge.chunk import DecodeError


class ByteReader:
    """A cursor over `data`; `base` is where `data` begins in what was received, so that errors name that offset."""

    def __init__(self, data: bytes, base: int = 0) -> None:
        self._data, self._base, self._at = data, base, 0

    @property
    def offset(self) -> int:
        """Where the next byte stands in what was received."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._at

    def take(self, count: int, name: str) -> bytes:
        """The next `count` bytes, which hold `name`; raises DecodeError where fewer are left."""
        if self.left < count:
            raise DecodeError(f"{name} needs {count} bytes, {self.left} are left", self.offset)
        self._at += count
        return self._data[self._at - count : self._at]

    def unsigned(self, count: int, name: str) -> int:
        """The next `count` bytes as an unsigned integer; raises DecodeError."""
        return int.from_bytes(self.take(count, name), "little")

    def signed(self, count: int, name: str) -> int:
        """The next `count` bytes as a two's complement integer; raises DecodeError."""
        return int.from_bytes(self.take(count, name), "little", signed=True)

    def finish(self, name: str) -> None:
        """Raises DecodeError where bytes are left."""
        if self.left:
            raise DecodeError(f"{self.left} bytes follow {name}", self.offset)


def check_range(name: str, value: int, lowest: int, highest: int, offset: int | None = None) -> None:
    """Raises DecodeError unless `value` lies from `lowest` to `highest`."""
    if not lowest <= value <= highest:
        raise DecodeError(f"{name} {value} is not {lowest} to {highest}", offset)
