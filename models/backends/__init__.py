"""Runtimes that run a pack. One file each; a runtime is imported only when a pack is opened on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from models.manifest import PackError

if TYPE_CHECKING:
    from models.pack import ModelPack

__all__ = ["RUNTIMES", "Backend", "open_backend"]

Float32 = npt.NDArray[np.float32]

RUNTIMES = ("cpu",)
"""Names `open_backend` knows."""


class Backend(Protocol):
    """A loaded network."""

    name: str
    """What really runs it, e.g. "cpu"."""

    def run(self, inputs: dict[str, Float32]) -> Float32:
        """Logits, (batch, outputs) float32, of the inputs in `pack.input_shapes`: `signal` and perhaps `context`.

        A row's logits are the same bits whatever else is in the batch. A batch of none gives none.
        Raises ValueError on inputs of other names or shapes.
        """


def open_backend(pack: ModelPack, runtime: str = "cpu") -> Backend:
    """The pack's network on `runtime`; raises PackError where the runtime is unknown or cannot load it."""
    if runtime == "cpu":
        from models.backends.onnx_runtime import OnnxBackend  # noqa: PLC0415  (36 MB, 0.3 s: only where it is wanted)

        return OnnxBackend(pack)
    raise PackError(pack.path, f"no runtime is called {runtime!r} (there are: {', '.join(RUNTIMES)})")
