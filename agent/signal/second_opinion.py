"""A second opinion on where the beats are: a network's steps become beats, and those are compared with the detector's.

Two detectors that work differently rarely make the same mistake; how far they agree over ten seconds (bSQI: Li, Mark &
Clifford, Physiol Meas 2008) says whether the beats of those seconds may be believed. The network looks at the
morphology path once a second and says of each 40 ms step, half a second back, whether an R peak lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.signal.beats import BeatMark
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

BEFORE_S = 3.0
"""The window: the morphology path's last three seconds ..."""
HOP_S = 1.0
"""... at every whole second of the run."""
PREPARE = ("decimate_2", "moving_mean_baseline", "scale_window_and_level")
STEPS = 25
SIGNAL_SHAPE = (2, 250)
WINDOW = round(BEFORE_S * ANALYSIS_RATE_HZ)
HOP = round(HOP_S * ANALYSIS_RATE_HZ)
STEP = HOP // STEPS
"""Samples a step."""
FIRST_STEP = 350
"""Where in the window the first step begins: 600 ms of path follow the last, for a beat is known by what follows."""
AGREEMENT_S = 10.0
MATCH_S = 0.150
_MATCH = int(MATCH_S * ANALYSIS_RATE_HZ)
_NEVER = 1 << 62
BEAT_SUM = 0.45
"""Least sum of the probabilities of three neighbouring steps that is a beat."""

_SMOOTH = 25
"""Width, at 125 Hz, of the moving mean that is taken off: 200 ms keeps QRS complexes and flattens T waves."""
_LEAST_SCALE_MV = 0.05
"""A quiet window is not blown up beyond this."""
_LEVEL_MV = 0.3
"""Where the second channel, which keeps absolute size, bends."""
_APART = 4
"""A beat is the largest sum within this many steps on either side: no two are nearer than 200 ms."""
_KNOWN = WINDOW - FIRST_STEP - HOP + MORPHOLOGY_DELAY
"""Samples, in the input's time, from the end of the last step to the end of the window."""
HORIZON = _KNOWN + (_APART + 1) * STEP
"""Both opinions are complete up to this many samples before the window's end: 0.85 s. The detector takes 0.6 s."""


def prepare(windows: Signal) -> Float32:
    """The network's `signal` input (rows, 2, 250) float32 of morphology windows (rows, 750) in mV at 250 Hz.

    Both channels are the window at 125 Hz less its moving mean over 200 ms: one as a share of the window's largest
    deflection, one of absolute size with large values compressed. A row's bits depend on that row only. Raises
    ValueError on another shape.
    """
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise ValueError(f"windows have shape {windows.shape}, expected (rows, {WINDOW})")
    centred = (windows - windows[:, :1]).astype(np.float32)
    halved = np.float32(0.5) * (centred[:, ::2] + centred[:, 1::2])
    sums = np.cumsum(halved, axis=1, dtype=np.float32)
    around = (sums[:, _SMOOTH:] - sums[:, :-_SMOOTH]) / np.float32(_SMOOTH)  # around[:, i]: halved[:, i + 1 … i + 25]
    half = _SMOOTH // 2
    quick = halved[:, half + 1 : half + 1 + around.shape[1]] - around
    size = np.abs(quick)
    scale = np.maximum(size.max(axis=1, keepdims=True), np.float32(_LEAST_SCALE_MV))
    kept = quick[:, -SIGNAL_SHAPE[1] :]
    both = np.empty((len(windows), *SIGNAL_SHAPE), dtype=np.float32)
    both[:, 0] = kept / scale
    both[:, 1] = kept / (size[:, -SIGNAL_SHAPE[1] :] + np.float32(_LEVEL_MV))
    return both


@dataclass(slots=True, eq=False)
class OpinionState:
    """One patient's memory of a run; mutated by `SecondOpinion.push`."""

    tail: list[float] = field(default_factory=list)
    """Probabilities of the last steps before those to come."""
    begun: int | None = None
    """First sample the network has spoken of; None before the first window."""
    own: list[int] = field(default_factory=list)
    """R peaks of the network, and of the detector, of the last seconds."""
    detected: list[BeatMark] = field(default_factory=list)


