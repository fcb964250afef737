"""Shockable rhythm scored by window and by alarm, in the terms of the AHA recommendations (Kerber et al., 1997).

Pure functions on arrays of seconds. A window is scored where all of it is one rhythm. An alarm is scored by the
episode it announces: only an episode that begins while no alarm is on can be announced (it is fresh), and one that
is never announced counts as announced infinitely late; otherwise delays look better than they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]

SHOCKABLE = ("VF", "VT")
"""Kinds of rhythm that an alarm should announce: fibrillation with flutter, tachycardia of 150 a minute and more."""
MIXED = ""
"""Kind of a window in which rhythms change, or one that is neither right nor wrong to call shockable."""
_KIND = {"VF": "VF", "VFL": "VF", "VT": "VT", "ASYS": "ASYS", "NOISE": "NOISE", "SLOW_VT": MIXED, "": MIXED}

LEAST_EPISODE_S = 10.0
"""Shorter episodes end by themselves before an alarm is due: announced or not, they are not scored."""
JOINED_S = 3.0
"""Episodes nearer to each other than this are one."""
GRACE_S = 8.0
"""An alarm this soon after an episode is about it: it was decided on a window that held it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time with one property, [start_s, stop_s)."""

    start_s: float
    stop_s: float

    @property
    def duration_s(self) -> float:
        return self.stop_s - self.start_s


@dataclass(frozen=True, slots=True)
class RhythmSpan:
    """A stretch of one annotated rhythm; kind "" where nothing can be said."""

    start_s: float
    stop_s: float
    kind: str


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    part: int
    of: int

    @property
    def value(self) -> float:
        """nan of none."""
        return self.part / self.of if self.of else math.nan

    @property
    def lower_bound(self) -> float:
        """One-sided 90 % lower bound of the share (Wilson's score), the form in which the AHA states its goals.

        Windows of one person are not independent: the bound is that of the formula, narrower than the truth.
        """
        if not self.of:
            return math.nan
        z, n, p = 1.2815515655446004, self.of, self.value
        centre = p + z * z / (2 * n)
        spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (centre - spread) / (1 + z * z / n))

    def __add__(self, other: Share) -> Share:
        return Share(self.part + other.part, self.of + other.of)


@dataclass(frozen=True, slots=True)
class AlarmScore:
    """What alarms were worth in one record, or with `add` in many."""

    delays_s: tuple[float, ...]
    """Onset to alarm of each fresh episode; inf where there was none."""
    covered: int
    """Scored episodes that began while an alarm was on already."""
    false_alarms: int
    quiet_s: float
    """Time in which an alarm would have been false."""

    @property
    def false_per_hour(self) -> float:
        return self.false_alarms / (self.quiet_s / 3600.0) if self.quiet_s else math.nan

    def within(self, limit_s: float) -> Share:
        """Fresh episodes announced within `limit_s`."""
        return Share(sum(delay <= limit_s for delay in self.delays_s), len(self.delays_s))

    def add(self, other: AlarmScore) -> AlarmScore:
        return AlarmScore(
            self.delays_s + other.delays_s,
            self.covered + other.covered,
            self.false_alarms + other.false_alarms,
            self.quiet_s + other.quiet_s,
        )


def kind_of(rhythm: str) -> str:
    """Kind of an annotated rhythm by the names of agent.evaluate.reference; "OTHER" for all that need no shock."""
    return _KIND.get(rhythm, "OTHER")


def window_kinds(spans: Sequence[RhythmSpan], starts_s: npt.ArrayLike, stops_s: npt.ArrayLike) -> list[str]:
    """Kind of each window [start, stop): that of the rhythm it lies in wholly, MIXED where there are several."""
    starts, stops = np.asarray(starts_s, dtype=np.float64), np.asarray(stops_s, dtype=np.float64)
    kinds = [MIXED] * len(starts)
    for span in spans:
        inside = (starts >= span.start_s) & (stops <= span.stop_s)
        for index in np.flatnonzero(inside).tolist():
            kinds[index] = span.kind
    return kinds


def window_shares(kinds: Sequence[str], called: Sequence[bool]) -> dict[str, Share]:
    """Per kind, how many of its windows were called right: VF and VT shockable, all others not. MIXED is left out."""
    shares: dict[str, Share] = {}
    for kind, call in zip(kinds, called, strict=True):
        if kind != MIXED:
            shares[kind] = shares.get(kind, Share(0, 0)) + Share(int(call == (kind in SHOCKABLE)), 1)
    return shares


def episodes(spans: Sequence[RhythmSpan], kinds: Sequence[str] = SHOCKABLE) -> list[Stretch]:
    """Stretches of any of `kinds`, joined where they nearly touch, however short."""
    joined: list[Stretch] = []
    for span in spans:
        if span.kind not in kinds:
            continue
        if joined and span.start_s - joined[-1].stop_s <= JOINED_S:
            joined[-1] = Stretch(joined[-1].start_s, span.stop_s)
        else:
            joined.append(Stretch(span.start_s, span.stop_s))
    return joined


def score_alarms(
    spans: Sequence[RhythmSpan], alarms: Sequence[Stretch], kinds: Sequence[str] = SHOCKABLE
) -> AlarmScore:
    """One record's `alarms`, each from its decision to its end, against its rhythms.

    Delays are those of the episodes of `kinds`; an alarm is false when it is raised outside, and not within GRACE_S
    after, every shockable or unknown stretch, whatever `kinds` says. Alarms must be in order of time.
    """
    delays: list[float] = []
    covered = 0
    for episode in episodes(spans, kinds):
        if episode.duration_s < LEAST_EPISODE_S:
            continue
        if any(alarm.start_s < episode.start_s < alarm.stop_s for alarm in alarms):
            covered += 1
            continue
        raised = [alarm.start_s for alarm in alarms if episode.start_s <= alarm.start_s <= episode.stop_s + GRACE_S]
        delays.append(min(raised) - episode.start_s if raised else math.inf)
    allowed = [Stretch(span.start_s, span.stop_s + GRACE_S) for span in spans if span.kind in {*SHOCKABLE, MIXED}]
    false = sum(not any(a.start_s <= alarm.start_s <= a.stop_s for a in allowed) for alarm in alarms)
    quiet_s = sum(span.stop_s - span.start_s for span in spans if span.kind not in {*SHOCKABLE, MIXED})
    return AlarmScore(tuple(delays), covered, false, quiet_s)
