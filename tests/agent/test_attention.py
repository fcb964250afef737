"""What people do about alarms: acknowledge, pause, judge; and what is said again because nobody did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.alarms.alert import AlertEvent, Attended, Category, Mark, Phase, Priority, State, Verdict, alert_id
from agent.alarms.attention import Attention, Manners, Outcome
from agent.alarms.attention_state import from_json, to_json
from agent.alarms.budget import MAY_WAIT_S, AlarmBudget
from agent.alarms.states import urgency

S = 1_000_000_000
MIN = 60 * S
NURSE = "nurse-3"
NOW = 1_000 * MIN


def event(
    rule: str, phase: Phase = Phase.START, at_ns: int = NOW, onset_ns: int = NOW, *, late: bool = False
) -> AlertEvent:
    category, priority = urgency(rule)
    return AlertEvent(
        alert_id("anna", rule, onset_ns), "anna", rule, category, priority, phase, onset_ns, at_ns, rule, late
    )


def always(_rule: str) -> bool:
    return True


def never(_rule: str) -> bool:
    return False


def took(attention: Attention, said: AlertEvent, now_ns: int = NOW) -> Attended:
    (out,) = attention.take(said, now_ns)
    assert out.attended is not None
    return out.attended


def phases(events: list[AlertEvent] | tuple[AlertEvent, ...]) -> list[Phase]:
    return [one.phase for one in events]


@pytest.fixture
def attention() -> Attention:
    return Attention()


# -- acknowledging and escalating ------------------------------------------------------------------------------------


def test_an_alarm_that_nobody_acknowledges_is_escalated_as_often_as_agreed(attention: Attention) -> None:
    attention.take(event("asystole"), NOW)
    assert attention.advance(NOW + 2 * MIN - 1, always) == []
    said = [attention.advance(NOW + minute * MIN, always) for minute in range(2, 20)]
    escalations = [one for events in said for one in events]
    assert phases(escalations) == [Phase.ESCALATE] * 3
    assert [one.attended.escalation for one in escalations if one.attended] == [1, 2, 3]
    assert [(one.at_ns - NOW) // MIN for one in escalations] == [2, 4, 6]
    assert escalations[0].text == "Not acknowledged, 2 min after it began: asystole"


@pytest.mark.parametrize(
    ("rule_name", "minutes"), [("asystole", 2), ("pause", 10), ("stream_silent", 10), ("high", None)]
)
def test_each_priority_has_its_deadline(attention: Attention, rule_name: str, minutes: int | None) -> None:
    attention.take(event(rule_name), NOW)
    due = next((m for m in range(1, 1000) if attention.advance(NOW + m * MIN, always)), None)
    assert due == minutes


def test_who_acknowledged_and_when_is_in_every_event_from_then_on(attention: Attention) -> None:
    began = event("asystole")
    attention.take(began, NOW)
    outcome = attention.acknowledge(began.alert_id, NURSE, NOW + MIN)
    assert (outcome.accepted, phases(outcome.events)) == (True, [Phase.UPDATE])
    assert outcome.events[0].attended == Attended(State.ACTIVE, Mark(NURSE, NOW + MIN))
    assert attention.advance(NOW + 60 * MIN, always) == []
    assert took(attention, replace(began, phase=Phase.END)) == Attended(State.INACTIVE, Mark(NURSE, NOW + MIN))


def test_acknowledging_after_an_escalation_calls_it_off(attention: Attention) -> None:
    began = event("asystole")
    attention.take(began, NOW)
    attention.advance(NOW + 2 * MIN, always)
    assert phases(attention.acknowledge(began.alert_id, NURSE, NOW + 3 * MIN).events) == [Phase.DE_ESCALATE]
    assert attention.advance(NOW + 60 * MIN, always) == []


def test_acknowledging_twice_says_nothing_twice(attention: Attention) -> None:
    began = event("pause")
    attention.take(began, NOW)
    attention.acknowledge(began.alert_id, NURSE, NOW)
    assert attention.acknowledge(began.alert_id, "another", NOW) == Outcome(True, f"was acknowledged by {NURSE}")


def test_acknowledging_what_is_over_or_was_never_there_changes_nothing(attention: Attention) -> None:
    attention.take(event("pause"), NOW)
    attention.take(event("pause", Phase.END), NOW)
    assert attention.acknowledge(event("pause").alert_id, NURSE, NOW) == Outcome(True, "is over")
    assert attention.acknowledge("no such", NURSE, NOW) == Outcome(False, "is not known")


def test_an_alarm_that_its_rule_says_again_wants_to_be_acknowledged_again(attention: Attention) -> None:
    """Still low half an hour after somebody has seen to it."""
    began = event("urgent_low")
    attention.take(began, NOW)
    attention.acknowledge(began.alert_id, NURSE, NOW)
    again = replace(began, phase=Phase.CONTINUE, at_ns=NOW + 15 * MIN)
    assert took(attention, again, NOW + 15 * MIN) == Attended(State.ACTIVE)
    assert phases(attention.advance(NOW + 17 * MIN, always)) == [Phase.ESCALATE]


def test_a_restart_of_the_agent_undoes_no_acknowledgement(attention: Attention) -> None:
    began = event("asystole")
    attention.take(began, NOW)
    attention.acknowledge(began.alert_id, NURSE, NOW)
    (again,) = attention.take(replace(began, phase=Phase.CONTINUE), NOW + MIN, restarted=True)
    assert again.attended == Attended(State.ACTIVE, Mark(NURSE, NOW))


# -- latching --------------------------------------------------------------------------------------------------------


def test_a_high_alarm_that_passed_unseen_stays_until_it_is_acknowledged(attention: Attention) -> None:
    attention.take(event("ventricular_tachycardia"), NOW)
    over = event("ventricular_tachycardia", Phase.END)
    assert took(attention, over).state is State.LATCHED
    assert attention.advance(NOW + 60 * MIN, always) == []  # it is over: nobody is called to it
    (acknowledged,) = attention.acknowledge(over.alert_id, NURSE, NOW + 61 * MIN).events
    assert acknowledged.attended == Attended(State.INACTIVE, Mark(NURSE, NOW + 61 * MIN))
    assert not attention.alarms


def test_a_drill_leaves_nothing_behind(attention: Attention) -> None:
    attention.take(replace(event("asystole"), drill=True), NOW)
    assert took(attention, replace(event("asystole", Phase.END), drill=True)).state is State.INACTIVE
    assert not attention.alarms


@pytest.mark.parametrize("rule_name", ["pause", "high", "stream_silent"])
def test_others_are_over_when_they_are_over(attention: Attention, rule_name: str) -> None:
    attention.take(event(rule_name), NOW)
    assert took(attention, event(rule_name, Phase.END)).state is State.INACTIVE
    assert not attention.alarms


def test_latched_alarms_of_one_rule_do_not_pile_up(attention: Attention) -> None:
    for minute in range(5):
        began = event("asystole", at_ns=NOW + minute * MIN, onset_ns=NOW + minute * MIN)
        said = attention.take(began, began.at_ns)
        assert phases(said) == ([Phase.UPDATE] if minute else []) + [Phase.START]
        if minute:
            assert said[0].attended is not None
            assert said[0].attended.state is State.INACTIVE
            assert said[0].alert_id != began.alert_id
        attention.take(replace(began, phase=Phase.END), began.at_ns + S)
    assert len(attention.alarms) == 1


# -- pausing ---------------------------------------------------------------------------------------------------------


def test_a_paused_alarm_is_sent_and_marked_and_said_again_when_the_pause_is_over(attention: Attention) -> None:
    began = event("low")
    attention.take(began, NOW)
    outcome = attention.pause("low", 1800.0, NURSE, NOW)
    assert outcome.events[0].attended == Attended(State.ACTIVE, paused=Mark(NURSE, NOW + 30 * MIN))
    assert attention.advance(NOW + 29 * MIN, always) == []
    (again,) = attention.advance(NOW + 30 * MIN, always)
    assert (again.phase, again.attended) == (Phase.CONTINUE, Attended(State.ACTIVE))


def test_a_pause_that_ends_while_the_data_is_old_waits_for_fresh_data(attention: Attention) -> None:
    """A snoozed alarm must not come back on stale data."""
    attention.take(event("low"), NOW)
    attention.pause("low", 1800.0, NURSE, NOW)
    assert all(attention.advance(NOW + minute * MIN, never) == [] for minute in range(30, 300))
    assert phases(attention.advance(NOW + 300 * MIN, always)) == [Phase.CONTINUE]


def test_a_pause_that_ends_after_its_alarm_says_nothing(attention: Attention) -> None:
    attention.take(event("low"), NOW)
    attention.pause("low", 1800.0, NURSE, NOW)
    attention.take(event("low", Phase.END), NOW + MIN)
    assert attention.advance(NOW + 60 * MIN, always) == []


def test_nothing_paused_is_escalated(attention: Attention) -> None:
    attention.take(event("asystole"), NOW)
    attention.pause("asystole", 900.0, NURSE, NOW)
    assert attention.advance(NOW + 14 * MIN, always) == []
    assert phases(attention.advance(NOW + 15 * MIN, always)) == [Phase.CONTINUE]
    assert phases(attention.advance(NOW + 17 * MIN, always)) == [Phase.ESCALATE]


def test_a_pause_is_by_level_a_worse_one_is_heard(attention: Attention) -> None:
    attention.pause("low", 1800.0, NURSE, NOW)
    assert took(attention, event("low")).paused is not None
    assert took(attention, event("urgent_low")).paused is None


def test_a_priority_can_be_paused_but_never_the_highest(attention: Attention) -> None:
    assert not attention.pause("priority:high", 60.0, NURSE, NOW).accepted
    assert attention.pause("priority:medium", 60.0, NURSE, NOW).accepted
    assert took(attention, event("pause")).paused is not None
    assert took(attention, event("asystole")).paused is None


def test_a_pause_can_be_for_as_long_as_the_alarm_is_on(attention: Attention) -> None:
    assert not attention.pause("pause", 3600.0, NURSE, NOW, while_on=True).accepted
    attention.take(event("pause"), NOW)
    assert attention.pause("pause", 3600.0, NURSE, NOW, while_on=True).accepted
    attention.take(event("pause", Phase.END), NOW + MIN)
    later = event("pause", at_ns=NOW + 2 * MIN, onset_ns=NOW + 2 * MIN)
    assert took(attention, later, NOW + 2 * MIN).paused is None


def test_a_pause_called_off_says_what_is_on(attention: Attention) -> None:
    attention.take(event("pause"), NOW)
    attention.pause("pause", 3600.0, NURSE, NOW)
    assert phases(attention.resume("pause", NURSE, NOW + MIN, always).events) == [Phase.CONTINUE]
    assert attention.resume("pause", NURSE, NOW + MIN, always) == Outcome(True, "was not paused")


@pytest.mark.parametrize(
    ("target", "duration_s"),
    [("asystole", 901.0), ("pause", 14_401.0), ("high", 86_401.0), ("low", 0.0), ("low", -1.0), ("low", float("nan")),
     ("no_such_rule", 60.0), ("priority:highest", 60.0), ("", 60.0)],
)  # fmt: skip
def test_a_pause_has_bounds(attention: Attention, target: str, duration_s: float) -> None:
    assert not attention.pause(target, duration_s, NURSE, NOW).accepted
    assert not attention.pauses


# -- judging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_over", [False, True])
def test_an_alert_can_be_judged_while_it_is_on_and_after(attention: Attention, is_over: bool) -> None:
    began = event("pause")
    attention.take(began, NOW)
    if is_over:
        attention.take(replace(began, phase=Phase.END), NOW)
    verdict = Verdict("not_actionable", "was brushing teeth", NURSE, NOW + MIN)
    (said,) = attention.judge(began.alert_id, verdict).events
    assert said.attended is not None
    assert (said.phase, said.attended.verdict) == (Phase.UPDATE, verdict)
    assert said.attended.state is (State.INACTIVE if is_over else State.ACTIVE)
    assert attention.judge(began.alert_id, replace(verdict, at_ns=NOW + 2 * MIN)).events == ()
    assert len(attention.judge(began.alert_id, replace(verdict, word="false")).events) == 1
    assert not attention.judge("no such", verdict).accepted


# -- late data -------------------------------------------------------------------------------------------------------


def test_what_is_late_calls_nobody_and_undoes_nothing(attention: Attention) -> None:
    began = event("asystole")
    assert attention.take(replace(began, late=True), NOW)[0].attended is None
    assert attention.advance(NOW + 60 * MIN, always) == []
    attention.take(began, NOW)
    attention.acknowledge(began.alert_id, NURSE, NOW)
    assert took(attention, replace(began, phase=Phase.UPDATE, late=True)).acknowledged == Mark(NURSE, NOW)


# -- everything at once ----------------------------------------------------------------------------------------------

RULES = ("asystole", "pause", "low", "urgent_low", "high", "stream_silent")


class Ward(RuleBasedStateMachine):
    """Any order of events, commands, time and restarts, beside a model so small that it can be seen to be right."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.now = NOW
        self.on: dict[str, int] = {}
        """Rule → onset of the condition."""
        self.retained: dict[str, AlertEvent] = {}
        """As a broker keeps it."""
        self.unheard: dict[str, int] = {}
        """Alert id → since when it is on, live, and neither acknowledged nor paused."""

    def publish(self, events: list[AlertEvent] | tuple[AlertEvent, ...]) -> None:
        for said in events:
            assert said.attended is not None
            if said.attended.state is State.INACTIVE:
                self.retained.pop(said.alert_id, None)
            else:
                self.retained[said.alert_id] = said

    @rule(name=st.sampled_from(RULES))
    def begins(self, name: str) -> None:
        if name not in self.on:
            self.on[name] = self.now
            self.publish(self.attention.take(event(name, at_ns=self.now, onset_ns=self.now), self.now))

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.on)))
        onset_ns = self.on.pop(name)
        self.publish(self.attention.take(event(name, Phase.END, self.now, onset_ns), self.now))

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def is_said_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.on)))
        self.publish(self.attention.take(event(name, Phase.CONTINUE, self.now, self.on[name]), self.now))

    @precondition(lambda self: self.retained)
    @rule(data=st.data())
    def somebody_acknowledges(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.retained)))
        outcome = self.attention.acknowledge(chosen, NURSE, self.now)
        assert outcome.accepted
        self.publish(outcome.events)
        assert chosen not in self.retained or self.retained[chosen].attended.acknowledged  # type: ignore[union-attr]

    @rule(what=st.sampled_from((*RULES, "priority:low", "priority:medium")), minutes=st.integers(1, 15))
    def somebody_pauses(self, what: str, minutes: int) -> None:
        outcome = self.attention.pause(what, 60.0 * minutes, NURSE, self.now)
        assert outcome.accepted
        self.publish(outcome.events)

    @rule(what=st.sampled_from((*RULES, "priority:low", "priority:medium")))
    def somebody_resumes(self, what: str) -> None:
        self.publish(self.attention.resume(what, NURSE, self.now, always).events)

    @rule(minutes=st.integers(0, 30), fresh=st.booleans())
    def time_passes(self, minutes: int, fresh: bool) -> None:
        self.now += minutes * MIN
        is_due, before = self.attention.due_ns <= self.now, to_json(self.attention)
        said = self.attention.advance(self.now, always if fresh else never)
        assert is_due or (not said and to_json(self.attention) == before)
        self.publish(said)

    @rule()
    def the_agent_is_killed(self) -> None:
        """What was put on disk is all there is; alarms that are on are said again."""
        self.attention = from_json(to_json(self.attention), Manners())
        for name, onset_ns in self.on.items():
            self.publish(self.attention.take(event(name, Phase.CONTINUE, self.now, onset_ns), self.now, restarted=True))

    @invariant()
    def none_lost_none_stuck_none_invented(self) -> None:
        on = {alert_id("anna", name, onset_ns) for name, onset_ns in self.on.items()}
        shown = {key for key, said in self.retained.items() if said.attended and said.attended.state is State.ACTIVE}
        assert shown == on
        latched = [said for key, said in self.retained.items() if key not in on]
        assert all(said.priority is Priority.HIGH and said.category is Category.PHYSIOLOGICAL for said in latched)
        assert len({said.rule for said in latched}) == len(latched)

    @invariant()
    def nothing_rings_that_was_acknowledged_or_paused(self) -> None:
        for said in self.retained.values():
            if said.phase is Phase.ESCALATE:
                assert said.attended is not None
                assert said.attended.acknowledged is None
                assert said.attended.escalation <= 3


