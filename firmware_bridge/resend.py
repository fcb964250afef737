"""What the host writes to our own firmware: send these frames again. See FRAME.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from firmware_bridge.chunk import DecodeError

MESSAGE = 0x52
"""The first byte, where a frame has its version: an "R"."""
MAX_FRAMES = 256

_FIELDS = struct.Struct("<BBHIHH")
_CRC = struct.Struct("<I")
SIZE = _FIELDS.size + _CRC.size


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """`bytes(request)` and `ResendRequest.from_bytes` are each other's inverse, byte for byte.

    Raises DecodeError (a ValueError) on a field out of its range, with the field's offset.
    """

    stream_id: int
    boot_id: int
    """Of the frames wanted: a device that has started since has them no longer."""
    first: int
    """Sequence of the oldest one."""
    count: int
    """How many, 1 to MAX_FRAMES, numbered on from `first`."""

    def __post_init__(self) -> None:
        for name, value, lowest, highest, offset in (
            ("stream id", self.stream_id, 0, 0xFF, 1),
            ("boot id", self.boot_id, 0, 0xFFFF, 2),
            ("first sequence", self.first, 0, 0xFFFF_FFFF, 4),
            ("count", self.count, 1, min(MAX_FRAMES, (1 << 32) - self.first), 8),
        ):
            if not lowest <= value <= highest:
                raise DecodeError(f"{name} {value} is not {lowest} to {highest}", offset)

    def __bytes__(self) -> bytes:
        body = _FIELDS.pack(MESSAGE, self.stream_id, self.boot_id, self.first, self.count, 0)
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> ResendRequest:
        """The request that `data`, all of it, is; raises DecodeError."""
        if len(data) != SIZE:
            raise DecodeError(f"{len(data)} bytes, a resend request has {SIZE}", min(len(data), SIZE))
        message, stream_id, boot_id, first, count, reserved = _FIELDS.unpack_from(data)
        if message != MESSAGE:
            raise DecodeError(f"message 0x{message:02x} is no resend request (0x{MESSAGE:02x})", 0)
        stated, computed = _CRC.unpack_from(data, _FIELDS.size)[0], zlib.crc32(data[: _FIELDS.size])
        if stated != computed:
            raise DecodeError(f"crc32 is 0x{stated:08x}, the bytes before it have 0x{computed:08x}", _FIELDS.size)
        if reserved:
            raise DecodeError(f"reserved bytes are 0x{reserved:04x}, not 0", 10)
        return cls(stream_id, boot_id, first, count)
