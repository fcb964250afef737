"""[[patient.limit]] tables to one person's Limits: the rule's own, and what is different at some hours of the day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.alarms.limits import ALWAYS_ON, Hours, Limits
from agent.alarms.local_time import MINUTES_A_DAY, LocalTime
from agent.config.limit_schema import LIMITS, GlucoseLimit, LimitTable
from agent.config.lines import Path as KeyPath
from agent.config.reader import TableReader

_NOT_NUMBERS = frozenset({"rule", "enabled", "from_time", "to_time"})


@dataclass(frozen=True, slots=True)
class _Written:
    """One table that has no fault of its own."""

    rule: str
    table: LimitTable
    place: KeyPath
    hours: tuple[int, int] | None
    """(from, to) in minutes of the day; None where it holds all day."""


def read_limits(read: TableReader, raw: object, path: KeyPath, local: LocalTime) -> Limits:
    """The limits in the tables `raw`, their hours meant in `local`; what is wrong with them is noted in `read`."""
    written: list[_Written] = []
    for place, item in read.tables(raw, path, "patient.limit"):
        table = read.variant(LIMITS, "rule", item, place)
        if table is None:
            continue
        rule = str(item["rule"])
        if not table.enabled and rule in ALWAYS_ON:
            message = f"{rule} is an alarm of high priority and cannot be switched off"
            read.fault((*place, "enabled"), message, "its limits can be set within their bounds")
        if not _hours_make_sense(read, table, place):
            continue
        one = _Written(rule, table, place, _hours(table))
        if not _clashes(read, one, written):
            written.append(one)
    base = [one for one in written if one.hours is None]
    numbers: dict[str, Any] = {}
    for one in base:
        numbers |= _numbers(one)
    disabled = frozenset(one.rule for one in base if not one.table.enabled)
    different = tuple(_different(one, one.rule not in disabled) for one in written if one.hours is not None)
    return Limits(**numbers, disabled=disabled, hours=different, local=local)


def _hours_make_sense(read: TableReader, table: LimitTable, place: KeyPath) -> bool:
    if not isinstance(table, GlucoseLimit):
        return True
    if (table.from_time is None) != (table.to_time is None):
        there, missing = ("to", "from") if table.from_time is None else ("from", "to")
        read.fault((*place, there), f'stands without "{missing}"', "give both, or neither for the whole day")
        return False
    if table.from_time is not None and table.from_time == table.to_time:
        read.fault((*place, "to"), f'is the same as from, "{table.from_time}"', "leave both out for the whole day")
        return False
    return True


def _hours(table: LimitTable) -> tuple[int, int] | None:
    if not isinstance(table, GlucoseLimit) or table.from_time is None or table.to_time is None:
        return None
    return _minute(table.from_time), _minute(table.to_time)


def _clashes(read: TableReader, one: _Written, earlier: list[_Written]) -> bool:
    """Whether an earlier table of the same rule holds at the same time: a fault, which names its line."""
    for other in earlier:
        if other.rule != one.rule or (one.hours is None) != (other.hours is None):
            continue
        line = read.line((*other.place, "rule"))
        if one.hours is None or other.hours is None:
            message = f'"{one.rule}" already has its limit on line {line}'
            read.fault((*one.place, "rule"), message, "keep one of the two, or give them different hours")
            return True
        shared = _minutes(one.hours) & _minutes(other.hours)
        if shared:
            at = min(shared)
            message = f'overlaps the hours of "{one.rule}" on line {line}, at {at // 60:02}:{at % 60:02}'
            read.fault((*one.place, "from"), message, "no two limits of a rule may hold at once")
            return True
    return False


def _minutes(hours: tuple[int, int]) -> set[int]:
    start, stop = hours
    return {minute % MINUTES_A_DAY for minute in range(start, stop if start < stop else stop + MINUTES_A_DAY)}


def _minute(time_of_day: str) -> int:
    return 60 * int(time_of_day[:2]) + int(time_of_day[3:])


def _numbers(one: _Written) -> dict[str, Any]:
    """The numbers that were written, under the names they have in Limits."""
    table = one.table
    return {
        f"{one.rule}_{key}": value for key, value in table if key in table.model_fields_set and key not in _NOT_NUMBERS
    }


def _different(one: _Written, enabled: bool) -> Hours:
    """What the table changes at its hours; whether the rule is `enabled` is the whole day's where it does not say."""
    assert one.hours is not None  # noqa: S101 (called only for tables with hours)
    says = "enabled" in one.table.model_fields_set
    return Hours(one.rule, *one.hours, tuple(_numbers(one).items()), one.table.enabled if says else enabled)
