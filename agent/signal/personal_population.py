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
    2.2426, 2.0261, 1.8256, 1.6455, 1.4791, 1.3093, 1.1676, 1.0273, 0.9076, 0.7826,
    0.6807, 0.5744, 0.4866, 0.397, 0.3165, 0.2433, 0.1744, 0.125, 0.0829,
)  # fmt: skip
_LOW_FOUND = (
    0.9911, 0.9896, 0.9862, 0.9847, 0.9817, 0.9763, 0.9709, 0.965, 0.9556, 0.9477,
    0.9314, 0.9092, 0.8747, 0.8323, 0.777, 0.7065, 0.6206, 0.5101, 0.4065,
)  # fmt: skip
_URGENT_FALSE = (
    0.9999, 0.9115, 0.8281, 0.7641, 0.6955, 0.6276, 0.5649, 0.5039, 0.4472, 0.3957,
    0.3466, 0.3024, 0.2599, 0.2193, 0.1781, 0.1421, 0.1065, 0.0772, 0.0587,
)  # fmt: skip
_URGENT_FOUND = (
    0.9809, 0.9767, 0.9703, 0.9661, 0.9661, 0.9619, 0.9576, 0.9555, 0.9428, 0.9258,
    0.9025, 0.8792, 0.8347, 0.7818, 0.7309, 0.6631, 0.6017, 0.5064, 0.4258,
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
