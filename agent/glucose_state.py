"""What is kept of one person's glucose between steps, and what an alarm on it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from agent.alarms.alert import Asked, Evidence
from agent.alarms.glucose_settings import GlucoseSettings
from agent.alarms.limits import Limits
from agent.alarms.local_time import LocalTime
from agent.alarms.observation import Condition, Observation
from agent.alarms.rule import Rule
from agent.alarms.rules import glucose_rules
from agent.signal.glucose import GlucoseTrack, Pushed
from agent.signal.glycaemia import DailySums
from agent.signal.outlook import Forecast, Glucose, Outlook
from agent.signal.personal import PersonalCalibration
from firmware_bridge.chunk import NS_PER_S, Stream

STRIP_NS = 3 * 3600 * NS_PER_S
"""How far back an alert shows the readings."""
EVENT_OF = {"predicted_low": "lt70_30", "urgent_low_soon": "le54_20", "predicted_high": "gt250_30"}
"""Which event's probability a rule rests on."""
ALLOWED_INTERVALS = 1.5
"""Readings no further apart than this many intervals follow one another."""


@dataclass(slots=True)
class GlucoseState:
    """One person's readings, calibration and rules."""

    stream: Stream
    settings: GlucoseSettings
    track: GlucoseTrack
    personal: PersonalCalibration
    rules: list[Rule]
    days: DailySums
    local: LocalTime
    last: Glucose | None = None
    outlook: Outlook | None = None
    """After `last`; None without a model."""
    generation: int = 0
    """Of the version of `personal` that was kept last, or taken back."""
    kept_day: int = 0
    """The day of readings, counted from 1970, on which that was."""
    believed_ns: int | None = None
    """The last reading that is in no doubt."""

    @classmethod
    def new(cls, stream: Stream, limits: Limits, settings: GlucoseSettings) -> GlucoseState:
        life = settings.sensor(stream.device, stream.channel)
        track = GlucoseTrack(
            stream.interval_s,
            warm_up_s=60.0 * life.warm_up_min,
            lifetime_s=None if life.lifetime_days is None else 86_400.0 * life.lifetime_days,
            session_start_ns=life.started_ns,
        )
        rules = glucose_rules(limits, stream.interval_s, stream.device, stream.channel)
        days = DailySums(stream.interval_s)
        return cls(stream, settings, track, _fitted(settings, PersonalCalibration), rules, days, limits.local)

    def expect(self, glucose: Glucose, forecast: Forecast) -> Outlook | None:
        """What follows for this person from what the model says; None of a time that was learned from before."""
        if glucose.t_ns <= self.personal.newest_ns:
            return None
        return self.personal.push(glucose.t_ns, glucose.mg_dl, forecast)

    def take(self, state_json: str) -> None:
        """Go on from what was learned before; raises ValueError where that cannot be read."""
        self.personal = _fitted(self.settings, partial(PersonalCalibration.from_state, state_json))

    def offset_s(self, t_ns: int) -> float | None:
        """Seconds that local time is ahead of UTC; None where no zone is configured, or UTC, where few live."""
        return None if self.local.zone == "UTC" else float(self.local.offset_s(t_ns))

    def count(self, t_ns: int, mg_dl: float, pushed: Pushed) -> None:
        """Let a reading take part in the measures of its day, whenever it came."""
        if pushed.kind in {"new", "back-fill"}:
            self.days.add(t_ns, mg_dl, self.local.offset_s(t_ns))
        elif pushed.before_mg_dl is not None:
            self.days.revise(t_ns, pushed.before_mg_dl, mg_dl, self.local.offset_s(t_ns))

    def see(self, glucose: Glucose, outlook: Outlook | None) -> list[Condition]:
        """What the rules make of a reading and of what may follow it. One in a wrong unit is told to them alone."""
        if glucose.doubt != "unit":
            self.last, self.outlook = glucose, outlook
        if not glucose.doubt:
            self.believed_ns = glucose.t_ns
        seen: list[Observation] = [glucose] if outlook is None else [glucose, outlook]
        found = [condition for rule in self.rules for condition in rule.advance(glucose.t_ns)]
        return found + [condition for one in seen for rule in self.rules for condition in rule.see(one)]

    def evidence(self, condition: Condition, packs: Mapping[str, tuple[str, str]]) -> Evidence:
        """The readings of the last hours, what was expected, and the model that said so."""
        times_ns, mg_dl = self.track.history(condition.at_ns - STRIP_NS)
        outlook = self.outlook
        event = EVENT_OF.get(condition.rule)
        asked = outlook.inputs if outlook is not None and event is not None else None
        return Evidence(
            strip_t0_ns=int(times_ns[0]) if len(times_ns) else condition.at_ns,
            strip_rate_hz=0.0,
            strip_unit=self.stream.unit,
            strip_channels=("glucose",),
            strip=mg_dl[:, None],
            strip_times_ns=tuple(times_ns.tolist()),
            beats=(),
            quality=outlook.coverage if outlook is not None else 1.0,
            missing_s=self._missing_s(times_ns.tolist()),
            values=dict(condition.values),
            packs=(packs["glucose"],) if event is not None and "glucose" in packs else (),
            expected=outlook.expected if outlook is not None else (),
            asked=() if asked is None or event is None else (Asked("glucose", event, condition.at_ns, asked),),
        )

    def _missing_s(self, times_ns: list[int]) -> float:
        """Of the strip: what its gaps are longer than an interval."""
        apart_ns = [after - before for before, after in pairwise(times_ns)]
        interval_ns = self.stream.interval_s * NS_PER_S
        return sum(max(0.0, apart - ALLOWED_INTERVALS * interval_ns) for apart in apart_ns) / NS_PER_S


def _fitted(settings: GlucoseSettings, made: Callable[..., PersonalCalibration]) -> PersonalCalibration:
    """A calibration, new or from a state, that keeps to the person's settings."""
    personal = made(
        low_alerts_per_day=settings.low_alerts_per_day, urgent_low_alerts_per_day=settings.urgent_low_alerts_per_day
    )
    personal.frozen = settings.personal != "on"
    return personal
