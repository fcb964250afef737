"""Which alarms are on for a person, and what each change of that means to a subscriber."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.alarms.alert import AlertEvent, Category, Evidence, Phase, Priority, alert_id
from agent.alarms.limits import GLUCOSE_RULES
from agent.alarms.observation import Condition

PHYSIOLOGICAL: dict[str, Priority] = {
    "asystole": Priority.HIGH,
    "ventricular_fibrillation": Priority.HIGH,
    "ventricular_tachycardia": Priority.HIGH,
    "bradycardia": Priority.HIGH,
    "tachycardia": Priority.HIGH,
    "pause": Priority.MEDIUM,
    "atrial_fibrillation": Priority.MEDIUM,
    "ventricular_bigeminy": Priority.LOW,
    "pvc_burden": Priority.LOW,
    "urgent_low": Priority.HIGH,
    "low": Priority.MEDIUM,
    "urgent_low_soon": Priority.MEDIUM,
    "persistent_high": Priority.MEDIUM,
    "predicted_low": Priority.LOW,
    "high": Priority.LOW,
    "predicted_high": Priority.LOW,
    "rapid_fall": Priority.LOW,
    "rapid_rise": Priority.LOW,
}
TECHNICAL: dict[str, Priority] = {
    "stream_silent": Priority.MEDIUM,
    "lead_off": Priority.MEDIUM,
    "poor_signal": Priority.LOW,
    "clock_step": Priority.LOW,
    "agent_restarted": Priority.LOW,
    "analysis_fault": Priority.MEDIUM,
    "outbox_full": Priority.MEDIUM,
    "overload": Priority.MEDIUM,
    "worker_down": Priority.MEDIUM,
    "model_missing": Priority.MEDIUM,
    "model_runtime": Priority.LOW,
    "cgm_doubt": Priority.MEDIUM,
    "context_refused": Priority.LOW,
    "webhook": Priority.MEDIUM,
    "bluetooth": Priority.MEDIUM,
    "serial_port": Priority.MEDIUM,
    "device_trouble": Priority.LOW,
    "device_battery": Priority.LOW,
    "machine_hot": Priority.MEDIUM,
    "under_voltage": Priority.MEDIUM,
    "machine_battery": Priority.MEDIUM,
}


def urgency(rule: str) -> tuple[Category, Priority]:
    """Category and priority of a rule; a technical rule may carry the name of what it is about after a colon."""
    name = rule.partition(":")[0]
    if name in PHYSIOLOGICAL:
        return Category.PHYSIOLOGICAL, PHYSIOLOGICAL[name]
    return Category.TECHNICAL, TECHNICAL[name]


def of_glucose(rule: str) -> bool:
    """Whether a rule rests on readings of glucose that are believed: only those bear out what it said."""
    return rule in GLUCOSE_RULES


def of_glucose_sensor(rule: str) -> bool:
    """Whether a rule rests on any readings of a glucose sensor, those in doubt too."""
    return rule.partition(":")[0] == "cgm_doubt"


def of_anything_else(rule: str) -> bool:
    """Whether a rule rests on none of a glucose sensor's readings."""
    return not (of_glucose(rule) or of_glucose_sensor(rule))


def _any(_rule: str) -> bool:
    return True


@dataclass(slots=True)
class ActiveAlarm:
    alert_id: str
    rule: str
    onset_ns: int
    text: str
    reported_late: bool
    ended_late: str = ""
    """What late data said of its end: the alarm was live, so it stays on until fresh data bears that out."""
    shown_ns: int = 0
    """When data last said that it is on."""
    fresh_ns: int = 0
    """See Condition."""
    unsaid: bool = False
    """Live, and to be said again once there is fresh data: a restart found only old."""


