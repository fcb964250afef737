"""Who has seen to each alarm, who asked for peace, and when it must be said again because nobody came.

What an alarm's condition does and what people do about it are two things. The rules and `agent.alarms.states` know the
first, in stream time. This knows the second, by the wall clock, live only: every event of one person (or of the agent)
goes through `take`, what people ask through `acknowledge`, `pause` and `judge`, and time through `advance`. It all
comes back as events, and `state`, to be put on disk with them, is all that is carried.

Nothing here makes an alarm of what is late, keeps one of high priority back, or says again what rests on old data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from agent.alarms.alert import AlertEvent, Attended, Category, Mark, Phase, Priority, State, Verdict
from agent.alarms.budget import AlarmBudget
from agent.alarms.rule import NEVER, seconds
from agent.alarms.states import urgency

RECENT = 64
"""Alerts that are over of which it is remembered enough to be judged."""
ANSWERED = 256
"""Commands of which it is remembered that they were carried out."""
OF_PRIORITY = "priority:"

Fresh = Callable[[str], bool]
"""Whether the data that a rule rests on is of now."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How alarms behave towards people."""

    escalate_after_s: Mapping[Priority, float] = field(
        default_factory=lambda: {Priority.HIGH: 120.0, Priority.MEDIUM: 600.0}
    )
    """Without an acknowledgement; a priority that is not here is never escalated."""
    escalations: int = 3
    """At most so many of one alarm, each after the same time again."""
    latched: frozenset[Priority] = frozenset({Priority.HIGH})
    """Physiological alarms of these stay, when their condition is over, until somebody has acknowledged them."""
    longest_pause_s: Mapping[Priority, float] = field(
        default_factory=lambda: {Priority.HIGH: 900.0, Priority.MEDIUM: 14_400.0, Priority.LOW: 86_400.0}
    )


