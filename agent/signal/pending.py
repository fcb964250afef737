"""Confirmed beats on their way to a class: each waits a fixed time for what follows it.

What comes after a beat tells as much of it as what came before: a pause that makes up for its earliness, a next beat of
the usual shape, a whole T wave. So a beat is classified when the sample DECIDE_S after its R peak has arrived, with
what had been detected by then. That instant, and what is known at it, are counted in samples: however the signal was
cut into chunks, the answer is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.signal.beats import BeatMark
from agent.signal.resample import ANALYSIS_RATE_HZ

DECIDE_S = 1.2
DECIDE_SAMPLES = round(DECIDE_S * ANALYSIS_RATE_HZ)
FOLLOWER_SAMPLES = 60
"""A later beat is looked at when its QRS has gone through the morphology path: 0.24 s after its R peak."""
FOLLOWERS = 2
"""So many later beats are looked at."""
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class DueBeat:
    """A confirmed beat whose time has come."""

    r_index: int
    due_index: int
    """The sample whose arrival makes it due: DECIDE_S after R, or later where it was confirmed later."""
    followers: tuple[int, ...]
    """R peaks of the beats after it that are known at `due_index`, at most FOLLOWERS."""


@dataclass(slots=True)
class _Heard:
    """A detection later than the beats already taken."""

    r_index: int
    known_index: int
    withdrawn_index: int = _NEVER


@dataclass(slots=True)
class PendingBeats:
    """One person's confirmed beats that are not due yet, and all detections after them; plain data, to be kept."""

    waiting: list[tuple[int, int]] = field(default_factory=list)
    """(R peak, sample at which it was confirmed), in order."""
    heard: list[_Heard] = field(default_factory=list)

    def note(self, mark: BeatMark) -> bool:
        """Take the detector's next statement; True when it is the first word of this beat."""
        known = None
        for heard in self.heard:
            if heard.r_index == mark.r_index and heard.withdrawn_index == _NEVER:
                known = heard
                break
        if mark.status == "withdrawn":
            if known is not None:
                known.withdrawn_index = mark.decided_index
            return False
        if mark.status == "confirmed":
            self.waiting.append((mark.r_index, mark.decided_index))
        if known is None:
            self.heard.append(_Heard(mark.r_index, mark.decided_index))
        return known is None

    def take_due(self, count: int) -> list[DueBeat]:
        """The beats that are due when `count` samples have arrived, in order; each is given once."""
        out: list[DueBeat] = []
        while self.waiting:
            r_index, confirmed_index = self.waiting[0]
            due = max(r_index + DECIDE_SAMPLES, confirmed_index)
            if due >= count:
                break
            del self.waiting[0]
            known = [
                heard.r_index
                for heard in self.heard
                if r_index < heard.r_index <= r_index + DECIDE_SAMPLES - FOLLOWER_SAMPLES
                and heard.known_index <= due < heard.withdrawn_index
            ]
            out.append(DueBeat(r_index, due, tuple(sorted(known)[:FOLLOWERS])))
            self.heard = [heard for heard in self.heard if heard.r_index > r_index]
        return out

    def clear(self) -> list[int]:
        """Forget everything; the R peaks that were still waiting."""
        left = [r_index for r_index, _ in self.waiting]
        self.waiting.clear()
        self.heard.clear()
        return left
