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
    2.2293, 2.0177, 1.8276, 1.6368, 1.4623, 1.305, 1.1629, 1.0206, 0.8969, 0.7653,
    0.669, 0.5684, 0.4735, 0.3943, 0.3131, 0.2376, 0.1718, 0.1246, 0.0789,
)  # fmt: skip
_LOW_FOUND = (
    0.9901, 0.9872, 0.9852, 0.9817, 0.9773, 0.9739, 0.9694, 0.9655, 0.9541, 0.9438,
    0.9295, 0.9082, 0.8732, 0.8333, 0.7716, 0.7025, 0.6127, 0.5136, 0.4006,
)  # fmt: skip
_URGENT_FALSE = (
    0.9907, 0.9046, 0.8165, 0.7469, 0.6807, 0.6137, 0.5586, 0.5019, 0.4422, 0.3934,
    0.3423, 0.2958, 0.2546, 0.2114, 0.1764, 0.1438, 0.1092, 0.0788, 0.059,
)  # fmt: skip
_URGENT_FOUND = (
    0.9831, 0.9767, 0.9725, 0.964, 0.9619, 0.9619, 0.9597, 0.947, 0.9407, 0.9216,
    0.9068, 0.8729, 0.8326, 0.7797, 0.7288, 0.6568, 0.572, 0.4936, 0.4131,
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
