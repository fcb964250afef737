"""One file of a recording: what it holds, byte by byte, and how it is read back whatever happened to it.

A file is `MAGIC` and blocks, each `length, CRC-32` (little-endian, 32 bits each) and then that many bytes: a CBOR
sequence, deflated. The first block holds the head alone. Files are only ever appended to, and never again by another
process, so a crash can cost the end of the last block and nothing before it: `read_segment` stops there. CBOR and not
our firmware frame, since a head, ticks without data and marks are to stand beside the samples, and since a frame counts
a device's microseconds in 16-bit samples, where float32 samples and nanoseconds are to come back as they went in.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from struct import Struct

import cbor2
import numpy as np

from agent.alarms.alert import AlertEvent
from firmware_bridge.chunk import Chunk, Stream

MAGIC = b"vagusrec\x01"
SUFFIX = ".rec"
_BLOCK = Struct("<II")
_LONGEST_BLOCK = 64 << 20
_TICK, _MARK, _STREAM = 0, 1, 2


class SegmentError(ValueError):
    """A file that is no recording, or was torn before its head was written."""


@dataclass(frozen=True, slots=True)
class Head:
    """How it stood when the file was begun: all that has a say in what follows from the samples."""

    patient: str
    began_ns: int
    """Wall clock."""
    version: str
    packs: dict[str, tuple[str, str]]
    """Per task (pack id, sha256)."""
    runtimes: dict[str, str]
    """Per task what ran it."""
    mains_hz: float
    late_after_s: float
    person: bytes
    """`agent.patient.Person`, pickled."""
    state: bytes
    """`Engine.snapshot` before the first tick."""


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """One step of the engine: what had come, and the wall clock then (None where it does not count)."""

    now_ns: int | None
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Where an alert was said: behind the tick that led to it."""

    alert_id: str
    at_ns: int
    phase: str
    rule: str
    priority: str
    late: bool
    text: str

    @classmethod
    def of(cls, event: AlertEvent) -> Mark:
        return cls(
            event.alert_id,
            event.at_ns,
            event.phase.value,
            event.rule,
            event.priority.value,
            event.late,
            event.text,
        )


Record = Tick | Mark


def head_bytes(head: Head) -> bytes:
    """The start of a file."""
    return MAGIC + block(cbor2.dumps(astuple(head)))


def block(sequence: bytes) -> bytes:
    """A block that holds a CBOR sequence."""
    packed = zlib.compress(sequence, 1)
    return _BLOCK.pack(len(packed), zlib.crc32(packed)) + packed


class Encoder:
    """Records of one file as CBOR; a stream is described once, before its first chunk."""

    def __init__(self) -> None:
        self._streams: dict[Stream, int] = {}

    def encode(self, record: Record) -> bytes:
        if isinstance(record, Mark):
            return cbor2.dumps((_MARK, *astuple(record)))
        out = bytearray()
        chunks = []
        for chunk in record.chunks:
            number = self._streams.get(chunk.stream)
            if number is None:
                number = self._streams[chunk.stream] = len(self._streams)
                out += cbor2.dumps((_STREAM, *astuple(chunk.stream)))
            samples = chunk.samples.astype("<f4").tobytes()
            chunks.append((number, chunk.t0_ns, chunk.seq, chunk.boot_id, samples))
        return bytes(out + cbor2.dumps((_TICK, record.now_ns, chunks)))


@dataclass(frozen=True, slots=True)
class Segment:
    """A file that was read."""

    path: Path
    head: Head
    records: tuple[Record, ...]
    is_whole: bool
    """False where the last block was torn, by a crash or because it is being written now."""


def read_segment(path: Path) -> Segment:
    """What a file holds, up to where it was torn. Raises SegmentError, or OSError where it cannot be read."""
    data = path.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise SegmentError(f"{path}: no recording, or torn before it began")
    blocks = _Blocks(data)
    head = None
    records: list[Record] = []
    streams: list[Stream] = []
    for sequence in blocks:
        if head is None:
            head = _head(path, sequence)
        else:
            records += _records(sequence, streams)
    if head is None:
        raise SegmentError(f"{path}: torn before its head was written")
    return Segment(path, head, tuple(records), blocks.is_whole)


def read_head(path: Path) -> Head:
    """Only the head, as `read_segment` has it."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + _BLOCK.size)
        length = _BLOCK.unpack(start[len(MAGIC) :])[0] if len(start) == len(MAGIC) + _BLOCK.size else 0
        data = start + file.read(min(length, _LONGEST_BLOCK))
    if data[: len(MAGIC)] != MAGIC:
        raise SegmentError(f"{path}: no recording, or torn before it began")
    for sequence in _Blocks(data):
        return _head(path, sequence)
    raise SegmentError(f"{path}: torn before its head was written")


class _Blocks:
    """The contents of the blocks of a file up to the first that is not sound."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        at = len(MAGIC)
        while at + _BLOCK.size <= len(self._data):
            length, checksum = _BLOCK.unpack_from(self._data, at)
            packed = self._data[at + _BLOCK.size : at + _BLOCK.size + length]
            if len(packed) < length or zlib.crc32(packed) != checksum:
                return
            try:
                yield zlib.decompress(packed)
            except zlib.error:  # a checksum that agrees by chance
                return
            at += _BLOCK.size + length
        self.is_whole = at == len(self._data)


def _head(path: Path, sequence: bytes) -> Head:
    try:
        patient, began_ns, version, packs, *rest = cbor2.loads(sequence)
        return Head(patient, began_ns, version, {task: (name, sha) for task, (name, sha) in packs.items()}, *rest)
    except (cbor2.CBORDecodeError, ValueError, TypeError, AttributeError) as error:
        raise SegmentError(f"{path}: its head is not one of this version of vagus: {error}") from error


def _records(sequence: bytes, streams: list[Stream]) -> Iterator[Record]:
    source = io.BytesIO(sequence)
    decoder = cbor2.CBORDecoder(source)
    while source.tell() < len(sequence):
        kind, *fields = decoder.decode()
        if kind == _STREAM:
            patient, device, channel, name, unit, rate_hz, channels, *rest = fields
            streams.append(Stream(patient, device, channel, name, unit, rate_hz, tuple(channels), *rest))
        elif kind == _MARK:
            yield Mark(*fields)
        else:
            now_ns, chunks = fields
            yield Tick(now_ns, tuple(_chunk(streams[number], *rest) for number, *rest in chunks))


def _chunk(stream: Stream, t0_ns: int, seq: int | None, boot_id: int, samples: bytes) -> Chunk:
    rows = np.frombuffer(samples, "<f4").astype(np.float32).reshape(-1, len(stream.channels))
    return Chunk(stream, t0_ns, rows, seq, boot_id)
