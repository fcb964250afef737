"""What was said after each reading of the last hour, until what came of it is known.

A forecast is settled when the time it looks ahead has passed. What came is told from readings that were there: a value
at 30 or 60 min is the reading nearest to it, at most half a slot away; an event that was not seen counts as absent only
where no hole in the readings could hide it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MIN_NS = 60_000_000_000
HALF_SLOT_NS = 150_000_000_000
"""Readings come every five minutes, or every fifteen; times jitter."""
LONGEST_HOLE_NS = 17 * MIN_NS + 30_000_000_000
"""More than a reading of a 15-minute sensor missing: an event may have come and gone unseen."""
SPAN_NS = 60 * MIN_NS + HALF_SLOT_NS
"""So long, at most, until all that was said after a reading is settled ..."""
BEFORE = 2
"""... and from so many readings before it its features are told."""
NEVER_NS = -(2**61)
"""Earlier than any reading, and still no overflow from there to the latest."""
CLOSEST_NS = 4 * MIN_NS
"""Readings closer than this say the same again: one of them is learned from."""


@dataclass(slots=True)
class Said:
    """One reading, what the model said after it, and which thresholds that crossed."""

    t_ns: int
    mg_dl: float
    step: float = 0.0
    """Change from the reading before, mg/dL in five minutes; 0 where that is too long ago."""
    usable: bool = False
    mean: tuple[float, float] = (0.0, 0.0)
    """As the model said them, at 30 and 60 min, mg/dL."""
    below: tuple[float, float] = (1.0, 1.0)
    """From the mean to the lower end of the interval, mg/dL."""
    above: tuple[float, float] = (1.0, 1.0)
    logits: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of low, urgent low, high, before the person's own shift."""
    scores: tuple[float, float] = (-99.0, -99.0)
    """Of low and urgent low: what is compared with thresholds; -99 where no alarm may be."""
    notified: tuple[int, int] = (0, 0)
    """Bit k: candidate threshold k would have said something new here."""
    settled: int = 0
    """Minutes ahead that are settled: 0, 30 or 60."""


@dataclass(slots=True)
class Outcomes:
    """The readings of the last hour and two before, oldest first."""

    said: list[Said] = field(default_factory=list)

    def takes(self, t_ns: int) -> bool:
        """Whether a reading at `t_ns` is far enough from the one before to be learned from."""
        return not self.said or t_ns - self.said[-1].t_ns >= CLOSEST_NS

    def add(self, said: Said) -> None:
        """The newest; forgets what nothing can come of any more."""
        self.said.append(said)
        old = said.t_ns - SPAN_NS
        while len(self.said) > BEFORE and self.said[BEFORE].t_ns < old:
            del self.said[0]

    def due(self, now_ns: int, minutes: int) -> list[int]:
        """Places of those whose next `minutes` have just passed; marks them."""
        passed = now_ns - minutes * MIN_NS - HALF_SLOT_NS
        out = []
        for place, said in enumerate(self.said):
            if said.t_ns >= passed:
                break
            if said.settled < minutes:
                said.settled = minutes
                out.append(place)
        return out

    def at(self, place: int, minutes: int) -> float | None:
        """The reading so long after the one at `place`; None where there is none."""
        wanted = self.said[place].t_ns + minutes * MIN_NS
        best: float | None = None
        nearest = HALF_SLOT_NS + 1
        for said in self.said[place + 1 :]:
            apart = abs(said.t_ns - wanted)
            if apart < nearest:
                best, nearest = said.mg_dl, apart
            if said.t_ns > wanted:
                break
        return best

    def extremes(self, place: int, minutes: int) -> tuple[float, float, bool]:
        """Least and greatest reading in the time after the one at `place`, and whether no hole hides any."""
        start = self.said[place].t_ns
        end = start + minutes * MIN_NS
        least, greatest, before, whole = math.inf, -math.inf, start, True
        for said in self.said[place + 1 :]:
            if said.t_ns - before > LONGEST_HOLE_NS:
                whole = False
            if said.t_ns > end + HALF_SLOT_NS:
                return least, greatest, whole
            before = said.t_ns
            least, greatest = min(least, said.mg_dl), max(greatest, said.mg_dl)
        return least, greatest, whole and end - before <= LONGEST_HOLE_NS

    def interval_ns(self) -> int:
        """From one reading to the next, as this sensor gives them: the least of the last few, 5 to 15 min."""
        last = [said.t_ns for said in self.said[-5:]]
        least = min((b - a for a, b in pairwise(last)), default=5 * MIN_NS)
        return min(max(least, 5 * MIN_NS), 15 * MIN_NS)

    def best_score(self, now_ns: int, alarm: int, minutes: float) -> float | None:
        """Greatest score in so many minutes before `now_ns`; None where nothing was said."""
        since = now_ns - int(minutes * MIN_NS) - HALF_SLOT_NS
        scores = [said.scores[alarm] for said in self.said if since <= said.t_ns < now_ns and said.scores[alarm] > -90]
        return max(scores, default=None)


NUMBERS = 17
"""Numbers kept of one reading beside its time."""


def numbers_of(said: Said) -> list[float]:
    """(NUMBERS,) all but the time, as they are stored: what single precision holds, exactly."""
    return [
        said.mg_dl, said.step, said.usable, *said.mean, *said.below, *said.above, *said.logits, *said.scores,
        *said.notified, said.settled,
    ]  # fmt: skip


def said_of(t_ns: int, numbers: Sequence[float]) -> Said:
    """From `numbers_of`; rounds to single precision."""
    n = array("f", numbers)
    return Said(
        t_ns, n[0], n[1], bool(n[2]), (n[3], n[4]), (n[5], n[6]), (n[7], n[8]), (n[9], n[10], n[11]), (n[12], n[13]),
        (int(n[14]), int(n[15])), int(n[16]),
    )  # fmt: skip
