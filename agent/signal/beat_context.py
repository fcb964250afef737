"""The context of a beat: formulas on single numbers, one person's or a ward's (see beat_arithmetic)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent.signal import beat_measures as at
from agent.signal.beat_arithmetic import LEAST, Arithmetic, Number, Place, Truth, total
from agent.signal.beat_intervals import MEDIAN_8, Interval, interval_features, irregularity
from agent.signal.beat_memory import (
    BEATS,
    FADE,
    FULL_BEATS,
    HISTORY,
    HISTORY_LENGTH,
    LATE,
    P_UNSTEADINESS,
    P_WAVE,
    RR_LOG,
    RR_QUANTILES,
    RR_RATIO,
    SIZE,
    SLOPE,
    TEMPLATE_BEATS,
    WEIGHT,
    WIDTH,
    WINDOW,
)
from agent.signal.beat_surroundings import PLearnt, p_clusters, waits
from models.vocabulary import BEAT_CONTEXT

LIMIT = 4.0
"""The network is shown no greater number."""
_SLOW, _Q90 = 2, 4
_LATE_MARGIN = 0.35
_MIN_AMPLITUDE_MV = 0.05
_P_DIFFERENCE = BEAT_CONTEXT.index("p_difference")
_REMEMBERED = [BEAT_CONTEXT.index(name) for name in BEAT_CONTEXT if f"{name}_prev1" in BEAT_CONTEXT]


class Seen(NamedTuple):
    """What is known of a beat beside the memory of its person."""

    interval: Interval
    rhythm: Sequence[Number]
    """The measures of the intervals before it."""
    measures: Sequence[Number]
    """Those of its samples."""
    cluster: Place
    """The cluster its QRS belongs to."""
    normal: Place
    """The normal one."""
    likeness: tuple[Number, Number]
    """Of its QRS to the normal one and to its own cluster's."""
    after: Sequence[Number]
    """What follows it."""


class Learnt(NamedTuple):
    """What a beat teaches the stretches of signal that are kept of its person."""

    rate: Number
    """For the mean QRS of its cluster."""
    late: Truth
    """Whether it came late, and shapes its cluster's full template."""
    late_rate: Number
    """For that."""
    p: PLearnt


def amplitude_of(size: Number, a: Arithmetic) -> Number:
    """Amplitude (mV) of a normal QRS against which all is measured."""
    return a.larger(size, _MIN_AMPLITUDE_MV)


def context_of(a: Arithmetic, m: list[Number], seen: Seen) -> tuple[list[Number], Learnt]:
    """The context in BEAT_CONTEXT's order, without its limit; updates the numbers `m`."""
    amplitude = amplitude_of(a.pick(m[SIZE], seen.normal), a)
    rr = interval_features(a, m, seen.interval, seen.rhythm)
    slow, q90 = m[RR_QUANTILES][_SLOW], m[RR_QUANTILES][_Q90]
    around, p_learnt = _around(a, m, seen, amplitude)
    context = [
        *rr,
        *_shape(a, m, seen, amplitude),
        *irregularity(a, m, seen.rhythm),
        *around,
        *_followers(a, m, seen, amplitude),
        *m[HISTORY],
    ]
    late = a.where(seen.interval.known, seen.interval.log_rr >= a.larger(slow, q90 - _LATE_MARGIN), False)
    learnt = _learn(a, m, seen, late, p_learnt)
    rate = a.larger(1.0 / (m[BEATS] + 1.0), 1.0 / 32.0)
    m[P_UNSTEADINESS] = m[P_UNSTEADINESS] + rate * (a.smaller(context[_P_DIFFERENCE], LIMIT) - m[P_UNSTEADINESS])
    m[BEATS] = m[BEATS] + 1.0
    older = m[HISTORY]
    m[HISTORY] = [
        number
        for row, place in enumerate(_REMEMBERED)
        for number in (context[place], *older[row * HISTORY_LENGTH : (row + 1) * HISTORY_LENGTH - 1])
    ]
    return context, learnt


def _compared(a: Arithmetic, aa: Number, bb: Number, ab: Number, samples: int) -> tuple[Number, Number]:
    """Correlation, and RMS of the difference, of stretches with these products."""
    return ab / a.sqrt(aa * bb + 1e-12), a.sqrt(a.larger(aa + bb - 2.0 * ab, 0.0) / samples)


def _p_compared(a: Arithmetic, measures: Sequence[Number], which: int, amplitude: Number) -> list[Number]:
    """A P region beside the normal one: correlation, difference and size, as shares of the QRS."""
    energies, product = measures[at.P_ENERGY], measures[at.P_PRODUCT][which]
    correlation, difference = _compared(a, energies[which], energies[at.NORMAL], product, P_WAVE)
    return [2.0 * correlation, 20.0 * difference / amplitude, _p_size(a, measures, which, amplitude)]


def _p_size(a: Arithmetic, measures: Sequence[Number], which: int, amplitude: Number) -> Number:
    return 20.0 * a.sqrt(measures[at.P_ENERGY][which] / P_WAVE) / amplitude


