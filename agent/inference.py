"""Windows of all patients in, one batch per model pack, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.backends import Backend, open_backend
from models.pack import ModelPack

Float32 = npt.NDArray[np.float32]


class BeatClassifier(Protocol):
    """What the engine asks of a beat model."""

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """(pack id, sha256 of its weights) of what decides."""
        ...

    def classify(self, signals: Sequence[Float32], contexts: Sequence[Float32]) -> list[tuple[str, float]]:
        """(label, probability) of each beat."""
        ...


class PackBeatClassifier:
    """The beat pack on its backend."""

    def __init__(self, pack: ModelPack, backend: Backend | None = None) -> None:
        self._backend = backend or open_backend(pack)
        self._labels = tuple(pack.manifest.outputs.labels)
        self._temperature = np.float32(pack.manifest.calibration.temperature)
        self._identity = ((pack.manifest.id, pack.hash),)

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        return self._identity

    def classify(self, signals: Sequence[Float32], contexts: Sequence[Float32]) -> list[tuple[str, float]]:
        if not signals:
            return []
        logits = self._backend.run({"signal": np.stack(signals), "context": np.stack(contexts)})
        probabilities = softmax(logits / self._temperature)
        best = probabilities.argmax(axis=1)
        return [(self._labels[k], float(row[k])) for k, row in zip(best.tolist(), probabilities, strict=True)]


def softmax(logits: Float32) -> Float32:
    """Probabilities (batch, labels) from logits; column by column, so that a row's bits do not depend on the batch."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = np.zeros(len(powers), np.float32)
    for column in powers.T:
        total += column
    return powers / total[:, None]
