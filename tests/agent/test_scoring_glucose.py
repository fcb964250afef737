"""Glucose scoring by hand on small cases, and against a slow implementation that follows the protocol word by word."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluate.incumbents import ar2, ar2_loss, line, linear, nightscout_low, xdrip_low
from agent.scoring.glucose import (
    ZONES,
    ForecastScore,
    Grid,
    clarke_zones,
    forecast_score,
    interval,
    on_grid,
    resampled,
    total,
)
from agent.scoring.glucose_events import LE54_20, LT70_30, LowScore, Target, low_score, lows_of, notifications, onsets

T0_S = 1_700_006_400  # midnight
NONE = math.nan


def every_five_minutes(*mg_dl: float) -> Grid:
    """A grid of these readings, nan where none came."""
    return on_grid([T0_S + 300 * k for k in range(len(mg_dl))], mg_dl)


# -- the grid --------------------------------------------------------------------------------------------------------


def test_a_reading_belongs_to_the_nearest_slot_and_a_tie_to_the_later() -> None:
    grid = on_grid([T0_S - 149, T0_S + 149, T0_S + 450], [100, 101, 102])
    assert (grid.slot - T0_S // 300).tolist() == [0, 2]
    assert grid.mg_dl.tolist() == [101, 102]
    assert grid.reading.tolist() == [1, 2]


def test_of_two_at_one_time_the_first_recorded_stands_and_a_late_one_takes_its_own_place() -> None:
    grid = on_grid([T0_S, T0_S, T0_S + 900, T0_S + 300], [100, 200, 103, 101])
    assert grid.mg_dl.tolist() == [100, 101, 103]
    assert grid.reading.tolist() == [0, 3, 2]


def test_a_sample_is_usable_with_nine_of_twelve_readings() -> None:
    kept = [True] * 12
    kept[3] = kept[4] = kept[5] = False
    assert every_five_minutes(*(100.0 if here else NONE for here in kept)).usable[-1]
    kept[6] = False
    assert not every_five_minutes(*(100.0 if here else NONE for here in kept)).usable[-1]


def test_a_sensor_of_fifteen_minutes_is_usable_with_three_of_four_and_weighs_as_long() -> None:
    grid = on_grid([T0_S + 900 * k for k in range(8)], [100.0] * 8)
    assert grid.interval_slots.tolist() == [3] * 8
    assert grid.usable.tolist() == [False, False, True, True, True, True, True, True]
    assert grid.days == pytest.approx(6 * 15 / 1440)


def test_ahead_is_the_reading_exactly_then_or_none() -> None:
    grid = every_five_minutes(100, 101, NONE, 103, 104, 105, 106, 107)
    np.testing.assert_array_equal(grid.ahead(30), [106, 107, NONE, NONE, NONE, NONE, NONE])
    np.testing.assert_array_equal(grid.ahead(-5), [NONE, 100, NONE, 103, 104, 105, 106])


def test_nothing_recorded_scores_nothing() -> None:
    grid = on_grid([], [])
    assert grid.days == 0
    assert math.isnan(forecast_score(grid.ahead(30), grid.mg_dl).rmse)
    assert low_score(grid, [], LT70_30).events == 0
    with pytest.raises(ValueError, match="no scores"):
        total([])


# -- forecasts -------------------------------------------------------------------------------------------------------


def test_errors_by_hand() -> None:
    score = forecast_score([100, 50, 200, NONE], [110, 80, NONE, 90], low=[95, 60, 0, 0], high=[105, 80, 0, 0])
    assert score.n == 2
    assert score.rmse == pytest.approx(math.sqrt((100 + 900) / 2))
    assert score.mae == pytest.approx(20)
    assert score.mard == pytest.approx((0.1 + 0.6) / 2)
    assert score.rmse_low == pytest.approx(30)
    assert score.coverage == pytest.approx(0.5)
    assert score.zone("A") == pytest.approx(0.5)
    assert score.zone("D") == pytest.approx(0.5)
    with pytest.raises(ValueError, match="references"):
        forecast_score([1, 2], [1])


def test_clarke_zones_at_the_corners_of_the_published_grid() -> None:
    """Around each corner of the lines of Clarke's figure 1: (175/3, 70), (70, 56), (70, 84), (70, 180), (130, 0),
    (180, 70), (240, 180), (290, 400) and the ends of the wedge of 20 %."""
    expected = {
        (50, 69): "A", (50, 71): "D", (57, 70.5): "D", (60, 71.5): "A", (60, 73): "D", (69, 82): "A", (69, 84): "D",
        (69, 69): "A", (71, 57): "A", (71, 56): "B", (71, 85): "A", (71, 86): "B", (71, 180): "B", (71, 182): "C",
        (69, 179): "D", (69, 181): "E", (129, 1): "B", (131, 1): "C", (150, 27): "C", (150, 29): "B", (179, 68): "C",
        (179, 69): "B", (181, 69): "E", (181, 71): "B", (239, 71): "B", (241, 71): "D", (241, 69): "E",
        (241, 179): "D", (241, 181): "B", (289, 398): "B", (289, 400): "C", (291, 400): "B", (400, 321): "A",
        (400, 319): "B", (333, 399): "A", (333, 266): "B", (100, 120): "A", (100, 80): "A", (100, 121): "B",
    }  # fmt: skip
    said = clarke_zones([pair[0] for pair in expected], [pair[1] for pair in expected])
    assert {pair: ZONES[zone] for pair, zone in zip(expected, said, strict=True)} == expected


def zone_by_polygon(ref: float, said: float) -> str:
    """The same grid, written as the figure's regions from its corners, for a point on no line."""
    if abs(said - ref) < 0.2 * ref or (ref < 70 and said < 70):
        return "A"
    if ref < 70:
        return "D" if said < 180 else "E"
    if said > ref:
        return "C" if said > ref + 110 and ref < 290 else "B"
    if ref > 180 and said < 70:
        return "E"
    if ref > 240 and said < 180:
        return "D"
    return "C" if 130 < ref < 180 and said < 70 * (ref - 130) / 50 else "B"


