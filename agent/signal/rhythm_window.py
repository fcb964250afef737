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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ
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

MAX_BEATS = 64
"""The last so many beats count: half a minute at 128 a minute."""
_MAX_RR_S = 3.0  # past this a beat was missed or the heart stood still: it says nothing about regularity
_ENTROPY_INTERVALS = 48
_FIRST, _SECOND_OF = np.triu_indices(_ENTROPY_INTERVALS, 1)
_HAS_NEXT = np.flatnonzero(_SECOND_OF < _ENTROPY_INTERVALS - 1)
_NEXT = np.searchsorted(
    _FIRST * _ENTROPY_INTERVALS + _SECOND_OF,
    (_FIRST[_HAS_NEXT] + 1) * _ENTROPY_INTERVALS + _SECOND_OF[_HAS_NEXT] + 1,
)
"""All pairs of intervals; those of them that have a next pair, (i + 1, j + 1), and which that is."""
_MIN_AMPLITUDE_MV = 0.05
_PIECE = 25  # 0.4 s: the baseline is drawn through means of three such pieces
_PIECES = SAMPLES // _PIECE
_BLOCK = 32
"""Rows looked at together: as many as fit a processor's cache."""
_SECOND = 62
_SECONDS = SAMPLES // _SECOND
_BEFORE, _AFTER = 20, 30  # a beat: 320 ms before R to 480 ms after
_QRS = slice(_BEFORE - 5, _BEFORE + 8)
_P = slice(_BEFORE - 17, _BEFORE - 4)
_T = slice(_BEFORE + 9, _BEFORE + 28)
_EARLY = 0.12


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
    valid = np.arange(SAMPLES) >= (SAMPLES - known)[:, None]
    intervals = _Intervals.of(beats)
    ecg, of_signal = _condition(path, valid, known)
    of_rhythm = _rhythm_context(intervals, known / RATE_HZ)
    of_beats = _beat_context(ecg, known, intervals)
    np.multiply(np.arcsinh(np.float32(8.0) * ecg), np.float32(0.5), out=signal[:, 0])
    signal[:, 1] = _interval_track(intervals)
    features = np.stack([*of_rhythm, *of_beats, *of_signal], axis=1)
    context[:] = np.clip(np.where(np.isfinite(features), features, 0.0), -LIMIT, LIMIT)


