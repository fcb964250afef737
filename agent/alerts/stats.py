"""How many alarms a day, and what became of them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from agent.alerts.kept import KeptAlert, kept_alerts, suppressed
from agent.history.file import TIME_COLUMN
from firmware_bridge.chunk import NS_PER_S

DAY_NS = 86_400 * NS_PER_S
WATCHED_BY = ("ecg", "glucose", "alarm")
"""Tables whose first row says since when somebody is watched."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Of one patient, or of the agent itself, in some days."""

    patient: str
    days: float
    """Watched, within what was asked; at least one, so that an hour's alarms are not made a day's."""
    alarms: int
    """That were sent as alarms for now: late reports are none, nor is what was held back."""
    held_back: int
    """That the alarm budget or another signal kept from being sent."""
    per_day: dict[str, float]
    """By priority for physiological alarms; "technical" for those about the watching."""
    acknowledged: float | None
    """Share of the alarms; None without any."""
    escalated: float | None
    to_acknowledgement_s: float | None
    """Median, from the first event to the first acknowledgement; None where nobody has acknowledged any."""
    judged: dict[str, float]
    """Share of the alarms that were judged "true", "false", "not_actionable", and not at all."""


def stats(db: sqlite3.Connection, days: int, now_ns: int, patient: str | None = None) -> list[Stats]:
    """The last `days` of everybody with an alarm in them; of data that is older, the last days of that."""
    newest_ns = db.execute("SELECT max(at_ns) FROM alarm").fetchone()[0] or 0
    until_ns = now_ns if newest_ns > now_ns - days * DAY_NS else newest_ns
    since_ns = until_ns - days * DAY_NS
    alerts = [one for one in kept_alerts(db, patient, since_ns) if _began_as_alarm(one, since_ns)]
    held_back = Counter(one.patient for one in suppressed(db, patient, since_ns))
    return [
        _of_one(
            person,
            [one for one in alerts if one.patient == person],
            held_back[person],
            _watched_days(db, person, since_ns, until_ns),
        )
        for person in sorted({*held_back, *(one.patient for one in alerts)})
    ]


def as_json(rows: Sequence[Stats]) -> list[dict[str, object]]:
    return [asdict(row) for row in rows]


def as_text(rows: Sequence[Stats]) -> str:
    """A table for people."""
    head = ("patient", "days", "high/day", "medium/day", "low/day", "technical/day", "held back", "acknowledged")
    table: list[tuple[str, ...]] = [(*head, "after (median)", "judged true", "false", "not actionable")]
    for row in rows:
        rates = (f"{row.per_day[name]:.1f}" for name in ("high", "medium", "low", "technical"))
        shares = (_share(row.judged[name]) for name in ("true", "false", "not_actionable"))
        after = "-" if row.to_acknowledgement_s is None else f"{row.to_acknowledgement_s:.0f} s"
        table.append(
            (row.patient, f"{row.days:.1f}", *rates, str(row.held_back), _share(row.acknowledged), after, *shares)
        )
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)
    return "\n".join(lines) + "\n"


def _began_as_alarm(alert: KeptAlert, since_ns: int) -> bool:
    is_one = alert.first.phase == "start" and not alert.is_late and not alert.held_back
    return is_one and alert.first.at_ns >= since_ns


def _of_one(patient: str, alerts: Sequence[KeptAlert], held_back: int, days: float) -> Stats:
    n = len(alerts)
    seen = [one for one in alerts if one.attention is not None and one.attention.acknowledged_ns is not None]
    waited_s = [
        max(0, (one.attention.acknowledged_ns or 0) - one.first.at_ns) / NS_PER_S for one in seen if one.attention
    ]
    verdicts = [one.attention.verdict if one.attention else None for one in alerts]
    escalated = sum(one.attention is not None and one.attention.escalation > 0 for one in alerts)
    kinds = [one.priority if one.category == "physiological" else one.category for one in alerts]
    return Stats(
        patient=patient,
        days=days,
        alarms=n,
        held_back=held_back,
        per_day={kind: kinds.count(kind) / days for kind in ("high", "medium", "low", "technical")},
        acknowledged=len(seen) / n if n else None,
        escalated=escalated / n if n else None,
        to_acknowledgement_s=median(waited_s) if waited_s else None,
        judged={
            word or "not_judged": verdicts.count(word) / max(1, n) for word in ("true", "false", "not_actionable", None)
        },
    )


def _watched_days(db: sqlite3.Connection, patient: str, since_ns: int, until_ns: int) -> float:
    firsts = [
        db.execute(
            f"SELECT min({TIME_COLUMN[table]}) FROM {table} WHERE patient = ?",  # noqa: S608 (one of WATCHED_BY)
            (patient,),
        ).fetchone()[0]
        for table in WATCHED_BY
    ]
    first_ns: int = max(since_ns, min((first for first in firsts if first is not None), default=0))
    return max(1.0, (until_ns - first_ns) / DAY_NS)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