@given(st.integers(20, 499), st.integers(20, 499))
def test_clarke_zones_as_regions(ref: int, said: int) -> None:
    pair = ref + 0.317, said + 0.173  # off every line
    assert ZONES[int(clarke_zones(*pair))] == zone_by_polygon(*pair)


def test_people_are_added_and_drawn_again() -> None:
    good, bad = forecast_score([100.0] * 3, [101.0] * 3), forecast_score([100.0], [120.0])
    both = total([good, bad])
    assert both.n == 4
    assert both.rmse == pytest.approx(math.sqrt((3 * 1 + 400) / 4))
    again = resampled([good, bad])
    assert isinstance(again, ForecastScore)
    assert set(np.round(again.rmse, 6)) == {1.0, round(float(both.rmse), 6), 20.0}
    assert interval(again.rmse) == (1.0, 20.0)
    np.testing.assert_array_equal(again.rmse, resampled([good, bad]).rmse)
    assert math.isnan(interval(np.array([NONE]))[0])


# -- lows ------------------------------------------------------------------------------------------------------------

CALM = [100.0] * 12


def score_of(mg_dl: list[float], alarmed_at: list[int], target: Target = LT70_30) -> LowScore:
    grid = every_five_minutes(*mg_dl)
    return low_score(grid, np.isin(grid.reading, alarmed_at), target)


def test_a_low_needs_a_second_reading_within_ten_minutes_and_half_an_hour_without() -> None:
    low = [*CALM, 69.0, 71.0, 69.0, *[90.0] * 6, 65.0, 60.0, 90.0, 90.0, 90.0, 90.0, 90.0, 68.0, 66.0]
    assert np.flatnonzero(onsets(every_five_minutes(*low), LT70_30)).tolist() == [12, 21]
    alone = [*CALM, 69.0, 71.0, 71.0, 69.0]
    assert not onsets(every_five_minutes(*alone), LT70_30).any()


