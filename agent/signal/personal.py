"""From what the model says of anybody's glucose to what it means for this person: `PersonalCalibration`.

After every reading the truth about forecasts made before becomes known. From this person's own outcomes, and only
from readings that were there, four things are learned, each inside bounds and close to people at large while there is
little history: a correction of the forecasts and of their interval (`personal_forecast`), a shift of the events'
probabilities, and the thresholds at which warnings start (`personal_alarm`); what may not be learned away is watched
apart (`personal_drift`). Sans-io, one push a reading, causal: what is said after a reading rests on nothing after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from agent.signal.outlook import HIGH_MG_DL, HORIZONS_MIN, Expected, Forecast, Outlook, Risk
from agent.signal.personal_alarm import HOLD_DROP, HOLD_NS, SNOOZE_NS, AlarmBudget, Shift, new_budget
from agent.signal.personal_drift import Drift
from agent.signal.personal_forecast import ForecastFit
from agent.signal.personal_outcomes import BEFORE, CLOSEST_NS, MIN_NS, NEVER_NS, Outcomes, Said, said_of
from agent.signal.personal_population import HIGH_END_BELOW, HIGH_START_AT, LOW, URGENT_LOW, AlarmPrior

SLOT_NS = 5 * MIN_NS
STEP_WITHIN_NS = 20 * MIN_NS
"""Two readings further apart say nothing of how glucose changes now."""
STANDS_FOR_NS = 15 * MIN_NS
"""A reading stands for the time since the one before, at most so long."""
AFTER_LOW_NS = 22 * MIN_NS
"""So long after a low it is no news that another may come: what is eaten against it works by then."""
QUIET_NS = 30 * MIN_NS
"""A low is another one where none was in the half hour before it ..."""
AGAIN_NS = 12 * MIN_NS
"""... and is one at all where the next reading but one is low too."""

CORRECTION_SAYS = 0.05
"""Logits by which an event is less likely for each mg/dL that the forecast is corrected away from it ..."""
LIKELIER_MOST, LESS_LIKELY_MOST = 0.75, 0.4
"""... inside these."""

_DAY_NS = 86_400_000_000_000
_MG_DL = (20.0, 600.0)
_LOGIT_MOST = 14.0


@dataclass(slots=True)
class _Alarm:
    """One alarm about what is to come: its accounts, the shift of its probability, and whether it is on."""

    place: int
    """0 low, 1 urgent low: where in `Said` its logit, score and notifications are."""
    prior: AlarmPrior
    budget: AlarmBudget
    shift: Shift = field(default_factory=Shift)
    on: bool = False
    said_ns: int = NEVER_NS
    """When it last began, or was said again."""
    event_ns: int = NEVER_NS
    """The last reading that was the event."""
    onset_ns: int = NEVER_NS
    """Start of an event that is not confirmed yet."""
    onset_score: float = -99.0

    def margin(self, mg_dl: float, step: float, interval_ns: int) -> float:
        """How much more certainty than at the pivot this reading asks for, logit; `step` mg/dL in five minutes."""
        prior = self.prior
        steps = max(prior.ahead_min * MIN_NS, interval_ns) / SLOT_NS
        x = min(max(mg_dl + step * steps, prior.from_mg_dl), prior.to_mg_dl)
        return prior.slope * (x - prior.pivot_mg_dl) / 10.0

    def score(self, t_ns: int, mg_dl: float, logit: float, margin: float) -> float:
        """What is compared with thresholds; -99 where the event is there, or was a moment ago."""
        if mg_dl < self.prior.limit_mg_dl or t_ns - self.event_ns <= AFTER_LOW_NS:
            return -99.0
        return logit + self.shift.used - margin

    def risk(self, t_ns: int, mg_dl: float, logit: float, margin: float) -> Risk:
        """The event's probability for this person, and when that is an alarm."""
        p = _probability(logit + self.shift.used)
        least, most = self.prior.start_within
        if mg_dl < self.prior.limit_mg_dl:
            self.on = False
            return Risk(p, 1.0, 1.0)
        if t_ns - self.event_ns <= AFTER_LOW_NS:
            start, end = most, most
        else:
            wanted = self.budget.threshold + margin
            start = end = min(max(_probability(wanted), least), most)
            if self.on and t_ns - self.said_ns <= HOLD_NS:
                end = min(_probability(wanted - HOLD_DROP), start)
        if p >= start:
            if not self.on or t_ns - self.said_ns >= SNOOZE_NS:
                self.said_ns = t_ns
            self.on = True
        elif p < end:
            self.on = False
        return Risk(p, start, end)

    def met(self, t_ns: int, mg_dl: float, outcomes: Outcomes, *, learn: bool) -> None:
        """One reading: is it the event, or its confirmation?"""
        if mg_dl >= self.prior.limit_mg_dl:
            return
        interval_ns = outcomes.interval_ns()
        if t_ns - self.event_ns > QUIET_NS:
            best = outcomes.best_score(t_ns, self.place, self.prior.within_min)
            self.onset_ns = t_ns if best is not None else NEVER_NS
            self.onset_score = best if best is not None else -99.0
        elif self.onset_ns != NEVER_NS:
            if learn and t_ns - self.onset_ns <= max(AGAIN_NS, interval_ns + MIN_NS):
                self.budget.happened(self.onset_score)
            self.onset_ns = NEVER_NS
        self.event_ns = t_ns


