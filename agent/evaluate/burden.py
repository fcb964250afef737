"""How many alarms a person is told of in a day, before and after the alarm budget: `vagus evaluate burden`.

Each record is a person, and two days of it are made by playing it again and again: the first for the budget to learn
from, the second to be counted. So the figures say what the budget does to alarms as they come in real recordings; they
are no forecast of anybody's day, since records were chosen for their arrhythmias.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.alarms.alert import AlertEvent, Phase, Priority, alert_id
from agent.alarms.attention import Attention
from agent.alarms.budget import DAY_NS, AlarmBudget
from agent.evaluate.report import Report, in_processes
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.wfdb import read_header
from agent.replay import replay
from firmware_bridge.chunk import NS_PER_S

DATABASES = ("mitdb", "svdb")
BUDGETS = (0.0, 24.0, 12.0)
"""Low and medium alarms a day; 0 is none."""
CHUNK_S = 10.0


@dataclass(frozen=True, slots=True)
class Day:
    """One person's second day under one budget."""

    record: str
    budget: float
    high: int
    others: int
    suppressed: dict[str, int]
    """By rule."""


def evaluate_burden(args: argparse.Namespace) -> int:
    """`vagus evaluate burden --data DIR`: 0, or 2 where there is nothing to play."""
    names = args.records or [f"{db}/{path.stem}" for db in DATABASES for path in sorted((args.data / db).glob("*.hea"))]
    found = in_processes(_days, [(args.data / name, name) for name in names], "burden")
    if found is None:
        return 2
    days = [day for one in found for day in one]
    report = Report()
    report.add("burden", _table(days), _figures(days))
    header = ("record", "budget", "high", "low_and_medium", "suppressed")
    rows = [(day.record, day.budget, day.high, day.others, sum(day.suppressed.values())) for day in days]
    report.write(args.json, args.predictions, header, rows)
    return 0


def _days(task: tuple[Path, str]) -> list[Day]:
    path, name = task
    length_ns = round(read_header(path).duration_s * NS_PER_S)
    events = list(replay([path], shipped_models(), chunk_s=CHUNK_S))
    return [_day(name, budget, events, length_ns) for budget in BUDGETS]


def _day(name: str, budget: float, events: Sequence[AlertEvent], length_ns: int) -> Day:
    attention = Attention(budget=AlarmBudget(budget))
    sent: Counter[str] = Counter()
    second_day_ns = EPOCH_NS + DAY_NS
    for event in _again_and_again(events, length_ns):
        said = attention.advance(event.at_ns, lambda _rule: True) + attention.take(event, event.at_ns)
        sent.update(_kind(one) for one in said if one.phase is Phase.START and one.at_ns >= second_day_ns)
    suppressed = Counter(one.event.rule for one in attention.suppressed if one.over_ns >= second_day_ns)
    return Day(name, budget, sent["high"], sent["others"], dict(suppressed))


def _again_and_again(events: Sequence[AlertEvent], length_ns: int) -> Iterator[AlertEvent]:
    """Two days of a record's alarms; what is on when it ends is over then."""
    for start_ns in range(0, 2 * DAY_NS, length_ns):
        on: dict[str, AlertEvent] = {}
        for event in events:
            shifted = replace(
                event,
                alert_id=alert_id(event.patient, event.rule, event.onset_ns + start_ns),
                onset_ns=event.onset_ns + start_ns,
                at_ns=event.at_ns + start_ns,
                evidence=None,
            )
            if event.phase is Phase.END:
                on.pop(shifted.alert_id, None)
            else:
                on[shifted.alert_id] = shifted
            yield shifted
        end_ns = EPOCH_NS + start_ns + length_ns
        yield from (replace(one, phase=Phase.END, at_ns=max(end_ns, one.at_ns)) for one in on.values())


def _kind(event: AlertEvent) -> str:
    return "high" if event.priority is Priority.HIGH else "others"


def _figures(days: Sequence[Day]) -> dict[str, object]:
    figures: dict[str, object] = {}
    for budget in BUDGETS:
        own = [day for day in days if day.budget == budget]
        others = np.array([day.others for day in own])
        suppressed: Counter[str] = Counter()
        for day in own:
            suppressed.update(day.suppressed)
        figures[f"{budget:g}"] = {
            "people": len(own),
            "high_mean": float(np.mean([day.high for day in own])),
            "others_mean": float(others.mean()),
            "others_median": float(np.median(others)),
            "others_p90": float(np.percentile(others, 90)),
            "suppressed": dict(suppressed.most_common()),
        }
    return figures


def _table(days: Sequence[Day]) -> str:
    figures = _figures(days)
    lines = [
        f"Alarms a person and day, {len(days) // len(BUDGETS)} records each played for two days, the second counted",
        f"{'budget':>8} {'high':>8} {'low, medium: mean':>18} {'median':>8} {'p90':>8}  suppressed",
    ]
    for budget, one in figures.items():
        assert isinstance(one, dict)  # noqa: S101 (made so above)
        suppressed = ", ".join(f"{count} {rule}" for rule, count in one["suppressed"].items()) or "none"
        lines.append(
            f"{budget if budget != '0' else 'none':>8} {one['high_mean']:8.1f} {one['others_mean']:18.1f} "
            f"{one['others_median']:8.1f} {one['others_p90']:8.1f}  {suppressed}"
        )
    return "\n".join(lines)