@dataclass(slots=True)
class AlarmStates:
    """The alarms of one person. Every condition goes through `apply`, in stream-time order.

    `late_after_ns` is the age past which data is a report about the past, unless a condition says that what it rests
    on is of now for longer. It needs the time now, which is None in a replay, where nothing is late.
    """

    patient: str
    late_after_ns: int
    active: dict[str, ActiveAlarm] = field(default_factory=dict)

    def apply(
        self, condition: Condition, now_ns: int | None, evidence: Callable[[Condition], Evidence | None]
    ) -> list[AlertEvent]:
        late = now_ns is not None and now_ns - condition.at_ns > max(self.late_after_ns, condition.fresh_ns)
        known = self.active.get(condition.rule)
        if condition.again and known is not None:
            return [] if late else self._again(known, condition, evidence)
        if condition.active:
            return self._start(condition, late, evidence)
        return self._end(condition, late)

    def _again(
        self, alarm: ActiveAlarm, condition: Condition, evidence: Callable[[Condition], Evidence | None]
    ) -> list[AlertEvent]:
        """It is of now, whatever late data said of it before."""
        alarm.text, alarm.shown_ns = condition.text, condition.at_ns
        alarm.reported_late = alarm.unsaid = False
        alarm.ended_late = ""
        return [self._event(alarm, Phase.CONTINUE, condition.at_ns, condition.text, False, evidence(condition))]

    def _start(
        self, condition: Condition, late: bool, evidence: Callable[[Condition], Evidence | None]
    ) -> list[AlertEvent]:
        known = self.active.get(condition.rule)
        if known is not None and not known.ended_late:
            return []
        if known is not None and late:
            # Only late data said that it was over, and now says that it is not: to whoever watches it never ended.
            known.ended_late = ""
            known.text, known.shown_ns = condition.text, condition.at_ns
            return [self._event(known, Phase.UPDATE, condition.at_ns, condition.text, late, evidence(condition))]
        ended = [self._event(known, Phase.END, condition.at_ns, known.ended_late, late)] if known is not None else []
        alarm = ActiveAlarm(
            alert_id(self.patient, condition.rule, condition.onset_ns),
            condition.rule,
            condition.onset_ns,
            condition.text,
            late,
            shown_ns=condition.at_ns,
            fresh_ns=condition.fresh_ns,
        )
        self.active[condition.rule] = alarm
        return [*ended, self._event(alarm, Phase.START, condition.at_ns, condition.text, late, evidence(condition))]

    def _end(self, condition: Condition, late: bool) -> list[AlertEvent]:
        alarm = self.active.get(condition.rule)
        if alarm is None:
            return []
        if late and not alarm.reported_late:
            alarm.ended_late = condition.text
            return []
        del self.active[condition.rule]
        return [
            replace(self._event(alarm, Phase.END, condition.at_ns, condition.text, late), until_ns=condition.until_ns)
        ]

    @property
    def waits_for_data(self) -> bool:
        """Whether an alarm waits for data that is of now: see `caught_up`."""
        if not self.active:
            return False
        return any(alarm.ended_late or alarm.reported_late or alarm.unsaid for alarm in self.active.values())

    def caught_up(
        self, frontier_ns: int, now_ns: int | None, concerned: Callable[[str], bool] = _any
    ) -> list[AlertEvent]:
        """Once data is fresh: alarms that began in late data are said again as of now, those that ended in it end.

        `frontier_ns`: where the data ends on which the rules rest that are `concerned`, and on which no other does.
        """
        if now_ns is None:
            return []
        events = []
        for alarm in list(self.active.values()):
            if not concerned(alarm.rule) or now_ns - frontier_ns > max(self.late_after_ns, alarm.fresh_ns):
                continue
            if alarm.ended_late:
                del self.active[alarm.rule]
                events.append(self._event(alarm, Phase.END, frontier_ns, alarm.ended_late, late=False))
            elif alarm.reported_late or alarm.unsaid:
                alarm.reported_late = alarm.unsaid = False
                events.append(self._event(alarm, Phase.CONTINUE, frontier_ns, alarm.text, late=False))
        return events

    def still_on(self, at_ns: int) -> list[AlertEvent]:
        """Every active alarm said again: after a restart of the agent.

        One that rests on readings minutes apart only while they are of now, and otherwise once there is a fresh one.
        """
        events = []
        for alarm in self.active.values():
            if alarm.reported_late:
                continue
            if alarm.fresh_ns and at_ns - alarm.shown_ns > max(self.late_after_ns, alarm.fresh_ns):
                alarm.unsaid = True
                continue
            events.append(self._event(alarm, Phase.CONTINUE, at_ns, alarm.text, late=False))
        return events

    def _event(
        self, alarm: ActiveAlarm, phase: Phase, at_ns: int, text: str, late: bool, evidence: Evidence | None = None
    ) -> AlertEvent:
        category, priority = urgency(alarm.rule)
        return AlertEvent(
            alert_id=alarm.alert_id,
            patient=self.patient,
            rule=alarm.rule,
            category=category,
            priority=priority,
            phase=phase,
            onset_ns=alarm.onset_ns,
            at_ns=at_ns,
            text=text,
            late=late,
            evidence=evidence,
        )
