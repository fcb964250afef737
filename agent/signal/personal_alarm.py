"""How readily one person is warned: thresholds tried side by side, so that false alarms stay within the budget.

Every candidate threshold keeps its own account of the notifications that it would have given (one, and again after
SNOOZE while it lasts), of those that came to nothing, and of the events that it would have announced. All accounts
forget, and start as those of people at large. The threshold in use is the lowest whose false alarms a day stay within
the target; it never goes where too few of the recent events would have been announced, and it moves slowly, more slowly
towards fewer alarms than towards more.

The target lies between the budget and what this person would get at the threshold of people at large: people who have
many lows are allowed somewhat more, people with few use somewhat less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.signal.personal_outcomes import MIN_NS, NEVER_NS
from agent.signal.personal_population import CANDIDATES, AlarmPrior

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SNOOZE_NS = 29 * MIN_NS
"""Half an hour, less what reading times jitter."""
HOLD_NS = 27 * MIN_NS
"""An alarm stays for the half hour that it speaks of, unless the risk has clearly passed ..."""
HOLD_DROP = 1.0
"""... which is so much lower a logit."""
SENSITIVITY_FLOOR = 0.85
"""Of the recent events so many must be announced; or, where even the threshold of people at large announces few ..."""
FLOOR_SHARE = 0.9
"""... so much of what that one announces."""
RISE_A_DAY = 0.5
FALL_A_DAY = 1.0
"""Logits that the threshold moves in a day, towards fewer and towards more alarms."""
RATES_FROM = 1e-3


@dataclass(slots=True)
class AlarmBudget:
    """The accounts of one alarm of one person, and the threshold that follows from them."""

    prior: AlarmPrior
    per_day: float
    threshold: float
    """In use, logit."""
    false: Float32
    """(CANDIDATES,) false notifications, with the prior's."""
    days: float
    """Of readings, with the prior's."""
    announced: Float32
    """(CANDIDATES,) events announced, with the prior's."""
    events: float
    said_ns: Int64
    """(CANDIDATES,) when each candidate last said something."""
    due_days: float = 0.0
    """Days of readings since the threshold was last moved."""
    _grid: Float64 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._grid = self.prior.candidates()

    def notifies(self, t_ns: int, score: float) -> int:
        """Bit k: candidate k says something new at a reading with this score."""
        crossed = int((score - self.prior.lowest) / self.prior.step + 1.0)
        if crossed < 1:
            return 0
        said = self.said_ns[:crossed]
        new = t_ns - said >= SNOOZE_NS
        said[new] = t_ns
        return int(np.packbits(np.pad(new, (0, 32 - len(new))), bitorder="little").view("<u4")[0])

    def settle(self, notified: int, came: bool, days: float) -> None:
        """What came of what was said at one reading, which stands for so many `days`."""
        self.due_days += days
        self.days += days
        if notified and not came:
            self.false += _bits(notified)
            self.move()
        elif self.due_days >= 0.25:
            self.move()

    def happened(self, best_score: float) -> None:
        """An event, with the best score in the half hour before it."""
        self.events += 1.0
        self.announced += self._grid <= best_score
        self.move()

    def move(self) -> None:
        """Forget, and move the threshold to where the accounts want it."""
        days, self.due_days = self.due_days, 0.0
        keep = 0.5 ** (days / self.prior.forget_days)
        ages, seen = self.prior.prior_days * (1.0 - keep), self.prior.prior_events * (1.0 - keep)
        self.false = (self.false * keep + ages * self._prior_rates()).astype(np.float32)
        self.days = self.days * keep + ages
        self.announced = (self.announced * keep + seen * np.array(self.prior.sensitivity)).astype(np.float32)
        self.events = self.events * keep + seen
        wanted = self.wanted()
        self.threshold = min(max(wanted, self.threshold - FALL_A_DAY * days), self.threshold + RISE_A_DAY * days)

    def wanted(self) -> float:
        """The threshold that the accounts ask for, logit."""
        fewer = -np.log(self._rates())
        usual = self.usual()
        aim = self.per_day * self.prior.aim
        above = -float(np.interp(usual, self._grid, fewer)) - math.log(aim)
        target = aim * min(math.exp((1.0 - self.prior.share_of_budget) * above), self.prior.most_of_budget)
        wanted = float(np.interp(-math.log(target), fewer, self._grid))
        found = self._found()
        floor = min(SENSITIVITY_FLOOR, FLOOR_SHARE * float(np.interp(usual, self._grid, found)))
        return min(wanted, float(np.interp(-floor, -found, self._grid)))

    def usual(self) -> float:
        """The threshold at which people at large have as many false alarms as this budget allows, logit."""
        return float(np.interp(-math.log(self.per_day), -np.log(self._prior_rates()), self._grid))

    def false_per_day(self) -> float:
        """False alarms a day that this person would have had of late at the threshold in use."""
        return float(np.interp(self.threshold, self._grid, self._rates()))

    def sensitivity(self) -> float:
        """Share of this person's events of late that the threshold in use would have announced."""
        return float(np.interp(self.threshold, self._grid, self._found()))

    def _rates(self) -> Float64:
        """(CANDIDATES,) false alarms a day of late; a higher threshold has no more."""
        return np.minimum.accumulate(self.false.astype(np.float64) / self.days)

    def _found(self) -> Float64:
        """(CANDIDATES,) share of the events of late that was announced."""
        return np.minimum.accumulate(self.announced.astype(np.float64) / self.events)

    def _prior_rates(self) -> Float64:
        return np.maximum(np.array(self.prior.false_per_day, np.float64), RATES_FROM)


