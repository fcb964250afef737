"""What the last half minute of one person's ECG looks like: the inputs of the rhythm classifier.

At every multiple of `HOP_S` seconds of a run the last `BEFORE_S` seconds are judged, or as many as there are. Signal:
the morphology path, freed of its baseline and scaled to the size of its own beats, and beside it the RR interval that
each sample lies in. Context: statistics of the RR intervals (Lake & Moorman, Am J Physiol 2011, on sample entropy of
short records; Sarkar et al., IEEE Trans Biomed Eng 2008, on successive differences), and of the mean beat: how well
the beats follow it, and whether there is a P wave in it.

Live detection and training call this same code. Everything is row by row: a row's bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.signal.long_rows import ahead_of
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.rhythm_beats import beat_context
from agent.signal.rhythm_intervals import Intervals, interval_track, quantile, rhythm_context
from models.vocabulary import RHYTHM_CONTEXT

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

THIN = 4
"""Samples of the morphology path that one kept sample is the mean of."""
RATE_HZ = ANALYSIS_RATE_HZ / THIN
BEFORE_S = 30.0
HOP_S = 4.0
SAMPLES = round(BEFORE_S * RATE_HZ)
SIGNAL_SHAPE = (2, SAMPLES)
"""Channels (ECG, RR interval) and samples at 62.5 Hz of the signal input; a run shorter than that fills its end."""
CONTEXT = RHYTHM_CONTEXT
PREPARE = ("decimate_4", "straight_baseline", "scale_typical_second", "asinh_compress", "rr_track")
"""What is done to a window, in order: a pack's manifest must name the same."""
LIMIT = 4.0
"""All context features lie within plus and minus this."""

_MIN_AMPLITUDE_MV = 0.05
_PIECE = 25  # 0.4 s: the baseline is drawn through means of three such pieces
_PIECES = SAMPLES // _PIECE
_BLOCK = 64
"""Rows looked at together: as many as fit a processor's cache."""
_SECOND = 62
_SECONDS = SAMPLES // _SECOND


def thin(morphology: npt.NDArray[np.floating]) -> Float32:
    """Means of THIN samples each along the last axis, which must hold a whole number of them; float32.

    The engine keeps these of a run, counted from its first sample.
    """
    parts = [morphology[..., k::THIN].astype(np.float64) for k in range(THIN)]
    total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) / THIN
    return np.asarray(total, dtype=np.float32)


def prepare(path: Float32, known: Int64, beats: Sequence[Int64]) -> tuple[Float32, Float32]:
    """Inputs of the rhythm network for windows of any number of people.

    `path`: (rows, SAMPLES) float32, mV: thinned morphology path, the newest sample last, noughts before the run began.
    `known`: (rows,) how many of the samples, at the end, the run really holds. `beats`: per row the R peaks confirmed
    by then, ascending, in samples at 250 Hz counted (in the input's time) from the beginning of the window.
    Returns signal (rows, 2, SAMPLES) float32 and context (rows, len(CONTEXT)) float32.
    Raises ValueError when shapes disagree.
    """
    if path.ndim != 2 or path.shape[1] != SAMPLES or known.shape != path.shape[:1] or len(beats) != len(path):
        raise ValueError(f"windows {path.shape}, known {known.shape} and {len(beats)} lists of beats do not agree")
    signal = np.empty((len(path), *SIGNAL_SHAPE), dtype=np.float32)
    context = np.empty((len(path), len(CONTEXT)), dtype=np.float32)
    for start in range(0, len(path), _BLOCK):
        rows = slice(start, start + _BLOCK)
        _prepare(path[rows], known[rows], beats[rows], signal[rows], context[rows])
    return signal, context


def _prepare(path: Float32, known: Int64, beats: Sequence[Int64], signal: Float32, context: Float32) -> None:
    """Fill `signal` and `context`."""
    intervals = Intervals.of(beats, THIN)
    ecg, of_signal = _condition(path, known)
    features = np.stack(
        [*rhythm_context(intervals, known / RATE_HZ), *beat_context(ecg, known, intervals), *of_signal], axis=1
    )
    ecg *= np.float32(8.0)
    np.arcsinh(ecg, out=ecg)
    np.multiply(ecg, np.float32(0.5), out=signal[:, 0])
    signal[:, 1] = interval_track(intervals, SAMPLES)
    context[:] = np.clip(np.where(np.isfinite(features), features, 0.0), -LIMIT, LIMIT)


