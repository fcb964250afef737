"""All numbers of a report: what `--json` prints, and what the page shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agent.report.alarms import AlarmTable, alarms_of
from agent.report.forecast import Forecasts, forecasts_of
from agent.report.heart import Heart, heart_of
from agent.report.period import Period
from agent.signal.glycaemia import Glycaemia, Measures, Profile, glycaemia, measures, profile

LEAST_DAYS_OF_PROFILE = 5
"""Days with readings below which percentiles say less than the days themselves."""


@dataclass(frozen=True, slots=True)
class GlucoseDay:
    """One local day of readings."""

    day: str
    readings: int
    measures: Measures | None
    """Of what readings there are; None without any."""


@dataclass(frozen=True, slots=True)
class GlucoseSummary:
    over: Glycaemia
    interval_s: float
    back_filled: int
    doubted: int
    lowest_mg_dl: float
    highest_mg_dl: float
    by_day: tuple[GlucoseDay, ...]
    profile: Profile
    days_with_readings: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One person's report in numbers; glucose, forecasts and heart are None where there is nothing to say."""

    patient: str
    days: int
    first_day: str
    last_day: str
    until: str
    """Local wall time of the newest data."""
    zone: str
    glucose: GlucoseSummary | None
    forecasts: Forecasts | None
    heart: Heart | None
    alarms: AlarmTable

    @property
    def is_empty(self) -> bool:
        return self.glucose is None and self.heart is None and not self.alarms.rules


def summarise(period: Period) -> Summary:
    return Summary(
        patient=period.patient,
        days=period.days,
        first_day=period.first_day.isoformat(),
        last_day=period.date_of(period.days - 1).isoformat(),
        until=period.local_datetime(period.until_ns).isoformat(sep=" ", timespec="minutes"),
        zone=period.local.zone,
        glucose=_glucose(period),
        forecasts=forecasts_of(period) if len(period.outlooks.t_ns) else None,
        heart=heart_of(period),
        alarms=alarms_of(period),
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as JSON holds it: no NaN, arrays as lists."""
    plain: dict[str, Any] = _plain(asdict(summary))
    return plain


def _glucose(period: Period) -> GlucoseSummary | None:
    inside = period.inside
    if not len(inside.t_ns):
        return None
    offset_s = period.local.offset_s
    over = glycaemia(
        inside.t_ns,
        inside.mg_dl,
        days=period.days,
        interval_s=period.interval_s,
        until_ns=period.until_ns,
        offset_s=offset_s,
    )
    day = period.local_minutes(inside.t_ns) // 1440
    by_day = tuple(_day(period, k, inside.mg_dl[day == k]) for k in range(period.days))
    return GlucoseSummary(
        over=over,
        interval_s=period.interval_s,
        back_filled=int((~inside.in_time).sum()),
        doubted=int(inside.doubted.sum()),
        lowest_mg_dl=float(inside.mg_dl.min()),
        highest_mg_dl=float(inside.mg_dl.max()),
        by_day=by_day,
        profile=profile(inside.t_ns, inside.mg_dl, offset_s=offset_s),
        days_with_readings=sum(one.readings > 0 for one in by_day),
    )


def _day(period: Period, day: int, mg_dl: np.ndarray[Any, np.dtype[np.float64]]) -> GlucoseDay:
    return GlucoseDay(period.date_of(day).isoformat(), len(mg_dl), measures(mg_dl) if len(mg_dl) else None)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _plain(one) for key, one in value.items()}
        case np.ndarray():
            return _plain(value.tolist())
        case list() | tuple():
            return [_plain(one) for one in value]
        case float():
            return round(value, 6) if math.isfinite(value) else None
        case _:
            return value
