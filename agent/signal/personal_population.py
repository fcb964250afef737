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


LOW = AlarmPrior(
    limit_mg_dl=70.0,
    within_min=30.0,
    per_day=1.0,
    lowest=-2.0,
    step=0.2,
    slope=0.4,
    ahead_min=10.0,
    pivot_mg_dl=78.0,
    from_mg_dl=68.0,
    to_mg_dl=98.0,
    start_within=(0.05, 0.95),
    aim=0.98,
    share_of_budget=0.7,
    most_of_budget=1.25,
    forget_days=60.0,
    prior_days=4.0,
    prior_events=4.0,
    false_per_day=(
        2.1477,
        1.9429,
        1.7538,
        1.5623,
        1.3916,
        1.2319,
        1.0805,
        0.9442,
        0.8166,
        0.7033,
        0.6034,
        0.4958,
        0.4023,
        0.3238,
        0.2469,
        0.1814,
        0.1286,
        0.0825,
        0.0525,
    ),
    sensitivity=(
        0.9827,
        0.9808,
        0.9803,
        0.9773,
        0.9739,
        0.9699,
        0.9635,
        0.9551,
        0.9428,
        0.925,
        0.9053,
        0.8732,
        0.8268,
        0.775,
        0.6976,
        0.6043,
        0.5067,
        0.4026,
        0.2975,
    ),
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
    false_per_day=(
        1.005,
        0.9153,
        0.8319,
        0.7593,
        0.6927,
        0.6284,
        0.5665,
        0.5061,
        0.4487,
        0.397,
        0.3403,
        0.2935,
        0.2522,
        0.2143,
        0.1701,
        0.1355,
        0.1055,
        0.0735,
        0.0511,
    ),
    sensitivity=(
        0.981,
        0.9789,
        0.9725,
        0.9704,
        0.9598,
        0.9577,
        0.9556,
        0.9514,
        0.9429,
        0.926,
        0.907,
        0.8732,
        0.8203,
        0.7611,
        0.7125,
        0.6279,
        0.5391,
        0.4884,
        0.408,
    ),
)
HIGH_START_AT = 0.5
HIGH_END_BELOW = 0.35
