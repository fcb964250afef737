"""TFLite: LiteRT, or the tflite-runtime that Coral's tools need; and the Edge TPU through its delegate.

Rows are run one by one: the files have fixed shapes, which compilers for accelerators want. So a row cannot be
influenced by its company. Inputs and outputs are int8: they are scaled and clipped here, since a runtime's own
conversion of a value far out of range is undefined.
"""

from __future__ import annotations

import ctypes.util
import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.backends import Runtime, check_inputs
from models.manifest import PackError

if TYPE_CHECKING:
    from models.pack import ModelPack

Float32 = npt.NDArray[np.float32]

PACKAGES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
"""Modules that have an Interpreter, in the order in which they are tried, and the packages they come in."""
EDGE_TPU_LIBRARY = "libedgetpu.so.1"
COMPILED = b"edgetpu-custom-op"
"""Is in every file that was compiled for the Edge TPU; any other would run on the CPU without a word."""


def missing(name: str) -> str:
    """See RuntimeModule."""
    if not any(importlib.util.find_spec(module) for module in PACKAGES):
        return f"neither {' nor '.join(PACKAGES.values())} is installed"
    if name == "edgetpu" and ctypes.util.find_library("edgetpu") is None:
        return f"{EDGE_TPU_LIBRARY} is not installed"
    return ""


def version(name: str) -> str:
    """See RuntimeModule."""
    found = []
    for package in PACKAGES.values():
        try:
            found.append(f"{package} {version_of(package)}")
        except PackageNotFoundError:
            continue
    if name == "edgetpu" and (library := ctypes.util.find_library("edgetpu")):
        found.append(library)
    return ", ".join(found)


def open_network(pack: ModelPack, runtime: Runtime, cache: Path | None) -> TfliteBackend:
    """See RuntimeModule."""
    return TfliteBackend(pack, runtime)


class TfliteBackend:
    """A pack's network in a TFLite interpreter."""

    def __init__(self, pack: ModelPack, runtime: Runtime) -> None:
        """Raises PackError when no interpreter can be made of it, or it is not shaped as the manifest says."""
        self.name = runtime.name
        self._shapes = pack.input_shapes
        self._outputs = pack.outputs
        content = pack.weights[runtime.weights]
        if self.name == "edgetpu" and COMPILED not in content:
            raise PackError(pack.path, "the weights are not compiled for the Edge TPU: they would run on the CPU")
        self._interpreter = _interpreter(pack, content, self.name)
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner()
        self._inputs = runner.get_input_details()
        outputs = runner.get_output_details()
        found = {name: tuple(int(n) for n in put["shape"][1:]) for name, put in self._inputs.items()}
        if found != self._shapes:
            raise PackError(pack.path, f"the network takes {found}, the manifest says {self._shapes}")
        if [tuple(int(n) for n in out["shape"]) for out in outputs.values()] != [(1, self._outputs)]:
            raise PackError(pack.path, f"the network gives {list(outputs)}, the manifest names {self._outputs} outputs")
        (self._output,) = outputs.values()

    def run(self, inputs: dict[str, Float32]) -> Float32:
        """See Backend.run."""
        batch = check_inputs(inputs, self._shapes)
        given = {name: _quantized(array, self._inputs[name]) for name, array in inputs.items()}
        answers = np.empty((batch, self._outputs), dtype=self._output["dtype"])
        for row in range(batch):
            for name, array in given.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array[row : row + 1])
            self._interpreter.invoke()
            answers[row] = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero = self._output["quantization"]
        logits: Float32 = ((answers.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)
        return logits


def _quantized(values: Float32, put: dict[str, Any]) -> npt.NDArray[Any]:
    scale, zero = put["quantization"]
    limits = np.iinfo(put["dtype"])
    reach = np.float32(2 * scale * (int(limits.max) - int(limits.min)))  # beyond it all is clipped, and may overflow
    steps = np.rint(np.clip(np.nan_to_num(values), -reach, reach) / np.float32(scale)) + zero
    clipped: npt.NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(limits.dtype)
    return clipped


def _interpreter(pack: ModelPack, content: bytes, name: str) -> Any:
    """An interpreter of the first package that can make one: with numpy 2, tflite-runtime is imported but cannot."""
    faults = []
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            continue
        try:
            tflite = importlib.import_module(f"{module}.interpreter")
            delegates = [tflite.load_delegate(EDGE_TPU_LIBRARY)] if name == "edgetpu" else None
            return tflite.Interpreter(model_content=content, num_threads=1, experimental_delegates=delegates)
        except Exception as error:  # ImportError, SystemError, ValueError, RuntimeError: by package and version
            faults.append(f"{package}: {error}")
    raise PackError(pack.path, f"no TFLite interpreter can be made: {'; '.join(faults)}")