@dataclass(frozen=True, slots=True)
class Pause:
    """Somebody's wish not to hear an alarm for a while. It is still sent, marked as paused, so that all can see it."""

    target: str
    """A rule, or "priority:medium" or "priority:low"."""
    by: str
    until_ns: int
    while_on: bool = False
    """It ends with the alarm it is about."""

    def covers(self, event: AlertEvent) -> bool:
        return self.target in {event.rule, f"{OF_PRIORITY}{event.priority.value}"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of what somebody asked."""

    accepted: bool
    words: str
    events: tuple[AlertEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """The start of an alarm that is not sent yet."""

    event: AlertEvent
    until_ns: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Suppressed:
    """An alarm that was over before it was sent."""

    event: AlertEvent
    """Its start, as it would have been sent."""
    over_ns: int
    delay_s: float

    @property
    def reason(self) -> str:
        """Why it was not sent, in words."""
        lasted_s = (self.over_ns - self.event.at_ns) / seconds(1.0)
        return f"over after {lasted_s:.0f} s, and held back for {self.delay_s:.0f} s to keep to the alarm budget"


@dataclass(slots=True)
class StandingAlarm:
    """One that is on, or over and latched."""

    event: AlertEvent
    """As last said, without its evidence."""
    said_ns: int
    acknowledged: Mark | None = None
    escalation: int = 0
    latched: bool = False
    unsaid: bool = False
    """A pause ended while the data was old: to be said once it is fresh."""
    verdict: Verdict | None = None


@dataclass(slots=True)
class Attention:
    """The alarms of one person, or of the agent."""

    manners: Manners = field(default_factory=Manners)
    alarms: dict[str, StandingAlarm] = field(default_factory=dict)
    """By alert id."""
    pauses: dict[str, Pause] = field(default_factory=dict)
    """By target."""
    recent: dict[str, AlertEvent] = field(default_factory=dict)
    """The last that are over, by alert id."""
    answered: dict[str, None] = field(default_factory=dict)
    """Ids of commands that were carried out."""
    budget: AlarmBudget = field(default_factory=AlarmBudget)
    held: dict[str, Held] = field(default_factory=dict)
    """What the budget holds back, by alert id."""
    suppressed: list[Suppressed] = field(default_factory=list)
    """What was over before it was sent, for whoever writes it down and clears this."""

    # -- events ---------------------------------------------------------------------------------------------------

    def take(self, event: AlertEvent, now_ns: int, *, restarted: bool = False) -> list[AlertEvent]:
        """The event, with how people stand to it, behind what it puts an end to.

        `restarted`: it is only said again because the agent was restarted, so an acknowledgement still holds.
        """
        if event.phase is Phase.END:
            return self._ended(event, now_ns)
        known = self.alarms.get(event.alert_id)
        if event.late:
            # A report about the past: whoever has acknowledged has acknowledged, and nobody is asked to come.
            return [event if known is None else self._with(known, event)]
        held = self.held.pop(event.alert_id, None)
        if held is not None:  # said again while it is held back: then it is told
            return self._begin(held.event, now_ns)
        if known is None:
            delay_ns = 0 if event.drill else self.budget.begin(event, now_ns)
            if delay_ns and event.phase is Phase.START:
                self.held[event.alert_id] = Held(event, now_ns + delay_ns, delay_ns / seconds(1.0))
                return []
            return self._begin(event, now_ns)
        if known.latched or (event.phase is Phase.CONTINUE and not restarted):
            known.acknowledged, known.escalation, known.said_ns = None, 0, now_ns
            known.latched = known.unsaid = False
        known.event = replace(event, evidence=None)
        return [self._with(known, event)]

    @property
    def due_ns(self) -> int:
        """The clock at which `advance` has something to do if nothing comes between: NEVER where it has not."""
        due_ns = [pause.until_ns for pause in self.pauses.values()]
        due_ns += [held.until_ns for held in self.held.values()]
        due_ns += [self._due_of(alarm) for alarm in self.alarms.values()]
        return min(due_ns, default=NEVER)

    def _due_of(self, alarm: StandingAlarm) -> int:
        if alarm.latched or alarm.acknowledged is not None or self._pause_of(alarm.event) is not None:
            return NEVER
        if alarm.unsaid:
            return 0
        after_s = self.manners.escalate_after_s.get(alarm.event.priority)
        if not after_s or alarm.escalation >= self.manners.escalations:
            return NEVER
        return alarm.said_ns + seconds(after_s)

    def advance(self, now_ns: int, fresh: Fresh) -> list[AlertEvent]:
        """Let time pass: pauses end, and what nobody acknowledged is escalated."""
        ended = [pause for pause in self.pauses.values() if pause.until_ns <= now_ns]
        for pause in ended:
            self._end_pause(pause)
        events: list[AlertEvent] = []
        for held in [one for one in self.held.values() if one.until_ns <= now_ns]:
            del self.held[held.event.alert_id]
            events += self._begin(held.event, now_ns)
        for alarm in self.alarms.values():
            if self._due_of(alarm) > now_ns:
                continue
            if alarm.unsaid:
                if fresh(alarm.event.rule):
                    events.append(self._say_again(alarm, now_ns))
            else:
                alarm.escalation += 1
                alarm.said_ns = now_ns
                minutes = (now_ns - alarm.event.onset_ns) / seconds(60.0)
                text = f"Not acknowledged, {minutes:.0f} min after it began: {alarm.event.text}"
                events.append(self._told(alarm, Phase.ESCALATE, now_ns, text))
        return events

    # -- what people ask ----------------------------------------------------------------------------------------------

    def acknowledge(self, alert_id: str, by: str, now_ns: int) -> Outcome:
        """Somebody has seen it."""
        alarm = self.alarms.get(alert_id)
        if alarm is None:
            over = alert_id in self.recent
            return Outcome(over, "is over" if over else "is not known")
        if alarm.acknowledged is not None:
            return Outcome(True, f"was acknowledged by {alarm.acknowledged.by}")
        alarm.acknowledged, alarm.unsaid = Mark(by, now_ns), False
        phase = Phase.DE_ESCALATE if alarm.escalation else Phase.UPDATE
        if alarm.latched:
            self._forget(alarm)
        event = self._told(alarm, phase, now_ns, f"Acknowledged by {by}: {alarm.event.text}")
        return Outcome(True, "acknowledged", (event,))

    def pause(self, target: str, duration_s: float, by: str, now_ns: int, *, while_on: bool = False) -> Outcome:
        """Somebody asks not to hear alarms of a rule or priority for so long; a new pause replaces the old."""
        priority = _priority_of(target)
        if priority is None:
            return Outcome(False, "is no rule and no priority")
        if target == OF_PRIORITY + Priority.HIGH:
            return Outcome(False, "alarms of high priority are paused one by one")
        longest_s = self.manners.longest_pause_s[priority]
        if not 0 < duration_s <= longest_s:
            return Outcome(False, f"can be paused for up to {longest_s / 60:g} min")
        if while_on and not any(not alarm.latched and target == alarm.event.rule for alarm in self.alarms.values()):
            return Outcome(False, "is not on")
        pause = Pause(target, by, now_ns + seconds(duration_s), while_on)
        self.pauses[target] = pause
        events = [
            self._told(alarm, Phase.UPDATE, now_ns, f"Paused by {by} for {duration_s / 60:g} min: {alarm.event.text}")
            for alarm in self.alarms.values()
            if pause.covers(alarm.event) and not alarm.latched
        ]
        return Outcome(True, "paused", tuple(events))

    def resume(self, target: str, by: str, now_ns: int, fresh: Fresh) -> Outcome:
        """A pause is called off: what is on is said again at once where it is of now."""
        pause = self.pauses.get(target)
        if pause is None:
            return Outcome(True, "was not paused")
        self._end_pause(pause)
        return Outcome(True, f"not paused any more, says {by}", tuple(self.advance(now_ns, fresh)))

    def judge(self, alert_id: str, verdict: Verdict) -> Outcome:
        """Somebody says what an alert was worth, of one that is on or has been lately."""
        alarm = self.alarms.get(alert_id)
        past = self.recent.get(alert_id)
        if alarm is None and past is None:
            return Outcome(False, "is not known, or too long ago")
        if verdict.word == "true":
            self.budget.judge_true(alert_id, verdict.at_ns)
        before = alarm.verdict if alarm is not None else (past.attended.verdict if past and past.attended else None)
        if before is not None and (before.word, before.note, before.by) == (verdict.word, verdict.note, verdict.by):
            return Outcome(True, "was judged so")
        words = f"Judged {verdict.word.replace('_', ' ')} by {verdict.by}"
        if alarm is not None:
            alarm.verdict = verdict
            event = self._told(alarm, Phase.UPDATE, verdict.at_ns, f"{words}: {alarm.event.text}")
        else:
            assert past is not None  # noqa: S101 (one of the two is there)
            attended = replace(past.attended or Attended(State.INACTIVE), verdict=verdict)
            self.recent[alert_id] = replace(past, attended=attended)
            text = f"{words}: {past.text}"
            event = replace(past, phase=Phase.UPDATE, at_ns=verdict.at_ns, text=text, attended=attended)
        return Outcome(True, "judged", (event,))

    def remember(self, command_id: str) -> None:
        """A command was carried out: it is in `answered` from now on, for a while."""
        self.answered[command_id] = None
        while len(self.answered) > ANSWERED:
            del self.answered[next(iter(self.answered))]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _ended(self, event: AlertEvent, now_ns: int) -> list[AlertEvent]:
        self.budget.end(event.alert_id, now_ns)
        held = self.held.pop(event.alert_id, None)
        if held is None:
            return [self._over(event)]
        self.suppressed.append(Suppressed(held.event, now_ns, held.delay_s))
        return []

    def _begin(self, event: AlertEvent, now_ns: int) -> list[AlertEvent]:
        before = self._replaced(event.rule, now_ns)
        alarm = self.alarms[event.alert_id] = StandingAlarm(replace(event, evidence=None), now_ns)
        return [*before, self._with(alarm, event)]

    def _over(self, event: AlertEvent) -> AlertEvent:
        alarm = self.alarms.get(event.alert_id)
        for pause in [one for one in self.pauses.values() if one.while_on and one.target == event.rule]:
            del self.pauses[pause.target]
        if alarm is None:
            self._remember(event)
            return replace(event, attended=Attended(State.INACTIVE))
        alarm.event, alarm.unsaid = replace(event, evidence=None), False
        latches = event.category is Category.PHYSIOLOGICAL and event.priority in self.manners.latched
        alarm.latched = latches and alarm.acknowledged is None and not event.drill
        if not alarm.latched:
            self._forget(alarm)
        return self._with(alarm, event)

    def _replaced(self, rule: str, now_ns: int) -> list[AlertEvent]:
        """One that is over and was never acknowledged gives way to the next of its rule, or they would pile up."""
        latched = [alarm for alarm in self.alarms.values() if alarm.latched and alarm.event.rule == rule]
        for alarm in latched:
            self._forget(alarm)
        return [
            self._told(alarm, Phase.UPDATE, now_ns, f"Never acknowledged, and here again: {alarm.event.text}")
            for alarm in latched
        ]

    def _say_again(self, alarm: StandingAlarm, now_ns: int) -> AlertEvent:
        alarm.unsaid, alarm.said_ns, alarm.escalation = False, now_ns, 0
        return self._told(alarm, Phase.CONTINUE, now_ns, alarm.event.text)

    def _end_pause(self, pause: Pause) -> None:
        del self.pauses[pause.target]
        for alarm in self.alarms.values():
            if pause.covers(alarm.event) and not alarm.latched and alarm.acknowledged is None:
                alarm.unsaid = True

    def _pause_of(self, event: AlertEvent) -> Pause | None:
        covering = [pause for pause in self.pauses.values() if pause.covers(event)]
        return max(covering, key=lambda pause: pause.until_ns, default=None)

    def _forget(self, alarm: StandingAlarm) -> None:
        self.alarms.pop(alarm.event.alert_id)
        alarm.latched = False
        self._remember(replace(alarm.event, phase=Phase.END, attended=self._attended(alarm, on=False)))

    def _remember(self, event: AlertEvent) -> None:
        self.recent.pop(event.alert_id, None)
        self.recent[event.alert_id] = replace(event, evidence=None)
        while len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]

    def _attended(self, alarm: StandingAlarm, *, on: bool) -> Attended:
        state = State.LATCHED if alarm.latched else State.ACTIVE if on else State.INACTIVE
        pause = self._pause_of(alarm.event) if on else None
        paused = Mark(pause.by, pause.until_ns) if pause is not None else None
        return Attended(state, alarm.acknowledged, paused, alarm.escalation, alarm.verdict)

    def _with(self, alarm: StandingAlarm, event: AlertEvent) -> AlertEvent:
        on = self.alarms.get(alarm.event.alert_id) is alarm
        return replace(event, attended=self._attended(alarm, on=on))

    def _told(self, alarm: StandingAlarm, phase: Phase, now_ns: int, text: str) -> AlertEvent:
        return self._with(alarm, replace(alarm.event, phase=phase, at_ns=now_ns, text=text))


def _priority_of(target: str) -> Priority | None:
    """That of a rule, or the one that is named; None for a target that is neither."""
    try:
        return Priority(target.removeprefix(OF_PRIORITY)) if target.startswith(OF_PRIORITY) else urgency(target)[1]
    except (KeyError, ValueError):
        return None
