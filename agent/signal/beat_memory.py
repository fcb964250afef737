"""What is remembered of one person's beats: arrays, so that those of a ward are stacked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

CLUSTERS = 6
"""QRS shapes kept."""
P_CLUSTERS = 4
"""P waves kept."""
WINDOW = 125
"""Samples of a beat at 125 Hz, R in their middle."""
CORE = 36
"""Those of its QRS."""
P_WAVE = 24
"""Those of its P wave."""
RR_LENGTH = 33
HISTORY_LENGTH = 4
FADE = 1.0 - 1.0 / 600.0
"""Of the weights of clusters, a beat: ten minutes."""
TEMPLATE_BEATS = 32.0
"""A mean beat is learnt no slower than from so many."""


def _part(before: slice, length: int) -> slice:
    return slice(before.stop, before.stop + length)


WEIGHT = slice(0, CLUSTERS)
"""Where in the numbers: beats of each cluster, fading over ten minutes."""
LATE = _part(WEIGHT, CLUSTERS)
"""Late beats of each cluster, fading likewise."""
FULL_BEATS = _part(LATE, CLUSTERS)
"""Beats in each cluster's full template."""
RR_RATIO = _part(FULL_BEATS, CLUSTERS)
"""Mean log of RR over the slow median, per cluster."""
SIZE = _part(RR_RATIO, CLUSTERS)
WIDTH = _part(SIZE, CLUSTERS)
SLOPE = _part(WIDTH, CLUSTERS)
"""Per cluster, of its late beats: mean QRS amplitude (mV), equivalent width (samples) and slope (mV/sample)."""
P_WEIGHT = _part(SLOPE, P_CLUSTERS)
P_LATE = _part(P_WEIGHT, P_CLUSTERS)
P_RR_RATIO = _part(P_LATE, P_CLUSTERS)
"""Of each cluster of P waves, as of those of QRS."""
RR_QUANTILES = _part(P_RR_RATIO, 5)
"""Slow quantiles of log RR (s)."""
RR_MEANS = _part(RR_QUANTILES, 3)
"""Means of log RR that fade over minutes, a quarter of an hour, an hour."""
STEP_QUANTILES = _part(RR_MEANS, 3)
"""Slow quantiles of |log RR - log RR before|."""
RR_LOG = _part(STEP_QUANTILES, RR_LENGTH)
"""Recent log RR, newest last."""
HISTORY = _part(RR_LOG, 4 * HISTORY_LENGTH)
"""QRS similarity to normal, P correlation, P and T difference of the last four beats, newest first."""
BEATS = HISTORY.stop
RR_KNOWN = BEATS + 1
"""RR intervals seen so far."""
STEPS_KNOWN = BEATS + 2
FAST_RUN = BEATS + 3
"""Beats since the last one that was not early by the longest mean."""
FAST_RUN_ONSET = BEATS + 4
"""Log of the run's first interval over the median before it: a leap begins a tachycardia, a slope does not."""
P_UNSTEADINESS = BEATS + 5
"""Mean of the P region's difference to normal over some thirty beats: without P waves it never settles."""
_NUMBERS = BEATS + 6
_P_WAVES = CLUSTERS * CORE
_LAST_CORE = _P_WAVES + P_CLUSTERS * P_WAVE


def _new_numbers() -> Float64:
    numbers = np.zeros(_NUMBERS)
    numbers[SIZE.start : SLOPE.stop] = 1.0
    return numbers


@dataclass(slots=True, eq=False)
class FeatureState:
    """One person's memory: about 6 kB, plain arrays and numbers, so it can be pickled into a snapshot."""

    last_r: int | None = None
    """R peak of the last beat, samples of the run."""
    last_cluster: int = 0
    numbers: Float64 = field(default_factory=_new_numbers)
    """All that is not a stretch of signal."""
    shapes: Float32 = field(default_factory=lambda: np.zeros(_LAST_CORE + CORE, np.float32))
    """Mean QRS of each cluster, mean P region of each of its clusters without its mean, and the last QRS, mV."""
    full: Float32 = field(default_factory=lambda: np.zeros((CLUSTERS, WINDOW), np.float32))
    """Mean window of each cluster's late beats, mV."""

    def core(self, cluster: int) -> Float32:
        """A cluster's mean QRS, to be read or written in."""
        return self.shapes[cluster * CORE : (cluster + 1) * CORE]

    def p_wave(self, cluster: int) -> Float32:
        """A cluster's mean P region, likewise."""
        return self.shapes[_P_WAVES + cluster * P_WAVE : _P_WAVES + (cluster + 1) * P_WAVE]

    @property
    def last_core(self) -> Float32:
        """The last QRS, likewise."""
        return self.shapes[_LAST_CORE:]


class Known(NamedTuple):
    """A copy of what is known of several people, a row each."""

    numbers: Float64
    cores: Float32
    """(n, CLUSTERS, CORE)"""
    p_waves: Float32
    """(n, P_CLUSTERS, P_WAVE)"""
    last_core: Float32
    """(n, CORE)"""


def known(states: Sequence[FeatureState]) -> Known:
    """What is known of several people, at least one."""
    rows = len(states)
    shapes = np.concatenate([state.shapes for state in states]).reshape(rows, -1)
    return Known(
        np.concatenate([state.numbers for state in states]).reshape(rows, -1),
        shapes[:, :_P_WAVES].reshape(rows, CLUSTERS, CORE),
        shapes[:, _P_WAVES:_LAST_CORE].reshape(rows, P_CLUSTERS, P_WAVE),
        shapes[:, _LAST_CORE:],
    )
