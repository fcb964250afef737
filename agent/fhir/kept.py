"""What is exported: the rows of one person in the history, between two instants."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent.history.file import HistoryError
from agent.uplink.messages import AlertMessage, parse_event


@dataclass(frozen=True, slots=True)
class Reading:
    """One of a glucose sensor."""

    t_ns: int
    mg_dl: float
    late: bool
    doubt: str
    beyond: str


@dataclass(frozen=True, slots=True)
class HeartRate:
    """The mean of five minutes."""

    start_ns: int
    bpm: float
    seen_s: float
    good_s: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm from its start to its end, with the alert as it was made where that is kept."""

    alert_id: str
    rule: str
    category: str
    priority: str
    onset_ns: int
    decided_ns: int
    until_ns: int | None
    """None while it is on, or where its end is not kept."""
    text: str
    late: bool
    alert: AlertMessage | None = None
    acknowledged_by: str | None = None
    acknowledged_ns: int | None = None
    verdict: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """All of it, ascending in time."""

    patient: str
    readings: Sequence[Reading]
    heart_rates: Sequence[HeartRate]
    alarms: Sequence[Alarm]

    @property
    def is_empty(self) -> bool:
        return not (self.readings or self.heart_rates or self.alarms)


def read_kept(db: sqlite3.Connection, patient: str, from_ns: int, to_ns: int) -> Kept:
    """What lies in [from_ns, to_ns); raises HistoryError where the file is damaged."""
    try:
        db.execute("BEGIN")
        try:
            return Kept(
                patient,
                [
                    Reading(t_ns, mg_dl, bool(late), doubt, beyond)
                    for t_ns, mg_dl, late, doubt, beyond in db.execute(
                        "SELECT t_ns, mg_dl, late, doubt, beyond FROM glucose"
                        " WHERE patient = ? AND t_ns >= ? AND t_ns < ? ORDER BY t_ns",
                        (patient, from_ns, to_ns),
                    )
                ],
                [
                    HeartRate(start_ns, 60.0 * intervals / intervals_s, seen_s, good_s)
                    for start_ns, seen_s, good_s, intervals, intervals_s in db.execute(
                        "SELECT start_ns, seen_s, good_s, intervals, intervals_s FROM ecg"
                        " WHERE patient = ? AND start_ns >= ? AND start_ns < ? AND intervals > 0 ORDER BY start_ns",
                        (patient, from_ns, to_ns),
                    )
                ],
                _alarms(db, patient, from_ns, to_ns),
            )
        finally:
            db.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"the history cannot be read: {error}") from error


def _alarms(db: sqlite3.Connection, patient: str, from_ns: int, to_ns: int) -> list[Alarm]:
    span = (patient, from_ns, to_ns)
    payloads: dict[str, bytes] = {}
    attended: dict[str, tuple[str | None, int | None, str | None, str]] = {}
    if _has(db, "alert"):
        rows = db.execute(
            "SELECT alert_id, payload FROM alert WHERE patient = ? AND at_ns >= ? AND at_ns < ? AND phase = 'start'",
            span,
        )
        payloads = dict(rows)
    if _has(db, "attention"):
        rows = db.execute(
            "SELECT alert_id, acknowledged_by, acknowledged_ns, verdict, note FROM attention WHERE patient = ?",
            (patient,),
        )
        attended = {row[0]: (row[1], row[2], row[3], row[4] or "") for row in rows}
    starts = db.execute(
        "SELECT alert_id, rule, category, priority, onset_ns, at_ns, text, late FROM alarm"
        " WHERE patient = ? AND at_ns >= ? AND at_ns < ? AND phase = 'start' ORDER BY at_ns, alert_id",
        span,
    ).fetchall()
    ends = dict(
        db.execute(
            "SELECT alert_id, MIN(COALESCE(until_ns, at_ns)) FROM alarm WHERE patient = ? AND phase = 'end'"
            " GROUP BY alert_id",
            (patient,),
        )
    )
    return [
        Alarm(
            alert_id,
            rule,
            category,
            priority,
            onset_ns,
            at_ns,
            ends.get(alert_id),
            text,
            bool(late),
            _alert(payloads.get(alert_id)),
            *attended.get(alert_id, ()),
        )
        for alert_id, rule, category, priority, onset_ns, at_ns, text, late in starts
    ]


def _has(db: sqlite3.Connection, table: str) -> bool:
    """A file that only an earlier agent has written lacks some tables."""
    found = db.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?)", (table,))
    return bool(found.fetchone()[0])


def _alert(packed: bytes | None) -> AlertMessage | None:
    try:
        return None if packed is None else parse_event(zlib.decompress(packed))
    except (zlib.error, ValidationError):
        return None
