"""One network in four files that agree; what cannot be had in integers is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs the [train] extra: torch is absent")
pytest.importorskip("onnxscript", reason="export needs the [train] extra: onnxscript is absent")
pytest.importorskip("ai_edge_litert", reason="export needs the [train] extra: ai-edge-litert is absent")
pytest.importorskip("tensorflow", reason="export needs the [train] extra: tensorflow is absent")

import torch
from torch import nn

from models.training import export, quantize, tflite

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter and TensorFlow warn of their own deprecations

Inputs = dict[str, np.ndarray]


class EveryPart(nn.Module):
    """A network of every part that packs may be built of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(2, 8, 7, 2, 3, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.AvgPool1d(3, 1, 1)
        )
        self.block = nn.Sequential(nn.Conv1d(8, 8, 5, 1, 4, dilation=2, bias=False), nn.BatchNorm1d(8))
        self.narrow = nn.Conv1d(8, 4, 4, 3, 1)
        self.mean, self.max = nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(1)
        self.side = nn.Sequential(nn.Linear(5, 6), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(4 * 8 + 4 * 10 + 6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, signal: Any, context: Any) -> Any:
        x = self.stem(signal)
        x = torch.relu(x + self.block(x))
        pooled = [x.mean(2), x.amax(2), self.mean(x).flatten(1), self.max(x).squeeze(2)]
        return self.head(torch.cat([*pooled, self.narrow(x).flatten(1), self.side(context)], dim=1))


class Stack(nn.Module):
    """`signal` only, through any layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, signal: Any) -> Any:
        return self.layers(signal)


def rows(count: int, seed: int, **shapes: tuple[int, ...]) -> Inputs:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def settled(network: nn.Module, inputs: Inputs) -> nn.Module:
    """With batch statistics of the inputs, so that BatchNorm is not the identity."""
    network.train()
    network(*(torch.from_numpy(array) for array in inputs.values()))
    return network.eval()


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return rows(300, 1, signal=(2, 125), context=(5,))


@pytest.fixture(scope="module")
def network(inputs: Inputs) -> nn.Module:
    torch.manual_seed(3)
    return settled(EveryPart(), inputs)


@pytest.fixture(scope="module")
def exported(network: nn.Module, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> export.Exported:
    return export.export_all(network, inputs, tmp_path_factory.mktemp("exported"), "every")


def torch_logits(network: nn.Module, inputs: Inputs) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(*(torch.from_numpy(array) for array in inputs.values())))


def test_the_float_file_is_the_network(exported: export.Exported, network: nn.Module, inputs: Inputs) -> None:
    assert export.run(exported, "onnx-float", inputs) == pytest.approx(torch_logits(network, inputs), abs=1e-5)


@pytest.mark.parametrize("weights", ["onnx", "onnx-s8", "tflite"])
def test_each_8_bit_file_is_close_to_the_network(
    exported: export.Exported, network: nn.Module, inputs: Inputs, weights: Any
) -> None:
    expected = torch_logits(network, inputs)
    found = export.run(exported, weights, inputs)
    assert np.abs(found - expected).max() < 0.06 * np.ptp(expected)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.998


def test_decisions_agree(exported: export.Exported, inputs: Inputs) -> None:
    shares = export.agreement(exported, inputs)
    assert shares.keys() == {"onnx", "onnx-s8", "tflite"}
    assert min(shares.values()) > 0.95
    assert min(export.agreement(exported, inputs, steps=True).values()) > 0.95


def test_files_are_the_same_bytes_each_time(
    exported: export.Exported, network: nn.Module, inputs: Inputs, tmp_path: Path
) -> None:
    again = export.export_all(network, inputs, tmp_path, "every")
    for weights in export.ENDINGS:
        assert again.path(weights).read_bytes() == exported.path(weights).read_bytes()


def test_the_integer_file_gives_a_row_the_same_bits_in_any_batch(exported: export.Exported, inputs: Inputs) -> None:
    together = export.run(exported, "onnx", inputs)
    alone = [export.run(exported, "onnx", {k: v[i : i + 1] for k, v in inputs.items()}) for i in range(40)]
    assert np.concatenate(alone).tobytes() == together[:40].tobytes()
    assert quantize.float_operations(exported.path("onnx")) == []


def test_the_symmetric_file_has_no_zero_point_but_zero(exported: export.Exported) -> None:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(exported.path("onnx-s8"))).graph
    zeros = {one.name: numpy_helper.to_array(one) for one in graph.initializer if "zero_point" in one.name}
    used = [zeros[node.input[2]] for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert len(used) > 20
    assert all(zero.dtype == np.int8 and not zero.any() for zero in used)


def test_the_tflite_file_is_integer_from_input_to_output(exported: export.Exported) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(exported.path("tflite")))
    interpreter.allocate_tensors()
    types = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert types == {"int8", "int32"}
    assert interpreter.get_signature_list()["serving_default"] == {
        "inputs": ["context", "signal"],
        "outputs": ["logits"],
    }


def test_calibration_does_not_clip(tmp_path: Path) -> None:
    """One row in a thousand far outside the others still gets its answer."""
    inputs = rows(400, 2, signal=(1, 32))
    inputs["signal"][7] *= 20
    network = settled(Stack(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(120, 2)), inputs)
    exported = export.export_all(network, inputs, tmp_path, "wide")
    expected = torch_logits(network, inputs)
    for weights in ("onnx", "onnx-s8", "tflite"):
        found = export.run(exported, weights, inputs)
        assert found[7] == pytest.approx(expected[7], abs=0.04 * float(np.ptp(expected)))


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.LeakyReLU(0.1), nn.BatchNorm1d(8)])
def test_layers_that_would_run_in_float_are_refused(tmp_path: Path, layer: nn.Module) -> None:
    inputs = rows(64, 3, signal=(2, 40))
    network = settled(Stack(nn.Conv1d(2, 8, 3), nn.ReLU(), layer, nn.Flatten(), nn.Linear(8 * 38, 2)), inputs)
    with pytest.raises((quantize.FloatIslandError, tflite.UnsupportedNodeError), match=r"float|can be rebuilt"):
        export.export_all(network, inputs, tmp_path, "odd")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Conv1d(2, 8, 3, groups=2), nn.ReLU()), "Conv node .*: group is 2, only 1 can be rebuilt"),
        ((nn.Conv1d(2, 8, 3), nn.Tanh()), "Tanh node .*: only Add, .* can be rebuilt"),
        ((nn.Conv1d(2, 8, 3), nn.MaxPool1d(3, 2, 1), nn.ReLU()), r"MaxPool node .*: pads \(1, 1\) are not those"),
    ],
)
def test_nodes_that_tflite_cannot_have_are_named(tmp_path: Path, layers: Any, message: str) -> None:
    inputs = rows(8, 4, signal=(2, 40))
    network = settled(Stack(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2)), inputs)
    quantize.export_float(network, inputs, tmp_path / "odd.onnx")
    with pytest.raises(tflite.UnsupportedNodeError, match=message):
        tflite.convert(tmp_path / "odd.onnx", inputs, tmp_path / "odd.tflite")


def test_time_a_row_is_measured(exported: export.Exported, inputs: Inputs) -> None:
    assert 0 < export.microseconds_a_row(exported, inputs) < 10_000
