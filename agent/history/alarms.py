"""What the history keeps of alarms: each transition, the alert as it was made, what people did, what was held back."""

from __future__ import annotations

import zlib

from agent.alarms.alert import AlertEvent
from agent.uplink.messages import canonical_json

Row = tuple[str | int | float | bytes | None, ...]

ALARM_SCHEMA = """
CREATE TABLE IF NOT EXISTS alert (
    patient TEXT NOT NULL, at_ns INTEGER NOT NULL, alert_id TEXT NOT NULL, phase TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (patient, at_ns, alert_id, phase)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alert_by_id ON alert (alert_id);
CREATE TABLE IF NOT EXISTS attention (
    patient TEXT NOT NULL, onset_ns INTEGER NOT NULL, alert_id TEXT NOT NULL, escalation INTEGER NOT NULL,
    acknowledged_by TEXT, acknowledged_ns INTEGER,
    verdict TEXT, note TEXT, verdict_by TEXT, verdict_ns INTEGER,
    PRIMARY KEY (patient, onset_ns, alert_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS suppressed (
    patient TEXT NOT NULL, t_ns INTEGER NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (patient, t_ns, rule)
) WITHOUT ROWID;
"""
"""Tables that a file of an earlier agent lacks: they are added when it is opened for writing."""

ALARM_INSERT = {
    "alarm": "INSERT OR REPLACE INTO alarm VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "alert": "INSERT OR REPLACE INTO alert VALUES (?, ?, ?, ?, ?)",
    # The first acknowledgement counts, since an alarm that is said again asks for another one; the last verdict does.
    "attention": "INSERT INTO attention VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " escalation = max(escalation, excluded.escalation),"
    " acknowledged_by = coalesce(acknowledged_by, excluded.acknowledged_by),"
    " acknowledged_ns = coalesce(acknowledged_ns, excluded.acknowledged_ns),"
    " note = iif(excluded.verdict IS NULL, note, excluded.note),"
    " verdict_by = coalesce(excluded.verdict_by, verdict_by), verdict_ns = coalesce(excluded.verdict_ns, verdict_ns),"
    " verdict = coalesce(excluded.verdict, verdict)",
    "suppressed": "INSERT OR REPLACE INTO suppressed VALUES (?, ?, ?, ?)",
}


def alarm_row(event: AlertEvent) -> Row:
    return (
        event.patient,
        event.at_ns,
        event.alert_id,
        event.phase.value,
        event.rule,
        event.category.value,
        event.priority.value,
        event.onset_ns,
        event.until_ns,
        int(event.late),
        event.text,
    )


def alert_row(event: AlertEvent) -> Row:
    """The alert with its evidence, as `canonical_json` has it, packed."""
    return (event.patient, event.at_ns, event.alert_id, event.phase.value, zlib.compress(canonical_json(event), 1))


def attention_row(event: AlertEvent) -> Row | None:
    """How people stand to an alert; None where nobody has done anything about it, or it is a drill."""
    attended = event.attended
    if attended is None or event.drill or not (attended.acknowledged or attended.verdict or attended.escalation):
        return None
    seen, verdict = attended.acknowledged, attended.verdict
    return (
        event.patient,
        event.onset_ns,
        event.alert_id,
        attended.escalation,
        None if seen is None else seen.by,
        None if seen is None else seen.at_ns,
        *((None, None, None, None) if verdict is None else (verdict.word, verdict.note, verdict.by, verdict.at_ns)),
    )
