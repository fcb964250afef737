"""Alerts as the history has them."""

from __future__ import annotations

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent.history.file import HistoryError
from agent.uplink.messages import AlertMessage, parse_event


@dataclass(frozen=True, slots=True)
class Transition:
    at_ns: int
    phase: str
    priority: str
    late: bool
    text: str
    until_ns: int | None


@dataclass(frozen=True, slots=True)
class Attention:
    """What people did about it, and how often it was escalated."""

    escalation: int
    acknowledged_by: str | None
    acknowledged_ns: int | None
    verdict: str | None
    note: str | None
    verdict_by: str | None
    verdict_ns: int | None


@dataclass(frozen=True, slots=True)
class KeptAlert:
    """One alert, with its transitions in the order of stream time."""

    id: str
    patient: str
    rule: str
    category: str
    onset_ns: int
    transitions: tuple[Transition, ...]
    attention: Attention | None = None
    held_back: str = ""
    """Why it was never sent, in words; "" where it was."""

    @property
    def first(self) -> Transition:
        return self.transitions[0]

    @property
    def end(self) -> Transition | None:
        """None of one that is still on, as far as is known."""
        return next((one for one in reversed(self.transitions) if one.phase == "end"), None)

    @property
    def priority(self) -> str:
        return self.first.priority

    @property
    def is_late(self) -> bool:
        """It was never an alarm for now."""
        return all(one.late for one in self.transitions)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """An alarm that was held back."""

    patient: str
    t_ns: int
    rule: str
    reason: str


def kept_alerts(db: sqlite3.Connection, patient: str | None = None, since_ns: int | None = None) -> list[KeptAlert]:
    """Alerts with a transition since then, in the order of their first; all where nothing is asked.

    Every alert comes with all of its transitions.
    """
    found = _rows(
        db,
        "SELECT alert_id, patient, rule, category, onset_ns, at_ns, phase, priority, late, text, until_ns FROM alarm"
        " WHERE (?1 IS NULL OR patient = ?1)"
        " AND (?2 IS NULL OR alert_id IN (SELECT alert_id FROM alarm WHERE at_ns >= ?2))",
        (patient, since_ns),
    )
    return _grouped(db, found)


def find_alert(db: sqlite3.Connection, start_of_id: str) -> KeptAlert:
    """The alert whose id begins so; raises LookupError where there is none, or more than one."""
    found = _rows(
        db,
        "SELECT alert_id, patient, rule, category, onset_ns, at_ns, phase, priority, late, text, until_ns FROM alarm"
        " WHERE substr(alert_id, 1, length(?1)) = ?1",
        (start_of_id,),
    )
    alerts = _grouped(db, found)
    if len(alerts) != 1 or not start_of_id:
        there = f"{len(alerts)} alerts have ids that begin with" if alerts else "no alert has the id"
        raise LookupError(f"{there} {start_of_id!r}")
    return alerts[0]


def said_of(db: sqlite3.Connection, alert: KeptAlert) -> dict[tuple[str, int], bytes]:
    """What the rules said of an alert, as canonical JSON, by phase and stream time; {} from before this was kept."""
    rows = _rows(
        db,
        "SELECT phase, at_ns, payload FROM alert WHERE patient = ? AND alert_id = ? ORDER BY at_ns",
        (alert.patient, alert.id),
    )
    try:
        return {(phase, at_ns): zlib.decompress(payload) for phase, at_ns, payload in rows}
    except zlib.error as error:
        raise HistoryError(f"what was kept of alert {alert.id} is damaged: {error}") from error


def message_of(said: Iterable[bytes]) -> AlertMessage | None:
    """The first event of an alert with its evidence; the first of any kind where none has evidence, None without any.

    `said`: in the order of stream time.
    """
    messages = [parse_event(payload) for payload in said]
    return next((one for one in messages if one.data.evidence is not None), messages[0] if messages else None)


def suppressed(db: sqlite3.Connection, patient: str | None = None, since_ns: int | None = None) -> list[Suppressed]:
    """What was held back, in the order of stream time."""
    rows = _rows(
        db,
        "SELECT patient, t_ns, rule, reason FROM suppressed"
        " WHERE (?1 IS NULL OR patient = ?1) AND (?2 IS NULL OR t_ns >= ?2) ORDER BY t_ns",
        (patient, since_ns),
    )
    return [Suppressed(*row) for row in rows]


def _grouped(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[KeptAlert]:
    by_id: defaultdict[tuple[str, str, str, str, int], list[Transition]] = defaultdict(list)
    for alert_id, patient, rule, category, onset_ns, at_ns, phase, priority, late, text, until_ns in rows:
        transition = Transition(at_ns, phase, priority, bool(late), text, until_ns)
        by_id[alert_id, patient, rule, category, onset_ns].append(transition)
    attention = _attention(db)
    reasons = {(one.patient, one.t_ns, one.rule): one.reason for one in suppressed(db)}
    alerts = []
    for (alert_id, patient, rule, category, onset_ns), unordered in by_id.items():
        said = tuple(sorted(unordered, key=_order))
        reason = reasons.get((patient, said[0].at_ns, rule), "")
        people = attention.get((patient, alert_id))
        alerts.append(KeptAlert(alert_id, patient, rule, category, onset_ns, said, people, reason))
    return sorted(alerts, key=lambda alert: alert.first.at_ns)


def _order(one: Transition) -> tuple[int, bool]:
    return (one.at_ns, one.phase != "start")


def _attention(db: sqlite3.Connection) -> dict[tuple[str, str], Attention]:
    rows = _rows(
        db,
        "SELECT patient, alert_id, escalation, acknowledged_by, acknowledged_ns, verdict, note, verdict_by, verdict_ns"
        " FROM attention",
        (),
    )
    return {(patient, alert_id): Attention(*rest) for patient, alert_id, *rest in rows}


def _rows(db: sqlite3.Connection, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    """What is found; nothing in a file of an agent from before the table was there."""
    try:
        return db.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise HistoryError(f"the history cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"the history cannot be read: {error}") from error