def test_with_a_sensor_of_fifteen_minutes_the_second_reading_may_be_the_next() -> None:
    grid = on_grid([T0_S + 900 * k for k in range(6)], [100, 100, 100, 100, 69, 68])
    assert np.flatnonzero(onsets(grid, LT70_30)).tolist() == [4]


def test_an_alarm_fifteen_minutes_before_is_early_and_one_half_an_hour_before_is_in_time() -> None:
    mg_dl = [*CALM, *[80.0] * 6, 65.0, 60.0]
    for at, detected, early in ((11, 0, 0), (12, 1, 1), (15, 1, 1), (16, 1, 0), (17, 1, 0), (18, 0, 0)):
        score = score_of(mg_dl, [at])
        assert (score.events, score.detected, score.early) == (1, detected, early), at


def test_a_low_before_which_nothing_could_alarm_is_counted_apart() -> None:
    score = score_of([*CALM, *[NONE] * 12, 65.0, 60.0], [])
    assert (score.events, score.unwatched) == (0, 1)


def test_an_alarm_always_on_is_heard_every_half_hour_and_announces_no_better_than_that() -> None:
    score = score_of([*CALM] * 12, list(range(144)))
    samples = 144 - 8  # the first eight have too little before them
    assert score.false == math.ceil(samples / 6)
    assert score.true == 0
    assert score.days == pytest.approx(samples / 288)
    assert score.false_per_day == pytest.approx(48, abs=1)


def test_an_alarm_that_ends_and_begins_again_is_not_heard_again_within_the_snooze() -> None:
    slots = np.arange(20, dtype=np.int64)
    on = np.isin(slots, [0, 2, 5, 7, 12, 13, 19])
    assert np.flatnonzero(notifications(slots, on)).tolist() == [0, 7, 13, 19]


def test_a_notification_is_true_where_a_low_reading_follows_within_the_horizon() -> None:
    mg_dl = [*CALM, *[80.0] * 6, 69.9, 80.0]
    for at, true in ((11, 0), (12, 1), (17, 1), (19, 0)):
        score = score_of(mg_dl, [at])
        assert (score.true, score.false) == (true, 1 - true), at


def test_the_strict_figure_wants_a_notification_not_an_alarm_left_on() -> None:
    """Snoozed from long before: on during the horizon, but heard only five minutes ahead."""
    mg_dl = [*CALM, *[80.0] * 11, 54.0, 50.0]
    score = score_of(mg_dl, list(range(16, 23)), LE54_20)
    assert (score.events, score.detected, score.early) == (1, 1, 1)
    assert (score.notified, score.notified_early) == (1, 0)


def test_54_is_an_urgent_low_and_70_is_no_low() -> None:
    assert onsets(every_five_minutes(*CALM, 54.0, 54.0), LE54_20).any()
    assert not onsets(every_five_minutes(*CALM, 54.1, 54.1), LE54_20).any()
    assert not onsets(every_five_minutes(*CALM, 70.0, 70.0), LT70_30).any()