@dataclass(frozen=True, slots=True, eq=False)
class _Intervals:
    """R peaks and RR intervals of all rows, at the front of arrays of one fixed length."""

    place: Int64
    """(rows, MAX_BEATS): R in kept samples from the window's beginning; past the last beat, beyond the window."""
    beats: Int64
    """(rows,) how many."""
    rr: Float64
    """(rows, MAX_BEATS - 1): seconds; interval k ends at beat k + 1."""
    ok: Bools
    """Which of them are intervals."""
    median: Float64
    """(rows,) seconds; 0.8 without any."""
    ratio: Float64
    """(rows, MAX_BEATS - 1): log of the interval over the median; 0 where there is none."""
    ordered: Float64
    """The same in order, those that are none last."""

    @classmethod
    def of(cls, beats: Sequence[Int64]) -> _Intervals:
        at = np.full((len(beats), MAX_BEATS), np.int64(1) << 40)
        count = np.zeros(len(beats), dtype=np.int64)
        for row, r in enumerate(beats):
            last = np.asarray(r[-MAX_BEATS:], dtype=np.int64)
            count[row] = len(last)
            at[row, : len(last)] = last
        rr = (at[:, 1:] - at[:, :-1]) / ANALYSIS_RATE_HZ
        ok = (np.arange(MAX_BEATS - 1) < (count - 1)[:, None]) & (rr <= _MAX_RR_S) & (rr > 0)
        median = _quantile(rr, ok, 0.5, 0.8)
        ratio = np.where(ok, np.log(np.where(ok, rr, 1.0) / median[:, None]), 0.0)
        ordered = np.sort(np.where(ok, ratio, np.inf), axis=1)
        return cls((at + MORPHOLOGY_DELAY) // THIN, count, np.where(ok, rr, 0.0), ok, median, ratio, ordered)

    def quantile(self, q: float) -> Float64:
        """(rows,): the `q` quantile of `ratio`; 0 where there is no interval."""
        return _of_ordered(self.ordered, self.ok.sum(axis=1), q, 0.0)


def _condition(path: Float32, valid: Bools, known: Int64) -> tuple[Float32, list[Float64]]:
    """The path without baseline, in units of its median range within a second, and what its size and noise are."""
    baseline = _baseline(path, valid)
    ecg = np.where(valid, path - baseline, np.float32(0.0))
    tail = ecg[:, SAMPLES - _SECONDS * _SECOND :].reshape(len(ecg), _SECONDS, _SECOND)
    span = (tail.max(axis=2) - tail.min(axis=2)).astype(np.float64)
    whole = np.arange(_SECONDS) >= _SECONDS - np.maximum(known // _SECOND, 1)[:, None]
    typical = _quantile(span, whole, 0.5, _MIN_AMPLITUDE_MV)
    amplitude = np.maximum(typical, _MIN_AMPLITUDE_MV)
    bends = np.abs(ecg[:, 2:] - np.float32(2.0) * ecg[:, 1:-1] + ecg[:, :-2]).sum(axis=1)
    samples = np.maximum(known, 1)
    seconds = np.maximum(whole.sum(axis=1), 1)
    loud = (whole & (span > 2.0 * amplitude[:, None])).sum(axis=1) / seconds
    quiet = (whole & (span < 0.5 * amplitude[:, None])).sum(axis=1) / seconds
    drift = np.abs(np.where(valid, baseline, np.float32(0.0))).sum(axis=1)
    ecg /= amplitude.astype(np.float32)[:, None]
    return ecg, [
        2.0 * np.log(amplitude),
        20.0 * bends / samples / amplitude,
        2.0 * np.log1p(drift / samples / amplitude),
        4.0 * loud,
        4.0 * quiet,
        np.log(np.maximum(np.where(whole, span, 0.0).max(axis=1), 1e-3) / amplitude),
    ]


def _baseline(path: Float32, valid: Bools) -> Float32:
    """What is slower than the beats: straight lines between means over 1.2 s, drawn at every 0.4 s."""
    pieces = np.where(valid, path, np.float32(0.0)).reshape(-1, _PIECES, _PIECE).sum(axis=2)
    number = valid.reshape(-1, _PIECES, _PIECE).sum(axis=2, dtype=np.float32)
    total = np.zeros((len(path), _PIECES + 2), dtype=np.float32)
    count = np.zeros_like(total)
    total[:, 1:-1], count[:, 1:-1] = pieces, number
    near = np.maximum(count[:, :-2] + count[:, 1:-1] + count[:, 2:], np.float32(1.0))
    level = (total[:, :-2] + total[:, 1:-1] + total[:, 2:]) / near
    ends = np.concatenate((level[:, :1], level, level[:, -1:]), axis=1)
    middle = 0.5 * (ends[:, :-1] + ends[:, 1:])  # at the edges between pieces
    share = (np.arange(_PIECE, dtype=np.float32) + np.float32(0.5)) / np.float32(_PIECE)
    lines = middle[:, :-1, None] + (middle[:, 1:] - middle[:, :-1])[:, :, None] * share
    baseline: Float32 = lines.reshape(len(path), SAMPLES)
    return baseline


def _interval_track(of: _Intervals) -> Float32:
    """(rows, SAMPLES): four times the log of the interval that a sample lies in, over the median; 0 outside."""
    rows = len(of.place)
    values = np.zeros((rows, MAX_BEATS + 1), dtype=np.float32)
    values[:, 1:MAX_BEATS] = np.clip(4.0 * of.ratio, -3.0, 3.0)
    edges = np.zeros((rows, MAX_BEATS + 2), dtype=np.int64)
    edges[:, 1:-1] = np.clip(of.place, 0, SAMPLES)
    edges[:, -1] = SAMPLES
    return np.repeat(values.ravel(), (edges[:, 1:] - edges[:, :-1]).ravel()).reshape(rows, SAMPLES)


def _rhythm_context(of: _Intervals, seconds: Float64) -> list[Float64]:
    """Statistics of the intervals; those of no interval are 0."""
    ok, ratio = of.ok, of.ratio
    number = np.maximum(ok.sum(axis=1), 1)
    both = ok[:, 1:] & ok[:, :-1]
    step = np.where(both, (of.rr[:, 1:] - of.rr[:, :-1]) / of.median[:, None], 0.0)
    size = np.minimum(np.abs(step), 1.0)
    steps = np.maximum(both.sum(axis=1), 1)
    three = both[:, 1:] & both[:, :-1]
    triples = np.maximum(three.sum(axis=1), 1)
    bend = np.where(three, np.abs(step[:, 1:] - step[:, :-1]), 0.0)
    calm = both & (np.abs(ratio[:, 1:]) < 0.15) & (np.abs(ratio[:, :-1]) < 0.15)
    calm_steps = calm.sum(axis=1)
    early, late = ok & (ratio < -_EARLY), ok & (ratio > _EARLY)
    small = both & (size < 0.05)
    entropy = _entropies(of)
    edges = [0.03, 0.06, 0.12, 0.25]
    shares = [(both & (size < edge)).sum(axis=1) / steps for edge in edges]
    return [
        seconds / 10.0,
        of.beats / np.maximum(seconds, 1.0),
        3.0 * np.log(of.median / 0.8),
        np.log1p(ok.sum(axis=1)) - 2.0,
        8.0 * _quantile(size, both, 0.5, 0.0),
        8.0 * size.sum(axis=1) / steps,
        6.0 * np.sqrt((size * size).sum(axis=1) / steps),
        2.0 * shares[0],
        3.0 * (shares[1] - shares[0]),
        3.0 * (shares[2] - shares[1]),
        3.0 * (shares[3] - shares[2]),
        3.0 * (1.0 - shares[3]) * (both.any(axis=1)),
        *(6.0 * of.quantile(q) for q in (0.10, 0.25, 0.75, 0.90)),
        *entropy,
        *(_correlation(ratio, ok, lag) for lag in (1, 2, 3)),
        _correlation(step, both, 1),
        4.0 * early.sum(axis=1) / number,
        4.0 * late.sum(axis=1) / number,
        6.0 * (early[:, :-1] & late[:, 1:]).sum(axis=1) / number,
        3.0 * (three & (size[:, 1:] > 0.06) & (size[:, :-1] > 0.06)).sum(axis=1) / triples,
        3.0 * (three & (size[:, 1:] > 0.12) & (size[:, :-1] > 0.12)).sum(axis=1) / triples,
        2.0 * calm_steps / steps,
        20.0 * np.sqrt(np.where(calm, step * step, 0.0).sum(axis=1) / np.maximum(calm_steps, 1)),
        2.0 * (three & (step[:, 1:] * step[:, :-1] < 0)).sum(axis=1) / triples,
        2.0 * (small[:, 2:] & small[:, 1:-1] & small[:, :-2]).sum(axis=1) / triples,
        6.0 * _quantile(bend, three, 0.5, 0.0),
        2.0 * ratio.min(axis=1),
        2.0 * ratio.max(axis=1),
    ]


def _entropies(of: _Intervals) -> list[Float64]:
    """Sample entropy (pairs against single matches) of the last intervals at 5 and 12 % of the median, and matches.

    Counts get half a match each beforehand, so that short windows give a number too.
    """
    end = np.clip(of.beats - 1, _ENTROPY_INTERVALS, MAX_BEATS - 1)
    take = np.arange(_ENTROPY_INTERVALS) + (end - _ENTROPY_INTERVALS)[:, None]
    rr = np.take_along_axis(of.rr / of.median[:, None], take, axis=1).astype(np.float32)
    ok = np.take_along_axis(of.ok, take, axis=1)
    # Intervals that are none match nothing, not even each other.
    rr = np.where(ok, rr, np.float32(1e6) * (1 + np.arange(_ENTROPY_INTERVALS, dtype=np.float32)))
    apart = np.abs(np.take(rr, _FIRST, axis=1) - np.take(rr, _SECOND_OF, axis=1))
    number = ok.sum(axis=1)
    pairs = np.maximum(number * (number - 1), 1)
    entropies, matches = [], []
    for tolerance in (0.05, 0.12):
        near = apart < np.float32(tolerance)
        singles = np.take(near, _HAS_NEXT, axis=1)
        doubles = singles & np.take(near, _NEXT, axis=1)
        entropies.append(np.log((_count(singles) + 0.5) / (_count(doubles) + 0.5)))
        matches.append(6.0 * _count(near) / pairs)
    return [*entropies, *matches]


def _count(marks: Bools) -> Int64:
    """(rows,): how many are true."""
    return np.asarray(marks.view(np.uint8).sum(axis=1, dtype=np.uint16), dtype=np.int64)


def _beat_context(ecg: Float32, known: Int64, of: _Intervals) -> list[Float64]:
    """How the beats follow their mean, and the P wave, T wave and QRS of the mean."""
    first = SAMPLES - known
    whole = (of.place >= first[:, None] + _BEFORE) & (of.place + _AFTER <= SAMPLES)
    start = np.clip(of.place - _BEFORE, 0, SAMPLES - _BEFORE - _AFTER)
    at = start[:, None, :] + np.arange(_BEFORE + _AFTER)[:, None]
    at += (np.arange(len(ecg)) * SAMPLES)[:, None, None]
    beats = np.take(ecg.ravel(), at)  # (rows, samples, beats)
    beats *= whole[:, None, :]
    qrs = beats[:, _QRS]
    # What comes late is no ectopic beat: the mean is drawn from beats like those, also where ectopy is the majority.
    follows = np.zeros_like(whole)
    follows[:, 1:] = of.ok & (of.ratio >= of.quantile(0.6)[:, None])
    late = _or_else(whole & follows, whole)
    like = _or_else(whole & (_likeness(qrs, _mean_beat(qrs, late)) > 0.7), late)
    mean = _mean_beat(beats, like)
    likeness = np.where(whole, _likeness(qrs, mean[:, _QRS]), 1.0)
    number = np.maximum(whole.sum(axis=1), 1)
    average = np.where(whole, likeness, 0.0).sum(axis=1) / number
    spread = np.where(whole, (likeness - average[:, None]) ** 2, 0.0).sum(axis=1) / number
    unlike = likeness < 0.8
    early = np.zeros_like(unlike)
    early[:, 1:] = of.ok & (of.ratio < of.quantile(0.75)[:, None] - _EARLY)
    p_energy, p_beat = _energies(beats[:, _P], mean[:, _P], like)
    t_energy, t_beat = _energies(beats[:, _T], mean[:, _T], like)
    p, core = mean[:, _P], mean[:, _QRS].astype(np.float64)
    height = np.maximum(np.abs(core).max(axis=1), 1e-3)
    off = qrs - mean[:, _QRS, None]
    off_energy = np.where(like, (off * off).sum(axis=1), np.float32(0.0)).sum(axis=1)
    has_beats = whole.any(axis=1)
    return [
        3.0 * average,
        4.0 * np.sqrt(spread),
        4.0 * unlike.sum(axis=1) / number,
        6.0 * (unlike & early).sum(axis=1) / number,
        10.0 * np.sqrt(p_energy),
        3.0 * p_energy / np.maximum(p_beat, 1e-6),
        8.0 * (p.max(axis=1) - p.min(axis=1)).astype(np.float64),
        has_beats * p.argmax(axis=1) / 4.0,
        10.0 * np.sqrt(p_beat),
        5.0 * np.sqrt(t_energy),
        3.0 * t_energy / np.maximum(t_beat, 1e-6),
        has_beats * np.abs(core).sum(axis=1) / height / 3.0,
        2.0 * core.max(axis=1) / height,
        4.0 * np.sqrt(off_energy / np.maximum(like.sum(axis=1), 1) / core.shape[1]),
    ]


def _or_else(chosen: Bools, otherwise: Bools) -> Bools:
    """Per row `chosen`, or `otherwise` where that is none."""
    either: Bools = np.where(np.asarray(chosen.any(axis=1))[:, None], chosen, otherwise)
    return either


def _mean_beat(beats: Float32, chosen: Bools) -> Float32:
    """(rows, samples): mean of the chosen beats."""
    total = np.where(chosen[:, None, :], beats, np.float32(0.0)).sum(axis=2)
    mean: Float32 = total / np.maximum(chosen.sum(axis=1), 1).astype(np.float32)[:, None]
    return mean


def _likeness(cores: Float32, mean: Float32) -> Float64:
    """(rows, beats): correlation of each QRS with the mean one, both about their own mean."""
    width = np.float32(mean.shape[1])
    a = cores - (cores.sum(axis=1) / width)[:, None, :]
    b = mean - (mean.sum(axis=1) / width)[:, None]
    size = (a * a).sum(axis=1).astype(np.float64) * (b * b).sum(axis=1)[:, None]
    like: Float64 = (a * b[:, :, None]).sum(axis=1) / np.sqrt(np.maximum(size, 1e-12))
    return like


def _energies(parts: Float32, mean: Float32, chosen: Bools) -> tuple[Float64, Float64]:
    """Mean square of the mean beat's part, and the mean of the single beats' own, each about its own mean."""
    width = np.float32(mean.shape[1])
    b = mean - (mean.sum(axis=1) / width)[:, None]
    a = parts - (parts.sum(axis=1) / width)[:, None, :]
    single = np.where(chosen, (a * a).sum(axis=1), np.float32(0.0)).sum(axis=1).astype(np.float64)
    return (b * b).sum(axis=1).astype(np.float64) / width, single / np.maximum(chosen.sum(axis=1), 1) / width


def _correlation(x: Float64, ok: Bools, lag: int) -> Float64:
    """(rows,): twice the autocorrelation at `lag` of the values that count, about their mean."""
    number = np.maximum(ok.sum(axis=1), 1)
    about = np.where(ok, x - (np.where(ok, x, 0.0).sum(axis=1) / number)[:, None], 0.0)
    power = (about * about).sum(axis=1)
    correlation: Float64 = 2.0 * (about[:, lag:] * about[:, :-lag]).sum(axis=1) / np.maximum(power, 1e-4)
    return correlation


def _quantile(x: Float64, ok: Bools, q: float, otherwise: float) -> Float64:
    """(rows,): the `q` quantile (lower of two) of the values that count; `otherwise` where there are none."""
    return _of_ordered(np.sort(np.where(ok, x, np.inf), axis=1), ok.sum(axis=1), q, otherwise)


def _of_ordered(ordered: Float64, number: Int64, q: float, otherwise: float) -> Float64:
    place = np.maximum(np.ceil(q * number).astype(np.int64) - 1, 0)
    chosen = np.take_along_axis(ordered, place[:, None], axis=1)[:, 0]
    return np.where(number > 0, chosen, otherwise)
