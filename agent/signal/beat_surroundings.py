"""What lies around a beat: the P wave under the T wave before it, how unsteady the rhythm is, and what follows.

Three views that the beat alone does not give, as scalars of the classifier's context:

- Irregularity. Intervals are compared with those one to four beats back: ectopy in a pattern (every other beat, every
  third) repeats itself at one of these distances, atrial fibrillation at none.
- The P region once the T wave of the beat before has been taken away, after that beat's own template: a premature P
  wave hides there. P waves seen so are kept in a few clusters with the prematurity and number of their beats.
- Followers: the beats after this one that are known when it is classified, or that there is none yet. A ventricular
  beat is mostly followed by a pause that makes up for it, a supraventricular one by a shorter pause (the sinus node
  is reset), a beat in fibrillation by anything.

Rows are people, each with one beat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.signal.beat_memory import (
    FADE,
    LATE,
    RR_LENGTH,
    RR_RATIO,
    STEP_QUANTILES,
    TEMPLATE_BEATS,
    WEIGHT,
    Stack,
)
from agent.signal.likeness import Float32, Float64, logarithms, row_sums, upper_medians
from agent.signal.pending import DECIDE_SAMPLES, FOLLOWER_SAMPLES, DueBeat
from agent.signal.resample import ANALYSIS_RATE_HZ

_SAME_P = 0.5
_RECENT = 28
_LAGS = np.array([np.arange(RR_LENGTH - _RECENT, RR_LENGTH) - lag for lag in (1, 2, 3, 4)])
_STEP_SCALE = np.array([12.0, 12.0, 12.0, 16.0, 12.0, 12.0, 12.0, 16.0])
_WAIT_SCALE = np.array([1.0, 4.0, 4.0, 4.0, 4.0, 1.0, 4.0])


def irregularity(people: Stack) -> Float64:
    """(n, 8): medians of steps between intervals, and their slow quantiles, which are updated."""
    ring = people["rr_log"]
    lags = np.abs(ring[:, None, -_RECENT:] - ring.take(_LAGS, axis=1))
    newest = lags[:, 0]
    medians8, medians28 = upper_medians(lags[:, :, -8:]), upper_medians(lags)
    known, quantiles = people["steps_known"], people["step_quantiles"]
    known += 1
    size = np.maximum(0.001, 0.02 / known)[:, None]
    quantiles += size * (STEP_QUANTILES - (newest[:, -1:] < quantiles))
    out = np.empty((len(people), 8))
    out[:, 0] = medians8[:, 0]
    out[:, 1] = upper_medians(newest[:, -16:])
    out[:, 2] = medians28[:, 0]
    out[:, 3] = medians28.min(axis=1)
    out[:, 4:7] = quantiles
    out[:, 7] = medians8.min(axis=1)
    out *= _STEP_SCALE
    return out


def p_clusters(people: Stack, p: Float32, energy: Float64, log_ratio: Float64, late: npt.NDArray[np.bool_]) -> Float64:
    """(n, 5): which of the person's P waves this one is like; updates the clusters.

    `p` (n, 24): mV, without their means; `energy`: its product with itself; `log_ratio`: log of RR over the slow
    median; `late`: whether the beat came late, as beat_features has it.
    """
    rows = np.arange(len(people))
    waves, counts = people["p_waves"], people["p_counts"]
    weights = counts[:, :, WEIGHT]
    against = 2.0 * (waves @ p[:, :, None])[:, :, 0]
    against /= row_sums(waves * waves, axis=2) + (energy + 1e-6).astype(np.float32)[:, None]
    against[weights == 0.0] = -1.0
    place = against.argmax(axis=1)
    mine = counts[rows, place]
    best = against[rows, place].astype(np.float64)
    known = best >= _SAME_P
    out = np.zeros((len(people), 5))
    np.multiply(3.0, best, out=out[:, 0])
    np.divide(3.0 * mine[:, WEIGHT], row_sums(weights, axis=1), out=out[:, 1], where=known)
    np.multiply(4.0, mine[:, RR_RATIO], out=out[:, 2], where=known)
    out[:, 3] = 1.5
    np.divide(3.0 * mine[:, LATE], mine[:, WEIGHT], out=out[:, 3], where=known)
    np.copyto(out[:, 4], np.where(counts[:, :, LATE].argmax(axis=1) == place, 2.0, -2.0), where=known)
    if not known.all():
        new = np.flatnonzero(~known)
        place[new] = weights[new].argmin(axis=1)
        waves[new, place[new]] = p[new]
        mine[new] = 0.0
    counts[:, :, : LATE + 1] *= FADE
    mine[:, : LATE + 1] *= FADE
    mine[:, WEIGHT] += 1.0
    mine[:, LATE] += late
    rate = np.maximum(1.0 / mine[:, WEIGHT], 1.0 / TEMPLATE_BEATS)
    mine[:, RR_RATIO] += rate * (log_ratio - mine[:, RR_RATIO])
    counts[rows, place] = mine
    wave = waves[rows, place]
    waves[rows, place] = wave + rate.astype(np.float32)[:, None] * (p - wave)
    return out


def waits(dues: Sequence[DueBeat], before: Float64, slow: Float64, median8: Float64) -> Float64:
    """(n, 7): intervals after each beat, the first and the second, or how long there has been none.

    `before`, `slow`, `median8`: log of the interval before it, of the slow median and of the median of eight, s.
    """
    none_yet = DECIDE_SAMPLES - FOLLOWER_SAMPLES
    samples = [_intervals(due, none_yet) for due in dues]
    post, second = logarithms(np.array(samples) / ANALYSIS_RATE_HZ).T
    mean = [0.5 * (math.exp(a) + math.exp(b)) for a, b in zip(post.tolist(), before.tolist(), strict=True)]
    out = np.empty((len(dues), 7))
    out[:, 0] = [2.0 if due.followers else -2.0 for due in dues]
    out[:, 1] = post - slow
    out[:, 2] = post - before
    out[:, 3] = post - median8
    out[:, 4] = logarithms(np.array(mean)) - median8
    out[:, 5] = [2.0 if len(due.followers) > 1 else -2.0 for due in dues]
    out[:, 6] = np.where(out[:, 5] > 0.0, second - slow, 0.0)
    out *= _WAIT_SCALE
    return out


def _intervals(due: DueBeat, none_yet: int) -> tuple[int, int]:
    """Samples to the next beat and from that to the second; where there is none, another number."""
    if not due.followers:
        return none_yet, 1
    first, *others = due.followers
    return first - due.r_index, others[0] - first if others else 1
