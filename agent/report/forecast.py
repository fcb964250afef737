"""How the forecasts did: what was expected after each reading, against what came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.report.period import AlarmRow, Float64, Int64, Outlooks, Period, Readings
from agent.signal.outlook import LOW_MG_DL
from firmware_bridge.chunk import NS_PER_S

SAME_NS = 150 * NS_PER_S
"""A reading this near to the minute that was forecast is the one that came."""
WARNED_WITHIN_NS = 30 * 60 * NS_PER_S
EARLY_NS = 15 * 60 * NS_PER_S
AGAIN_BELOW_S = 600.0
"""A low is one where a second reading below is no further than this from the first."""
PREDICTED_LOW = "predicted_low"


@dataclass(frozen=True, slots=True)
class Horizon:
    """The forecasts for so many minutes ahead."""

    minutes: int
    pairs: int
    """Forecasts for whose minute a reading came."""
    rmse_mg_dl: float | None
    last_value_rmse_mg_dl: float | None
    """What it would have been had the reading been taken for the forecast."""
    bias_mg_dl: float | None
    """Mean of forecast minus what came."""
    interval_percent: float | None
    """Share of readings inside the interval that was to hold nine of ten."""


@dataclass(frozen=True, slots=True)
class Lows:
    """Lows that came, and warnings of lows."""

    came: int
    """Below 70 mg/dL twice within ten minutes, none in the half hour before."""
    warned: int
    """Of those, with the warning on at some time in the half hour before."""
    early: int
    """Of those, warned a quarter of an hour before or earlier."""
    warnings: int
    """Warnings given, those said again included; without those whose half hour is not over."""
    false: int
    """Of those, without a reading below 70 in the half hour after."""
    usable_days: float
    """Days for which there were outlooks to warn by."""

    @property
    def false_per_day(self) -> float | None:
        return self.false / self.usable_days if self.usable_days else None


@dataclass(frozen=True, slots=True)
class Forecasts:
    outlooks: int
    horizons: tuple[Horizon, ...]
    lows: Lows


def forecasts_of(period: Period) -> Forecasts:
    outlooks, readings = period.outlooks, period.readings
    horizons = (
        _horizon(30, outlooks, outlooks.after_30_min, readings),
        _horizon(60, outlooks, outlooks.after_60_min, readings),
    )
    usable_days = float(outlooks.usable.sum()) * period.interval_s / 86_400
    return Forecasts(len(outlooks.t_ns), horizons, _lows(readings, period, usable_days))


def _horizon(minutes: int, outlooks: Outlooks, expected: Float64, readings: Readings) -> Horizon:
    came = _at(readings, outlooks.t_ns + minutes * 60 * NS_PER_S)
    now = _at(readings, outlooks.t_ns)
    known = np.isfinite(came) & np.isfinite(expected[:, 0]) & np.isfinite(now)
    if not known.any():
        return Horizon(minutes, 0, None, None, None, None)
    error = expected[known, 0] - came[known]
    inside = (expected[known, 1] <= came[known]) & (came[known] <= expected[known, 2])
    return Horizon(
        minutes=minutes,
        pairs=int(known.sum()),
        rmse_mg_dl=_rms(error),
        last_value_rmse_mg_dl=_rms(now[known] - came[known]),
        bias_mg_dl=float(error.mean()),
        interval_percent=100.0 * float(inside.mean()),
    )


def _at(readings: Readings, t_ns: Int64) -> Float64:
    """The reading nearest to each instant, NaN where none is within SAME_NS."""
    if not len(readings.t_ns):
        return np.full(len(t_ns), np.nan)
    after = np.clip(np.searchsorted(readings.t_ns, t_ns), 1, max(1, len(readings.t_ns) - 1))
    choices = np.stack([after - 1, np.minimum(after, len(readings.t_ns) - 1)])
    apart_ns = np.abs(readings.t_ns[choices] - t_ns)
    nearest = choices[apart_ns.argmin(axis=0), np.arange(len(t_ns))]
    found: Float64 = np.where(apart_ns.min(axis=0) <= SAME_NS, readings.mg_dl[nearest], np.nan)
    return found


def _lows(readings: Readings, period: Period, usable_days: float) -> Lows:
    below_ns = readings.t_ns[readings.mg_dl < LOW_MG_DL]
    onsets = [onset for onset in low_onsets(below_ns, period.interval_s) if onset <= period.until_ns]
    rows = [row for row in period.alarms if row.rule == PREDICTED_LOW and not row.late]
    spans = _spans(rows, period.until_ns)
    ahead_ns = [_warned_before(onset, spans) for onset in onsets]
    known_until_ns = int(readings.t_ns[-1]) + round(period.interval_s * NS_PER_S) if len(readings.t_ns) else 0
    said = [
        row.at_ns
        for row in rows
        if row.phase in {"start", "continue"} and row.at_ns + WARNED_WITHIN_NS <= known_until_ns
    ]
    false = sum(not _any_between(below_ns, at_ns, at_ns + WARNED_WITHIN_NS) for at_ns in said)
    return Lows(
        came=len(onsets),
        warned=sum(ahead is not None for ahead in ahead_ns),
        early=sum(ahead is not None and ahead >= EARLY_NS for ahead in ahead_ns),
        warnings=len(said),
        false=false,
        usable_days=usable_days,
    )


def low_onsets(below_ns: Int64, interval_s: float) -> list[int]:
    """When lows began, from the times of all readings below the limit."""
    again_ns = round(max(AGAIN_BELOW_S, 1.5 * interval_s) * NS_PER_S)
    onsets = []
    for k, t_ns in enumerate(below_ns.tolist()):
        is_first = k == 0 or t_ns - int(below_ns[k - 1]) > WARNED_WITHIN_NS
        if is_first and k + 1 < len(below_ns) and int(below_ns[k + 1]) - t_ns <= again_ns:
            onsets.append(t_ns)
    return onsets


def _spans(rows: list[AlarmRow], until_ns: int) -> list[tuple[int, int]]:
    """From when to when each warning was on."""
    began = {row.alert_id: row.at_ns for row in rows if row.phase == "start"}
    ended = {row.alert_id: row.at_ns for row in rows if row.phase == "end"}
    return [(at_ns, ended.get(name, until_ns)) for name, at_ns in began.items()]


def _warned_before(onset_ns: int, spans: list[tuple[int, int]]) -> int | None:
    """How long before a low the warning was first on within the half hour; None where it was not."""
    first = [
        max(start_ns, onset_ns - WARNED_WITHIN_NS)
        for start_ns, end_ns in spans
        if start_ns < onset_ns and end_ns >= onset_ns - WARNED_WITHIN_NS
    ]
    return onset_ns - min(first) if first else None


def _any_between(times_ns: Int64, after_ns: int, until_ns: int) -> bool:
    return bool(np.searchsorted(times_ns, after_ns, side="right") < np.searchsorted(times_ns, until_ns, side="right"))


def _rms(error: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(error**2)))
