"""A named time zone as a table of its offsets, from the machine's own database of them."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from agent.alarms.local_time import UTC as NO_ZONE
from agent.alarms.local_time import LocalTime

_FIRST, _LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2080, 1, 1, tzinfo=UTC)
"""Recordings are older than the config, and nobody wants to restart an agent for a change of offset."""
_STEP = timedelta(days=2)
"""No zone changes its offset twice within it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeZoneError(ValueError):
    """No such zone; `suggestion` says what to do."""

    def __init__(self, message: str, suggestion: str) -> None:
        self.suggestion = suggestion
        super().__init__(message)


def known_zones() -> frozenset[str]:
    """Names of the zones in this machine's database; none where there is no database."""
    return frozenset(zoneinfo.available_timezones())


@lru_cache(maxsize=8)
def local_time(name: str) -> LocalTime:
    """The zone called `name`, 1980 to 2080; raises TimeZoneError where this machine knows none of that name."""
    if name == "UTC":
        return NO_ZONE
    try:
        zone = zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not known_zones():
            message = "cannot be looked up: this machine has no time zone database"
            raise TimeZoneError(message, "install the package tzdata, or leave the key out for UTC") from error
        raise TimeZoneError("is no time zone", "") from error
    at, changes = _FIRST, [(_ns(_FIRST), _offset_s(zone, _FIRST))]
    while at < _LAST:
        after = at + _STEP
        if _offset_s(zone, after) != changes[-1][1]:
            changed = _change(zone, at, after)
            changes.append((_ns(changed), _offset_s(zone, changed)))
        at = after
    return LocalTime(name, tuple(changes))


def instant_ns(written: datetime, local: LocalTime) -> int:
    """UTC nanoseconds of a date and time; one without an offset is meant in `local`.

    Raises ValueError where it lies outside the years that are known of zones.
    """
    aware = written if written.tzinfo else written.replace(tzinfo=UTC)
    if not _FIRST.year <= aware.year < _LAST.year:
        raise ValueError(f"must lie between {_FIRST.year} and {_LAST.year}")
    t_ns = _ns(aware)
    if written.tzinfo:
        return t_ns
    offset_ns = local.offset_s(t_ns) * 1_000_000_000
    return t_ns - local.offset_s(t_ns - offset_ns) * 1_000_000_000


def _change(zone: zoneinfo.ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second of the new offset, which holds at `after` and not yet at `before`."""
    old = _offset_s(zone, before)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (middle, after) if _offset_s(zone, middle) == old else (before, middle)
    return after


def _offset_s(zone: zoneinfo.ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 (a ZoneInfo always knows)
    return round(offset.total_seconds())


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(seconds=1) * 1_000_000_000
