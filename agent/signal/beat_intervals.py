"""The rhythm that a beat comes in: its interval beside those of the last beats, of minutes and of an hour.

Intervals are compared with those one to four beats back as well: ectopy in a pattern (every other beat, every third)
repeats itself at one of these distances, atrial fibrillation at none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agent.signal.beat_arithmetic import Arithmetic, Number, Truth
from agent.signal.beat_memory import (
    FAST_RUN,
    FAST_RUN_ONSET,
    RR_KNOWN,
    RR_LENGTH,
    RR_LOG,
    RR_MEANS,
    RR_QUANTILES,
    STEP_QUANTILES,
    STEPS_KNOWN,
)
from agent.signal.likeness import Float64, row_sums, upper_medians
from agent.signal.resample import ANALYSIS_RATE_HZ

_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
_STEP_QUANTILES = (0.25, 0.50, 0.75)
_SLOW_STEP = 0.006  # log RR a beat: a lasting change of rate is learnt in some minutes, a run of ectopy is not
_MEAN_BEATS = (128.0, 512.0, 2048.0)  # the longest outlasts a supraventricular tachycardia of many minutes
_MAX_RR_S = 3.0  # past this, a beat was missed or the heart stood still: it says nothing about prematurity
_EARLY = 0.12
_RECENT = 28
_LAGS = np.array([np.arange(RR_LENGTH - _RECENT, RR_LENGTH) - lag for lag in (1, 2, 3, 4)])

_ORDERED = slice(0, RR_LENGTH - 1)
"""Where in the measures of the rhythm: all log RR before the last, in order of size."""
MEDIAN_8 = RR_LENGTH - 1
"""Median of the eight before the last."""
_STEPS_8 = RR_LENGTH
_STEPS_32 = RR_LENGTH + 1
"""Sums of the last eight steps from interval to interval, and of all."""
_MEDIANS_8 = slice(RR_LENGTH + 2, RR_LENGTH + 6)
"""Medians of the last eight steps from an interval to those one to four beats back."""
_MEDIAN_16 = RR_LENGTH + 6
"""Median of the last sixteen steps to the one before."""
_MEDIANS_28 = slice(RR_LENGTH + 7, RR_LENGTH + 11)
"""As _MEDIANS_8, of the last twenty-eight."""


class Interval(NamedTuple):
    """The interval up to a beat."""

    known: Truth
    """Whether the beat before is known, and not too long ago."""
    log_rr: Number
    """Log (s) of it where it is known."""


def log_intervals(apart: Sequence[int | None]) -> list[float | None]:
    """Log (s) of intervals of so many samples; None of those that are not known or too long."""
    longest = _MAX_RR_S * ANALYSIS_RATE_HZ
    return [None if samples is None or samples > longest else math.log(samples / ANALYSIS_RATE_HZ) for samples in apart]


def take_intervals(numbers: Float64, log_rr: Sequence[float | None]) -> None:
    """Put intervals, where they are known, behind the others in each row of `numbers`."""
    for row, log in zip(numbers, log_rr, strict=True):
        if log is None:
            continue
        if not row[RR_KNOWN]:
            row[RR_LOG] = row[RR_QUANTILES] = row[RR_MEANS] = log
        row[RR_KNOWN] += 1.0
        ring = row[RR_LOG]
        ring[:-1] = ring[1:]
        ring[-1] = log


def measured(numbers: Float64) -> Float64:
    """(n, 44): what the last intervals in each row of `numbers` are like."""
    ring = numbers[:, RR_LOG]
    before = ring[:, :-1]
    steps = np.abs(ring[:, 1:] - before)
    lags = np.abs(ring[:, None, -_RECENT:] - ring.take(_LAGS, axis=1))
    out = np.empty((len(numbers), _MEDIANS_28.stop))
    out[:, _ORDERED] = before
    out[:, _ORDERED].sort(axis=1)
    out[:, MEDIAN_8] = upper_medians(before[:, -8:])
    row_sums(steps[:, -8:], axis=1, out=out[:, _STEPS_8])
    row_sums(steps, axis=1, out=out[:, _STEPS_32])
    out[:, _MEDIANS_8] = upper_medians(lags[:, :, -8:])
    out[:, _MEDIAN_16] = upper_medians(lags[:, 0, -16:])
    out[:, _MEDIANS_28] = upper_medians(lags)
    return out


def interval_features(a: Arithmetic, m: list[Number], interval: Interval, rhythm: Sequence[Number]) -> list[Number]:
    """RR features of a beat, as far as the rhythm is known; updates the numbers `m`.

    `rhythm`: the measures of `measured`, once the interval is behind the others.
    """
    known, log_rr, median8 = interval.known, interval.log_rr, rhythm[MEDIAN_8]
    ring, means, quantiles, run, onset = m[RR_LOG], m[RR_MEANS], m[RR_QUANTILES], m[FAST_RUN], m[FAST_RUN_ONSET]
    fast = log_rr < means[2] - _EARLY
    onset = m[FAST_RUN_ONSET] = a.where(known, a.where(fast, a.where(run > 0, onset, log_rr - median8), 0.0), onset)
    run = m[FAST_RUN] = a.where(known, a.where(fast, run + 1.0, 0.0), run)
    slow = quantiles[2]
    now = a.where(known, log_rr, slow)
    features = [
        a.where(m[RR_KNOWN] > 0, 3.0 * (now + 0.22), 0.0),  # 0.8 s is nought
        4.0 * (now - median8),
        4.0 * (now - rhythm[_ORDERED][(RR_LENGTH - 1) // 2]),
        *[4.0 * (now - q) for q in quantiles],
        *[4.0 * (previous - slow) for previous in ring[-2:-8:-1]],
        4.0 * (quantiles[4] - quantiles[0]),
        rhythm[_STEPS_8],
        0.25 * rhythm[_STEPS_32],
        4.0 * (median8 - slow),
        a.below(rhythm[_ORDERED], slow - _EARLY) / 16.0,
        *[4.0 * (now - mean) for mean in means],
        0.5 * a.log2(1.0 + run),
        4.0 * onset,
    ]
    share = 1.0 / a.larger(m[RR_KNOWN], 1.0)
    step = a.larger(_SLOW_STEP, 0.2 / a.larger(m[RR_KNOWN], 1.0))
    m[RR_QUANTILES] = [
        a.where(known, q + step * (p - (log_rr < q)), q) for p, q in zip(_QUANTILES, quantiles, strict=True)
    ]
    m[RR_MEANS] = [
        a.where(known, mean + a.larger(share, 1.0 / beats) * (log_rr - mean), mean)
        for beats, mean in zip(_MEAN_BEATS, means, strict=True)
    ]
    return features


def irregularity(a: Arithmetic, m: list[Number], rhythm: Sequence[Number]) -> list[Number]:
    """How unsteady the rhythm is: medians of steps, and their slow quantiles, which are updated in the numbers `m`."""
    last_step = abs(m[RR_LOG.stop - 1] - m[RR_LOG.stop - 2])
    m[STEPS_KNOWN] = m[STEPS_KNOWN] + 1.0
    size = a.larger(0.001, 0.02 / m[STEPS_KNOWN])
    quantiles = m[STEP_QUANTILES] = [
        q + size * (p - (last_step < q)) for p, q in zip(_STEP_QUANTILES, m[STEP_QUANTILES], strict=True)
    ]
    medians8, medians28 = rhythm[_MEDIANS_8], rhythm[_MEDIANS_28]
    return [
        12.0 * medians8[0],
        12.0 * rhythm[_MEDIAN_16],
        12.0 * medians28[0],
        16.0 * _least(a, medians28),
        *[12.0 * q for q in quantiles],
        16.0 * _least(a, medians8),
    ]


def _least(a: Arithmetic, four: Sequence[Number]) -> Number:
    return a.smaller(a.smaller(four[0], four[1]), a.smaller(four[2], four[3]))
