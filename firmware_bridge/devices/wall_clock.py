"""The clock on a device that shows it to its wearer, in whatever zone: compared with ours, and set where it can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from firmware_bridge.chunk import NS_PER_S, DecodeError
from firmware_bridge.codecs.bluetooth_current_time import AdjustReason, CurrentTime
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.devices.assigned_numbers import CURRENT_TIME
from firmware_bridge.devices.profile import Option
from firmware_bridge.devices.session import Link, LinkError

QUARTER_S = 900
OFF_S = 60
"""A clock that is wrong by more is set."""
ZONES = (
    "", "-12:00", "-11:00", "-10:00", "-09:30", "-09:00", "-08:00", "-07:00", "-06:00", "-05:00", "-04:00", "-03:30",
    "-03:00", "-02:30", "-02:00", "-01:00", "+00:00", "+01:00", "+02:00", "+03:00", "+03:30", "+04:00", "+04:30",
    "+05:00", "+05:30", "+05:45", "+06:00", "+06:30", "+07:00", "+08:00", "+08:45", "+09:00", "+09:30", "+10:00",
    "+10:30", "+11:00", "+12:00", "+12:45", "+13:00", "+13:45", "+14:00",
)  # fmt: skip
ZONE = Option(
    "zone",
    "",
    "How far the device's clock is ahead of UTC, daylight saving included, where it cannot say so itself.",
    ZONES,
)


def quarters_of(zone: str) -> int | None:
    """Quarters of an hour east of UTC, of one of ZONES; None for an empty text."""
    if not zone:
        return None
    hours, _, minutes = zone[1:].partition(":")
    quarters = 4 * int(hours) + int(minutes) // 15
    return -quarters if zone[0] == "-" else quarters


def now_as_date_time(since_epoch_s: float) -> DateTime:
    """What a clock shows `since_epoch_s` after 1970 began on it."""
    now = datetime.fromtimestamp(since_epoch_s, UTC)
    return DateTime(now.year, now.month, now.day, now.hour, now.minute, now.second)


class WallClock:
    """What the times of one device are in UTC.

    With a zone, the clock is taken to show that zone's time, and is set where it offers Current Time (0x2A2B) and is
    wrong. Without one, what it is ahead of UTC is read there, if it can be.
    """

    def __init__(self, zone: str, now_s: Callable[[], float] = time.time) -> None:
        """`zone`: one of ZONES; `now_s`: UTC seconds since 1970."""
        quarters = quarters_of(zone)
        self._zone_s = None if quarters is None else quarters * QUARTER_S
        self._ahead_s: float | None = self._zone_s
        self._now_s = now_s

    @property
    def is_known(self) -> bool:
        """Whether the device's times can be brought to UTC."""
        return self._ahead_s is not None

    async def meet(self, link: Link) -> None:
        """Compare, on each connection; raises LinkError, DecodeError."""
        if CURRENT_TIME not in link.characteristics:
            return
        shown = CurrentTime.from_bytes(await link.read(CURRENT_TIME)).local
        ahead_s = shown.since_epoch_s() - self._now_s() if shown.known else None
        if self._zone_s is None:
            self._ahead_s = ahead_s
        elif ahead_s is None or abs(ahead_s - self._zone_s) > OFF_S:
            self._ahead_s = self._zone_s if await self._set(link, self._now_s() + self._zone_s) else ahead_s

    def utc_ns(self, local_since_epoch_s: float) -> int:
        """UTC ns of a time on the device's clock, in seconds since 1970 began on it; raises DecodeError."""
        if self._ahead_s is None:
            raise DecodeError(f'the zone of the device\'s clock is not known: the option "{ZONE.name}" says it')
        return round((local_since_epoch_s - self._ahead_s) * NS_PER_S)

    async def _set(self, link: Link, local_s: float) -> bool:
        """Whether the device took it."""
        local = now_as_date_time(local_s)
        weekday = datetime(local.year, local.month, local.day, tzinfo=UTC).isoweekday()
        try:
            await link.write(CURRENT_TIME, bytes(CurrentTime(local, weekday, 0, AdjustReason.MANUAL)))
        except LinkError as error:
            if error.fault != "refused":
                raise
            return False
        return True
