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

from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Record = npt.NDArray[np.void]

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
_TAIL = 2 * (_APART + 1)
"""Steps before those to come whose probabilities must be known."""
_KEPT = 64
"""Own beats remembered: more than those 200 ms apart of AGREEMENT_S and a hop."""
_KNOWN = WINDOW - FIRST_STEP - HOP + MORPHOLOGY_DELAY
"""Samples, in the input's time, from the end of the last step to the end of the window."""
HORIZON = _KNOWN + (_APART + 1) * STEP
"""Both opinions are complete up to this many samples before the window's end: 0.85 s. The detector takes 0.6 s."""


def prepare(windows: npt.NDArray[np.floating]) -> Float32:
    """The network's `signal` input (rows, 2, 250) float32 of morphology windows (rows, 750) in mV at 250 Hz.

    Both channels are the window at 125 Hz less its moving mean over 200 ms: one as a share of the window's largest
    deflection, one of absolute size with large values compressed. A row's bits depend on that row only. Raises
    ValueError on another shape.
    """
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise ValueError(f"windows have shape {windows.shape}, expected (rows, {WINDOW})")
    centred = (windows - windows[:, :1]).astype(np.float32, copy=False)
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


_MEMORY = np.dtype([("begun", np.int64), ("tail", np.float64, _TAIL), ("own", np.int64, _KEPT)])


def _new_memory() -> Int64:
    memory = np.zeros(1, dtype=_MEMORY)
    memory["begun"], memory["own"] = _NEVER, _NEVER
    return memory.view(np.int64)


@dataclass(slots=True, eq=False)
class OpinionState:
    """One patient's memory of a run; mutated by `SecondOpinion.push`."""

    words: Int64 = field(default_factory=_new_memory)
    """A _MEMORY. `begun`: first sample the network has spoken of; `tail`: probabilities of the last steps before those
    to come; `own`: its R peaks of the last seconds, ascending. _NEVER stands where there is none."""


class SecondOpinion:
    """Turns each hop's step probabilities into beats and says how far they are the detector's.

    A pure function of the run: `push` is called once for each multiple of HOP_S from BEFORE_S on, with the marks of the
    seconds before, and looks at those decided before the window's end, so any chunking gives the same answer.
    """

    def new_state(self) -> OpinionState:
        """Memory for a run that has not begun."""
        return OpinionState()

    def push(
        self,
        states: Sequence[OpinionState],
        end_indices: Sequence[int],
        probabilities: npt.NDArray[np.floating],
        confirmed: Sequence[Int64],
    ) -> list[float | None]:
        """How far both agree in the AGREEMENT_S up to HORIZON before each of `end_indices`; one answer a patient.

        `states`: of different patients; `end_indices`: samples of the run in the window and before; `probabilities`:
        (patients, STEPS) of the windows that end there; `confirmed`: of each the detector's confirmed beats, (beats,
        2) R peak and sample at which it was decided, those of AGREEMENT_S + MATCH_S before HORIZON at least. The
        answer is the share of beats seen by both (within MATCH_S) among those seen by either; 1 where neither sees
        any, None until both have been listening for three seconds. Raises ValueError on another number of steps.
        """
        end = np.asarray(end_indices, dtype=np.int64)
        to = end - HORIZON
        oldest = to - round((AGREEMENT_S + MATCH_S) * ANALYSIS_RATE_HZ)
        memory, rows, r = self._beats(states, end, probabilities)
        own = _forgotten(np.concatenate((memory["own"], _in_rows(rows, r, len(states))), axis=1), oldest)
        memory["own"] = own[:, :_KEPT]
        words = memory.view(np.int64).reshape(len(states), -1)
        for row, state in enumerate(states):
            state.words[:] = words[row]
        start = np.maximum(to - round(AGREEMENT_S * ANALYSIS_RATE_HZ), memory["begun"] + STEP * _APART)
        detected = _detected(confirmed, end, oldest)
        alike = each_has_its_own(detected, own, to).tolist()
        listened = (to - start >= 3 * ANALYSIS_RATE_HZ).tolist()
        return [
            None if not has else 1.0 if same else agreement(detected[row].tolist(), own[row].tolist(), *span)
            for row, (has, same, *span) in enumerate(zip(listened, alike, start.tolist(), to.tolist(), strict=True))
        ]

    def beats(
        self, states: Sequence[OpinionState], end_indices: Sequence[int], probabilities: npt.NDArray[np.floating]
    ) -> list[list[int]]:
        """Of each patient the R peaks, samples in the input's time, that these steps make certain; in order over a run.

        Arguments as of `push`, which finds them itself.
        """
        memory, rows, r = self._beats(states, np.asarray(end_indices, dtype=np.int64), probabilities)
        words = memory.view(np.int64).reshape(len(states), -1)
        for row, state in enumerate(states):
            state.words[:] = words[row]
        return [r[rows == row].tolist() for row in range(len(states))]

    @staticmethod
    def _beats(
        states: Sequence[OpinionState], end: Int64, probabilities: npt.NDArray[np.floating]
    ) -> tuple[Record, Int64, Int64]:
        """The states' memories with these steps as their tails; and beats in order: whose, and R peaks."""
        if probabilities.shape != (len(states), STEPS):
            raise ValueError(f"probabilities have shape {probabilities.shape}, expected {(len(states), STEPS)}")
        memory: Record = np.concatenate([state.words for state in states]).view(_MEMORY)
        first = end - _KNOWN - HOP
        fresh = memory["begun"] == _NEVER
        memory["begun"][fresh] = first[fresh]
        steps = np.concatenate((memory["tail"], probabilities), axis=1, dtype=np.float64)
        memory["tail"] = steps[:, -_TAIL:]
        sums = steps[:, :-2] + steps[:, 1:-1] + steps[:, 2:]  # sums[:, i]: of the steps about step i + 1
        of_two = np.maximum(sums[:, 1:], sums[:, :-1])
        of_four = np.maximum(of_two[:, 2:], of_two[:, :-2])
        middle = sums[:, _APART:-_APART]
        largest = (middle >= BEAT_SUM) & (middle >= of_four[:, _APART + 1 :]) & (middle > of_four[:, : -_APART - 1])
        largest[fresh, :_TAIL] = False
        rows, i = np.nonzero(largest)
        i += _APART
        # A run that has just begun has no tail: it counts from its first step.
        before = np.where(fresh, 0, _TAIL)[rows]
        centre = (i - _TAIL + before) + 1.5 + (steps[rows, i + 2] - steps[rows, i]) / sums[rows, i]
        return memory, rows, first[rows] - STEP * before + np.rint(centre * STEP).astype(np.int64)


