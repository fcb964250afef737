"""From a trained torch network to two ONNX files: float, and integer from end to end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

Float32 = npt.NDArray[np.float32]

OPSET = 18


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
    """Feeds calibration inputs in batches."""

    def __init__(self, inputs: dict[str, Float32], batch: int) -> None:
        rows = len(next(iter(inputs.values())))
        self._batches = iter([{k: v[i : i + batch] for k, v in inputs.items()} for i in range(0, rows, batch)])

    def get_next(self) -> dict[str, Float32] | None:
        return next(self._batches, None)


def export_float(network: torch.nn.Module, inputs: dict[str, Float32], path: Path) -> None:
    """Write `network` (in eval mode, taking `inputs` in order) as ONNX with any batch size and one output, `logits`."""
    network.eval()
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.onnx.export(
        network,
        tuple(torch.from_numpy(value[:2]) for value in inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        opset_version=OPSET,
        verbose=False,
    )
    model = program.model_proto
    _forget_origin(model)
    path.write_bytes(model.SerializeToString())


def quantize(float_path: Path, calibration: dict[str, Float32], path: Path) -> None:
    """Write the 8-bit network: U8 activations, S8 weights per channel, min-max calibration on `calibration` rows.

    Weights keep 7 bits: with 8, x86 without VNNI saturates sums of two products, and machines would disagree.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Rows(calibration, 256),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
    model = onnx.load(str(path))
    _forget_origin(model)
    path.write_bytes(model.SerializeToString())


def _forget_origin(model: Any) -> None:
    """Drop what tells of the machine it was made on: source locations, tool versions."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
