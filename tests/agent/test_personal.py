"""One person's own calibration of forecasts, probabilities and thresholds."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.outlook import Expected, Forecast, Outlook
from agent.signal.personal import PersonalCalibration
from agent.signal.personal_alarm import FALL_A_DAY, RISE_A_DAY, SENSITIVITY_FLOOR, Shift, new_budget
from agent.signal.personal_drift import Drift
from agent.signal.personal_forecast import MOST_MG_DL, WIDEN_MOST, ForecastFit
from agent.signal.personal_population import LOW, URGENT_LOW

SLOT_NS = 300_000_000_000
T0_NS = 1_700_000_000_000_000_000
A_DAY = 288

Push = tuple[int, float, Forecast | None]


def forecast(
    mg_dl: float, p_low: float = 0.01, *, drop: float = 0.0, p_urgent_low: float = 0.001, usable: bool = True
) -> Forecast:
    """Of a model that expects `drop` less in half an hour."""
    near, far = mg_dl - drop, mg_dl - 1.5 * drop
    expected = (Expected(30, near, near - 30, near + 35), Expected(60, far, far - 50, far + 60))
    return Forecast(expected, p_low, p_urgent_low, 0.01, usable=usable)


def a_person(days: float, seed: int = 0, *, lows_a_day: float = 1.0, false_a_day: float = 1.0) -> Iterator[Push]:
    """Steady glucose with dips: some that the model sees coming and that come, and some that it fears in vain."""
    rng = np.random.default_rng(seed)
    n, i = int(days * A_DAY), 0
    while i < n:
        level = 120.0 + 15.0 * rng.standard_normal()
        yield T0_NS + i * SLOT_NS, level, forecast(level)
        i += 1
        kind = rng.random() * A_DAY
        if kind > lows_a_day + false_a_day:
            continue
        sure = float(np.clip(rng.normal(2.2 if kind < lows_a_day else -0.2, 0.7), -3, 3))
        bottom = 60.0 if kind < lows_a_day else 76.0
        for share in (0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 0.6, 0.3, 0.1):
            mg_dl = level + (bottom - level) * share
            p = 1.0 / (1.0 + math.exp(-(sure + 3.0 * (share - 1.0))))
            yield T0_NS + i * SLOT_NS, mg_dl, forecast(mg_dl, p)
            i += 1


def said_by(personal: PersonalCalibration, pushes: Iterator[Push]) -> list[Outlook]:
    return [personal.push(*push) for push in pushes]


def test_a_new_person_gets_what_the_model_says_and_the_thresholds_of_people_at_large() -> None:
    personal = PersonalCalibration()
    said = personal.push(T0_NS, 120.0, forecast(120.0, 0.3, drop=20.0))
    assert [one.mg_dl for one in said.expected] == [100.0, 90.0]
    assert said.expected[0].low_mg_dl == pytest.approx(70.0)
    assert said.low.p == pytest.approx(0.3)
    usual = new_budget(LOW, 1.0).usual()
    held = LOW.slope * (LOW.to_mg_dl - LOW.pivot_mg_dl) / 10.0
    assert said.low.start_at == pytest.approx(1.0 / (1.0 + math.exp(-usual - held)))
    assert said.usable
    assert said.coverage == 1.0


def test_less_certainty_is_asked_for_where_the_next_reading_may_be_low() -> None:
    def start_at(before: float, now: float) -> float:
        personal = PersonalCalibration()
        personal.push(T0_NS, before, forecast(before))
        return personal.push(T0_NS + SLOT_NS, now, forecast(now)).low.start_at

    assert start_at(84.0, 80.0) < start_at(80.0, 80.0) < start_at(90.0, 90.0)


def test_without_a_forecast_or_with_an_unusable_one_no_alarm_begins_or_ends() -> None:
    personal = PersonalCalibration()
    wrong = Forecast(forecast(100.0).expected, math.nan, 0.0, 0.0)
    for i, said in enumerate((None, wrong, forecast(100.0, 0.99, usable=False))):
        outlook = personal.push(T0_NS + i * SLOT_NS, 100.0, said)
        assert not outlook.usable
        for risk in (outlook.low, outlook.urgent_low, outlook.high):
            assert risk.end_below <= risk.p < risk.start_at


def test_a_low_that_is_there_is_not_announced_and_neither_is_another_right_after_it() -> None:
    personal = PersonalCalibration()
    during = personal.push(T0_NS, 65.0, forecast(65.0, 0.99))
    after = personal.push(T0_NS + SLOT_NS, 72.0, forecast(72.0, 0.9))
    later = personal.push(T0_NS + 6 * SLOT_NS, 72.0, forecast(72.0, 0.9))
    assert (during.low.start_at, during.low.end_below) == (1.0, 1.0)
    assert after.low.p < after.low.start_at == LOW.start_within[1]
    assert later.low.p > later.low.start_at


def test_an_alarm_holds_for_the_half_hour_that_it_speaks_of_unless_the_risk_has_clearly_passed() -> None:
    personal = PersonalCalibration()
    begins = personal.push(T0_NS, 85.0, forecast(85.0, 0.8))
    assert begins.low.p >= begins.low.start_at
    threshold = begins.low.start_at
    soon = personal.push(T0_NS + SLOT_NS, 85.0, forecast(85.0, threshold * 0.8))
    assert soon.low.end_below < soon.low.p < soon.low.start_at
    at_last = personal.push(T0_NS + 6 * SLOT_NS, 85.0, forecast(85.0, threshold * 0.8))
    assert at_last.low.p < at_last.low.end_below == at_last.low.start_at


def test_readings_must_be_numbers_in_order() -> None:
    personal = PersonalCalibration()
    personal.push(T0_NS, 100.0, None)
    with pytest.raises(ValueError, match="after one at"):
        personal.push(T0_NS, 101.0, None)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="a reading of"):
            personal.push(T0_NS + SLOT_NS, wrong, None)
    with pytest.raises(ValueError, match="a reading at"):
        personal.push(2**63, 100.0, None)
    with pytest.raises(ValueError, match="low_alerts_per_day"):
        PersonalCalibration(low_alerts_per_day=0.0)


@pytest.mark.parametrize("where", [0, 1, 40, 2000])
def test_the_state_goes_on_where_it_was_written(where: int) -> None:
    pushes = list(a_person(10, lows_a_day=3, false_a_day=3))
    whole = PersonalCalibration()
    expected = said_by(whole, iter(pushes))
    begun = PersonalCalibration()
    said_by(begun, iter(pushes[:where]))
    text = begun.state_json()
    resumed = PersonalCalibration.from_state(text)
    assert resumed.state_json() == text
    assert said_by(resumed, iter(pushes[where:])) == expected[where:]
    assert resumed.state_json() == whole.state_json()
    copy = pickle.loads(pickle.dumps(begun))  # noqa: S301 (our own)
    assert said_by(copy, iter(pushes[where:])) == expected[where:]


def test_the_state_of_a_person_is_small_even_with_a_reading_a_minute() -> None:
    personal = PersonalCalibration()
    for i in range(3000):
        personal.push(T0_NS + i * SLOT_NS // 5, 100.0 + i % 7, forecast(100.0 + i % 7, 0.2))
    assert len(personal.state_json()) < 5000
    fives = PersonalCalibration()
    said_by(fives, a_person(30))
    assert len(fives.state_json()) < 4500


def paths(read: object, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Of everything inside a JSON value."""
    yield at
    items = read.items() if isinstance(read, dict) else enumerate(read) if isinstance(read, list) else ()
    for key, inside in items:
        yield from paths(inside, (*at, key))


