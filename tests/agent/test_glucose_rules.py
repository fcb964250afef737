"""The rules over glucose, on readings and forecasts written down by hand."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.glucose import fresh_ns, gap_ns
from agent.alarms.glucose_change import RapidChange
from agent.alarms.glucose_doubt import SensorDoubted
from agent.alarms.glucose_high import HighGlucose
from agent.alarms.glucose_low import LowGlucose
from agent.alarms.limits import GLUCOSE_RULES, Hours, Limits
from agent.alarms.observation import Condition, Observation
from agent.alarms.rule import Rule
from agent.alarms.rules import glucose_rules
from agent.alarms.states import PHYSIOLOGICAL, of_anything_else, of_glucose, of_glucose_sensor, urgency
from agent.signal.outlook import Expected, Glucose, Outlook, Risk

NS = 1_000_000_000
MIN = 60 * NS
DAY_MIN = 1440
T0 = 20_000 * DAY_MIN * MIN
"""A midnight in UTC."""


def at(minute: float, mg_dl: float, doubt: str = "", *, rate: float | None = None, beyond: str = "") -> Glucose:
    return Glucose(T0 + round(minute * MIN), mg_dl, beyond, rate, doubt)


def every_5_min(*mg_dl: float, start_min: float = 0.0, doubt: str = "") -> list[Glucose]:
    return [at(start_min + 5 * k, value, doubt) for k, value in enumerate(mg_dl)]


def ahead(
    reading: Glucose, *, low: float = 0.0, urgent: float = 0.0, high: float = 0.0, usable: bool = True
) -> Outlook:
    """What follows the reading; an alarm begins at 0.6 and ends below 0.3."""
    low_risk, urgent_risk, high_risk = (Risk(p, 0.6, 0.3) for p in (low, urgent, high))
    expected = (Expected(30, reading.mg_dl - 10, reading.mg_dl - 30, reading.mg_dl + 10),)
    return Outlook(reading.t_ns, reading.mg_dl, expected, low_risk, urgent_risk, high_risk, usable=usable)


def forecast(readings: Iterable[Glucose], **risk: float) -> list[Observation]:
    return [seen for reading in readings for seen in (reading, ahead(reading, **risk))]  # type: ignore[arg-type]


def run(rule: Rule, seen: Iterable[Observation]) -> list[Condition]:
    out: list[Condition] = []
    for observation in seen:
        out += [*rule.advance(observation.at_ns), *rule.see(observation)]
    return out


def told(conditions: Sequence[Condition]) -> list[tuple[str, str, float]]:
    """(rule, what happened, minute) of each."""
    words = {(True, False): "on", (True, True): "again", (False, False): "off"}
    return [(found.rule, words[found.active, found.again], (found.at_ns - T0) / MIN) for found in conditions]


def low(**numbers: float) -> LowGlucose:
    return LowGlucose(Limits(**numbers), 300.0)  # type: ignore[arg-type]


def high(interval_s: float = 300.0, **numbers: float) -> HighGlucose:
    return HighGlucose(Limits(**numbers), interval_s)  # type: ignore[arg-type]


# -- low glucose -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mg_dl", "rules"), [(70, []), (69, ["low"]), (55, ["low"]), (54, ["urgent_low"])])
def test_low_is_below_70_and_urgent_at_54_or_less(mg_dl: float, rules: list[str]) -> None:
    found = run(low(), [at(0, mg_dl)])
    assert [one.rule for one in found] == rules


def test_the_bottom_of_the_sensors_range_is_urgent_whatever_number_stands_there() -> None:
    (raised,) = run(low(), [at(0, 60, beyond="low")])
    assert raised.rule == "urgent_low"
    assert raised.text.startswith("Glucose below 60 mg/dL, the sensor's least")


def test_a_low_that_falls_on_is_an_urgent_one_above_it_and_only_that_is_said_again() -> None:
    readings = every_5_min(90, 68, 60, 54, 50, 50, 48, 47, 46, 45, 44)
    assert told(run(low(), readings)) == [
        ("low", "on", 5),
        ("urgent_low", "on", 15),
        ("urgent_low", "again", 30),
        ("urgent_low", "again", 45),
    ]


def test_out_of_an_urgent_low_there_is_still_the_low() -> None:
    found = run(low(), every_5_min(90, 50, 50, 65, 71, 80))
    assert told(found) == [("urgent_low", "on", 5), ("urgent_low", "off", 15), ("low", "on", 15), ("low", "off", 25)]
    assert found[1].text == "Glucose 65 mg/dL: no longer urgently low, still low"
    assert found[2].onset_ns == T0 + 5 * MIN


def test_near_its_limit_a_low_ends_only_after_half_an_hour_without_another() -> None:
    hovering = every_5_min(69, 71, 72, 69, 71, 71, 71, 71, 71, 71, 71, 71)
    assert told(run(low(), hovering)) == [("low", "on", 0), ("low", "off", 50)]


def test_ten_inside_the_limit_ends_it_at_once() -> None:
    assert told(run(low(), every_5_min(69, 79, 80))) == [("low", "on", 0), ("low", "off", 10)]


def test_a_reading_near_the_limit_is_no_occasion_to_say_a_low_again() -> None:
    rule = low()
    assert told(run(rule, every_5_min(69, 68, 68, 68, 68, 68, 71))) == [("low", "on", 0)]
    assert told(rule.see(at(35, 69))) == [("low", "again", 35)]


@pytest.mark.parametrize("doubt", ["warm-up", "expired", "stuck", "jump", "compression"])
def test_an_urgent_low_in_doubt_is_raised_with_the_doubt_and_once_more_when_it_is_sure(doubt: str) -> None:
    rule = low()
    raised, *more = run(rule, every_5_min(45, 44, 43, 42, 41, doubt=doubt))
    assert more == []
    assert f"in doubt ({doubt}): check the person" in raised.text
    assert ("doubt", doubt) in raised.values
    (again,) = run(rule, [at(25, 45)])
    assert (again.again, again.onset_ns) == (True, T0)
    assert "doubt" not in again.text


def test_a_value_in_another_unit_means_nothing() -> None:
    assert run(low(), every_5_min(5, 6, 7, doubt="unit")) == []
    assert run(low(), [at(0, 39, "unit", beyond="low")]) == []


def test_readings_in_doubt_raise_no_other_low_end_none_and_are_no_occasion_to_say_one_again() -> None:
    rule = low()
    assert run(rule, every_5_min(65, 60, doubt="compression")) == []
    assert told(run(rule, every_5_min(65, start_min=10))) == [("low", "on", 10)]
    assert run(rule, every_5_min(*[65] * 8, *[120] * 8, doubt="stuck", start_min=15)) == []
    assert told(rule.see(at(95, 65))) == [("low", "again", 95)]
    assert told(rule.see(at(100, 90))) == [("low", "off", 100)]


def test_after_a_gap_the_first_reading_decides_anew() -> None:
    shows, near, over = (low() for _ in range(3))
    for rule in (shows, near, over):
        assert told(rule.see(at(0, 65))) == [("low", "on", 0)]
    assert told(shows.see(at(15, 65))) == [("low", "again", 15)]
    assert told(near.see(at(15, 71))) == [("low", "off", 15)]
    assert told(over.see(at(15, 95))) == [("low", "off", 15)]


def test_what_counts_as_a_gap_and_as_fresh_follows_from_the_sensor() -> None:
    assert (gap_ns(300), gap_ns(900)) == (12 * MIN, 34 * MIN)
    assert (fresh_ns(60), fresh_ns(300), fresh_ns(900)) == (90 * NS, 450 * NS, 720 * NS)
    assert told(run(LowGlucose(Limits(), 900), [at(0, 65), at(15, 65), at(30, 65)])) == [
        ("low", "on", 0),
        ("low", "again", 30),
    ]


# -- lows ahead ------------------------------------------------------------------------------------------------------


def test_a_low_ahead_begins_and_ends_at_the_probabilities_of_this_person() -> None:
    rule = low()
    found = []
    for minute, p in enumerate([0.5, 0.6, 0.4, 0.3, 0.29, 0.59]):
        found += run(rule, forecast([at(5 * minute, 90)], low=p))
    assert told(found) == [("predicted_low", "on", 5), ("predicted_low", "off", 20)]
    assert found[0].text == "Glucose 90 mg/dL, likely to be below 70 mg/dL within 30 min (60 %)"
    assert dict(found[0].values) == {
        "glucose_mg_dl": 90,
        "probability": 0.6,
        "limit_probability": 0.6,
        "expected_in_30_min_mg_dl": 80,
    }


def test_a_low_that_was_forecast_ends_its_forecast_and_begins_no_other_while_it_lasts() -> None:
    found = run(low(), forecast(every_5_min(80, 75, 69, 68, 68, 71, 72), low=0.9))
    assert told(found) == [("predicted_low", "on", 0), ("predicted_low", "off", 10), ("low", "on", 10)]
    assert found[1].text == "Glucose 69 mg/dL: the low that was forecast is here"


def test_a_quarter_of_an_hour_after_the_last_low_reading_the_next_low_may_be_forecast() -> None:
    found = run(low(), forecast(every_5_min(69, 72, 72, 72), low=0.9))
    assert told(found) == [("low", "on", 0), ("predicted_low", "on", 15)]


def test_an_urgent_low_soon_sounds_while_it_is_low_already_and_ends_when_it_is_here() -> None:
    rule = low()
    assert told(run(rule, forecast([at(0, 66)]))) == [("low", "on", 0)]
    assert told(run(rule, forecast([at(5, 61)], urgent=0.7, low=1.0))) == [("urgent_low_soon", "on", 5)]
    assert told(run(rule, forecast([at(10, 54)], urgent=0.9, low=1.0))) == [
        ("urgent_low", "on", 10),
        ("urgent_low_soon", "off", 10),
    ]


def test_while_an_urgent_low_is_ahead_only_that_is_said_again() -> None:
    found = run(low(), forecast(every_5_min(*[60] * 13), urgent=0.7))
    assert told(found) == [
        ("low", "on", 0),
        ("urgent_low_soon", "on", 0),
        ("urgent_low_soon", "again", 20),
        ("urgent_low_soon", "again", 40),
        ("urgent_low_soon", "again", 60),
    ]


def test_nothing_is_forecast_from_a_reading_in_doubt_nor_on_too_little() -> None:
    assert run(low(), forecast(every_5_min(90, 85, 80, doubt="jump"), low=1.0, urgent=1.0)) == []
    assert run(low(), forecast(every_5_min(90, 85, 80), low=1.0, urgent=1.0, usable=False)) == []


def test_an_outlook_without_its_reading_says_nothing() -> None:
    rule = low()
    assert rule.see(ahead(at(0, 80), low=1.0)) == []
    assert run(rule, [at(5, 80), ahead(at(0, 80), low=1.0)]) == []


def test_a_forecast_that_nothing_bears_out_for_half_an_hour_is_forgotten() -> None:
    rule = low()
    run(rule, forecast([at(0, 85)], low=0.9))
    assert run(rule, forecast([at(30, 85)], usable=False)) == []
    found = run(rule, forecast([at(35, 85)], usable=False))
    assert told(found) == [("predicted_low", "off", 35)]
    assert found[0].text == "Low ahead: not known any more, for 35 min without a reading to judge it by"


# -- high glucose ----------------------------------------------------------------------------------------------------


def test_high_is_above_250_and_ends_ten_inside() -> None:
    found = run(high(), every_5_min(250, 251, 249, 241, 240))
    assert told(found) == [("high", "on", 5), ("high", "off", 20)]


def test_the_top_of_the_sensors_range_is_high_whatever_the_limit() -> None:
    found = run(high(high_above_mg_dl=400), [at(0, 400, beyond="high")])
    assert [one.text for one in found] == ["Glucose above 400 mg/dL, the sensor's most, high (limit 400)"]


def test_two_hours_above_are_a_persistent_high_which_is_then_what_is_said_again() -> None:
    found = run(high(), every_5_min(*[260] * 49))
    assert told(found) == [
        ("high", "on", 0),
        ("persistent_high", "on", 120),
        ("persistent_high", "again", 240),
    ]
    assert found[1].onset_ns == T0
    assert found[1].text == "Glucose 260 mg/dL, above 250 for 2.0 h"


def test_a_persistent_high_may_lie_lower_and_come_sooner_than_a_high() -> None:
    found = run(high(persistent_high_above_mg_dl=180, persistent_high_for_min=60), every_5_min(*[200] * 13))
    assert told(found) == [("persistent_high", "on", 60)]


def test_a_persistent_high_needs_three_readings_of_four() -> None:
    every_7 = [at(7 * k, 260) for k in range(25)]
    assert ("persistent_high", "on", 126) not in told(run(high(), every_7))
    every_6 = [at(6 * k, 260) for k in range(25)]
    assert ("persistent_high", "on", 120) in told(run(high(), every_6))


def test_over_a_long_hole_a_persistent_high_is_counted_anew() -> None:
    before, after = every_5_min(*[260] * 20), every_5_min(*[260] * 26, start_min=130)
    found = told(run(high(), [*before, *after]))
    assert ("persistent_high", "on", 250) in found
    assert [one for one in found if one[0] == "persistent_high"] == [("persistent_high", "on", 250)]


def test_readings_in_doubt_neither_raise_nor_end_a_high() -> None:
    rule = high()
    assert run(rule, every_5_min(*[300] * 40, doubt="expired")) == []
    assert told(rule.see(at(200, 300))) == [("high", "on", 200)]
    assert run(rule, every_5_min(90, 90, 90, doubt="jump", start_min=205)) == []


def test_a_high_ahead_ends_when_it_is_here() -> None:
    found = run(high(), forecast(every_5_min(220, 240, 255, 245, 249), high=0.9))
    assert told(found) == [("predicted_high", "on", 0), ("predicted_high", "off", 10), ("high", "on", 10)]


# -- change ----------------------------------------------------------------------------------------------------------


def test_a_rapid_fall_begins_at_the_limit_and_ends_at_two_thirds_of_it() -> None:
    rates = [-2.9, -3.0, -2.5, -2.1, -1.9, 3.5]
    found = run(RapidChange("rapid_fall", Limits(), 300), [at(5 * k, 150, rate=r) for k, r in enumerate(rates)])
    assert told(found) == [("rapid_fall", "on", 5), ("rapid_fall", "off", 20)]
    assert found[0].text == "Glucose falls by 3.0 mg/dL a minute, now 150 mg/dL (limit 3)"


def test_a_rise_is_the_other_way_round() -> None:
    found = run(
        RapidChange("rapid_rise", Limits(), 300), [at(0, 150, rate=-4), at(5, 150, rate=4), at(10, 160, rate=1)]
    )
    assert told(found) == [("rapid_rise", "on", 5), ("rapid_rise", "off", 10)]
    assert found[1].text == "Glucose 160 mg/dL, no longer rising fast"


def test_without_a_rate_or_in_doubt_a_change_is_neither_begun_nor_ended_but_forgotten() -> None:
    rule = RapidChange("rapid_fall", Limits(), 300)
    assert run(rule, [at(0, 150), at(5, 130, "jump", rate=-4)]) == []
    assert told(rule.see(at(10, 115, rate=-3.2))) == [("rapid_fall", "on", 10)]
    assert run(rule, [at(15, 110), at(40, 100, "jump", rate=0)]) == []
    assert told(rule.see(at(45, 100))) == [("rapid_fall", "off", 45)]


# -- the sensor ------------------------------------------------------------------------------------------------------


def doubted() -> SensorDoubted:
    return SensorDoubted("cgm_doubt:g7/glucose", "CGM g7/glucose", 300)


def test_a_doubted_sensor_is_a_technical_alarm_that_says_what_is_still_watched() -> None:
    found = run(doubted(), [*every_5_min(9, 9, doubt="unit"), *every_5_min(110, 110, start_min=10)])
    assert told(found) == [("cgm_doubt:g7/glucose", "on", 0), ("cgm_doubt:g7/glucose", "off", 15)]
    assert found[0].text == (
        "CGM g7/glucose sends values that look like another unit than is declared: no glucose alarm can be given"
    )


def test_a_doubt_that_passes_is_not_said_until_it_has_lasted_a_quarter_of_an_hour() -> None:
    assert run(doubted(), [at(0, 65, "jump"), *every_5_min(100, 101, start_min=5)]) == []
    found = run(doubted(), every_5_min(60, 60, 60, 60, doubt="compression"))
    assert told(found) == [("cgm_doubt:g7/glucose", "on", 15)]
    assert found[0].onset_ns == T0


def test_an_urgent_low_which_nobody_doubts_is_no_proof_of_the_sensor() -> None:
    readings = [at(0, 110, "warm-up"), *every_5_min(52, 50, 49, start_min=5), at(20, 110, "warm-up")]
    assert told(run(doubted(), readings)) == [("cgm_doubt:g7/glucose", "on", 0)]


def test_another_doubt_is_another_alarm() -> None:
    found = run(doubted(), [at(0, 100, "warm-up"), at(5, 100, "expired"), at(10, 100, "a new one")])
    assert [one.active for one in found] == [True, False, True, False, True]
    assert "is in doubt (a new one)" in found[-1].text


# -- limits by time of day -------------------------------------------------------------------------------------------


NIGHT = Hours("low", 22 * 60, 7 * 60, (("low_below_mg_dl", 80.0), ("low_again_after_min", 60.0)))


def test_at_night_another_limit_holds() -> None:
    for minute, raised in ((6 * 60 + 59, True), (7 * 60, False), (21 * 60 + 59, False), (22 * 60, True)):
        rule = LowGlucose(Limits(hours=(NIGHT,)), 300)
        assert bool(run(rule, [at(minute, 75)])) is raised
    (raised_low,) = run(LowGlucose(Limits(hours=(NIGHT,)), 300), [at(60, 75)])
    assert dict(raised_low.values)["limit_mg_dl"] == 80


def test_a_low_of_the_night_that_is_none_by_day_ends_like_any_other() -> None:
    rule = LowGlucose(Limits(hours=(NIGHT,)), 300)
    readings = [at(6 * 60 + 30 + 5 * k, 75) for k in range(14)]
    assert told(run(rule, readings)) == [("low", "on", 390), ("low", "off", 450)]


def test_a_rule_can_be_off_for_some_hours_and_ends_when_they_begin() -> None:
    rule = HighGlucose(Limits(hours=(Hours("high", 8 * 60, 9 * 60, (), enabled=False),)), 300)
    readings = [at(7 * 60 + 50 + 5 * k, 300) for k in range(16)]
    assert told(run(rule, readings)) == [("high", "on", 470), ("high", "off", 480), ("high", "on", 540)]


def test_no_hours_silence_an_urgent_low() -> None:
    limits = Limits(disabled=frozenset(GLUCOSE_RULES), hours=(Hours("urgent_low", 0, 720, (), enabled=False),))
    found = [one for rule in glucose_rules(limits, 300, "d", "c") for one in run(rule, [at(0, 50), at(5, 300)])]
    assert [one.rule for one in found if one.active] == ["urgent_low"]


# -- whatever comes --------------------------------------------------------------------------------------------------


DOUBTS = ("", "", "", "warm-up", "stuck", "jump", "unit")


@st.composite
def days(draw: st.DrawFn) -> list[Observation]:
    """Readings with gaps, doubts and any values, each with or without its outlook."""
    minute, seen = 0, []
    for _ in range(draw(st.integers(1, 60))):
        minute += draw(st.sampled_from([5, 5, 5, 5, 10, 20, 90]))
        mg_dl = draw(st.sampled_from([39, 45, 54, 55, 63, 69, 70, 75, 80, 110, 240, 250, 255, 400]))
        beyond = {39: "low", 400: "high"}.get(mg_dl, "")
        rate = draw(st.sampled_from([None, -4.0, -2.5, 0.0, 3.0]))
        reading = at(minute, mg_dl, draw(st.sampled_from(DOUBTS)), rate=rate, beyond=beyond)
        seen.append(reading)
        if draw(st.booleans()):
            p = st.sampled_from([0.0, 0.4, 0.7])
            usable = draw(st.booleans())
            seen.append(ahead(reading, low=draw(p), urgent=draw(p), high=draw(p), usable=usable))
    return seen


OFF_AND_ON = tuple(Hours(rule, 60, 120, (), enabled=False) for rule in GLUCOSE_RULES)


@given(days(), st.sampled_from([Limits(), Limits(hours=(NIGHT,)), Limits(hours=OFF_AND_ON)]))
def test_alarms_begin_and_end_in_turn_and_are_said_again_only_by_a_sound_reading(
    seen: list[Observation], limits: Limits
) -> None:
    readings = {one.t_ns: one for one in seen if isinstance(one, Glucose)}
    on: dict[str, int] = {}
    begun: set[tuple[str, int]] = set()
    for rule in glucose_rules(limits, 300, "d", "c"):
        for found in run(rule, seen):
            reading = readings[found.at_ns]
            assert found.fresh_ns == 450 * NS
            assert urgency(found.rule)
            technical = of_glucose_sensor(found.rule)
            assert technical or of_glucose(found.rule)
            if found.again:
                assert on[found.rule] == found.onset_ns
                assert not reading.doubt
            elif found.active:
                assert found.rule not in on
                assert (found.rule, found.onset_ns) not in begun
                begun.add((found.rule, found.onset_ns))
                assert technical or not reading.doubt or found.rule == "urgent_low"
                on[found.rule] = found.onset_ns
            else:
                assert on.pop(found.rule) == found.onset_ns
                if found.rule in ("low", "urgent_low"):
                    assert not reading.doubt
                if found.rule == "urgent_low":
                    assert reading.mg_dl > 54


@given(days())
def test_an_urgent_low_is_always_on_where_a_reading_shows_one(seen: list[Observation]) -> None:
    rule, on = low(), False
    for one in seen:
        for found in rule.see(one):
            on = found.active if found.rule == "urgent_low" else on
        if isinstance(one, Glucose) and one.mg_dl <= 54 and one.doubt != "unit":
            assert on


@given(days(), st.integers(0, 60))
def test_a_rule_goes_on_after_a_restart_as_if_there_had_been_none(seen: list[Observation], cut: int) -> None:
    through = [found for rule in glucose_rules(Limits(), 300, "d", "c") for found in run(rule, seen)]
    restarted = []
    for rule in glucose_rules(Limits(), 300, "d", "c"):
        first = run(rule, seen[:cut])
        restarted += [*first, *run(pickle.loads(pickle.dumps(rule)), seen[cut:])]  # noqa: S301
    assert restarted == through


def test_each_glucose_rule_has_an_urgency_and_a_name_in_the_table() -> None:
    assert set(GLUCOSE_RULES) <= set(PHYSIOLOGICAL)
    assert of_anything_else("asystole")
    assert of_anything_else("stream_silent:g7/glucose")


# -- the given people ------------------------------------------------------------------------------------------------


PEOPLE = ("AZT1D/Subject_1", "Bris-T1D_Open/P01", "T1D-UOM/UoMGlucose2301")


def test_an_alarm_about_a_level_seldom_comes_again_within_half_an_hour(recordings_dir: Callable[[str], Path]) -> None:
    folder = recordings_dir("glucose")
    began = {"urgent_low": 0, "low": 0, "high": 0}
    again = dict(began)
    for person in PEOPLE:
        over_ns: dict[str, int] = {}
        readings = read(folder / f"{person}.csv")
        for found in [*run(low(), readings), *run(high(), readings)]:
            if not found.active:
                over_ns[found.rule] = found.at_ns
            elif not found.again and found.rule in began:
                began[found.rule] += 1
                again[found.rule] += found.at_ns - over_ns.get(found.rule, 0) <= 30 * MIN
    assert all(began.values())
    assert sum(again.values()) <= 0.08 * sum(began.values()), (began, again)


def read(file: Path) -> list[Glucose]:
    """A person's readings, their wall time taken for UTC."""
    with file.open(newline="") as lines:
        rows = [(datetime.fromisoformat(row["timestamp"]), row["glucose_mg_dl"]) for row in csv.DictReader(lines)]
    known = {when.replace(tzinfo=UTC): float(mg_dl) for when, mg_dl in rows if mg_dl}
    return [Glucose(round(when.timestamp()) * NS, mg_dl) for when, mg_dl in sorted(known.items())]
