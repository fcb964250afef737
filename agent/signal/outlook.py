"""What is said of a person's glucose: a reading as it was accepted, and what may follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

LOW_MG_DL = 70.0
URGENT_LOW_MG_DL = 54.0
HIGH_MG_DL = 250.0
HORIZONS_MIN = (30, 60)

Inputs = Mapping[str, npt.NDArray[np.float16]]
"""What the model was shown, kept until an alarm may need it."""


@dataclass(frozen=True, slots=True)
class Glucose:
    """One reading of a glucose sensor, newer than all before it."""

    t_ns: int
    """UTC time of the measurement."""
    mg_dl: float
    beyond: str = ""
    """ "low" or "high": the sensor's range ends here, and the true value may lie beyond; else ""."""
    rate_mg_dl_min: float | None = None
    """Rate of change over the last quarter of an hour; None where too few readings say."""
    doubt: str = ""
    """Why the reading is no evidence for an alarm: "warm-up", "expired", "stuck", "jump", "unit", "compression"; else
    "". An urgent low is never doubted away."""

    @property
    def at_ns(self) -> int:
        """Stream time at which it was known."""
        return self.t_ns


@dataclass(frozen=True, slots=True)
class PastReading:
    """A reading that is no news: older than the newest, or another value for one that is known."""

    t_ns: int
    mg_dl: float
    kind: str
    """ "back-fill" or "revised"."""

    @property
    def at_ns(self) -> int:
        """Time of the measurement."""
        return self.t_ns


@dataclass(frozen=True, slots=True)
class Expected:
    """Glucose so many minutes ahead: the mean, and an interval that holds nine of ten."""

    minutes: int
    mg_dl: float
    low_mg_dl: float
    high_mg_dl: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the model says after one reading, before it is fitted to the person."""

    expected: tuple[Expected, ...]
    """At HORIZONS_MIN."""
    p_low: float
    """Calibrated probability of any reading below 70 mg/dL within 30 min."""
    p_urgent_low: float
    """Of any reading of 54 mg/dL or less within 20 min."""
    p_high: float
    """Of any reading above 250 mg/dL within 30 min."""
    coverage: float = 1.0
    """Share of the readings of the last hour that came."""
    usable: bool = True
    """False where too little of the last hour is known for an alarm to rest on this."""
    inputs: Inputs | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Risk:
    """The calibrated probability of an event, and when that is an alarm for this person."""

    p: float
    start_at: float = 1.0
    """An alarm begins at this probability ..."""
    end_below: float = 0.0
    """... and ends below this one."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected after one reading."""

    t_ns: int
    """Time of the reading."""
    mg_dl: float
    """The reading."""
    expected: tuple[Expected, ...]
    """At HORIZONS_MIN."""
    low: Risk
    """Any reading below 70 mg/dL within 30 min."""
    urgent_low: Risk
    """Any reading of 54 mg/dL or less within 20 min."""
    high: Risk
    """Any reading above 250 mg/dL within 30 min."""
    coverage: float = 1.0
    """Share of the readings of the last hour that came."""
    usable: bool = True
    """False where too little of the last hour is known for an alarm to rest on this."""
    inputs: Inputs | None = field(default=None, compare=False, repr=False)

    @property
    def at_ns(self) -> int:
        """Stream time at which it was known."""
        return self.t_ns
