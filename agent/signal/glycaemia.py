"""How a person's glucose went over the last days: the consensus measures, how far they can be trusted, and a usual day.

Ranges and the 70 % of readings below which nothing is said: Battelino et al., Diabetes Care 2019;42:1593. GMI:
Bergenstal et al., Diabetes Care 2018;41:2275. LBGI and HBGI: Kovatchev et al., Diabetes Care 1997;20:1655 and
1998;21:1870. GRI: Klonoff et al., J Diabetes Sci Technol 2023;17:1226. Ambulatory glucose profile: Johnson et al.,
Diabetes Technol Ther 2019;21:S2-17.

The running agent keeps sums by day (`DailySums`), a report has the readings (`glycaemia`); both give the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import NS_PER_S

LONGEST_DAYS = 90
SUFFICIENT_COVERAGE = 0.7
BELOW_54, BELOW_70, ABOVE_180, ABOVE_250 = 53.5, 69.5, 180.5, 250.5
"""The ranges hold for whole mg/dL, as they are shown: 10.0 mmol/L are 180.156 mg/dL, and both stand for the same end of
the range."""
PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)

Float64 = npt.NDArray[np.float64]
Offset = float | Callable[[int], float]
"""Seconds that local time is ahead of UTC: always, or at a UTC time in ns. It says where a day begins."""

_MINUTE_NS = 60 * NS_PER_S
_DAY_MIN = 1440


@dataclass(frozen=True, slots=True)
class Measures:
    """What is computed from n ≥ 1 readings; every `_percent` but CV and GMI is a share of the readings."""

    mean_mg_dl: float
    sd_mg_dl: float
    """Sample standard deviation; 0 of one reading."""
    cv_percent: float
    gmi_percent: float
    """Glucose management indicator: the HbA1c that so high a mean usually goes with."""
    below_54_percent: float
    below_70_percent: float
    """Those below 54 among them."""
    in_range_percent: float
    """70 to 180 mg/dL."""
    above_180_percent: float
    """Those above 250 among them."""
    above_250_percent: float
    lbgi: float
    hbgi: float
    gri_hypo: float
    """The GRI's hypoglycaemia component, in percent; its weight is 3.0 ..."""
    gri_hyper: float
    """... and the hyperglycaemia component, whose weight is 1.6."""
    gri: float
    """Glycaemia risk index, 0 to 100."""


@dataclass(frozen=True, slots=True)
class Glycaemia:
    """The measures over a number of days."""

    days: int
    """The local day that is asked about and those before it."""
    readings: int
    coverage: float
    """Share of these days, until now, for which there are readings: 0 to 1."""
    measures: Measures | None
    """None: insufficient data."""


def measures(mg_dl: npt.ArrayLike) -> Measures:
    """The measures of readings (n,) in mg/dL, n ≥ 1; raises ValueError without any, or where one is not finite."""
    readings = np.asarray(mg_dl, np.float64).ravel()
    if not readings.size or not np.isfinite(readings).all():
        raise ValueError(f"measures need finite readings, got {readings.size}")
    return _measures(_terms(readings).sum(axis=0))


def glycaemia(
    times_ns: npt.ArrayLike,
    mg_dl: npt.ArrayLike,
    *,
    days: int,
    interval_s: float,
    until_ns: int | None = None,
    offset_s: Offset = 0.0,
) -> Glycaemia:
    """The measures over the local day of `until_ns` (else of the newest reading) and the days before it.

    Takes readings (n,) in any order: UTC ns, mg/dL; later ones than `until_ns` do not count.
    """
    times = np.asarray(times_ns, np.int64).ravel()
    readings = np.asarray(mg_dl, np.float64).ravel()
    if until_ns is None:
        until_ns = int(times.max()) if times.size else 0
    end = _minute(until_ns, offset_s)
    start = _window_start(end, days)
    minutes = _local_s(times, offset_s) // 60
    used = (minutes >= start) & (times <= until_ns)
    near = minutes[(minutes > start - _DAY_MIN) & (times <= until_ns)]
    covered = np.unique(near[:, np.newaxis] + np.arange(_span(interval_s)))
    covered_min = int(np.count_nonzero((covered >= start) & (covered < end)))
    return _over(days, _terms(readings[used]).sum(axis=0), covered_min, end - start)


