"""Log odds that a candidate is a heart beat: two small networks, one without and one with the candidate's future."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.signal import beat_weights
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]

MEASUREMENTS = 31
"""Numbers that describe a candidate, in `beats`' order: first whether its future is known (1) or not (0), then its R
peak's sample, by which training labels it."""
INPUTS = 31
"""What the networks see of them."""
SEARCHBACK_LOGIT = -2.0
"""In a pause that is too long, a candidate with at least these log odds is the beat that was missed."""

_USUAL_LEVEL_MV_S = 3.0
_ONE = [2, 2, 2, 6, 2, 6, 10, 11, 12, 5, 13, 14, 2]
_OTHER = [3, 4, 5, 7, 8, 9, 2, 2, 2, 3, 2, 2, 2]
"""Measurements that are held against one another: amplitudes and slopes, by the order of the first inputs."""
_TIMED = [2, 14, 15, 16, 17, 18, 19, 20]
"""Amplitude and ambient; gap, usual and last two RR intervals; where the largest neighbours are."""
_BLOCK = 32
"""Candidates looked at at once: as many as fit a processor's cache."""


def logits(measurements: Signal) -> Signal:
    """Log odds (n,) for candidates (n, MEASUREMENTS).

    One hidden layer of rectified units each. The sums are trees of element-wise additions, so a candidate's result
    has the same bits whatever else is in the batch; a matrix product would not promise that.
    """
    out = np.empty(len(measurements))
    final = measurements[:, 0] > 0.5
    x = inputs(measurements)
    for chosen, hidden, output in ((final, *_CONFIRMED), (~final, *_PROVISIONAL)):
        if chosen.any():
            out[chosen] = _network(x[chosen], hidden, output)
    return out


def inputs(measurements: Signal) -> Signal:
    """The networks' inputs (n, INPUTS), free of the amplifier's gain but for one, all of order 1.

    Only exact operations (no logarithm), so that a machine's vector unit cannot make a difference.
    """
    known = np.ascontiguousarray(measurements.T)
    amplitude, ambient, gap, usual_rr, last_rr, second_last_rr, before_at, after_at = known[_TIMED]
    one, other = known[_ONE], known[_OTHER]
    one[10] *= 10
    other[12] = _USUAL_LEVEL_MV_S
    x = np.empty((INPUTS, len(measurements)))
    x[:13] = _against(one, other)
    x[11] = ambient / amplitude
    x[13] = np.minimum(gap / usual_rr, 3.0)
    x[14] = np.minimum(gap / ANALYSIS_RATE_HZ, 3.0)
    x[15] = np.minimum(gap / last_rr, 3.0)
    x[16] = np.minimum(gap / second_last_rr, 3.0)
    x[17] = np.minimum(usual_rr / ANALYSIS_RATE_HZ, 2.0)
    x[18] = np.minimum((gap + after_at) / usual_rr, 3.0)
    x[19] = before_at / 100
    x[20] = after_at / 100
    x[21:] = known[21:]
    return np.ascontiguousarray(x.T)


def _against(a: Signal, b: Signal) -> Signal:
    """0 where a is nothing against b, 0.5 where they are equal, 1 where b is nothing against a."""
    root_a, root_b = np.sqrt(a), np.sqrt(b)
    share: Signal = root_a / np.maximum(root_a + root_b, 1e-9)
    return share


def _network(x: Signal, hidden: Signal, output: Signal) -> Signal:
    blocks = [_block(x[start : start + _BLOCK], hidden, output) for start in range(0, len(x), _BLOCK)]
    return np.concatenate(blocks)


def _block(x: Signal, hidden: Signal, output: Signal) -> Signal:
    with_bias = np.zeros((len(x), len(hidden)))
    with_bias[:, :INPUTS] = x
    with_bias[:, INPUTS] = 1.0
    units = _tree_sum(with_bias[:, :, None] * hidden)
    active = np.ones((len(x), len(output)))
    active[:, : units.shape[1]] = np.maximum(units, 0.0)
    return _tree_sum(active * output)


def _tree_sum(x: Signal) -> Signal:
    """Sum over axis 1, whose length is a power of two, by halving."""
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0]


def _padded(rows: Signal) -> Signal:
    """Zeros appended along axis 0 up to the next power of two."""
    length = 1 << (len(rows) - 1).bit_length()
    return np.concatenate((rows, np.zeros((length - len(rows), *rows.shape[1:]))))


_CONFIRMED = _padded(np.array(beat_weights.CONFIRMED_HIDDEN)), _padded(np.array(beat_weights.CONFIRMED_OUTPUT))
_PROVISIONAL = _padded(np.array(beat_weights.PROVISIONAL_HIDDEN)), _padded(np.array(beat_weights.PROVISIONAL_OUTPUT))
