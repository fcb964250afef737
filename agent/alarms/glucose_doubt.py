"""The technical rule about a glucose sensor whose readings are no evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.alarms.glucose import Standing, fresh_ns
from agent.alarms.observation import Condition, Observation
from agent.alarms.rule import seconds
from agent.signal.outlook import URGENT_LOW_MG_DL, Glucose

_ONLY_URGENT = "only urgent lows are alarmed, and in doubt"
_SAID = {
    "unit": "sends values that look like another unit than is declared: no glucose alarm can be given",
    "warm-up": f"is warming up: {_ONLY_URGENT}",
    "expired": f"is past its lifetime: {_ONLY_URGENT}",
    "stuck": f"sends the same value again and again: {_ONLY_URGENT}",
    "jump": f"sends values that jump more than glucose can: {_ONLY_URGENT}",
    "compression": f"reads low as if it were lain on: {_ONLY_URGENT}",
}
"""What each doubt means to who relies on the alarms."""


@dataclass(slots=True)
class SensorDoubted:
    """The readings of one sensor are in doubt, and why; `what` names the sensor to a reader.

    A jump or a compression may be over with the next reading, and is said only once it has lasted PASSING_S; any other
    doubt at its first reading. It ends at the second reading in a row without doubt; another doubt is another alarm. A
    gap ends nothing, and doubtful readings before and after one are counted together.
    """

    name: str
    what: str
    interval_s: float
    PASSING = ("jump", "compression")
    PASSING_S = 900.0
    END_READINGS = 2
    _alarm: Standing = field(init=False)
    _doubt: str = ""
    _since_ns: int = 0
    _good: int = 0

    def __post_init__(self) -> None:
        self._alarm = Standing(self.name, fresh_ns(self.interval_s))

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Glucose(doubt="", mg_dl=mg_dl) if mg_dl <= URGENT_LOW_MG_DL:
                return []  # never doubted away, so it says nothing of the sensor
            case Glucose(doubt=""):
                return self._believed(seen)
            case Glucose():
                return self._doubted(seen)
            case _:
                return []

    def _believed(self, reading: Glucose) -> list[Condition]:
        self._good += 1
        if self._good < self.END_READINGS:
            return []
        self._doubt = ""
        return self._alarm.end(reading.t_ns, f"{self.what}: readings count again")

    def _doubted(self, reading: Glucose) -> list[Condition]:
        self._good = 0
        out: list[Condition] = []
        if reading.doubt != self._doubt:
            out = self._alarm.end(reading.t_ns, f"{self.what}: no longer for that reason")
            self._doubt, self._since_ns = reading.doubt, reading.t_ns
        lasted_ns = reading.t_ns - self._since_ns
        if self._alarm.on or (reading.doubt in self.PASSING and lasted_ns < seconds(self.PASSING_S)):
            return out
        text = f"{self.what} {_SAID.get(reading.doubt, f'is in doubt ({reading.doubt}): {_ONLY_URGENT}')}"
        measured = (("glucose_mg_dl", round(reading.mg_dl, 1)), ("doubt", reading.doubt))
        return [*out, *self._alarm.begin(reading.t_ns, text, measured, onset_ns=self._since_ns)]