TestWard = Ward.TestCase
TestWard.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- the budget --------------------------------------------------------------------------------------------------------


def flicker(attention: Attention, name: str, at_min: int, lasts_s: int) -> list[AlertEvent]:
    """An alarm that begins at a minute of NOW and is over after so many seconds; all that is sent of it."""
    now_ns = NOW + at_min * MIN
    began = event(name, at_ns=now_ns, onset_ns=now_ns)
    sent = attention.take(began, now_ns)
    for second in range(1, lasts_s + 1):
        sent += attention.advance(now_ns + second * S, always)
    return sent + attention.take(replace(began, phase=Phase.END, at_ns=now_ns + lasts_s * S), now_ns + lasts_s * S)


def test_without_a_budget_everything_is_sent() -> None:
    attention = Attention()
    assert all(phases(flicker(attention, "poor_signal", minute, 5)) == [Phase.START, Phase.END] for minute in range(50))


def test_short_alarms_beyond_the_budget_are_held_back_and_written_down_and_long_ones_are_sent() -> None:
    attention = Attention(budget=AlarmBudget(10.0))
    sent = [flicker(attention, "poor_signal", minute, 5) for minute in range(0, 600, 10)]
    # The eleventh may still be too many: only when it is over is it known how short it was.
    assert sum(bool(one) for one in sent) == 10
    assert len(attention.suppressed) == 50
    assert attention.suppressed[0].reason == "over after 5 s, and held back for 15 s to keep to the alarm budget"
    assert phases(flicker(attention, "poor_signal", 601, 20)) == [Phase.START, Phase.END]


