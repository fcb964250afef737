"""Whether a person has left the band in which they were calibrated: errors that grow, lows that become more frequent.

The first REFERENCE_DAYS of readings say what is usual; every day after is held against that with a cumulative sum
(CUSUM, Page 1954). The errors are those of the model as it came, not of the forecasts corrected for the person, and the
reference does not follow: what worsens slowly is said, not absorbed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REFERENCE_DAYS = 14
PRIOR_DAYS = 4.0
"""People at large count as so many days of the reference."""

ERROR_USUAL, ERROR_SPREAD = 0.97, 0.17
"""Mean over a day of the squared error in units of the model's own spread, and its standard deviation between days."""
LOW_USUAL, LOW_SPREAD = 0.09, 0.095
"""Square root of the share of a day's readings below 70 mg/dL, and its standard deviation between days."""
SLACK = 0.75
"""Standard deviations beyond the usual that count as nothing ..."""
ALARM = 6.0
"""... and what their sum says ..."""
CLEAR = 3.0
"""... and no longer says."""
_STEP_MOST = 3.0
_SQUARE_MOST = 9.0


@dataclass(slots=True)
class Trend:
    """One measure of a person, a value a day, against what it was when they were calibrated."""

    usual: float
    spread: float
    days: float = 0.0
    """In the reference."""
    excess: float = 0.0
    """The cumulative sum, standard deviations."""
    grown: bool = False

    def day(self, value: float) -> None:
        """One more day."""
        if self.days < REFERENCE_DAYS:
            self.days += 1.0
            self.usual += (value - self.usual) / (PRIOR_DAYS + self.days)
            return
        beyond = min((value - self.usual) / self.spread, _STEP_MOST) - SLACK
        self.excess = min(max(self.excess + beyond, 0.0), 2.0 * ALARM)
        self.grown = self.excess > (CLEAR if self.grown else ALARM)


class Drift:
    """The errors and the lows of one person, day by day."""

    __slots__ = ("errors", "lows", "today_days", "today_error", "today_low", "today_outcomes", "today_readings")

    def __init__(self) -> None:
        self.errors = Trend(ERROR_USUAL, ERROR_SPREAD)
        self.lows = Trend(LOW_USUAL, LOW_SPREAD)
        self.today_days = 0.0
        self.today_error = 0.0
        self.today_outcomes = 0
        self.today_low = 0
        self.today_readings = 0

    def settle(self, off: float, spread: float) -> None:
        """Truth less the model's own forecast at 30 min, and the model's spread on that side, mg/dL."""
        self.today_error += min((off / spread) ** 2, _SQUARE_MOST)
        self.today_outcomes += 1

    def met(self, low: bool, days: float) -> None:
        """One reading, which stands for so many `days`."""
        self.today_low += low
        self.today_readings += 1
        self.today_days += days
        if self.today_days < 1.0:
            return
        if self.today_outcomes:
            self.errors.day(self.today_error / self.today_outcomes)
        self.lows.day(math.sqrt(self.today_low / self.today_readings))
        self.today_days = self.today_error = 0.0
        self.today_outcomes = self.today_low = self.today_readings = 0

    @property
    def text(self) -> str:
        """ "" while all is as it was."""
        said = []
        if self.errors.grown:
            said.append("forecasts err more than when calibrated")
        if self.lows.grown:
            said.append("lows are more frequent than when calibrated")
        return "; ".join(said)
