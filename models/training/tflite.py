"""From a float ONNX network to a full-integer TFLite file: the same weights, rebuilt in TensorFlow and converted.

The set of operators is closed: what is not in it is an error that names the node. Convolutions run as TFLite wants
them, channels last; the file's inputs and outputs keep ONNX's order, (batch, channels, samples).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Float32 = npt.NDArray[np.float32]


class UnsupportedNodeError(ValueError):
    """A node of the network that cannot be rebuilt; the message names it and what would do."""

    def __init__(self, node: Any, reason: str) -> None:
        super().__init__(f"{node.op_type} node {node.name or node.output[0]!r}: {reason}")


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor on its way through the graph."""

    tensor: Any
    shape: tuple[int, ...]
    """As ONNX sees it, without the batch."""
    last: bool = False
    """The tensor is (batch, 1, width, channels), though ONNX sees (channels, width) or (channels, 1, width)."""


def convert(float_path: Path, calibration: dict[str, Float32], path: Path) -> None:
    """Write the TFLite file at `path`: int8 inputs and outputs, weights per channel, min-max calibration.

    `calibration` holds the network's inputs by name, (rows, …) float32; inputs and output of the file keep their names
    in its signature. It takes one row at a time: compilers for accelerators want fixed shapes.
    Raises UnsupportedNodeError.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf  # noqa: PLC0415  (several seconds, and only where a pack is made)

    graph = onnx.load(str(float_path)).graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    inputs = {
        put.name: tuple(dim.dim_value for dim in put.type.tensor_type.shape.dim[1:])
        for put in graph.input
        if put.name not in constants
    }
    (output,) = (out.name for out in graph.output)

    def network(**given: Any) -> dict[str, Any]:
        values = {name: _Value(given[name], shape) for name, shape in inputs.items()}
        for node in graph.node:
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
                continue
            build = _BUILDERS.get(node.op_type)
            if build is None or node.domain:
                raise UnsupportedNodeError(node, f"only {', '.join(sorted(_BUILDERS))} can be rebuilt")
            values[node.output[0]] = build(_Node(tf, node, values, constants))
        return {output: _as_onnx(tf, values[output])}

    holder = tf.Module()
    holder.network = tf.function(network, autograph=False)
    concrete = holder.network.get_concrete_function(
        **{name: tf.TensorSpec((1, *shape), tf.float32, name=name) for name, shape in inputs.items()}
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _one_by_one(calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own interpreter, which calibrates
        path.write_bytes(converter.convert())


def run(path: Path, inputs: dict[str, Float32]) -> Float32:
    """Logits, (rows, outputs) float32, of a file that `convert` wrote: quantized, run and dequantized here."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    runner = Interpreter(model_content=path.read_bytes(), num_threads=1).get_signature_runner()
    given = {name: _quantized(inputs[name], put["quantization"]) for name, put in runner.get_input_details().items()}
    ((name, out),) = runner.get_output_details().items()
    scale, zero = out["quantization"]
    rows = len(next(iter(given.values())))
    answers = [runner(**{put: array[i : i + 1] for put, array in given.items()})[name] for i in range(rows)]
    logits: Float32 = ((np.concatenate(answers).astype(np.float32) - zero) * scale).astype(np.float32)
    return logits


def _quantized(values: Float32, quantization: tuple[float, int]) -> npt.NDArray[np.int8]:
    scale, zero = quantization
    steps: npt.NDArray[np.int8] = np.clip(np.rint(values / np.float32(scale)) + zero, -128, 127).astype(np.int8)
    return steps


def _one_by_one(calibration: dict[str, Float32]) -> Iterator[dict[str, Float32]]:
    for i in range(len(next(iter(calibration.values())))):
        yield {name: array[i : i + 1] for name, array in calibration.items()}


class _Node:
    """One ONNX node with what it takes: attributes, values and constants."""

    def __init__(self, tf: Any, node: Any, values: dict[str, _Value], constants: dict[str, Any]) -> None:
        self.tf = tf
        self._node = node
        self._values = values
        self._constants = constants
        self.attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}

    @property
    def operator(self) -> str:
        return str(self._node.op_type)

    def refuse(self, reason: str) -> UnsupportedNodeError:
        return UnsupportedNodeError(self._node, reason)

    @property
    def names(self) -> list[str]:
        return [name for name in self._node.input if name]

    def value(self, place: int = 0) -> _Value:
        name = self._node.input[place]
        if name not in self._values:
            raise self.refuse(f"input {name!r} is a constant, a computed value is expected")
        return self._values[name]

    def constant(self, place: int) -> Any:
        name = self._node.input[place]
        if name not in self._constants:
            raise self.refuse(f"input {name!r} is computed, a constant is expected")
        return self._constants[name]

    def is_constant(self, place: int) -> bool:
        return self._node.input[place] in self._constants

    def only(self, **allowed: Any) -> None:
        """Raises UnsupportedNodeError when an attribute has another value than the one allowed."""
        for name, value in allowed.items():
            found = self.attributes.get(name, value)
            found = found.decode() if isinstance(found, bytes) else found
            if found != value:
                raise self.refuse(f"{name} is {found}, only {value} can be rebuilt")