STATE = PersonalCalibration()
for _push in a_person(3, lows_a_day=3):
    STATE.push(*_push)
READ = json.loads(STATE.state_json())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("////") | st.just(10**400),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(where=st.sampled_from(sorted(paths(READ), key=repr)), instead=ANYTHING)
def test_whatever_a_state_holds_it_is_refused_or_stays_inside_the_bounds(
    where: tuple[object, ...], instead: object
) -> None:
    read = json.loads(STATE.state_json())
    if where:
        inside = read
        for key in where[:-1]:
            inside = inside[key]
        inside[where[-1]] = instead
    try:
        personal = PersonalCalibration.from_state(json.dumps(read if where else instead))
    except ValueError:
        return
    last = personal.outcomes.said[-1].t_ns if personal.outcomes.said else T0_NS
    for i, push in enumerate(a_person(1, lows_a_day=5)):
        t_ns = max(last, 0) + (i + 1) * SLOT_NS
        if t_ns < 2**60:
            inside_bounds(push[2], personal.push(t_ns, push[1], push[2]))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "[" * 100_000, '{"format":"vagus-personal","version":2}', "\0"]
)
def test_foreign_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        PersonalCalibration.from_state(text)


def test_a_missing_or_an_unknown_key_is_refused_by_name() -> None:
    for change in ({"more": 1}, {}):
        read = {**READ, **change}
        if not change:
            del read["high"]
        with pytest.raises(ValueError, match="more" if change else "high"):
            PersonalCalibration.from_state(json.dumps(read))


