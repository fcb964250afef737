"""What the history holds of one person over some local days."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from agent.alarms.local_time import LocalTime
from agent.alerts.kept import Suppressed, suppressed
from agent.history.file import TIME_COLUMN, HistoryError, patients_in
from firmware_bridge.chunk import NS_PER_S

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

USUAL_INTERVAL_S = 300.0
SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S = 60.0, 900.0
AFTER_NS = 3600 * NS_PER_S
"""What came up to an hour after the period says whether the forecasts made in it were right."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Glucose readings, ascending in time."""

    t_ns: Int64
    mg_dl: Float64
    in_time: npt.NDArray[np.bool_]
    """False for those that were back-filled."""
    doubted: npt.NDArray[np.bool_]

    def until(self, t_ns: int) -> Readings:
        n = int(np.searchsorted(self.t_ns, t_ns, side="right"))
        return Readings(self.t_ns[:n], self.mg_dl[:n], self.in_time[:n], self.doubted[:n])


@dataclass(frozen=True, slots=True)
class Outlooks:
    """What was expected after readings, ascending in time; (n, 3) are mean, low and high end in mg/dL, NaN for none."""

    t_ns: Int64
    after_30_min: Float64
    after_60_min: Float64
    usable: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EcgRows:
    """Five minutes of ECG a row, ascending in time: columns of the history's table."""

    start_ns: Int64
    seen_s: Float64
    good_s: Float64
    beats: Float64
    ventricular: Float64
    supraventricular: Float64
    intervals: Float64
    intervals_s: Float64
    longest_s: Float64
    """Longest interval between two beats; NaN where there is none."""
    rhythm_s: Float64
    fibrillation_s: Float64


_ECG_COLUMNS = [field.name for field in fields(EcgRows)][1:]


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One transition of one alarm."""

    at_ns: int
    alert_id: str
    phase: str
    rule: str
    category: str
    priority: str
    onset_ns: int
    until_ns: int | None
    late: bool
    text: str


@dataclass(frozen=True, slots=True)
class Period:
    """One person's rows from a local midnight until an instant, forecasts' hour after it included."""

    patient: str
    days: int
    first_day: date
    start_ns: int
    until_ns: int
    """Of the newest data, or the end of the day that was asked for."""
    local: LocalTime
    readings: Readings
    outlooks: Outlooks
    ecg: EcgRows
    alarms: tuple[AlarmRow, ...]

    @property
    def is_empty(self) -> bool:
        return not (len(self.inside.t_ns) or len(self.ecg.start_ns) or self.alarms)

    @property
    def inside(self) -> Readings:
        """The readings of the period itself."""
        return self.readings.until(self.until_ns)

    @property
    def interval_s(self) -> float:
        """Usual time between readings, to the minute."""
        if len(self.readings.t_ns) < 2:
            return USUAL_INTERVAL_S
        spacing_s = float(np.median(np.diff(self.readings.t_ns))) / NS_PER_S
        return float(np.clip(60.0 * round(spacing_s / 60.0), SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S))

    def day_of(self, t_ns: int) -> int:
        """Number of the local day within the period: 0 for the first."""
        return (self.local_datetime(t_ns).date() - self.first_day).days

    def local_minutes(self, t_ns: Int64) -> Float64:
        """Minutes since the first day's midnight as a clock on the wall shows them: 1440 a day, (n,)."""
        offset_s = np.array([self.local.offset_s(t) for t in t_ns.tolist()], np.float64)
        midnight_s = (self.first_day - date(1970, 1, 1)).days * 86_400
        minutes: Float64 = (t_ns // NS_PER_S - midnight_s + offset_s) / 60.0
        return minutes

    def date_of(self, day: int) -> date:
        return self.first_day + timedelta(days=day)

    def local_datetime(self, t_ns: int) -> datetime:
        """Local wall time, without a zone."""
        return _wall(t_ns, self.local)


def patients_with_data(db: sqlite3.Connection) -> list[str]:
    """Of whom there are readings or an ECG."""
    return sorted({name for table in ("glucose", "ecg") for name in patients_in(db, table)})


def read_period(
    db: sqlite3.Connection, patient: str, days: int, local: LocalTime, *, now_ns: int, last_day: date | None = None
) -> Period:
    """The rows of the `days` local days up to that of the newest data, or up to the end of `last_day` where that is
    earlier; up to `now_ns` where nothing is kept of the person.

    All in one read transaction; it does not hold the file longer than it takes to copy the rows. Raises HistoryError
    where the file is damaged.
    """
    try:
        db.execute("BEGIN")
        try:
            return _read(db, patient, days, local, last_day, now_ns)
        finally:
            db.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"the history cannot be read: {error}") from error


