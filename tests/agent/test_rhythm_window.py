"""The rhythm window: what its features say of rhythms made up here, and that a row does not depend on its company."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.rhythm_window import (
    BEFORE_S,
    CONTEXT,
    HOP_S,
    LIMIT,
    RATE_HZ,
    SAMPLES,
    SIGNAL_SHAPE,
    THIN,
    prepare,
    thin,
)

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
FULL = np.array([SAMPLES])


def beats_at(rr_s: list[float]) -> Int64:
    """R peaks of a window, in samples at 250 Hz, the first 0.5 s after its beginning."""
    times = 0.5 + np.concatenate([[0.0], np.cumsum(rr_s)])
    return np.round(times[times < BEFORE_S - 0.6] * 250).astype(np.int64)


def ecg(r: Int64, *, p_mv: float = 0.15, gain: float = 1.0, wide: Int64 | None = None) -> Float32:
    """A path at 62.5 Hz with a QRS (and P and T) at each R; beats numbered in `wide` are broad and without P."""
    t = np.arange(SAMPLES * THIN) / 250.0
    x = np.zeros(len(t))
    for number, at in enumerate((r + MORPHOLOGY_DELAY) / 250.0):
        broad = wide is not None and number in wide
        width = 0.05 if broad else 0.015
        x += (-1.3 if broad else 1.0) * np.exp(-(((t - at) / width) ** 2))
        x += 0.25 * np.exp(-(((t - at - 0.28) / 0.05) ** 2))
        x += (0.0 if broad else p_mv) * np.exp(-(((t - at + 0.16) / 0.025) ** 2))
    return gain * thin(x)[None]


def features(path: Float32, r: Int64, known: int = SAMPLES) -> dict[str, float]:
    _, context = prepare(path, np.array([known]), [r])
    return dict(zip(CONTEXT, context[0].tolist(), strict=True))


def irregular(seed: int = 1) -> list[float]:
    return np.random.default_rng(seed).uniform(0.45, 1.05, size=60).tolist()


def test_shapes_types_and_limits() -> None:
    r = beats_at([0.8] * 40)
    signal, context = prepare(ecg(r), FULL, [r])
    assert (signal.shape, signal.dtype) == ((1, *SIGNAL_SHAPE), np.float32)
    assert (context.shape, context.dtype) == ((1, len(CONTEXT)), np.float32)
    assert np.abs(context).max() <= LIMIT


def test_a_hop_is_a_whole_number_of_kept_samples() -> None:
    assert (HOP_S * RATE_HZ).is_integer()
    assert (BEFORE_S * RATE_HZ).is_integer()


def test_fibrillation_is_irregular_by_every_measure() -> None:
    steady, wild = beats_at([0.8] * 40), beats_at(irregular())
    sinus, af = features(ecg(steady), steady), features(ecg(wild, p_mv=0.0), wild)
    for name in ("rr_step_median", "rr_step_rms", "rr_entropy_12", "rr_both_steps_12", "rr_turning_share"):
        assert af[name] > sinus[name] + 0.3, name
    for name in ("rr_step_below_3", "rr_matches_5", "rr_steady_run_share", "p_energy"):
        assert af[name] < sinus[name] - 0.3, name


def test_bigeminy_repeats_itself_and_fibrillation_does_not() -> None:
    alternating, wild = beats_at([0.55, 1.05] * 20), beats_at(irregular())
    twins = np.arange(1, 40, 2)
    bigeminy, af = features(ecg(alternating, wide=twins), alternating), features(ecg(wild), wild)
    assert bigeminy["rr_step_median"] > 2.0  # irregular from beat to beat, as in fibrillation
    assert bigeminy["rr_correlation_2"] > 1.5
    assert af["rr_correlation_2"] < 0.8
    assert bigeminy["rr_entropy_5"] < af["rr_entropy_5"] - 0.3
    assert bigeminy["beat_unlike_early_share"] > 1.0 > af["beat_unlike_early_share"]


def test_a_few_early_beats_leave_the_rest_calm() -> None:
    rr = [0.8] * 40
    for k in (5, 15, 25):
        rr[k], rr[k + 1] = 0.5, 1.1
    r = beats_at(rr)
    of_ectopy, of_af = features(ecg(r), r), features(ecg(beats_at(irregular())), beats_at(irregular()))
    assert of_ectopy["rr_early_late_share"] > 0.3
    assert of_ectopy["rr_calm_step_rms"] < 0.3 < of_af["rr_calm_step_rms"]


def test_respiration_turns_slowly() -> None:
    breathing = beats_at([0.8 + 0.12 * np.sin(2 * np.pi * k / 6) for k in range(40)])
    wild = beats_at(irregular())
    assert features(ecg(breathing), breathing)["rr_turning_share"] < 0.8 < features(ecg(wild), wild)["rr_turning_share"]


def test_size_and_a_constant_offset_change_nothing_but_the_amplitude() -> None:
    r = beats_at([0.8] * 40)
    one = features(ecg(r), r)
    for path in (ecg(r, gain=3.0), ecg(r) + np.float32(2.0)):
        other = features(path, r)
        for name in CONTEXT:
            if name not in {"amplitude", "baseline"}:
                assert other[name] == pytest.approx(one[name], abs=2e-3), name
    assert features(ecg(r, gain=3.0), r)["amplitude"] > one["amplitude"] + 1.0


def test_the_track_shows_the_interval_each_sample_lies_in() -> None:
    r = beats_at([0.8] * 10 + [0.4, 1.2] + [0.8] * 40)
    signal, _ = prepare(ecg(r), FULL, [r])
    place = (r + MORPHOLOGY_DELAY) // THIN
    track = signal[0, 1]
    assert (track[: place[0]] == 0).all()
    np.testing.assert_allclose(track[place[10] : place[11]], 4 * np.log(0.5), atol=1e-5)
    np.testing.assert_allclose(track[place[11] : place[12]], 4 * np.log(1.5), atol=1e-5)
    assert (track[place[-1] :] == 0).all()


def test_a_run_of_four_seconds_is_judged_by_those() -> None:
    known = round(HOP_S * RATE_HZ)
    r = beats_at([0.8] * 40)
    r = r[r > (SAMPLES - known) * THIN]
    path = ecg(r)
    path[0, : SAMPLES - known] = 0.0
    signal, context = prepare(path, np.array([known]), [r])
    assert (signal[0, 0, : SAMPLES - known] == 0).all()
    assert context[0, CONTEXT.index("seconds_known")] == pytest.approx(HOP_S / 10)


@pytest.mark.parametrize("beats", [[], [3000], [3000, 3001], list(range(0, 7000, 46)), [-900, -100, 3000]])
@pytest.mark.parametrize("known", [0, 1, 20, SAMPLES])
def test_any_beats_in_any_length_give_finite_numbers(beats: list[int], known: int) -> None:
    path = np.zeros((1, SAMPLES), dtype=np.float32)
    signal, context = prepare(path, np.array([known]), [np.array(beats, dtype=np.int64)])
    assert np.isfinite(signal).all()
    assert np.isfinite(context).all()


def test_windows_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="do not agree"):
        prepare(np.zeros((1, SAMPLES - 1), np.float32), FULL, [np.empty(0, np.int64)])
    with pytest.raises(ValueError, match="do not agree"):
        prepare(np.zeros((1, SAMPLES), np.float32), FULL, [])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_a_row_has_the_same_bits_in_any_company(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    known = rng.integers(0, SAMPLES + 1, rows)
    path = rng.normal(size=(rows, SAMPLES)).astype(np.float32) * rng.uniform(0.01, 5, (rows, 1)).astype(np.float32)
    path[np.arange(SAMPLES) < (SAMPLES - known)[:, None]] = 0.0
    beats = [np.sort(rng.choice(7400, size=rng.integers(0, 90), replace=False)) for _ in range(rows)]
    together = prepare(path, known, beats)
    row = int(rng.integers(rows))
    alone = prepare(path[row : row + 1], known[row : row + 1], beats[row : row + 1])
    for whole, part in zip(together, alone, strict=True):
        assert whole[row].tobytes() == part[0].tobytes()


def test_thinning_takes_whole_means_only() -> None:
    path = np.arange(16.0)
    assert thin(path).tolist() == [1.5, 5.5, 9.5, 13.5]
    assert thin(path[None])[0].tobytes() == thin(path).tobytes()
