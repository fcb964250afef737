"""What holds of people at large, before a person's own history says otherwise: thresholds, rates, sensitivity.

All figures are means over people who were held out of the network's training, printed by
`python -m models.training.personal --answers OUT_OF_FOLD.npz --population`. A person's own calibration starts there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

CANDIDATES = 19
"""Thresholds that are tried side by side for a person."""


@dataclass(frozen=True, slots=True)
class AlarmPrior:
    """Of one alarm: how readily it is given, and what that costs and brings in people at large.

    An alarm is given where the logit of the event's probability is at least threshold + slope (x - pivot), in tens of
    mg/dL, with x where the last change leads in `ahead_min`, or by the next reading: where the event may come with that
    one there is no second chance, so less certainty is asked for; where there is time, more.
    """

    limit_mg_dl: float
    """The event is a reading below this one."""
    within_min: float
    """The event is looked for so far ahead, and announced by an alarm so far before it."""
    per_day: float
    """Default budget of false alarms."""
    lowest: float
    """First candidate threshold, logit; the others follow `step` apart."""
    step: float
    slope: float
    ahead_min: float
    pivot_mg_dl: float
    from_mg_dl: float
    to_mg_dl: float
    """x is held inside these two."""
    start_within: tuple[float, float]
    """The probability at which an alarm starts never leaves this band."""
    aim: float
    """The budget is aimed at after this factor, for it is held against rates of the past ..."""
    share_of_budget: float
    """... and so much of the way, in logarithms, from what this person would get at that of people at large."""
    most_of_budget: float
    """At most so many budgets."""
    forget_days: float
    """A person's accounts halve in so many days of readings ..."""
    prior_days: float
    """... those of people at large count as so many days, ..."""
    prior_events: float
    """... and so many events."""
    false_per_day: tuple[float, ...]
    """(CANDIDATES,) false notifications a day at each candidate."""
    sensitivity: tuple[float, ...]
    """(CANDIDATES,) share of events with an alarm in `within_min` before, at each candidate."""

    def candidates(self) -> Float64:
        """(CANDIDATES,) thresholds, logit, ascending."""
        return np.arange(CANDIDATES, dtype=np.float64) * self.step + self.lowest


_LOW_FALSE = (
    2.2777, 2.0568, 1.861, 1.6809, 1.5098, 1.3544, 1.1994, 1.0633, 0.9186, 0.7987,
    0.6947, 0.5898, 0.4879, 0.402, 0.3268, 0.2573, 0.1881, 0.1277, 0.0852,
)  # fmt: skip
_LOW_FOUND = (
    0.9911, 0.9906, 0.9882, 0.9857, 0.9827, 0.9803, 0.9748, 0.9669, 0.96, 0.9497,
    0.9329, 0.9107, 0.8806, 0.8372, 0.7839, 0.7124, 0.6236, 0.5264, 0.4174,
)  # fmt: skip
_URGENT_FALSE = (
    1.0216, 0.9339, 0.8561, 0.7796, 0.7054, 0.6408, 0.5771, 0.5168, 0.462, 0.4135,
    0.3571, 0.3153, 0.2727, 0.2322, 0.1929, 0.155, 0.1187, 0.0907, 0.0669,
)  # fmt: skip
_URGENT_FOUND = (
    0.9831, 0.9809, 0.9767, 0.9682, 0.9682, 0.9576, 0.9534, 0.9513, 0.9492, 0.9407,
    0.9131, 0.8835, 0.8432, 0.8093, 0.7542, 0.6907, 0.6229, 0.553, 0.4682,
)  # fmt: skip

LOW = AlarmPrior(
    limit_mg_dl=70.0,
    within_min=30.0,
    per_day=1.0,
    lowest=-2.0,
    step=0.2,
    slope=0.45,
    ahead_min=9.0,
    pivot_mg_dl=78.0,
    from_mg_dl=68.0,
    to_mg_dl=98.0,
    start_within=(0.05, 0.95),
    aim=0.95,
    share_of_budget=0.5,
    most_of_budget=1.4,
    forget_days=60.0,
    prior_days=8.0,
    prior_events=4.0,
    false_per_day=_LOW_FALSE,
    sensitivity=_LOW_FOUND,
)
URGENT_LOW = AlarmPrior(
    limit_mg_dl=54.01,
    within_min=20.0,
    per_day=0.5,
    lowest=-3.0,
    step=0.2,
    slope=0.4,
    ahead_min=10.0,
    pivot_mg_dl=62.0,
    from_mg_dl=54.0,
    to_mg_dl=80.0,
    start_within=(0.03, 0.95),
    aim=1.0,
    share_of_budget=0.3,
    most_of_budget=1.5,
    forget_days=120.0,
    prior_days=30.0,
    prior_events=8.0,
    false_per_day=_URGENT_FALSE,
    sensitivity=_URGENT_FOUND,
)
HIGH_START_AT = 0.5
HIGH_END_BELOW = 0.35