def _condition(path: Float32, known: Int64) -> tuple[Float32, list[Float64]]:
    """The path without baseline, in units of its median range within a second, and what its size and noise are."""
    begun = [(row, SAMPLES - held) for row, held in enumerate(known.tolist()) if held < SAMPLES]
    if begun:
        path = path.copy()
        _clear(path, begun)
    baseline = _baseline(path, known)
    ecg = path - baseline
    _clear(ecg, begun)
    _clear(baseline, begun)
    span = _spans(ecg).astype(np.float64)
    whole = np.arange(_SECONDS) >= _SECONDS - np.maximum(known // _SECOND, 1)[:, None]
    seconds = np.maximum(whole.sum(axis=1), 1)
    typical = quantile(span, whole, whole.sum(axis=1), 0.5, _MIN_AMPLITUDE_MV)
    amplitude = np.maximum(typical, _MIN_AMPLITUDE_MV)
    samples = np.maximum(known, 1)
    loud = (whole & (span > 2.0 * amplitude[:, None])).sum(axis=1) / seconds
    quiet = (whole & (span < 0.5 * amplitude[:, None])).sum(axis=1) / seconds
    drift = np.abs(baseline, out=baseline).sum(axis=1)
    bends = _bends(ecg)
    ecg /= amplitude.astype(np.float32)[:, None]
    return ecg, [
        2.0 * np.log(amplitude),
        20.0 * bends / samples / amplitude,
        2.0 * np.log1p(drift / samples / amplitude),
        4.0 * loud,
        4.0 * quiet,
        np.log(np.maximum(np.where(whole, span, 0.0).max(axis=1), 1e-3) / amplitude),
    ]


def _clear(path: Float32, begun: Sequence[tuple[int, int]]) -> None:
    """Put noughts before the run began, in the rows (row, sample) of which that lies in the window."""
    for row, first in begun:
        path[row, :first] = 0.0


def _spans(ecg: Float32) -> Float32:
    """(rows, _SECONDS): from peak to peak in each of the last whole seconds."""
    high = low = ecg
    for ahead in (1, 2, 4, 8, 16):
        high, low = ahead_of(np.maximum, high, ahead), ahead_of(np.minimum, low, ahead)
    # Now of 32 samples from each on: a second is two of those, which overlap.
    first = SAMPLES - _SECONDS * _SECOND
    begin, end = slice(first, SAMPLES, _SECOND), slice(first + _SECOND - 32, SAMPLES, _SECOND)
    return np.maximum(high[:, begin], high[:, end]) - np.minimum(low[:, begin], low[:, end])


def _bends(ecg: Float32) -> Float32:
    """(rows,): sum of how far each sample lies off the line between its neighbours, twice."""
    bends = ecg * np.float32(-2.0)
    line, of_line = ecg.reshape(-1), bends.reshape(-1)
    of_line[1:-1] += line[2:]
    of_line[1:-1] += line[:-2]
    np.abs(bends, out=bends)
    total: Float32 = bends[:, 1:-1].sum(axis=1)
    return total


def _baseline(path: Float32, known: Int64) -> Float32:
    """What is slower than the beats: straight lines between means over 1.2 s, drawn at every 0.4 s."""
    total = np.zeros((len(path), _PIECES + 2), dtype=np.float32)
    count = np.zeros_like(total)
    np.add.reduce(path.reshape(-1, _PIECES, _PIECE), axis=2, out=total[:, 1:-1])
    count[:, 1:-1] = np.clip(known[:, None] - np.arange(SAMPLES - _PIECE, -1, -_PIECE), 0, _PIECE)
    near = np.maximum(count[:, :-2] + count[:, 1:-1] + count[:, 2:], np.float32(1.0))
    level = (total[:, :-2] + total[:, 1:-1] + total[:, 2:]) / near
    ends = np.concatenate((level[:, :1], level, level[:, -1:]), axis=1)
    middle = np.float32(0.5) * (ends[:, :-1] + ends[:, 1:])  # at the edges between pieces
    share = (np.arange(_PIECE, dtype=np.float32) + np.float32(0.5)) / np.float32(_PIECE)
    lines = (middle[:, 1:] - middle[:, :-1])[:, :, None] * share
    lines += middle[:, :-1, None]
    baseline: Float32 = lines.reshape(len(path), SAMPLES)
    return baseline
