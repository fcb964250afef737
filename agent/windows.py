"""Questions put by the clock: every so often, each person's last seconds of signal to the models that look at rhythm.

A window ends at a multiple of its task's hop in a run of signal, counted in samples, so the windows, and with them the
answers, are the same however the signal is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal import rhythm_window, second_opinion, vf_window
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.track import EcgTrack

Float32 = npt.NDArray[np.float32]
TOGETHER = 256
"""Windows that are cut, prepared and shown to a network before the next ones: they stay in the processor's cache, and
a ward of any size costs no more memory than so many."""
Place = tuple[EcgTrack, int]
"""A window: whose, and the sample of the run at which it ends."""


@dataclass(frozen=True, slots=True)
class Question:
    """How a task's windows are cut."""

    hop: int
    """Samples from one window's end to the next one's."""
    window: int
    """Samples that a window spans."""
    whole: bool
    """Whether nothing is asked before a run holds a whole window."""
    judged_s: int
    """Seconds at a window's end that must pass the quality gate for its answer to count ..."""
    judged_share: float
    """... this share of them."""
    alarming: frozenset[str]
    """Answers on which an alarm may rest, and which must then be explained."""
    inputs: Callable[[Sequence[Place]], Mapping[str, Float32]]
    """The network's inputs for a batch of windows."""

    def ends(self, begin: int, end: int) -> range:
        """Where windows end among the samples (begin, end] of a run."""
        first = max(begin // self.hop + 1, -(-self.window // self.hop) if self.whole else 1)
        return range(first * self.hop, end + 1, self.hop)

    def usable(self, track: EcgTrack, end: int) -> bool:
        """Whether enough of the window's last seconds passed the quality gate."""
        seconds = min(self.judged_s, end // ANALYSIS_RATE_HZ)
        return track.good_seconds(end, seconds) >= self.judged_share * seconds


def _paths(places: Sequence[Place], samples: int) -> Float32:
    """(places, samples): the last of the morphology path at each place."""
    paths = np.empty((len(places), samples), dtype=np.float32)
    for path, (track, end) in zip(paths, places, strict=True):
        path[:] = track.path(end - samples, end)
    return paths


def _vf_inputs(places: Sequence[Place]) -> Mapping[str, Float32]:
    signal, context = vf_window.prepare(_paths(places, vf_window.WINDOW_SAMPLES))
    return {"signal": signal, "context": context}


def _rhythm_inputs(places: Sequence[Place]) -> Mapping[str, Float32]:
    paths = np.zeros((len(places), rhythm_window.SAMPLES), dtype=np.float32)
    known = np.empty(len(places), dtype=np.int64)
    for row, (track, end) in enumerate(places):
        last = end // rhythm_window.THIN
        held = track.thinned.read(max(track.thinned.first, last - rhythm_window.SAMPLES), last)
        paths[row, rhythm_window.SAMPLES - len(held) :] = held
        known[row] = len(held)
    signal, context = rhythm_window.prepare(paths, known, _beats(places))
    return {"signal": signal, "context": context}


def _beats(places: Sequence[Place]) -> list[npt.NDArray[np.int64]]:
    """Of each place the R peaks in its rhythm window that were confirmed before its end, from its start, ascending."""
    confirmed = [track.confirmed for track, _ in places]
    ends = np.array([end for _, end in places], dtype=np.int64)
    starts = ends - rhythm_window.SAMPLES * rhythm_window.THIN
    rows = np.repeat(np.arange(len(places)), [len(beats) for beats in confirmed])
    r_index, decided = np.concatenate(confirmed).T
    inside = (decided < ends[rows]) & (r_index >= np.maximum(starts, 0)[rows])
    rows, beats = rows[inside], (r_index - starts[rows])[inside]
    beats = beats[np.lexsort((beats, rows))]
    stops = np.cumsum(np.bincount(rows, minlength=len(places))).tolist()
    return [beats[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def _qrs_inputs(places: Sequence[Place]) -> Mapping[str, Float32]:
    return {"signal": second_opinion.prepare(_paths(places, second_opinion.WINDOW))}


SECOND_OPINION = Question(
    hop=second_opinion.HOP,
    window=second_opinion.WINDOW,
    whole=True,
    judged_s=0,
    judged_share=0.0,
    alarming=frozenset(),
    inputs=_qrs_inputs,
)
"""The question whose answer is beats."""
QUESTIONS: dict[str, Question] = {
    "rhythm": Question(
        hop=round(rhythm_window.HOP_S * ANALYSIS_RATE_HZ),
        window=rhythm_window.SAMPLES * rhythm_window.THIN,
        whole=False,
        judged_s=round(rhythm_window.BEFORE_S),
        judged_share=0.8,
        alarming=frozenset({"A"}),
        inputs=_rhythm_inputs,
    ),
    "vf": Question(
        hop=round(vf_window.HOP_S * ANALYSIS_RATE_HZ),
        window=vf_window.WINDOW_SAMPLES,
        whole=True,
        judged_s=3,
        judged_share=1.0,
        alarming=frozenset({"shockable"}),
        inputs=_vf_inputs,
    ),
}
"""Per task that is asked by the clock for a label."""

KEPT_SAMPLES = max(4 * ANALYSIS_RATE_HZ, vf_window.WINDOW_SAMPLES, second_opinion.WINDOW)
"""Of the morphology path that must be there between steps: for windows by the clock, and for a beat found by
search-back, which is confirmed up to 3 s after its R peak and whose window begins half a second before. The half minute
is only kept thinned."""
