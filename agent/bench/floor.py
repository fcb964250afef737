"""What a second of one patient's ECG costs at least: the arithmetic of networks and filters, and how fast it is done.

Multiplications are counted from the shapes of the quantized networks' layers; how fast this machine does them, and
prepares their inputs, is measured. What `vagus bench` measures beyond that is the way around it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.bench.figures import finish, head, machine, row
from agent.inference import PackModel, shipped_models
from agent.signal import rhythm_window, second_opinion, vf_window
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ
from models.pack import QUANTIZED, ModelPack

Float32 = npt.NDArray[np.float32]

ROWS_A_SECOND = {
    "beat": 75 / 60,  # beats, at 75 a minute
    "qrs": 1 / second_opinion.HOP_S,
    "rhythm": 1 / rhythm_window.HOP_S,
    "vf": 1 / vf_window.HOP_S,
    "glucose": 1 / 300,  # a reading every five minutes
}
BATCHES = (1, 8, 64, 256)
MOST = max(BATCHES)
_SECTIONS = 3
"""Second-order sections of both paths without a mains notch: five products and four sums a sample each."""
_TAPS = 2 * MORPHOLOGY_DELAY + 1
_BEST_OF = 5


def floor_command(args: argparse.Namespace) -> int:
    """Only the floor: print it, and write JSON where asked."""
    figures = floor()
    sys.stdout.write(f"the least a second of one patient costs on {machine()}\n")
    head(
        (
            "network",
            "MACs a row",
            "rows a s",
            "µs a row, alone",
            "at best (rows)",
            "GMAC/s",
            "µs a s",
            "to prepare: µs a s",
        )
    )
    for name, of in figures["networks"].items():
        best_us, prepare_us = of["us_a_row"][str(of["best_rows"])], of["prepare_us_a_second"]
        row(
            (
                name,
                of["macs"],
                f"{of['rows_a_second']:.4g}",
                f"{of['us_a_row']['1']:.1f}",
                f"{best_us:.2f} ({of['best_rows']})",
                f"{of['macs'] / best_us / 1000:.1f}",
                f"{of['us_a_second']:.2f}",
                "-" if prepare_us is None else f"{prepare_us:.2f}",
            )
        )
    sys.stdout.write(f"networks together: {figures['us_a_second']:.1f} µs a patient-second, ")
    sys.stdout.write(f"their windows' inputs {figures['prepare_us_a_second']:.1f}\n")
    sys.stdout.write(f"filters: {figures['filter_flops_a_second']} sums and products a patient-second\n")
    finish("floor", figures, args)
    return 0


def floor() -> dict[str, Any]:
    """Of each network that ships: MACs a row, µs CPU a row by batch, and what that is in a second of one patient."""
    prepare_us = {task: _us_a_row(work, MOST) for task, work in _preparations().items()}
    networks = {}
    for task, model in shipped_models().by_task.items():
        by_batch = {str(rows): _us_a_row(_asking(model, rows), rows) for rows in BATCHES}
        best = min(by_batch, key=by_batch.__getitem__)
        a_second = ROWS_A_SECOND[task]
        networks[task] = {
            "macs": macs(model.pack),
            "rows_a_second": a_second,
            "us_a_row": by_batch,
            "best_rows": int(best),
            "us_a_second": by_batch[best] * a_second,
            "prepare_us_a_second": prepare_us[task] * a_second if task in prepare_us else None,
        }
    return {
        "networks": networks,
        "us_a_second": sum(of["us_a_second"] for of in networks.values()),
        "prepare_us_a_second": sum(of["prepare_us_a_second"] or 0.0 for of in networks.values()),
        # The low-pass is symmetric: pairs of samples are added first.
        "filter_flops_a_second": ANALYSIS_RATE_HZ * (_SECTIONS * 9 + (_TAPS // 2) + (_TAPS // 2 + 1) + (_TAPS // 2)),
    }


def macs(pack: ModelPack) -> int:
    """Multiplications with a sum, for one row, of the layers that have weights: convolutions and matrix products.

    ONNX Runtime itself tells the shapes: it runs the graph once as it was written, with notes.
    """
    import onnxruntime  # noqa: PLC0415  (36 MB, 0.3 s: only where it is wanted)

    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "shapes")
        session = onnxruntime.InferenceSession(pack.weights[QUANTIZED], options, providers=["CPUExecutionProvider"])
        session.run(None, _noughts(pack, 1))
        notes = json.loads(Path(session.end_profiling()).read_text())
    return sum(_macs_of(note["args"]) for note in notes if note["name"].endswith("kernel_time"))


def _macs_of(layer: Mapping[str, Any]) -> int:
    """Each output is a sum over the weights of its channel, which come first in their shape."""
    if layer["op_name"] not in {"Conv", "Gemm"}:
        return 0
    shapes: list[list[int]] = [
        next(iter(layer[key][at].values())) for key, at in (("output_type_shape", 0), ("input_type_shape", 1))
    ]
    made, weights = shapes
    return math.prod(made) * math.prod(weights[1:])


def _noughts(pack: ModelPack, rows: int) -> dict[str, Float32]:
    return {name: np.zeros((rows, *shape), dtype=np.float32) for name, shape in pack.input_shapes.items()}


def _asking(model: PackModel, rows: int) -> Callable[[], object]:
    inputs = _noughts(model.pack, rows)
    return lambda: model.probabilities(inputs)


def _preparations() -> dict[str, Callable[[], object]]:
    """Of each network that is asked by the clock: its inputs for MOST windows of noise with a beat every 0.8 s."""
    rng = np.random.default_rng(1)

    def noise(samples: int) -> Float32:
        return rng.normal(0.0, 0.3, (MOST, samples)).astype(np.float32)

    beats = np.arange(100, round(rhythm_window.BEFORE_S * ANALYSIS_RATE_HZ), 200)
    qrs, vf, path = (noise(n) for n in (second_opinion.WINDOW, vf_window.WINDOW_SAMPLES, rhythm_window.SAMPLES))
    known = np.full(MOST, rhythm_window.SAMPLES)
    return {
        "qrs": lambda: second_opinion.prepare(qrs),
        "vf": lambda: vf_window.prepare(vf),
        "rhythm": lambda: rhythm_window.prepare(path, known, [beats] * MOST),
    }


def _us_a_row(work: Callable[[], object], rows: int) -> float:
    """CPU µs a row, the best of several; each of them as often as makes a number of rows worth timing."""
    times = max(1, MOST // rows)
    work()
    spent = []
    for _ in range(_BEST_OF):
        began_s = time.process_time()
        for _ in range(times):
            work()
        spent.append(time.process_time() - began_s)
    return 1e6 * min(spent) / (times * rows)
