"""One trained network, four files: float and integer ONNX, symmetric ONNX for TensorRT, full-integer TFLite.

A network is built of Conv1d, Linear, ReLU, BatchNorm1d right behind either, mean and max pooling, concatenation,
addition and flattening; it takes `signal` (batch, channels, samples), perhaps `context` (batch, features), and gives
`logits`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from models.manifest import WeightsName
from models.training import quantize, tflite

Float32 = npt.NDArray[np.float32]

FLOAT: WeightsName = "onnx-float"
BATCH = 256
ENDINGS: dict[WeightsName, str] = {
    "onnx": "int8.onnx",
    "onnx-s8": "s8.onnx",
    "tflite": "tflite",
    "onnx-float": "float.onnx",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of one network, NAME.<ending> in a folder."""

    folder: Path
    name: str

    def path(self, weights: WeightsName) -> Path:
        return self.folder / f"{self.name}.{ENDINGS[weights]}"


def export_all(network: torch.nn.Module, calibration: dict[str, Float32], folder: Path, name: str) -> Exported:
    """Write the four files of `network` into `folder`.

    `calibration` holds rows of the network's inputs in the order in which it takes them: a few hundred to a few
    thousand that span what will be seen, training rows only. Ranges are their minima and maxima.
    Raises quantize.FloatIslandError and tflite.UnsupportedNodeError where the network cannot be had in integers.
    """
    exported = Exported(folder, name)
    folder.mkdir(parents=True, exist_ok=True)
    full = exported.path(FLOAT)
    quantize.export_float(network, calibration, full)
    quantize.quantize(full, calibration, exported.path("onnx"))
    quantize.quantize_symmetric(full, calibration, exported.path("onnx-s8"))
    tflite.convert(full, calibration, exported.path("tflite"))
    return exported


def run(exported: Exported, weights: WeightsName, inputs: dict[str, Float32]) -> Float32:
    """Logits, (rows, outputs) float32, of one of the files, on this machine's CPU.

    The symmetric file is run as it reads, every quantizing and dequantizing step by itself: so an accelerator means it.
    """
    path = exported.path(weights)
    if weights == "tflite":
        return tflite.run(path, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if weights == "onnx-s8":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    rows = len(next(iter(inputs.values())))
    parts = [
        session.run(None, {name: array[i : i + BATCH] for name, array in inputs.items()})[0]
        for i in range(0, rows, BATCH)
    ]
    return np.concatenate(parts).astype(np.float32)


def agreement(exported: Exported, inputs: dict[str, Float32], steps: bool = False) -> dict[WeightsName, float]:
    """Share of decisions in which each 8-bit file and the float network are of one mind on `inputs`.

    A decision is the label of the largest logit of a row; with `steps`, the sign of each logit.
    """

    def decide(logits: Float32) -> npt.NDArray[np.generic]:
        return logits > 0 if steps else logits.argmax(axis=1)

    full = decide(run(exported, FLOAT, inputs))
    return {name: float((decide(run(exported, name, inputs)) == full).mean()) for name in ENDINGS if name != FLOAT}


def microseconds_a_row(exported: Exported, inputs: dict[str, Float32]) -> float:
    """Median time of a run of the 8-bit ONNX network at batch 256, on one thread, divided by 256."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        exported.path("onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    batch = {name: np.resize(array, (BATCH, *array.shape[1:])) for name, array in inputs.items()}
    times = []
    for _ in range(60):
        start = time.perf_counter()
        session.run(None, batch)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) / BATCH * 1e6, 2)
