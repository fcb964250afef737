"""What the glucose network is shown: a reading's own past, whatever the sensor's cadence and the company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evaluate.incumbents import ar2
from agent.ingest.simulate import cgm_readings
from agent.scoring.glucose import on_grid
from agent.signal.glucose_window import (
    CLOCK,
    CONTEXT,
    HISTORY_S,
    PREPARE,
    SIGNAL_SHAPE,
    STEP_S,
    STEPS,
    UNIT_MG_DL,
    prepare,
    prepare_each,
)
from firmware_bridge.chunk import NS_PER_S
from models.vocabulary import CONTEXT as KNOWN

MINUTE_NS = 60 * NS_PER_S
T0_NS = 1_700_000_000 * NS_PER_S


def a_day(seed: int = 1, interval_s: float = 300.0) -> tuple[np.ndarray, np.ndarray]:
    """Times and readings of a simulated day and a half."""
    course = [(3.0 * step, level) for step, level in enumerate((120.0, 210.0, 80.0, 150.0, 60.0, 190.0) * 2)]
    readings = cgm_readings(seed, course, interval_s=interval_s)
    times = np.array([T0_NS + round(one.t_s * NS_PER_S) for one in readings], dtype=np.int64)
    return times, np.array([one.mg_dl for one in readings], dtype=np.float32)


def line(slope_mg_dl_min: float, interval_min: float = 5.0, minutes: float = 200.0) -> tuple[np.ndarray, np.ndarray]:
    """A straight course that ends at 150 mg/dL."""
    ago = interval_min * np.arange(int(minutes / interval_min) + 1)[::-1]
    return T0_NS - np.round(ago * MINUTE_NS).astype(np.int64), 150.0 - slope_mg_dl_min * ago


def of(context: np.ndarray, name: str) -> float:
    return float(context[0, CONTEXT.index(name)])


def test_names_and_shapes_are_those_that_a_manifest_may_use() -> None:
    assert KNOWN["glucose"] == CONTEXT
    assert len(set(CONTEXT)) == len(CONTEXT)
    signal, context = prepare([line(1.0)])
    assert signal.shape == (1, *SIGNAL_SHAPE)
    assert context.shape == (1, len(CONTEXT))
    assert signal.dtype == context.dtype == np.float32
    assert PREPARE[0] == "line_between_readings"
    assert UNIT_MG_DL == 20.0


def test_nobody_is_asked_about() -> None:
    signal, context = prepare([])
    assert signal.shape == (0, *SIGNAL_SHAPE)
    assert context.shape == (0, len(CONTEXT))


@pytest.mark.parametrize("history", [([], []), ([1, 2], [100.0])])
def test_a_history_without_readings_or_with_odd_ones_is_an_error(history: tuple[list[int], list[float]]) -> None:
    with pytest.raises(ValueError, match="a history has times"):
        prepare([history])


def test_the_signal_is_the_path_to_the_reading() -> None:
    signal, _ = prepare([line(0.5)])
    ago_min = np.arange(STEPS - 1, -1, -1) * STEP_S / 60
    assert signal[0, 0] == pytest.approx(np.clip(np.arcsinh(-0.5 * ago_min / 15.0), -4, 4), abs=1e-5)
    assert signal[0, 1] == pytest.approx(np.full(STEPS, np.arcsinh(2.5 / 4.0)), abs=1e-5)
    assert (signal[0, 2] == 1.0).all()


@pytest.mark.parametrize("interval_min", [1.0, 4.7, 15.0])
def test_sensors_of_any_cadence_show_the_same_path(interval_min: float) -> None:
    signal, context = prepare([line(0.5, interval_min, 210.0)])
    wanted, _ = prepare([line(0.5)])
    assert signal[0, :2] == pytest.approx(wanted[0, :2], abs=1e-4)
    share = {1.0: 1.0, 4.7: 1.0, 15.0: 1 / 3}[interval_min]
    assert of(context, "known_60") == pytest.approx(4.0 * share - 2.0)


def test_a_hole_is_bridged_and_told_of() -> None:
    times, mg_dl = line(1.0)
    kept = np.ones(len(times), dtype=np.bool_)
    kept[-7:-1] = False
    signal, context = prepare([(times[kept], mg_dl[kept])])
    whole, _ = prepare([(times, mg_dl)])
    assert signal[0, :2] == pytest.approx(whole[0, :2], abs=1e-4)
    assert signal[0, 2, -7:-1].tolist() == [0.0] * 6
    assert of(context, "since_last") == pytest.approx(np.log2(7.0))


def test_one_reading_alone_is_a_flat_path_of_which_nothing_is_known() -> None:
    signal, context = prepare([(np.array([T0_NS]), np.array([100.0]))])
    assert (signal[0, :2] == 0.0).all()
    assert signal[0, 2].sum() == 1.0
    assert np.isfinite(context).all()
    assert of(context, "ar2_30") != 0.0  # AR2 draws a flat path to 140
    assert of(context, "day_known") == pytest.approx(4.0 / 97 - 2.0)


def test_the_path_that_nightscout_draws_is_among_the_measures() -> None:
    times, mg_dl = a_day()
    times -= times[0] % (300 * NS_PER_S)
    _, context = prepare_each(times, mg_dl)
    path = ar2(on_grid(times / NS_PER_S, mg_dl))
    moved = np.sinh(context[:, CONTEXT.index("ar2_30")]) * 20.0
    inside = (path[:, 5] > 40.0) & (path[:, 5] < 390.0)
    inside[0] = False  # it waits for a second reading
    assert moved[inside] == pytest.approx((path[:, 5] - mg_dl)[inside], abs=0.05)


def test_what_is_older_than_a_day_is_not_looked_at() -> None:
    times, mg_dl = a_day()
    last = len(times) - 1
    recent = times >= times[last] - HISTORY_S * NS_PER_S
    assert not recent.all()
    for whole, part in zip(prepare([(times, mg_dl)]), prepare([(times[recent], mg_dl[recent])]), strict=True):
        assert np.array_equal(whole, part)
    strange = mg_dl.copy()
    strange[~recent] = 400.0
    assert np.array_equal(prepare([(times, strange)])[1], prepare([(times, mg_dl)])[1])


def test_a_record_asked_about_at_every_reading_gives_what_each_gives_alone() -> None:
    times, mg_dl = a_day(interval_s=300.0)
    rng = np.random.default_rng(3)
    kept = rng.random(len(times)) < 0.8
    times, mg_dl = times[kept] + rng.integers(0, 30, kept.sum()) * NS_PER_S, mg_dl[kept]
    signal, context = prepare_each(times, mg_dl)
    for row in (0, 1, 2, 50, 300, len(times) - 1):
        alone_signal, alone_context = prepare([(times[: row + 1], mg_dl[: row + 1])])
        assert np.array_equal(alone_signal[0], signal[row])
        assert np.array_equal(alone_context[0], context[row])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(5, 20_000), min_size=0, max_size=60),
            st.lists(st.floats(20.0, 600.0), min_size=61, max_size=61),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_row_depends_on_its_own_history_only_and_is_finite(people: list[tuple[list[int], list[float]]]) -> None:
    histories = []
    for gaps_s, mg_dl in people:
        times = T0_NS + np.concatenate([[0], np.cumsum(gaps_s)]).astype(np.int64) * NS_PER_S
        histories.append((times, np.array(mg_dl[: len(times)])))
    signal, context = prepare(histories)
    assert np.isfinite(signal).all()
    assert np.isfinite(context).all()
    assert float(np.abs(context).max()) <= 4.0
    for row, history in enumerate(histories):
        alone_signal, alone_context = prepare([history])
        assert np.array_equal(alone_signal[0], signal[row])
        assert np.array_equal(alone_context[0], context[row])


def test_nothing_after_the_reading_is_used() -> None:
    times, mg_dl = a_day()
    before, _ = prepare_each(times, mg_dl)
    changed = mg_dl.copy()
    changed[200:] = 333.0
    after, _ = prepare_each(times, changed)
    assert np.array_equal(before[:200], after[:200])
    assert not np.array_equal(before[200:], after[200:])


@pytest.mark.recordings
def test_bulk_and_live_agree_on_a_real_record(recordings_dir: Callable[[str], Path]) -> None:
    pytest.importorskip("wfdb")
    from models.training.glucose_records import read_person

    person = read_person(recordings_dir("glucose").parent, "T1D-UOM", "UoMGlucose2401")
    signal, context = prepare_each(person.times_ns, person.mg_dl)
    rows = np.random.default_rng(5).integers(0, len(signal), 64)
    live = prepare([(person.times_ns[: row + 1], person.mg_dl[: row + 1]) for row in rows.tolist()])
    assert np.array_equal(signal[rows], live[0])
    assert np.array_equal(context[rows], live[1])


HOUR_NS = 3600 * 10**9


def clock(times_ns: np.ndarray, offset_s: float | None) -> list[float]:
    _, context = prepare([(times_ns, np.full(len(times_ns), 100.0))], [offset_s])
    return context[0, CLOCK].tolist()


def test_the_time_of_day_is_that_of_the_zone() -> None:
    times_ns = np.arange(0, 6 * HOUR_NS, HOUR_NS // 12)
    assert clock(times_ns, 3600.0) == clock(times_ns + HOUR_NS, 0.0)
    assert clock(times_ns, 3600.0) == pytest.approx(clock(times_ns + 24 * HOUR_NS, 3600.0))
    assert clock(times_ns, 3600.0) != clock(times_ns, 0.0)
    assert clock(times_ns, 0.0)[-1] == 1.0


def test_where_the_zone_is_not_known_the_time_of_day_says_nothing() -> None:
    times_ns = np.arange(0, 6 * HOUR_NS, HOUR_NS // 12)
    assert clock(times_ns, None) == [0.0] * 5
    _, unsaid = prepare([(times_ns, np.full(len(times_ns), 100.0))])
    assert unsaid[0, CLOCK].tolist() == [0.0] * 5
    with pytest.raises(ValueError, match="offsets"):
        prepare([(times_ns, np.full(len(times_ns), 100.0))], [0.0, 0.0])


def test_each_reading_of_a_record_has_its_own_time_of_day() -> None:
    times_ns = np.arange(0, 30 * HOUR_NS, HOUR_NS // 12)
    _, each = prepare_each(times_ns, np.full(len(times_ns), 100.0), 7200.0)
    _, alone = prepare([(times_ns[:200], np.full(200, 100.0))], [7200.0])
    assert each[199].tobytes() == alone[0].tobytes()
