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

from agent.signal.resample import ANALYSIS_RATE_HZ
from models.vocabulary import VF_CONTEXT

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]

BEFORE_S = 8.0
AFTER_S = 0.0
HOP_S = 1.0
"""A window ends at every multiple of this in a run of signal."""
WINDOW_SAMPLES = round(BEFORE_S * ANALYSIS_RATE_HZ)

PREPARE = ("decimate_4", "moving_mean_baseline", "scale_window", "asinh_compress")
_DECIMATE = 4
_RATE_HZ = ANALYSIS_RATE_HZ / _DECIMATE
_SAMPLES = WINDOW_SAMPLES // _DECIMATE
SIGNAL_SHAPE = (2, _SAMPLES)
"""Row 0: without its local baseline, divided by its own RMS; row 1: about its mean, in mV, compressed."""

_BASELINE_HALF = 31
"""Half width, in samples at 62.5 Hz, of the moving mean that counts as baseline: one second."""
_SMALLEST_MV = 0.06
"""Divisor at least: what is smaller than fine fibrillation (0.2 mV from peak to peak) is not magnified to its size."""
STILL_MV = 0.15
"""A window whose middle second spans less than this is shown as a flat line: a heart that stands still, or
fibrillation too fine to tell from it. Of the held-out windows of fibrillation one in 4,381 is as small."""
_LARGEST = 5.0
_COMPRESS_MV = 0.25

_SEGMENT = 62
"""Samples of a second at 62.5 Hz, in which heights are measured."""
_SEGMENTS = _SAMPLES // _SEGMENT
_HALF_SECOND = 31
_LAGS = (7, 9, 11, 13, 15, 18, 21, 24, 28, 32, 37, 43, 50, 58, 67)
"""Distances, in samples at 62.5 Hz, at which the window is compared with itself: cycles of 0.11 to 1.07 s."""
_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)
_BLOCK = 64
"""Rows worked on together, so that they stay in the processor's cache."""

CONTEXT = VF_CONTEXT
"""Names of the measures, in order."""


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
        signal[rows], context[rows] = _prepare(x[rows])
    return signal, context


