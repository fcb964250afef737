"""Measures of glucose over days against values worked out by hand, and the running sums against the measures."""

from __future__ import annotations

import csv
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.signal.glucose import GlucoseTrack
from agent.signal.glycaemia import DailySums, Glycaemia, glycaemia, measures, profile
from firmware_bridge.chunk import NS_PER_S, unit_factor

MIN = 60 * NS_PER_S
HOUR = 60 * MIN
DAY = 24 * HOUR
MIDNIGHT = 20_000 * DAY
"""2024-10-04 00:00 UTC."""


def ten_by_hand() -> list[float]:
    """50, 60, eight in range or above: below 54 10 %, below 70 20 %, above 180 30 %, above 250 10 %."""
    return [50.0, 60.0, 70.0, 100.0, 120.0, 150.0, 180.0, 200.0, 250.0, 300.0]


def even(days: float, mg_dl: float = 120.0, every_ns: int = 5 * MIN) -> tuple[np.ndarray, np.ndarray]:
    times_ns = MIDNIGHT + np.arange(round(days * DAY / every_ns)) * every_ns
    return times_ns, np.full(times_ns.shape, mg_dl)


def test_shares_of_the_ranges_are_those_counted_by_hand() -> None:
    got = measures(ten_by_hand())
    assert (got.below_54_percent, got.below_70_percent) == (10.0, 20.0)
    assert (got.above_180_percent, got.above_250_percent) == (30.0, 10.0)
    assert got.in_range_percent == 50.0


def test_mean_spread_and_gmi_are_those_of_the_formulas() -> None:
    got = measures(ten_by_hand())
    assert got.mean_mg_dl == pytest.approx(148.0)
    assert got.sd_mg_dl == pytest.approx(math.sqrt(63_760 / 9))  # sum of squares about 148
    assert got.cv_percent == pytest.approx(100 * math.sqrt(63_760 / 9) / 148)
    assert got.gmi_percent == pytest.approx(3.31 + 0.02392 * 148)


def test_the_gmi_of_the_paper() -> None:
    """Bergenstal 2018, table 2: 100 mg/dL 5.7 %, 150 6.9 %, 200 8.1 %, 300 10.5 %."""
    assert [round(measures([mean]).gmi_percent, 1) for mean in (100, 150, 200, 300)] == [5.7, 6.9, 8.1, 10.5]


def test_the_risk_index_is_its_weighted_sum() -> None:
    """10 % below 54, 10 % from 54 to 70, 20 % above 180 to 250, 10 % above 250."""
    got = measures(ten_by_hand())
    assert got.gri_hypo == pytest.approx(10 + 0.8 * 10)
    assert got.gri_hyper == pytest.approx(10 + 0.5 * 20)
    assert got.gri == pytest.approx(3.0 * 10 + 2.4 * 10 + 1.6 * 10 + 0.8 * 20)


def test_the_risk_index_ends_at_a_hundred() -> None:
    assert measures([45.0] * 10).gri == 100.0


@pytest.mark.parametrize(
    ("mg_dl", "lbgi", "hbgi"),
    [
        (20.0, 100.0, 0.0),  # the scale is made so that its ends have the risk 100 ...
        (600.0, 0.0, 100.0),
        (112.5, 0.0, 0.0),  # ... and its middle none
        (50.0, 22.5, 0.0),  # 1.509 (ln(50)^1.084 - 5.381) = -1.50
        (180.0, 0.0, 7.8),
    ],
)
def test_the_risk_of_low_and_high_is_that_of_the_symmetrized_scale(mg_dl: float, lbgi: float, hbgi: float) -> None:
    got = measures([mg_dl])
    assert got.lbgi == pytest.approx(lbgi, abs=0.3)
    assert got.hbgi == pytest.approx(hbgi, abs=0.3)
    f = 1.509 * (math.log(mg_dl) ** 1.084 - 5.381)
    assert max(got.lbgi, got.hbgi) == pytest.approx(10 * f * f)


