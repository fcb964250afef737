"""Whether a second of ECG can be judged, and if not, why; a still heart is not a loose electrode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agent.signal import row_counts
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]

SECOND = ANALYSIS_RATE_HZ
"""Samples that one mark covers."""

FLAT_RANGE_MV = 0.001
"""A second whose samples span less than 1 µV is no signal: the quietest true asystole among the Challenge 2015 alarms
spans 9 µV, and one step of a wearable's converter is 1 to 5 µV."""
SATURATED_SHARE = 0.2
"""Share of a second spent exactly at that second's largest or smallest value, when ..."""
SATURATED_MV = 1.0
"""... the other end is at least this far: clipping at a rail while the signal still moves."""
DRIFT_MV = 10.0
"""Range within a second of the 0.05 to 40 Hz signal that no heart makes: front ends clip at 5 to 10 mV, and of
42 hours of MIT-BIH and SVDB seconds none reaches it."""
LEAD_OFF_HISS_MV = 0.5
"""RMS above 40 Hz (in effect mains) beyond which the electrode does not hold: clean records stay below 0.1 mV."""
NOISE_HISS_MV = 0.12
"""RMS above 40 Hz beyond which muscle or mains hides waves (the 99.9th percentile of clean seconds is 0.07 mV) ..."""
NOISE_SHARE = 0.12
"""... when it is also this share of the second's RMS about its mean: tall beats and pacemaker spikes have edges too."""
WANDER_MV = 2.5
"""Range of the 0.05 to 40 Hz signal within a second from which motion is suspected, when ..."""
WANDER_RATIO = 8.0
"""... it is also this many times that of the 8 to 20 Hz band. QRS stay below 3, ventricular tachycardia and coarse
fibrillation below 8; a still heart's baseline moves less than WANDER_MV."""

_BLOCK = 64
"""Patients judged at once: as many as fit a processor's cache."""


class QualityMark(NamedTuple):
    """The verdict on one second."""

    start_index: int
    end_index: int
    """Samples [start, end) at 250 Hz since the stretch began."""
    good: bool
    score: float
    """1 for a clean second down to 0 for none; `good` is 0.5 and above."""
    reason: str
    """"" | "flat" | "saturated" | "lead off" | "noise"."""
    activity_mv: float
    """Peak to peak of the detection path: large where a QRS is, small between beats and when the heart stands still."""


@dataclass(slots=True, eq=False)
class QualityState:
    """One patient's unfinished second; mutated by `SignalQuality.push`."""

    pending: Signal
    """(3, n): raw, detection and morphology samples of the unfinished second."""
    seconds: int = 0
    """Whole seconds judged since the stretch began."""


class SignalQuality:
    """One mark a second of the stretch's own 250-sample grid, each from that second alone.

    Absence of QRS is not a fault: a second is refused only for what a heart, beating or not, cannot do (samples that
    do not change at all, clipping, drift beyond any front end's range) or for noise that hides it.
    """

    def new_state(self) -> QualityState:
        """Memory for a stretch that has not begun."""
        return QualityState(np.empty((3, 0)))

    def push(
        self, states: Sequence[QualityState], x: Signal, detection: Signal, morphology: Signal
    ) -> list[list[QualityMark]]:
        """Take the next samples, each array [rows, n] in mV; return each row's marks for the seconds they complete.

        `x` is the unfiltered signal, the others `EcgFilters`' two paths. Raises ValueError when shapes disagree.
        """
        if not (x.shape == detection.shape == morphology.shape) or x.ndim != 2 or len(x) != len(states):
            raise ValueError(
                f"signals have shapes {x.shape}, {detection.shape} and {morphology.shape}, expected ({len(states)}, n)"
            )
        marks: list[list[QualityMark]] = [[] for _ in states]
        alike: dict[int, list[int]] = defaultdict(list)
        for row, state in enumerate(states):
            alike[state.pending.shape[1]].append(row)
        for rows in alike.values():
            own = (
                (x, detection, morphology) if len(rows) == len(states) else (x[rows], detection[rows], morphology[rows])
            )
            _push([states[row] for row in rows], own, [marks[row] for row in rows])
        return marks


