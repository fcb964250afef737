"""A glucose sensor's readings as they really come: late, twice, corrected, in the wrong unit, from a sensor doubted."""

from __future__ import annotations

import csv
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.simulate import cgm_readings
from agent.signal.glucose import GlucoseTrack, Pushed
from agent.signal.outlook import Glucose
from firmware_bridge.chunk import NS_PER_S

MIN = 60 * NS_PER_S
T0 = 1_764_000_000 * NS_PER_S
FIVE = 5 * MIN


def push_all(track: GlucoseTrack, *mg_dl: float, every_ns: int = FIVE, from_ns: int = T0) -> list[Pushed]:
    """Readings at an even cadence."""
    return [track.push(from_ns + i * every_ns, value) for i, value in enumerate(mg_dl)]


def told(pushed: Pushed) -> Glucose:
    assert pushed.glucose is not None
    return pushed.glucose


def history(track: GlucoseTrack) -> list[tuple[int, float]]:
    times_ns, mg_dl = track.history(0)
    return list(zip(times_ns.tolist(), mg_dl.tolist(), strict=True))


def test_readings_in_order_are_new_and_have_a_rate_from_the_third_on() -> None:
    track = GlucoseTrack(300.0)
    pushed = push_all(track, 120, 115, 110, 105)
    assert [p.kind for p in pushed] == ["new"] * 4
    assert [told(p).rate_mg_dl_min for p in pushed] == [None, None, -1.0, -1.0]
    assert told(pushed[-1]) == Glucose(T0 + 3 * FIVE, 105.0, rate_mg_dl_min=-1.0)


def test_a_quarter_hour_sensor_has_a_rate_from_two_readings_and_a_minute_sensor_from_ten() -> None:
    sparse = push_all(GlucoseTrack(900.0), 150, 120, every_ns=16 * MIN)
    assert told(sparse[1]).rate_mg_dl_min == pytest.approx(-30 / 16)
    dense = push_all(GlucoseTrack(60.0), *range(100, 120), every_ns=MIN)
    assert [told(p).rate_mg_dl_min for p in dense][8:] == [None, *[pytest.approx(1.0)] * 11]


def test_there_is_no_rate_over_a_gap() -> None:
    track = GlucoseTrack(300.0)
    push_all(track, 100, 101, 102)
    after = push_all(track, 150, 151, 152, from_ns=T0 + 40 * MIN)
    assert [told(p).rate_mg_dl_min for p in after] == [None, None, pytest.approx(0.2)]


def test_one_missing_reading_leaves_a_rate() -> None:
    track = GlucoseTrack(300.0)
    push_all(track, 100, 105)
    assert told(track.push(T0 + 3 * FIVE, 115)).rate_mg_dl_min == pytest.approx(1.0)


def test_one_odd_reading_hardly_moves_the_rate() -> None:
    pushed = push_all(GlucoseTrack(300.0), 100, 101, 112, 103)
    assert told(pushed[-1]).rate_mg_dl_min == pytest.approx(0.6, abs=0.5)


def test_a_late_reading_takes_its_place_and_is_not_told() -> None:
    track = GlucoseTrack(300.0)
    track.push(T0, 100)
    track.push(T0 + 2 * FIVE, 110)
    assert track.push(T0 + FIVE, 45) == Pushed("back-fill")
    assert history(track) == [(T0, 100), (T0 + FIVE, 45), (T0 + 2 * FIVE, 110)]
    assert track.newest_ns == T0 + 2 * FIVE


def test_a_back_fill_makes_the_next_rate_known() -> None:
    track = GlucoseTrack(300.0)
    track.push(T0, 100)
    track.push(T0 + 3 * FIVE, 130)
    track.push(T0 + 2 * FIVE, 120)
    track.push(T0 + FIVE, 110)
    assert told(track.push(T0 + 4 * FIVE, 140)).rate_mg_dl_min == pytest.approx(2.0)


