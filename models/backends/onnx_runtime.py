"""ONNX Runtime on the CPU: one thread, no spinning, the same bits for a row in any batch.

The quantized network is integer arithmetic from its first QuantizeLinear to its last DequantizeLinear, so rows cannot
influence each other through the order of a sum. Its weights use 7 bits: on x86 without VNNI an 8-bit product pair would
saturate, and answers would differ from machine to machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.manifest import PackError

if TYPE_CHECKING:
    from models.pack import ModelPack

Float32 = npt.NDArray[np.float32]


class OnnxBackend:
    """A pack's quantized network in an ONNX Runtime session."""

    name = "cpu"

    def __init__(self, pack: ModelPack) -> None:
        """Raises PackError when the network does not load, or is not shaped as the manifest says."""
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                pack.weights["onnx"], options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a class of its own for each status
            raise PackError(pack.path, f"ONNX Runtime cannot load the network: {error}") from error
        self._shapes = pack.input_shapes
        self._outputs = pack.outputs
        self._check(pack, self._session)

    def run(self, inputs: dict[str, Float32]) -> Float32:
        """See Backend.run."""
        if inputs.keys() != self._shapes.keys():
            raise ValueError(f"inputs are {sorted(inputs)}, expected {sorted(self._shapes)}")
        batch = len(next(iter(inputs.values())))
        for name, shape in self._shapes.items():
            if inputs[name].shape != (batch, *shape) or inputs[name].dtype != np.float32:
                found = f"{inputs[name].dtype} {inputs[name].shape}"
                raise ValueError(f"input {name} is {found}, expected float32 {(batch, *shape)}")
        if batch == 0:
            return np.empty((0, self._outputs), dtype=np.float32)
        logits: Float32 = self._session.run(None, inputs)[0]
        return logits

    def _check(self, pack: ModelPack, session: Any) -> None:
        found = {put.name: tuple(put.shape[1:]) for put in session.get_inputs()}
        if found != self._shapes:
            raise PackError(pack.path, f"the network takes {found}, the manifest says {self._shapes}")
        outputs = [tuple(out.shape[1:]) for out in session.get_outputs()]
        if outputs != [(self._outputs,)]:
            raise PackError(pack.path, f"the network gives {outputs}, the manifest names {self._outputs} outputs")
