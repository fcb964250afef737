"""How many low and medium alarms a day somebody is told of, and what is held back a while to keep to it.

Nearly all false alarms of low urgency are short: a few seconds of bigeminy, a lead that touches again. So an alarm
that may wait is held back for a delay, and if its condition is over by then it is not sent, but written down as
suppressed. The delay is adapted: the shortest with which the alarms of the last 24 hours would have kept to the budget,
never beyond the bound of its rule, and never as long as an alarm of that rule which somebody judged to be true.
High priority is never held back, nor is what is over in an instant, or urgent although its priority is not high.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.alarms.alert import AlertEvent, Priority
from agent.alarms.rule import seconds

DAY_NS = seconds(86_400.0)
MAY_WAIT_S: dict[str, float] = {
    "atrial_fibrillation": 300.0,
    "ventricular_bigeminy": 120.0,
    "pvc_burden": 600.0,
    "poor_signal": 300.0,
    "lead_off": 60.0,
    "stream_silent": 120.0,
    "high": 1800.0,
    "predicted_high": 900.0,
    "rapid_rise": 900.0,
}
"""Seconds that an alarm of a rule may be held back at most. Rules that are not here are never held back."""
STEPS = 20
MOST_KEPT = 500


@dataclass(slots=True)
class Counted:
    """An alarm of the last day, sent or not."""

    rule: str
    began_ns: int
    lasted_s: float | None = None
    """None while it is on."""


@dataclass(slots=True)
class AlarmBudget:
    """That of one person. Times are of the wall clock."""

    per_day: float = 0.0
    """0: nothing is held back."""
    counted: dict[str, Counted] = field(default_factory=dict)
    """By alert id, the oldest first."""
    true_s: dict[str, float] = field(default_factory=dict)
    """By rule, how long the shortest alarm lasted that somebody judged to be true."""
    tightness: float = 0.0
    """Share of its bound for which each rule's alarms are held back, 0 to 1."""

    def begin(self, event: AlertEvent, now_ns: int) -> int:
        """A low or medium alarm begins: for how many ns it is to be held back."""
        if not self.per_day or event.priority is Priority.HIGH:
            return 0
        self._forget(now_ns)
        self.counted[event.alert_id] = Counted(base_rule(event.rule), now_ns)
        self.tightness = self._needed()
        return seconds(self.delay_s(base_rule(event.rule)))

    def end(self, alert_id: str, now_ns: int) -> None:
        """An alarm's condition is over."""
        known = self.counted.get(alert_id)
        if known is not None and known.lasted_s is None:
            known.lasted_s = (now_ns - known.began_ns) / 1e9

    def judge_true(self, alert_id: str, now_ns: int) -> None:
        """Somebody judged it to be true: one of its kind that lasts as long will be sent."""
        known = self.counted.get(alert_id)
        if known is not None:
            lasted_s = known.lasted_s if known.lasted_s is not None else (now_ns - known.began_ns) / 1e9
            self.true_s[known.rule] = min(lasted_s, self.true_s.get(known.rule, lasted_s))

    def delay_s(self, rule: str, tightness: float | None = None) -> float:
        """For how long alarms of a rule are held back at present."""
        delay_s = (self.tightness if tightness is None else tightness) * MAY_WAIT_S.get(rule, 0.0)
        return min(delay_s, 0.9 * self.true_s[rule]) if rule in self.true_s else delay_s

    def _needed(self) -> float:
        """The least tightness that keeps the last day's alarms within the budget; 1 where none does."""
        return next((step / STEPS for step in range(STEPS) if self._sent(step / STEPS) <= self.per_day), 1.0)

    def _sent(self, tightness: float) -> int:
        """How many of the last day's alarms would have been sent."""
        return sum(
            one.lasted_s is None or one.lasted_s >= self.delay_s(one.rule, tightness) for one in self.counted.values()
        )

    def _forget(self, now_ns: int) -> None:
        for alert_id, one in list(self.counted.items()):
            if now_ns - one.began_ns > DAY_NS or len(self.counted) > MOST_KEPT:
                del self.counted[alert_id]


def base_rule(rule: str) -> str:
    """The rule without the name of what it is about."""
    return rule.partition(":")[0]
