"""Files of glucose readings: `<set>/<subject>.csv` with the columns `timestamp,glucose_mg_dl`, one reading a row."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.alarms.local_time import LocalTime
from agent.ingest.wfdb import RecordError
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

COLUMNS = ["timestamp", "glucose_mg_dl"]
FOLDER = "glucose"
RECORDED = LocalTime("as recorded", ((0, 0),))
"""Files give local times mostly, and no zone: what is read as UTC is the time of day there."""
LONG_INTERVAL_S = 450.0
"""A sensor with readings further apart than this for half of the time is one of 15 minutes, scanned between or not."""
LONGEST_APART_S = 1200.0
"""What is further apart has a gap between."""
FIRST_YEAR, LAST_YEAR = 1970, 2199
"""Times that fit 64 bits of nanoseconds, with room."""


@dataclass(frozen=True, slots=True, eq=False)
class GlucoseFile:
    """The rows of one person's file, in its order, those that are no reading included."""

    subject: str
    """`<set>/<subject>`."""
    timestamps: tuple[str, ...]
    """(n,) as they stand in the file."""
    texts: tuple[str, ...]
    """(n,) the readings, likewise."""
    t_ns: npt.NDArray[np.int64]
    """(n,) UTC; 0 where the row is no reading. A time without a zone is taken to be UTC."""
    mg_dl: npt.NDArray[np.float64]
    """(n,) nan where the row is no reading."""
    faults: tuple[str, ...]
    """What is wrong with each of those, with file and line."""

    @property
    def readings(self) -> npt.NDArray[np.int64]:
        """Indices of the rows that are readings, in the file's order."""
        return np.flatnonzero(np.isfinite(self.mg_dl))

    def stream(self, patient: str | None = None) -> Stream:
        """The sensor, with the interval that its owner would have configured; of `subject` where nobody is named."""
        apart_s = np.sort(np.diff(np.sort(self.t_ns[self.readings]) / NS_PER_S))
        apart_s = apart_s[apart_s <= LONGEST_APART_S]
        passed_s = np.cumsum(apart_s)
        half = np.searchsorted(passed_s, passed_s[-1] / 2) if len(passed_s) else 0
        interval_s = 900.0 if len(apart_s) and apart_s[half] > LONG_INTERVAL_S else 300.0
        return Stream(patient or self.subject, "replay", "cgm", "cgm", "mg/dL", 0.0, ("",), interval_s)

    def chunks(self, stream: Stream) -> Iterator[Chunk]:
        """Every reading as a chunk of `stream`, in the file's order."""
        rows = self.readings
        samples = self.mg_dl[rows].astype(np.float32)[:, None]
        for k, t_ns in enumerate(self.t_ns[rows].tolist()):
            yield Chunk(stream, t_ns, samples[k : k + 1])


def glucose_files(folder: Path) -> list[str]:
    """The subjects `<set>/<subject>` in a folder of sets, in order of name; `folder` may also be the one it lies in."""
    root = glucose_root(folder)
    return [f"{path.parent.name}/{path.stem}" for path in sorted(root.glob("*/*.csv"))]


def glucose_root(folder: Path) -> Path:
    """`folder`, or the folder "glucose" in it where that is there."""
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def read_glucose_csv(path: Path) -> GlucoseFile:
    """One person's readings.

    A bad row is left out and told of in `faults`: it costs nothing else. Whether a value can be glucose is not judged
    here. Raises RecordError where the file is no such table, OSError where it cannot be read.
    """
    timestamps: list[str] = []
    texts: list[str] = []
    t_ns: list[int] = []
    mg_dl: list[float] = []
    faults: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines)
            header = [name.strip() for name in next(rows, [])]
            if header != COLUMNS:
                raise RecordError(path, f"the columns are {','.join(header)!r}, not {','.join(COLUMNS)!r}", 1)
            for row in rows:
                if not row:
                    continue
                try:
                    reading = _reading(row)
                except ValueError as fault:
                    faults.append(f"{path}:{rows.line_num}: {fault}")
                    reading = (0, math.nan)
                timestamps.append(row[0])
                texts.append(row[1] if len(row) > 1 else "")
                t_ns.append(reading[0])
                mg_dl.append(reading[1])
    except (UnicodeDecodeError, csv.Error) as fault:
        raise RecordError(path, f"is no text of comma-separated values: {fault}") from fault
    return GlucoseFile(
        f"{path.parent.name}/{path.stem}",
        tuple(timestamps),
        tuple(texts),
        np.array(t_ns, dtype=np.int64),
        np.array(mg_dl, dtype=np.float64),
        tuple(faults),
    )


def _reading(row: list[str]) -> tuple[int, float]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} columns, not {len(COLUMNS)}")
    at = datetime.fromisoformat(row[0].strip())
    zoned = at if at.tzinfo else at.replace(tzinfo=UTC)
    value = float(row[1])
    if not math.isfinite(value):
        raise ValueError(f"{row[1]!r} is no glucose value")
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"{row[0]!r} is no time of {FIRST_YEAR} to {LAST_YEAR}")
    seconds = round(zoned.replace(microsecond=0).timestamp())
    return seconds * NS_PER_S + zoned.microsecond * 1000, value
