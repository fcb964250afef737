"""What lies around a beat: the P wave under the T wave before it, how unsteady the rhythm is, and what follows.

Three views that the beat alone does not give, as scalars of the classifier's context:

- Irregularity. Intervals are compared with those one to four beats back: ectopy in a pattern (every other beat, every
  third) repeats itself at one of these distances, atrial fibrillation at none.
- The P region once the T wave of the beat before has been taken away, after that beat's own template: a premature P
  wave hides there. P waves seen so are kept in a few clusters with the prematurity and number of their beats.
- Followers: the beats after this one that are known when it is classified, or that there is none yet. A ventricular
  beat is mostly followed by a pause that makes up for it, a supraventricular one by a shorter pause (the sinus node
  is reset), a beat in fibrillation by anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.signal.likeness import upper_median

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CLUSTERS = 4
_P_SAMPLES = 24
_SAME_P = 0.5
_MEMORY_BEATS = 600.0
_TEMPLATE_BEATS = 32.0
_QUANTILES = np.array([0.25, 0.50, 0.75])
_RECENT = 28
_sum = np.add.reduce


@dataclass(slots=True)
class SurroundingsState:
    """One person's memory of P waves and of how steps from interval to interval are spread."""

    step_quantiles: Float64 = field(default_factory=lambda: np.zeros(len(_QUANTILES)))
    """Slow quantiles of |log RR - log RR before|."""
    steps_known: int = 0
    p_waves: Float32 = field(default_factory=lambda: np.zeros((CLUSTERS, _P_SAMPLES), dtype=np.float32))
    """Mean P region of each cluster, mV, without its mean."""
    weight: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    """Beats of each cluster, fading over ten minutes."""
    late: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    """Late beats of each cluster, fading likewise."""
    rr_ratio: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    """Mean log of RR over the slow median, per cluster."""


def irregularity(state: SurroundingsState, ring: Float64) -> list[float]:
    """Medians of steps between intervals; `ring` (33,): recent log RR, newest last. Updates the slow quantiles."""
    now = ring[-_RECENT:]
    lags = np.empty((4, _RECENT))
    for lag in range(4):
        np.subtract(now, ring[-_RECENT - lag - 1 : -lag - 1], out=lags[lag])
    np.abs(lags, out=lags)
    last_step = float(lags[0, -1])
    recent = lags[:, -8:].copy()
    recent.sort(axis=1)
    median16 = upper_median(lags[0, -16:])
    lags.sort(axis=1)
    medians8, medians28 = recent[:, 4].tolist(), lags[:, 14].tolist()
    state.steps_known += 1
    size = max(0.001, 0.02 / state.steps_known)
    state.step_quantiles += size * (_QUANTILES - (last_step < state.step_quantiles))
    q25, q50, q75 = state.step_quantiles.tolist()
    return [
        12.0 * medians8[0],
        12.0 * median16,
        12.0 * medians28[0],
        16.0 * min(medians28),
        12.0 * q25,
        12.0 * q50,
        12.0 * q75,
        16.0 * min(medians8),
    ]


def p_clusters(state: SurroundingsState, p: Float32, p_normal: Float32, log_ratio: float, late: bool) -> list[float]:
    """Which of the person's P waves this one is like; updates the clusters.

    `p`, `p_normal`: (24,) mV without their means, of this beat and of the normal one; `log_ratio`: log of RR over the
    slow median; `late`: whether the beat came late, as beat_features has it.
    """
    energy = float(p @ p)
    against = 2.0 * (state.p_waves @ p) / (_sum(state.p_waves * state.p_waves, axis=1) + np.float32(energy + 1e-6))
    against[state.weight == 0.0] = -1.0
    to_normal = 2.0 * float(p @ p_normal) / (energy + float(p_normal @ p_normal) + 1e-6)
    place = int(against.argmax())
    best = float(against[place])
    if best < _SAME_P:
        out = [3.0 * best, 0.0, 0.0, 1.5, 0.0, 2.0 * to_normal]
        place = int(state.weight.argmin())
        state.p_waves[place] = p
        state.weight[place] = state.late[place] = state.rr_ratio[place] = 0.0
    else:
        own = float(state.weight[place])
        out = [
            3.0 * best,
            3.0 * own / float(_sum(state.weight)),
            4.0 * float(state.rr_ratio[place]),
            3.0 * float(state.late[place]) / own,
            2.0 if int(state.late.argmax()) == place else -2.0,
            2.0 * to_normal,
        ]
    fade = 1.0 - 1.0 / _MEMORY_BEATS
    state.weight *= fade
    state.late *= fade
    state.weight[place] += 1.0
    state.late[place] += late
    rate = max(1.0 / float(state.weight[place]), 1.0 / _TEMPLATE_BEATS)
    state.p_waves[place] += np.float32(rate) * (p - state.p_waves[place])
    state.rr_ratio[place] += rate * (log_ratio - state.rr_ratio[place])
    return out


def waits(post_s: tuple[float, ...], elapsed_s: float, logs: tuple[float, float, float]) -> list[float]:
    """Intervals after this beat, the first and the second, or how long there has been none.

    `post_s`: the known intervals, at most two; `elapsed_s`: time after this beat without another; `logs`: log of the
    interval before it, of the slow median and of the median of eight, s.
    """
    pre, slow, median8 = logs
    known = bool(post_s)
    post = math.log(post_s[0] if known else elapsed_s)
    both = math.log(0.5 * (math.exp(post) + math.exp(pre)))
    second = 4.0 * (math.log(post_s[1]) - slow) if len(post_s) > 1 else 0.0
    return [
        2.0 if known else -2.0,
        4.0 * (post - slow),
        4.0 * (post - pre),
        4.0 * (post - median8),
        4.0 * (both - median8),
        2.0 if len(post_s) > 1 else -2.0,
        second,
    ]
