"""Log odds that a candidate is a heart beat: two small networks, one without and one with the candidate's future."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.signal import beat_weights

Signal = npt.NDArray[np.float64]

INPUTS = 30
"""Numbers that describe a candidate; the first says whether its future is known (1) or not (0)."""
SEARCHBACK_LOGIT = -2.0
"""In a pause that is too long, a candidate with at least these log odds is the beat that was missed."""


def logits(descriptions: Signal) -> Signal:
    """Log odds (n,) for candidates (n, INPUTS).

    One hidden layer of rectified units each. The sums are trees of element-wise additions, so a candidate's result
    has the same bits whatever else is in the batch; a matrix product would not promise that.
    """
    out = np.empty(len(descriptions))
    final = descriptions[:, 0] > 0.5
    for chosen, hidden, output in ((final, *_CONFIRMED), (~final, *_PROVISIONAL)):
        if chosen.any():
            out[chosen] = _network(descriptions[chosen], hidden, output)
    return out


def _network(x: Signal, hidden: Signal, output: Signal) -> Signal:
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