def inside_bounds(said: Forecast | None, outlook: Outlook) -> None:
    """What may never be exceeded, whatever was learned."""
    for risk, prior in ((outlook.low, LOW), (outlook.urgent_low, URGENT_LOW)):
        assert 0.0 <= risk.p <= 1.0
        least, most = prior.start_within
        assert least <= risk.start_at <= most or risk.start_at == 1.0
        assert 0.0 <= risk.end_below <= risk.start_at
    if said is None:
        return
    for one, raw, most_mg_dl in zip(outlook.expected, said.expected, MOST_MG_DL, strict=bool(outlook.expected)):
        held = min(max(raw.mg_dl, 20.0), 600.0)
        assert abs(one.mg_dl - held) <= most_mg_dl + 1e-3
        assert one.low_mg_dl <= one.mg_dl <= one.high_mg_dl
        width = (raw.high_mg_dl - raw.low_mg_dl) * math.exp(WIDEN_MOST)
        assert one.high_mg_dl - one.low_mg_dl <= width + 1e-3


a_forecast = st.none() | st.builds(
    lambda near, far, ps, usable: Forecast(
        (Expected(30, near, near - 20, near + 20), Expected(60, far, far - 40, far + 30)), *ps, usable=usable
    ),
    st.floats(-500, 1000),
    st.floats(-500, 1000),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    some=st.lists(st.tuples(st.integers(1, 10**13), st.floats(20, 600), a_forecast), min_size=1, max_size=60),
    times=st.integers(1, 20),
)
def test_no_bound_is_crossed_whatever_comes(some: list[Push], times: int) -> None:
    personal = PersonalCalibration()
    t_ns = T0_NS
    for apart_ns, mg_dl, said in some * times:
        t_ns += apart_ns
        outlook = personal.push(t_ns, mg_dl, said)
        inside_bounds(said, outlook)
    for alarm in (personal.low, personal.urgent_low):
        grid = alarm.prior.candidates()
        assert grid[0] <= alarm.budget.threshold <= grid[-1]
        assert Shift.LEAST <= alarm.shift.used <= Shift.MOST
    assert PersonalCalibration.from_state(personal.state_json()).state_json() == personal.state_json()


def test_frozen_it_answers_as_before_and_learns_nothing() -> None:
    personal = PersonalCalibration()
    said_by(personal, a_person(5, false_a_day=6))
    personal.frozen = True
    before = json.loads(personal.state_json())
    later = [(t_ns + 6 * A_DAY * SLOT_NS, mg_dl, said) for t_ns, mg_dl, said in a_person(20, 1, false_a_day=20)]
    assert said_by(personal, iter(later))[-1].usable
    after = json.loads(personal.state_json())
    assert after["forecast"] == before["forecast"]
    assert after["high"] == before["high"]
    for a, b in zip(after["alarms"], before["alarms"], strict=True):
        for learned in ("threshold", "false", "announced", "days", "events", "shift", "notified_ns"):
            assert a[learned] == b[learned]
    assert after["drift"] != before["drift"]
    personal.frozen = False
    said_by(personal, ((t_ns + 30 * A_DAY * SLOT_NS, g, said) for t_ns, g, said in a_person(3, 2)))
    assert json.loads(personal.state_json())["forecast"] != before["forecast"]


