"""Model packs on their backends: windows of all patients in, one batch a pack, calibrated answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.signal import beat_features, glucose_window, rhythm_window, second_opinion, vf_window
from agent.signal.outlook import Expected, Forecast
from models.backends import Backend, open_backend
from models.pack import ModelPack, PackError, available_packs, load, verify
from models.vocabulary import GLUCOSE_LABELS

Float32 = npt.NDArray[np.float32]
Inputs = Mapping[str, Float32]
"""A network's inputs by name: of one window without, of a batch with the batch axis in front."""

INPUTS: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {
    "beat": (beat_features.SIGNAL_SHAPE, beat_features.CONTEXT),
    "qrs": (second_opinion.SIGNAL_SHAPE, ()),
    "rhythm": (rhythm_window.SIGNAL_SHAPE, rhythm_window.CONTEXT),
    "vf": (vf_window.SIGNAL_SHAPE, vf_window.CONTEXT),
    "glucose": (glucose_window.SIGNAL_SHAPE, glucose_window.CONTEXT),
}
"""Per task: the shape of the signal and the names of the context that this version of the agent computes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of one window."""

    label: str
    """The likeliest answer."""
    probability: float
    """Its calibrated probability."""
    probabilities: tuple[float, ...]
    """Of every label, in the pack's order."""
    unsure: bool
    """The pack's conformal prediction set holds more or less than this one answer."""


class PackModel:
    """One pack on its backend."""

    def __init__(self, pack: ModelPack, backend: Backend | None = None) -> None:
        """Raises PackError where the pack wants inputs that this version of the agent does not compute."""
        self.check(pack)
        self.pack = pack
        self._backend = backend or open_backend(pack)

    @staticmethod
    def check(pack: ModelPack) -> None:
        """Raises PackError where the pack wants inputs that this version of the agent does not compute."""
        signal, context = INPUTS[pack.manifest.task]
        if pack.context != context or pack.input_shapes["signal"] != signal:
            raise PackError(pack.path, "its inputs are not those this version of vagus computes")

    @property
    def runtime(self) -> str:
        """What really runs it."""
        return self._backend.name

    def probabilities(self, batch: Inputs) -> Float32:
        """Calibrated probabilities (batch, outputs) of stacked windows; a row does not depend on its company."""
        return self.pack.probabilities(self._backend.run(dict(batch)))

    def answer(self, batch: Inputs) -> list[Answer]:
        """The answer to each of the stacked windows, in their order."""
        shares = self.probabilities(batch)
        unsure = self.pack.unsure(shares).tolist()
        best = shares.argmax(axis=1).tolist()
        labels = self.pack.labels
        return [
            Answer(labels[k], row[k], tuple(row), is_unsure)
            for k, row, is_unsure in zip(best, shares.tolist(), unsure, strict=True)
        ]

    def forecasts(self, batch: Inputs, mg_dl: Sequence[float]) -> list[Forecast]:
        """Of a glucose pack, what follows each of the readings `mg_dl`, whose windows are stacked in the same order.

        Raises ValueError of a pack that forecasts nothing.
        """
        outputs = self._backend.run(dict(batch))
        minutes = self.pack.manifest.output.forecast.minutes if self.pack.manifest.output.forecast else ()
        changes, events = self.pack.changes(outputs).tolist(), self.pack.probabilities(outputs).tolist()
        places = [self.pack.labels.index(label) for label in GLUCOSE_LABELS]
        return [
            Forecast(
                tuple(
                    Expected(ahead, now + mean, now + low, now + high)
                    for ahead, (low, mean, high) in zip(minutes, rows, strict=True)
                ),
                *(shares[place] for place in places),
            )
            for now, rows, shares in zip(mg_dl, changes, events, strict=True)
        ]


def ruled_out(answer: Answer, labels: Sequence[str], label: str) -> Answer:
    """The answer where `label` is known to be wrong: the likeliest of the others, their probabilities made to sum to 1.

    It is unsure: the model itself thought otherwise.
    """
    left = [0.0 if name == label else share for name, share in zip(labels, answer.probabilities, strict=True)]
    total = sum(left)
    shares = tuple(share / total for share in left) if total > 0 else answer.probabilities
    best = max(range(len(shares)), key=shares.__getitem__)
    return Answer(labels[best], shares[best], shares, unsure=True)


@dataclass(frozen=True, slots=True)
class Models:
    """The models an engine asks, by task. Without one, the agent goes on with less, and says so."""

    qrs: PackModel | None = None
    beat: PackModel | None = None
    rhythm: PackModel | None = None
    vf: PackModel | None = None
    glucose: PackModel | None = None

    @property
    def by_task(self) -> dict[str, PackModel]:
        """Those there are."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {task: model for task, model in named.items() if model is not None}

    @property
    def identity(self) -> dict[str, tuple[str, str]]:
        """Per task (pack id, sha256 of its quantized network)."""
        return {task: (model.pack.id, model.pack.hash) for task, model in self.by_task.items()}


@cache
def shipped_models() -> Models:
    """The packs that ship with vagus, on the CPU, after their self-test on the golden vectors: once a process.

    Raises models.pack.PackError when one is not sound, or gives other answers here than where it was made.
    """
    tested = map(_tested, available_packs())
    return Models(**{model.pack.manifest.task: model for model in tested})


def _tested(path: Path) -> PackModel:
    pack = load(path)
    backend = open_backend(pack)
    verify(pack, backend)
    return PackModel(pack, backend)
