"""When an answer is called unsure: class-conditional split-conformal prediction (Vovk 2012, "Mondrian").

Of people held out, the calibrated probability of the true label is read; per label, the threshold is such that at most
`alpha` of that label's windows fall below it. A new window's prediction set is every label at or above its threshold:
of each true class, a share of 1 - alpha keeps its label in the set, as far as new windows are like the held-out ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.manifest import Conformal

Float32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.integer]

ALPHA = 0.1


@dataclass(frozen=True, slots=True)
class Coverage:
    """What thresholds do on windows whose labels are known."""

    of_label: dict[str, float]
    """Share of each label's windows whose prediction set holds the label."""
    unsure: float
    """Share of all windows whose set is not one label."""
    right_when_sure: float
    """Share of the others whose one label is right."""
    right: float
    """Share of all windows whose likeliest label is right."""


def thresholds(probabilities: Float32, truth: Int, labels: Sequence[str], alpha: float = ALPHA) -> Conformal:
    """The manifest's [output.conformal] from held-out answers.

    `probabilities`: (n, labels) calibrated, of people that the network had not met; `truth`: (n,) index of the true
    label. With n windows of a label, the threshold is their floor(alpha (n + 1))-th smallest probability of it; a label
    with too few to leave any out gets 0, and is in every set. Raises ValueError where a label has no window at all.
    """
    at_least = {}
    for k, label in enumerate(labels):
        scores = np.sort(probabilities[truth == k, k].astype(np.float64))
        if len(scores) == 0:
            raise ValueError(f"no held-out window is {label}: no threshold can be found")
        rank = math.floor(alpha * (len(scores) + 1))
        at_least[label] = math.floor(float(scores[rank - 1]) * 1e6) / 1e6 if rank else 0.0
    return Conformal(alpha=alpha, at_least=at_least)


def coverage(probabilities: Float32, truth: Int, labels: Sequence[str], conformal: Conformal) -> Coverage:
    """What `conformal` does on these windows; shapes as in `thresholds`."""
    inside = probabilities >= np.array([conformal.at_least[label] for label in labels], dtype=np.float32)
    sure = inside.sum(axis=1) == 1
    hit = inside[np.arange(len(truth)), truth]
    of_label = {label: float(hit[truth == k].mean()) for k, label in enumerate(labels) if (truth == k).any()}
    return Coverage(
        of_label,
        float(1 - sure.mean()),
        float(hit[sure].mean()) if sure.any() else math.nan,
        float((probabilities.argmax(axis=1) == truth).mean()),
    )
