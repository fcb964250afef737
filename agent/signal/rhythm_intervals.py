"""What the RR intervals of half a minute say: the part of the rhythm classifier's context that needs no signal.

Statistics of the intervals and of their steps (Sarkar et al., IEEE Trans Biomed Eng 2008), and sample entropy of short
records (Lake & Moorman, Am J Physiol 2011). Everything is row by row: a row's bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.row_counts import count

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_BEATS = 64
"""The last so many beats count: half a minute at 128 a minute."""
EARLY = 0.12
_BEYOND = np.int64(1) << 40
_MAX_RR_S = 3.0  # past this a beat was missed or the heart stood still: it says nothing about regularity
_QUANTILES = np.array([0.10, 0.25, 0.60, 0.75, 0.90])
_ENTROPY_INTERVALS = 48
_LAGS = _ENTROPY_INTERVALS // 2
"""Each pair of intervals is so far apart at most, going round from the last to the first."""
_TOLERANCES = (0.05, 0.12)
_ROUND = np.arange(_LAGS)[:, None] + 1 + np.arange(_ENTROPY_INTERVALS)
"""(lags, intervals): which interval lies `lag` behind each, going round."""
_PAIRS = np.ones((_LAGS, _ENTROPY_INTERVALS), dtype=np.bool_)
_PAIRS[-1, _LAGS:] = False
"""All pairs once: those half way round would come twice."""
_HAS_NEXT = _PAIRS & (_ROUND % _ENTROPY_INTERVALS != _ENTROPY_INTERVALS - 1)
_HAS_NEXT[:, -1] = False
"""Which of them have a next pair, of the next interval each."""


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """R peaks and RR intervals of all rows, at the front of arrays of one fixed length."""

    place: Int64
    """(rows, MAX_BEATS): R in kept samples from the window's beginning; past the last beat, beyond the window."""
    beats: Int64
    """(rows,) how many."""
    rr: Float64
    """(rows, MAX_BEATS - 1): seconds; interval k ends at beat k + 1."""
    ok: Bools
    """Which of them are intervals."""
    number: Int64
    """(rows,) how many those are."""
    median: Float64
    """(rows,) seconds; 0.8 without any."""
    ratio: Float64
    """(rows, MAX_BEATS - 1): log of the interval over the median; 0 where there is none."""
    quantiles: Float64
    """(_QUANTILES, rows) of `ratio`; 0 where there is no interval."""

    @classmethod
    def of(cls, beats: Sequence[Int64], thin: int) -> Intervals:
        """Of the R peaks of each row, samples at 250 Hz, of which `thin` are kept as one."""
        last = [r[-MAX_BEATS:] for r in beats]
        number = np.array([len(r) for r in last], dtype=np.int64)
        at = np.full((len(beats), MAX_BEATS), _BEYOND)
        at[np.arange(MAX_BEATS) < number[:, None]] = np.concatenate(last)
        rr = (at[:, 1:] - at[:, :-1]) / ANALYSIS_RATE_HZ
        ok = (np.arange(MAX_BEATS - 1) < (number - 1)[:, None]) & (rr <= _MAX_RR_S) & (rr > 0)
        rr = np.where(ok, rr, 0.0)
        intervals = _count(ok)
        median = quantile(rr, ok, intervals, 0.5, 0.8)
        ratio = np.where(ok, np.log(np.where(ok, rr, 1.0) / median[:, None]), 0.0)
        ordered = np.sort(np.where(ok, ratio, np.inf), axis=1)
        places = np.maximum(np.ceil(_QUANTILES[:, None] * intervals).astype(np.int64) - 1, 0)
        quantiles = np.where(intervals > 0, ordered[np.arange(len(beats)), places], 0.0)
        return cls((at + MORPHOLOGY_DELAY) // thin, number, rr, ok, intervals, median, ratio, quantiles)


def interval_track(of: Intervals, samples: int) -> Float32:
    """(rows, samples): four times the log of the interval that a sample lies in, over the median; 0 outside."""
    rows = len(of.place)
    values = np.zeros((rows, MAX_BEATS + 1), dtype=np.float32)
    values[:, 1:MAX_BEATS] = np.clip(4.0 * of.ratio, -3.0, 3.0)
    edges = np.zeros((rows, MAX_BEATS + 2), dtype=np.int64)
    np.clip(of.place, 0, samples, out=edges[:, 1:-1])
    edges[:, -1] = samples
    return np.repeat(values.ravel(), (edges[:, 1:] - edges[:, :-1]).ravel()).reshape(rows, samples)


def rhythm_context(of: Intervals, seconds: Float64) -> list[Float64]:
    """Statistics of the intervals; those of no interval are 0."""
    ok, ratio = of.ok, of.ratio
    both = ok[:, 1:] & ok[:, :-1]
    step = np.where(both, (of.rr[:, 1:] - of.rr[:, :-1]) / of.median[:, None], 0.0)
    distance = np.abs(step)
    size = np.minimum(distance, 1.0)
    three = both[:, 1:] & both[:, :-1]
    bend = np.where(three, np.abs(step[:, 1:] - step[:, :-1]), 0.0)
    near = np.abs(ratio) < 0.15
    calm = both & near[:, 1:] & near[:, :-1]
    early, late = ok & (ratio < -EARLY), ok & (ratio > EARLY)
    small = both & (size < 0.05)
    above = [size > least for least in (0.06, 0.12)]
    counts = _counts(
        both,
        *(both & (size < edge) for edge in (0.03, 0.06, 0.12, 0.25)),
        three,
        calm,
        early,
        late,
        early[:, :-1] & late[:, 1:],
        *(three & wide[:, 1:] & wide[:, :-1] for wide in above),
        three & (step[:, 1:] * step[:, :-1] < 0),
        small[:, 2:] & small[:, 1:-1] & small[:, :-2],
    )
    of_both, below_3, below_6, below_12, below_25, of_three, of_calm, of_early, of_late = counts[:9]
    early_late, both_6, both_12, turning, steady = counts[9:]
    number, steps, triples = (np.maximum(one, 1) for one in (of.number, of_both, of_three))
    shares = [below / steps for below in (below_3, below_6, below_12, below_25)]
    q10, q25, _, q75, q90 = of.quantiles
    return [
        seconds / 10.0,
        of.beats / np.maximum(seconds, 1.0),
        3.0 * np.log(of.median / 0.8),
        np.log1p(of.number) - 2.0,
        8.0 * quantile(size, both, of_both, 0.5, 0.0),
        8.0 * size.sum(axis=1) / steps,
        6.0 * np.sqrt((size * size).sum(axis=1) / steps),
        2.0 * shares[0],
        3.0 * (shares[1] - shares[0]),
        3.0 * (shares[2] - shares[1]),
        3.0 * (shares[3] - shares[2]),
        3.0 * (1.0 - shares[3]) * (of_both > 0),
        *(6.0 * q for q in (q10, q25, q75, q90)),
        *_entropies(of),
        *_correlations(ratio, ok, number, (1, 2, 3)),
        *_correlations(step, both, steps, (1,)),
        4.0 * of_early / number,
        4.0 * of_late / number,
        6.0 * early_late / number,
        3.0 * both_6 / triples,
        3.0 * both_12 / triples,
        2.0 * of_calm / steps,
        20.0 * np.sqrt(np.where(calm, step * step, 0.0).sum(axis=1) / np.maximum(of_calm, 1)),
        2.0 * turning / triples,
        2.0 * steady / triples,
        6.0 * quantile(bend, three, of_three, 0.5, 0.0),
        2.0 * ratio.min(axis=1),
        2.0 * ratio.max(axis=1),
    ]


def _entropies(of: Intervals) -> list[Float64]:
    """Sample entropy (pairs against single matches) of the last intervals at 5 and 12 % of the median, and matches.

    Counts get half a match each beforehand, so that short windows give a number too.
    """
    end = np.clip(of.beats - 1, _ENTROPY_INTERVALS, MAX_BEATS - 1)
    take = np.arange(_ENTROPY_INTERVALS) + (end - _ENTROPY_INTERVALS)[:, None]
    rows = np.arange(len(end))[:, None]
    ok = of.ok[rows, take]
    # Intervals that are none match nothing, not even each other.
    none = np.float32(1e6) * (1 + np.arange(_ENTROPY_INTERVALS, dtype=np.float32))
    rr = np.where(ok, (of.rr[rows, take] / of.median[:, None]).astype(np.float32), none)
    twice = np.concatenate((rr, rr), axis=1)
    row, step = twice.strides
    behind = np.ndarray((len(rr), *_ROUND.shape), np.float32, twice, step, (row, step, step))
    apart = np.abs(behind - rr[:, None, :])
    number = _count(ok)
    pairs = np.maximum(number * (number - 1), 1)
    entropies, matches = [], []
    for tolerance in _TOLERANCES:
        near = apart < np.float32(tolerance)
        near &= _PAIRS
        singles = near & _HAS_NEXT
        doubles = singles[:, :, :-1] & near[:, :, 1:]
        of_near, of_singles, of_doubles = (count(one.reshape(len(rr), -1)) for one in (near, singles, doubles))
        entropies.append(np.log((of_singles + 0.5) / (of_doubles + 0.5)))
        matches.append(6.0 * of_near / pairs)
    return [*entropies, *matches]


def _count(marked: Bools) -> Int64:
    """(rows,): how many are true."""
    number: Int64 = _counts(marked)[0]
    return number


def _counts(*marked: Bools) -> Int64:
    """(marked, rows): how many are true in each row of each."""
    wide = np.zeros((len(marked), len(marked[0]), MAX_BEATS), dtype=np.bool_)
    for row, one in zip(wide, marked, strict=True):
        row[:, : one.shape[1]] = one
    return count(wide)


def _correlations(x: Float64, ok: Bools, number: Int64, lags: Sequence[int]) -> list[Float64]:
    """(rows,) each: twice the autocorrelation at each lag of the values that count, about their mean."""
    about = np.where(ok, x - (np.where(ok, x, 0.0).sum(axis=1) / number)[:, None], 0.0)
    power = np.maximum((about * about).sum(axis=1), 1e-4)
    return [2.0 * (about[:, lag:] * about[:, :-lag]).sum(axis=1) / power for lag in lags]


def quantile(x: Float64, ok: Bools, number: Int64, q: float, otherwise: float) -> Float64:
    """(rows,): the `q` quantile (lower of two) of the `number` values that count; `otherwise` where there are none."""
    ordered = np.sort(np.where(ok, x, np.inf), axis=1)
    place = np.maximum(np.ceil(q * number).astype(np.int64) - 1, 0)
    return np.where(number > 0, ordered[np.arange(len(x)), place], otherwise)
