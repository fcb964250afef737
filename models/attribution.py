"""Which samples an answer rests on: occlusion (Zeiler & Fergus 2014) on the network that gave the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Inputs = Mapping[str, Float32]


def occlusion(probabilities: Callable[[Inputs], Float32], window: Inputs, answer: int, pieces: int) -> Float32:
    """By how much the log odds of answer `answer` fall when each piece of the signal is taken away.

    Log odds, since a probability near one hardly moves whatever is taken from it.

    `probabilities`: of a batch of inputs, (batch, outputs); `window`: the inputs of one window, without a batch axis,
    among them `signal` (channels, samples). The signal is cut into `pieces` pieces of equal length, the last perhaps
    shorter; a piece is taken away by a straight line between the samples on either side of it, so that no edge is put
    in its place. Returns (pieces,) float32: positive where the piece spoke for the answer, negative against it.
    """
    signal = window["signal"]
    cuts = edges(signal.shape[1], pieces)
    rows = [signal, *(without(signal, [(low, high)]) for low, high in cuts)]
    batch = {name: np.repeat(value[None], len(rows), axis=0) for name, value in window.items() if name != "signal"}
    shares = probabilities({**batch, "signal": np.stack(rows)})[:, answer]
    odds = log_odds(shares)
    falls: Float32 = odds[0] - odds[1:]
    return falls


def log_odds(probabilities: Float32) -> Float32:
    """ln(p / (1 - p)), elementwise, within ± 9.2: closer to certainty no pack is calibrated."""
    p = np.clip(probabilities, 1e-4, 1 - 1e-4)
    odds: Float32 = np.log(p / (1 - p)).astype(np.float32)
    return odds


def edges(samples: int, pieces: int) -> list[tuple[int, int]]:
    """[low, high) of each piece; all but the last have the same length."""
    length = -(-samples // pieces)
    return [(low, min(low + length, samples)) for low in range(0, samples, length)]


def without(signal: Float32, cuts: list[tuple[int, int]]) -> Float32:
    """`signal` (channels, samples) with a straight line over each [low, high)."""
    out = signal.copy()
    for low, high in cuts:
        before = out[:, low - 1] if low else out[:, min(high, out.shape[1] - 1)]
        after = out[:, high] if high < out.shape[1] else before
        share = (np.arange(1, high - low + 1, dtype=np.float32) / np.float32(high - low + 1))[None]
        out[:, low:high] = before[:, None] * (1 - share) + after[:, None] * share
    return out
