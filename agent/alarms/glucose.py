"""What the rules over a glucose sensor's readings share: readings minutes apart, in doubt, missing, and said again.

A reading in doubt is no evidence: it raises nothing, ends nothing and is no occasion to say anything again; the one
exception is an urgent low (`agent.alarms.glucose_low`). A gap ends nothing by itself. The first reading after it
decides anew: an alarm that it shows is said again at once, one that it does not show ends, near the limit or not.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.alarms.observation import Condition
from agent.alarms.rule import seconds
from agent.alarms.technical import silence_deadline_s
from agent.signal.outlook import Glucose, Outlook, Risk

Values = tuple[tuple[str, float | str], ...]

FORGOTTEN_S = 1800.0
"""What is said of the minutes ahead, or of a slope, holds no longer than this without a reading that bears it out."""
MARGIN_MG_DL = 10.0
"""An alarm about a level ends so far inside its limit at once ..."""
INSIDE_S = 1800.0
"""... and nearer to it when no reading has been outside for so long."""


def fresh_ns(interval_s: float) -> int:
    """How long a reading is of now: until the next has been due for half an interval, and never beyond 12 min."""
    return seconds(min(1.5 * interval_s, 720.0))


def gap_ns(interval_s: float) -> int:
    """Readings further apart than this have a gap between them: what is said to be silence while it lasts."""
    return seconds(silence_deadline_s(0.0, interval_s))


def shown(reading: Glucose) -> str:
    """The reading in words, as "Glucose 63 mg/dL"."""
    if reading.beyond == "low":
        return f"Glucose below {reading.mg_dl:.0f} mg/dL, the sensor's least"
    if reading.beyond == "high":
        return f"Glucose above {reading.mg_dl:.0f} mg/dL, the sensor's most"
    return f"Glucose {reading.mg_dl:.0f} mg/dL"


def values(reading: Glucose, **limits: float) -> Values:
    """What was measured and what it was compared with, by name with unit."""
    found: list[tuple[str, float | str]] = [("glucose_mg_dl", round(reading.mg_dl, 1)), *limits.items()]
    if reading.rate_mg_dl_min is not None:
        found.append(("rate_mg_dl_min", round(reading.rate_mg_dl_min, 2)))
    if reading.doubt:
        found.append(("doubt", reading.doubt))
    return tuple(found)


def forecast_values(seen: Outlook, risk: Risk) -> Values:
    """What was measured, how likely the event is and from where on that is an alarm, and what is expected."""
    return (
        ("glucose_mg_dl", round(seen.mg_dl, 1)),
        ("probability", round(risk.p, 3)),
        ("limit_probability", round(risk.start_at, 3)),
        *((f"expected_in_{ahead.minutes}_min_mg_dl", round(ahead.mg_dl, 1)) for ahead in seen.expected),
    )


@dataclass(slots=True)
class Standing:
    """One alarm: whether it is on, since when, and when it was last said. `fresh_ns` goes into every condition."""

    rule: str
    fresh_ns: int
    onset_ns: int | None = None
    said_ns: int = 0
    doubted: bool = False
    """What was last said of it rests on a reading in doubt."""
    proven_ns: int = 0
    """The last reading that could say whether it is so."""

    @property
    def on(self) -> bool:
        return self.onset_ns is not None

    def begin(
        self, at_ns: int, text: str, measured: Values, *, onset_ns: int | None = None, doubted: bool = False
    ) -> list[Condition]:
        """It begins, by default at the reading that shows it."""
        self.onset_ns = at_ns if onset_ns is None else onset_ns
        self.said_ns, self.doubted = at_ns, doubted
        return [Condition(self.rule, True, self.onset_ns, at_ns, text, measured, fresh_ns=self.fresh_ns)]

    def again(self, at_ns: int, text: str, measured: Values) -> list[Condition]:
        """It is still on, and said again."""
        assert self.onset_ns is not None  # noqa: S101 (called only while on)
        self.said_ns, self.doubted = at_ns, False
        return [Condition(self.rule, True, self.onset_ns, at_ns, text, measured, again=True, fresh_ns=self.fresh_ns)]

    def end(self, at_ns: int, text: str) -> list[Condition]:
        """It is over; nothing where it was not on."""
        if self.onset_ns is None:
            return []
        onset_ns, self.onset_ns = self.onset_ns, None
        return [Condition(self.rule, False, onset_ns, at_ns, text, fresh_ns=self.fresh_ns)]

    def due(self, at_ns: int, after_ns: int) -> bool:
        """Whether it is on, and was last said so long ago or in doubt."""
        return self.on and (self.doubted or at_ns - self.said_ns >= after_ns)

    def lasting(self, at_ns: int) -> str:
        """ "for 25 min"; in hours from two on."""
        minutes = (at_ns - (self.onset_ns or at_ns)) / seconds(60.0)
        return f"for {minutes:.0f} min" if minutes < 120 else f"for {minutes / 60:.1f} h"

    def forget(self, at_ns: int, what: str) -> list[Condition]:
        """It ends where no reading could say for too long whether it is so."""
        if self.onset_ns is None or at_ns - self.proven_ns <= seconds(FORGOTTEN_S):
            return []
        minutes = (at_ns - self.proven_ns) / seconds(60.0)
        return self.end(at_ns, f"{what}: not known any more, for {minutes:.0f} min without a reading to judge it by")


@dataclass(slots=True)
class Level:
    """Whether readings are back on the right side of a limit, for long enough or far enough to end an alarm."""

    inside_ns: int | None = None
    """The first of the readings in a row on the right side."""

    def over(self, at_ns: int, inside_by_mg_dl: float) -> bool:
        """Whether an alarm ends at a reading that lies so far on the right side; below 0 it is on the wrong one."""
        if inside_by_mg_dl < 0:
            self.inside_ns = None
            return False
        if self.inside_ns is None:
            self.inside_ns = at_ns
        return inside_by_mg_dl >= MARGIN_MG_DL or at_ns - self.inside_ns >= seconds(INSIDE_S)


@dataclass(slots=True)
class Gaps:
    """Tells the first reading that can be believed after a gap."""

    gap_ns: int
    last_ns: int | None = None

    def first_after(self, reading: Glucose) -> bool:
        """Whether there is a gap before this reading, which is not in doubt."""
        last_ns, self.last_ns = self.last_ns, reading.t_ns
        return last_ns is not None and reading.t_ns - last_ns > self.gap_ns
