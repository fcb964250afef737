"""The rules about low glucose: one that is here, one that is urgent, and those that are to come.

A ladder, so that one low is not told three times:

- `predicted_low` begins only where no reading was below 70 mg/dL for QUIET_S, and ends when one is.
- `low` does not begin at a reading that is urgently low; if it is on already it stays on beneath `urgent_low`, unsaid.
  It begins when the urgent low is over and the reading is still low.
- `urgent_low_soon` begins whether `low` is on or not, for a low that goes on falling is news, but not while
  `urgent_low` is on; it ends when the urgent low is there.
- Of those that are on only the first is said again: `urgent_low`, `urgent_low_soon`, `low`, `predicted_low`.

The forecasts are about 70 and 54 mg/dL, whatever a person's own limits are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.alarms.glucose import Gaps, Level, Standing, forecast_values, fresh_ns, gap_ns, shown, values
from agent.alarms.limits import Limits
from agent.alarms.observation import Condition, Observation
from agent.alarms.rule import seconds
from agent.signal.outlook import LOW_MG_DL, URGENT_LOW_MG_DL, Glucose, Outlook, Risk

_WITHIN = {
    "predicted_low": (f"below {LOW_MG_DL:.0f} mg/dL", 30),
    "urgent_low_soon": (f"{URGENT_LOW_MG_DL:.0f} mg/dL or less", 20),
}
"""What is forecast, and within how many minutes."""


@dataclass(slots=True)
class LowGlucose:
    """`urgent_low`, `low`, `urgent_low_soon` and `predicted_low` of one sensor with a reading every `interval_s`.

    An urgent low, and a reading at the low end of the sensor's range, is raised even in doubt, and says so; only a
    reading in the wrong unit means nothing. It is said again at once by the first reading without doubt.
    """

    limits: Limits
    interval_s: float
    name: str = "low_glucose"
    QUIET_S = 900.0
    """Who was low so lately is likely to be again, and knows."""
    _urgent: Standing = field(init=False)
    _low: Standing = field(init=False)
    _soon: Standing = field(init=False)
    _predicted: Standing = field(init=False)
    _gaps: Gaps = field(init=False)
    _urgent_level: Level = field(default_factory=Level)
    _low_level: Level = field(default_factory=Level)
    _low_since_ns: int | None = None
    _below_ns: int | None = None
    """The last reading below 70 mg/dL."""
    _last: Glucose | None = None

    def __post_init__(self) -> None:
        fresh = fresh_ns(self.interval_s)
        self._urgent, self._low = Standing("urgent_low", fresh), Standing("low", fresh)
        self._soon, self._predicted = Standing("urgent_low_soon", fresh), Standing("predicted_low", fresh)
        self._gaps = Gaps(gap_ns(self.interval_s))

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Glucose():
                self._last = seen
                return [*self._reading(seen, self.limits.at(seen.t_ns)), *self._forget(seen.t_ns)]
            case Outlook(usable=True) if self._last is not None and self._last.t_ns == seen.t_ns:
                return [] if self._last.doubt else self._outlook(seen, self.limits.at(seen.t_ns))
            case _:
                return []

    def _reading(self, reading: Glucose, limits: Limits) -> list[Condition]:
        urgent = reading.beyond == "low" or reading.mg_dl <= limits.urgent_low_at_most_mg_dl
        if reading.doubt:
            return self._doubted(reading, limits) if urgent and reading.doubt != "unit" else []
        anew = self._gaps.first_after(reading)
        return [
            *self._judge_urgent(reading, limits, urgent=urgent, anew=anew),
            *self._judge_low(reading, limits, urgent=urgent, anew=anew),
        ]

    def _forget(self, at_ns: int) -> list[Condition]:
        return [*self._soon.forget(at_ns, "Urgent low ahead"), *self._predicted.forget(at_ns, "Low ahead")]

    def _doubted(self, reading: Glucose, limits: Limits) -> list[Condition]:
        if self._urgent.on:
            return []
        text = f"{_urgently(reading, limits)}; the sensor is in doubt ({reading.doubt}): check the person"
        measured = values(reading, limit_mg_dl=limits.urgent_low_at_most_mg_dl)
        return [*self._urgent.begin(reading.t_ns, text, measured, doubted=True), *self._come_true(reading)]

    def _judge_urgent(self, reading: Glucose, limits: Limits, *, urgent: bool, anew: bool) -> list[Condition]:
        alarm, at_ns = self._urgent, reading.t_ns
        over = self._urgent_level.over(at_ns, -1.0 if urgent else reading.mg_dl - limits.urgent_low_at_most_mg_dl)
        measured = values(reading, limit_mg_dl=limits.urgent_low_at_most_mg_dl)
        if urgent and not alarm.on:
            return [*alarm.begin(at_ns, _urgently(reading, limits), measured), *self._come_true(reading)]
        if urgent and (anew or alarm.due(at_ns, limits.again_after_ns(alarm.rule))):
            return alarm.again(at_ns, f"{_urgently(reading, limits)}, {alarm.lasting(at_ns)}", measured)
        if not urgent and (over or anew):
            still = ", still low" if reading.mg_dl < limits.low_below_mg_dl else ""
            return alarm.end(at_ns, f"{shown(reading)}: no longer urgently low{still}")
        return []

    def _come_true(self, reading: Glucose) -> list[Condition]:
        """What was forecast is there."""
        return self._soon.end(reading.t_ns, f"{shown(reading)}: the urgent low that was forecast is here")

    def _judge_low(self, reading: Glucose, limits: Limits, *, urgent: bool, anew: bool) -> list[Condition]:
        alarm, at_ns = self._low, reading.t_ns
        low = urgent or reading.mg_dl < limits.low_below_mg_dl
        over = self._low_level.over(at_ns, -1.0 if low else reading.mg_dl - limits.low_below_mg_dl)
        out: list[Condition] = []
        if reading.beyond == "low" or reading.mg_dl < LOW_MG_DL:
            self._below_ns = at_ns
            out += self._predicted.end(at_ns, f"{shown(reading)}: the low that was forecast is here")
        self._low_since_ns = (self._low_since_ns or at_ns) if low else None
        if not limits.enabled(alarm.rule):
            self._low_since_ns = None
            return [*out, *alarm.end(at_ns, "Low glucose is not watched at this hour")]
        text = f"{shown(reading)}, low (limit {limits.low_below_mg_dl:g})"
        measured = values(reading, limit_mg_dl=limits.low_below_mg_dl)
        if low and not alarm.on and not urgent and not self._urgent.on:
            return [*out, *alarm.begin(at_ns, text, measured, onset_ns=self._low_since_ns)]
        loudest = not self._urgent.on and (anew or not self._soon.on)
        if low and alarm.on and loudest and (anew or alarm.due(at_ns, limits.again_after_ns(alarm.rule))):
            return [*out, *alarm.again(at_ns, f"{text}, {alarm.lasting(at_ns)}", measured)]
        if not low and (over or anew):
            out += alarm.end(at_ns, f"{shown(reading)}: no longer low")
        return out

    def _outlook(self, seen: Outlook, limits: Limits) -> list[Condition]:
        out = self._forecast(self._soon, seen, seen.urgent_low, limits, may_begin=not self._urgent.on, loudest=True)
        quiet = self._below_ns is None or seen.t_ns - self._below_ns >= seconds(self.QUIET_S)
        loudest = not (self._soon.on or self._low.on)
        return out + self._forecast(self._predicted, seen, seen.low, limits, may_begin=quiet, loudest=loudest)

    def _forecast(
        self, alarm: Standing, seen: Outlook, risk: Risk, limits: Limits, *, may_begin: bool, loudest: bool
    ) -> list[Condition]:
        """Whether it begins, is said again (only where none that says more is on), or is over."""
        at_ns = seen.t_ns
        level, minutes = _WITHIN[alarm.rule]
        alarm.proven_ns = at_ns
        if not limits.enabled(alarm.rule):
            return alarm.end(at_ns, "Forecasts of low glucose are not watched at this hour")
        text = f"Glucose {seen.mg_dl:.0f} mg/dL, likely to be {level} within {minutes} min ({100 * risk.p:.0f} %)"
        if risk.p >= risk.start_at:
            if not alarm.on and may_begin:
                return alarm.begin(at_ns, text, forecast_values(seen, risk))
            if loudest and alarm.due(at_ns, limits.again_after_ns(alarm.rule)):
                return alarm.again(at_ns, f"{text}, {alarm.lasting(at_ns)}", forecast_values(seen, risk))
            return []
        if risk.p < risk.end_below:
            return alarm.end(at_ns, f"Glucose {seen.mg_dl:.0f} mg/dL, no longer likely to be {level} soon")
        return []


def _urgently(reading: Glucose, limits: Limits) -> str:
    return f"{shown(reading)}, urgently low (limit {limits.urgent_low_at_most_mg_dl:g})"
