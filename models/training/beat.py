"""Make the beat pack: `python -m models.training.beat --data DIR` (see NOTES.md).

People are held out in turn to score, to set the operating point and to calibrate; the network that ships is then fitted
to all of them with what was found.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from agent.signal.beat_features import CONTEXT
from models.pack import PACKS, load, probabilities, verify
from models.training import datasets, scores
from models.training.datasets import Record
from models.training.examples import LABELS, Examples, concatenate, examples_of, reference_counts, rhythm_examples
from models.training.network import BeatNetwork, Recipe, fit, logits_of, parameters, shift
from models.training.packing import Facts, write_pack
from models.training.quantize import export_float, quantize

Float32 = npt.NDArray[np.float32]

SEED = 20
FOLDS = 4
VARIANTS = 5
CALIBRATION_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What networks said of people they had not met."""

    examples: Examples
    logits: Float32
    """(n, labels) of the float networks."""
    quantized: Float32
    """The same beats through the 8-bit networks."""


def gather(data: Path, records: list[Record], variants: int) -> tuple[Examples, Examples]:
    """Examples of the recordings as they are, and all that is only learnt from (variants, rhythms)."""
    noise = datasets.read_noise(data) if variants > 1 else {}
    plain: list[Examples] = []
    extra: list[Examples] = []
    for record in records:
        recording = datasets.read(data, record)
        plain.append(examples_of(recording, 0, noise))
        extra += [examples_of(recording, number, noise) for number in range(1, variants)]
    if variants > 1:
        extra += rhythm_examples(datasets.read_rhythms(data))
    return concatenate(plain), concatenate(extra) if extra else plain[0].take(np.zeros(len(plain[0]), dtype=bool))


def cross_validate(plain: Examples, extra: Examples, folds: list[frozenset[str]], recipe: Recipe) -> HeldOut:
    """Every person's beats, said by networks that were fitted without any recording of that person."""
    parts: list[HeldOut] = []
    for number, held in enumerate(folds):
        people = list(held)
        train = concatenate([part.take(~np.isin(part.patient, people)) for part in (plain, extra)])
        test = plain.take(np.isin(plain.patient, people))
        datasets.assert_disjoint([set(train.patient.tolist()), set(test.patient.tolist())])
        test = test.take(scores.scored(test))
        network = fit(train, recipe, SEED + number)
        with tempfile.TemporaryDirectory() as folder:
            quantized = _through_int8(network, train, test, Path(folder))
        parts.append(HeldOut(test, logits_of(network, test), quantized))
        counts = scores.confusion(test.label, parts[-1].logits.argmax(axis=1))
        say(f"fold {number + 1}/{len(folds)}: S {scores.score(counts, 'S')}, V {scores.score(counts, 'V')}")
    return HeldOut(
        concatenate([part.examples for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.quantized for part in parts]),
    )


def convert(network: BeatNetwork, train: Examples, folder: Path) -> tuple[Path, Path]:
    """Write beat.onnx (8 bit) and beat.float.onnx into `folder`; return both paths."""
    rows = _calibration_rows(train)
    inputs = {"signal": rows.signal.astype(np.float32), "context": rows.context}
    quantized, full = folder / "beat.onnx", folder / "beat.float.onnx"
    export_float(network, inputs, full)
    quantize(full, inputs, quantized)
    return quantized, full


def run_onnx(path: Path, examples: Examples) -> Float32:
    """Logits (n, labels) of an ONNX file."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    parts = [
        session.run(
            None, {"signal": examples.signal[i : i + 256].astype(np.float32), "context": examples.context[i : i + 256]}
        )[0]
        for i in range(0, len(examples), 256)
    ]
    return np.concatenate(parts).astype(np.float32)


def _through_int8(network: BeatNetwork, train: Examples, test: Examples, folder: Path) -> Float32:
    return run_onnx(convert(network, train, folder)[0], test)


def _calibration_rows(train: Examples) -> Examples:
    """As many of each class as there are, up to a quarter each of CALIBRATION_ROWS."""
    rng = np.random.default_rng(SEED)
    chosen = [
        rng.permutation(np.flatnonzero(train.label == k))[: CALIBRATION_ROWS // len(LABELS)] for k in range(len(LABELS))
    ]
    return train.take(np.concatenate(chosen))


def microseconds_a_beat(path: Path, features: int) -> float:
    """Median time of a run at batch 256, on one thread, divided by 256."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {
        "signal": rng.normal(size=(256, 2, 125)).astype(np.float32),
        "context": rng.normal(size=(256, features)).astype(np.float32),
    }
    times = []
    for _ in range(60):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) / 256 * 1e6, 2)


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0 when the pack was written and verified."""
    parser = argparse.ArgumentParser(description="Make the beat pack from PhysioNet recordings.")
    parser.add_argument("--data", type=Path, required=True, help="folder with mitdb/, svdb/, noise/ and cinc2017/")
    parser.add_argument("--out", type=Path, default=PACKS, help="folder to write the pack into (default: the shipped)")
    parser.add_argument("--quick", action="store_true", help="few steps and no variants: to see that it works")
    parser.add_argument("--fetch", action="store_true", help="download missing mitdb and svdb records from PhysioNet")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    records = datasets.beat_records()
    if options.fetch:
        datasets.fetch(options.data, records)
    recipe = replace(Recipe(), steps=150) if options.quick else Recipe()

    start = time.monotonic()
    plain, extra = gather(options.data, records, 1 if options.quick else VARIANTS)
    say(f"{len(plain)} beats and {len(extra)} more to learn from, after {time.monotonic() - start:.0f} s")
    held_out = cross_validate(plain, extra, datasets.folds(records, FOLDS, SEED), recipe)
    bias = scores.operating_point(held_out.quantized, held_out.examples.label)
    temperature = scores.temperature(held_out.quantized + bias, held_out.examples.label)
    everything = concatenate([plain, extra])
    network = fit(everything, recipe, SEED, say)
    shift(network, bias)
    with tempfile.TemporaryDirectory() as folder:
        quantized, full = convert(network, everything, Path(folder))
        facts = Facts(
            records=records,
            rhythms=any(name.startswith("cinc2017/") for name in np.unique(everything.patient).tolist()),
            noise=not options.quick,
            seed=SEED,
            command="python -m models.training.beat --data DIR" + (" --quick" if options.quick else ""),
            framework=f"torch {torch.__version__.split('+')[0]}, onnxruntime {onnxruntime.__version__}",
            parameters=parameters(network),
            batch_us=microseconds_a_beat(quantized, len(CONTEXT)),
            bias=bias,
            temperature=temperature,
            folds=FOLDS,
            truth=held_out.examples,
            float_logits=held_out.logits + bias,
            int8_logits=held_out.quantized + bias,
            reference=[reference_counts(datasets.read(options.data, record), scores.LEARNING_S) for record in records],
        )
        pack_path = write_pack(options.out / "beat", quantized, full, facts)
    difference = verify(load(pack_path))
    said = probabilities(held_out.quantized + bias, temperature)
    say(f"calibration error {scores.calibration_error(said, held_out.examples.label):.4f} at temperature {temperature}")
    say(f"wrote {pack_path}: golden difference {difference:.6f}, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