def slow_low_score(grid: Grid, alarm: list[bool], target: Target) -> dict[str, float]:
    """The protocol, sentence by sentence."""
    value = dict(zip(grid.slot.tolist(), grid.mg_dl.tolist(), strict=True))
    every = dict(zip(grid.slot.tolist(), grid.interval_slots.tolist(), strict=True))
    low = {slot: mg_dl < target.below_mg_dl for slot, mg_dl in value.items()}
    usable = {
        slot: sum(slot - k in value for k in range(12)) / (12 / every[slot]) >= 0.75 for slot in value
    }  # one more than 100 % where a sensor of 15 minutes was scanned between
    can = {slot for slot in value if usable[slot] and not low[slot]}
    on = {slot for slot, alarmed in zip(value, alarm, strict=True) if alarmed and slot in can}
    heard: list[int] = []
    for slot in sorted(on):
        if not heard or slot - heard[-1] >= 6:
            heard.append(slot)
    true = [slot for slot in heard if any(low.get(slot + k, False) for k in range(1, target.horizon_min // 5 + 1))]
    sums = dict.fromkeys((one.name for one in fields(LowScore)), 0.0)
    sums |= {"true": len(true), "false": len(heard) - len(true), "days": sum(every[slot] for slot in can) / 288}
    for slot in value:
        again = any(low.get(slot + k, False) for k in range(1, (3 if every[slot] == 3 else 2) + 1))
        if not low[slot] or not again or any(low.get(slot - k, False) for k in range(1, 7)):
            continue
        before = {slot - k for k in range(1, target.horizon_min // 5 + 1)}
        early = {one for one in before if slot - one >= 3}
        if not before & can:
            sums["unwatched"] += 1
            continue
        sums["events"] += 1
        sums["detected"] += bool(before & on)
        sums["early"] += bool(early & on)
        sums["notified"] += bool(before & set(heard))
        sums["notified_early"] += bool(early & set(heard))
    return sums


@given(st.data())
def test_low_scores_are_those_of_the_protocol_word_by_word(data: st.DataObject) -> None:
    gaps = data.draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 3, 3, 3, 9]), min_size=1, max_size=120))
    values = data.draw(st.lists(st.sampled_from([50, 54, 66, 71, 100]), min_size=len(gaps), max_size=len(gaps)))
    alarm = data.draw(st.lists(st.booleans(), min_size=len(gaps), max_size=len(gaps)))
    grid = on_grid(T0_S + 300 * np.cumsum(gaps), values)
    target = data.draw(st.sampled_from([LT70_30, LE54_20]))
    lows = lows_of(grid, target)
    score = low_score(grid, alarm, target)
    expected = slow_low_score(grid, alarm, target)
    assert {one.name: float(getattr(score, one.name)) for one in fields(LowScore)} == pytest.approx(expected)
    halves = [lows.score(alarm, grid.slot % 2 == side) for side in (0, 1)]
    assert float(total(halves).events) == score.events
    assert float(total(halves).false) == score.false


# -- incumbents ------------------------------------------------------------------------------------------------------


def test_ar2_is_nightscouts_recursion() -> None:
    y, y_before, points = math.log(84 / 140), math.log(92 / 140), []
    for _ in range(6):
        y, y_before = 1.716 * y - 0.723 * y_before, y
        points.append(140 * math.exp(y))
    path = ar2(every_five_minutes(92, 84))
    np.testing.assert_allclose(path[1, :6], points)
    loss = sum(math.log10(round(point) / 120) ** 2 for point in points) / 5
    assert ar2_loss(path)[1] == pytest.approx(loss)
    assert nightscout_low(path)[1] == (round(points[3]) < 80 and loss > 0.05)
    assert nightscout_low(path)[1]
    assert not nightscout_low(ar2(every_five_minutes(100, 100)))[1]


def test_ar2_takes_the_value_of_five_minutes_ago_from_the_line_to_an_older_reading() -> None:
    older = ar2(every_five_minutes(120, NONE, NONE, 90))[1]
    np.testing.assert_allclose(older, ar2(every_five_minutes(100, 90))[1])
    assert (ar2(every_five_minutes(120, NONE, NONE, NONE, 90))[1] == 90).all()  # too old: the last value


def test_a_line_goes_through_what_came() -> None:
    falling = every_five_minutes(130, 120, NONE, 100)
    now, slope = line(falling)
    assert (now[-1], slope[-1]) == pytest.approx((100, -2))
    assert linear(falling, 30)[-1] == pytest.approx(40)
    assert linear(falling, 30)[0] == 130


def test_xdrip_predicts_a_low_within_forty_minutes() -> None:
    def alarms(*mg_dl: float) -> bool:
        return bool(xdrip_low(every_five_minutes(*mg_dl))[-1])

    assert alarms(110, 105, 100)  # 1 mg/dL a minute: in 30 minutes
    assert not alarms(120, 115, 110)  # in 40
    assert not alarms(100, 105, 110)
    assert not alarms(100, 100, 100)
    assert not alarms(80, 70, 60)  # it is low already, not to come
