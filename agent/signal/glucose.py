"""One person's glucose sensor on its way through: which reading is new, which came late, which cannot be, and the rate.

Readings come minutes apart, again, corrected, and hours late after a lost connection. Only one newer than all before it
is a new observation; the others take their place in the history, so that a late reading neither raises an alarm about
now nor ends one.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.signal.glucose_doubt import (
    JOINED_NS,
    LEAST_MG_DL,
    MMOL_LIKE,
    MOST_MG_DL,
    REBOUND_WITHIN_NS,
    STUCK_INTERVALS,
    STUCK_NS,
    beyond,
    moves_like_mmol,
    rebounded,
    robust_slope,
    within_reach,
)
from agent.signal.outlook import LOW_MG_DL, URGENT_LOW_MG_DL, Glucose
from firmware_bridge.chunk import NS_PER_S

KEEP_NS = 25 * 3600 * NS_PER_S
MOST_READINGS = 2000
"""24 kB: a day at a reading a minute, with room for what comes between."""

SAME_S = 5.0
"""A reading this close to another one is that one again, or its correction."""
CLOSE_S = 100.0
"""Two readings closer than this, or than a third of the interval, are one measurement that two sources sent."""

RATE_S = 900.0
SPARSE_S = 450.0
"""A sensor with readings further apart than this has two of them in a quarter of an hour, not three."""
RATE_SPAN_NS = 540 * NS_PER_S
"""Readings over a shorter time say more of the sensor's noise than of the rate."""
MOST_RATE_READINGS = 12
"""Of denser ones every second, third, … is used: the work grows with the square."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one reading."""

    kind: str
    """ "new", "back-fill" (late: it took its place in the history), "duplicate", "revised" or "refused"."""
    reason: str = ""
    """Why: of a refused one "not a number", "below 20", "above 600", "unit" or "too old"; of a duplicate "same" or
    "close"; of a new one "compression" where a low was over as abruptly as it came."""
    glucose: Glucose | None = None
    """What the rules are to see; only of a new one."""
    before_mg_dl: float | None = None
    """Of a revised one: the value that it replaces."""
    questioned: Glucose | None = None
    """Of one refused for its unit, from the second in a row on: what the rules may be told, with the doubt "unit". It
    is in no history, and nothing can be forecast from it."""


