"""What the fibrillation network sees: the last seconds of one lead, and measures of how regular and how tall they are.

Once a second, the last BEFORE_S of the morphology path (0.05 to 40 Hz, 250 Hz, mV) become two rows at 62.5 Hz and a
handful of measures that separate fibrillation from organised rhythms in the literature: threshold crossing (Arafat
2011), the leakage of a narrow band-stop filter at the mean frequency (Kuo & Dillman 1978), self-similarity at the
distances of plausible cycle lengths, the share of time near the baseline, slope against height (Jekova 2000). Heights
are also given in mV: a heart that stands still is not fibrillating, however its noise may look when magnified.

Everything is a sum along one row, so a window's answer does not depend on its company.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.signal.long_rows import ahead_of
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.vf_measures import CONTEXT, HALF_SECOND, SECOND, Windows, mean, measures

__all__ = [
    "AFTER_S",
    "BEFORE_S",
    "CONTEXT",
    "HOP_S",
    "PREPARE",
    "SIGNAL_SHAPE",
    "STILL_MV",
    "WINDOW_SAMPLES",
    "prepare",
]

Float32 = npt.NDArray[np.float32]

BEFORE_S = 8.0
AFTER_S = 0.0
HOP_S = 1.0
"""A window ends at every multiple of this in a run of signal."""
WINDOW_SAMPLES = round(BEFORE_S * ANALYSIS_RATE_HZ)

PREPARE = ("decimate_4", "moving_mean_baseline", "scale_window", "asinh_compress")
_DECIMATE = 4
_SAMPLES = WINDOW_SAMPLES // _DECIMATE
SIGNAL_SHAPE = (2, _SAMPLES)
"""Row 0: without its local baseline, divided by its own RMS; row 1: about its mean, in mV, compressed."""

_BASELINE_HALF = 31
"""Half width, in samples at 62.5 Hz, of the moving mean that counts as baseline: one second."""
_AVERAGED = np.minimum(np.arange(_SAMPLES) + _BASELINE_HALF + 1.0, _SAMPLES) - np.maximum(
    np.arange(_SAMPLES) - _BASELINE_HALF, 0.0
)
"""Over how many samples it is drawn at each: fewer at the ends."""
_SMALLEST_MV = 0.06
"""Divisor at least: what is smaller than fine fibrillation (0.2 mV from peak to peak) is not magnified to its size."""
STILL_MV = 0.15
"""A window whose middle second spans less than this is shown as a flat line: a heart that stands still, or
fibrillation too fine to tell from it. Of the held-out windows of fibrillation one in 4,381 is as small."""
_LARGEST = 5.0
_COMPRESS_MV = 0.25
_SEGMENTS = _SAMPLES // SECOND
_BLOCK = 128
"""Rows worked on together, so that they stay in the processor's cache."""


def prepare(windows: npt.ArrayLike) -> tuple[Float32, Float32]:
    """`windows` (rows, WINDOW_SAMPLES) in mV, oldest sample first, to (signal (rows, 2, m), context (rows, k)) float32.

    Raises ValueError on another width.
    """
    x = np.ascontiguousarray(windows, dtype=np.float32)
    if x.ndim != 2 or x.shape[1] != WINDOW_SAMPLES:
        raise ValueError(f"windows have shape {x.shape}, expected (n, {WINDOW_SAMPLES})")
    signal = np.empty((len(x), *SIGNAL_SHAPE), dtype=np.float32)
    context = np.empty((len(x), len(CONTEXT)), dtype=np.float32)
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        _prepare(x[rows], signal[rows], context[rows])
    return signal, context


def _prepare(x: Float32, signal: Float32, context: Float32) -> None:
    """Fill `signal` and `context`."""
    low = x[:, 0::4] + x[:, 1::4]
    low += x[:, 2::4]
    low += x[:, 3::4]
    low *= np.float32(1 / _DECIMATE)
    hiss = x[:, 0::4] - np.float32(2.0) * x[:, 1::4]
    hiss += x[:, 2::4]
    baseline = _moving_mean(low)
    d = low - baseline
    half_seconds, seconds = _heights(d)
    still = np.sort(seconds, axis=1)[:, _SEGMENTS // 2] < STILL_MV
    if still.any():
        for part in (low, hiss, baseline, d, half_seconds, seconds):
            part[still] = 0.0
    power = d * d
    energy = np.add.reduce(power, axis=1)
    rms = np.sqrt(energy * np.float32(1 / _SAMPLES))
    np.clip(d / np.maximum(rms, _SMALLEST_MV)[:, None], -_LARGEST, _LARGEST, out=signal[:, 0])
    low -= mean(low)[:, None]
    low /= np.float32(_COMPRESS_MV)
    np.arcsinh(low, out=signal[:, 1])
    context[:] = measures(Windows(d, power, energy, rms, baseline, hiss, half_seconds, seconds)).T


def _heights(d: Float32) -> tuple[Float32, Float32]:
    """Of the last whole half seconds and seconds of each row, oldest first, from peak to peak."""
    high = low = d
    for ahead in (1, 2, 4, 8):
        high, low = ahead_of(np.maximum, high, ahead), ahead_of(np.minimum, low, ahead)
    # Now of 16 samples from each on: a half second is two of those, which overlap.
    first = _SAMPLES - _SEGMENTS * SECOND
    begin, end = slice(first, _SAMPLES, HALF_SECOND), slice(first + HALF_SECOND - 16, _SAMPLES, HALF_SECOND)
    high, low = np.maximum(high[:, begin], high[:, end]), np.minimum(low[:, begin], low[:, end])
    seconds = np.maximum(high[:, 0::2], high[:, 1::2]) - np.minimum(low[:, 0::2], low[:, 1::2])
    return high - low, seconds


def _moving_mean(x: Float32) -> Float32:
    """Mean over ± _BASELINE_HALF samples, over what there is of them at the ends."""
    n, half = x.shape[1], _BASELINE_HALF
    sums = np.zeros((len(x), n + 1))
    np.cumsum(x, axis=1, dtype=np.float64, out=sums[:, 1:])
    total = np.empty((len(x), n))
    total[:, :half] = sums[:, half + 1 : 2 * half + 1]
    np.subtract(sums[:, 2 * half + 1 :], sums[:, : n - 2 * half], out=total[:, half : n - half])
    np.subtract(sums[:, n:], sums[:, n - 2 * half : n - half], out=total[:, n - half :])
    total /= _AVERAGED
    mean: Float32 = total.astype(np.float32)
    return mean
