"""Alarms of a low that is to come: which lows they announced, how early, and how often they were false.

The choices that the protocol leaves open:

- A sample can alarm where it is usable and not yet low itself. It is right to alarm where any real reading within the
  horizon is low; where none came after it, it is not right.
- An alarm is heard at its first sample, and again where it is on 30 minutes and more after it was last heard. One that
  ends and begins anew within those 30 minutes is not heard again. Each time it is heard is a notification, true or
  false as the sample is. So an alarm that is always on is heard 48 times a day.
- False notifications are counted per day of usable samples that are not low, each as long as its sensor's interval.
- A low begins with a low reading that has another one within 10 minutes after (15 with a sensor of 15 minutes, which
  could have no other) and none in the 30 minutes before. One without a sample that can alarm in the horizon before,
  because the sensor was off or had just begun, is nobody's to announce: it is counted apart.
- It is detected where the alarm is on at any such sample within the horizon before, and early where that is so 15
  minutes before or earlier. Both are also given by notification: an alarm on for other reasons that is not heard there
  announces nothing then.

Pure functions on the grid of `agent.scoring.glucose`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.scoring.glucose import SLOT_S, SLOTS_A_DAY, Bool, Float64, Grid, Int64, share

SNOOZE_SLOTS = 30 * 60 // SLOT_S
QUIET_SLOTS = 30 * 60 // SLOT_S
"""No low reading for so long before a new low begins."""
AGAIN_SLOTS = 10 * 60 // SLOT_S
EARLY_SLOTS = 15 * 60 // SLOT_S


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be announced."""

    name: str
    below_mg_dl: float
    """Low is below this ..."""
    horizon_min: int
    """... within so many minutes."""

    @property
    def horizon_slots(self) -> int:
        return self.horizon_min * 60 // SLOT_S


LT70_30 = Target("< 70 within 30 min", 70.0, 30)
LE54_20 = Target("≤ 54 within 20 min", float(np.nextafter(54.0, 55.0)), 20)


@dataclass(frozen=True, slots=True, eq=False)
class LowScore:
    """Counts of one alarm. Fields are arrays of one shape: () for a person or all of them, (draws,) resampled."""

    events: Float64
    detected: Float64
    early: Float64
    notified: Float64
    """Events with a notification within the horizon before ..."""
    notified_early: Float64
    """... and 15 minutes before or earlier."""
    unwatched: Float64
    """Lows before which nothing could alarm; not among the events."""
    true: Float64
    """Notifications."""
    false: Float64
    days: Float64

    @property
    def sensitivity(self) -> Float64:
        """Share of the events; nan of none, as every figure here."""
        return share(self.detected, self.events)

    @property
    def early_share(self) -> Float64:
        return share(self.early, self.events)

    @property
    def notified_share(self) -> Float64:
        return share(self.notified, self.events)

    @property
    def notified_early_share(self) -> Float64:
        return share(self.notified_early, self.events)

    @property
    def false_per_day(self) -> Float64:
        return share(self.false, self.days)

    @property
    def precision(self) -> Float64:
        """Share of the notifications that were true."""
        return share(self.true, self.true + self.false)


@dataclass(frozen=True, slots=True, eq=False)
class Lows:
    """One person's lows and the samples before them, which are the same for every alarm. All arrays (n,)."""

    grid: Grid
    target: Target
    can_alarm: Bool
    """Samples that are usable and not low."""
    right: Bool
    """Where an alarm is right: a low reading follows within the horizon."""
    onset: Bool
    watched: Bool
    """Onsets that something could have announced: the events."""
    first: Int64
    """Place of the first reading within the horizon before ..."""
    end: Int64
    """... the place past the last of them ..."""
    end_early: Int64
    """... and past the last that is early."""

    def score(self, alarm: npt.ArrayLike, among: npt.ArrayLike | None = None) -> LowScore:
        """As `low_score`."""
        grid = self.grid
        on = np.asarray(alarm, dtype=np.bool_)
        counted = np.ones(len(grid.slot), dtype=np.bool_) if among is None else np.asarray(among, dtype=np.bool_)
        if on.shape != grid.slot.shape or counted.shape != grid.slot.shape:
            raise ValueError(f"{len(grid.slot)} readings but {on.shape} alarms among {counted.shape}")
        on = on & self.can_alarm
        heard = notifications(grid.slot, on)
        events = self.watched & counted
        figures = (
            events.sum(),
            *(np.sum(events & self._any_before(one, end)) for one in (on, heard) for end in (self.end, self.end_early)),
            np.sum(self.onset & ~self.watched & counted),
            np.sum(heard & self.right & counted),
            np.sum(heard & ~self.right & counted),
            np.sum(grid.interval_slots[self.can_alarm & counted]) / SLOTS_A_DAY,
        )
        return LowScore(*(np.asarray(figure, dtype=np.float64) for figure in figures))

    def _any_before(self, signal: Bool, end: Int64) -> Bool:
        """(n,) whether `signal` (n,) is on anywhere from the begin of the horizon to `end`."""
        count = np.append(0, np.cumsum(signal))
        return np.asarray(count[end] > count[self.first])


def lows_of(grid: Grid, target: Target) -> Lows:
    """What one person's readings hold of a target."""
    slot = grid.slot
    can_alarm = grid.usable & (grid.mg_dl >= target.below_mg_dl)
    first = np.searchsorted(slot, slot - target.horizon_slots)
    end = np.arange(len(slot))
    end_early = np.searchsorted(slot, slot - EARLY_SLOTS, side="right")
    begins = onsets(grid, target)
    count = np.append(0, np.cumsum(can_alarm))
    watched = begins & (count[end] > count[first])
    return Lows(grid, target, can_alarm, low_ahead(grid, target), begins, watched, first, end, end_early)


def low_score(grid: Grid, alarm: npt.ArrayLike, target: Target, among: npt.ArrayLike | None = None) -> LowScore:
    """One person's `alarm`, on or not after each reading of the grid (n,), against the lows that came.

    `among` (n,): only events that begin, and samples that lie, in these places. Raises ValueError when lengths differ.
    Of many alarms on the same readings `lows_of` once and `Lows.score` of each is the same, faster.
    """
    return lows_of(grid, target).score(alarm, among)


def low_ahead(grid: Grid, target: Target) -> Bool:
    """(n,) whether any real reading is low within the horizon after each."""
    ahead = grid.at(grid.slot[:, None] + np.arange(1, target.horizon_slots + 1))
    return np.asarray(np.any(ahead < target.below_mg_dl, axis=1))


def onsets(grid: Grid, target: Target) -> Bool:
    """(n,) whether a low begins with that reading."""
    low = grid.mg_dl < target.below_mg_dl
    before = grid.at(grid.slot[:, None] - np.arange(1, QUIET_SLOTS + 1)) < target.below_mg_dl
    after = grid.at(grid.slot[:, None] + np.arange(1, 4)) < target.below_mg_dl
    soon = np.arange(1, 4) <= np.maximum(AGAIN_SLOTS, grid.interval_slots)[:, None]
    return np.asarray(low & ~before.any(axis=1) & (after & soon).any(axis=1))


def notifications(slot: Int64, on: Bool) -> Bool:
    """(n,) where an alarm that is `on` there is heard."""
    heard = np.zeros(len(slot), dtype=np.bool_)
    places = np.flatnonzero(on)
    slots = slot[places]
    at = 0
    while at < len(places):
        heard[places[at]] = True
        at = int(np.searchsorted(slots, slots[at] + SNOOZE_SLOTS))
    return heard