def test_a_repetition_changes_nothing() -> None:
    track = GlucoseTrack(300.0)
    track.push(T0, 100)
    assert track.push(T0, 100) == Pushed("duplicate", "same")
    assert track.push(T0 + 2 * NS_PER_S, 100) == Pushed("duplicate", "same")
    assert history(track) == [(T0, 100)]


def test_a_correction_replaces_the_value_and_tells_what_it_was() -> None:
    track = GlucoseTrack(300.0)
    track.push(T0, 100)
    assert track.push(T0 + NS_PER_S, 92) == Pushed("revised", before_mg_dl=100.0)
    assert history(track) == [(T0, 92)]


def test_of_two_sources_a_minute_apart_the_first_wins() -> None:
    track = GlucoseTrack(300.0)
    track.push(T0, 100)
    assert track.push(T0 + MIN, 104) == Pushed("duplicate", "close")
    assert track.push(T0 - MIN, 104) == Pushed("duplicate", "close")
    assert history(track) == [(T0, 100)]
    assert track.counts["duplicate: close"] == 2


def test_a_scan_between_two_readings_of_a_quarter_hour_sensor_is_a_reading() -> None:
    track = GlucoseTrack(900.0)
    track.push(T0, 110)
    assert track.push(T0 + 4 * MIN, 68).kind == "new"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0.0, "below 20"),
        (-5.0, "below 20"),
        (1000.0, "above 600"),
        (600.5, "above 600"),
        (1e300, "above 600"),
        (float("nan"), "not a number"),
        (float("inf"), "not a number"),
        (5.5, "unit"),
        (25.0, "unit"),
    ],
)
def test_what_cannot_be_is_refused_and_counted(value: float, reason: str) -> None:
    track = GlucoseTrack(300.0)
    assert track.push(T0, value) == Pushed("refused", reason)
    assert track.newest_ns is None
    assert track.counts == Counter({"refused": 1, f"refused: {reason}": 1})


def test_mmol_declared_as_mg_is_questioned_and_never_converted() -> None:
    track = GlucoseTrack(300.0)
    pushed = push_all(track, 9.75, 9.5, 9.25, 9.0)
    assert [(p.kind, p.glucose) for p in pushed] == [("refused", None)] * 4
    assert [p.questioned for p in pushed] == [
        None,
        *(Glucose(T0 + i * FIVE, value, doubt="unit") for i, value in ((1, 9.5), (2, 9.25), (3, 9.0))),
    ]
    assert history(track) == []
    assert track.unit_doubted
    assert track.push(T0 + 4 * FIVE, 158).kind == "new"
    assert not track.unit_doubted


def test_two_broken_values_are_no_other_unit() -> None:
    track = GlucoseTrack(300.0)
    push_all(track, 2.0, 30.0, 2.0)
    assert not track.unit_doubted


def test_a_repeated_broken_value_is_counted_once() -> None:
    track = GlucoseTrack(300.0)
    track.push(T0, 9.8)
    assert track.push(T0, 9.8).questioned is None
    assert not track.unit_doubted


def test_very_high_in_mmol_is_not_taken_for_an_urgent_low() -> None:
    track = GlucoseTrack(300.0)
    pushed = push_all(track, 410, 22.5, 22.9, 23.3)
    assert [p.reason for p in pushed] == ["", "unit", "unit", "unit"]
    assert track.unit_doubted


def test_a_fall_into_values_that_could_be_mmol_is_believed() -> None:
    pushed = push_all(GlucoseTrack(300.0), 70, 52, 40, 31, 26)
    assert [told(p).doubt for p in pushed] == [""] * 5


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (39, "low"),
        (40, "low"),
        (2.2 * 18.0156, "low"),
        (41, ""),
        (399, ""),
        (400, "high"),
        (401, "high"),
        (22.2 * 18.0156, "high"),
        (420, ""),
        (499, ""),
        (500, "high"),
        (27.8 * 18.0156, "high"),
    ],
)
def test_at_the_ends_of_its_range_a_sensor_may_mean_more(value: float, end: str) -> None:
    assert told(GlucoseTrack(300.0).push(T0, value)).beyond == end