def _read(
    db: sqlite3.Connection, patient: str, days: int, local: LocalTime, last_day: date | None, now_ns: int
) -> Period:
    until_ns = _newest(db, patient) or now_ns
    if last_day is not None:
        until_ns = min(until_ns, _midnight_ns(last_day + timedelta(days=1), local) - 1)
    first_day = _wall(until_ns, local).date() - timedelta(days=days - 1)
    start_ns = _midnight_ns(first_day, local)

    def rows(table: str, columns: str, end_ns: int) -> list[tuple[object, ...]]:
        column = TIME_COLUMN[table]
        return db.execute(
            f"SELECT {column}, {columns} FROM {table} WHERE patient = ? AND {column} BETWEEN ? AND ?"  # noqa: S608
            f" ORDER BY {column}",
            (patient, start_ns, end_ns),
        ).fetchall()

    def numbers(table: str, columns: str, end_ns: int) -> tuple[Int64, Float64]:
        """Times (n,) and the columns (n, k), NaN for none."""
        found = rows(table, columns, end_ns)
        times_ns = np.array([row[0] for row in found], np.int64)
        values = np.array([row[1:] for row in found], np.float64).reshape(len(found), columns.count(",") + 1)
        return times_ns, values

    read_ns, readings = numbers("glucose", "mg_dl, late = 0, doubt != ''", until_ns + AFTER_NS)
    said_ns, outlooks = numbers("outlook", "f30, f30_low, f30_high, f60, f60_low, f60_high, usable", until_ns)
    ecg_ns, ecg = numbers("ecg", ", ".join(_ECG_COLUMNS), until_ns)
    alarms = rows("alarm", "alert_id, phase, rule, category, priority, onset_ns, until_ns, late, text", until_ns)
    return Period(
        patient=patient,
        days=days,
        first_day=first_day,
        start_ns=start_ns,
        until_ns=until_ns,
        local=local,
        readings=Readings(read_ns, readings[:, 0], readings[:, 1] > 0, readings[:, 2] > 0),
        outlooks=Outlooks(said_ns, outlooks[:, 0:3], outlooks[:, 3:6], outlooks[:, 6] > 0),
        ecg=EcgRows(ecg_ns, *ecg.T),
        alarms=_sent([_alarm(row) for row in alarms], suppressed(db, patient)),
    )


def _newest(db: sqlite3.Connection, patient: str) -> int:
    """Time of the newest data of a person, of the newest alarm where there is no data; 0 without any."""
    newest_ns = {
        table: db.execute(
            f"SELECT MAX({TIME_COLUMN[table]}) FROM {table} WHERE patient = ?",  # noqa: S608 (one of these three)
            (patient,),
        ).fetchone()[0]
        for table in ("glucose", "ecg", "alarm")
    }
    ecg_end_ns = newest_ns["ecg"] + 300 * NS_PER_S - 1 if newest_ns["ecg"] is not None else 0
    return max(newest_ns["glucose"] or 0, ecg_end_ns) or newest_ns["alarm"] or 0


def _alarm(row: tuple[object, ...]) -> AlarmRow:
    at_ns, alert_id, phase, rule, category, priority, onset_ns, until_ns, late, text = row
    assert isinstance(at_ns, int)  # noqa: S101 (the table's declaration)
    assert isinstance(onset_ns, int)  # noqa: S101
    return AlarmRow(
        at_ns,
        str(alert_id),
        str(phase),
        str(rule),
        str(category),
        str(priority),
        onset_ns,
        until_ns if isinstance(until_ns, int) else None,
        bool(late),
        str(text),
    )


def _sent(alarms: list[AlarmRow], held_back: Iterable[Suppressed]) -> tuple[AlarmRow, ...]:
    """Without those that nobody was told of: they were over before they would have been sent."""
    held = {(one.t_ns, one.rule) for one in held_back}
    unsent = {one.alert_id for one in alarms if one.phase == "start" and (one.at_ns, one.rule) in held}
    return tuple(one for one in alarms if one.alert_id not in unsent)


def _wall(t_ns: int, local: LocalTime) -> datetime:
    return datetime.fromtimestamp(t_ns // NS_PER_S + local.offset_s(t_ns), UTC).replace(tzinfo=None)


def _midnight_ns(day: date, local: LocalTime) -> int:
    """When a local day begins, in UTC ns; where the clock skips midnight, the instant it is set."""
    as_utc_ns = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * NS_PER_S
    # The offset that holds then is one of those around it: the later guess rests on the earlier one.
    guess_ns = as_utc_ns - local.offset_s(as_utc_ns) * NS_PER_S
    return as_utc_ns - local.offset_s(guess_ns) * NS_PER_S