def test_a_day_later_all_is_as_before() -> None:
    attention = Attention(budget=AlarmBudget(10.0))
    for minute in range(0, 600, 10):
        flicker(attention, "poor_signal", minute, 5)
    assert phases(flicker(attention, "poor_signal", 600 + 24 * 60, 5)) == [Phase.START, Phase.END]


@pytest.mark.parametrize("name", ["asystole", "ventricular_tachycardia", "urgent_low", "pause", "low", "rapid_fall"])
def test_what_is_urgent_or_over_in_an_instant_is_never_held_back(name: str) -> None:
    attention = Attention(budget=AlarmBudget(0.5))
    assert all(Phase.START in phases(flicker(attention, name, minute, 1)) for minute in range(100))


@pytest.mark.parametrize(("name", "bound_s"), MAY_WAIT_S.items())
def test_a_delay_has_its_bound(name: str, bound_s: float) -> None:
    attention = Attention(budget=AlarmBudget(0.5))
    for minute in range(0, 20 * 60, 40):
        flicker(attention, name, minute, 1)
    assert attention.budget.delay_s(name) <= bound_s
    assert phases(flicker(attention, name, 20 * 60, round(bound_s) + 1))[:1] == [Phase.START]


def test_what_somebody_judged_true_is_sent_however_short_it_is() -> None:
    attention = Attention(budget=AlarmBudget(1.0))
    (first, *_) = flicker(attention, "ventricular_bigeminy", 0, 12)
    attention.judge(first.alert_id, Verdict("true", "", NURSE, NOW + MIN))
    for minute in range(10, 600, 10):
        flicker(attention, "ventricular_bigeminy", minute, 3)
    assert phases(flicker(attention, "ventricular_bigeminy", 601, 12)) == [Phase.START, Phase.END]
    assert flicker(attention, "ventricular_bigeminy", 611, 3) == []