def notifications(outlooks: list[Outlook], since_day: float) -> list[int]:
    """Times at which the alarm of a low would be heard, by the rule that the thresholds are meant for."""
    on, heard_ns, out = False, 0, []
    for outlook in outlooks:
        risk = outlook.low
        on = risk.p >= risk.start_at or (on and risk.p >= risk.end_below)
        if on and outlook.mg_dl >= 70 and outlook.t_ns - heard_ns >= 6 * SLOT_NS:
            heard_ns = outlook.t_ns
            if outlook.t_ns >= T0_NS + since_day * A_DAY * SLOT_NS:
                out.append(outlook.t_ns)
    return out


def lows(outlooks: list[Outlook]) -> list[int]:
    return [outlook.t_ns for outlook in outlooks if outlook.mg_dl < 70]


def false_and_found(outlooks: list[Outlook], since_day: float, days: float) -> tuple[float, float]:
    """False notifications a day, and the share of lows with one in the half hour before."""
    heard, low = notifications(outlooks, since_day), lows(outlooks)
    false = sum(not any(t < a <= t + 6 * SLOT_NS for a in low) for t in heard)
    onsets = [
        a
        for k, a in enumerate(low)
        if (k == 0 or a - low[k - 1] > 6 * SLOT_NS) and a > T0_NS + since_day * A_DAY * SLOT_NS
    ]
    found = sum(any(a - 6 * SLOT_NS <= t < a for t in heard) for a in onsets)
    return false / days, found / max(len(onsets), 1)


def test_the_budget_holds_for_a_person_with_three_times_the_usual_false_alarms() -> None:
    days = 60
    pushes = list(a_person(days, 3, lows_a_day=0.7, false_a_day=4.5))
    frozen = PersonalCalibration()
    frozen.frozen = True
    unheld, _ = false_and_found(said_by(frozen, iter(pushes)), 20, days - 20)
    held, found = false_and_found(said_by(PersonalCalibration(), iter(pushes)), 20, days - 20)
    assert unheld > 2.5  # what people at large have is 1.0
    assert held < 1.5
    assert found > 0.6


def test_a_smaller_budget_gives_fewer_alarms() -> None:
    pushes = list(a_person(40, 4, false_a_day=5.0))
    few, many = (
        len(notifications(said_by(PersonalCalibration(low_alerts_per_day=budget), iter(pushes)), 10))
        for budget in (0.5, 3.0)
    )
    assert few < 0.8 * many


def test_alarms_follow_lows_that_become_more_frequent_day_by_day() -> None:
    personal = PersonalCalibration()
    outlooks: list[Outlook] = []
    shift_ns = 0
    for week in range(8):
        pushes = [
            (t + shift_ns, g, said) for t, g, said in a_person(7, 10 + week, lows_a_day=0.5 + week, false_a_day=4)
        ]
        outlooks += said_by(personal, iter(pushes))
        shift_ns = pushes[-1][0] + SLOT_NS - T0_NS
    _, found = false_and_found(outlooks, 42, 14)
    assert found >= SENSITIVITY_FLOOR - 0.1
    assert personal.low.budget.sensitivity() >= SENSITIVITY_FLOOR - 0.02
    assert "lows are more frequent" in personal.drift


def test_an_outcome_that_a_gap_hides_is_not_counted() -> None:
    personal = PersonalCalibration()
    before = json.loads(personal.state_json())["alarms"]
    for i in range(200):
        personal.push(T0_NS + i * 8 * SLOT_NS, 90.0, forecast(90.0, 0.5))
    after = json.loads(personal.state_json())["alarms"]
    for a, b in zip(after, before, strict=True):
        for learned in ("threshold", "false", "announced", "days", "events", "shift"):
            assert a[learned] == b[learned]


