"""The ECG of a period in numbers: the heart's rate by hour of the day, ectopic beats, rhythm, and how much was seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.report.period import EcgRows, Period
from firmware_bridge.chunk import NS_PER_S

LEAST_INTERVALS = 60
"""So many intervals make the mean rate of five minutes one worth showing."""
RATE_PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
PAUSES = frozenset({"pause", "asystole"})
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HourOfDay:
    """One hour of the day over all days."""

    hour: int
    seen_percent: float
    """Share of that hour's time of which signal came ..."""
    usable_percent: float
    """... and could be judged."""
    bpm: tuple[float, ...] | None
    """RATE_PERCENTILES of the five-minute mean rates."""


@dataclass(frozen=True, slots=True)
class HeartDay:
    """One local day."""

    day: str
    seen_h: float
    usable_percent: float | None
    mean_bpm: float | None
    lowest_bpm: float | None
    """Of the five-minute means."""
    highest_bpm: float | None
    ventricular_percent: float | None
    fibrillation_percent: float | None


@dataclass(frozen=True, slots=True)
class Heart:
    """The whole period. Every share is None where there is nothing to share."""

    seen_h: float
    seen_percent: float
    """Share of the period."""
    usable_percent: float | None
    """Share of what was seen that passed the quality gate."""
    beats: int
    """On usable signal."""
    mean_bpm: float | None
    lowest_bpm: float | None
    highest_bpm: float | None
    ventricular_percent: float | None
    supraventricular_percent: float | None
    rhythm_h: float
    """Hours for which the rhythm was judged."""
    fibrillation_percent: float | None
    """Share of those that looked like atrial fibrillation."""
    longest_interval_s: float | None
    """Between two beats with no poor second between."""
    pauses: int
    """Alarms for a pause or an asystole that began, those found in late data included."""
    by_hour: tuple[HourOfDay, ...]
    by_day: tuple[HeartDay, ...]


def heart_of(period: Period) -> Heart | None:
    """None where no ECG was seen."""
    ecg = period.ecg
    if not len(ecg.start_ns):
        return None
    everything = np.ones(len(ecg.start_ns), np.bool_)
    span_s = (period.until_ns - period.start_ns) / NS_PER_S
    bpm = five_minute_bpm(ecg)
    known = bpm[np.isfinite(bpm)]
    longest = ecg.longest_s[np.isfinite(ecg.longest_s)]
    return Heart(
        seen_h=float(ecg.seen_s.sum()) / 3600,
        seen_percent=100.0 * float(ecg.seen_s.sum()) / span_s,
        usable_percent=_percent(ecg.good_s, ecg.seen_s, everything),
        beats=int(ecg.beats.sum()),
        mean_bpm=_mean_bpm(ecg, everything),
        lowest_bpm=float(known.min()) if known.size else None,
        highest_bpm=float(known.max()) if known.size else None,
        ventricular_percent=_percent(ecg.ventricular, ecg.beats, everything),
        supraventricular_percent=_percent(ecg.supraventricular, ecg.beats, everything),
        rhythm_h=float(ecg.rhythm_s.sum()) / 3600,
        fibrillation_percent=_percent(ecg.fibrillation_s, ecg.rhythm_s, everything),
        longest_interval_s=float(longest.max()) if longest.size else None,
        pauses=sum(row.phase == "start" and row.rule in PAUSES for row in period.alarms),
        by_hour=_by_hour(period, bpm),
        by_day=_by_day(period, bpm),
    )


def five_minute_bpm(ecg: EcgRows) -> npt.NDArray[np.float64]:
    """(n,) mean heart rate of each row, NaN where too few intervals say."""
    enough = ecg.intervals >= LEAST_INTERVALS
    return np.where(enough, 60.0 * ecg.intervals / np.where(enough, ecg.intervals_s, 1.0), np.nan)


def _by_hour(period: Period, bpm: npt.NDArray[np.float64]) -> tuple[HourOfDay, ...]:
    ecg = period.ecg
    hours = period.local_minutes(ecg.start_ns) % 1440 // 60
    last = period.local_datetime(period.until_ns)
    out = []
    for hour in range(24):
        own = hours == hour
        here = bpm[own & np.isfinite(bpm)]
        whole_days = period.days - 1 + (hour < last.hour)
        expected_s = 3600.0 * whole_days + (60.0 * last.minute + last.second if hour == last.hour else 0.0)
        percentiles = tuple(np.percentile(here, RATE_PERCENTILES).tolist()) if here.size else None
        seen, good = (
            100.0 * float(of[own].sum()) / expected_s if expected_s else 0.0 for of in (ecg.seen_s, ecg.good_s)
        )
        out.append(HourOfDay(hour, min(100.0, seen), min(100.0, good), percentiles))
    return tuple(out)


def _by_day(period: Period, bpm: npt.NDArray[np.float64]) -> tuple[HeartDay, ...]:
    ecg = period.ecg
    days = period.local_minutes(ecg.start_ns) // 1440
    out = []
    for day in range(period.days):
        own = days == day
        here = bpm[own & np.isfinite(bpm)]
        out.append(
            HeartDay(
                day=period.date_of(day).isoformat(),
                seen_h=float(ecg.seen_s[own].sum()) / 3600,
                usable_percent=_percent(ecg.good_s, ecg.seen_s, own),
                mean_bpm=_mean_bpm(ecg, own),
                lowest_bpm=float(here.min()) if here.size else None,
                highest_bpm=float(here.max()) if here.size else None,
                ventricular_percent=_percent(ecg.ventricular, ecg.beats, own),
                fibrillation_percent=_percent(ecg.fibrillation_s, ecg.rhythm_s, own),
            )
        )
    return tuple(out)


def _percent(part: npt.NDArray[np.float64], of: npt.NDArray[np.float64], rows: Mask) -> float | None:
    whole = float(of[rows].sum())
    return 100.0 * float(part[rows].sum()) / whole if whole else None


def _mean_bpm(ecg: EcgRows, rows: Mask) -> float | None:
    total_s = float(ecg.intervals_s[rows].sum())
    return 60.0 * float(ecg.intervals[rows].sum()) / total_s if total_s else None