def test_what_is_held_back_outlives_a_restart_and_is_told_in_time() -> None:
    attention = Attention(budget=AlarmBudget(1.0))
    for minute in range(0, 60, 10):
        flicker(attention, "poor_signal", minute, 5)
    began = event("poor_signal", at_ns=NOW + 60 * MIN, onset_ns=NOW + 60 * MIN)
    assert attention.take(began, began.at_ns) == []
    again = from_json(to_json(attention), Manners(), 1.0)
    assert phases(again.advance(began.at_ns + 300 * S, always)) == [Phase.START]


class Budgeted(Ward):
    """The same ward with a budget that is soon used up: what is held back is late by its bound at most."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(budget=AlarmBudget(1.0))

    @rule()
    def the_agent_is_killed(self) -> None:
        self.attention = from_json(to_json(self.attention), Manners(), 1.0)
        for name, onset_ns in self.on.items():
            self.publish(self.attention.take(event(name, Phase.CONTINUE, self.now, onset_ns), self.now, restarted=True))

    @invariant()
    def none_lost_none_stuck_none_invented(self) -> None:
        on = {alert_id("anna", name, onset_ns): name for name, onset_ns in self.on.items()}
        shown = {key for key, said in self.retained.items() if said.attended and said.attended.state is State.ACTIVE}
        assert shown <= on.keys()
        for key in on.keys() - shown:
            assert key in self.attention.held
            assert urgency(on[key])[1] is not Priority.HIGH
            assert self.attention.held[key].until_ns - self.attention.held[key].event.at_ns <= 1800 * S


TestBudgeted = Budgeted.TestCase
TestBudgeted.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