def test_risks_are_means_over_all_readings() -> None:
    assert measures([50.0, 112.5]).lbgi == pytest.approx(measures([50.0]).lbgi / 2, abs=1e-3)


@pytest.mark.parametrize(
    ("mmol_l", "where"),
    [
        (2.9, "below_54_percent"),
        (3.0, "below_70_percent"),
        (3.8, "below_70_percent"),
        (3.9, "in_range_percent"),
        (10.0, "in_range_percent"),
        (10.1, "above_180_percent"),
        (13.9, "above_180_percent"),
        (14.0, "above_250_percent"),
    ],
)
def test_a_range_is_the_same_in_mmol(mmol_l: float, where: str) -> None:
    got = measures([mmol_l * unit_factor("mmol/L", "mg/dL")])
    assert asdict(got)[where] == 100.0
    assert where in ("below_54_percent", "above_250_percent") or got.below_54_percent == got.above_250_percent == 0.0


@pytest.mark.parametrize("bad", [[], [100.0, math.nan], [math.inf]])
def test_there_are_no_measures_of_nothing(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        measures(bad)


def test_below_seventy_percent_of_the_readings_nothing_is_said() -> None:
    times_ns, mg_dl = even(14)
    until_ns = MIDNIGHT + 14 * DAY - 1
    whole = glycaemia(times_ns, mg_dl, days=14, interval_s=300.0, until_ns=until_ns)
    assert whole.coverage == pytest.approx(1.0)
    assert whole.measures == measures(mg_dl)
    for share, enough in ((0.72, True), (0.68, False)):
        kept = np.arange(len(times_ns)) % 100 < share * 100
        got = glycaemia(times_ns[kept], mg_dl[kept], days=14, interval_s=300.0, until_ns=until_ns)
        assert got.coverage == pytest.approx(share, abs=0.005)
        assert (got.measures is not None) == enough


def test_days_before_the_first_reading_are_missing() -> None:
    times_ns, mg_dl = even(3)
    got = glycaemia(times_ns, mg_dl, days=14, interval_s=300.0, until_ns=MIDNIGHT + 3 * DAY - 1)
    assert got == Glycaemia(14, 864, pytest.approx(3 / 14, abs=1e-3), None)


def test_today_is_expected_only_up_to_now() -> None:
    times_ns, mg_dl = even(0.5)
    got = glycaemia(times_ns, mg_dl, days=1, interval_s=300.0, until_ns=MIDNIGHT + DAY // 2)
    assert got.coverage == 1.0


def test_scans_do_not_make_up_for_hours_without_readings() -> None:
    times_ns, mg_dl = even(0.5, every_ns=2 * MIN)
    got = glycaemia(times_ns, mg_dl, days=1, interval_s=900.0, until_ns=MIDNIGHT + DAY - 1)
    assert got.coverage == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("interval_s", [60.0, 300.0, 900.0])
def test_a_jittering_cadence_is_covered(interval_s: float) -> None:
    rng = np.random.default_rng(5)
    steps_s = interval_s + rng.integers(-1, 2, size=round(10 * 86400 / interval_s))
    times_ns = MIDNIGHT + np.cumsum(steps_s * NS_PER_S).astype(np.int64)
    got = glycaemia(times_ns, np.full(len(times_ns), 100.0), days=9, interval_s=interval_s)
    assert got.coverage > 0.97


def test_a_day_begins_at_local_midnight() -> None:
    times_ns = np.array([MIDNIGHT + 21 * HOUR, MIDNIGHT + 23 * HOUR])
    args = {"days": 1, "interval_s": 86400.0, "until_ns": MIDNIGHT + 24 * HOUR - 1}
    assert glycaemia(times_ns, [100.0, 200.0], offset_s=0.0, **args).readings == 2
    assert glycaemia(times_ns, [100.0, 200.0], offset_s=7200.0, **args).readings == 1
    assert glycaemia(times_ns, [100.0, 200.0], offset_s=lambda t_ns: 7200.0, **args).readings == 1


@pytest.mark.parametrize("days", [0, 91])
def test_a_window_has_one_to_ninety_days(days: int) -> None:
    with pytest.raises(ValueError, match="days"):
        glycaemia([MIDNIGHT], [100.0], days=days, interval_s=300.0)


def test_sums_forget_what_is_older_than_ninety_days() -> None:
    sums = DailySums(300.0)
    for day in range(120):
        sums.add(MIDNIGHT + day * DAY + HOUR, 100.0 + day)
    sums.add(MIDNIGHT, 40.0)  # late by four months
    assert len(sums.days) == 90
    assert sums.glycaemia(90, MIDNIGHT + 120 * DAY - 1).readings == 90
    assert len(pickle.dumps(sums)) <= 30_000


def test_a_corrected_reading_replaces_what_it_was() -> None:
    sums = DailySums(86400.0)
    for k, value in enumerate((100.0, 50.0)):
        sums.add(MIDNIGHT + k * HOUR, value)
    sums.revise(MIDNIGHT + HOUR, 50.0, 120.0)
    got = sums.glycaemia(1, MIDNIGHT + 2 * HOUR)
    assert got.readings == 2
    assert got.measures is not None
    assert (got.measures.mean_mg_dl, got.measures.below_54_percent) == (pytest.approx(110.0), 0.0)


def summer_time(t_ns: int) -> float:
    """An hour ahead, and another one from the twelfth day on."""
    return 3600.0 if t_ns < MIDNIGHT + 11 * DAY + HOUR else 7200.0


PLACED = st.lists(
    st.tuples(st.integers(0, 30 * 288), st.integers(-40, 40), st.sampled_from([39.0, 54.0, 69.5, 70.0, 250.5, 400.0])
    | st.floats(20, 600, width=32)),
    unique_by=lambda reading: reading[0],
    min_size=1,
    max_size=80,
)  # fmt: skip
OFFSETS = st.sampled_from([0.0, 19_800.0, -12_600.0, summer_time])


@given(PLACED, OFFSETS, st.integers(1, 40), st.sampled_from([60.0, 300.0, 900.0, 86400.0]), st.data())
def test_running_sums_are_the_measures_of_the_readings_in_any_order(
    placed: list[tuple[int, int, float]],
    offset_s: float | Callable[[int], float],
    days: int,
    interval_s: float,
    data: st.DataObject,
) -> None:
    readings = [(MIDNIGHT + slot * 5 * MIN + jitter * NS_PER_S, value) for slot, jitter, value in placed]
    sums = DailySums(interval_s)
    for t_ns, value in data.draw(st.permutations(readings)):
        sums.add(t_ns, value, offset_s)
    times_ns, mg_dl = (np.array(column) for column in zip(*readings, strict=True))
    until_ns = int(times_ns.max()) + data.draw(st.integers(0, 3 * DAY))
    whole = glycaemia(times_ns, mg_dl, days=days, interval_s=interval_s, until_ns=until_ns, offset_s=offset_s)
    running = sums.glycaemia(days, until_ns, offset_s)
    assert (running.readings, running.coverage) == (whole.readings, whole.coverage)
    assert (running.measures is None) == (whole.measures is None)
    if running.measures is not None and whole.measures is not None:
        assert asdict(running.measures) == pytest.approx(asdict(whole.measures), rel=1e-6, abs=1e-3)


@given(
    st.lists(
        st.tuples(st.integers(0, 250), st.sampled_from([0, 1, 3, 60, -70]), st.integers(40, 400)),
        min_size=1,
        max_size=60,
    )
)
def test_what_the_track_makes_of_a_stream_is_what_is_summed(sent: list[tuple[int, int, int]]) -> None:
    """Late, twice, corrected, from two sources: the sums are those of the history that remains."""
    track, sums = GlucoseTrack(300.0), DailySums(300.0)
    for slot, off_s, value in sent:
        t_ns = MIDNIGHT + 2 * HOUR + slot * 5 * MIN + off_s * NS_PER_S
        match track.push(t_ns, float(value)):
            case pushed if pushed.kind in ("new", "back-fill"):
                sums.add(t_ns, value)
            case pushed if pushed.before_mg_dl is not None:
                sums.revise(t_ns, pushed.before_mg_dl, value)
    times_ns, mg_dl = track.history(0)
    until_ns = int(times_ns[-1])
    whole = glycaemia(times_ns, mg_dl, days=2, interval_s=300.0, until_ns=until_ns)
    running = sums.glycaemia(2, until_ns)
    assert (running.readings, running.coverage) == (whole.readings, whole.coverage)
    mean = sum(day.sums[1] for day in sums.days.values()) / len(mg_dl)
    assert mean == pytest.approx(mg_dl.mean(), rel=1e-6)


@given(st.lists(st.floats(20, 600), min_size=2, max_size=50))
def test_mean_and_spread_are_those_of_numpy(mg_dl: list[float]) -> None:
    got = measures(mg_dl)
    assert got.mean_mg_dl == pytest.approx(np.mean(mg_dl))
    assert got.sd_mg_dl == pytest.approx(np.std(mg_dl, ddof=1), abs=1e-3)


def test_the_profile_is_the_percentiles_of_each_time_of_day() -> None:
    days = np.arange(21)
    morning = MIDNIGHT + days * DAY + 8 * HOUR
    evening = MIDNIGHT + days * DAY + 20 * HOUR
    got = profile(np.concatenate((morning, evening)), np.concatenate((100.0 + days, 200.0 - 2 * days)))
    at_eight, at_noon, at_twenty = (int(np.flatnonzero(got.minute_of_day == h * 60)[0]) for h in (8, 12, 20))
    assert got.mg_dl[:, at_eight].tolist() == pytest.approx([101, 105, 110, 115, 119])
    assert got.mg_dl[:, at_twenty].tolist() == pytest.approx([162, 170, 180, 190, 198])
    assert np.isnan(got.mg_dl[:, at_noon]).all()
    assert got.readings[[at_eight, at_noon, at_twenty]].tolist() == [21, 0, 21]


def test_the_profile_goes_round_midnight_and_follows_the_offset() -> None:
    days = np.arange(10)
    late = MIDNIGHT + days * DAY + 23 * HOUR + 50 * MIN
    got = profile(late, 100.0 + days)
    assert got.readings[0] == 10
    shifted = profile(late, 100.0 + days, offset_s=3600.0)
    assert shifted.readings[got.minute_of_day == 45] == 10
    assert shifted.readings[got.minute_of_day == 1425] == 0


def test_a_profile_of_nothing_is_empty() -> None:
    assert np.isnan(profile([], []).mg_dl).all()


@pytest.mark.recordings
def test_of_a_real_person_the_running_sums_are_the_measures(recordings_dir: Callable[[str], Path]) -> None:
    path = min(recordings_dir("glucose").glob("*/*.csv"))
    track, sums = GlucoseTrack(300.0), DailySums(300.0)
    kept: dict[int, float] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            t_ns, value = round(at.timestamp()) * NS_PER_S, float(row["glucose_mg_dl"])
            pushed = track.push(t_ns, value)
            if pushed.kind in ("new", "back-fill"):
                kept[t_ns] = value
                sums.add(t_ns, value)
            elif pushed.before_mg_dl is not None:
                kept[t_ns] = value
                sums.revise(t_ns, pushed.before_mg_dl, value)
    times_ns, mg_dl = np.array(list(kept)), np.array(list(kept.values()))
    for days in (1, 7, 30):
        until_ns = int(times_ns[-1])
        whole = glycaemia(times_ns, mg_dl, days=days, interval_s=300.0, until_ns=until_ns)
        running = sums.glycaemia(days, until_ns)
        assert whole.coverage > 0.7
        assert running.measures is not None
        assert whole.measures is not None
        assert asdict(running.measures) == pytest.approx(asdict(whole.measures), abs=1e-6)