def test_a_low_seen_beside_a_gap_counts() -> None:
    personal = PersonalCalibration()
    for i, mg_dl in ((0, 90.0), (5, 65.0), (30, 90.0)):
        personal.push(T0_NS + i * SLOT_NS, mg_dl, forecast(mg_dl, 0.3))
    assert personal.low.shift.learned > 0.0
    assert personal.urgent_low.shift.learned == 0.0


def test_forecasts_that_are_off_in_the_same_way_are_corrected_inside_bounds() -> None:
    def after(bias: float) -> float:
        personal = PersonalCalibration()
        rng = np.random.default_rng(0)
        for i in range(20 * A_DAY):
            mg_dl = 150.0 + 5.0 * rng.standard_normal()
            said = personal.push(T0_NS + i * SLOT_NS, mg_dl, forecast(mg_dl, drop=bias))
        return said.expected[0].mg_dl - (mg_dl - bias)

    assert 3.0 < after(8.0) < 8.5
    assert -8.5 < after(-8.0) < -3.0
    assert abs(after(80.0)) <= MOST_MG_DL[0]


def test_a_sensor_of_fifteen_minutes_is_learned_from_too() -> None:
    personal = PersonalCalibration()
    for i in range(20 * 96):
        mg_dl = 150.0 + i % 3
        said = personal.push(T0_NS + i * 3 * SLOT_NS, mg_dl, forecast(mg_dl, 0.2, drop=8.0))
    assert said.expected[0].mg_dl - (mg_dl - 8.0) > 1.0
    assert personal.low.shift.learned < 0.0


def test_the_interval_widens_on_the_side_where_the_truth_falls_out() -> None:
    fit = ForecastFit()
    for _ in range(300):
        fit.learn_width(0, -40.0, 30.0, 30.0)
    below, above = fit.width(0, 30.0, 30.0)
    assert below > 38.0
    assert above < 30.0
    assert fit.width(1, 50.0, 50.0) == (50.0, 50.0)


def test_the_threshold_rises_slowly_and_falls_faster() -> None:
    rising, falling = new_budget(LOW, 1.0), new_budget(LOW, 1.0)
    start = rising.threshold
    for _ in range(4 * A_DAY):
        rising.settle(0b111111111111, came=False, days=1 / A_DAY)
    assert 0.0 < rising.threshold - start <= 4 * RISE_A_DAY + 1e-6
    for _ in range(8):
        before = falling.threshold
        for _ in range(A_DAY):
            falling.settle(0, came=False, days=1 / A_DAY)
        assert -FALL_A_DAY - 1e-6 <= falling.threshold - before <= 0.0
    assert falling.threshold < start - 0.1


def test_the_budget_never_costs_more_events_than_the_floor_allows() -> None:
    held = new_budget(LOW, 1.0)
    for i in range(30 * A_DAY):
        held.settle(0b1111111111111111111, came=False, days=1 / A_DAY)
        if i % 50 == 0:
            held.happened(0.0)
    assert held.false_per_day() > 100
    assert held.sensitivity() >= SENSITIVITY_FLOOR - 1e-3


def test_drift_says_growing_errors_and_more_lows_and_takes_it_back() -> None:
    drift = Drift()

    def days(count: int, error: float, low_share: float) -> None:
        for _ in range(count):
            for i in range(A_DAY):
                drift.settle(error, 20.0)
                drift.met(i < low_share * A_DAY, 1.001 / A_DAY)

    days(30, 20.0, 0.01)
    assert drift.text == ""
    days(15, 32.0, 0.01)
    assert drift.text == "forecasts err more than when calibrated"
    days(15, 32.0, 0.2)
    assert "lows are more frequent" in drift.text
    days(60, 20.0, 0.01)
    assert drift.text == ""
