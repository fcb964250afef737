"""Resampling to 250 Hz: on time, in tune, and the same however the samples arrive."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler

DEVICE_RATES_HZ = (125.0, 128.0, 130.0, 200.0, 250.0, 256.0, 300.0, 360.0, 500.0, 512.0, 1000.0)


def heartlike(t_s: np.ndarray) -> np.ndarray:
    """Waves within the band that an 8-tap kernel must carry at 125 Hz."""
    return np.sin(2 * np.pi * 1.3 * t_s) + 0.5 * np.sin(2 * np.pi * 11 * t_s + 1) + 0.2 * np.cos(2 * np.pi * 25 * t_s)


@pytest.mark.parametrize("rate_hz", DEVICE_RATES_HZ)
def test_output_sample_j_is_the_signal_at_j_times_4_ms(rate_hz: float) -> None:
    t_s = np.arange(int(20 * rate_hz)) / rate_hz

    out = Resampler(rate_hz).push(heartlike(t_s))

    expected = heartlike(np.arange(len(out)) / ANALYSIS_RATE_HZ)
    inner = slice(50, -50)
    assert np.max(np.abs(out[inner] - expected[inner])) < 0.02
    assert len(out) / ANALYSIS_RATE_HZ == pytest.approx(20, abs=0.05)


@pytest.mark.parametrize("rate_hz", DEVICE_RATES_HZ)
def test_a_constant_stays_that_constant_from_the_first_sample(rate_hz: float) -> None:
    out = Resampler(rate_hz).push(np.full(int(3 * rate_hz), 1.25))

    np.testing.assert_allclose(out, 1.25, rtol=1e-12)


def test_250_hz_passes_through_unchanged() -> None:
    x = np.random.default_rng(1).normal(size=1000)

    np.testing.assert_array_equal(Resampler(250).push(x), x)


@pytest.mark.parametrize("rate_hz", [500.0, 512.0, 1000.0])
def test_what_250_hz_cannot_carry_does_not_fold_into_the_heart_band(rate_hz: float) -> None:
    t_s = np.arange(int(10 * rate_hz)) / rate_hz

    out = Resampler(rate_hz).push(np.sin(2 * np.pi * 235 * t_s))

    assert np.sqrt(np.mean(out[50:-50] ** 2)) < 0.03


@given(
    rate_hz=st.sampled_from(DEVICE_RATES_HZ),
    cuts=st.lists(st.integers(0, 900), max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_chunking_gives_the_same_bits(rate_hz: float, cuts: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=900)
    whole = Resampler(rate_hz).push(x)

    resampler = Resampler(rate_hz)
    parts = [resampler.push(part) for part in np.split(x, sorted(cuts))]

    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(deadline=None)
@given(rate_hz=st.floats(50, 4000))
def test_any_rate_keeps_time(rate_hz: float) -> None:
    n = int(30 * rate_hz)

    out = Resampler(rate_hz).push(np.arange(n) / rate_hz)

    np.testing.assert_allclose(out[60:], np.arange(60, len(out)) / ANALYSIS_RATE_HZ, atol=2e-3)


def test_phases_do_not_drift_over_hours() -> None:
    rate_hz = 130.0
    resampler = Resampler(rate_hz)
    ten_minutes = np.zeros(int(rate_hz * 600))
    received = produced = 0
    for _ in range(72):
        received += len(ten_minutes)
        produced += len(resampler.push(ten_minutes))

    behind_s = (received - 1) / rate_hz - (produced - 1) / ANALYSIS_RATE_HZ
    assert resampler.lookahead_s - 1 / rate_hz <= behind_s <= resampler.lookahead_s + 1 / ANALYSIS_RATE_HZ


def test_an_output_comes_no_later_than_the_lookahead_says() -> None:
    resampler = Resampler(128)
    seen = 0
    for k in range(1, 500):
        seen += len(resampler.push(np.zeros(1)))
        newest_s, known_s = (seen - 1) / ANALYSIS_RATE_HZ, (k - 1) / 128
        if seen:
            assert known_s - newest_s <= resampler.lookahead_s + 1 / ANALYSIS_RATE_HZ + 1e-9


def test_after_reset_the_next_sample_is_time_zero_again() -> None:
    x = np.random.default_rng(2).normal(size=700)
    resampler = Resampler(360)
    first = resampler.push(x)

    resampler.reset()

    np.testing.assert_array_equal(resampler.push(x), first)


def test_a_pickled_resampler_goes_on_where_it_was() -> None:
    x = np.random.default_rng(3).normal(size=1000)
    resampler = Resampler(300)
    resampler.push(x[:401])

    restored = pickle.loads(pickle.dumps(resampler))  # noqa: S301 - our own bytes

    np.testing.assert_array_equal(restored.push(x[401:]), resampler.push(x[401:]))


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, 49.0, 4001.0, float("nan"), float("inf")])
def test_a_rate_no_ecg_has_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="sampling rate"):
        Resampler(rate_hz)


def test_samples_of_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Resampler(360).push(np.zeros((10, 2)))