def test_a_new_sensor_warms_up_and_an_old_one_expires() -> None:
    track = GlucoseTrack(300.0, warm_up_s=3600.0, lifetime_s=10 * 86400.0, session_start_ns=T0)
    assert told(track.push(T0 - FIVE, 120)).doubt == ""  # of the sensor before it
    assert told(track.push(T0 + FIVE, 120)).doubt == "warm-up"
    assert told(track.push(T0 + 12 * FIVE, 120)).doubt == ""
    assert told(track.push(T0 + 10 * 288 * FIVE, 120)).doubt == "expired"
    track.new_session(T0 + 10 * 288 * FIVE + MIN)
    assert told(track.push(T0 + 10 * 288 * FIVE + FIVE, 120)).doubt == "warm-up"
    assert told(track.push(T0 + 11 * 288 * FIVE, 120)).doubt == ""


def test_a_new_sensor_is_not_compared_with_the_last_one() -> None:
    track = GlucoseTrack(300.0)
    push_all(track, 100, 100, 100)
    track.new_session(T0 + 11 * MIN)
    first = told(track.push(T0 + 15 * MIN, 210))
    assert (first.doubt, first.rate_mg_dl_min) == ("", None)


def test_a_single_spike_is_doubted_and_the_return_from_it_is_not() -> None:
    pushed = push_all(GlucoseTrack(300.0), 120, 121, 122, 240, 124, 125)
    assert [told(p).doubt for p in pushed] == ["", "", "", "jump", "", ""]
    assert told(pushed[3]).rate_mg_dl_min is None
    assert all(abs(told(p).rate_mg_dl_min or 0.0) < 1 for p in pushed[4:])


def test_a_second_reading_at_a_new_level_is_believed() -> None:
    pushed = push_all(GlucoseTrack(300.0), 120, 121, 240, 243, 244)
    assert [told(p).doubt for p in pushed] == ["", "", "jump", "", ""]


def test_a_spike_down_to_an_urgent_low_is_never_doubted() -> None:
    pushed = push_all(GlucoseTrack(300.0), 140, 140, 48, 140, 64)
    assert [told(p).doubt for p in pushed] == ["", "", "", "", "jump"]


def test_a_fast_fall_is_no_jump() -> None:
    pushed = push_all(GlucoseTrack(300.0), 180, 140, 100, 62)
    assert [told(p).doubt for p in pushed] == [""] * 4
    assert told(pushed[-1]).rate_mg_dl_min == pytest.approx(-8, abs=0.3)


def test_a_sensor_that_repeats_one_value_is_stuck_until_it_moves() -> None:
    track = GlucoseTrack(300.0)
    pushed = push_all(track, 90, *[142.0] * 18, 144.0)
    assert [told(p).doubt for p in pushed] == [""] * 16 + ["stuck"] * 3 + [""]
    assert track.counts["doubt: stuck"] == 3


@pytest.mark.parametrize("value", [40.0, 54.0, 400.0])
def test_a_value_at_the_sensors_end_or_an_urgent_low_is_not_stuck(value: float) -> None:
    assert all(told(p).doubt == "" for p in push_all(GlucoseTrack(300.0), *[value] * 40))


@pytest.mark.parametrize("doubted", ["warm-up", "expired", "stuck", "jump"])
def test_no_doubt_silences_an_urgent_low(doubted: str) -> None:
    track = GlucoseTrack(300.0, warm_up_s=3600.0, lifetime_s=86400.0)
    if doubted in ("warm-up", "expired"):
        track.new_session(T0 - (0 if doubted == "warm-up" else 2 * 86400 * NS_PER_S))
    values = {"stuck": [54.0] * 30, "jump": [200.0, 44.0]}.get(doubted, [54.0, 50.0])
    assert told(push_all(track, *values)[-1]).doubt == ""


