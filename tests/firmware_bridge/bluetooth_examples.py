"""What every value of a characteristic is tried with."""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsBytes

from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_crc import with_crc
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat

sfloats = st.builds(Sfloat, st.integers(0, 0xFFFF))
octets = st.integers(0, 0xFF)
words = st.integers(0, 0xFFFF)


def secured_or_not(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes as they are, and with the CRC that makes them believable."""
    return st.one_of(data, data.map(with_crc))


def decodes_back_or_refuses(data: bytes, from_bytes: Callable[[bytes], SupportsBytes]) -> None:
    """The promise of every codec: a value that is these bytes again, or a DecodeError that says where it went wrong."""
    try:
        value = from_bytes(data)
    except DecodeError as error:
        assert error.offset is not None  # noqa: PT017 - the claim is about what may be raised
        assert 0 <= error.offset <= len(data)  # noqa: PT017
        return
    assert bytes(value) == data


def refuses_every_shortening(data: bytes, from_bytes: Callable[[bytes], SupportsBytes]) -> None:
    """Cut anywhere, a value is refused at the cut or before it, never read as another."""
    for size in range(len(data)):
        try:
            value = from_bytes(data[:size])
        except DecodeError as error:
            assert error.offset is not None  # noqa: PT017
            assert error.offset <= size  # noqa: PT017
        else:
            raise AssertionError(f"{data[:size].hex()} was read as {value}")