def _in_rows(rows: Int64, values: Int64, count: int) -> Int64:
    """(count, most of a row): values, ordered by their rows, at the front of those; _NEVER behind."""
    each = np.bincount(rows, minlength=count)
    filled = np.full((count, int(each.max(initial=0))), _NEVER)
    filled[rows, np.arange(len(rows)) - (np.cumsum(each) - each)[rows]] = values
    return filled


def _forgotten(beats: Int64, oldest: Int64) -> Int64:
    """(patients, n) beats, ascending, those before `oldest` forgotten."""
    kept = np.where(beats < oldest[:, None], _NEVER, beats)
    kept.sort(axis=1)
    return kept


def _detected(confirmed: Sequence[Int64], end: Int64, oldest: Int64) -> Int64:
    """(patients, n): R peaks from `oldest` on that were confirmed before `end`, ascending, _NEVER behind them."""
    rows = np.repeat(np.arange(len(confirmed)), [len(beats) for beats in confirmed])
    beats = np.concatenate(confirmed)
    known = (beats[:, 1] < end[rows]) & (beats[:, 0] >= oldest[rows])
    of_rows = _in_rows(rows[known], beats[known, 0], len(confirmed))
    of_rows.sort(axis=1)
    return of_rows


def each_has_its_own(detected: Int64, own: Int64, stop: Int64) -> npt.NDArray[np.bool_]:
    """(patients,): whether the k-th beat of one is paired with the k-th of the other up to `stop`: they agree fully.

    Most of the time that is so, and need not be gone through beat by beat, as `agreement` does with the others.
    """
    width = max(detected.shape[1], int((own != _NEVER).sum(axis=1).max(initial=0))) + 1
    a, b = (_as_wide(beats, width) for beats in (detected, own))
    first, other = np.minimum(a, b), np.maximum(a, b)
    apart = other - first
    following = np.where(a[:, :-1] <= b[:, :-1], a[:, 1:], b[:, 1:])
    paired = (apart[:, :-1] <= _MATCH) & (np.abs(following - other[:, :-1]) >= apart[:, :-1])
    alike: npt.NDArray[np.bool_] = (paired | (first[:, :-1] >= stop[:, None])).all(axis=1)
    return alike


def _as_wide(beats: Int64, width: int) -> Int64:
    wide = np.full((len(beats), width), _NEVER)
    wide[:, : beats.shape[1]] = beats[:, :width]
    return wide


def agreement(detected: Sequence[int], own: Sequence[int], start: int, stop: int) -> float:
    """Share of the beats in samples [start, stop) of either list, ascending, that both have; 1 where there are none.

    The earlier of the two current beats is paired with the other if they are near enough and the other is not nearer
    to the earlier one's successor, as in `agent.scoring.match_beats`. A pair counts where its earlier beat lies.
    """
    both = either = 0
    a, b = [*detected, _NEVER], [*own, _NEVER]
    i = j = 0
    x, y = a[0], b[0]
    while x < stop or y < stop:
        ahead = x <= y
        first, other, following = (x, y, a[i + 1]) if ahead else (y, x, b[j + 1])
        paired = other - first <= _MATCH and abs(following - other) >= other - first
        if ahead or paired:
            i += 1
            x = a[i]
        if paired or not ahead:
            j += 1
            y = b[j]
        if first >= start:
            either += 1
            both += paired
    return both / either if either else 1.0
