"""The alarms of a period, by rule and by day."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from agent.alarms.alert import Priority
from agent.report.period import AlarmRow, Period
from firmware_bridge.chunk import NS_PER_S

COLUMNS = 14
"""So many days stand side by side; longer periods are counted by the week."""


@dataclass(frozen=True, slots=True)
class RuleCount:
    """One rule's alarms."""

    rule: str
    category: str
    priority: str
    alarms: int
    """Alarms that began in time."""
    said_again: int
    """How often one that was on was said again."""
    late: int
    """Found in late data: reports about the past."""
    on_s: float
    """How long they were on together, until the period's end at most."""
    still_on: int
    by_column: tuple[int, ...]
    """Alarms by `AlarmTable.columns`."""
    last_text: str
    """What the last one said."""


@dataclass(frozen=True, slots=True)
class AlarmTable:
    columns: tuple[str, ...]
    """First local day of each column, as ISO dates."""
    days_a_column: int
    rules: tuple[RuleCount, ...]
    """Physiological ones first, the most urgent first."""

    @property
    def physiological(self) -> int:
        return sum(rule.alarms for rule in self.rules if rule.category == "physiological")

    @property
    def technical(self) -> int:
        return sum(rule.alarms for rule in self.rules if rule.category != "physiological")


def alarms_of(period: Period) -> AlarmTable:
    days_a_column = 1 if period.days <= COLUMNS else 7
    n_columns = -(-period.days // days_a_column)
    by_rule: defaultdict[str, list[AlarmRow]] = defaultdict(list)
    for row in period.alarms:
        by_rule[row.rule].append(row)
    rules = [_count(period, rule, rows, days_a_column, n_columns) for rule, rows in by_rule.items()]
    rules.sort(key=lambda rule: (rule.category, _rank(rule.priority), rule.rule))
    columns = tuple(period.date_of(k * days_a_column).isoformat() for k in range(n_columns))
    return AlarmTable(columns, days_a_column, tuple(rules))


def _count(period: Period, rule: str, rows: list[AlarmRow], days_a_column: int, n_columns: int) -> RuleCount:
    starts = [row for row in rows if row.phase == "start"]
    in_time = [row for row in starts if not row.late]
    by_column = [0] * n_columns
    for row in in_time:
        by_column[min(n_columns - 1, max(0, period.day_of(row.at_ns) // days_a_column))] += 1
    ends = {row.alert_id: row for row in rows if row.phase == "end"}
    on_ns = sum(_end_ns(ends.get(row.alert_id), period) - row.onset_ns for row in in_time)
    return RuleCount(
        rule=rule,
        category=rows[-1].category,
        priority=rows[-1].priority,
        alarms=len(in_time),
        said_again=sum(row.phase == "continue" for row in rows),
        late=len(starts) - len(in_time),
        on_s=on_ns / NS_PER_S,
        still_on=sum(row.alert_id not in ends for row in in_time),
        by_column=tuple(by_column),
        last_text=starts[-1].text if starts else rows[-1].text,
    )


def _end_ns(end: AlarmRow | None, period: Period) -> int:
    if end is None:
        return period.until_ns
    return end.at_ns if end.until_ns is None else end.until_ns


def _rank(priority: str) -> int:
    return Priority(priority).rank if priority in set(Priority) else len(Priority)
