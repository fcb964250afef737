"""The rules about high glucose: one that is here, one that stays, and one that is to come.

`predicted_high` begins only where no reading was above 250 mg/dL for QUIET_S, and ends when one is, whatever the
person's own limit. `persistent_high` stands beside `high`, and is what is said again while both are on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.alarms.glucose import Gaps, Level, Standing, forecast_values, fresh_ns, gap_ns, shown, values
from agent.alarms.limits import Limits
from agent.alarms.observation import Condition, Observation
from agent.alarms.rule import seconds
from agent.signal.outlook import HIGH_MG_DL, Glucose, Outlook


@dataclass(slots=True)
class HighGlucose:
    """`high`, `persistent_high` and `predicted_high` of one sensor with a reading every `interval_s`.

    A persistent high is counted over readings: COVERED of those due must have come, and no hole be longer than
    HOLE_S, or than what counts as silence where readings are rarer; after such a hole the count begins anew.
    """

    limits: Limits
    interval_s: float
    name: str = "high_glucose"
    COVERED = 0.75
    HOLE_S = 1800.0
    QUIET_S = 900.0
    _high: Standing = field(init=False)
    _persistent: Standing = field(init=False)
    _predicted: Standing = field(init=False)
    _gaps: Gaps = field(init=False)
    _level: Level = field(default_factory=Level)
    _persistent_level: Level = field(default_factory=Level)
    _since_ns: int | None = None
    """The first reading of those above the level of a persistent high."""
    _count: int = 0
    """How many readings there are from it on."""
    _good_ns: int = 0
    """The last reading that is not in doubt."""
    _above_ns: int | None = None
    """The last reading above 250 mg/dL."""
    _last: Glucose | None = None

    def __post_init__(self) -> None:
        fresh = fresh_ns(self.interval_s)
        self._high, self._persistent = Standing("high", fresh), Standing("persistent_high", fresh)
        self._predicted = Standing("predicted_high", fresh)
        self._gaps = Gaps(gap_ns(self.interval_s))

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Glucose():
                self._last = seen
                out = [] if seen.doubt else self._reading(seen, self.limits.at(seen.t_ns))
                return [*out, *self._predicted.forget(seen.t_ns, "High ahead")]
            case Outlook(usable=True) if self._last is not None and self._last.t_ns == seen.t_ns:
                return [] if self._last.doubt else self._outlook(seen, self.limits.at(seen.t_ns))
            case _:
                return []

    def _reading(self, reading: Glucose, limits: Limits) -> list[Condition]:
        anew = self._gaps.first_after(reading)
        out = self._judge_persistent(reading, limits, anew=anew)
        out += self._judge_high(reading, limits, anew=anew)
        self._good_ns = reading.t_ns
        return out

    def _judge_high(self, reading: Glucose, limits: Limits, *, anew: bool) -> list[Condition]:
        alarm, at_ns, limit = self._high, reading.t_ns, limits.high_above_mg_dl
        high = _above(reading, limit)
        over = self._level.over(at_ns, -1.0 if high else limit - reading.mg_dl)
        out: list[Condition] = []
        if _above(reading, HIGH_MG_DL):
            self._above_ns = at_ns
            out += self._predicted.end(at_ns, f"{shown(reading)}: the high that was forecast is here")
        if not limits.enabled(alarm.rule):
            return [*out, *alarm.end(at_ns, "High glucose is not watched at this hour")]
        text = f"{shown(reading)}, high (limit {limit:g})"
        if high and not alarm.on:
            return [*out, *alarm.begin(at_ns, text, values(reading, limit_mg_dl=limit))]
        due = anew or alarm.due(at_ns, limits.again_after_ns(alarm.rule))
        if high and due and not self._persistent.on:
            return [*out, *alarm.again(at_ns, f"{text}, {alarm.lasting(at_ns)}", values(reading, limit_mg_dl=limit))]
        if not high and (over or anew):
            out += alarm.end(at_ns, f"{shown(reading)}: no longer high")
        return out

    def _judge_persistent(self, reading: Glucose, limits: Limits, *, anew: bool) -> list[Condition]:
        alarm, at_ns, limit = self._persistent, reading.t_ns, limits.persistent_high_above_mg_dl
        high = _above(reading, limit)
        over = self._persistent_level.over(at_ns, -1.0 if high else limit - reading.mg_dl)
        if not limits.enabled(alarm.rule):
            self._since_ns = None
            return alarm.end(at_ns, "Persistently high glucose is not watched at this hour")
        if not high and (over or anew):
            self._since_ns = None
            return alarm.end(at_ns, f"{shown(reading)}: no longer persistently high")
        held_s = self._held_s(reading, high=high)
        text = f"{shown(reading)}, above {limit:g} for {held_s / 3600.0:.1f} h"
        measured = values(reading, limit_mg_dl=limit, held_min=held_s // 60.0, limit_min=limits.persistent_high_for_min)
        covered = self._count >= self.COVERED * (1.0 + held_s / self.interval_s)
        if high and not alarm.on and covered and held_s >= 60.0 * limits.persistent_high_for_min:
            return alarm.begin(at_ns, text, measured, onset_ns=self._since_ns)
        if high and alarm.on and (anew or alarm.due(at_ns, limits.again_after_ns(alarm.rule))):
            return alarm.again(at_ns, text, measured)
        return []

    def _held_s(self, reading: Glucose, *, high: bool) -> float:
        """Take the reading into the count; seconds since the first of those that are above."""
        hole_ns = max(seconds(self.HOLE_S), self._gaps.gap_ns)
        if self._since_ns is None or (not self._persistent.on and reading.t_ns - self._good_ns > hole_ns):
            self._since_ns, self._count = (reading.t_ns if high else None), 0
        if self._since_ns is None:
            return 0.0
        self._count += 1
        return (reading.t_ns - self._since_ns) / seconds(1.0)

    def _outlook(self, seen: Outlook, limits: Limits) -> list[Condition]:
        alarm, at_ns, risk = self._predicted, seen.t_ns, seen.high
        alarm.proven_ns = at_ns
        if not limits.enabled(alarm.rule):
            return alarm.end(at_ns, "Forecasts of high glucose are not watched at this hour")
        level = f"above {HIGH_MG_DL:.0f} mg/dL"
        text = f"Glucose {seen.mg_dl:.0f} mg/dL, likely to be {level} within 30 min ({100 * risk.p:.0f} %)"
        if risk.p >= risk.start_at:
            quiet = self._above_ns is None or at_ns - self._above_ns >= seconds(self.QUIET_S)
            if not alarm.on and quiet:
                return alarm.begin(at_ns, text, forecast_values(seen, risk))
            if alarm.due(at_ns, limits.again_after_ns(alarm.rule)):
                return alarm.again(at_ns, f"{text}, {alarm.lasting(at_ns)}", forecast_values(seen, risk))
            return []
        if risk.p < risk.end_below:
            return alarm.end(at_ns, f"Glucose {seen.mg_dl:.0f} mg/dL, no longer likely to be {level} soon")
        return []


def _above(reading: Glucose, limit_mg_dl: float) -> bool:
    """At the high end of the sensor's range the true value is above whatever limit there is."""
    return reading.beyond == "high" or reading.mg_dl > limit_mg_dl
