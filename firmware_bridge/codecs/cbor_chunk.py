"""A chunk as a CBOR map (RFC 8949) with its samples as a typed array (RFC 8746). Keys: see `chunk_map`."""

from __future__ import annotations

import io

import cbor2
import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs.chunk_map import chunk_from_map, map_from_chunk
from firmware_bridge.codecs.fields import check_size, mapping, sample_rows, shown

TYPED_ARRAYS: dict[int, np.dtype[np.integer | np.floating]] = {
    tag: np.dtype(code)
    for tag, code in {
        64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 69: "<u2", 70: "<u4", 71: "<u8",
        72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
        80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
    }.items()
}  # fmt: skip
"""Element type by tag. Samples lie sample by sample, in each sample channel by channel."""

_INT16_LE, _FLOAT32_LE = 77, 85
_MAX_DEPTH = 6


def decode(payload: bytes, stream: Stream) -> list[Chunk]:
    """The one chunk the payload is; raises DecodeError."""
    fields = mapping(_load(payload), "payload")
    samples = fields.get("samples")
    array = (
        _typed_array(samples, len(stream.channels))
        if isinstance(samples, cbor2.CBORTag)
        else sample_rows(samples, len(stream.channels))
    )
    return [chunk_from_map(fields, array, stream)]


def encode(chunk: Chunk, *, scale: float | None = None) -> bytes:
    """The chunk as float32, or, with a scale, as int16 counts of it (ValueError where a value does not fit)."""
    fields = map_from_chunk(chunk)
    if scale is None:
        fields["samples"] = cbor2.CBORTag(_FLOAT32_LE, chunk.samples.astype("<f4").tobytes())
        return cbor2.dumps(fields)
    counts = np.rint(chunk.samples.astype(np.float64) / scale)
    if np.abs(counts).max() > 0x7FFF:
        raise ValueError(f"values need more than 16 bits at scale {scale:g}")
    fields |= {"scale": scale, "samples": cbor2.CBORTag(_INT16_LE, counts.astype("<i2").tobytes())}
    return cbor2.dumps(fields)


def recognizes(payload: bytes) -> bool:
    """Whether the payload begins as a CBOR map does, tagged as CBOR (55799) or bare."""
    return payload[:3] == b"\xd9\xd9\xf7" or 0xA0 <= payload[0] <= 0xBF


def _typed_array(samples: cbor2.CBORTag, n_channels: int) -> npt.NDArray[np.integer | np.floating]:
    dtype, data = TYPED_ARRAYS.get(samples.tag), samples.value
    if dtype is None or not isinstance(data, bytes):
        raise DecodeError(f"samples is tag {samples.tag} of {shown(data)}, expected a typed array (RFC 8746)")
    if not data or len(data) % (dtype.itemsize * n_channels):
        raise DecodeError(f"samples of {len(data)} bytes are not rows of {n_channels} × {dtype.itemsize} bytes")
    return np.frombuffer(data, dtype).reshape(-1, n_channels)


def _refuse(*_: object) -> object:
    raise ValueError("a tag no chunk has")


_REFUSED_TAGS = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 43, 52, 54, 100, 256, 258, 260, 261, 1004), _refuse
)
"""Tags the library would turn into dates, big numbers, regular expressions, e-mail, references to themselves."""


def _load(payload: bytes) -> object:
    source = io.BytesIO(check_size(payload))
    try:
        document = cbor2.CBORDecoder(
            source,
            max_depth=_MAX_DEPTH,
            allow_duplicate_keys=False,
            # Integer keys can be chosen to collide, and a megabyte of them would take minutes to put in a map.
            strict_hashable_types=True,
            semantic_decoders=_REFUSED_TAGS,
        ).decode()
    except cbor2.CBORDecodeError as error:
        raise DecodeError(f"not CBOR a sensor sends: {str(error)[:120]}") from None
    # What the library may still leak on hostile input: hashing of odd map keys, numbers out of range, depth.
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise DecodeError(f"not CBOR a sensor sends: {type(error).__name__}") from None
    if source.tell() != len(payload):
        raise DecodeError("bytes follow the CBOR map", source.tell())
    return document
