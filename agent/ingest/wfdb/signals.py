"""Samples: whole records, stretches of them, or block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.ingest.wfdb.header import Header, RecordError, SignalHeader, read_header, signal_groups
from agent.ingest.wfdb.packing import PACKINGS, Digital, Packing
from firmware_bridge.chunk import Samples


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A recording in memory.

    `signals` is (n, channels) float32 in physical `units`; samples that the recorder marked as invalid are NaN.
    """

    name: str
    rate_hz: float
    signals: Samples
    leads: tuple[str, ...]
    units: tuple[str, ...]
    comments: tuple[str, ...] = ()


def read_digital(header: Header, start: int, stop: int) -> tuple[Digital, npt.NDArray[np.bool_]]:
    """Samples start…stop as the ADC gave them, (n, channels) int64, and a mask of the same shape: True where valid."""
    columns: list[Digital] = []
    valid: list[npt.NDArray[np.bool_]] = []
    for group in signal_groups(header):
        packing = PACKINGS[group[0].format]
        block = _read_interleaved(group[0], packing, start * len(group), stop * len(group)).reshape(-1, len(group))
        columns.append(block)
        valid.append(block != packing.invalid)
    if not columns:
        raise RecordError(header.path, "the record has no signals")
    return np.concatenate(columns, axis=1), np.concatenate(valid, axis=1)


def _read_interleaved(signal: SignalHeader, packing: Packing, start: int, stop: int) -> Digital:
    first = start // packing.samples
    last = -(-stop // packing.samples)
    with signal.file.open("rb") as file:
        file.seek(signal.byte_offset + first * packing.size)
        raw = file.read((last - first) * packing.size)
    # A file may end within a pack: only the bytes that the wanted samples need must be there.
    needed = math.ceil((stop - first * packing.samples) * packing.size / packing.samples)
    if len(raw) < needed:
        raise RecordError(signal.file, f"the file ends {needed - len(raw)} bytes before the header says")
    padded = raw.ljust((last - first) * packing.size, b"\0")
    samples = packing.unpack(np.frombuffer(padded, np.uint8))
    return samples[start - first * packing.samples : stop - first * packing.samples]


def read_samples(header: Header, start: int, stop: int) -> Samples:
    """Samples start…stop in physical units, (n, channels) float32, NaN where invalid. Raises RecordError, OSError."""
    if not 0 <= start <= stop <= header.n_samples:
        raise ValueError(f"{header.name} has samples 0 to {header.n_samples}, not {start} to {stop}")
    digital, valid = read_digital(header, start, stop)
    baseline = np.array([signal.baseline for signal in header.signals])
    gain = np.array([signal.gain for signal in header.signals])
    physical: Samples = ((digital - baseline) / gain).astype(np.float32)
    physical[~valid] = np.nan
    return physical


def read_record(path: Path | str, start: int = 0, stop: int | None = None) -> Record:
    """A record, or its samples start…stop, in memory. Raises RecordError or OSError."""
    header = read_header(path)
    signals = read_samples(header, start, header.n_samples if stop is None else stop)
    return Record(header.name, header.rate_hz, signals, header.leads, header.units, header.comments)


def iter_blocks(path: Path | str, seconds: float) -> Iterator[Samples]:
    """The record's samples in order, in blocks of `seconds` (the last may be shorter): memory for one block only."""
    header = read_header(path)
    size = max(1, round(seconds * header.rate_hz))
    for start in range(0, header.n_samples, size):
        yield read_samples(header, start, min(start + size, header.n_samples))
