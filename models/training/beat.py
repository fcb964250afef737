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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from agent.ecg_flow import FIBRILLATES_FROM
from agent.inference import Models, PackModel
from agent.ingest.replay import EPOCH_NS
from agent.replay import observe
from agent.signal.pending import DECIDE_S
from firmware_bridge.chunk import NS_PER_S
from models.pack import PACKS, load, probabilities, shipped, verify
from models.training import beat_card, card, conformal, datasets, export, scores
from models.training.datasets import Record
from models.training.examples import LABELS, Examples, concatenate, examples_of, reference_counts, rhythm_examples
from models.training.network import BeatNetwork, Recipe, fit, logits_of, parameters, shift
from models.training.packing import write_pack
from models.training.quantize import export_float, quantize

Float32 = npt.NDArray[np.float32]

SEED = 20
FOLDS = 4
VARIANTS = 6
CALIBRATION_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What networks said of people they had not met."""

    examples: Examples
    logits: Float32
    """(n, labels) of the float networks."""
    quantized: Float32
    """The same beats through the 8-bit networks."""


def gather(
    data: Path, records: list[Record], variants: int, widen: Callable[[Examples], Examples] = lambda examples: examples
) -> tuple[Examples, Examples]:
    """Examples of the recordings as they are, and all that is only learnt from (variants, rhythms).

    `widen` is applied to the examples of each stream.
    """
    noise = datasets.read_noise(data) if variants > 1 else {}
    plain: list[Examples] = []
    extra: list[Examples] = []
    for record in records:
        recording = datasets.read(data, record)
        plain.append(widen(examples_of(recording, 0, noise)))
        extra += [widen(examples_of(recording, number, noise)) for number in range(1, variants)]
    if variants > 1:
        extra += map(widen, rhythm_examples(datasets.read_rhythms(data)))
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


def known_fibrillation(data: Path, records: list[Record], examples: Examples) -> npt.NDArray[np.bool_]:
    """Which beats the shipped rhythm pack, streamed, calls part of atrial fibrillation when they are classified."""
    rhythm = PackModel(load(shipped("rhythm")))
    fibrillates = np.zeros(len(examples), dtype=np.bool_)
    for record in records:
        own = np.flatnonzero(examples.patient == record.patient)
        said = observe(data / record.database / record.name, Models(rhythm=rhythm)).predictions
        known_s = np.array([(one.at_ns - EPOCH_NS) / NS_PER_S for one in said])
        is_af = np.array([one.usable and one.label == "A" and one.probability >= FIBRILLATES_FROM for one in said])
        last = np.searchsorted(known_s, examples.time_s[own] + DECIDE_S, side="right") - 1
        fibrillates[own] = (last >= 0) & is_af[np.maximum(last, 0)]
    return fibrillates


def convert(network: BeatNetwork, train: Examples, folder: Path) -> tuple[Path, Path]:
    """Write beat.onnx (8 bit) and beat.float.onnx into `folder`; return both paths."""
    inputs = inputs_of(_calibration_rows(train))
    quantized, full = folder / "beat.onnx", folder / "beat.float.onnx"
    export_float(network, inputs, full)
    quantize(full, inputs, quantized)
    return quantized, full


def inputs_of(examples: Examples) -> dict[str, Float32]:
    """The network's inputs by name, in the order in which it takes them."""
    return {"signal": examples.signal.astype(np.float32), "context": examples.context}


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


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0 when the pack was written and verified."""
    parser = argparse.ArgumentParser(description="Make the beat pack from PhysioNet recordings.")
    parser.add_argument("--data", type=Path, required=True, help="folder with mitdb/, svdb/, noise/ and cinc2017/")
    parser.add_argument("--out", type=Path, default=PACKS, help="folder to write the pack into (default: the shipped)")
    parser.add_argument("--quick", action="store_true", help="few steps and no variants: to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    records = datasets.beat_records()
    recipe = replace(Recipe(), steps=150) if options.quick else Recipe()

    start = time.monotonic()
    plain, extra = gather(options.data, records, 1 if options.quick else VARIANTS)
    say(f"{len(plain)} beats and {len(extra)} more to learn from, after {time.monotonic() - start:.0f} s")
    held_out = cross_validate(plain, extra, datasets.folds(records, FOLDS, SEED), recipe)
    in_fibrillation = known_fibrillation(options.data, records, held_out.examples)
    ruled = beat_card.without_s(held_out.quantized, in_fibrillation)
    bias = scores.operating_point(ruled, held_out.examples.label)
    temperature = scores.temperature(held_out.quantized + bias, held_out.examples.label)
    everything = concatenate([plain, extra])
    network = fit(everything, recipe, SEED, say)
    shift(network, bias)
    said = probabilities(held_out.quantized + bias, temperature)
    with tempfile.TemporaryDirectory() as folder:
        exported = export.export_all(network, inputs_of(_calibration_rows(everything)), Path(folder), "beat")
        trial = beat_card.Trial(
            records=records,
            rhythms=any(name.startswith("cinc2017/") for name in np.unique(everything.patient).tolist()),
            noise=not options.quick,
            seed=SEED,
            command="python -m models.training.beat --data DIR" + (" --quick" if options.quick else ""),
            parameters=parameters(network),
            bias=bias,
            temperature=temperature,
            folds=FOLDS,
            truth=held_out.examples,
            float_logits=held_out.logits + bias,
            int8_logits=held_out.quantized + bias,
            in_fibrillation=in_fibrillation,
            reference=[reference_counts(datasets.read(options.data, record), scores.LEARNING_S) for record in records],
            agreement=export.agreement(exported, inputs_of(held_out.examples)),
            conformal=conformal.thresholds(said, held_out.examples.label, LABELS),
        )
        plots = beat_card.plots(trial, Path(folder))
        pack_path = write_pack(
            options.out / "beat",
            exported,
            beat_card.facts(trial),
            beat_card.golden_inputs(),
            card.text(beat_card.card(trial)),
            plots,
        )
    difference = verify(load(pack_path))
    say(f"calibration error {scores.calibration_error(said, held_out.examples.label):.4f} at temperature {temperature}")
    say(f"wrote {pack_path}: golden difference {difference:.6f}, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
