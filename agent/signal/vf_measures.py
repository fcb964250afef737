"""Measures of a window that separate fibrillation from organised rhythms, of many windows at once.

Each is a sum or an order along one row, so a window's measures do not depend on its company.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.long_rows import ahead_of
from agent.signal.row_counts import count, marks
from models.vocabulary import VF_CONTEXT

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]

CONTEXT = VF_CONTEXT
"""Names of the measures, in order."""
SECOND = 62
"""Samples of a second at 62.5 Hz, in which heights are measured."""
HALF_SECOND = 31
_LAGS = (7, 9, 11, 13, 15, 18, 21, 24, 28, 32, 37, 43, 50, 58, 67)
"""Distances, in samples at 62.5 Hz, at which the window is compared with itself: cycles of 0.11 to 1.07 s."""
_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)
_LEAST_SHIFT, _LONGEST_SHIFT = 2, 40
"""Samples by which the signal is added to itself, at least and at most."""
_TINY = 1e-6

_AT = {name: k for k, name in enumerate(CONTEXT)}
_LIKENESS = slice(_AT["likeness_112_ms"], _AT["likeness_1072_ms"] + 1)
_LOGARITHMS = {
    **dict.fromkeys((name for name in CONTEXT if name.startswith("height_")), 0.0),
    "baseline_ratio": 0.0,
    "hiss_ratio": 1.5,
    "hiss_height": 0.0,
    "slope_ratio": 0.5,
    "curvature_ratio": 0.0,
    "slope_peakedness": -1.0,
    "peakedness": -0.5,
    "halves_ratio": 0.0,
    **dict.fromkeys((name for name in CONTEXT if name.endswith(("_to_97", "_least_to_most", "_quarters"))), 0.0),
    "recent_slope_ratio": 0.5,
    "recent_peakedness": -0.5,
    "recent_slope_peakedness": -1.0,
}
"""Which measures are logarithms, and what is added to each."""
_LOGGED = np.array([_AT[name] for name in _LOGARITHMS])
_ADDED = np.array(list(_LOGARITHMS.values()), dtype=np.float32)[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """What the measures of some rows are drawn from, all of it float32 and (rows, samples) in mV at 62.5 Hz."""

    d: Float32
    """Without its baseline."""
    power: Float32
    """The square of `d`."""
    energy: Float32
    """(rows,) the sum of that ..."""
    rms: Float32
    """... and the root of its mean."""
    baseline: Float32
    hiss: Float32
    """How the signal bends within 12 ms."""
    half_seconds: Float32
    """(rows, pieces) height from peak to peak of each half second, oldest first ..."""
    seconds: Float32
    """... and of each second."""


def measures(of: Windows) -> Float32:
    """(len(CONTEXT), rows) float32, all of the order of one."""
    d, power, half, safe = of.d, of.power, of.d.shape[1] // 2, np.maximum(of.rms, _TINY)
    heights = np.sort(of.seconds, axis=1)
    tallest = np.maximum(heights[:, -2], _TINY)
    hiss_rms = rms(of.hiss)
    size = np.abs(d)
    slope = ahead_of(np.subtract, d, 1)
    curve = ahead_of(np.subtract, slope, 1)
    slope[:, -1] = 0.0
    all_steep, all_steepness = np.abs(slope), slope * slope
    steep, steepness = all_steep[:, :-1], all_steepness[:, :-1]
    fourth, steep_fourth = power * power, (all_steepness * all_steepness)[:, :-1]
    slope_rms = np.maximum(np.sqrt(mean(steepness)), _TINY)
    recent, recent_power, recent_steepness = d[:, half:], power[:, half:], steepness[:, half:]
    recent_rms = np.sqrt(mean(recent_power))
    recent_slope_rms = np.maximum(np.sqrt(mean(recent_steepness)), _TINY)
    recent_safe = np.maximum(recent_rms, _TINY)
    recent_height = np.maximum(recent.max(axis=1) - recent.min(axis=1), _TINY)
    half_cycle = np.pi * np.maximum(mean(size), _TINY) / np.maximum(mean(steep), _TINY)
    below = _shares_below(size, [share * tallest for share in _SHARES])
    recent_below = _shares_below(size[:, half:], [share * recent_height for share in _SHARES[:3]])
    measured: dict[str, Floats] = {
        "height_rms": of.rms / 0.2,
        "height_least": heights[:, 0] / 0.5,
        "height_median": heights[:, heights.shape[1] // 2] / 0.5,
        "height_most": heights[:, -1] / 0.5,
        "height_last": of.seconds[:, -1] / 0.5,
        "height_spread": heights[:, 0] / tallest,
        "baseline_ratio": rms(of.baseline - mean(of.baseline)[:, None]) / safe,
        "hiss_ratio": hiss_rms / safe,
        "hiss_height": hiss_rms / 0.01,
        **{f"share_below_{100 * share:.0f}": of_all for share, of_all in zip(_SHARES, below, strict=True)},
        **_crossings(d),
        "slope_ratio": slope_rms / safe,
        "curvature_ratio": np.sqrt(mean((curve * curve)[:, :-2])) / slope_rms,
        "slope_quiet_share": _shares_below(steep, [0.2 * slope_rms])[0],
        "slope_peakedness": mean(steep_fourth) / slope_rms**4,
        "peakedness": mean(fourth) / safe**4,
        "skewness": np.clip(mean(power * d) / safe**3, -4.0, 4.0) / 2.0,
        "leakage": _leakage(d, size, half_cycle),
        "halves_ratio": (np.sqrt(mean(power[:, :half])) + _TINY) / (recent_rms + _TINY),
        **_shares_of_slope(steep, half),
        **_envelope("envelope", of.half_seconds),
        **_envelope("recent_envelope", np.ascontiguousarray(of.half_seconds[:, of.half_seconds.shape[1] // 2 :])),
        **{f"recent_share_below_{100 * share:.0f}": of_it for share, of_it in zip(_SHARES, recent_below, strict=False)},
        "recent_slope_ratio": recent_slope_rms / recent_safe,
        "recent_peakedness": mean(fourth[:, half:]) / recent_safe**4,
        "recent_slope_peakedness": mean(steep_fourth[:, half:]) / recent_slope_rms**4,
    }
    columns = np.empty((len(CONTEXT), len(d)), dtype=np.float32)
    for name, column in measured.items():
        columns[_AT[name]] = column
    # Decimal logarithms, held within 3 decades.
    columns[_LOGGED] = np.log10(np.clip(columns[_LOGGED], 1e-3, 1e3)) + _ADDED
    columns[_LIKENESS] = _likeness(d, np.maximum(of.energy, _TINY))
    return columns


def _shares_below(x: Float32, limits: list[Floats]) -> Floats:
    """(limits, rows): the share of each row that lies below its limit."""
    samples = x.shape[1]
    below = marks(len(limits), len(x), samples)
    for of_limit, limit in zip(below, limits, strict=True):
        np.less(x, limit[:, None], out=of_limit[:, :samples])
    shares: Floats = count(below) / samples
    return shares


def _crossings(d: Float32) -> dict[str, Floats]:
    """How often the signal crosses its baseline, in all and lately, and how evenly over eighths of the window."""
    rows, samples = d.shape
    up = d >= 0
    eighth = (samples - 1) // 8
    in_eighths, rest, lately = marks(rows, 8, eighth), marks(rows, 1 + samples % 8), marks(rows, samples // 2)
    np.not_equal(
        up[:, 1 : 8 * eighth + 1].reshape(rows, 8, eighth),
        up[:, : 8 * eighth].reshape(rows, 8, eighth),
        out=in_eighths[:, :, :eighth],
    )
    left = samples - 1 - 8 * eighth
    rest[:] = False
    np.not_equal(up[:, samples - left :], up[:, samples - left - 1 : -1], out=rest[:, :left])
    lately[:] = False
    recent = up[:, samples // 2 :]
    np.not_equal(recent[:, 1:], recent[:, :-1], out=lately[:, : recent.shape[1] - 1])
    eighths = count(in_eighths)
    crossings = eighths.sum(axis=1) + count(rest)
    even = crossings / 8.0
    seconds = samples / 62.5
    return {
        "crossing_rate": crossings / seconds / 10.0,
        "crossing_regularity": np.sqrt(mean((eighths - even[:, None]) ** 2.0)) / np.maximum(even, 1.0),
        "recent_crossing_rate": count(lately) / (seconds / 2.0) / 10.0,
    }


def _likeness(d: Float32, energy: Float32) -> Float32:
    """(lags, rows): how much the signal is like itself a little later."""
    samples = d.shape[1]
    sums = np.empty((len(_LAGS), len(d)), dtype=np.float32)
    for lag, of_lag in zip(_LAGS, sums, strict=True):
        np.add.reduce(ahead_of(np.multiply, d, lag)[:, : samples - lag], axis=1, out=of_lag)
    sums /= energy
    return sums


def _shares_of_slope(steep: Float32, half: int) -> dict[str, Floats]:
    """How much of the time the signal moves: quantiles of its slope over its 97th percentile, in all and lately.

    Beats move for a moment and rest; fibrillation never rests.
    """
    shares: dict[str, Floats] = {}
    for name, part, percents in (
        ("slope", steep, (25, 50, 75, 90)),
        ("recent_slope", steep[:, half:], (50, 75, 90)),
    ):
        ordered, samples = np.sort(part, axis=1), part.shape[1]
        top = ordered[:, int(samples * 0.97)] + 1e-6
        for percent in percents:
            shares[f"{name}_{percent}_to_97"] = (ordered[:, int(samples * (percent / 100))] + 1e-6) / top
    return shares


def _envelope(name: str, heights: Float32) -> dict[str, Floats]:
    """How much the height of half seconds varies."""
    ordered, average, pieces = np.sort(heights, axis=1) + 0.01, mean(heights), heights.shape[1]
    return {
        f"{name}_variation": rms(heights - average[:, None]) / np.maximum(average, 0.01),
        f"{name}_least_to_most": ordered[:, 0] / ordered[:, -1],
        f"{name}_quarters": ordered[:, pieces // 4] / ordered[:, pieces * 3 // 4],
    }


def _leakage(d: Float32, size: Float32, half_cycle: Floats) -> Floats:
    """What remains when the signal is added to itself half a mean cycle (samples) later: near 0 for a sine, 1 else."""
    rows, samples = d.shape
    shift = np.clip(np.rint(half_cycle).astype(np.int64), _LEAST_SHIFT, _LONGEST_SHIFT)
    kept = samples - _LONGEST_SHIFT
    row, step = d.strides
    shifted = np.ndarray((rows, _LONGEST_SHIFT + 1, kept), np.float32, d, 0, (row, step, step))
    early = shifted[np.arange(rows), _LONGEST_SHIFT - shift]
    total = np.add.reduce(size[:, _LONGEST_SHIFT:], axis=1) + np.add.reduce(np.abs(early), axis=1)
    early += d[:, _LONGEST_SHIFT:]
    leak: Floats = np.add.reduce(np.abs(early, out=early), axis=1) / np.maximum(total, _TINY)
    return leak


def mean(x: Float32) -> Float32:
    """Along each row."""
    mean: Float32 = np.add.reduce(x, axis=1) * np.float32(1 / x.shape[1])
    return mean


def rms(x: Float32) -> Float32:
    """Root mean square along each row."""
    return np.sqrt(mean(x * x))
