"""What a change of a condition means to a subscriber, live and late."""

from __future__ import annotations

from dataclasses import replace

from agent.alarms.alert import AlertEvent, Phase
from agent.alarms.observation import Condition
from agent.alarms.states import AlarmStates

NS = 1_000_000_000
BEGAN = Condition("asystole", True, 100 * NS, 104 * NS, "Asystole")
ENDED = replace(BEGAN, active=False, at_ns=120 * NS, text="Asystole over")
LATER = 1000 * NS


def states() -> AlarmStates:
    return AlarmStates("p1", late_after_ns=30 * NS)


def nothing(_condition: Condition) -> None:
    return None


def told(events: list[AlertEvent]) -> list[tuple[Phase, bool]]:
    return [(event.phase, event.late) for event in events]


def test_a_condition_starts_once_and_ends_once_under_one_id() -> None:
    alarms = states()
    (start,) = alarms.apply(BEGAN, None, nothing)
    assert alarms.apply(BEGAN, None, nothing) == []
    (end,) = alarms.apply(ENDED, None, nothing)
    assert alarms.apply(ENDED, None, nothing) == []
    assert (start.alert_id, start.phase, end.alert_id, end.phase) == (
        start.alert_id,
        Phase.START,
        start.alert_id,
        Phase.END,
    )


def test_late_data_reports_an_alarm_that_is_over_without_raising_it() -> None:
    alarms = states()
    assert told(alarms.apply(BEGAN, LATER, nothing)) == [(Phase.START, True)]
    assert told(alarms.apply(ENDED, LATER, nothing)) == [(Phase.END, True)]
    assert alarms.caught_up(LATER, LATER) == []


def test_an_alarm_of_late_data_that_is_still_on_is_raised_as_of_now_once_the_data_is_fresh() -> None:
    alarms = states()
    alarms.apply(BEGAN, LATER, nothing)
    assert alarms.caught_up(104 * NS, LATER) == []
    assert told(alarms.caught_up(LATER - NS, LATER)) == [(Phase.CONTINUE, False)]
    assert alarms.caught_up(LATER - NS, LATER) == []


def test_late_data_does_not_clear_a_live_alarm_until_fresh_data_bears_it_out() -> None:
    alarms = states()
    assert told(alarms.apply(BEGAN, 105 * NS, nothing)) == [(Phase.START, False)]
    assert alarms.apply(ENDED, LATER, nothing) == []
    assert "asystole" in alarms.active
    assert alarms.caught_up(120 * NS, LATER) == []
    assert told(alarms.caught_up(LATER - NS, LATER)) == [(Phase.END, False)]


def test_an_alarm_that_comes_again_in_late_data_after_ending_there_is_another_one() -> None:
    alarms = states()
    alarms.apply(BEGAN, 105 * NS, nothing)
    alarms.apply(ENDED, LATER, nothing)
    again = replace(BEGAN, onset_ns=130 * NS, at_ns=134 * NS)
    events = alarms.apply(again, LATER, nothing)
    assert told(events) == [(Phase.END, True), (Phase.START, True)]
    assert events[0].alert_id != events[1].alert_id


def test_active_alarms_are_said_again_after_a_restart() -> None:
    alarms = states()
    alarms.apply(BEGAN, None, nothing)
    assert told(alarms.still_on(200 * NS)) == [(Phase.CONTINUE, False)]
