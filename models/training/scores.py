"""How well held-out beats are told apart, in the terms of ANSI/AAMI EC57: sensitivity and positive predictivity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.training.examples import LABELS, Examples

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

LEARNING_S = 300.0
"""The first five minutes of a record are not scored."""
_BIASES = np.arange(-3.0, 2.01, 0.25)


@dataclass(frozen=True, slots=True)
class Score:
    """Of one class, gross over all beats."""

    sensitivity: float
    positive_predictivity: float

    @property
    def f1(self) -> float:
        both = self.sensitivity + self.positive_predictivity
        return 2 * self.sensitivity * self.positive_predictivity / both if both else 0.0

    def __str__(self) -> str:
        return f"{100 * self.sensitivity:.1f} / {100 * self.positive_predictivity:.1f}"


def scored(examples: Examples) -> npt.NDArray[np.bool_]:
    """Which examples count: past the first five minutes, with a label of their own."""
    return (examples.label >= 0) & (examples.label < len(LABELS)) & (examples.time_s >= LEARNING_S)


def confusion(truth: npt.NDArray[np.int8], answer: Int64) -> Int64:
    """(truth, answer) counts."""
    size = len(LABELS)
    counts: Int64 = np.bincount(truth.astype(np.int64) * size + answer, minlength=size * size).reshape(size, size)
    return counts


def score(counts: Int64, label: str, missed: int = 0) -> Score:
    """Score of `label`; `missed` reference beats of that class were not detected at all."""
    k = LABELS.index(label)
    true = int(counts[k, k])
    return Score(true / max(1, int(counts[k].sum()) + missed), true / max(1, int(counts[:, k].sum())))


def operating_point(logits: Float32, truth: npt.NDArray[np.int8]) -> Float32:
    """The constant to add to the logits: S and V moved so that the sum of their F1 is largest. (labels,) float32."""
    s, v = LABELS.index("S"), LABELS.index("V")
    best, chosen = -1.0, np.zeros(len(LABELS), dtype=np.float32)
    for of_s in _BIASES:
        for of_v in _BIASES:
            bias = np.zeros(len(LABELS), dtype=np.float32)
            bias[s], bias[v] = of_s, of_v
            counts = confusion(truth, (logits + bias).argmax(axis=1))
            sum_f1 = score(counts, "S").f1 + score(counts, "V").f1
            if sum_f1 > best:
                best, chosen = sum_f1, bias
    return chosen


def temperature(logits: Float32, truth: npt.NDArray[np.int8]) -> float:
    """The divisor of the logits under which the true classes are likeliest (Guo et al. 2017), to two decimals."""

    def cost(value: float) -> float:
        scaled = logits.astype(np.float64) / value
        scaled -= scaled.max(axis=1, keepdims=True)
        chosen = scaled[np.arange(len(truth)), truth]
        return float((np.log(np.exp(scaled).sum(axis=1)) - chosen).mean())

    return min((round(0.4 + 0.05 * i, 2) for i in range(53)), key=cost)


def calibration_error(probabilities: Float32, truth: npt.NDArray[np.int8], bins: int = 15) -> float:
    """Expected calibration error of the largest probability."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(right[place == b].mean()) - float(confidence[place == b].mean())) * float((place == b).mean())
        for b in range(bins)
        if (place == b).any()
    ]
    return sum(gaps)