def _push(states: Sequence[QualityState], signals: Sequence[Signal], marks: Sequence[list[QualityMark]]) -> None:
    """Rows whose unfinished seconds are equally long: judge those that end, keep those that begin."""
    filled = states[0].pending.shape[1]
    if filled:
        pending = np.concatenate([state.pending for state in states]).reshape(len(states), 3, filled)
        signals = [np.concatenate((pending[:, k], signal), axis=1) for k, signal in enumerate(signals)]
    whole, left = divmod(signals[0].shape[1], SECOND)
    if left or filled:
        ends = np.stack([signal[:, whole * SECOND :] for signal in signals], axis=1)
        for state, end in zip(states, ends, strict=True):
            state.pending = end.copy()
    if not whole:
        return
    for start in range(0, len(states), _BLOCK):
        block = slice(start, start + _BLOCK)
        judged = iter(_judge(*(signal[block, : whole * SECOND].reshape(-1, SECOND) for signal in signals)))
        for state, own in zip(states[block], marks[block], strict=True):
            for second in range(state.seconds, state.seconds + whole):
                score, reason, activity_mv = next(judged)
                start_index = second * SECOND
                own.append(QualityMark(start_index, start_index + SECOND, score >= 0.5, score, reason, activity_mv))
            state.seconds += whole


def _judge(x: Signal, detection: Signal, morphology: Signal) -> list[tuple[float, str, float]]:
    """Score, reason and activity (mV) of seconds, each signal (n, 250)."""
    low, high = x.min(axis=1), x.max(axis=1)
    span = high - low
    lows, highs = row_counts.marks(*x.shape), row_counts.marks(*x.shape)
    np.equal(x, low[:, None], out=lows[:, :SECOND])
    np.equal(x, high[:, None], out=highs[:, :SECOND])
    at_rail = np.maximum(row_counts.count(lows), row_counts.count(highs)) / SECOND
    # The high-frequency residue is differenced twice, so that slow waves do not count, and scaled to its RMS.
    residue = x[:, 2:] - 2.0 * x[:, 1:-1] + x[:, :-2]
    hiss = _rms(residue) / 6**0.5
    activity = _rms(x - _mean(x)[:, None])
    wander = morphology.max(axis=1) - morphology.min(axis=1)
    beat = detection.max(axis=1) - detection.min(axis=1)

    # Each fault as a number that reaches 1 where the second becomes unusable.
    clipping = np.where(span >= SATURATED_MV, at_rail / SATURATED_SHARE, 0.0)
    loose = np.maximum(wander / DRIFT_MV, hiss / LEAD_OFF_HISS_MV)
    hissing = np.minimum(hiss / NOISE_HISS_MV, hiss / (NOISE_SHARE * np.maximum(activity, 1e-9)))
    wandering = np.minimum(wander / WANDER_MV, wander / (WANDER_RATIO * np.maximum(beat, 1e-9)))
    flat = span < FLAT_RANGE_MV
    faults = np.stack((clipping, loose, hissing, wandering), axis=1)
    names = ("saturated", "lead off", "noise", "noise")
    # The first fault that is one names the second: a loose electrode is noisy too.
    fault_of = np.argmax(faults > 1.0, axis=1)
    scores = np.where(flat, 0.0, np.clip(1.0 - 0.5 * faults.max(axis=1), 0.0, 1.0))
    return [
        (score, "flat" if is_flat else names[fault] if score < 0.5 else "", size)
        for score, fault, is_flat, size in zip(
            scores.tolist(), fault_of.tolist(), flat.tolist(), beat.tolist(), strict=True
        )
    ]


def _mean(x: Signal) -> Signal:
    """Mean over axis 1."""
    mean: Signal = x.sum(axis=1) / x.shape[1]
    return mean


def _rms(x: Signal) -> Signal:
    """Root mean square over axis 1."""
    return np.sqrt(_mean(x * x))
