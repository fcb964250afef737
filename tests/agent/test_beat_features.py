"""The classifier's inputs: what is known 0.6 s after R and earlier, and the normal beat a majority cannot capture."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from agent.signal.beat_features import (
    AFTER_S,
    AFTER_SAMPLES,
    BEFORE_S,
    BEFORE_SAMPLES,
    CONTEXT,
    RATE_HZ,
    SIGNAL_SHAPE,
    WINDOW_SAMPLES,
    BeatFeatures,
    FeatureState,
)

Pair = tuple[np.ndarray, np.ndarray]

T = (np.arange(WINDOW_SAMPLES) - BEFORE_SAMPLES) / RATE_HZ
NORMAL = (
    np.exp(-((T / 0.012) ** 2))
    + 0.15 * np.exp(-(((T + 0.16) / 0.025) ** 2))
    + 0.3 * np.exp(-(((T - 0.26) / 0.05) ** 2))
)
WIDE = -1.3 * np.exp(-((T / 0.04) ** 2)) + 0.4 * np.exp(-(((T - 0.3) / 0.07) ** 2))


def play(beats: list[tuple[np.ndarray, float]], state: FeatureState | None = None, seed: int = 0) -> list[Pair]:
    """Push (window, RR in s) one after the other, with a little noise."""
    rng = np.random.default_rng(seed)
    features = BeatFeatures()
    state = state or features.new_state()
    r_ns, out = state.last_r_ns or 1_000_000_000, []
    for window, rr_s in beats:
        r_ns += int((rr_s + 0.005 * rng.normal()) * 1e9)
        out.append(features.push(state, window + 0.01 * rng.normal(size=WINDOW_SAMPLES), r_ns))
    return out


def value(pair: Pair, name: str) -> float:
    return float(pair[1][CONTEXT.index(name)])


def test_a_beat_becomes_an_image_and_a_context() -> None:
    signal, context = play([(NORMAL, 0.8)])[0]
    assert signal.shape == SIGNAL_SHAPE
    assert context.shape == (len(CONTEXT),)
    assert signal.dtype == context.dtype == np.float32
    assert len(set(CONTEXT)) == len(CONTEXT)


def test_the_window_is_complete_when_a_beat_is_confirmed() -> None:
    assert AFTER_S <= 0.6
    assert (BEFORE_S * RATE_HZ, AFTER_S * RATE_HZ) == (BEFORE_SAMPLES, AFTER_SAMPLES)


def test_only_the_past_counts() -> None:
    beats = [(NORMAL, 0.8)] * 20 + [(WIDE, 0.5), (NORMAL, 1.1)] * 10
    for cut in (1, 15, 21, 30):
        before, after = play(beats[:cut]), play(beats)[:cut]
        assert all(a[0].tobytes() == b[0].tobytes() for a, b in zip(before, after, strict=True))
        assert all(a[1].tobytes() == b[1].tobytes() for a, b in zip(before, after, strict=True))


def test_a_state_put_away_and_taken_out_goes_on_the_same() -> None:
    features = BeatFeatures()
    state = features.new_state()
    play([(NORMAL, 0.8)] * 30, state)
    stored = pickle.dumps(state)
    assert len(stored) < 10_000
    one, other = play([(WIDE, 0.5)] * 5, state), play([(WIDE, 0.5)] * 5, pickle.loads(stored))  # noqa: S301
    assert [a.tobytes() for pair in one for a in pair] == [a.tobytes() for pair in other for a in pair]


def test_people_do_not_mix() -> None:
    features = BeatFeatures()
    anna, berta = features.new_state(), features.new_state()
    alone = play([(NORMAL, 0.8)] * 10)
    for i in range(10):
        rng = np.random.default_rng(i)
        features.push(berta, WIDE + rng.normal(size=WINDOW_SAMPLES), (i + 1) * 10**9)
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
    before = state.rr_quantiles.copy()
    play([(NORMAL, 30.0)], state)
    assert (state.rr_quantiles == before).all()


@pytest.mark.parametrize("window", [np.zeros(WINDOW_SAMPLES), np.full(WINDOW_SAMPLES, 7.0), 1e6 * NORMAL, -NORMAL])
def test_odd_windows_give_bounded_values(window: np.ndarray) -> None:
    for signal, context in play([(NORMAL, 0.8)] * 5 + [(window, 0.8)] * 3 + [(NORMAL, 0.8)] * 3):
        assert np.isfinite(signal).all()
        assert np.abs(context).max() <= 4


def test_flat_from_the_start_gives_bounded_values() -> None:
    features = BeatFeatures()
    state = features.new_state()
    for i in range(5):
        signal, context = features.push(state, np.zeros(WINDOW_SAMPLES), (i + 1) * 10**9)
        assert np.isfinite(signal).all()
        assert np.isfinite(context).all()


def test_what_cannot_be_a_beat_is_refused_and_changes_nothing() -> None:
    features = BeatFeatures()
    state = features.new_state()
    features.push(state, NORMAL, 10**9)
    before = pickle.dumps(state)
    with pytest.raises(ValueError, match="expected \\(250,\\)"):
        features.push(state, NORMAL[1:], 2 * 10**9)
    with pytest.raises(ValueError, match="not a finite number"):
        features.push(state, np.where(T == 0, np.nan, NORMAL), 2 * 10**9)
    with pytest.raises(ValueError, match="not later than the one before"):
        features.push(state, NORMAL, 10**9)
    assert pickle.dumps(state) == before
