"""A recording, played again as its sensor would have sent it: as chunks, or as a live source."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.ingest.delivery import delivery_of
from agent.ingest.source import Delivery
from agent.ingest.wfdb import Header, RecordError, read_header, read_samples
from agent.ingest.wfdb.packing import PACKINGS
from firmware_bridge.chunk import CANONICAL_UNIT, NS_PER_S, UNIT_FACTOR, Chunk, Samples, Stream

EPOCH_NS = 946_684_800 * NS_PER_S
"""2000-01-01T00:00:00Z: every replay begins here, whatever its header says, so that alert ids are always the same."""

RAIL_S = 0.5
BLOCK_S = 64.0


@dataclass(frozen=True, slots=True)
class RecordStream:
    """Which columns of a record make one stream, and what turns them into its unit."""

    stream: Stream
    columns: tuple[int, ...]
    factor: tuple[float, ...]


def record_streams(
    header: Header, patient: str | None = None, device: str = "replay", leads: Sequence[int] | None = None
) -> dict[str, RecordStream]:
    """The streams a record holds, by kind: "ecg" (all leads in volts), "ppg" (PLETH), "abp" (pressures in mmHg).

    `patient` is the record's name where none is given. `leads` keeps only those columns of the record. Signals of other
    kinds (respiration) are left out.
    """
    columns: dict[str, list[int]] = {}
    for column in range(len(header.signals)) if leads is None else leads:
        kind = _kind(header.leads[column], header.units[column])
        if kind:
            columns.setdefault(kind, []).append(column)
    return {
        kind: RecordStream(
            stream=Stream(
                patient=patient or header.name,
                device=device,
                channel=kind,
                kind=kind,
                unit=CANONICAL_UNIT[kind],
                rate_hz=header.rate_hz,
                channels=tuple(header.leads[column] or f"ECG{column + 1}" for column in chosen),
            ),
            columns=tuple(chosen),
            factor=tuple(UNIT_FACTOR.get((header.units[column], CANONICAL_UNIT[kind]), 1.0) for column in chosen),
        )
        for kind, chosen in columns.items()
    }


def _kind(name: str, unit: str) -> str | None:
    if unit == "mV" or (unit, "mV") in UNIT_FACTOR:
        return "ecg"
    if unit == "mmHg":
        return "abp"
    return "ppg" if name.upper() in {"PLETH", "PPG"} else None


def record_chunks(
    path: Path | str,
    stream: RecordStream | None = None,
    *,
    chunk_s: float = 1.0,
    sizes: Iterable[int] = (),
    t0_ns: int = EPOCH_NS,
    start_s: float = 0.0,
    stop_s: float | None = None,
    rail_s: float = RAIL_S,
) -> Iterator[Chunk]:
    """The chunks of one stream of a record (its ECG unless given), at the record's own rate, numbered from 0.

    Sample i of the record has time t0_ns + i/rate, rounded to the ns from exact fractions, so a stretch from `start_s`
    carries the same times as it has within the whole. Chunks hold `chunk_s` seconds; `sizes` (in samples) overrides the
    first ones.

    Samples that all of the stream's leads mark as invalid are not sent: a hole in time, as when a sensor drops out. Of
    one lead among others that are there they are sent as 0: an electrode that is off does not silence its neighbours.
    Short ones are sent as the lowest value the lead takes in the record's unit: WFDB's mark for "invalid" is also the
    bottom rail of the ADC, and a run of it up to `rail_s` long is a clipped wave far more often than a dropout (cudb).
    Raises RecordError or OSError; ValueError where the stretch is not within the record.
    """
    header = read_header(path)
    if stream is None:
        stream = record_streams(header).get("ecg")
        if stream is None:
            raise RecordError(header.path, "none of its signals is in volts: no ECG to replay")
    first = round(start_s * header.rate_hz)
    last = header.n_samples if stop_s is None else min(header.n_samples, round(stop_s * header.rate_hz))
    if not 0 <= first < last:
        raise ValueError(f"{header.name} is {header.duration_s:g} s long: no stretch from {start_s:g} to {stop_s} s")
    read = _BlockReader(header, stream, round(rail_s * header.rate_hz))
    seq = 0
    at = first
    for size in chain(sizes, repeat(max(1, round(chunk_s * header.rate_hz)))):
        if at >= last:
            return
        stop = min(at + size, last)
        samples = read(at, stop)
        for begin, end in _valid_runs(samples):
            yield Chunk(stream.stream, t0_ns + sample_ns(at + begin, header.rate_hz), samples[begin:end], seq)
            seq += 1
        at = stop


def sample_ns(index: int, rate_hz: float) -> int:
    """Time of sample `index` after sample 0, in ns, rounded to the nearest without any error of floating point."""
    return round(index * NS_PER_S / Fraction(rate_hz))


def _valid_runs(samples: Samples) -> Iterator[tuple[int, int]]:
    valid = np.isfinite(samples).all(axis=1)
    edges = np.flatnonzero(np.diff(valid, prepend=False, append=False))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


class _BlockReader:
    """Reads samples through one cached block: opening a file for every chunk would cost more than unpacking it."""

    def __init__(self, header: Header, stream: RecordStream, rail_samples: int) -> None:
        self._header = header
        self._stream = stream
        self._margin = rail_samples
        self._size = round(BLOCK_S * header.rate_hz)
        self._start = self._stop = 0
        self._block: Samples = np.empty((0, len(stream.columns)), np.float32)

    def __call__(self, start: int, stop: int) -> Samples:
        if not self._start <= start <= stop <= self._stop:
            self._load(start, max(stop, min(start + self._size, self._header.n_samples)))
        return self._block[start - self._start : stop - self._start]

    def _load(self, start: int, stop: int) -> None:
        """A margin on both sides shows for every run of invalid samples in the block whether it is a short one."""
        begin = max(0, start - self._margin)
        end = min(self._header.n_samples, stop + self._margin)
        block = read_samples(self._header, begin, end)[:, list(self._stream.columns)]
        for column, index in enumerate(self._stream.columns):
            _fill_rails(block[:, column], self._margin, _rail(self._header, index))
        known = np.isfinite(block)
        block[known.any(axis=1, keepdims=True) & ~known] = 0.0
        self._block = (block * np.array(self._stream.factor, np.float32))[start - begin : stop - begin]
        self._start, self._stop = start, stop


def _rail(header: Header, column: int) -> float:
    signal = header.signals[column]
    return (PACKINGS[signal.format].invalid + 1 - signal.baseline) / signal.gain


def _fill_rails(lead: npt.NDArray[np.float32], longest: int, rail: float) -> None:
    edges = np.flatnonzero(np.diff(np.isnan(lead), prepend=False, append=False))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - begin <= longest:
            lead[begin:end] = rail


async def paced(chunks: Iterable[Chunk], speed: float | None) -> AsyncIterator[Chunk]:
    """Each chunk when its last sample would have been taken, `speed` times as fast; None: as soon as it is wanted."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    first_ns: int | None = None
    for chunk in chunks:
        first_ns = chunk.t0_ns if first_ns is None else first_ns
        due_s = began_s + (chunk.end_ns - first_ns) / NS_PER_S / speed if speed else 0.0
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        yield chunk


class ReplaySource:
    """A live source that is a recording (or any other chunks), at ×`speed` or, with None, as fast as they are taken."""

    def __init__(self, chunks: Iterable[Chunk], *, speed: float | None = 1.0) -> None:
        self._chunks = chunks
        self._speed = speed

    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Deliver every chunk, in order, and return. A file needs no acknowledgement: it can be read again."""
        async for chunk in paced(self._chunks, self._speed):
            await deliver(delivery_of(chunk, time.time_ns()))