class SecondOpinion:
    """Turns each hop's step probabilities into beats and says how far they are the detector's.

    A pure function of the run: `push` is called once for each multiple of HOP_S from BEFORE_S on, with all the marks
    that came since, and looks at those decided before the window's end, so any chunking gives the same answer.
    """

    def new_state(self) -> OpinionState:
        """Memory for a run that has not begun."""
        return OpinionState()

    def push(
        self, state: OpinionState, end_index: int, probabilities: Sequence[float], confirmed: Sequence[BeatMark]
    ) -> float | None:
        """How far both agree in the AGREEMENT_S up to HORIZON before `end_index`.

        `end_index`: samples of the run in the window and before; `probabilities`: (STEPS,) of the window that ends
        there; `confirmed`: the detector's new confirmed marks, those of later samples included. The answer is the
        share of beats seen by both (within MATCH_S) among those seen by either; 1 where neither sees any, None until
        both have been listening for three seconds. Raises ValueError on another number of steps.
        """
        if len(probabilities) != STEPS:
            raise ValueError(f"{len(probabilities)} probabilities, expected {STEPS}")
        state.own += self.beats(state, end_index, probabilities)
        state.detected += confirmed
        to = end_index - HORIZON
        oldest = to - round((AGREEMENT_S + MATCH_S) * ANALYSIS_RATE_HZ)
        state.own = [r for r in state.own if r >= oldest]
        state.detected = [mark for mark in state.detected if mark.r_index >= oldest]
        assert state.begun is not None  # noqa: S101 (set by `beats`)
        start = max(to - round(AGREEMENT_S * ANALYSIS_RATE_HZ), state.begun + STEP * _APART)
        if to - start < 3 * ANALYSIS_RATE_HZ:
            return None
        known = sorted(mark.r_index for mark in state.detected if mark.decided_index < end_index)
        return agreement(known, state.own, start, to)

    def beats(self, state: OpinionState, end_index: int, probabilities: Sequence[float]) -> list[int]:
        """R peaks, samples in the input's time, that these steps make certain; ascending over a run."""
        first = end_index - _KNOWN - HOP
        if state.begun is None:
            state.begun = first
        values = [*state.tail, *(float(p) for p in probabilities)]
        offset = first - STEP * len(state.tail)
        state.tail = values[-2 * (_APART + 1) :]
        sums = [x + y + z for x, y, z in zip(values, values[1:], values[2:], strict=False)]  # sums[i]: of step i + 1
        found: list[int] = []
        for i in range(_APART, len(sums) - _APART):
            if (
                sums[i] < BEAT_SUM
                or sums[i] < max(sums[i + 1 : i + _APART + 1])
                or sums[i] <= max(sums[i - _APART : i])
            ):
                continue
            centre = i + 1.5 + (values[i + 2] - values[i]) / sums[i]
            found.append(offset + round(centre * STEP))
        return found


def agreement(detected: Sequence[int], own: Sequence[int], start: int, stop: int) -> float:
    """Share of the beats in samples [start, stop) of either list, ascending, that both have; 1 where there are none.

    The earlier of the two current beats is paired with the other if they are near enough and the other is not nearer
    to the earlier one's successor, as in `agent.scoring.match_beats`. A pair counts where its earlier beat lies.
    """
    both = either = 0
    a, b = [*detected, _NEVER], [*own, _NEVER]
    i = j = 0
    while (first := min(a[i], b[j])) < stop:
        ours, theirs, k = (a, b, j) if a[i] <= b[j] else (b, a, i)
        other = theirs[k]
        i, j = (i + 1, j) if ours is a else (i, j + 1)
        following = ours[i] if ours is a else ours[j]
        paired = other - first <= _MATCH and abs(following - other) >= other - first
        if paired:
            i, j = (i, j + 1) if ours is a else (i + 1, j)
        if first >= start:
            either += 1
            both += paired
    return both / either if either else 1.0