class PersonalCalibration:
    """One person's own calibration; see the module.

    `push` every accepted reading once, in ascending time. `frozen` may be set at any time: it then answers as before
    and learns nothing, while drift is still watched. The state is some 4 kB (`state_json`, `from_state`).
    """

    __slots__ = ("drift_watch", "fit", "frozen", "high_shift", "low", "outcomes", "urgent_low")

    def __init__(
        self,
        *,
        low_alerts_per_day: float = LOW.per_day,
        urgent_low_alerts_per_day: float = URGENT_LOW.per_day,
        population: tuple[AlarmPrior, AlarmPrior] = (LOW, URGENT_LOW),
    ) -> None:
        """`..._per_day`: false alarms a day that are meant to be held, 0.1 to 10; ValueError beyond. `population`: what
        holds of people at large, of the two alarms."""
        for name, value in (("low", low_alerts_per_day), ("urgent_low", urgent_low_alerts_per_day)):
            if not 0.1 <= value <= 10.0:
                raise ValueError(f"{name}_alerts_per_day {value!r}: expected 0.1 to 10")
        self.frozen = False
        self.fit = ForecastFit()
        self.outcomes = Outcomes()
        self.low = _Alarm(0, population[0], new_budget(population[0], low_alerts_per_day))
        self.urgent_low = _Alarm(1, population[1], new_budget(population[1], urgent_low_alerts_per_day))
        self.high_shift = Shift()
        self.drift_watch = Drift()

    @property
    def drift(self) -> str:
        """What is not as it was when this person was calibrated; "" where all is."""
        return self.drift_watch.text

    @property
    def newest_ns(self) -> int:
        """Time of the last reading pushed, NEVER_NS before the first: what is pushed next must be later."""
        return self.outcomes.said[-1].t_ns if self.outcomes.said else NEVER_NS

    def push(self, t_ns: int, mg_dl: float, forecast: Forecast | None) -> Outlook:
        """One reading and what the model says after it (None where it says nothing), to what follows for this person.

        Without a usable forecast the outlook is not usable and moves no alarm. Raises ValueError where `t_ns` is not
        after the reading before or no time at all, or the reading is no number.
        """
        if not math.isfinite(mg_dl):
            raise ValueError(f"a reading of {mg_dl!r}")
        if not 0 <= t_ns <= -NEVER_NS:
            raise ValueError(f"a reading at {t_ns} ns")
        if t_ns <= self.newest_ns:
            raise ValueError(f"a reading at {t_ns} after one at {self.newest_ns}")
        self._settle(t_ns)
        for alarm in (self.low, self.urgent_low):
            alarm.met(t_ns, mg_dl, self.outcomes, learn=not self.frozen)
        steps = self._steps(t_ns, mg_dl)
        taken = self.outcomes.takes(t_ns)
        if forecast is None or not _sound(forecast):
            outlook, said = _without(t_ns, mg_dl, forecast), said_of(t_ns, _bare(mg_dl, steps[0]))
        else:
            outlook, said = self._fitted(t_ns, mg_dl, steps, forecast, learn=taken and not self.frozen)
        if taken:
            self._met(t_ns, mg_dl)
            self.outcomes.add(said)
        return outlook

    def state_json(self) -> str:
        """All that was learned, and what is under way: a push after `from_state` answers as one without it would."""
        from agent.signal.personal_state import encode  # noqa: PLC0415 (it imports this)

        return encode(self)

    @classmethod
    def from_state(
        cls,
        text: str,
        *,
        low_alerts_per_day: float = LOW.per_day,
        urgent_low_alerts_per_day: float = URGENT_LOW.per_day,
    ) -> PersonalCalibration:
        """From `state_json`. Raises ValueError, with what is wrong, on anything else."""
        from agent.signal.personal_state import decode  # noqa: PLC0415

        fresh = cls(low_alerts_per_day=low_alerts_per_day, urgent_low_alerts_per_day=urgent_low_alerts_per_day)
        decode(text, fresh)
        return fresh

    def _fitted(
        self, t_ns: int, mg_dl: float, steps: tuple[float, float, float], forecast: Forecast, *, learn: bool
    ) -> tuple[Outlook, Said]:
        raw = forecast.expected
        mean = (raw[0].mg_dl, raw[1].mg_dl)
        change = self.fit.correction(self.fit.features(t_ns, steps, mg_dl, mean))
        expected = tuple(self._expected(k, raw[k], change[k]) for k in range(len(HORIZONS_MIN)))
        away = min(max(CORRECTION_SAYS * change[0], -LIKELIER_MOST), LESS_LIKELY_MOST)
        logits = (_logit(forecast.p_low) - away, _logit(forecast.p_urgent_low) - away)
        high = _logit(forecast.p_high) + min(max(CORRECTION_SAYS * change[0], -LESS_LIKELY_MOST), LIKELIER_MOST)
        scores, notified, risks = [-99.0, -99.0], [0, 0], []
        interval_ns = self.outcomes.interval_ns()
        for alarm, logit in zip((self.low, self.urgent_low), logits, strict=True):
            margin = alarm.margin(mg_dl, steps[0], interval_ns)
            if not forecast.usable:
                risks.append(Risk(_probability(logit + alarm.shift.used)))
                continue
            scores[alarm.place] = alarm.score(t_ns, mg_dl, logit, margin)
            if learn:
                notified[alarm.place] = alarm.budget.notifies(t_ns, scores[alarm.place])
            risks.append(alarm.risk(t_ns, mg_dl, logit, margin))
        below = [each.mg_dl - each.low_mg_dl for each in raw]
        above = [each.high_mg_dl - each.mg_dl for each in raw]
        numbers = [mg_dl, steps[0], forecast.usable, *mean, *below, *above, *logits, high, *scores, *notified, 0]
        outlook = Outlook(
            t_ns,
            mg_dl,
            expected,
            risks[0],
            risks[1],
            self._high(mg_dl, high, usable=forecast.usable),
            forecast.coverage,
            forecast.usable,
            forecast.inputs,
        )
        return outlook, said_of(t_ns, numbers)

    def _expected(self, horizon: int, raw: Expected, change: float) -> Expected:
        mean = raw.mg_dl + change
        below, above = self.fit.width(horizon, raw.mg_dl - raw.low_mg_dl, raw.high_mg_dl - raw.mg_dl)
        low, middle, high = (min(max(x, _MG_DL[0]), _MG_DL[1]) for x in (mean - below, mean, mean + above))
        return Expected(raw.minutes, middle, low, high)

    def _high(self, mg_dl: float, logit: float, *, usable: bool) -> Risk:
        p = _probability(logit + self.high_shift.used)
        if not usable:
            return Risk(p)
        return Risk(p, 1.0, 1.0) if mg_dl > HIGH_MG_DL else Risk(p, HIGH_START_AT, HIGH_END_BELOW)

    def _steps(self, t_ns: int, mg_dl: float) -> tuple[float, float, float]:
        """The last three changes, newest first, mg/dL in five minutes."""
        before = [said for said in self.outcomes.said[-8:] if t_ns - said.t_ns >= CLOSEST_NS]
        if not before or t_ns - before[-1].t_ns > STEP_WITHIN_NS:
            return 0.0, 0.0, 0.0
        newest = (mg_dl - before[-1].mg_dl) * SLOT_NS / (t_ns - before[-1].t_ns)
        return newest, before[-1].step, before[-2].step if len(before) > 1 else 0.0

    def _met(self, t_ns: int, mg_dl: float) -> None:
        before = self.outcomes.said
        stood_ns = min(t_ns - before[-1].t_ns, STANDS_FOR_NS) if before else SLOT_NS
        self.drift_watch.met(mg_dl < LOW.limit_mg_dl, stood_ns / _DAY_NS)
        if not self.frozen:
            self.fit.met(mg_dl)

    def _settle(self, now_ns: int) -> None:
        outcomes = self.outcomes
        for place in outcomes.due(now_ns, 30):
            self._settle_events(place)
        for place in outcomes.due(now_ns, 60):
            self._settle_forecasts(place)

    def _settle_events(self, place: int) -> None:
        outcomes = self.outcomes
        said = outcomes.said[place]
        if self.frozen or not said.usable:
            return
        before = outcomes.said[place - 1].t_ns if place else said.t_ns - SLOT_NS
        days = min(said.t_ns - before, STANDS_FOR_NS) / _DAY_NS
        for alarm, minutes in ((self.low, 30), (self.urgent_low, 20)):
            least, _, whole = outcomes.extremes(place, minutes)
            came = least < alarm.prior.limit_mg_dl
            if (whole or came) and said.mg_dl >= alarm.prior.limit_mg_dl:
                alarm.shift.settle(said.logits[alarm.place], came, days)
                alarm.budget.settle(said.notified[alarm.place], came, days)
        _, greatest, whole = outcomes.extremes(place, 30)
        if (whole or greatest > HIGH_MG_DL) and said.mg_dl <= HIGH_MG_DL:
            self.high_shift.settle(said.logits[2], greatest > HIGH_MG_DL, days)

    def _settle_forecasts(self, place: int) -> None:
        outcomes = self.outcomes
        said = outcomes.said[place]
        truth = outcomes.at(place, 30), outcomes.at(place, 60)
        if not said.usable or truth[0] is None or truth[1] is None:
            return
        off = truth[0] - said.mean[0], truth[1] - said.mean[1]
        self.drift_watch.settle(off[0], (said.below if off[0] < 0 else said.above)[0] / 1.645)
        if self.frozen or place < BEFORE:
            return
        steps = said.step, outcomes.said[place - 1].step, outcomes.said[place - 2].step
        features = self.fit.features(said.t_ns, steps, said.mg_dl, said.mean)
        change = self.fit.correction(features)
        for horizon in range(2):
            self.fit.learn_width(horizon, off[horizon] - change[horizon], said.below[horizon], said.above[horizon])
        self.fit.learn(features, off)


