"""What a change of a condition means to a subscriber, live and late."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Category, Phase
from agent.alarms.glucose_high import HighGlucose
from agent.alarms.glucose_low import LowGlucose
from agent.alarms.glucose_settings import GlucoseSettings, SensorLife
from agent.alarms.limits import Limits
from agent.alarms.observation import Condition
from agent.alarms.states import AlarmStates, of_anything_else, of_glucose
from agent.engine import Engine
from agent.inference import Models
from agent.patient import Person
from agent.signal.outlook import Glucose
from firmware_bridge.chunk import Chunk, Stream

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


def test_a_live_alarm_that_ended_and_came_again_in_late_data_never_ended_for_who_watches() -> None:
    alarms = states()
    (start,) = alarms.apply(BEGAN, 105 * NS, nothing)
    alarms.apply(ENDED, LATER, nothing)
    again = replace(BEGAN, onset_ns=130 * NS, at_ns=134 * NS)
    events = alarms.apply(again, LATER, nothing)
    assert told(events) == [(Phase.UPDATE, True)]
    assert events[0].alert_id == start.alert_id
    assert alarms.caught_up(LATER, LATER) == []
    assert told(alarms.apply(replace(ENDED, at_ns=LATER), LATER, nothing)) == [(Phase.END, False)]


def test_a_live_alarm_that_ended_in_late_data_and_comes_again_in_fresh_is_another_one() -> None:
    alarms = states()
    alarms.apply(BEGAN, 105 * NS, nothing)
    alarms.apply(ENDED, LATER, nothing)
    events = alarms.apply(replace(BEGAN, onset_ns=LATER - 4 * NS, at_ns=LATER), LATER, nothing)
    assert told(events) == [(Phase.END, False), (Phase.START, False)]
    assert events[0].alert_id != events[1].alert_id


def test_active_alarms_are_said_again_after_a_restart() -> None:
    alarms = states()
    alarms.apply(BEGAN, None, nothing)
    assert told(alarms.still_on(200 * NS)) == [(Phase.CONTINUE, False)]


# -- readings that come minutes apart --------------------------------------------------------------------------------

MIN = 60 * NS
FRESH = 450 * NS
LOW = Condition("low", True, 100 * MIN, 100 * MIN, "Glucose 65 mg/dL, low", fresh_ns=FRESH)
LOW_AGAIN = replace(LOW, at_ns=130 * MIN, text="Glucose 62 mg/dL, low, for 30 min", again=True)
LOW_OVER = replace(LOW, active=False, at_ns=160 * MIN, text="Glucose 90 mg/dL: no longer low")


def test_a_reading_is_of_now_for_as_long_as_it_says_not_as_long_as_a_waveform() -> None:
    assert told(states().apply(LOW, LOW.at_ns + FRESH, nothing)) == [(Phase.START, False)]
    assert told(states().apply(LOW, LOW.at_ns + FRESH + 1, nothing)) == [(Phase.START, True)]
    assert told(states().apply(BEGAN, BEGAN.at_ns + FRESH, nothing)) == [(Phase.START, True)]


def test_an_alarm_said_again_goes_on_under_its_id_with_its_new_words() -> None:
    alarms = states()
    (start,) = alarms.apply(LOW, LOW.at_ns, nothing)
    (again,) = alarms.apply(LOW_AGAIN, LOW_AGAIN.at_ns + MIN, nothing)
    assert (again.phase, again.late, again.alert_id) == (Phase.CONTINUE, False, start.alert_id)
    assert (again.text, again.onset_ns) == (LOW_AGAIN.text, LOW.onset_ns)
    assert alarms.active["low"].text == LOW_AGAIN.text


def test_an_alarm_is_never_said_again_from_a_late_reading() -> None:
    alarms = states()
    alarms.apply(LOW, LOW.at_ns, nothing)
    assert alarms.apply(LOW_AGAIN, LOW_AGAIN.at_ns + FRESH + 1, nothing) == []


def test_in_a_replay_nothing_is_late_and_all_is_said_again() -> None:
    alarms = states()
    assert [told(alarms.apply(found, None, nothing)) for found in (LOW, LOW_AGAIN, LOW_OVER)] == [
        [(Phase.START, False)],
        [(Phase.CONTINUE, False)],
        [(Phase.END, False)],
    ]


def test_an_alarm_reported_late_is_of_now_once_a_fresh_reading_says_it_again_and_that_only_once() -> None:
    alarms = states()
    alarms.apply(LOW, LOW_AGAIN.at_ns, nothing)
    assert told(alarms.apply(LOW_AGAIN, LOW_AGAIN.at_ns, nothing)) == [(Phase.CONTINUE, False)]
    assert alarms.caught_up(LOW_AGAIN.at_ns, LOW_AGAIN.at_ns, of_glucose) == []


def test_a_fresh_heart_says_nothing_of_glucose_and_the_other_way_round() -> None:
    alarms = states()
    alarms.apply(LOW, LATER * 10, nothing)
    alarms.apply(BEGAN, LATER * 10, nothing)
    heart = alarms.caught_up(LATER * 10, LATER * 10, of_anything_else)
    assert [event.rule for event in heart] == ["asystole"]
    glucose = alarms.caught_up(LATER * 10 - FRESH, LATER * 10, of_glucose)
    assert [event.rule for event in glucose] == ["low"]


def test_an_end_that_came_late_is_borne_out_by_a_fresh_reading_minutes_old_or_by_none() -> None:
    alarms = states()
    alarms.apply(LOW, LOW.at_ns, nothing)
    now_ns = LOW_OVER.at_ns + 20 * MIN
    assert alarms.apply(LOW_OVER, now_ns, nothing) == []
    assert alarms.caught_up(LOW_OVER.at_ns, now_ns, of_glucose) == []
    (end,) = alarms.caught_up(now_ns - 5 * MIN, now_ns, of_glucose)
    assert (end.phase, end.late, end.text) == (Phase.END, False, LOW_OVER.text)


def test_after_a_restart_a_reading_that_is_old_is_no_occasion_to_say_an_alarm_again_but_the_next_one_is() -> None:
    alarms = states()
    alarms.apply(LOW, LOW.at_ns, nothing)
    alarms.apply(BEGAN, BEGAN.at_ns, nothing)
    assert [event.rule for event in alarms.still_on(LOW.at_ns + FRESH)] == ["low", "asystole"]
    assert [event.rule for event in alarms.still_on(LOW.at_ns + 2 * FRESH)] == ["asystole"]
    assert alarms.caught_up(LOW.at_ns, LOW.at_ns + 2 * FRESH, of_glucose) == []
    assert told(alarms.caught_up(LOW.at_ns + 2 * FRESH, LOW.at_ns + 2 * FRESH, of_glucose)) == [(Phase.CONTINUE, False)]
    assert alarms.caught_up(LOW.at_ns + 2 * FRESH, LOW.at_ns + 2 * FRESH, of_glucose) == []


@st.composite
def readings_and_delays(draw: st.DrawFn) -> list[tuple[int, float, int]]:
    """(time, glucose, how long after it it came), in the order of their times; what came came no earlier than before"""
    out, t_ns, now_ns = [], 0, 0
    for _ in range(draw(st.integers(1, 40))):
        t_ns += draw(st.sampled_from([5, 5, 5, 15, 60])) * MIN
        now_ns = max(now_ns, t_ns + draw(st.sampled_from([0, 0, 1, 7, 8, 30, 300])) * MIN)
        out.append((t_ns, draw(st.sampled_from([45.0, 60.0, 65.0, 75.0, 90.0, 120.0, 260.0, 300.0])), now_ns - t_ns))
    return out


@given(readings_and_delays())
def test_however_late_and_fresh_readings_mix_late_ones_raise_nothing_as_of_now_and_clear_nothing_live(
    came: list[tuple[int, float, int]],
) -> None:
    alarms, rules = states(), [LowGlucose(Limits(), 300.0), HighGlucose(Limits(), 300.0)]
    live: set[str] = set()
    for t_ns, mg_dl, delay_ns in came:
        fresh, now_ns = delay_ns <= FRESH, t_ns + delay_ns
        events = [
            event
            for rule in rules
            for found in rule.see(Glucose(t_ns, mg_dl))
            for event in alarms.apply(found, now_ns, nothing)
        ]
        if not fresh:
            assert all(event.late for event in events)
            assert all(event.phase is not Phase.CONTINUE for event in events)
        events += alarms.caught_up(t_ns, now_ns, of_glucose)
        for event in events:
            if event.phase is Phase.END:
                assert fresh or event.alert_id not in live
                live.discard(event.alert_id)
            elif not event.late:
                assert fresh
                live.add(event.alert_id)
        assert {alarm.alert_id for alarm in alarms.active.values() if not alarm.reported_late} == live
        if fresh:
            assert {alarm.alert_id for alarm in alarms.active.values()} == live
            assert ("urgent_low" in alarms.active) or mg_dl > 54


# -- through the engine ----------------------------------------------------------------------------------------------


CGM = Stream("p", "g7", "glucose", "cgm", "mg/dL", 0.0, ("",), 300.0)
START_NS = 30_000_000 * MIN


def wearing(*, warm_up_from_min: int) -> Engine:
    """Somebody whose sensor is changed so many minutes after START_NS, and then warms up for an hour."""
    life = SensorLife("g7", "glucose", START_NS + warm_up_from_min * MIN, 60.0)
    return Engine([Person("p", (CGM,), glucose=GlucoseSettings(sensors=(life,)))], Models())


def step(engine: Engine, minute: int, mg_dl: float, now_min: int) -> list[tuple[str, Phase, bool]]:
    chunk = Chunk(CGM, START_NS + minute * MIN, np.array([[mg_dl]], np.float32), seq=minute)
    events = engine.step([chunk], START_NS + now_min * MIN)
    return [(event.rule, event.phase, event.late) for event in events if event.category is Category.PHYSIOLOGICAL]


def test_a_fresh_reading_in_doubt_does_not_bear_out_the_end_that_a_late_one_told_of() -> None:
    engine = wearing(warm_up_from_min=40)
    for minute, mg_dl in ((0, 80.0), (5, 74.0)):
        assert step(engine, minute, mg_dl, minute) == []
    assert step(engine, 10, 66.0, 10) == [("low", Phase.START, False)]
    assert step(engine, 15, 74.0, 40) == []
    assert step(engine, 20, 85.0, 40) == []
    assert step(engine, 45, 90.0, 45) == []
    assert "low" in engine.patients["p"].states.active
    assert step(engine, 100, 95.0, 101) == [("low", Phase.END, False)]