def test_a_low_that_ends_as_abruptly_as_it_began_is_noted_once_and_not_doubted() -> None:
    pushed = push_all(GlucoseTrack(300.0), 108, 107, 106, 61, 55, 58, 103, 105, 106)
    assert [p.reason for p in pushed] == [""] * 6 + ["compression", "", ""]
    assert all(told(p).doubt == "" for p in pushed)


def test_a_low_that_was_treated_is_not_noted() -> None:
    pushed = push_all(GlucoseTrack(300.0), 100, 90, 80, 72, 66, 62, 60, 63, 70, 80, 95, 110)
    assert all(p.reason == "" for p in pushed)


def test_coverage_is_the_share_of_time_for_which_readings_came() -> None:
    track = GlucoseTrack(300.0)
    assert track.coverage(1.0) == 0.0
    push_all(track, *[100.0 + i for i in range(12)])
    assert track.coverage(1.0) == 1.0
    assert track.coverage(2.0) == pytest.approx(0.5)
    push_all(track, 100, 101, 102, 103, 104, 105, from_ns=T0 + 90 * MIN)
    assert track.coverage(1.0) == pytest.approx(6 / 12)


def test_more_than_a_day_of_a_reading_a_minute_is_kept_in_little() -> None:
    track = GlucoseTrack(60.0)
    push_all(track, *[100.0 + i % 50 for i in range(3 * 1440)], every_ns=MIN)
    times_ns, _ = track.history(0)
    assert times_ns[-1] - times_ns[0] >= 24 * 60 * MIN
    assert len(pickle.dumps(track)) <= 25_000
    assert track.push(T0, 90) == Pushed("refused", "too old")


def test_no_cadence_makes_it_grow_without_end() -> None:
    track = GlucoseTrack(60.0)
    push_all(track, *[100.0 + i % 50 for i in range(5000)], every_ns=20 * NS_PER_S)
    assert len(history(track)) == 2000
    assert len(pickle.dumps(track)) <= 25_000


def test_it_goes_on_after_a_restart_as_if_nothing_had_happened() -> None:
    readings = [(T0 + round(r.t_s * NS_PER_S), r.mg_dl) for r in cgm_readings(3)]
    straight, restarted = GlucoseTrack(300.0), GlucoseTrack(300.0)
    for t_ns, value in readings:
        restarted = pickle.loads(pickle.dumps(restarted))  # noqa: S301
        assert restarted.push(t_ns, value) == straight.push(t_ns, value)
    assert history(restarted) == history(straight)


def test_a_cadence_has_to_be_told() -> None:
    with pytest.raises(ValueError, match="interval_s"):
        GlucoseTrack(0.0)


READINGS = st.lists(
    st.tuples(st.integers(0, 280), st.integers(-40, 40), st.floats(34, 600, width=32)),
    unique_by=lambda reading: reading[0],
    max_size=60,
).map(lambda found: [(T0 + slot * FIVE + jitter * NS_PER_S, value) for slot, jitter, value in sorted(found)])
"""Readings at a jittering five-minute cadence, some missing, in order."""


@given(READINGS, st.data())
def test_the_history_is_that_of_the_sorted_readings_in_any_order_and_number(
    readings: list[tuple[int, float]], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(readings), max_size=20)) if readings else []
    track = GlucoseTrack(300.0)
    kinds = [track.push(t_ns, value).kind for t_ns, value in data.draw(st.permutations([*readings, *again]))]
    assert history(track) == readings
    assert kinds.count("duplicate") == len(again)
    assert set(kinds) <= {"new", "back-fill", "duplicate"}


