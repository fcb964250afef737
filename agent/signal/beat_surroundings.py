"""What lies around a beat: the P wave under the T wave before it, and what follows.

Two views that the beat alone does not give, as scalars of the classifier's context, beside the irregularity of the
rhythm (beat_intervals):

- The P region once the T wave of the beat before has been taken away, after that beat's own template: a premature P
  wave hides there. P waves seen so are kept in a few clusters with the prematurity and number of their beats.
- Followers: the beats after this one that are known when it is classified, or that there is none yet. A ventricular
  beat is mostly followed by a pause that makes up for it, a supraventricular one by a shorter pause (the sinus node
  is reset), a beat in fibrillation by anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agent.signal.beat_arithmetic import LEAST, Arithmetic, Number, Place, Truth, total
from agent.signal.beat_memory import FADE, P_LATE, P_RR_RATIO, P_WEIGHT, TEMPLATE_BEATS
from agent.signal.likeness import Float32, Float64, row_sums
from agent.signal.pending import DECIDE_SAMPLES, FOLLOWER_SAMPLES, DueBeat
from agent.signal.resample import ANALYSIS_RATE_HZ

_SAME_P = 0.5
_NONE_YET_S = (DECIDE_SAMPLES - FOLLOWER_SAMPLES) / ANALYSIS_RATE_HZ
"""Time after a beat without another, where none is known."""


def p_similarities(p_waves: Float32, p: Float32, energy: Float64) -> Float32:
    """(n, clusters): how like each P region `p` (n, 24), mV, is to those of the person's clusters (n, clusters, 24).

    `energy` (n,): its product with itself.
    """
    out: Float32 = (p_waves @ p[:, :, None])[:, :, 0]
    out *= np.float32(2.0)
    out /= row_sums(p_waves * p_waves, axis=2) + (energy + 1e-6).astype(np.float32)[:, None]
    return out


class PLearnt(NamedTuple):
    """What a P region teaches its cluster."""

    place: Place
    known: Truth
    """False where it is like none, and begins the cluster anew."""
    rate: Number


def p_clusters(
    a: Arithmetic, m: list[Number], similarities: Sequence[Number], log_ratio: Number, late: Truth
) -> tuple[list[Number], PLearnt]:
    """Which of the person's P waves this one is like; updates the clusters in the numbers `m`.

    `similarities`: to each cluster; `log_ratio`: log of RR over the slow median; `late`: whether the beat came late, as
    beat_features has it.
    """
    weights, lates = m[P_WEIGHT], m[P_LATE]
    against = [a.where(weight > 0, alike, -1.0) for alike, weight in zip(similarities, weights, strict=True)]
    place = a.greatest(against)
    best = a.pick(against, place)
    known = best >= _SAME_P
    own, own_late, ratio = a.pick(weights, place), a.pick(lates, place), a.pick(m[P_RR_RATIO], place)
    out = [
        3.0 * best,
        a.where(known, 3.0 * own / a.larger(total(weights), LEAST), 0.0),
        a.where(known, 4.0 * ratio, 0.0),
        a.where(known, 3.0 * own_late / a.larger(own, LEAST), 1.5),
        a.where(known, a.where(a.greatest(lates) == place, 2.0, -2.0), 0.0),
    ]
    place = a.where(known, place, a.least(weights))
    own = a.where(known, FADE * own, 0.0) + 1.0
    ratio = a.where(known, ratio, 0.0)
    rate = a.larger(1.0 / own, 1.0 / TEMPLATE_BEATS)
    m[P_WEIGHT] = a.put([FADE * weight for weight in weights], place, own)
    m[P_LATE] = a.put([FADE * weight for weight in lates], place, a.where(known, FADE * own_late, 0.0) + late)
    m[P_RR_RATIO] = a.put(m[P_RR_RATIO], place, ratio + rate * (log_ratio - ratio))
    return out, PLearnt(place, known, rate)


def following(due: DueBeat) -> tuple[float, float, float]:
    """How many beats are known after this one, and the intervals up to them, s: where there is none, another number."""
    if not due.followers:
        return 0.0, _NONE_YET_S, 1.0
    first, *others = due.followers
    second = (others[0] - first) / ANALYSIS_RATE_HZ if others else 1.0
    return len(due.followers), (first - due.r_index) / ANALYSIS_RATE_HZ, second


def waits(a: Arithmetic, after: Sequence[Number], pre: Number, slow: Number, median8: Number) -> list[Number]:
    """Intervals after this beat, the first and the second, or how long there has been none.

    `after`: of `following`; `pre`, `slow`, `median8`: log of the interval before it, of the slow median and of the
    median of eight, s.
    """
    known, first_s, second_s = after
    post = a.log(first_s)
    both = a.log(0.5 * (a.exp(post) + a.exp(pre)))
    return [
        a.where(known > 0, 2.0, -2.0),
        4.0 * (post - slow),
        4.0 * (post - pre),
        4.0 * (post - median8),
        4.0 * (both - median8),
        a.where(known > 1, 2.0, -2.0),
        a.where(known > 1, 4.0 * (a.log(second_s) - slow), 0.0),
    ]
