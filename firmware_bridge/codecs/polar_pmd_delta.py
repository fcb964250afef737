"""The compressed body of a Polar frame: one sample in full, then blocks of differences from sample to sample.

The first sample has each channel in whole bytes, signed. A block: bits a difference, samples, and the differences,
signed, the lowest bit first, channel by channel, filled up to a whole byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import MAX_CHUNK_SAMPLES, DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader

MAX_BITS = 32
MAX_BLOCK_SAMPLES = 255
_LOWEST, _HIGHEST = -(1 << 31), (1 << 31) - 1


def delta_decode(body: bytes, channels: int, bits: int, base: int = 0) -> npt.NDArray[np.int32]:
    """The samples, (n, channels); a first sample's channel takes `bits` rounded up to bytes.

    Raises DecodeError, counting bytes from `base`.
    """
    reader = ByteReader(body, base)
    width = -(-bits // 8)
    first = [reader.signed(width, "reference") for _ in range(channels)]
    rows = [np.array([first], np.int64)]
    n_samples = 1
    while reader.left:
        at = reader.offset
        size = reader.unsigned(1, "bits a difference")
        if size > MAX_BITS:
            raise DecodeError(f"{size} bits a difference, expected at most {MAX_BITS}", at)
        count = reader.unsigned(1, "samples of a block")
        n_samples += count
        if n_samples > MAX_CHUNK_SAMPLES:
            raise DecodeError(f"more than {MAX_CHUNK_SAMPLES} samples", at)
        rows.append(_unpacked(reader.take(-(-count * channels * size // 8), "differences"), count * channels, size))
        rows[-1] = rows[-1].reshape(count, channels)
    samples = np.cumsum(np.concatenate(rows), axis=0)
    if samples.min() < _LOWEST or samples.max() > _HIGHEST:
        raise DecodeError("differences add up to more than 32 bits", base)
    return samples.astype(np.int32)


def delta_encode(samples: npt.NDArray[np.integer], bits: int) -> bytes:
    """The body that holds samples of shape (n, channels); raises ValueError where the first needs more than `bits`."""
    width, limit = -(-bits // 8), 1 << (bits - 1)
    if samples[0].min() < -limit or samples[0].max() >= limit:
        raise ValueError(f"the first sample needs more than {bits} bits")
    body = b"".join(int(value).to_bytes(width, "little", signed=True) for value in samples[0])
    wide = samples.astype(np.int64)
    differences = wide[1:] - wide[:-1]
    for start in range(0, len(differences), MAX_BLOCK_SAMPLES):
        block = differences[start : start + MAX_BLOCK_SAMPLES]
        size = max(_bits_needed(int(block.min())), _bits_needed(int(block.max())))
        if size > MAX_BITS:
            raise ValueError(f"a difference needs {size} bits")
        body += bytes([size, len(block)]) + _packed(block.ravel(), size)
    return body


def _unpacked(packed: bytes, count: int, size: int) -> npt.NDArray[np.int64]:
    """`count` signed numbers of `size` bits."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")[: count * size].reshape(count, size)
    values = bits.astype(np.int64) @ (1 << np.arange(size, dtype=np.int64))
    return values - (bits[:, -1].astype(np.int64) << size) if size else values


def _packed(values: npt.NDArray[np.int64], size: int) -> bytes:
    bits = values[:, None] >> np.arange(size, dtype=np.int64) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def _bits_needed(value: int) -> int:
    """Bits of the two's complement of `value`, its sign included."""
    return (value if value >= 0 else ~value).bit_length() + 1
