"""Runtimes that run a pack. One file each; a runtime is imported only when a pack is opened on it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from models.manifest import PackError, WeightsName

if TYPE_CHECKING:
    from models.pack import ModelPack

__all__ = ["ACCELERATORS", "CPU", "RUNTIMES", "Backend", "Runtime", "open_backend", "open_runtime"]

Float32 = npt.NDArray[np.float32]


class Backend(Protocol):
    """A loaded network."""

    @property
    def name(self) -> str:
        """What really runs it, e.g. "cpu"."""

    def run(self, inputs: dict[str, Float32]) -> Float32:
        """Logits, (batch, outputs) float32, of the inputs in `pack.input_shapes`: `signal` and perhaps `context`.

        A row's logits are the same bits whatever else is in the batch. A batch of none gives none.
        Raises ValueError on inputs of other names or shapes.
        """


class RuntimeModule(Protocol):
    """What a runtime's file offers; none of it imports the runtime before `open_network` does, but for its version."""

    def missing(self, name: str) -> str:
        """Why the runtime cannot be used on this machine, in words; empty where it seems to be there."""

    def version(self, name: str) -> str:
        """Versions of what runs the network, drivers among them: when they change, what failed may work."""

    def open_network(self, pack: ModelPack, runtime: Runtime, cache: Path | None) -> Backend:
        """The pack's network; raises PackError or whatever the runtime raises. `cache` is a folder it may keep."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run a network."""

    name: str
    module: str
    """The Python module that opens it: a RuntimeModule."""
    weights: WeightsName
    """The file of the pack that it runs."""
    timeout_s: float = 20.0
    """How long opening it and one batch may take; some compile the network first."""
    tolerance: float = 0.05
    """Largest difference of a probability from what the same file gave where it was made: two steps of 8-bit logits."""

    @property
    def code(self) -> RuntimeModule:
        return importlib.import_module(self.module)


_ONNX = "models.backends.onnx_runtime"
_TFLITE = "models.backends.tflite"
CPU = Runtime("cpu", _ONNX, "onnx")
RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        CPU,
        Runtime("tensorrt", _ONNX, "onnx-s8", timeout_s=300.0),
        Runtime("cuda", _ONNX, "onnx-float", timeout_s=60.0),
        Runtime("qnn", _ONNX, "onnx", timeout_s=120.0),
        Runtime("openvino-npu", _ONNX, "onnx", timeout_s=120.0),
        Runtime("openvino-gpu", _ONNX, "onnx", timeout_s=60.0),
        Runtime("openvino", _ONNX, "onnx"),
        Runtime("edgetpu", _TFLITE, "tflite-edgetpu"),
        Runtime("tflite", _TFLITE, "tflite"),
    )
}
"""Every runtime by the name that a config, a status and `open_backend` know it by."""
ACCELERATORS = ("tensorrt", "cuda", "qnn", "edgetpu", "openvino-npu", "openvino-gpu")
"""What is tried where the config names nothing. "openvino" and "tflite" run on the same CPU: only where asked for."""


def open_backend(pack: ModelPack, runtime: str = "cpu", cache: Path | None = None) -> Backend:
    """The pack's network on `runtime`; raises PackError where the runtime is unknown or absent or cannot load it.

    Nothing but "cpu" should be opened before models.backends.probe has seen it work in another process.
    """
    if runtime not in RUNTIMES:
        raise PackError(pack.path, f"no runtime is called {runtime!r} (there are: {', '.join(RUNTIMES)})")
    return open_runtime(pack, RUNTIMES[runtime], cache)


def open_runtime(pack: ModelPack, runtime: Runtime, cache: Path | None = None) -> Backend:
    """The same for a runtime that need not be in RUNTIMES."""
    if runtime.weights not in pack.weights:
        raise PackError(pack.path, f"has no weights for {runtime.name} ({runtime.weights})")
    if reason := runtime.code.missing(runtime.name):
        raise PackError(pack.path, f"{runtime.name} cannot be used: {reason}")
    return runtime.code.open_network(pack, runtime, cache)


def check_inputs(inputs: dict[str, Float32], shapes: dict[str, tuple[int, ...]]) -> int:
    """The number of rows; raises ValueError where names, shapes or types are not those in `shapes`."""
    if inputs.keys() != shapes.keys():
        raise ValueError(f"inputs are {sorted(inputs)}, expected {sorted(shapes)}")
    batch = len(next(iter(inputs.values())))
    for name, shape in shapes.items():
        if inputs[name].shape != (batch, *shape) or inputs[name].dtype != np.float32:
            found = f"{inputs[name].dtype} {inputs[name].shape}"
            raise ValueError(f"input {name} is {found}, expected float32 {(batch, *shape)}")
    return batch
