"""Make the glucose pack: `python -m models.training.glucose --data DIR` (see NOTES.md).

People are held out in turn to score, to calibrate and to find where alarms begin; besides, each of the three sets is
answered by networks that never saw anybody of it. The network that ships is then fitted to all of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agent.scoring.glucose import Grid
from agent.signal.glucose_window import UNIT_MG_DL
from agent.signal.outlook import HORIZONS_MIN
from models.pack import PACKS, load, verify
from models.training import card, export, glucose_card, glucose_figures
from models.training.datasets import assert_disjoint
from models.training.export import Exported
from models.training.glucose_examples import Examples, concatenate, examples_of, without_clock
from models.training.glucose_network import MEANS, OUTPUTS, Recipe, fit, outputs_of, parameters
from models.training.glucose_records import Person, folds, read_person, sites, subjects
from models.training.glucose_scores import Calibration, HeldOut, calibrate, grids_of
from models.training.packing import write_pack
from models.training.quantize import export_float, quantize

Float32 = npt.NDArray[np.float32]

SEED = 30
FOLDS = 6
CALIBRATION_ROWS = 4096
FAR_MG_DL = 80.0
SAMPLE = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """All readings there are."""

    examples: Examples
    """Person by person, in the order of `grids`."""
    grids: dict[str, Grid]

    @property
    def people(self) -> list[str]:
        return list(self.grids)


def gather(people: Sequence[Person]) -> Gathered:
    """Everybody's readings with what the agent would have known at each."""
    return Gathered(concatenate([examples_of(person) for person in people]), grids_of(people))


def cross_validate(gathered: Gathered, groups: Sequence[frozenset[str]], recipe: Recipe, name: str) -> HeldOut:
    """Everybody's readings, answered by networks fitted without them, in float and in 8 bit."""
    assert_disjoint([set(group) for group in groups])
    everybody = gathered.examples
    full = np.zeros((len(everybody), OUTPUTS), dtype=np.float32)
    quantized, timeless = np.zeros_like(full), np.zeros_like(full)
    for number, held in enumerate(groups):
        start = time.monotonic()
        train = everybody.without(held)
        network = fit(train, recipe, SEED + number)
        rows = np.isin(everybody.patient, sorted(held))
        test = everybody.take(rows)
        assert_disjoint([set(np.unique(train.patient).tolist()), set(np.unique(test.patient).tolist())])
        full[rows] = outputs_of(network, test)
        with tempfile.TemporaryDirectory() as folder:
            exported = Exported(Path(folder), "glucose")
            calibration = calibration_rows(train).inputs
            export_float(network, calibration, exported.path("onnx-float"))
            quantize(exported.path("onnx-float"), calibration, exported.path("onnx"))
            quantized[rows] = export.run(exported, "onnx", test.inputs)
            timeless[rows] = export.run(exported, "onnx", without_clock(test).inputs)
        found = [*rmse(quantized[rows], test), *rmse(timeless[rows], test)]
        errors = " / ".join(f"{one:.2f}" for one in found)
        say(f"{name} {number + 1}/{len(groups)}: RMSE {errors}, {time.monotonic() - start:.0f} s")
    return HeldOut(everybody, gathered.grids, quantized, full, timeless)


def calibration_rows(examples: Examples) -> Examples:
    """CALIBRATION_ROWS of the examples, half of them where glucose moved far: 8-bit ranges must hold these too."""
    rng = np.random.default_rng(SEED)
    far = np.flatnonzero(np.abs(np.nan_to_num(examples.change)).max(axis=1) > FAR_MG_DL)
    half = CALIBRATION_ROWS // 2
    chosen = [rng.integers(len(examples), size=half), rng.choice(far, half) if len(far) else far]
    return examples.take(np.concatenate(chosen))


