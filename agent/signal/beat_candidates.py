"""What might be a heart beat: local maxima of the slope envelope, found for a batch of patients at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]

_RATE = ANALYSIS_RATE_HZ
ISOLATION = 25
"""A candidate is the envelope's maximum over ± 100 ms."""
_ENVELOPE = 28
"""Width of the envelope's moving average: 112 ms, about a wide QRS (16 + 8 + 4 samples)."""
_FLOOR_MV_S = 1.0
"""Mean |slope| in the detection band below which nothing is a beat: what a QRS of about 0.05 mV gives. A flat line, the
residual noise of a lead that is off, or an asystole's baseline must not become beats however long they last."""
SHAPE = 24
"""Every other sample of the detection path over 192 ms, ending 4 samples after the envelope's maximum."""
_SEGMENT = np.arange(4 - 2 * SHAPE, 4)
_R_SEARCH = (-30, -2)
"""Where the R peak lies relative to the envelope's maximum, in samples of the input's time."""
_R_BASELINE = 49
"""The R peak is the largest deviation from the mean of the 196 ms around it: closest to MIT-BIH's annotators."""
_AROUND = np.array([0, -20, 20, *range(-ISOLATION, ISOLATION + 1, 5)])
"""Samples of the envelope about its maximum that a candidate is described by."""
_NEAR = np.arange(MORPHOLOGY_DELAY + _R_SEARCH[0] - _R_BASELINE // 2, ISOLATION)
"""Samples of the morphology path about the envelope's maximum in which the R peak and its surroundings lie."""
_R_IN_NEAR = slice(_R_BASELINE // 2, _R_BASELINE // 2 + _R_SEARCH[1] - _R_SEARCH[0])
_BASELINE_OF_R = np.minimum(np.arange(_R_SEARCH[1] - _R_SEARCH[0]), len(_NEAR) - _R_BASELINE)
"""Of those the ones that may be the R peak, and where the surroundings of each begin: none are newer than known."""
HISTORY = _ENVELOPE + 2 * ISOLATION
"""Samples of both paths that finding the next candidate needs."""
REJECTED = -12.0
"""Log odds of a candidate that was not worth describing."""


@dataclass(slots=True, eq=False)
class Candidate:
    """A local maximum of the slope envelope, with all that deciding about it needs."""

    peak: int
    """Sample of the envelope's maximum, by the arrival of the input."""
    r_index: int
    """Sample of the R peak in the input's time."""
    amplitude: float
    """Envelope there: mean |slope| of the detection path, mV/s."""
    slope: float
    """Steepest slope of the detection path, mV/s."""
    rise: float
    fall: float
    """Envelope 80 ms before and after, as a share of its maximum."""
    deflection: float
    """Height of the R peak above its surroundings, mV."""
    ambient: float
    """Least envelope within ± 100 ms, mV/s."""
    shape: Signal
    """(24,): the detection path around it, unit energy."""
    fit: float = 0.0
    """Likeness to the template when it was found."""
    logit: float = REJECTED
    provisional: bool = False


def find_candidates(seen: Sequence[int], detection: Signal, morphology: Signal) -> list[list[Candidate]]:
    """Candidates that became certain within the newest samples, per row, in order of time.

    Both paths are [rows, HISTORY + n]: what came before, then the newest samples; `seen` counts each row's samples
    before these.
    """
    rows, length = detection.shape
    n = length - HISTORY
    slope = np.abs(detection[:, 1:] - detection[:, :-1])  # slope[:, i] belongs to detection[:, i + 1]
    envelope = _moving_sum(slope, _ENVELOPE)
    envelope *= _RATE / _ENVELOPE
    lead = _ENVELOPE  # envelope[:, i] belongs to detection[:, i + lead]
    side = _moving_maximum(envelope, ISOLATION)  # side[:, i]: envelope[:, i … i + 24]
    start = ISOLATION  # the first maximum these samples can make certain
    centre = envelope[:, start : start + n]
    left = side[:, start - ISOLATION : start - ISOLATION + n]
    right = side[:, start + 1 : start + 1 + n]
    row, column = np.nonzero((centre > left) & (centre >= right) & (centre > _FLOOR_MV_S))
    found: list[list[Candidate]] = [[] for _ in range(rows)]
    if not len(row):
        return found

    in_envelope = (row * envelope.shape[1] + column + start)[:, None]
    at = column + start + lead  # column in the paths
    in_path = (row * length + at)[:, None]
    around = envelope.take(in_envelope + _AROUND)
    amplitude, rise, fall = around[:, 0], around[:, 1] / around[:, 0], around[:, 2] / around[:, 0]
    ambient = np.min(around[:, 3:], axis=1)
    segments = detection.take(in_path + _SEGMENT)
    steepest = _RATE * np.max(np.abs(segments[:, 1:] - segments[:, :-1]), axis=1)
    shapes = segments[:, ::2]
    energy = np.sqrt(_moving_sum(shapes * shapes, SHAPE))
    shapes = shapes / np.maximum(energy, 1e-9)

    near = morphology.take(in_path + _NEAR)
    baseline = _moving_sum(near, _R_BASELINE)[:, _BASELINE_OF_R] / _R_BASELINE
    deviation = np.abs(near[:, _R_IN_NEAR] - baseline)
    r_offset = np.argmax(deviation, axis=1) + _R_SEARCH[0]
    deflection = np.max(deviation, axis=1)

    peak = at + (np.asarray(seen)[row] - HISTORY)
    columns = (x.tolist() for x in (row, peak, peak + r_offset, amplitude, steepest, rise, fall, deflection, ambient))
    for (i, top, r_index, high, steep, up, down, tall, quiet), shape in zip(
        zip(*columns, strict=True), shapes, strict=True
    ):
        if r_index >= 0:
            found[i].append(Candidate(top, r_index, high, steep, up, down, tall, quiet, shape))
    return found


def _moving_sum(x: Signal, width: int) -> Signal:
    """Sums of x[:, i … i + width - 1] along axis 1, by doubling: the same additions for every i, in the same order."""
    out: Signal | None = None
    block, size, covered = x, 1, 0
    while True:
        if width & size:
            length = x.shape[1] - covered - size + 1
            part = block[:, covered : covered + length]
            out = part if out is None else out[:, :length] + part
            covered += size
        if covered == width:
            return x if out is None else out
        block = block[:, :-size] + block[:, size:]
        size *= 2


def _moving_maximum(x: Signal, width: int) -> Signal:
    """Maxima of x[:, i … i + width - 1] along axis 1."""
    out, covered = x, 1
    while covered < width:
        step = min(covered, width - covered)
        out = np.maximum(out[:, :-step], out[:, step:])
        covered += step
    return out
