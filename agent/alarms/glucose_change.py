"""The rules about how fast glucose changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.alarms.glucose import Standing, fresh_ns, values
from agent.alarms.limits import Limits
from agent.alarms.observation import Condition, Observation
from agent.signal.outlook import Glucose


@dataclass(slots=True)
class RapidChange:
    """`rapid_fall` or `rapid_rise` of one sensor with a reading every `interval_s`.

    It begins at a rate as steep as the limit and ends at one less than END_SHARE of it. A reading in doubt, or whose
    rate is not known, says nothing.
    """

    name: str
    limits: Limits
    interval_s: float
    END_SHARE = 2 / 3
    _alarm: Standing = field(init=False)

    def __post_init__(self) -> None:
        self._alarm = Standing(self.name, fresh_ns(self.interval_s))

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Glucose(doubt="", rate_mg_dl_min=rate) if rate is not None:
                return self._judge(seen, -rate if self._falling else rate, self.limits.at(seen.t_ns))
            case Glucose():
                return self._alarm.forget(seen.t_ns, f"Fast {self._word}")
            case _:
                return []

    def _judge(self, reading: Glucose, steep: float, limits: Limits) -> list[Condition]:
        alarm, at_ns = self._alarm, reading.t_ns
        alarm.proven_ns = at_ns
        if not limits.enabled(self.name):
            return alarm.end(at_ns, f"A fast {self._word} of glucose is not watched at this hour")
        limit = limits.rapid_fall_at_least_mg_dl_min if self._falling else limits.rapid_rise_at_least_mg_dl_min
        verb = "falls" if self._falling else "rises"
        text = f"Glucose {verb} by {steep:.1f} mg/dL a minute, now {reading.mg_dl:.0f} mg/dL (limit {limit:g})"
        if steep >= limit:
            if not alarm.on:
                return alarm.begin(at_ns, text, values(reading, limit_mg_dl_min=limit))
            if alarm.due(at_ns, limits.again_after_ns(self.name)):
                again = f"{text}, {alarm.lasting(at_ns)}"
                return alarm.again(at_ns, again, values(reading, limit_mg_dl_min=limit))
            return []
        if steep < self.END_SHARE * limit:
            return alarm.end(at_ns, f"Glucose {reading.mg_dl:.0f} mg/dL, no longer {self._doing} fast")
        return []

    @property
    def _falling(self) -> bool:
        return self.name == "rapid_fall"

    @property
    def _doing(self) -> str:
        return "falling" if self._falling else "rising"

    @property
    def _word(self) -> str:
        return "fall" if self._falling else "rise"