def _shape(a: Arithmetic, m: list[Number], seen: Seen, amplitude: Number) -> list[Number]:
    """QRS, P and T of the beat beside the normal ones, and how common its cluster is."""
    cluster, normal, measures = seen.cluster, seen.normal, seen.measures
    all_beats = total(m[WEIGHT]) + 1e-9
    size, width, slope = measures[at.SHAPE]
    size, slope = a.larger(size, 1e-3), a.larger(slope, 1e-4)
    own = a.pick(m[WEIGHT], cluster)
    t_correlation, t_difference = _compared(
        a, measures[at.T_ENERGY], measures[at.T_NORMAL], measures[at.T_PRODUCT], at.T.stop - at.T.start
    )
    return [
        3.0 * seen.likeness[0],
        3.0 * seen.likeness[1],
        3.0 * own / all_beats,
        a.where(own > 0, 3.0 * a.pick(m[LATE], cluster) / a.larger(own, LEAST), 1.5),
        4.0 * a.pick(m[RR_RATIO], cluster),
        a.where(cluster == normal, 2.0, -2.0),
        3.0 * a.pick(m[WEIGHT], normal) / all_beats,
        2.0 * a.log(size / a.larger(a.pick(m[SIZE], normal), 1e-3)),
        4.0 * a.log(width / 8.0),
        4.0 * a.log(width / a.pick(m[WIDTH], normal)),
        3.0 * measures[at.PEAK] / size,
        2.0 * a.log(slope / a.larger(a.pick(m[SLOPE], normal), 1e-4)),
        *_p_compared(a, measures, at.BEAT, amplitude),
        _p_size(a, measures, at.NORMAL, amplitude),
        2.0 * m[P_UNSTEADINESS],
        2.0 * t_correlation,
        10.0 * t_difference / amplitude,
        20.0 * a.sqrt(measures[at.BENDS] / (WINDOW - 2)) / amplitude,
        a.smaller(m[BEATS], 32.0) / 16.0,
    ]


def _around(a: Arithmetic, m: list[Number], seen: Seen, amplitude: Number) -> tuple[list[Number], PLearnt]:
    """The P region without the T wave before it; updates the memory of P waves."""
    measures, ring, quantiles = seen.measures, m[RR_LOG], m[RR_QUANTILES]
    log_ratio = ring[-1] - quantiles[_SLOW]
    late = log_ratio >= a.larger(0.0, quantiles[_Q90] - quantiles[_SLOW] - _LATE_MARGIN)
    energy, product = measures[at.P_ENERGY][at.UNDER_T], measures[at.P_PRODUCT][at.UNDER_T]
    clusters, learnt = p_clusters(a, m, measures[at.P_LIKENESS], log_ratio, late)
    like_last = 2.0 * measures[at.CORE_PRODUCT] / (measures[at.CORE_ENERGY] + measures[at.CORE_LAST] + 1e-6)
    context = [
        *_p_compared(a, measures, at.UNDER_T, amplitude),
        10.0 * a.sqrt(measures[at.BEFORE] / at.P.stop) / amplitude,
        3.0 * like_last,
        4.0 * (ring[-1] - ring[-3]),
        *clusters,
        2.0 * (2.0 * product / (energy + measures[at.P_ENERGY][at.NORMAL] + 1e-6)),
    ]
    return context, learnt


def _followers(a: Arithmetic, m: list[Number], seen: Seen, amplitude: Number) -> list[Number]:
    """The intervals after this beat, and how the next one looks beside the normal and beside this one."""
    known = seen.after[0] > 0
    to_normal, to_this = seen.measures[at.NEXT_LIKENESS]
    correlation, difference, _ = _p_compared(a, seen.measures, at.NEXT, amplitude)
    intervals = waits(a, seen.after, m[RR_LOG][-1], m[RR_QUANTILES][_SLOW], seen.rhythm[MEDIAN_8])
    looks = [3.0 * to_normal, 3.0 * to_this, correlation, difference]
    return [*intervals, *[a.where(known, look, 0.0) for look in looks]]


def _learn(a: Arithmetic, m: list[Number], seen: Seen, late: Truth, p_learnt: PLearnt) -> Learnt:
    """Let the beat count in its cluster, and, if it came late, in its cluster's full template."""
    cluster, interval = seen.cluster, seen.interval
    weights, lates = [FADE * weight for weight in m[WEIGHT]], [FADE * weight for weight in m[LATE]]
    own = a.pick(weights, cluster) + 1.0
    full = a.pick(m[FULL_BEATS], cluster) + late
    ratio = a.pick(m[RR_RATIO], cluster)
    rate = a.larger(1.0 / own, 1.0 / TEMPLATE_BEATS)
    late_rate = a.larger(1.0 / a.larger(full, 1.0), 1.0 / TEMPLATE_BEATS)
    new_ratio = ratio + rate * (interval.log_rr - m[RR_QUANTILES][_SLOW] - ratio)
    m[WEIGHT] = a.put(weights, cluster, own)
    m[LATE] = a.put(lates, cluster, a.pick(lates, cluster) + late)
    m[FULL_BEATS] = a.put(m[FULL_BEATS], cluster, full)
    m[RR_RATIO] = a.put(m[RR_RATIO], cluster, a.where(interval.known, new_ratio, ratio))
    for part, now in zip((SIZE, WIDTH, SLOPE), seen.measures[at.SHAPE], strict=True):
        mean = a.pick(m[part], cluster)
        m[part] = a.put(m[part], cluster, a.where(late, mean + late_rate * (now - mean), mean))
    return Learnt(rate, late, late_rate, p_learnt)
