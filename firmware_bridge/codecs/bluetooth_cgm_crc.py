"""E2E-CRC of the continuous glucose monitoring service: CRC-16/MCRF4XX over all bytes before it, sent low byte first.

Polynomial 0x1021 (reflected 0x8408), seed 0xFFFF, nothing applied at the end; "123456789" gives 0x6F91.
"""

from __future__ import annotations

from firmware_bridge.chunk import DecodeError

CRC_SIZE = 2


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x8408 if byte & 1 else byte >> 1
    return byte


_TABLE = tuple(map(_table_entry, range(256)))


def e2e_crc(data: bytes) -> int:
    """The CRC of `data`."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def with_crc(body: bytes) -> bytes:
    """`body` and its CRC."""
    return body + e2e_crc(body).to_bytes(CRC_SIZE, "little")


def is_secured(data: bytes, body_size: int, base: int = 0) -> bool:
    """Whether a value whose fields take `body_size` bytes has a CRC after them.

    Raises DecodeError where the size is neither, or the CRC is not that of the bytes before it; offsets count from
    `base`.
    """
    extra = len(data) - body_size
    if extra == 0:
        return False
    if extra != CRC_SIZE:
        raise DecodeError(
            f"{len(data)} bytes, expected {body_size}, or {body_size + CRC_SIZE} with a CRC",
            base + min(len(data), body_size),
        )
    check_crc(data, base)
    return True


def check_crc(data: bytes, base: int = 0) -> None:
    """Raises DecodeError where the last two bytes are not the CRC of those before them."""
    body, stated = data[:-CRC_SIZE], int.from_bytes(data[-CRC_SIZE:], "little")
    if stated != (computed := e2e_crc(body)):
        raise DecodeError(f"crc is 0x{stated:04x}, the bytes before it have 0x{computed:04x}", base + len(body))
