"""A stretch of a recording as WFDB records, with the alerts as annotations; single readings as CSV.

WFDB knows no holes. One of up to LONGEST_HOLE_S is filled with its mark for "no valid sample" (-32768, NaN to a
reader), so that time goes on; where the hole is longer, or the clock was set or the rate changed, a record of its own
begins, with its own time. 16-bit counts hold the samples exactly wherever an ADC of up to 16 bits made them; where they
do not, the header says by how much they are off.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.ingest.wfdb import write_annotations
from agent.recorder.ring import segment_files
from agent.recorder.segment import Mark, SegmentError, Tick, read_segment
from agent.signal.align import Aligner
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap, Samples, Stream

ANNOTATOR = "vagus"
LONGEST_HOLE_S = 600.0
INVALID, MOST = -32_768, 32_767
_GAINS = (200.0, 400.0, 1000.0, 500.0, 100.0, 2000.0, 1.0, 10.0, 10_000.0)
"""Counts a unit that devices have; the one that their samples show is tried first."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Samples of a stream at even steps, with holes as NaN."""

    stream: Stream
    t0_ns: int
    samples: Samples
    """(n, channels)"""

    @property
    def end_ns(self) -> int:
        return self.t0_ns + self.stream.duration_ns(len(self.samples))


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was recorded of a person in some time."""

    chunks: tuple[Chunk, ...]
    """In the order in which they came."""
    marks: tuple[Mark, ...]


def stretch(folder: Path, patient: str, start_ns: int, end_ns: int) -> Stretch:
    """What the ring in `folder` holds of a person with times in [start, end). Files that are no recording are left."""
    chunks: list[Chunk] = []
    marks: list[Mark] = []
    for path in sorted(segment_files(folder, patient), key=lambda path: path.name):
        try:
            records = read_segment(path).records
        except (SegmentError, FileNotFoundError):
            continue
        for record in records:
            if isinstance(record, Tick):
                chunks += [
                    chunk
                    for chunk in record.chunks
                    if chunk.t0_ns < end_ns and max(chunk.end_ns, chunk.t0_ns + 1) > start_ns
                ]
            elif start_ns <= record.at_ns < end_ns:
                marks.append(record)
    return Stretch(tuple(chunks), tuple(marks))


def export(what: Stretch, out: Path) -> list[Path]:
    """Write the records into the folder `out`; the headers, and the CSV files of readings, in order of time.

    Raises OSError where that cannot be.
    """
    out.mkdir(parents=True, exist_ok=True)
    by_key: defaultdict[str, list[Chunk]] = defaultdict(list)
    for chunk in what.chunks:
        by_key[chunk.stream.key].append(chunk)
    written: list[Path] = []
    for chunks in by_key.values():
        stream = chunks[0].stream
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{stream.patient}_{stream.device}_{stream.channel}")
        if not stream.rate_hz:
            written.append(_write_readings(out / f"{name}.csv", chunks))
            continue
        for number, run in enumerate(runs_of(chunks), start=1):
            written.append(_write_record(out / (name if number == 1 else f"{name}_{number}"), run, what.marks))
    return written


def runs_of(chunks: Iterable[Chunk]) -> list[Run]:
    """Chunks of one stream on its time line, as the engine puts them there: in order, once each, holes named."""
    aligner = Aligner()
    pieces: list[Chunk | Gap] = [piece for chunk in chunks for piece in aligner.push(chunk)]
    pieces += aligner.flush()
    runs: list[Run] = []
    parts: list[Samples] = []
    first: Chunk | None = None
    hole = False
    for piece in pieces:
        if isinstance(piece, Gap):
            length_s = (piece.end_ns - piece.start_ns) / NS_PER_S
            hole = piece.reason not in {"clock step", "rate change"} and 0 <= length_s <= LONGEST_HOLE_S
            if not hole and first is not None:
                runs.append(Run(first.stream, first.t0_ns, np.concatenate(parts)))
                first, parts = None, []
            continue
        if first is None:
            first = piece
        elif hole:
            so_far = sum(map(len, parts))
            missing = round((piece.t0_ns - first.t0_ns) * first.stream.rate_hz / NS_PER_S) - so_far
            parts.append(np.full((max(0, missing), len(piece.stream.channels)), np.nan, np.float32))
        hole = False
        parts.append(piece.samples)
    if first is not None:
        runs.append(Run(first.stream, first.t0_ns, np.concatenate(parts)))
    return runs


def _write_record(path: Path, run: Run, marks: Sequence[Mark]) -> Path:
    """The header, the samples and, where there are any, the annotations of one record; returns the header's path."""
    columns = [_counts(run.samples[:, column]) for column in range(run.samples.shape[1])]
    np.stack([counts for counts, _, _ in columns], axis=1).astype("<i2").tofile(path.with_name(f"{path.name}.dat"))
    began = datetime.fromtimestamp(run.t0_ns // NS_PER_S, UTC)
    stream = run.stream
    ms = run.t0_ns % NS_PER_S // 1_000_000
    shape = f"{path.name} {len(columns)} {stream.rate_hz:.12g} {len(run.samples)}"
    lines = [f"{shape} {began:%H:%M:%S}.{ms:03d} {began:%d/%m/%Y}"]
    off = 0.0
    for (counts, gain, error), name in zip(columns, stream.channels, strict=True):
        checksum = int(counts.sum()) & 0xFFFF
        unit = stream.unit.replace(" ", "_")
        checksum -= 0x1_0000 if checksum > MOST else 0
        label = name or stream.channel
        lines.append(f"{path.name}.dat 16 {gain!r}(0)/{unit} 16 0 {counts[0]} {checksum} 0 {label}")
        off = max(off, error)
    lines += [
        f"# patient: {stream.patient}",
        f"# device: {stream.device}",
        f"# first sample at: {run.t0_ns} ns since 1970-01-01T00:00:00Z",
        f"# samples: {'exactly as they came' if not off else f'at most {off:.3g} {stream.unit} off'}",
        "# research software, not a medical device",
    ]
    header = path.with_name(f"{path.name}.hea")
    header.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _annotate(path.with_name(f"{path.name}.{ANNOTATOR}"), run, marks)
    return header


def _annotate(path: Path, run: Run, marks: Sequence[Mark]) -> None:
    """Each event of an alert as a comment where it was decided."""
    within = sorted((mark for mark in marks if run.t0_ns <= mark.at_ns <= run.end_ns), key=lambda mark: mark.at_ns)
    samples = [round((mark.at_ns - run.t0_ns) * run.stream.rate_hz / NS_PER_S) for mark in within]
    samples = [min(sample, len(run.samples) - 1) for sample in samples]
    write_annotations(path, samples, ['"'] * len(within), aux=[_note(mark) for mark in within])


def _note(mark: Mark) -> str:
    """What fits into an annotation: 255 characters of Latin-1."""
    late = " late" if mark.late else ""
    text = f"{mark.phase}{late} {mark.rule} {mark.priority} {mark.alert_id}: {mark.text}"
    return text.encode("latin-1", "replace").decode("latin-1")[:255]


def _counts(samples: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], float, float]:
    """Samples of one channel as 16-bit counts, counts a unit, and by how much the counts are off at most."""
    valid = np.isfinite(samples)
    values = samples[valid].astype(np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    best: tuple[npt.NDArray[np.int64], float, float] | None = None
    finest = MOST / largest if largest else 1000.0
    for gain in (*_shown_gains(values), *_GAINS, float(f"{finest * 0.994:.3g}") if finest < 1e9 else 1e9):
        if largest * gain > MOST:
            continue
        counts = np.rint(values * gain).astype(np.int64)
        error = float(np.abs((counts / gain).astype(np.float32) - samples[valid]).max(initial=0.0))
        if best is None or error < best[2]:
            best = (counts, gain, error)
        if error == 0:
            break
    assert best is not None  # noqa: S101 (the last gain always fits)
    out = np.full(len(samples), INVALID, np.int64)
    out[valid] = best[0]
    return out, best[1], best[2]


def _shown_gains(values: npt.NDArray[np.float64]) -> list[float]:
    """Counts a unit that the least step between samples speaks for."""
    steps = np.diff(np.unique(values))
    steps = steps[steps > 1e-7 * max(1.0, float(np.abs(values).max(initial=0.0)))]
    if not len(steps):
        return []
    gain = 1.0 / float(steps.min())
    return [float(f"{gain:.{digits}g}") for digits in (2, 3, 4, 6)]


def _write_readings(path: Path, chunks: Sequence[Chunk]) -> Path:
    """Single readings, as `vagus replay` reads them where they are of glucose."""
    stream = chunks[0].stream
    column = "glucose_mg_dl" if stream.kind == "cgm" else stream.kind
    lines = [f"timestamp,{column}"]
    for chunk in sorted(chunks, key=lambda chunk: chunk.t0_ns):
        at = datetime.fromtimestamp(chunk.t0_ns // NS_PER_S, UTC)
        stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{chunk.t0_ns % NS_PER_S // 1000:06d}+00:00"
        lines.append(f"{stamp},{chunk.samples[0, 0]:.9g}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
