"""One person's memory of beats: a single numpy record, so that those of a ward are stacked and computed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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
RR_QUANTILES = np.array([0.10, 0.25, 0.50, 0.75, 0.90])
MEAN_BEATS = np.array([128.0, 512.0, 2048.0])  # the longest outlasts a supraventricular tachycardia of many minutes
STEP_QUANTILES = np.array([0.25, 0.50, 0.75])
NO_BEAT = -(1 << 40)
"""In place of an R peak: longer ago than anything that is looked at."""
FADE = 1.0 - 1.0 / 600.0
"""Of the weights of clusters, a beat."""
TEMPLATE_BEATS = 32.0
"""A mean beat is learnt no slower than from so many."""

WEIGHT, LATE, RR_RATIO, FULL_BEATS, SIZE, WIDTH, SLOPE = range(7)
"""What is counted of a cluster: its beats and its late beats, fading over ten minutes; the mean log of RR over the slow
median; beats in its full template; and of its late beats mean QRS amplitude (mV), equivalent width (samples) and slope
(mV/sample). Of a cluster of P waves, the first three."""
QRS_SHAPE = slice(SIZE, SLOPE + 1)

RECORD = np.dtype(
    [
        ("beats", np.int64),
        ("last_r", np.int64),  # R peak of the last beat, samples of the run
        ("last_cluster", np.int64),
        ("rr_known", np.int64),  # RR intervals seen so far
        ("steps_known", np.int64),  # steps from one interval to the next, likewise
        ("fast_run", np.int64),  # beats since the last one that was not early by the longest mean
        # Log of that run's first interval over the median before it: a leap begins a tachycardia, a slope does not.
        ("fast_run_onset", np.float64),
        # Mean of the P region's difference to normal over some thirty beats: without P waves it never settles.
        ("p_unsteadiness", np.float64),
        ("rr_quantiles", np.float64, len(RR_QUANTILES)),  # slow quantiles of log RR (s)
        ("rr_means", np.float64, len(MEAN_BEATS)),  # means of log RR that fade over minutes, a quarter hour, an hour
        ("rr_log", np.float64, RR_LENGTH),  # recent log RR, newest last
        ("step_quantiles", np.float64, len(STEP_QUANTILES)),  # slow quantiles of |log RR - log RR before|
        ("counts", np.float64, (CLUSTERS, SLOPE + 1)),
        ("p_counts", np.float64, (P_CLUSTERS, RR_RATIO + 1)),
        # QRS similarity to normal, P correlation, P and T difference of the last beats, newest first.
        ("history", np.float64, (4, HISTORY_LENGTH)),
        ("last_core", np.float32, CORE),
        ("cores", np.float32, (CLUSTERS, CORE)),  # mean QRS of each cluster, mV
        ("full", np.float32, (CLUSTERS, WINDOW)),  # mean window of each cluster's late beats, mV
        ("p_waves", np.float32, (P_CLUSTERS, P_WAVE)),  # mean P region of each of its clusters, mV, without its mean
    ],
    align=True,
)

Stack = npt.NDArray[np.void]
"""Records (n,) of several people."""


def _new() -> npt.NDArray[np.uint8]:
    record = np.zeros(1, RECORD)
    record["last_r"] = NO_BEAT
    record["counts"][:, :, QRS_SHAPE] = 1.0
    return record.view(np.uint8)


@dataclass(slots=True, eq=False)
class FeatureState:
    """One person's memory: about 6 kB, mutated by `BeatFeatures.push`."""

    memory: npt.NDArray[np.uint8] = field(default_factory=_new)
    """The bytes of one RECORD: records are stacked and put back three times as fast as bytes."""

    @property
    def record(self) -> Stack:
        """The RECORD (1,), to be read and written in."""
        return self.memory.view(RECORD)


def stack(states: Sequence[FeatureState]) -> Stack:
    """A copy of the records of several people, at least one."""
    return np.concatenate([state.memory for state in states]).view(RECORD)


def put_back(stacked: Stack, states: Sequence[FeatureState]) -> None:
    """Each record of the stack into the state that it came from."""
    for state, row in zip(states, stacked.view(np.uint8).reshape(len(states), -1), strict=True):
        state.memory[:] = row
