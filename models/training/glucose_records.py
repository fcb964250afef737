"""Whose glucose readings the pack may be made from, and how they are read: as the live track would accept them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.ingest.glucose_csv import glucose_root, read_glucose_csv
from agent.scoring.glucose import Grid, on_grid
from agent.signal.glucose import GlucoseTrack
from firmware_bridge.chunk import NS_PER_S
from models.training.datasets import RefusedRecordError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# fmt: off
TRAINABLE: dict[str, tuple[str, ...]] = {
    "AZT1D": tuple(
        f"Subject_{number}"
        for number in (1, 2, 3, 5, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 19, 21, 22, 23, 25)
    ),
    "Bris-T1D_Open": tuple(
        f"P{number:02d}" for number in (1, 3, 5, 6, 7, 10, 11, 13, 16, 17, 18, 19, 21, 22, 23, 24)
    ),
    "T1D-UOM": tuple(
        f"UoMGlucose{number}"
        for number in (2301, 2302, 2305, 2306, 2307, 2308, 2309, 2310, 2314, 2401, 2403, 2404, 2405)
    ),
}
# fmt: on
"""Per set, the only people who may be learnt from; the others of these sets, and another site, judge."""
INTERVAL_S = 300.0
LONG_INTERVAL_S = 900.0
LONG_FROM_S = 450.0
"""Whose readings are further apart in the median wears a sensor of 15 minutes."""


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person's accepted readings."""

    dataset: str
    name: str
    times_ns: Int64
    """(n,) strictly ascending; the clock of the wall, taken for UTC."""
    mg_dl: Float64
    """(n,)."""

    @property
    def patient(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def grid(self) -> Grid:
        """The readings on the protocol's grid; `Grid.reading` are indices into these."""
        return on_grid(self.times_ns / NS_PER_S, self.mg_dl)


def subjects() -> Iterator[tuple[str, str]]:
    """Set and name of everybody in TRAINABLE."""
    return ((dataset, name) for dataset, names in TRAINABLE.items() for name in names)


def read_person(data: Path, dataset: str, name: str) -> Person:
    """From `data`, a folder with AZT1D/, Bris-T1D_Open/ and T1D-UOM/, or with glucose/ that holds them.

    Raises RefusedRecordError for somebody who is not listed, RecordError or OSError where the file cannot be read.
    """
    if name not in TRAINABLE.get(dataset, ()):
        raise RefusedRecordError(f"{dataset}/{name} is not one of the people a pack may be made from")
    file = read_glucose_csv(glucose_root(data) / dataset / f"{name}.csv")
    rows = file.readings
    times_ns, mg_dl = accepted(file.t_ns[rows], file.mg_dl[rows])
    return Person(dataset, name, times_ns, mg_dl)


def accepted(times_ns: Int64, mg_dl: Float64) -> tuple[Int64, Float64]:
    """The readings that the live track calls new, each with its first value; in the order in which they came."""
    apart_s = np.diff(times_ns) / NS_PER_S
    apart_s = apart_s[apart_s > 0]
    sparse = len(apart_s) > 0 and float(np.median(apart_s)) > LONG_FROM_S
    track = GlucoseTrack(LONG_INTERVAL_S if sparse else INTERVAL_S)
    new = [
        pushed.glucose is not None
        for pushed in itertools.starmap(track.push, zip(times_ns.tolist(), mg_dl.tolist(), strict=True))
    ]
    return times_ns[new], mg_dl[new]


def folds(people: Iterable[str], count: int, seed: int) -> list[frozenset[str]]:
    """`count` disjoint parts of the people, each with about as many of every set."""
    rng = np.random.default_rng(seed)
    parts: list[set[str]] = [set() for _ in range(count)]
    place = 0
    by_set = itertools.groupby(sorted(people), key=lambda patient: patient.partition("/")[0])
    for _, group in by_set:
        for patient in rng.permutation(list(group)).tolist():
            parts[place % count].add(patient)
            place += 1
    return [frozenset(part) for part in parts]


def sites(people: Iterable[str]) -> list[frozenset[str]]:
    """Everybody of one set each: who is answered by a network that saw nobody of it."""
    return [frozenset(p for p in people if p.startswith(f"{dataset}/")) for dataset in TRAINABLE]