def _bare(mg_dl: float, step: float) -> list[float]:
    """A reading after which nothing was said."""
    return [mg_dl, step, 0, mg_dl, mg_dl, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, -99.0, -99.0, 0, 0, 0]


def _without(t_ns: int, mg_dl: float, forecast: Forecast | None) -> Outlook:
    """Of a reading after which nothing is expected: no alarm begins or ends by it."""
    coverage = forecast.coverage if forecast is not None and math.isfinite(forecast.coverage) else 0.0
    return Outlook(t_ns, mg_dl, (), Risk(0.0), Risk(0.0), Risk(0.0), coverage, usable=False)


def _sound(forecast: Forecast) -> bool:
    """Numbers, horizons and order as they should be."""
    if tuple(each.minutes for each in forecast.expected) != HORIZONS_MIN:
        return False
    numbers = [forecast.p_low, forecast.p_urgent_low, forecast.p_high]
    for each in forecast.expected:
        numbers += [each.low_mg_dl, each.mg_dl, each.high_mg_dl]
        if not -1e4 < each.low_mg_dl < each.mg_dl < each.high_mg_dl < 1e4:
            return False
    return all(math.isfinite(number) for number in numbers) and all(0.0 <= p <= 1.0 for p in numbers[:3])


def _logit(p: float) -> float:
    least = 1e-6
    p = min(max(p, least), 1.0 - least)
    return math.log(p / (1.0 - p))


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -_LOGIT_MOST), _LOGIT_MOST)))
