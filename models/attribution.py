"""Which samples an answer rests on: occlusion (Zeiler & Fergus 2014) on the network that gave the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Inputs = Mapping[str, Float32]


_AT_ONCE = 32
"""Windows whose pieces are taken away in one batch, so that many alarms at once need no more memory."""


def occlusions(
    probabilities: Callable[[Inputs], Float32], windows: Sequence[Inputs], answers: Sequence[int], pieces: int
) -> Float32:
    """By how much the log odds of each window's answer fall when each piece of its signal is taken away.

    Log odds, since a probability near one hardly moves whatever is taken from it.

    `probabilities`: of a batch of inputs, (batch, outputs), a row independent of its company; `windows`: the inputs of
    each window, without a batch axis, among them `signal` (channels, samples); `answers`: which output of each. The
    signal is cut into `pieces` pieces of equal length, the last perhaps shorter; a piece is taken away by a straight
    line between the samples on either side of it, so that no edge is put in its place. Returns (windows, pieces)
    float32: positive where the piece spoke for the answer, negative against it.
    """
    parts = [
        _occlusions(probabilities, windows[at : at + _AT_ONCE], answers[at : at + _AT_ONCE], pieces)
        for at in range(0, len(windows), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _occlusions(
    probabilities: Callable[[Inputs], Float32], windows: Sequence[Inputs], answers: Sequence[int], pieces: int
) -> Float32:
    batch = {name: np.stack([window[name] for window in windows]) for name in windows[0]}
    signal = batch["signal"]
    cuts = edges(signal.shape[2], pieces)
    rows = np.repeat(signal[:, None], 1 + len(cuts), axis=1)
    for row, cut in enumerate(cuts, 1):
        bridge(rows[:, row], cut)
    shown = {name: np.repeat(value, 1 + len(cuts), axis=0) for name, value in batch.items() if name != "signal"}
    shown["signal"] = rows.reshape(-1, *signal.shape[1:])
    shares = probabilities(shown).reshape(len(windows), 1 + len(cuts), -1)
    odds = log_odds(shares[np.arange(len(windows)), :, answers])
    falls: Float32 = odds[:, :1] - odds[:, 1:]
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


def without(signal: Float32, cuts: Sequence[tuple[int, int]]) -> Float32:
    """`signal` (…, samples) with a straight line over each [low, high)."""
    out = signal.copy()
    for cut in cuts:
        bridge(out, cut)
    return out


def bridge(signal: Float32, cut: tuple[int, int]) -> None:
    """Draw a straight line over [low, high) of `signal` (…, samples)."""
    low, high = cut
    before = signal[..., low - 1] if low else signal[..., min(high, signal.shape[-1] - 1)]
    after = signal[..., high] if high < signal.shape[-1] else before
    share = np.arange(1, high - low + 1, dtype=np.float32) / np.float32(high - low + 1)
    signal[..., low:high] = before[..., None] * (1 - share) + after[..., None] * share