@dataclass(slots=True)
class GlucoseTrack:
    """State of one glucose sensor's stream between readings; plain data, at most 25 kB pickled."""

    interval_s: float
    """Expected time between readings."""
    warm_up_s: float = field(default=0.0, kw_only=True)
    lifetime_s: float | None = field(default=None, kw_only=True)
    """Of a sensor, from its start; readings before and after these are doubted."""
    session_start_ns: int | None = field(default=None, kw_only=True)
    counts: Counter[str] = field(default_factory=Counter, init=False)
    """Readings by kind, and by "kind: reason" where there is one, "doubt: …" for new ones."""
    _times_ns: array[int] = field(default_factory=lambda: array("q"), init=False)
    _mg_dl: array[float] = field(default_factory=lambda: array("f"), init=False)
    _spike_ns: int | None = field(default=None, init=False)
    """The last reading that was out of reach of those before it, and of the one after it where that has come."""
    _constant_since_ns: int = field(default=0, init=False)
    """Since when the sensor has said the same value."""
    _unit_row: int = field(default=0, init=False)
    """So many readings in a row looked like mmol/L ..."""
    _unit_last: tuple[int, float] = field(default=(0, 0.0), init=False)
    """... the last of them being this one."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.interval_s) and self.interval_s > 0):
            raise ValueError(f"interval_s is {self.interval_s}, expected more than 0")

    @property
    def close_ns(self) -> int:
        """Two readings closer than this are one measurement."""
        return round(min(CLOSE_S, self.interval_s / 3) * NS_PER_S)

    @property
    def interval_ns(self) -> int:
        return round(self.interval_s * NS_PER_S)

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest accepted reading; None before the first."""
        return self._times_ns[-1] if self._times_ns else None

    @property
    def unit_doubted(self) -> bool:
        """Whether the last readings, two or more, look like mmol/L though mg/dL is declared: nothing is converted."""
        return self._unit_row >= 2

    def new_session(self, start_ns: int) -> None:
        """A new sensor was started: what follows is not compared with what the last one said."""
        self.session_start_ns = start_ns

    def push(self, t_ns: int, mg_dl: float) -> Pushed:
        """Take one reading: UTC time in ns, glucose in mg/dL. Any value may come, NaN too; none raises."""
        refusal = self._refusal(t_ns, mg_dl)
        if refusal:
            pushed = Pushed("refused", refusal, questioned=self._question(t_ns, mg_dl) if refusal == "unit" else None)
        else:
            pushed = self._accept(t_ns, float(np.float32(mg_dl)))
        self.counts[pushed.kind] += 1
        if pushed.reason:
            self.counts[f"{pushed.kind}: {pushed.reason}"] += 1
        if pushed.glucose is not None and pushed.glucose.doubt:
            self.counts[f"doubt: {pushed.glucose.doubt}"] += 1
        return pushed

    def history(self, since_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Accepted readings from `since_ns` on, doubted ones too: times (n,) in ns, ascending, and mg/dL (n,)."""
        first = bisect_left(self._times_ns, since_ns)
        times_ns = np.frombuffer(self._times_ns[first:], np.int64)
        return times_ns, np.frombuffer(self._mg_dl[first:], np.float32)

    def coverage(self, hours: float) -> float:
        """Share, 0 to 1, of the hours before the newest reading for which readings came."""
        if not self._times_ns:
            return 0.0
        span_ns = round(hours * 3600 * NS_PER_S)
        times_ns, _ = self.history(self._times_ns[-1] - span_ns + 1)
        known = np.minimum(np.diff(times_ns, prepend=self._times_ns[-1] - span_ns), self.interval_ns).sum()
        return min(1.0, float(known) / span_ns)

    def _accept(self, t_ns: int, mg_dl: float) -> Pushed:
        at = bisect_left(self._times_ns, t_ns)
        beside = [(self._apart(i, t_ns), i) for i in (at - 1, at) if 0 <= i < len(self._times_ns)]
        if beside and min(beside)[0] < self.close_ns:
            return self._again(*min(beside), mg_dl)
        if at < len(self._times_ns):
            self._insert(at, t_ns, mg_dl)
            return Pushed("back-fill")
        return self._new(t_ns, mg_dl)

    def _apart(self, i: int, t_ns: int) -> int:
        return abs(self._times_ns[i] - t_ns)

    def _refusal(self, t_ns: int, mg_dl: float) -> str:
        if not math.isfinite(mg_dl):
            return "not a number"
        if mg_dl > MOST_MG_DL:
            return f"above {MOST_MG_DL:g}"
        low, high = MMOL_LIKE
        if low <= mg_dl <= high and (mg_dl < LEAST_MG_DL or not self._may_have_fallen_to(t_ns, mg_dl)):
            return "unit"
        if mg_dl < LEAST_MG_DL:
            return f"below {LEAST_MG_DL:g}"
        return "too old" if self._is_too_old(t_ns) else ""

    def _is_too_old(self, t_ns: int) -> bool:
        if not self._times_ns:
            return False
        full = len(self._times_ns) == MOST_READINGS
        return t_ns < self._times_ns[-1] - KEEP_NS or (full and t_ns < self._times_ns[0])

    def _may_have_fallen_to(self, t_ns: int, mg_dl: float) -> bool:
        """Whether a value of both scales follows on the reading before it: then it is believed to be an urgent low.

        By itself it is not: glucose sensors end at 39 mg/dL or above, and 22 mmol/L taken for an urgent low would be
        treated with sugar.
        """
        i = bisect_right(self._times_ns, t_ns) - 1
        return (
            i >= 0 and self._apart(i, t_ns) <= JOINED_NS and within_reach(self._apart(i, t_ns), self._mg_dl[i], mg_dl)
        )

    def _question(self, t_ns: int, value: float) -> Glucose | None:
        """Count a value that looks like mmol/L, where it is newer than all before it."""
        before_ns, before = self._unit_last
        if t_ns <= max(before_ns if self._unit_row else 0, self.newest_ns or 0):
            return None
        follows = self._unit_row and moves_like_mmol(t_ns - before_ns, before, value)
        self._unit_row = self._unit_row + 1 if follows else 1
        self._unit_last = (t_ns, value)
        return Glucose(t_ns, value, doubt="unit") if self.unit_doubted else None

    def _again(self, apart_ns: int, i: int, mg_dl: float) -> Pushed:
        """A reading at, or close to, the time of another one."""
        if apart_ns > min(SAME_S * NS_PER_S, self.close_ns // 2):
            return Pushed("duplicate", "close")
        before = self._mg_dl[i]
        if before == mg_dl:
            return Pushed("duplicate", "same")
        self._mg_dl[i] = mg_dl
        return Pushed("revised", before_mg_dl=before)

    def _insert(self, at: int, t_ns: int, mg_dl: float) -> None:
        self._times_ns.insert(at, t_ns)
        self._mg_dl.insert(at, mg_dl)
        gone = bisect_left(self._times_ns, self._times_ns[-1] - KEEP_NS)
        gone = max(gone, len(self._times_ns) - MOST_READINGS)
        del self._times_ns[:gone]
        del self._mg_dl[:gone]

    def _new(self, t_ns: int, mg_dl: float) -> Pushed:
        leaps = self._leaps(t_ns, mg_dl)
        if leaps:
            self._spike_ns = t_ns
        elif self._spike_ns is not None and self._spike_ns == self.newest_ns and self._reached_from_newest(t_ns, mg_dl):
            self._spike_ns = None
        self._insert(len(self._times_ns), t_ns, mg_dl)
        if not self._still_constant(mg_dl):
            self._constant_since_ns = t_ns
        rate = None if leaps else self._rate()
        self._unit_row = 0
        doubt = self._doubt(t_ns, mg_dl, leaps)
        note = "compression" if self._has_rebounded() else ""
        return Pushed("new", note, Glucose(t_ns, mg_dl, beyond(mg_dl), rate, doubt))

    def _doubt(self, t_ns: int, mg_dl: float, leaps: bool) -> str:
        """Why an alarm should not rest on a reading; an urgent low is never doubted away."""
        if mg_dl <= URGENT_LOW_MG_DL:
            return ""
        age_s = math.inf if self.session_start_ns is None else (t_ns - self.session_start_ns) / NS_PER_S
        if 0 <= age_s < self.warm_up_s:
            return "warm-up"
        if self.session_start_ns is not None and self.lifetime_s is not None and age_s >= self.lifetime_s:
            return "expired"
        if leaps:
            return "jump"
        stuck = t_ns - self._constant_since_ns >= max(STUCK_NS, STUCK_INTERVALS * self.interval_ns)
        return "stuck" if stuck and not beyond(mg_dl) else ""

    def _first_of_session(self, t_ns: int, first: int) -> int:
        """The first reading, not before index `first`, of the sensor that was worn at `t_ns`."""
        start_ns = self.session_start_ns
        if start_ns is None or t_ns < start_ns:
            return first
        return max(first, bisect_left(self._times_ns, start_ns))

    def _leaps(self, t_ns: int, mg_dl: float) -> bool:
        """Whether a new value is out of reach of the last reading and, where that one leapt itself, of the one before.

        So a single spike is doubted, the return from it is not, and a second reading at a new level is believed.
        """
        first = self._first_of_session(t_ns, bisect_left(self._times_ns, t_ns - JOINED_NS))
        last = len(self._times_ns) - 1
        if last < first:
            return False
        if self._reached_from_newest(t_ns, mg_dl):
            return False
        if self._times_ns[last] != self._spike_ns or last == first:
            return True
        return not within_reach(self._apart(last - 1, t_ns), self._mg_dl[last - 1], mg_dl)

    def _reached_from_newest(self, t_ns: int, mg_dl: float) -> bool:
        return within_reach(t_ns - self._times_ns[-1], self._mg_dl[-1], mg_dl)

    def _still_constant(self, mg_dl: float) -> bool:
        last = len(self._times_ns) - 2
        if last < self._first_of_session(self._times_ns[-1], 0) or self._mg_dl[last] != mg_dl:
            return False
        return self._times_ns[-1] - self._times_ns[last] <= max(JOINED_NS, 2 * self.interval_ns)

    def _rate(self) -> float | None:
        """Rate of change in mg/dL/min over the last quarter of an hour; None over a gap, or where readings are few."""
        sparse = self.interval_s > SPARSE_S
        now_ns = self._times_ns[-1]
        reach_ns = round((max(RATE_S, self.interval_s) + self.interval_s / 4) * NS_PER_S)
        first = self._first_of_session(now_ns, bisect_left(self._times_ns, now_ns - reach_ns))
        # A spike says nothing of the rate.
        used = [i for i in range(first, len(self._times_ns)) if self._times_ns[i] != self._spike_ns]
        times_ns, mg_dl = [self._times_ns[i] for i in used], [self._mg_dl[i] for i in used]
        if len(used) < (2 if sparse else 3) or times_ns[-1] - times_ns[0] < RATE_SPAN_NS:
            return None
        longest_ns = max(5 * self.interval_ns // 2, 300 * NS_PER_S)
        if any(b - a > longest_ns for a, b in pairwise(times_ns)):
            return None
        every = -(-len(used) // MOST_RATE_READINGS)
        return robust_slope(times_ns[::-every][::-1], mg_dl[::-every][::-1])

    def _has_rebounded(self) -> bool:
        first = bisect_left(self._times_ns, self._times_ns[-1] - REBOUND_WITHIN_NS)
        times_ns, mg_dl = self._times_ns[first:], self._mg_dl[first:]
        if self.interval_s > SPARSE_S or min(mg_dl) >= LOW_MG_DL:
            return False
        return rebounded(times_ns, mg_dl, LOW_MG_DL) and not rebounded(times_ns[:-1], mg_dl[:-1], LOW_MG_DL)
