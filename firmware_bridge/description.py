"""What our own firmware says it sends, so that nobody has to write it down. See FRAME.md."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.chunk import CANONICAL_UNIT, MAX_CHANNELS, MAX_RATE_HZ, DecodeError, unit_factor
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.frame import UNIT_CODES

VERSION = 1
KIND_CODES: tuple[str | None, ...] = (None, "ecg", "ppg", "abp", "acc", "cgm", "hr", "spo2", "temperature")
"""Kind by its code; 0 is none."""


@dataclass(frozen=True, slots=True)
class DescribedStream:
    """One stream of a device."""

    stream_id: int
    kind: str
    unit: str
    """As its frames have it, one of UNIT_CODES but the first."""
    rate_mhz: int
    """Sampling rate in 1/1000 Hz; 0 for single readings."""
    interval_s: int
    """Expected seconds between single readings; 0 for a sampled stream."""
    channels: tuple[str, ...] = ("",)
    """Names of the columns: 1 to 16, each at most 31 bytes of UTF-8."""

    def __post_init__(self) -> None:
        check_range("stream id", self.stream_id, 0, 0xFF)
        if self.kind not in CANONICAL_UNIT:
            raise DecodeError(f"kind {self.kind!r} has no code")
        if self.unit not in UNIT_CODES:
            raise DecodeError(f"unit {self.unit!r} has no code")
        unit_factor(self.unit, CANONICAL_UNIT[self.kind])
        check_range("rate", self.rate_mhz, 0, int(MAX_RATE_HZ * 1000))
        check_range("interval", self.interval_s, 0, 0xFFFF)
        if bool(self.rate_mhz) == bool(self.interval_s):
            raise DecodeError("a stream has a rate or an interval, and not both")
        check_range("number of channels", len(self.channels), 1, MAX_CHANNELS)
        for name in self.channels:
            check_range("bytes of a channel's name", len(name.encode()), 0, 31)

    @property
    def rate_hz(self) -> float:
        return self.rate_mhz / 1000

    def __bytes__(self) -> bytes:
        fixed = bytes(
            [self.stream_id, KIND_CODES.index(self.kind), UNIT_CODES.index(self.unit), len(self.channels)]
        ) + self.rate_mhz.to_bytes(4, "little") + self.interval_s.to_bytes(2, "little")  # fmt: skip
        names = [name.encode() for name in self.channels]
        return fixed + b"".join(bytes([len(name)]) + name for name in names)


@dataclass(frozen=True, slots=True)
class Description:
    """All streams of a device, at least one; `bytes(d)` and `Description.from_bytes` are each other's inverse."""

    boot_id: int
    streams: tuple[DescribedStream, ...]

    def __post_init__(self) -> None:
        check_range("boot id", self.boot_id, 0, 0xFFFF, 2)
        check_range("number of streams", len(self.streams), 1, 0xFF, 1)
        if len({stream.stream_id for stream in self.streams}) < len(self.streams):
            raise DecodeError("two streams have the same id", 4)

    def __bytes__(self) -> bytes:
        header = bytes([VERSION, len(self.streams)]) + self.boot_id.to_bytes(2, "little")
        return header + b"".join(map(bytes, self.streams))

    @classmethod
    def from_bytes(cls, data: bytes) -> Description:
        """The description that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        version = reader.unsigned(1, "version")
        if version != VERSION:
            raise DecodeError(f"version {version} of the description is not {VERSION}", 0)
        count, boot_id = reader.unsigned(1, "number of streams"), reader.unsigned(2, "boot id")
        check_range("number of streams", count, 1, 0xFF, 1)
        streams = tuple(_stream(reader) for _ in range(count))
        reader.finish("the last stream")
        return cls(boot_id, streams)


def _stream(reader: ByteReader) -> DescribedStream:
    begins = reader.offset
    stream_id, kind = reader.unsigned(1, "stream id"), _coded(KIND_CODES, "kind", reader)
    unit, channels = _coded(UNIT_CODES, "unit", reader), reader.unsigned(1, "number of channels")
    rate_mhz, interval_s = reader.unsigned(4, "rate"), reader.unsigned(2, "interval")
    names = tuple(_name(reader) for _ in range(channels))
    try:
        return DescribedStream(stream_id, kind, unit, rate_mhz, interval_s, names)
    except DecodeError as error:
        raise DecodeError(f"stream {stream_id}: {error}", begins) from None


def _coded(codes: tuple[str | None, ...], name: str, reader: ByteReader) -> str:
    at, code = reader.offset, reader.unsigned(1, name)
    word = codes[code] if code < len(codes) else None
    if word is None:
        raise DecodeError(f"{name} code {code} is unknown", at)
    return word


def _name(reader: ByteReader) -> str:
    size = reader.unsigned(1, "length of a channel's name")
    at, name = reader.offset, reader.take(size, "a channel's name")
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a channel's name is not UTF-8", at + error.start) from None