def _prepare(x: Float32) -> tuple[Float32, Float32]:
    low = (x[:, 0::4] + x[:, 1::4] + x[:, 2::4] + x[:, 3::4]) * np.float32(1 / _DECIMATE)
    baseline = _moving_mean(low)
    d = low - baseline
    heights = _heights(d)
    still = np.sort(heights, axis=1)[:, _SEGMENTS // 2] < STILL_MV
    if still.any():
        x, low, baseline, d, heights = (
            np.where(still[:, None], np.float32(0), part) for part in (x, low, baseline, d, heights)
        )
    rms = _rms(d)
    scaled = d / np.maximum(rms, _SMALLEST_MV)[:, None]
    signal = np.empty((len(x), *SIGNAL_SHAPE), dtype=np.float32)
    signal[:, 0] = np.clip(scaled, -_LARGEST, _LARGEST)
    signal[:, 1] = np.arcsinh((low - _mean(low)[:, None]) / np.float32(_COMPRESS_MV))
    return signal, _context(x, baseline, d, rms, heights)


def _heights(d: Float32) -> Float32:
    """Of the last whole seconds of each row, oldest first, from peak to peak."""
    seconds = np.ascontiguousarray(d[:, -_SEGMENTS * _SEGMENT :]).reshape(len(d), _SEGMENTS, _SEGMENT)
    heights: Float32 = seconds.max(axis=2) - seconds.min(axis=2)
    return heights


def _context(x: Float32, baseline: Float32, d: Float32, rms: Float32, seconds: Float32) -> Float32:
    """Measures of each row, all of the order of one."""
    tiny = 1e-6
    safe = np.maximum(rms, tiny)
    heights = np.sort(seconds, axis=1)
    last = seconds[:, -1]
    hiss = x[:, 0::4] - 2.0 * x[:, 1::4] + x[:, 2::4]
    hiss_rms = np.sqrt(_mean(hiss * hiss))
    size, power = np.abs(d), d * d
    energy = np.maximum(power.sum(axis=1), tiny)
    tallest = np.maximum(heights[:, -2], tiny)
    slope = d[:, 1:] - d[:, :-1]
    steep = np.abs(slope)
    steepness = slope * slope
    slope_rms = np.maximum(np.sqrt(_mean(steepness)), tiny)
    curve = slope[:, 1:] - slope[:, :-1]
    mean_size, mean_steep = np.maximum(_mean(size), tiny), np.maximum(_mean(steep), tiny)
    up = d >= 0
    crossing = up[:, 1:] != up[:, :-1]
    crossings = crossing.sum(axis=1)
    eighths = crossing[:, : crossing.shape[1] // 8 * 8].reshape(len(d), 8, -1).sum(axis=2)
    half = d.shape[1] // 2
    columns: list[Floats] = [
        _log(rms / 0.2),
        _log(heights[:, 0] / 0.5),
        _log(heights[:, _SEGMENTS // 2] / 0.5),
        _log(heights[:, -1] / 0.5),
        _log(last / 0.5),
        _log(heights[:, 0] / tallest),
        _log(_rms(baseline - _mean(baseline)[:, None]) / safe),
        _log(hiss_rms / safe) + 1.5,
        _log(hiss_rms / 0.01),
        *((size < share * tallest[:, None]).sum(axis=1) / d.shape[1] for share in _SHARES),
        crossings / BEFORE_S / 10.0,
        np.sqrt(_mean((eighths - (crossings / 8.0)[:, None]) ** 2.0)) / np.maximum(crossings / 8.0, 1.0),
        _log(slope_rms / safe) + 0.5,
        _log(_rms(curve) / slope_rms),
        (steep < 0.2 * slope_rms[:, None]).sum(axis=1) / steep.shape[1],
        _log(_mean(steepness * steepness) / slope_rms**4) - 1.0,
        _log(_mean(power * power) / safe**4) - 0.5,
        np.clip(_mean(power * d) / safe**3, -4.0, 4.0) / 2.0,
        _leakage(d, np.pi * mean_size / mean_steep),
        _log((_rms(d[:, :half]) + tiny) / (_rms(d[:, half:]) + tiny)),
    ]
    columns += [(d[:, lag:] * d[:, :-lag]).sum(axis=1) / energy for lag in _LAGS]
    columns += _shares_of_slope(steep, half)
    columns += _envelope(d)
    columns += _recent(np.ascontiguousarray(d[:, half:]))
    return np.stack(columns, axis=1).astype(np.float32)


def _shares_of_slope(steep: Float32, half: int) -> list[Floats]:
    """How much of the time the signal moves: quantiles of its slope over its 97th percentile, in all and lately.

    Beats move for a moment and rest; fibrillation never rests.
    """
    columns: list[Floats] = []
    for part, quantiles in ((steep, (0.25, 0.5, 0.75, 0.9)), (steep[:, half:], (0.5, 0.75, 0.9))):
        ordered = np.sort(part, axis=1) + 1e-6
        count = part.shape[1]
        top = ordered[:, int(count * 0.97)]
        columns += [_log(ordered[:, int(count * quantile)] / top) for quantile in quantiles]
    return columns


def _envelope(d: Float32) -> list[Floats]:
    """How much the height of half seconds varies, in all and lately."""
    count = d.shape[1] // _HALF_SECOND
    pieces = np.ascontiguousarray(d[:, -count * _HALF_SECOND :]).reshape(len(d), count, _HALF_SECOND)
    heights = pieces.max(axis=2) - pieces.min(axis=2)
    columns: list[Floats] = []
    for part in (heights, np.ascontiguousarray(heights[:, count // 2 :])):
        ordered = np.sort(part, axis=1) + 0.01
        mean = _mean(part)
        columns.append(_rms(part - mean[:, None]) / np.maximum(mean, 0.01))
        columns.append(_log(ordered[:, 0] / ordered[:, -1]))
        columns.append(_log(ordered[:, part.shape[1] // 4] / ordered[:, part.shape[1] * 3 // 4]))
    return columns


def _recent(d: Float32) -> list[Floats]:
    """Shares near the baseline, crossings, slope and peaks of the last half."""
    size, power = np.abs(d), d * d
    height = np.maximum(d.max(axis=1) - d.min(axis=1), 1e-6)
    slope = d[:, 1:] - d[:, :-1]
    steepness = slope * slope
    rms, slope_rms = np.maximum(np.sqrt(_mean(power)), 1e-6), np.maximum(np.sqrt(_mean(steepness)), 1e-6)
    up = d >= 0
    return [
        *((size < share * height[:, None]).sum(axis=1) / d.shape[1] for share in (0.05, 0.1, 0.2)),
        (up[:, 1:] != up[:, :-1]).sum(axis=1) / (BEFORE_S / 2.0) / 10.0,
        _log(slope_rms / rms) + 0.5,
        _log(_mean(power * power) / rms**4) - 0.5,
        _log(_mean(steepness * steepness) / slope_rms**4) - 1.0,
    ]


def _leakage(d: Float32, half_cycle: Floats) -> Floats:
    """What remains when the signal is added to itself half a mean cycle (samples) later: near 0 for a sine, 1 else."""
    shift = np.clip(np.rint(half_cycle).astype(np.int64), 2, 40)
    columns = np.arange(40, d.shape[1])
    late = d[:, 40:]
    early = np.take_along_axis(d, columns[None, :] - shift[:, None], axis=1)
    total = np.abs(late).sum(axis=1) + np.abs(early).sum(axis=1)
    leak: Floats = np.abs(late + early).sum(axis=1) / np.maximum(total, 1e-6)
    return leak


def _moving_mean(x: Float32) -> Float32:
    """Mean over ± _BASELINE_HALF samples, over what there is of them at the ends."""
    n, half = x.shape[1], _BASELINE_HALF
    sums = np.zeros((len(x), n + 1))
    np.cumsum(x, axis=1, dtype=np.float64, out=sums[:, 1:])
    first = np.maximum(np.arange(n) - half, 0)
    stop = np.minimum(np.arange(n) + half + 1, n)
    # np.take keeps rows contiguous; a fancy index would not, and sums along them would depend on how many there are.
    total = np.take(sums, stop, axis=1) - np.take(sums, first, axis=1)
    mean: Float32 = (total / (stop - first)).astype(np.float32)
    return mean


def _log(ratio: Floats) -> Floats:
    """Decimal logarithm, held within 3 decades."""
    return np.log10(np.clip(ratio, 1e-3, 1e3))


def _mean(x: Float32) -> Float32:
    mean: Float32 = x.sum(axis=1) * np.float32(1 / x.shape[1])
    return mean


def _rms(x: Float32) -> Float32:
    """Root mean square along each row."""
    return np.sqrt(_mean(x * x))