def new_budget(prior: AlarmPrior, per_day: float) -> AlarmBudget:
    """Of a person of whom nothing is known yet."""
    out = AlarmBudget(
        prior,
        per_day,
        0.0,
        (prior.prior_days * np.maximum(np.array(prior.false_per_day), RATES_FROM)).astype(np.float32),
        prior.prior_days,
        (prior.prior_events * np.array(prior.sensitivity)).astype(np.float32),
        prior.prior_events,
        np.full(CANDIDATES, NEVER_NS, np.int64),
    )
    out.threshold = out.usual()
    return out


@dataclass(slots=True)
class Shift:
    """How much likelier an event is for this person than the model says, as a logit: Bayesian logistic regression.

    One coefficient, with prior N(0, SPREAD²); outcomes five minutes apart hardly differ, so each counts a twelfth.
    """

    learned: float = 0.0
    information: float = 4.0
    used: float = 0.0
    """What is added to the logit: `learned`, which it follows slowly where that means fewer alarms."""

    WEIGHT = 1.0 / 12.0
    SPREAD = 0.5
    FORGET_DAYS = 60.0
    LEAST = -0.7
    MOST = 1.0
    FROM_LOGIT = -3.9
    """Below 2 % an outcome says nothing of the probabilities that matter."""
    FALL_A_DAY = 0.1
    RISE_A_DAY = 0.5

    def settle(self, logit: float, came: bool, days: float) -> None:
        """`logit` as the model said it, and whether the event came."""
        if logit >= self.FROM_LOGIT:
            p = 1.0 / (1.0 + math.exp(-(logit + self.learned)))
            self.information += self.WEIGHT * p * (1.0 - p)
            self.learned += self.WEIGHT * (came - p) / self.information
        prior = 1.0 / self.SPREAD**2
        keep = 0.5 ** (days / self.FORGET_DAYS)
        kept = self.information * keep
        self.information = kept + prior * (1.0 - keep)
        self.learned = min(max(self.learned * kept / self.information, self.LEAST), self.MOST)
        self.used = min(max(self.learned, self.used - self.FALL_A_DAY * days), self.used + self.RISE_A_DAY * days)


def _bits(notified: int) -> Float32:
    """(CANDIDATES,) 1 where that bit is set."""
    return np.unpackbits(np.array([notified], "<u4").view(np.uint8), bitorder="little")[:CANDIDATES].astype(np.float32)
