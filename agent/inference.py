"""Windows of all patients in, one batch per model pack, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.signal.beat_features import CONTEXT, SIGNAL_SHAPE
from models.backends import Backend, open_backend
from models.pack import ModelPack, PackError

Float32 = npt.NDArray[np.float32]


class BeatClassifier(Protocol):
    """What the engine asks of a beat model."""

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """(pack id, sha256 of its weights) of what decides."""
        ...

    def classify(self, signals: Sequence[Float32], contexts: Sequence[Float32]) -> list[tuple[str, float]]:
        """(label, probability) of each beat; a beat's verdict does not depend on its company."""
        ...


class PackBeatClassifier:
    """The beat pack on its backend."""

    def __init__(self, pack: ModelPack, backend: Backend | None = None) -> None:
        if pack.context != CONTEXT or pack.input_shapes["signal"] != SIGNAL_SHAPE:
            raise PackError(pack.path, "its inputs are not those this version of vagus computes")
        self._pack = pack
        self._backend = backend or open_backend(pack)

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        return ((self._pack.id, self._pack.hash),)

    @property
    def runtime(self) -> str:
        """What really runs it."""
        return self._backend.name

    def classify(self, signals: Sequence[Float32], contexts: Sequence[Float32]) -> list[tuple[str, float]]:
        if not signals:
            return []
        logits = self._backend.run({"signal": np.stack(signals), "context": np.stack(contexts)})
        probabilities = self._pack.probabilities(logits)
        best = probabilities.argmax(axis=1)
        return [(self._pack.labels[k], float(row[k])) for k, row in zip(best.tolist(), probabilities, strict=True)]
