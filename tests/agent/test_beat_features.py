"""The classifier's inputs: what is known when a beat is classified, and the normal beat a majority cannot capture."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from agent.signal.beat_features import (
    AFTER_SAMPLES,
    BEFORE_SAMPLES,
    CONTEXT,
    RATE_HZ,
    SIGNAL_SHAPE,
    BeatFeatures,
)
from agent.signal.beat_memory import RR_QUANTILES, FeatureState
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.pending import DECIDE_SAMPLES, FOLLOWER_SAMPLES, DueBeat

Pair = tuple[np.ndarray, np.ndarray]

LENGTH = BEFORE_SAMPLES + AFTER_SAMPLES
T = (np.arange(LENGTH) - BEFORE_SAMPLES) / RATE_HZ
P = 0.15 * np.exp(-(((T + 0.16) / 0.025) ** 2))
WITHOUT_P = np.exp(-((T / 0.012) ** 2)) + 0.3 * np.exp(-(((T - 0.26) / 0.05) ** 2))
NORMAL = WITHOUT_P + P
WIDE = -1.3 * np.exp(-((T / 0.04) ** 2)) + 0.4 * np.exp(-(((T - 0.3) / 0.07) ** 2))


def play(beats: list[tuple[np.ndarray, float]], state: FeatureState | None = None, seed: int = 0) -> list[Pair]:
    """Push (beat, RR in s) one after the other, with a little noise; each window shows the neighbours too."""
    rng = np.random.default_rng(seed)
    state = state or BeatFeatures().new_state()
    at = state.last_r or 250
    r_peaks = [at := at + round(rr_s * RATE_HZ + rng.normal()) for _, rr_s in beats]
    path = np.zeros(r_peaks[-1] + 2 * LENGTH)
    for (beat, _), r in zip(beats, r_peaks, strict=True):
        path[r - BEFORE_SAMPLES : r + AFTER_SAMPLES] += beat
    path += 0.01 * np.random.default_rng(1).normal(size=len(path))
    out = []
    for i, r in enumerate(r_peaks):
        later = [other for other in r_peaks[i + 1 : i + 3] if other <= r + DECIDE_SAMPLES - FOLLOWER_SAMPLES]
        window = path[r - BEFORE_SAMPLES : r + AFTER_SAMPLES].astype(np.float32)
        out.append(push(state, window, due(r, *later)))
    return out


def push(state: FeatureState, window: np.ndarray, beat: DueBeat) -> Pair:
    """One beat of one person."""
    signal, context = BeatFeatures().push([state], window[None], [beat])
    return signal[0], context[0]


def due(r: int, *later: int) -> DueBeat:
    return DueBeat(r, r + DECIDE_SAMPLES, later)


def single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def value(pair: Pair, name: str) -> float:
    return float(pair[1][CONTEXT.index(name)])


def test_a_beat_becomes_an_image_and_a_context() -> None:
    signal, context = play([(NORMAL, 0.8)])[0]
    assert signal.shape == SIGNAL_SHAPE
    assert context.shape == (len(CONTEXT),)
    assert signal.dtype == context.dtype == np.float32
    assert len(set(CONTEXT)) == len(CONTEXT)


def test_the_window_is_complete_when_a_beat_is_due() -> None:
    assert AFTER_SAMPLES + MORPHOLOGY_DELAY <= DECIDE_SAMPLES


def test_only_what_is_known_counts() -> None:
    beats = [(NORMAL, 0.8)] * 20 + [(WIDE, 0.5), (NORMAL, 1.1)] * 10
    for cut in (4, 15, 21, 30):
        known = cut - 3  # the last ones of the shorter have other followers
        before, after = play(beats[:cut])[:known], play(beats)[:known]
        assert all(a[0].tobytes() == b[0].tobytes() for a, b in zip(before, after, strict=True))
        assert all(a[1].tobytes() == b[1].tobytes() for a, b in zip(before, after, strict=True))


def test_a_state_put_away_and_taken_out_goes_on_the_same() -> None:
    features = BeatFeatures()
    state = features.new_state()
    play([(NORMAL, 0.8)] * 30, state)
    stored = pickle.dumps(state)
    assert len(stored) < 12_000
    one, other = play([(WIDE, 0.5)] * 5, state), play([(WIDE, 0.5)] * 5, pickle.loads(stored))  # noqa: S301
    assert [a.tobytes() for pair in one for a in pair] == [a.tobytes() for pair in other for a in pair]


def test_people_do_not_mix() -> None:
    features = BeatFeatures()
    anna, berta = features.new_state(), features.new_state()
    alone = play([(NORMAL, 0.8)] * 10)
    for i in range(10):
        rng = np.random.default_rng(i)
        push(berta, single(WIDE + rng.normal(size=LENGTH)), due((i + 1) * 250))
    assert [p[1].tobytes() for p in play([(NORMAL, 0.8)] * 10, anna)] == [p[1].tobytes() for p in alone]


def test_a_wide_early_beat_differs_from_the_normal() -> None:
    wide = play([(NORMAL, 0.8)] * 40 + [(WIDE, 0.5)])[-1]
    assert value(wide, "cluster_is_normal") < 0
    assert value(wide, "qrs_similarity_normal") < 1
    assert value(wide, "qrs_width_ratio") > 1
    assert value(wide, "rr_vs_q50") < -1
    assert np.abs(wide[0][1]).max() > 1


def test_a_normal_beat_leaves_no_difference() -> None:
    signal, _ = play([(NORMAL, 0.8)] * 40)[-1]
    assert np.abs(signal[1]).max() < 0.35 < np.abs(signal[0]).max()


@pytest.mark.parametrize("cycle", [1, 2, 4])
def test_a_premature_majority_does_not_become_the_normal(cycle: int) -> None:
    beats = [(NORMAL, 0.8)] * 30 + ([(WIDE, 0.5)] * cycle + [(NORMAL, 1.1)]) * 150
    out = play(beats)
    assert value(out[-1], "cluster_is_normal") > 0
    assert value(out[-2], "cluster_is_normal") < 0
    assert value(out[-2], "qrs_similarity_normal") < 1


def test_a_gap_leaves_the_interval_unknown_and_the_normal_known() -> None:
    features = BeatFeatures()
    state = features.new_state()
    play([(NORMAL, 0.8)] * 40, state)
    features.gap(state)
    after = play([(NORMAL, 2.0)], state)[0]
    assert value(after, "rr_vs_q50") == 0
    assert value(after, "qrs_similarity_normal") > 2.5


def test_a_pause_is_no_interval_to_learn_from() -> None:
    state = BeatFeatures().new_state()
    play([(NORMAL, 0.8)] * 40, state)
    before = state.numbers[RR_QUANTILES].copy()
    play([(NORMAL, 30.0)], state)
    assert (state.numbers[RR_QUANTILES] == before).all()


@pytest.mark.parametrize("window", [np.zeros(LENGTH), np.full(LENGTH, 7.0), 1e6 * NORMAL, -NORMAL])
def test_odd_windows_give_bounded_values(window: np.ndarray) -> None:
    for signal, context in play([(NORMAL, 0.8)] * 5 + [(window, 0.8)] * 3 + [(NORMAL, 0.8)] * 3):
        assert np.isfinite(signal).all()
        assert np.abs(context).max() <= 4


def test_flat_from_the_start_gives_bounded_values() -> None:
    features = BeatFeatures()
    state = features.new_state()
    for i in range(5):
        signal, context = push(state, single(np.zeros(LENGTH)), due((i + 1) * 250))
        assert np.isfinite(signal).all()
        assert np.isfinite(context).all()


def test_what_cannot_be_a_beat_is_refused_and_changes_nothing() -> None:
    features = BeatFeatures()
    state = features.new_state()
    push(state, single(NORMAL), due(250))
    before = pickle.dumps(state)
    with pytest.raises(ValueError, match="expected \\(1, 413\\)"):
        push(state, single(NORMAL[1:]), due(500))
    with pytest.raises(ValueError, match="not a finite number"):
        push(state, single(np.where(T == 0, np.nan, NORMAL)), due(500))
    with pytest.raises(ValueError, match="not later than the one before"):
        push(state, single(NORMAL), due(250))
    assert pickle.dumps(state) == before


def test_a_pause_that_makes_up_for_an_early_beat_is_seen() -> None:
    before = [(NORMAL, 0.8)] * 40
    reset, made_up = play([*before, (NORMAL, 0.5), (NORMAL, 0.82)]), play([*before, (NORMAL, 0.5), (NORMAL, 1.1)])
    assert value(reset[-2], "next_known") > 0 > value(made_up[-2], "next_known")
    assert value(reset[-2], "next_compensation") < value(made_up[-2], "next_compensation")


def test_a_follower_is_compared_with_the_normal_and_with_this_beat() -> None:
    out = play([(NORMAL, 0.8)] * 40 + [(WIDE, 0.5), (WIDE, 0.5), (NORMAL, 0.8)])
    assert value(out[-3], "next_qrs_similarity") > 2.5
    assert value(out[-3], "next_qrs_similarity_normal") < 1.0
    assert value(out[-3], "second_known") < 0 < value(out[-3], "next_known")


def test_a_p_wave_is_found_under_the_t_wave_before_it() -> None:
    before = [(NORMAL, 0.8)] * 40
    with_p, without_p = play([*before, (NORMAL, 0.5)])[-1], play([*before, (WITHOUT_P, 0.5)])[-1]
    assert value(with_p, "p_correlation_without_t") > 1.5
    assert value(with_p, "p_correlation_without_t") > value(with_p, "p_correlation") + 0.5
    assert value(without_p, "p_difference_without_t") > 2 * value(with_p, "p_difference_without_t")


def test_a_pattern_repeats_itself_and_fibrillation_does_not() -> None:
    rng = np.random.default_rng(0)
    bigeminy = play([(NORMAL, 0.8)] * 10 + [(NORMAL, 0.55), (NORMAL, 1.0)] * 40)[-1]
    fibrillation = play([(WITHOUT_P, float(rng.uniform(0.45, 1.0))) for _ in range(90)])[-1]
    assert value(bigeminy, "step_median28") > 3
    assert value(bigeminy, "step_least_lag28") < 0.5
    assert value(fibrillation, "step_least_lag28") > 1.5