@dataclass(slots=True)
class _Day:
    """One local day."""

    sums: list[float] = field(default_factory=lambda: [0.0] * _TERMS)
    covered: int = 0
    """Bit k: whether a reading speaks for the day's minute k."""


@dataclass(slots=True)
class DailySums:
    """The last LONGEST_DAYS local days of one person; plain data, about 26 kB pickled when full.

    Readings come in any order, each once: the track knows which is a repetition (kind "duplicate") and what a
    corrected one replaces.
    """

    interval_s: float
    """Expected time between readings."""
    days: dict[int, _Day] = field(default_factory=dict)
    """By the number of the local day since 1970."""

    def add(self, t_ns: int, mg_dl: float, offset_s: Offset = 0.0) -> None:
        """Count one more reading: UTC ns, mg/dL."""
        minute = _minute(t_ns, offset_s)
        if not self._holds(minute // _DAY_MIN):
            return
        self._count(minute // _DAY_MIN, mg_dl, 1.0)
        self._cover(minute)
        self._forget()

    def revise(self, t_ns: int, before_mg_dl: float, mg_dl: float, offset_s: Offset = 0.0) -> None:
        """Put a corrected reading in the place of what it was."""
        day = _minute(t_ns, offset_s) // _DAY_MIN
        if day in self.days:
            self._count(day, before_mg_dl, -1.0)
            self._count(day, mg_dl, 1.0)

    def glycaemia(self, days: int, until_ns: int, offset_s: Offset = 0.0) -> Glycaemia:
        """The measures over the local day of `until_ns`, at or after the newest reading, and the days before it."""
        end = _minute(until_ns, offset_s)
        start = _window_start(end, days)
        sums = np.zeros(_TERMS)
        covered = 0
        for number in range(start // _DAY_MIN, end // _DAY_MIN + 1):
            if (day := self.days.get(number)) is not None:
                sums += day.sums
                covered += (day.covered & _first_minutes(end - number * _DAY_MIN)).bit_count()
        return _over(days, sums, covered, end - start)

    def _holds(self, number: int) -> bool:
        return not self.days or number > max(self.days) - LONGEST_DAYS

    def _count(self, number: int, mg_dl: float, weight: float) -> None:
        day = self.days.setdefault(number, _Day())
        terms = _terms(np.array([mg_dl], np.float64))[0].tolist()
        day.sums = [total + weight * term for total, term in zip(day.sums, terms, strict=True)]

    def _cover(self, minute: int) -> None:
        span = (1 << _span(self.interval_s)) - 1
        while span:
            number, first = divmod(minute, _DAY_MIN)
            day = self.days.setdefault(number, _Day())
            day.covered |= (span << first) & _first_minutes(_DAY_MIN)
            span >>= _DAY_MIN - first
            minute += _DAY_MIN - first

    def _forget(self) -> None:
        oldest = max(self.days) - LONGEST_DAYS
        for number in [number for number in self.days if number <= oldest]:
            del self.days[number]


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A usual day: the ambulatory glucose profile."""

    minute_of_day: npt.NDArray[np.int64]
    """(k,) local minutes since midnight, the middle of each window."""
    mg_dl: Float64
    """(5, k): the PERCENTILES of the readings in that window of all days; NaN where they are fewer than `least`."""
    readings: npt.NDArray[np.int64]
    """(k,) how many there are."""


def profile(
    times_ns: npt.ArrayLike,
    mg_dl: npt.ArrayLike,
    *,
    offset_s: Offset = 0.0,
    step_min: int = 15,
    width_min: int = 60,
    least: int = 5,
) -> Profile:
    """The ambulatory glucose profile of readings (n,): every `step_min`, over a window `width_min` wide around it."""
    readings = np.asarray(mg_dl, np.float64).ravel()
    second = _local_s(np.asarray(times_ns, np.int64).ravel(), offset_s) % (_DAY_MIN * 60)
    centres = np.arange(0, _DAY_MIN, step_min)
    out = np.full((len(PERCENTILES), len(centres)), np.nan)
    counts = np.zeros(len(centres), np.int64)
    for k, centre in enumerate(centres):
        from_middle = (second - centre * 60 + _DAY_MIN * 30) % (_DAY_MIN * 60) - _DAY_MIN * 30
        inside = readings[(from_middle >= -width_min * 30) & (from_middle < width_min * 30)]
        counts[k] = inside.size
        if inside.size >= least:
            out[:, k] = np.percentile(inside, PERCENTILES)
    return Profile(centres, out, counts)


def _local_s(times_ns: npt.NDArray[np.int64], offset_s: Offset) -> npt.NDArray[np.int64]:
    """Whole seconds of local time since 1970, rounded down."""
    if callable(offset_s):
        ahead_ns = np.array([round(offset_s(t_ns) * NS_PER_S) for t_ns in times_ns.tolist()], np.int64)
    else:
        ahead_ns = np.full(times_ns.shape, round(offset_s * NS_PER_S), np.int64)
    return (times_ns + ahead_ns) // NS_PER_S


def _minute(t_ns: int, offset_s: Offset) -> int:
    """Minutes of local time since 1970."""
    ahead_s = offset_s(t_ns) if callable(offset_s) else offset_s
    return (t_ns + round(ahead_s * NS_PER_S)) // _MINUTE_NS


def _window_start(end: int, days: int) -> int:
    """First local minute of the day in which `end` is, and of the days before it."""
    if not 1 <= days <= LONGEST_DAYS:
        raise ValueError(f"days is {days}, expected 1 to {LONGEST_DAYS}")
    return (end // _DAY_MIN - days + 1) * _DAY_MIN


def _span(interval_s: float) -> int:
    """Minutes for which a reading speaks: until the next one is due, and at least two, for times are not so exact."""
    return min(max(2, round(interval_s / 60)), _DAY_MIN)


def _first_minutes(count: int) -> int:
    """Bits of the first `count` minutes of a day, of all of them at most."""
    return (1 << min(count, _DAY_MIN)) - 1


_TERMS = 9


def _terms(mg_dl: Float64) -> Float64:
    """What is summed of each of (n,) readings: (n, 9)."""
    # The risk scale ends at 20 and 600 mg/dL.
    scale = 1.509 * (np.log(np.clip(mg_dl, 20.0, 600.0)) ** 1.084 - 5.381)
    risk = 10.0 * scale**2
    return np.stack(
        [
            np.ones_like(mg_dl),
            mg_dl,
            mg_dl**2,
            mg_dl < BELOW_54,
            mg_dl < BELOW_70,
            mg_dl >= ABOVE_180,
            mg_dl >= ABOVE_250,
            np.where(scale < 0, risk, 0.0),
            np.where(scale > 0, risk, 0.0),
        ],
        axis=1,
    )


def _measures(sums: Sequence[float] | Float64) -> Measures:
    n, total, squares, below_54, below_70, above_180, above_250, low_risk, high_risk = (float(x) for x in sums)
    mean = total / n
    sd = math.sqrt(max(0.0, squares - total * mean) / (n - 1)) if n > 1 else 0.0
    share = _percent((below_54, below_70, above_180, above_250), n)
    hypo = share[0] + 0.8 * (share[1] - share[0])
    hyper = share[3] + 0.5 * (share[2] - share[3])
    return Measures(
        mean_mg_dl=mean,
        sd_mg_dl=sd,
        cv_percent=100.0 * sd / mean,
        gmi_percent=3.31 + 0.02392 * mean,
        below_54_percent=share[0],
        below_70_percent=share[1],
        in_range_percent=100.0 - share[1] - share[2],
        above_180_percent=share[2],
        above_250_percent=share[3],
        lbgi=low_risk / n,
        hbgi=high_risk / n,
        gri_hypo=hypo,
        gri_hyper=hyper,
        gri=min(100.0, 3.0 * hypo + 1.6 * hyper),
    )


def _percent(counts: Iterable[float], n: float) -> list[float]:
    return [100.0 * count / n for count in counts]


def _over(days: int, sums: Float64, covered_min: int, expected_min: int) -> Glycaemia:
    coverage = covered_min / expected_min if expected_min else 0.0
    readings = round(float(sums[0]))
    enough = readings > 0 and coverage >= SUFFICIENT_COVERAGE
    return Glycaemia(days, readings, coverage, _measures(sums) if enough else None)