def _as_onnx(tf: Any, value: _Value) -> Any:
    """The tensor in ONNX's order."""
    if not value.last:
        return value.tensor
    channels, width = value.shape[0], value.shape[-1]
    tensor = value.tensor if min(channels, width) == 1 else tf.transpose(value.tensor, (0, 1, 3, 2))
    return tf.reshape(tensor, (-1, *value.shape))


def _as_last(node: _Node, value: _Value) -> Any:
    """The tensor as (batch, 1, width, channels)."""
    if value.last:
        return value.tensor
    if len(value.shape) not in {2, 3} or (len(value.shape) == 3 and value.shape[1] != 1):
        raise node.refuse(f"its input has the shape {value.shape}, (channels, samples) is expected")
    channels, width = value.shape[0], value.shape[-1]
    tensor = node.tf.reshape(value.tensor, (-1, 1, channels, width))
    return node.tf.transpose(tensor, (0, 1, 3, 2))


def _window(node: _Node, width: int, size: int, stride: int, dilation: int) -> tuple[str, tuple[int, int], int]:
    """Padding of a convolution or pool: TensorFlow's name for it, what remains to be padded, and the output's width."""
    node.only(auto_pad="NOTSET", ceil_mode=0)
    pads = node.attributes.get("pads", (0, 0))
    before, after = int(pads[len(pads) // 2 - 1]), int(pads[-1])
    if any(int(n) for i, n in enumerate(pads) if i not in {len(pads) // 2 - 1, len(pads) - 1}):
        raise node.refuse(f"pads {list(pads)}: only the last axis can be padded")
    reach = (size - 1) * dilation + 1
    out = (width + before + after - reach) // stride + 1
    if before == after == 0:
        return "VALID", (0, 0), out
    same = max((-(-width // stride) - 1) * stride + reach - width, 0)
    if (same // 2, same - same // 2) == (before, after) and out == -(-width // stride):
        return "SAME", (0, 0), out
    return "VALID", (before, after), out


def _pad(node: _Node, tensor: Any, pads: tuple[int, int]) -> Any:
    return tensor if pads == (0, 0) else node.tf.pad(tensor, ((0, 0), (0, 0), pads, (0, 0)))


def _conv(node: _Node) -> _Value:
    node.only(group=1)
    value, kernel = node.value(), node.constant(1)
    if kernel.ndim != 3:
        raise node.refuse(f"its kernel has the shape {kernel.shape}, one dimension of samples is expected")
    outputs, _, size = kernel.shape
    (stride,) = (int(n) for n in node.attributes.get("strides", (1,)))
    (dilation,) = (int(n) for n in node.attributes.get("dilations", (1,)))
    padding, pads, width = _window(node, value.shape[-1], size, stride, dilation)
    tensor = node.tf.nn.conv2d(
        _pad(node, _as_last(node, value), pads),
        node.tf.constant(kernel.transpose(2, 1, 0)[None]),
        strides=(1, stride),
        padding=padding,
        dilations=(1, dilation),
    )
    if len(node.names) > 2:
        tensor = node.tf.nn.bias_add(tensor, node.constant(2))
    return _Value(tensor, (outputs, *value.shape[1:-1], width), last=True)


def _gemm(node: _Node) -> _Value:
    node.only(alpha=1.0, beta=1.0, transA=0)
    value, weights = node.value(), node.constant(1)
    weights = weights.T if node.attributes.get("transB", 0) else weights
    return _linear(node, value, weights, node.constant(2) if len(node.names) > 2 else None)


def _matmul(node: _Node) -> _Value:
    return _linear(node, node.value(), node.constant(1), None)


def _linear(node: _Node, value: _Value, weights: Any, bias: Any) -> _Value:
    if len(value.shape) != 1 or weights.ndim != 2:
        raise node.refuse(f"takes {value.shape} by {weights.shape}, (features,) by a matrix is expected")
    tensor = node.tf.matmul(_as_onnx(node.tf, value), node.tf.constant(np.ascontiguousarray(weights)))
    if bias is not None:
        tensor = node.tf.nn.bias_add(tensor, bias.reshape(-1))
    return _Value(tensor, (weights.shape[1],))


def _relu(node: _Node) -> _Value:
    value = node.value()
    return _Value(node.tf.nn.relu(value.tensor), value.shape, value.last)


def _add(node: _Node) -> _Value:
    fixed = [place for place in (0, 1) if node.is_constant(place)]
    if fixed:
        value, constant = node.value(1 - fixed[0]), node.constant(fixed[0])
        tensor = node.tf.add(_as_onnx(node.tf, value), node.tf.constant(constant))
        if tuple(tensor.shape[1:]) != value.shape:
            raise node.refuse(f"the constant of shape {constant.shape} widens {value.shape}")
        return _Value(tensor, value.shape)
    one, other = node.value(0), node.value(1)
    if one.shape != other.shape:
        raise node.refuse(f"adds {one.shape} to {other.shape}, equal shapes are expected")
    if one.last or other.last:
        return _Value(node.tf.add(_as_last(node, one), _as_last(node, other)), one.shape, last=True)
    return _Value(node.tf.add(one.tensor, other.tensor), one.shape)


def _pool(node: _Node) -> _Value:
    value = node.value()
    dilations = node.attributes.get("dilations", ())
    if any(int(n) != 1 for n in dilations):
        raise node.refuse(f"dilations are {list(dilations)}, only 1 can be rebuilt")
    size = int(node.attributes["kernel_shape"][-1])
    stride = int(node.attributes.get("strides", (1,))[-1])
    padding, pads, width = _window(node, value.shape[-1], size, stride, 1)
    tensor = _as_last(node, value)
    if node.operator == "MaxPool":
        if pads != (0, 0):
            raise node.refuse(f"pads {pads} are not those of SAME or VALID")
        tensor = node.tf.nn.max_pool2d(tensor, (1, size), (1, stride), padding)
    else:
        counts = bool(node.attributes.get("count_include_pad", 0))
        if padding == "SAME" and counts:
            padding, whole = "VALID", node.attributes["pads"]
            pads = int(whole[len(whole) // 2 - 1]), int(whole[-1])
        elif pads != (0, 0) and not counts:
            raise node.refuse(f"pads {pads} are not those of SAME or VALID")
        tensor = node.tf.nn.avg_pool2d(_pad(node, tensor, pads), (1, size), (1, stride), padding)
    return _Value(tensor, (*value.shape[:-1], width), last=True)


def _global_average(node: _Node) -> _Value:
    value = node.value()
    tensor = node.tf.nn.avg_pool2d(_as_last(node, value), (1, value.shape[-1]), (1, 1), "VALID")
    return _Value(tensor, (*value.shape[:-1], 1), last=True)


def _concat(node: _Node) -> _Value:
    values = [node.value(place) for place in range(len(node.names))]
    rank = len(values[0].shape) + 1
    axis = int(node.attributes["axis"]) % rank
    if axis == 0:
        raise node.refuse("joins rows of a batch")
    shape = list(values[0].shape)
    shape[axis - 1] = sum(value.shape[axis - 1] for value in values)
    if any(value.last for value in values) and axis in {1, rank - 1}:
        tensors = [_as_last(node, value) for value in values]
        return _Value(node.tf.concat(tensors, 3 if axis == 1 else 2), tuple(shape), last=True)
    return _Value(node.tf.concat([_as_onnx(node.tf, value) for value in values], axis), tuple(shape))


def _reshaped(node: _Node, shape: tuple[int, ...]) -> _Value:
    value = node.value()
    if int(np.prod(shape)) != int(np.prod(value.shape)):
        raise node.refuse(f"makes {shape} of {value.shape}: only the values of one row can be rearranged")
    if value.last and len(shape) > 1 and (shape[0], shape[-1]) == (value.shape[0], value.shape[-1]):
        return _Value(value.tensor, shape, last=True)
    return _Value(node.tf.reshape(_as_onnx(node.tf, value), (-1, *shape)), shape)


def _reshape(node: _Node) -> _Value:
    value, wanted = node.value(), [int(n) for n in node.constant(1)]
    if not node.attributes.get("allowzero", 0):
        wanted = [(1, *value.shape)[i] if n == 0 and i else n for i, n in enumerate(wanted)]
    shape = wanted[1:]
    if -1 in shape:
        shape[shape.index(-1)] = int(np.prod(value.shape)) // -int(np.prod(shape))
    return _reshaped(node, tuple(shape))


def _flatten(node: _Node) -> _Value:
    node.only(axis=1)
    return _reshaped(node, (int(np.prod(node.value().shape)),))


def _squeeze(node: _Node) -> _Value:
    shape = node.value().shape
    gone = {int(n) % (len(shape) + 1) for n in node.constant(1)}
    return _reshaped(node, tuple(n for axis, n in enumerate(shape, 1) if axis not in gone))


def _unsqueeze(node: _Node) -> _Value:
    shape = list(node.value().shape)
    axes = node.constant(1)
    for axis in sorted(int(n) % (len(shape) + 1 + len(axes)) for n in axes):
        shape.insert(axis - 1, 1)
    return _reshaped(node, tuple(shape))


def _transpose(node: _Node) -> _Value:
    value = node.value()
    order = [int(n) for n in node.attributes["perm"]]
    if order[0] != 0:
        raise node.refuse("moves the rows of a batch")
    tensor = node.tf.transpose(_as_onnx(node.tf, value), order)
    return _Value(tensor, tuple(value.shape[axis - 1] for axis in order[1:]))


_BUILDERS: dict[str, Callable[[_Node], _Value]] = {
    "Add": _add,
    "AveragePool": _pool,
    "Concat": _concat,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "Identity": lambda node: node.value(),
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Relu": _relu,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
