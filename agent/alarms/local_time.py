"""Local time of day without a clock or a calendar: from a table of when a zone's offset changes."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass

NS_PER_MIN = 60_000_000_000
MINUTES_A_DAY = 1440


@dataclass(frozen=True, slots=True, repr=False)
class LocalTime:
    """A time zone, resolved into its changes of offset when the config was read.

    A stage may import no calendar and must replay alike on any machine; so the table travels with the limits. An hour
    that a clock set forward skips belongs to no local time, one that a clock set back repeats is there twice.
    """

    zone: str = "UTC"
    changes: tuple[tuple[int, int], ...] = ()
    """(from when on in UTC nanoseconds, seconds ahead of UTC), ascending; the first holds before it too."""

    def offset_s(self, t_ns: int) -> int:
        """Seconds that local time is ahead of UTC at `t_ns`."""
        if not self.changes:
            return 0
        place = bisect_right(self.changes, t_ns, key=lambda change: change[0])
        return self.changes[max(0, place - 1)][1]

    def minute_of_day(self, t_ns: int) -> int:
        """Minutes since local midnight at `t_ns`, 0 to 1439, as a clock on the wall shows them."""
        return (t_ns + self.offset_s(t_ns) * 1_000_000_000) // NS_PER_MIN % MINUTES_A_DAY

    def __repr__(self) -> str:
        """The zone, and a digest of its changes: states rests on them, and a line has no room for hundreds."""
        if not self.changes:
            return f"LocalTime({self.zone!r})"
        digest = hashlib.blake2s(repr(self.changes).encode(), digest_size=4).hexdigest()
        return f"LocalTime({self.zone!r}, {digest})"


UTC = LocalTime()