def rmse(outputs: Float32, examples: Examples) -> tuple[float, float]:
    """At the horizons, in mg/dL, over what the protocol scores."""
    judged = examples.judged
    off = outputs[judged][:, MEANS] * UNIT_MG_DL - examples.change[judged]
    found = np.sqrt(np.mean(off.astype(np.float64) ** 2, axis=0))
    return float(found[0]), float(found[1])


def write_answers(path: Path, held_out: HeldOut, calibration: Calibration) -> None:
    """The held-out 8-bit answers as columns of an .npz, for what comes after the network; whole or not at all."""
    examples = held_out.examples
    changes = calibration.changes(held_out.outputs) + examples.mg_dl[:, None, None]
    p = calibration.probabilities(held_out.outputs)
    columns: dict[str, Any] = {
        f"f{minutes}{end}": changes[:, k, place]
        for k, minutes in enumerate(HORIZONS_MIN)
        for place, end in enumerate(("_low", "", "_high"))
    }
    columns |= {name: p[:, k] for k, name in enumerate(("p_low", "p_urgent", "p_high"))}
    unfinished = path.with_suffix(".part.npz")
    np.savez(
        unfinished,
        set=np.array([one.partition("/")[0] for one in examples.patient.tolist()]),
        subject=examples.patient,
        t_ns=examples.t_ns,
        mg_dl=examples.mg_dl,
        usable=examples.usable,
        **columns,
    )
    unfinished.rename(path)


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0 when the pack was written and verified."""
    parser = argparse.ArgumentParser(description="Make the glucose pack from three published sets of readings.")
    parser.add_argument("--data", type=Path, required=True, help="folder with glucose/SET/SUBJECT.csv")
    parser.add_argument("--out", type=Path, default=PACKS, help="folder to write the pack into (default: the shipped)")
    parser.add_argument("--answers", type=Path, help="folder for held-out answers: folds.npz, sites.npz")
    parser.add_argument("--quick", action="store_true", help="few people and steps: to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    recipe = replace(Recipe(), passes=0.5, averaging=0.9) if options.quick else Recipe()

    start = time.monotonic()
    named = list(subjects())[:: 6 if options.quick else 1]
    gathered = gather([read_person(options.data, dataset, name) for dataset, name in named])
    say(f"{len(gathered.examples)} readings after {time.monotonic() - start:.0f} s")
    groups = folds(gathered.people, 2 if options.quick else FOLDS, SEED)
    held_out = cross_validate(gathered, groups, recipe, "fold")
    calibration = calibrate(held_out)
    other_site = cross_validate(gathered, sites(gathered.people), recipe, "site")
    if options.answers:
        options.answers.mkdir(parents=True, exist_ok=True)
        write_answers(options.answers / "folds.npz", held_out, calibration)
        write_answers(options.answers / "sites.npz", other_site, calibration)
    network = fit(gathered.examples, recipe, SEED, say)
    with tempfile.TemporaryDirectory() as folder:
        exported = export.export_all(network, calibration_rows(gathered.examples).inputs, Path(folder), "glucose")
        rng = np.random.default_rng(SEED)
        judged = np.flatnonzero(gathered.examples.judged)
        sample = gathered.examples.take(rng.choice(judged, SAMPLE // (10 if options.quick else 1)))
        trial = glucose_card.Trial(
            command="python -m models.training.glucose --data DIR" + (" --quick" if options.quick else ""),
            seed=SEED,
            parameters=parameters(network),
            folds=len(groups),
            calibration=calibration,
            held_out=held_out,
            other_site=other_site,
            files={name: rmse(export.run(exported, name, sample.inputs), sample) for name in export.ENDINGS},
            sample=len(sample),
        )
        pack_path = write_pack(
            options.out / "glucose",
            exported,
            glucose_card.facts(trial),
            glucose_figures.golden_inputs(),
            card.text(glucose_card.card(trial)),
            glucose_figures.plots(held_out, other_site, calibration, exported, Path(folder)),
        )
    verify(load(pack_path))
    for line in glucose_card.summary(trial):
        say(line)
    say(f"wrote {pack_path}, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
