"""Glucose forecasts against the readings that came: the 5-minute grid, errors, the Clarke error grid, the interval.

The choices that the protocol leaves open:

- A slot is five minutes of the recorded clock about a full multiple of five minutes (phase 0, for everybody); a reading
  belongs to the nearest slot, a tie to the later one. Of several readings in one slot the latest stands for it, of
  several with the same time the first that came: that is the one a device had then.
- A value that no sensor gives (below 20, above 600 mg/dL) is no reading. Others are what they are, even where the
  sensor was wrong: a fall of one reading under compression is a low reading like any other.
- Only real readings are ever compared: "in 30 minutes" is the reading in the sixth slot after, or none.
- A sensor reads every 5 or every 15 minutes. Which one is worn on a day is told by the median distance of that day's
  readings from the one before (one slot, or more): it decides how many an hour should have had.
- A sample is usable with at least 75 % of those of the last hour, itself included: 9 of 12, or 3 of 4.
- Pooled figures weigh samples alike, so people with long records count more; per person they are given beside.
- Intervals are of a bootstrap over people, the unit that is independent, never over samples.

Pure functions on arrays; sums of one person are kept so that people can be added up and drawn again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SLOT_S = 300
SLOTS_A_DAY = 86400 // SLOT_S
SLOTS_AN_HOUR = 3600 // SLOT_S
LEAST_SHARE = 0.75
"""Of an hour's readings that must have come."""
LEAST_MG_DL, MOST_MG_DL = 20.0, 600.0
LOW_MG_DL = 70.0
ZONES = "ABCDE"
DRAWS = 2000
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One person's readings, one a slot; slots without a reading are left out. All arrays (n,), ascending in time."""

    slot: Int64
    """Which five minutes, counted from 1970."""
    reading: Int64
    """Index, among the readings as recorded, of the one that stands for the slot."""
    mg_dl: Float64
    interval_slots: Int64
    """1 where a sensor of 5 minutes was worn on that day, 3 where one of 15."""
    usable: Bool
    """Whether enough of the last hour came."""

    def at(self, slots: Int64) -> Float64:
        """The readings in other slots, of any shape, in mg/dL; nan where there is none."""
        if not len(self.slot):
            return np.full(slots.shape, np.nan)
        place = np.minimum(np.searchsorted(self.slot, slots), len(self.slot) - 1)
        return np.where(self.slot[place] == slots, self.mg_dl[place], np.nan)

    def ahead(self, minutes: int) -> Float64:
        """(n,) the reading exactly so many minutes later (earlier, below 0); nan where there is none."""
        return self.at(self.slot + minutes * 60 // SLOT_S)

    @property
    def days(self) -> float:
        """Days of usable samples, each as long as its sensor's interval."""
        return float(self.interval_slots[self.usable].sum()) / SLOTS_A_DAY


def on_grid(times_s: npt.ArrayLike, mg_dl: npt.ArrayLike) -> Grid:
    """Readings (m,) at `times_s` (seconds since 1970), in the order in which they were recorded, on the grid.

    Values that are no readings, or no number, stand for nothing. Raises ValueError when the two differ in length.
    """
    times, values = np.asarray(times_s, dtype=np.float64), np.asarray(mg_dl, dtype=np.float64)
    if times.shape != values.shape:
        raise ValueError(f"{times.shape} times but {values.shape} readings")
    known = np.flatnonzero((values >= LEAST_MG_DL) & (values <= MOST_MG_DL))
    # By time; where that is the same the first recorded comes last, and so stands for the slot.
    order = known[::-1][np.argsort(times[known[::-1]], kind="stable")]
    slots = np.floor(times[order] / SLOT_S + 0.5).astype(np.int64)
    last = np.diff(slots, append=slots[-1:] + 1) > 0
    slot, reading = slots[last], order[last].astype(np.int64)
    interval = _interval_slots(slot)
    seen = np.arange(len(slot)) - np.searchsorted(slot, slot - SLOTS_AN_HOUR + 1) + 1
    return Grid(slot, reading, values[reading], interval, seen >= LEAST_SHARE * SLOTS_AN_HOUR / interval)


def _interval_slots(slot: Int64) -> Int64:
    day = slot // SLOTS_A_DAY
    interval = np.ones(len(slot), dtype=np.int64)
    changes = (np.flatnonzero(np.diff(day)) + 1).tolist()
    for begin, end in itertools.pairwise([0, *changes, len(slot)]):
        distances = np.diff(slot[max(0, begin - 1) : end])
        if len(distances) and np.median(distances) > 1:
            interval[begin:end] = 3
    return interval


def clarke_zones(reference: npt.ArrayLike, predicted: npt.ArrayLike) -> Int64:
    """Zone of each pair in mg/dL as an index of ZONES (Clarke et al., Diabetes Care 1987; 10: 622-628).

    A point on a line between zones is in the better one for A, else in the worse: as the common implementations have
    it. Arrays of any one shape.
    """
    ref, said = np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    zone = np.full(ref.shape, ZONES.index("B"), dtype=np.int64)
    treats_none = (said >= 70) & (said <= 180)
    zone[((ref >= 240) | (ref <= 70)) & treats_none] = ZONES.index("D")
    overcorrects = (ref >= 70) & (ref <= 290) & (said >= ref + 110)
    zone[overcorrects | ((ref >= 130) & (ref <= 180) & (said <= 1.4 * ref - 182))] = ZONES.index("C")
    zone[((ref >= 180) & (said <= 70)) | ((ref <= 70) & (said >= 180))] = ZONES.index("E")
    zone[((ref <= 70) & (said <= 70)) | (np.abs(said - ref) <= 0.2 * ref)] = ZONES.index("A")
    return zone


@dataclass(frozen=True, slots=True, eq=False)
class ForecastScore:
    """Sums over samples. Fields are arrays of one shape: () for a person or all of them, (draws,) resampled."""

    n: Float64
    squared: Float64
    absolute: Float64
    relative: Float64
    n_low: Float64
    """Samples whose reference is below 70."""
    squared_low: Float64
    n_interval: Float64
    covered: Float64
    zone_a: Float64
    zone_b: Float64
    zone_c: Float64
    zone_d: Float64
    zone_e: Float64

    @property
    def rmse(self) -> Float64:
        """mg/dL; nan of nothing, as every figure here."""
        return np.sqrt(share(self.squared, self.n))

    @property
    def mae(self) -> Float64:
        """mg/dL."""
        return share(self.absolute, self.n)

    @property
    def mard(self) -> Float64:
        """Mean absolute difference as a share of the reference, 0 to 1."""
        return share(self.relative, self.n)

    @property
    def rmse_low(self) -> Float64:
        """RMSE where the reference is below 70 mg/dL."""
        return np.sqrt(share(self.squared_low, self.n_low))

    @property
    def coverage(self) -> Float64:
        """Share of the references inside the interval, ends included."""
        return share(self.covered, self.n_interval)

    def zone(self, name: str) -> Float64:
        """Share of the samples in a Clarke zone."""
        counts: dict[str, Float64] = {letter: getattr(self, f"zone_{letter.lower()}") for letter in ZONES}
        return share(counts[name], self.n)


def forecast_score(
    reference: npt.ArrayLike,
    predicted: npt.ArrayLike,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
) -> ForecastScore:
    """One person's forecasts (n,) against what came, in mg/dL; pairs with a nan are left out.

    `low`, `high`: the interval, where one was given. Raises ValueError when lengths differ.
    """
    ref, said = np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if ref.shape != said.shape:
        raise ValueError(f"{ref.shape} references but {said.shape} forecasts")
    nothing = np.full(ref.shape, np.nan)
    lower = nothing if low is None else np.asarray(low, dtype=np.float64)
    upper = nothing if high is None else np.asarray(high, dtype=np.float64)
    both = np.isfinite(ref) & np.isfinite(said)
    ref, said, lower, upper = ref[both], said[both], lower[both], upper[both]
    error = said - ref
    is_low, bounded = ref < LOW_MG_DL, np.isfinite(lower) & np.isfinite(upper)
    zones = np.bincount(clarke_zones(ref, said), minlength=len(ZONES))
    return ForecastScore(
        *(
            np.asarray(figure, dtype=np.float64)
            for figure in (
                len(ref),
                np.sum(error**2),
                np.sum(np.abs(error)),
                np.sum(np.abs(error) / ref),
                is_low.sum(),
                np.sum(error[is_low] ** 2),
                bounded.sum(),
                np.sum(bounded & (lower <= ref) & (ref <= upper)),
                *zones,
            )
        )
    )


Score = TypeVar("Score")
"""A dataclass of sums: its fields are arrays of one shape."""


def total(scores: Sequence[Score]) -> Score:
    """All people as one; raises ValueError of nobody."""
    return _combined(scores, np.ones(len(scores)))


def resampled(scores: Sequence[Score], draws: int = DRAWS, seed: int = SEED) -> Score:
    """Totals (draws,) of as many people drawn again with replacement, the same for the same number of people."""
    chances = np.full(len(scores), 1.0 / max(1, len(scores)))
    return _combined(scores, np.random.default_rng(seed).multinomial(len(scores), chances, size=draws))


def interval(figures: Float64) -> tuple[float, float]:
    """95 % interval of resampled figures; draws without a figure are left out."""
    known = figures[np.isfinite(figures)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _combined(scores: Sequence[Score], weights: npt.NDArray[np.float64] | Int64) -> Score:
    if not scores:
        raise ValueError("no scores to add")
    names = [one.name for one in fields(scores[0])]  # type: ignore[arg-type]
    sums = np.array([[getattr(score, name) for name in names] for score in scores], dtype=np.float64)
    added = weights @ sums
    return type(scores[0])(*(np.asarray(added[..., column]) for column in range(len(names))))


def share(part: Float64, of: Float64) -> Float64:
    """part / of; nan of nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(of > 0, part / np.where(of > 0, of, 1.0), np.nan))