@given(READINGS, st.data())
def test_what_is_new_is_only_what_is_newer_than_all_before(
    readings: list[tuple[int, float]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(readings))
    track = GlucoseTrack(300.0)
    newest_ns = -1
    for t_ns, value in shuffled:
        assert (track.push(t_ns, value).kind == "new") == (t_ns > newest_ns)
        newest_ns = max(newest_ns, t_ns)


@given(READINGS, st.data())
def test_repetitions_on_the_way_change_nothing_that_is_told(
    readings: list[tuple[int, float]], data: st.DataObject
) -> None:
    plain, repeated = GlucoseTrack(300.0), GlucoseTrack(300.0)
    for i, (t_ns, value) in enumerate(readings):
        assert repeated.push(t_ns, value) == plain.push(t_ns, value)
        for again in data.draw(st.lists(st.integers(0, i), max_size=3)):
            assert repeated.push(*readings[again]).kind == "duplicate"


@given(st.lists(st.tuples(st.integers(0, 2**62), st.floats(width=64)), max_size=40), st.floats(1, 3600))
def test_any_numbers_leave_a_history_in_order_and_a_small_state(
    readings: list[tuple[int, float]], interval_s: float
) -> None:
    track = GlucoseTrack(interval_s, warm_up_s=60.0, lifetime_s=100.0, session_start_ns=T0)
    for t_ns, value in readings:
        pushed = track.push(t_ns, value)
        assert (pushed.glucose is not None) == (pushed.kind == "new")
        if pushed.glucose is not None and pushed.glucose.mg_dl <= 54:
            assert pushed.glucose.doubt == ""
    times_ns, mg_dl = track.history(0)
    assert (np.diff(times_ns) >= track.close_ns).all()
    assert ((mg_dl >= 20) & (mg_dl <= 600)).all()
    assert 0 <= track.coverage(3.0) <= 1
    assert sum(track.counts[kind] for kind in ("new", "back-fill", "duplicate", "revised", "refused")) == len(readings)


def recorded(path: Path) -> Iterator[tuple[int, float]]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            yield round(at.timestamp()) * NS_PER_S, float(row["glucose_mg_dl"])


def constant_min(readings: list[Glucose]) -> Iterator[float]:
    """How long each value within the sensor's range was repeated, over no gap, in minutes."""
    since_ns = 0
    for before, after in pairwise(readings):
        if after.mg_dl != before.mg_dl or after.t_ns - before.t_ns > 30 * MIN:
            since_ns = after.t_ns
        if after.mg_dl > 54 and not after.beyond and since_ns:
            yield (after.t_ns - since_ns) / MIN


@pytest.mark.recordings
def test_of_real_people_nothing_plausible_is_refused_and_little_is_doubted(
    recordings_dir: Callable[[str], Path],
) -> None:
    """Prints how often what happened: pytest -s -k real_people."""
    counts: Counter[str] = Counter()
    days = {300.0: 0.0, 900.0: 0.0}
    repeated: dict[float, list[float]] = {300.0: [], 900.0: []}
    night = 0
    for path in sorted(recordings_dir("glucose").glob("*/*.csv")):
        readings = list(recorded(path))
        steps_s = [(b - a) / NS_PER_S for (a, _), (b, _) in pairwise(readings) if b > a]
        interval_s = 900.0 if np.median(steps_s) > 450 else 300.0
        track = GlucoseTrack(interval_s)
        days[interval_s] += sum(step_s for step_s in steps_s if step_s < 1300) / 86400
        new: list[Glucose] = []
        for t_ns, value in readings:
            pushed = track.push(t_ns, value)
            if pushed.kind == "refused":
                assert value < 20, (path, t_ns, value, pushed.reason)
            if pushed.glucose is not None:
                new.append(pushed.glucose)
            night += pushed.reason == "compression" and t_ns // NS_PER_S % 86400 < 6 * 3600
        repeated[interval_s] += sorted(constant_min(new))[-3:]
        assert not track.unit_doubted
        counts += track.counts
    for interval_s, longest in repeated.items():
        print(f"\n{days[interval_s]:.0f} days at {interval_s:g} s; longest repetitions (min): {sorted(longest)[-6:]}")  # noqa: T201
    print(f"of the compression notes {night} between 0 and 6 o'clock")  # noqa: T201
    for name, count in sorted(counts.items()):
        print(f"{name:24}{count:9}")  # noqa: T201
    doubted = sum(count for name, count in counts.items() if name.startswith("doubt"))
    assert doubted < counts["new"] / 5000
    assert counts["doubt: stuck"] <= 2
