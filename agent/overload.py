"""What is left undone, and in which order, when there is more to do than can be done in time.

First nobody catches up at the cost of others; then display data goes, and what explains and doubts alarms; then, since
nothing is left that alarms can do without, some people are not watched for half a minute each, in turn, by name, so
that the alarms of the others are in time.
Nobody is late for long, and nobody is left out for good; who has an alarm on is left out last.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from agent.alarms.states import PHYSIOLOGICAL
from agent.ingest.inbox import ASIDE_S, Inbox
from agent.patient import PatientState
from agent.shed import WORDS, Level
from agent.spare import Economy, Spare

log = logging.getLogger(__name__)

BEHIND_S = 1.0
"""Data that has waited longer than this for a tick is too late for an alarm to be in time."""
TOO_BUSY = 0.85
"""Share of the time that deciding takes from which waiting is due to that, and not to a slow disk."""
STEP_S, STEP_TICKS = 1.0, 2
"""After something was shed it takes so long, and so many ticks, to see what that has saved."""
MOST_TICK_S, DISK_TICKS = 1.0, 4.0
"""A tick is to take no longer, but for what has come while the disk was waited for, so many times as long."""
LEAST_BUSY_S = 0.05
"""A tick shorter than this says little of what signal costs."""
AIM = 0.8
"""Share of the time to come down to, where people are set aside."""
CALM, CALM_S = 0.7, 10.0
"""Below this share, for so long, something is taken up again."""
BACK = 1.25
"""So many times as many people are watched then, at most."""
TURN_S = 30.0
"""Nobody is set aside for longer while others can take turns."""
ALARMED_TURNS = 4
"""Where all who are watched have an alarm on, they are for so many turns."""
ALONE_BEHIND_S = 5.0
"""Who is watched alone and this far behind is left out for as long, to begin again with what is of now."""


WHO: Final = "load"
"""As agent.spare has it."""
_SPARE = {
    Level.DISPLAY: Spare.DISPLAY,
    Level.EXTRAS: Spare.SECOND_OPINIONS,
    Level.PEOPLE: Spare.SECOND_OPINIONS,
}


def alarmed(patients: Mapping[str, PatientState]) -> set[str]:
    """Who has an alarm on that is about them, not about the watching."""
    return {name for name, one in patients.items() if any(rule in PHYSIOLOGICAL for rule in one.states.active)}


class Overload:
    """Decides for one inbox, tick by tick."""

    def __init__(self, inbox: Inbox, patients: Iterable[str], economy: Economy, now_s: float) -> None:
        self._inbox, self._economy = inbox, economy
        self._watched_since_s = dict.fromkeys(patients, now_s)
        """Who is watched, the longest first."""
        self._aside_since_s: dict[str, float] = {}
        """Who is not, the longest first."""
        self.level = Level.NOTHING
        self.share = 0.0
        """Of the time of late, how much deciding took; 1 is all of it."""
        self._changed_s = self._calm_since_s = now_s
        self._ticks = self._changed_tick = 0
        self._busy_s = self._span_s = 0.0
        self._last_s, self._last_idle_s, self._last_taken_s = now_s, 0.0, 0.0
        self._cost = self._wanted = self._arrived_s = 0.0

    @property
    def words(self) -> str:
        """What is shed, for a person; "" where nothing is."""
        return WORDS.get(self.level, "")

    def note(self, now_s: float, *, idle_s: float, alarmed: Callable[[], Collection[str]]) -> None:
        """A tick begins, `idle_s`: the time so far in which data, or the disk, was waited for.

        What a second of signal has cost so far, times the signal that comes, is the time that is wanted for it.
        `alarmed`: who has an alarm on.
        """
        span_s = now_s - self._last_s
        busy_s = span_s - (idle_s - self._last_idle_s)
        if busy_s > LEAST_BUSY_S and self._last_taken_s:
            cost = busy_s / self._last_taken_s
            self._cost = (self._cost + cost) / 2 if self._cost else cost
            self._inbox.most_s = (MOST_TICK_S + DISK_TICKS * (span_s - busy_s)) / self._cost
        self._last_s, self._last_idle_s, self._last_taken_s = now_s, idle_s, self._inbox.taken_s
        self._ticks += 1
        self._span_s += span_s
        self._busy_s += busy_s
        if self._span_s >= STEP_S:
            self.share = self._busy_s / self._span_s
            self._wanted = self._cost * (self._inbox.arrived_s - self._arrived_s) / self._span_s
            self._busy_s = self._span_s = 0.0
            self._arrived_s = self._inbox.arrived_s
        is_behind = self._inbox.waited_s > BEHIND_S
        if is_behind or self.share > CALM:
            self._calm_since_s = now_s
        if is_behind and busy_s > TOO_BUSY * span_s:
            self._more(now_s, max(self._wanted, 1.0), alarmed)
        elif now_s - self._calm_since_s >= CALM_S:
            self._less(now_s)
        if self._aside_since_s:
            self._take_turns(now_s, alarmed)

    def _more(self, now_s: float, share: float, alarmed: Callable[[], Collection[str]]) -> None:
        """Shed the next thing; where that cannot be enough, all of it at once."""
        if len(self._watched_since_s) == 1 and self._inbox.waited_s > ALONE_BEHIND_S:
            self._inbox.set_aside(next(iter(self._watched_since_s)), "overload", self._inbox.waited_s)
        if now_s - self._changed_s < STEP_S or self._ticks - self._changed_tick < STEP_TICKS:
            return
        self._changed_s, self._changed_tick = now_s, self._ticks
        floods = self._inbox.floods()
        if floods and self.level is not Level.NOTHING:
            for patient in floods:
                self._inbox.set_aside(patient, "flood", ASIDE_S)
            return
        before = self.level
        self._set_level(Level.PEOPLE if share > 1 / AIM and not floods else Level(min(before + 1, Level.PEOPLE)))
        if self.words and self.level is not before:
            log.warning("overload, %.0f %% of the time there is: %s", 100 * share, self.words)
        if self.level is not Level.PEOPLE:
            return
        watched = len(self._watched_since_s)
        if watched > 1:
            count = min(math.ceil(watched * (1 - AIM / max(share, AIM))), watched // 2)
            self._set_aside(max(1, count), now_s, alarmed())

    def _less(self, now_s: float) -> None:
        """Take up again what was shed last."""
        self._calm_since_s = now_s
        if self.level is Level.NOTHING:
            return
        if self._aside_since_s:
            back = min(BACK, AIM / max(self.share, 0.1))
            self._let_in(math.ceil((back - 1) * len(self._watched_since_s)), now_s)
            return
        self._set_level(Level(self.level - 1))
        log.warning("overload is less: %s", self.words or "all is done again")

    def _set_level(self, level: Level) -> None:
        self.level = level
        self._economy.ask(WHO, _SPARE.get(level, Spare.NOTHING))
        self._inbox.tight = level >= Level.SHARES

    def _take_turns(self, now_s: float, alarmed: Callable[[], Collection[str]]) -> None:
        """Who was left out for a turn changes places with who was watched for one, and has no alarm on."""
        due = sum(now_s - since_s >= TURN_S for since_s in self._aside_since_s.values())
        if not due:
            return
        with_alarm = alarmed()
        watched_s = {patient: now_s - since_s for patient, since_s in self._watched_since_s.items()}
        rested = [one for one, long_s in watched_s.items() if long_s >= TURN_S and one not in with_alarm]
        if all(one in with_alarm for one in watched_s):
            rested = [one for one, long_s in watched_s.items() if long_s >= ALARMED_TURNS * TURN_S]
        count = min(due, len(rested))
        self._let_in(count, now_s)
        self._leave_out(rested[:count], now_s)

    def _set_aside(self, count: int, now_s: float, alarmed: Collection[str]) -> None:
        """Those first who have no alarm on and were watched the longest."""
        order = sorted(self._watched_since_s, key=lambda one: one in alarmed)  # stable: the longest first
        self._leave_out(order[:count], now_s)

    def _leave_out(self, patients: Iterable[str], now_s: float) -> None:
        for patient in patients:
            del self._watched_since_s[patient]
            self._aside_since_s[patient] = now_s
            self._inbox.set_aside(patient, "overload")
        log.warning("overload: %d are watched now, %d are not", len(self._watched_since_s), len(self._aside_since_s))

    def _let_in(self, count: int, now_s: float) -> None:
        for patient in list(self._aside_since_s)[:count]:
            del self._aside_since_s[patient]
            self._watched_since_s[patient] = now_s
            self._inbox.let_in(patient)
