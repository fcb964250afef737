"""Calibrated noise on a clean recording, after the MIT-BIH Noise Stress Test (Moody 1984) and its program nstdbgen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.signal.resample import ANALYSIS_RATE_HZ

Float64 = npt.NDArray[np.float64]

CLEAN_S = 300
PERIOD_S = 120
"""Noise begins after five minutes, two minutes on, two off."""
_HALF_QRS = round(0.05 * ANALYSIS_RATE_HZ)
_TRIM = 0.05


def stress_schedule(length: int) -> Float64:
    """1 where the test adds noise, 0 elsewhere, (length,) at 250 Hz."""
    second = np.arange(length) / ANALYSIS_RATE_HZ
    on = (second >= CLEAN_S) & ((second - CLEAN_S) // PERIOD_S % 2 == 0)
    return np.where(on, 1.0, 0.0)


def add_noise(x: Float64, beats: npt.NDArray[np.int64], noise: Float64, snr_db: float, on: Float64) -> Float64:
    """`x` (n,) mV with `noise`, repeated as needed, where `on`, at `snr_db` over the whole clean recording.

    Signal power is the mean peak-to-peak QRS amplitude (± 50 ms around `beats`) squared, over 8; noise power the
    square of the mean RMS of one-second windows; each without its extreme twentieths.
    """
    gain = np.sqrt(qrs_power(x, beats) / noise_power(noise) * 10 ** (-snr_db / 10))
    noisy: Float64 = x + gain * np.resize(noise, len(x)) * on
    return noisy


def qrs_power(x: Float64, beats: npt.NDArray[np.int64]) -> float:
    """Power of a sine as tall as the QRS, mV²."""
    inner = beats[(beats >= _HALF_QRS) & (beats < len(x) - _HALF_QRS)][:400]
    windows = x[inner[:, None] + np.arange(-_HALF_QRS, _HALF_QRS + 1)]
    return float(_trimmed_mean(np.ptp(windows, axis=1)) ** 2 / 8)


def noise_power(noise: Float64) -> float:
    """Mean power of one-second windows about their means, mV²."""
    seconds = noise[: len(noise) // ANALYSIS_RATE_HZ * ANALYSIS_RATE_HZ].reshape(-1, ANALYSIS_RATE_HZ)
    return float(_trimmed_mean(seconds.std(axis=1)) ** 2)


def _trimmed_mean(values: Float64) -> float:
    cut = int(_TRIM * len(values))
    return float(np.mean(np.sort(values)[cut : len(values) - cut]))
