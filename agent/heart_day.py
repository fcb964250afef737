"""The last 24 hours of one person's heart in a few numbers: burdens, rate, pauses, and how much was seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from agent.uplink.evidence import rfc3339
from agent.uplink.messages import VitalMessage
from agent.vitals import Vital
from firmware_bridge.chunk import NS_PER_S

DAY_S = 86_400
LEAST_COVERAGE = 0.7
"""Below it a number is no statement about a day."""

_SUMS = (
    "SELECT COALESCE(SUM(good_s), 0), COALESCE(SUM(beats), 0), COALESCE(SUM(ventricular), 0),"
    " COALESCE(SUM(intervals), 0), COALESCE(SUM(intervals_s), 0), COALESCE(SUM(rhythm_s), 0),"
    " COALESCE(SUM(fibrillation_s), 0) FROM ecg WHERE patient = ? AND start_ns >= ? AND start_ns < ?"
)
_PAUSES = (
    "SELECT COUNT(DISTINCT alert_id) FROM alarm WHERE patient = ? AND rule IN ('pause', 'asystole')"
    " AND phase = 'start' AND onset_ns >= ? AND onset_ns < ?"
)


@dataclass(frozen=True, slots=True)
class HeartDay:
    """Sums over the day that ends at `end_ns`."""

    end_ns: int
    good_s: float
    beats: int
    ventricular: int
    intervals: int
    intervals_s: float
    rhythm_s: float
    fibrillation_s: float
    pauses: int

    @property
    def coverage(self) -> float:
        """Share of the day whose signal could be judged."""
        return min(1.0, self.good_s / DAY_S)


def heart_day(db: sqlite3.Connection, patient: str, end_ns: int) -> HeartDay:
    """From the history's file; raises sqlite3.Error."""
    span = (patient, end_ns - DAY_S * NS_PER_S, end_ns)
    sums: tuple[float, int, int, int, float, float, float] = db.execute(_SUMS, span).fetchone()
    pauses: int = db.execute(_PAUSES, span).fetchone()[0]
    return HeartDay(end_ns, *sums, pauses)


def heart_day_vitals(patient: str, day: HeartDay) -> Iterator[Vital]:
    """What there is to show of it; what rests on too little says so in `doubt`."""
    doubt = ""
    if day.coverage < LEAST_COVERAGE:
        doubt = f"insufficient data: {100 * day.coverage:.0f} % of the last 24 h could be judged"
    shown: list[tuple[str, float, str]] = []
    if day.beats:
        shown.append(("pvc_burden_24h", 100 * day.ventricular / day.beats, "%"))
    if day.rhythm_s:
        shown.append(("af_burden_24h", 100 * day.fibrillation_s / day.rhythm_s, "%"))
    if day.intervals_s:
        shown.append(("hr_mean_24h", 60 * day.intervals / day.intervals_s, "1/min"))
    if day.good_s:
        shown.append(("pauses_24h", float(day.pauses), "1"))
    for code, value, unit in shown:
        message = VitalMessage(
            patient=patient,
            code=code,
            value=round(value, 2),
            unit=unit,
            at=rfc3339(day.end_ns),
            late=False,
            quality=round(day.coverage, 3),
            doubt=doubt or None,
        )
        yield Vital(message, DAY_S)
