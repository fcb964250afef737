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
    (
        _,
        _,
        amplitude,
        usual_amplitude,
        faded_amplitude,
        noise,
        slope,
        usual_slope,
        last_amplitude,
        last_slope,
        before,
        after,
        rival,
        deflection,
        ambient,
        gap,
        usual_rr,
        last_rr,
        second_last_rr,
        before_at,
        after_at,
        *likenesses_and_shape,
    ) = measurements.T
    columns = (
        _against(amplitude, usual_amplitude),
        _against(amplitude, faded_amplitude),
        _against(amplitude, noise),
        _against(slope, usual_slope),
        _against(amplitude, last_amplitude),
        _against(slope, last_slope),
        _against(before, amplitude),
        _against(after, amplitude),
        _against(rival, amplitude),
        _against(noise, usual_amplitude),
        _against(10 * deflection, amplitude),
        ambient / amplitude,
        _against(amplitude, np.full_like(amplitude, _USUAL_LEVEL_MV_S)),
        np.minimum(gap / usual_rr, 3.0),
        np.minimum(gap / ANALYSIS_RATE_HZ, 3.0),
        np.minimum(gap / last_rr, 3.0),
        np.minimum(gap / second_last_rr, 3.0),
        np.minimum(usual_rr / ANALYSIS_RATE_HZ, 2.0),
        np.minimum((gap + after_at) / usual_rr, 3.0),
        before_at / 100,
        after_at / 100,
        *likenesses_and_shape,
    )
    return np.stack(columns, axis=1)


def _against(a: Signal, b: Signal) -> Signal:
    """0 where a is nothing against b, 0.5 where they are equal, 1 where b is nothing against a."""
    root_a, root_b = np.sqrt(a), np.sqrt(b)
    share: Signal = root_a / np.maximum(root_a + root_b, 1e-9)
    return share


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
