"""The binary frame of our own firmware: one self-contained run of samples, 36 bytes besides them. See FRAME.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import MAX_CHANNELS, MAX_CHUNK_SAMPLES, MAX_RATE_HZ, Chunk, DecodeError, Stream
from firmware_bridge.plausible import to_chunk

VERSION = 1

_HEADER = struct.Struct("<BBBBBBHQIIfI")
_CRC = struct.Struct("<I")
_SCALE = struct.Struct("<f")
OVERHEAD = _HEADER.size + _CRC.size

UNIT_CODES: tuple[str | None, ...] = (
    None, "mV", "uV", "V", "1", "mmHg", "g", "mg", "m/s2", "mg/dL", "mmol/L", "1/min", "%", "Cel",
)  # fmt: skip
"""Unit by its code in the frame; code 0 leaves the unit to the receiver's configuration."""


class SampleFormat(IntEnum):
    """How one sample is held, always little-endian."""

    INT16 = 1
    INT24 = 2
    """Signed, three bytes, not padded."""
    FLOAT32 = 3

    @property
    def width(self) -> int:
        """Bytes a sample."""
        return (2, 3, 4)[self - 1]


class FrameFlag(IntFlag):
    """Bits of the flags byte. A bit not named here must be 0."""

    NONE = 0
    UTC = 1
    """The time is µs since 1970-01-01T00:00:00Z; without it, µs since the device started."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `bytes(frame)` and `Frame.from_bytes` are each other's inverse, byte for byte.

    Raises DecodeError (a ValueError) on a field out of its range, with the field's offset in the frame.
    """

    stream_id: int
    """The device's own number for this stream, 0 to 255."""
    flags: FrameFlag
    sample_format: SampleFormat
    channels: int
    unit: str | None
    """Unit of sample × scale; None leaves it to the receiver's configuration."""
    boot_id: int
    """Changes at each start of the device: tells a restart from a hole. 16 bits."""
    time_us: int
    """When the first sample was taken, in µs; since when, the flags say."""
    sequence: int
    """Counts the frames of this stream since the start. 32 bits."""
    rate_mhz: int
    """Sampling rate in 1/1000 Hz; 0 for a single reading."""
    scale: float
    """Physical value of one count, held as float32."""
    samples: bytes
    """Sample by sample, and in each sample channel by channel."""

    def __post_init__(self) -> None:
        _in_range("stream id", self.stream_id, 0xFF, 1)
        # On IntFlag, ~ knows only the named bits; on int, all of them.
        if int(self.flags) & ~int(FrameFlag.UTC):
            raise DecodeError(f"flags 0x{self.flags:02x} have bits this version does not know", 2)
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise DecodeError(f"{self.channels} channels, expected 1 to {MAX_CHANNELS}", 4)
        if self.unit not in UNIT_CODES:
            raise DecodeError(f"unit {self.unit!r} has no code", 5)
        _in_range("boot id", self.boot_id, 0xFFFF, 6)
        _in_range("time", self.time_us, (1 << 64) - 1, 8)
        _in_range("sequence", self.sequence, 0xFFFF_FFFF, 16)
        _in_range("rate", self.rate_mhz, int(MAX_RATE_HZ * 1000), 20)
        if not 1e-30 < self.scale < 1e30:
            raise DecodeError(f"scale {self.scale!r} is not a positive number in range", 24)
        object.__setattr__(self, "scale", _SCALE.unpack(_SCALE.pack(self.scale))[0])
        count, rest = divmod(len(self.samples), self.sample_format.width * self.channels)
        if rest or not 1 <= count <= MAX_CHUNK_SAMPLES:
            raise DecodeError(
                f"{len(self.samples)} bytes are not 1 to {MAX_CHUNK_SAMPLES} samples of {self.channels} channels", 28
            )

    @property
    def count(self) -> int:
        """Samples per channel."""
        return len(self.samples) // (self.sample_format.width * self.channels)

    @property
    def rate_hz(self) -> float:
        return self.rate_mhz / 1000

    def __bytes__(self) -> bytes:
        header = _HEADER.pack(
            VERSION, self.stream_id, self.flags, self.sample_format, self.channels, UNIT_CODES.index(self.unit),
            self.boot_id, self.time_us, self.sequence, self.rate_mhz, self.scale, self.count,
        )  # fmt: skip
        body = header + self.samples
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Frame:
        """The frame that `data` is, all of it; raises DecodeError."""
        if len(data) < OVERHEAD:
            raise DecodeError(f"{len(data)} bytes are too few for a frame ({OVERHEAD} and the samples)", len(data))
        version, stream_id, flags, code, channels, unit, boot_id, time_us, sequence, rate_mhz, scale, count = (
            _HEADER.unpack_from(data)
        )
        if version != VERSION:
            raise DecodeError(f"frame version {version} is not {VERSION}", 0)
        end = len(data) - _CRC.size
        stated, computed = _CRC.unpack_from(data, end)[0], zlib.crc32(memoryview(data)[:end])
        if stated != computed:
            raise DecodeError(f"crc32 is 0x{stated:08x}, the bytes before it have 0x{computed:08x}", end)
        if not SampleFormat.INT16 <= code <= SampleFormat.FLOAT32:
            raise DecodeError(f"sample format {code} is unknown", 3)
        if unit >= len(UNIT_CODES):
            raise DecodeError(f"unit code {unit} is unknown", 5)
        sample_format = _FORMATS[code]
        if count * channels * sample_format.width != end - _HEADER.size:
            raise DecodeError(
                f"{count} samples of {channels} channels of {sample_format.width} bytes are declared, "
                f"{end - _HEADER.size} bytes are there",
                28,
            )
        return cls(
            stream_id, FrameFlag(flags), sample_format, channels, UNIT_CODES[unit], boot_id, time_us, sequence,
            rate_mhz, scale, data[_HEADER.size : end],
        )  # fmt: skip

    def counts(self) -> npt.NDArray[np.int16] | npt.NDArray[np.int32] | npt.NDArray[np.float32]:
        """The samples as sent, before the scale: (count, channels) of int16, int32 (for INT24) or float32."""
        if self.sample_format is SampleFormat.INT16:
            return np.frombuffer(self.samples, "<i2").reshape(-1, self.channels)
        if self.sample_format is SampleFormat.FLOAT32:
            return np.frombuffer(self.samples, "<f4").reshape(-1, self.channels)
        padded = np.zeros((self.count * self.channels, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(self.samples, np.uint8).reshape(-1, 3)
        # The three bytes sit in the upper part of an int32; the arithmetic shift brings the sign down with them.
        return (padded.view("<i4") >> 8).astype(np.int32, copy=False).reshape(-1, self.channels)


_FORMATS = {int(member): member for member in SampleFormat}


def decode(payload: bytes, stream: Stream) -> list[Chunk]:
    """The one chunk that a frame on a topic is; raises DecodeError.

    The stream id is not looked at: the topic says which stream it is. A frame whose time is not UTC is refused.
    """
    frame = Frame.from_bytes(payload)
    if not frame.flags & FrameFlag.UTC:
        raise DecodeError("the frame's time counts from the device's start; over MQTT only UTC is understood", 2)
    return [
        to_chunk(
            stream, frame.time_us * 1000, frame.counts(), unit=frame.unit, rate_hz=frame.rate_hz, scale=frame.scale,
            seq=frame.sequence, boot_id=frame.boot_id,
        )
    ]  # fmt: skip


def encode(
    chunk: Chunk, *, sample_format: SampleFormat = SampleFormat.FLOAT32, scale: float = 1.0, stream_id: int = 0
) -> bytes:
    """The frame for a chunk: time rounded to µs, rate to mHz, values to the nearest count of `scale`.

    Raises ValueError where a value does not fit the format at this scale, or a field its place.
    """
    counts = chunk.samples.astype(np.float64) / _SCALE.unpack(_SCALE.pack(scale))[0]
    if sample_format is SampleFormat.FLOAT32:
        samples = counts.astype("<f4").tobytes()
    else:
        limit = 1 << (8 * sample_format.width - 1)
        rounded = np.rint(counts)
        if rounded.min() < -limit or rounded.max() >= limit:
            raise ValueError(f"values need more than {8 * sample_format.width} bits at scale {scale:g}")
        samples = rounded.astype("<i4").view(np.uint8).reshape(-1, 4)[:, : sample_format.width].tobytes()
    return bytes(
        Frame(
            stream_id, FrameFlag.UTC, sample_format, len(chunk.stream.channels), chunk.stream.unit, chunk.boot_id,
            (chunk.t0_ns + 500) // 1000, chunk.seq or 0, round(chunk.stream.rate_hz * 1000), scale, samples,
        )
    )  # fmt: skip


def _in_range(name: str, value: int, highest: int, offset: int) -> None:
    if not 0 <= value <= highest:
        raise DecodeError(f"{name} {value} is not 0 to {highest}", offset)
