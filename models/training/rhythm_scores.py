"""How well held-out rhythms are told apart: one answer a recording, and fibrillation by time from the live rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.alarms.atrial_fibrillation import AtrialFibrillation
from agent.alarms.observation import Condition, Prediction, SignalStart
from agent.alarms.rule import NS
from agent.scoring.rhythm import AfTimeScore, Interval, af_time_score, mean_f1, recording_answer
from models.manifest import Conformal
from models.pack import probabilities
from models.training.rhythm_records import LABELS, NOT_A, UNKNOWN

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_A = LABELS.index("A")
_BIASES = np.arange(-0.8, 0.81, 0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a network said of the live windows of one recording, in their order."""

    patient: str
    start_s: Float64
    end_s: Float64
    logits: Float32
    """(windows, labels)."""
    label: Int64
    """Per window; of a short recording the same for all."""


def answers(said: Sequence[Said], bias: Float32) -> Float64:
    """(recordings, labels): probabilities of each recording's one answer."""
    return np.array(
        [recording_answer(probabilities(one.logits + bias, 1.0), one.end_s - one.start_s) for one in said]
    ).reshape(-1, len(LABELS))


def letters(shares: Float64) -> list[str]:
    """The likeliest label of each row."""
    return [LABELS[k] for k in shares.argmax(axis=1).tolist()]


def truth(said: Sequence[Said]) -> list[str]:
    """The label of each short recording."""
    return [LABELS[int(one.label[0])] for one in said]


def operating_point(said: Sequence[Said]) -> Float32:
    """The constants to add to the logits under which the mean F1 of N, A and O is largest: (labels,) float32."""
    best, chosen = -1.0, np.zeros(len(LABELS), dtype=np.float32)
    labels = truth(said)
    for of_a in _BIASES:
        for of_o in _BIASES:
            for of_noise in (-0.5, 0.0, 0.5):
                bias = np.array([0.0, of_a, of_o, of_noise], dtype=np.float32)
                score = mean_f1(labels, letters(answers(said, bias)))
                if score > best + 1e-9:
                    best, chosen = score, bias
    return chosen


def alarms(said: Said, bias: Float32, temperature: float, conformal: Conformal, run_s: float) -> list[Interval]:
    """When the live rule says fibrillation in a recording of `run_s` seconds, from these windows: [from, to) s."""
    rule = AtrialFibrillation("atrial_fibrillation")
    rule.see(SignalStart(0))
    shares = probabilities(said.logits + bias, temperature)
    at_least = np.array([conformal.at_least[label] for label in LABELS], dtype=np.float32)
    unsure = (shares >= at_least).sum(axis=1) != 1
    found: list[Condition] = []
    windows = zip(said.start_s.tolist(), said.end_s.tolist(), shares.tolist(), unsure.tolist(), strict=True)
    for start_s, end_s, row, is_unsure in windows:
        best = max(range(len(row)), key=row.__getitem__)
        span = (round(start_s * NS), round(end_s * NS))
        found += rule.see(Prediction("rhythm", *span, LABELS[best], row[best], tuple(row), is_unsure))
    begun = [condition.onset_ns / NS for condition in found if condition.active]
    ended = [(condition.until_ns or condition.at_ns) / NS for condition in found if not condition.active]
    return list(zip(begun, [*ended, run_s][: len(begun)], strict=True))


def by_time(said: Said, rhythms: Sequence[tuple[float, int]], run_s: float, called: Sequence[Interval]) -> AfTimeScore:
    """Score of what was `called` against the annotated rhythms of a recording."""
    ends = [at_s for at_s, _ in rhythms[1:]] + [run_s]
    spans = [(start_s, end_s, label) for (start_s, label), end_s in zip(rhythms, ends, strict=True)]
    return af_time_score(
        [(start_s, end_s) for start_s, end_s, label in spans if label == _A],
        called,
        (0.0, run_s),
        unscored=[(start_s, end_s) for start_s, end_s, label in spans if label == UNKNOWN],
    )


def window_shares(said: Sequence[Said], bias: Float32, temperature: float) -> tuple[Float32, Int64]:
    """Calibrated probabilities (windows, labels) and true labels of all windows that have one of LABELS."""
    shares = np.concatenate([probabilities(one.logits + bias, temperature) for one in said])
    label = np.concatenate([one.label for one in said])
    known = (label >= 0) & (label < NOT_A)
    return shares[known], label[known]
