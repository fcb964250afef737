"""From a trained torch network to ONNX files: float, integer from end to end, and symmetric for accelerators."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
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
    _pool_instead_of_reduce(model)
    path.write_bytes(model.SerializeToString())


def quantize(float_path: Path, calibration: dict[str, Float32], path: Path) -> None:
    """Write the 8-bit network: U8 activations, S8 weights per channel, min-max calibration on `calibration` rows.

    Weights keep 7 bits: with 8, x86 without VNNI saturates sums of two products, and machines would disagree.
    Raises FloatIslandError where something between the first and the last node would be computed in float.
    """
    _quantize(float_path, calibration, path, activation=QuantType.QUInt8, reduce_range=True)
    if islands := float_operations(path):
        raise FloatIslandError(f"{float_path.name}: {', '.join(islands)} would run in float, and not be a row's own")


def quantize_symmetric(float_path: Path, calibration: dict[str, Float32], path: Path) -> None:
    """Write the 8-bit network that TensorRT takes: S8 activations and weights with zero point 0, biases in float."""
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    _quantize(float_path, calibration, path, activation=QuantType.QInt8, reduce_range=False, extra_options=options)


class FloatIslandError(ValueError):
    """A network that 8 bit does not cover."""


def float_operations(path: Path) -> list[str]:
    """What ONNX Runtime would compute in float between the quantizing of inputs and the logits, by operator's name."""
    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder) / "fused.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(fused)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(str(fused)).graph
    inputs, outputs = {put.name for put in graph.input}, {out.name for out in graph.output}
    found = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in inputs:
            found.append(f"the input of {node.output[0]}")
        if node.op_type == "DequantizeLinear" and node.output[0] not in outputs:
            found.append(f"what takes {node.output[0]}")
    return found


def _quantize(float_path: Path, calibration: dict[str, Float32], path: Path, activation: Any, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Rows(calibration, 256),
            quant_format=QuantFormat.QDQ,
            activation_type=activation,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            **options,
        )
    model = onnx.load(str(path))
    _forget_origin(model)
    path.write_bytes(model.SerializeToString())


def _pool_instead_of_reduce(model: Any) -> None:
    """Means and maxima over all samples become pools: those have integer kernels, reductions run in float."""
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        shape = shapes.get(node.input[0], []) if node.op_type in {"ReduceMean", "ReduceMax"} else []
        axes = sorted(int(axis) % len(shape) for axis in constants[node.input[1]]) if shape else []
        if len(shape) < 3 or len(shape) - 1 not in axes or any(axis < 2 for axis in axes):
            nodes.append(node)  # what cannot be a pool is refused where it would run in float
            continue
        keeps = next((one.i for one in node.attribute if one.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pool"
        pool = "AveragePool" if node.op_type == "ReduceMean" else "MaxPool"
        kernel = [shape[axis] if axis in axes else 1 for axis in range(2, len(shape))]
        nodes.append(onnx.helper.make_node(pool, [node.input[0]], [pooled], f"{node.name}_pool", kernel_shape=kernel))
        if not keeps:
            nodes.append(onnx.helper.make_node("Squeeze", [pooled, node.input[1]], [node.output[0]], node.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)


def _forget_origin(model: Any) -> None:
    """Drop what tells of the machine it was made on: source locations, tool versions."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
