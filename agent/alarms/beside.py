"""What the other half of a person showed when an alarm was decided: context in words, never a cause.

An alarm about the heart is told what glucose was, and one about glucose what the heart did. Both by what was known a
minute before, so that it does not matter which of two streams came a moment earlier.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.alarms.rule import seconds

KNOWN_BEFORE_NS = seconds(60.0)
OLDEST_READING_NS = seconds(1800.0)
OLDEST_HEART_NS = seconds(300.0)
SLOPE_NS = seconds(900.0)
"""Two readings no further apart tell whether glucose rose or fell."""
STEADY_MG_DL_MIN = 1.0


@dataclass(frozen=True, slots=True)
class HeartMinute:
    """How the heart was at the end of a minute of signal."""

    at_ns: int
    rate_bpm: float | None
    good_share: float


@dataclass(slots=True)
class HeartMinutes:
    """The last of them; each second of signal is shown once, in order."""

    minutes: deque[HeartMinute] = field(default_factory=lambda: deque(maxlen=12))
    _minute: int | None = None
    _seen: int = 0
    _good: int = 0

    def second(self, at_ns: int, good: bool, rate_bpm: float | None) -> None:
        """A second that ends at `at_ns`; `rate_bpm`: the heart rate then."""
        minute = at_ns // KNOWN_BEFORE_NS
        if self._minute is not None and minute != self._minute and self._seen:
            self.minutes.append(HeartMinute(at_ns, rate_bpm, self._good / self._seen))
            self._seen = self._good = 0
        self._minute = minute
        self._seen += 1
        self._good += good

    def beside(self, at_ns: int) -> str:
        """The heart, for an alarm about glucose."""
        known = [one for one in self.minutes if one.at_ns <= at_ns - KNOWN_BEFORE_NS]
        if not known or at_ns - known[-1].at_ns > OLDEST_HEART_NS:
            return "the heart was not seen"
        last = known[-1]
        if last.rate_bpm is None or last.good_share < 0.5:
            return "the heart's signal was poor"
        return f"heart rate {last.rate_bpm:.0f}/min"


def glucose_beside(times_ns: npt.NDArray[np.int64], mg_dl: npt.NDArray[np.float32], at_ns: int) -> str:
    """Glucose, for an alarm about the heart: `times_ns` and `mg_dl` of the readings, in order."""
    count = int(np.searchsorted(times_ns, at_ns - KNOWN_BEFORE_NS, side="right"))
    if not count or at_ns - int(times_ns[count - 1]) > OLDEST_READING_NS:
        return "no glucose reading of the last half hour"
    t_ns, value = int(times_ns[count - 1]), float(mg_dl[count - 1])
    words = f"glucose {value:.0f} mg/dL {(at_ns - t_ns) / KNOWN_BEFORE_NS:.0f} min before"
    if count > 1 and 0 < t_ns - int(times_ns[count - 2]) <= SLOPE_NS:
        slope = (value - float(mg_dl[count - 2])) / ((t_ns - int(times_ns[count - 2])) / KNOWN_BEFORE_NS)
        words += ", " + ("steady" if abs(slope) < STEADY_MG_DL_MIN else "rising" if slope > 0 else "falling")
    return words
