"""What the fibrillation network is shown of a window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from agent.signal.vf_window import BEFORE_S, CONTEXT, SIGNAL_SHAPE, STILL_MV, WINDOW_SAMPLES, prepare

Float64 = npt.NDArray[np.float64]
T = np.arange(WINDOW_SAMPLES) / 250.0


def sine(hz: float, mv: float = 1.0) -> Float64:
    return mv * np.sin(2 * np.pi * hz * T)


def spikes(bpm: float) -> Float64:
    """Narrow beats, as in sinus rhythm."""
    phase = (T * bpm / 60.0) % 1.0 - 0.5
    return np.exp(-((phase * 60.0 / bpm / 0.012) ** 2))


def measure(window: Float64, name: str) -> float:
    return float(prepare(window[None])[1][0, CONTEXT.index(name)])


def test_shapes_and_types() -> None:
    signal, context = prepare(np.stack([sine(4.0), spikes(70.0), np.zeros(WINDOW_SAMPLES)]))
    assert (signal.shape, signal.dtype) == ((3, *SIGNAL_SHAPE), np.float32)
    assert (context.shape, context.dtype) == ((3, len(CONTEXT)), np.float32)
    assert np.isfinite(signal).all()
    assert np.isfinite(context).all()


def test_a_window_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=f"expected \\(n, {WINDOW_SAMPLES}\\)"):
        prepare(np.zeros((2, WINDOW_SAMPLES - 1)))


@pytest.mark.parametrize("company", [0, 1, 7, 63, 64, 65, 200])
def test_a_window_gives_the_same_bits_in_any_company(company: int) -> None:
    rng = np.random.default_rng(3)
    window = rng.normal(size=WINDOW_SAMPLES).astype(np.float32)
    alone = prepare(window[None])
    others = rng.normal(size=(company, WINDOW_SAMPLES)).astype(np.float32)
    for place in {0, company // 2, company}:
        together = prepare(np.insert(others, place, window, axis=0))
        for one, all_of_them in zip(alone, together, strict=True):
            assert one[0].tobytes() == all_of_them[place].tobytes()


def test_no_windows_give_no_rows() -> None:
    signal, context = prepare(np.empty((0, WINDOW_SAMPLES)))
    assert (signal.shape, context.shape) == ((0, *SIGNAL_SHAPE), (0, len(CONTEXT)))


def test_the_first_row_has_the_same_size_at_any_gain_and_the_second_tells_the_gain() -> None:
    small, large = prepare(np.stack([sine(4.0, 0.3), sine(4.0, 3.0)]))[0]
    assert np.allclose(small[0], large[0], atol=1e-5)
    assert large[1].max() > 2 * small[1].max()


def test_what_is_too_small_to_tell_from_standstill_is_shown_as_a_flat_line() -> None:
    flat, faint, fine = (sine(5.0, size) for size in (0.0, 0.49 * STILL_MV, 0.55 * STILL_MV))
    signal, context = prepare(np.stack([flat, faint, fine]))
    assert signal[0].tobytes() == signal[1].tobytes()
    assert context[0].tobytes() == context[1].tobytes()
    assert np.abs(signal[2, 0]).max() > 1.0


def test_a_tall_second_or_two_does_not_hide_that_the_heart_stands_still() -> None:
    still = 0.02 * np.sin(2 * np.pi * 5.0 * T)
    still[500:750] += np.sin(2 * np.pi * 3.0 * T[500:750])
    assert not prepare(still[None])[0].any()


def test_heights_are_told_in_mv() -> None:
    assert measure(sine(4.0, 0.1), "height_median") == pytest.approx(np.log10(0.2 / 0.5), abs=0.03)
    assert measure(sine(4.0, 0.5), "height_median") == pytest.approx(np.log10(1.0 / 0.5), abs=0.03)


def test_crossings_are_counted_twice_a_cycle() -> None:
    assert measure(sine(5.0), "crossing_rate") == pytest.approx(1.0, abs=0.03)


def test_a_sine_leaks_little_through_its_own_band_stop_and_beats_leak_much() -> None:
    assert measure(sine(4.0), "leakage") < 0.2
    assert measure(spikes(75.0), "leakage") > 0.5


def test_beats_are_quiet_in_between_and_fibrillation_is_not() -> None:
    assert measure(spikes(75.0), "share_below_20") > 0.8
    assert measure(sine(4.5), "share_below_20") < 0.3


def test_a_rhythm_is_like_itself_one_cycle_later() -> None:
    name = next(name for name in CONTEXT if name.startswith("likeness_2"))
    lag_s = float(name.split("_")[1]) / 1000.0
    assert measure(sine(1.0 / lag_s), name) > 0.9
    assert measure(sine(0.5 / lag_s), name) < -0.9


def test_a_constant_window_is_finite_and_quiet() -> None:
    signal, context = prepare(np.full((1, WINDOW_SAMPLES), 2.5))
    assert np.abs(signal).max() < 1e-6
    assert context[0, CONTEXT.index("height_most")] == pytest.approx(-3.0, abs=1e-6)


def test_the_window_is_whole_samples_of_both_rates() -> None:
    assert round(BEFORE_S * 250) == WINDOW_SAMPLES == 4 * SIGNAL_SHAPE[1]
