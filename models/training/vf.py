"""Make the fibrillation pack: `python -m models.training.vf --data DIR` (see NOTES.md).

People are held out in turn to score, to set the operating point and to calibrate; besides, each of the two databases of
ventricular arrhythmia is answered by a network that never saw anybody of it. The network that ships is then fitted to
all of them with what was found.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agent.evaluate.reference import Span
from models.pack import PACKS, load, probabilities, verify
from models.training import card, conformal, datasets, export, scores, vf_card
from models.training.datasets import Record
from models.training.export import Exported
from models.training.packing import write_pack
from models.training.quantize import export_float, quantize
from models.training.vf_examples import (
    LABELS,
    Examples,
    Streamed,
    concatenate,
    noise_examples,
    plain_examples,
    standstill_examples,
    stream,
    streamed,
    too_slow,
    varied_examples,
)
from models.training.vf_network import Recipe, fit, logits_of, parameters, shift
from models.training.vf_records import CUDB, VFDB, RhythmRecording, VfRecord, read_alarms, read_challenge, read_rhythm
from models.training.vf_trial import HeldOut, database, operating_point, scored

Float32 = npt.NDArray[np.float32]

SEED = 20
FOLDS = 4
CALIBRATION_ROWS = 4096
NOISE_LEARNT = 0.7
"""Share of each noise recording that is learnt from; the rest scores."""
VARIED = {
    "vfdb": {"OTHER": 0.4, "NOISE": 0.7, "ASYS": 2.0, "VT": 1.5, "VF": 2.5, "SLOWED": 1.0},
    "cudb": {"OTHER": 0.6, "VT": 2.0, "VF": 3.0, "SLOWED": 1.0},
    "mitdb": {"OTHER": 0.15, "VT": 4.0, "VF": 4.0},
    "svdb": {"OTHER": 0.15},
    "cinc2017": {"OTHER": 0.04, "NOISE": 0.15},
    "cinc2015": {"OTHER": 0.15},
}
"""Per database, altered windows of each kind for every second there is of it."""
EVERY_S = {"vfdb": 1, "cudb": 1, "mitdb": 4, "svdb": 7, "cinc2017": 8, "cinc2015": 4}
"""Of the windows as they are, one in so many is learnt from and scored."""


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """All windows there are."""

    plain: Examples
    """As the agent would cut them."""
    extra: Examples
    """Altered ones of the same people, only learnt from."""
    invented: Examples
    """Noise and standstill of nobody, only learnt from."""
    noise: Examples
    """Recorded noise that is not learnt from."""
    standstill: Examples
    """Standstill under that noise."""
    spans: dict[str, tuple[Span, ...]]
    """The rhythms of each person whose rhythms are annotated."""

    def learnt(self, held: Sequence[str] = ()) -> Examples:
        """All that may be learnt from without the people of `held`; slow waves are not taught to be fibrillation."""
        parts = [part.take(~np.isin(part.patient, list(held)) & ~too_slow(part)) for part in (self.plain, self.extra)]
        return concatenate([*parts, self.invented])


def vf_records() -> list[Record | VfRecord]:
    """The records with annotated rhythm or beats."""
    return [
        *(VfRecord("vfdb", name) for name in VFDB),
        *(VfRecord("cudb", name) for name in CUDB),
        *datasets.beat_records(),
    ]


def gather(data: Path, quick: bool) -> Gathered:
    """Stream every recording and cut it; with `quick`, without altered windows and with few of the negatives."""
    rng = np.random.default_rng(SEED)
    paths = [stream(x[:, k], 360.0)[0] for x in datasets.read_noise(data).values() for k in range(x.shape[1])]
    learnt = [path[: int(NOISE_LEARNT * len(path))] for path in paths]
    kept = [path[int(NOISE_LEARNT * len(path)) :] for path in paths]
    plain: list[Examples] = []
    extra: list[Examples] = []
    spans: dict[str, tuple[Span, ...]] = {}

    def take(recording: RhythmRecording) -> None:
        site = recording.patient.partition("/")[0]
        one = streamed(recording)
        plain.append(plain_examples(one, EVERY_S[site]))
        counts = {kind: 0.1 * count if quick else count for kind, count in VARIED[site].items()}
        extra.append(varied_examples(one, counts, learnt, rng))
        if not site.startswith("cinc"):
            spans[recording.patient] = recording.spans

    for record in vf_records():
        take(read_rhythm(data, record))
    for recording in [*read_challenge(data, 40 if quick else 2), *read_alarms(data)]:
        take(recording)
    invented = [
        noise_examples(learnt, 400 if quick else 4000, rng, "noise/learnt"),
        standstill_examples(learnt, 300 if quick else 3000, rng, "standstill/learnt"),
    ]
    alone = [
        Streamed("noise/kept", path[None], np.ones(len(path) // 250, dtype=np.bool_), (Span(0.0, 1e9, "NOISE"),))
        for path in kept
    ]
    return Gathered(
        concatenate(plain),
        concatenate(extra),
        concatenate(invented),
        concatenate([plain_examples(path) for path in alone]),
        standstill_examples(kept, 1500, rng, "standstill/kept"),
        spans,
    )


def folds(examples: Examples, count: int) -> list[frozenset[str]]:
    """Disjoint sets of people; every challenge recording counts as a person."""
    held = [set(fold) for fold in datasets.folds(vf_records(), count, SEED)]  # type: ignore[arg-type]
    for patient in np.unique(examples.patient).tolist():
        if patient.startswith("cinc"):
            held[zlib.crc32(patient.encode()) % count].add(patient)
    datasets.assert_disjoint(held)
    return [frozenset(fold) for fold in held]


def sites(examples: Examples) -> list[frozenset[str]]:
    """vfdb, cudb, and half of all others with either: each is answered by a network that saw the other."""
    others = sorted(set(examples.patient.tolist()))
    apart = [{p for p in others if p.startswith(site)} for site in ("vfdb/", "cudb/")]
    for number, patient in enumerate(p for p in others if not p.startswith(("vfdb/", "cudb/"))):
        apart[number % 2].add(patient)
    return [frozenset(side) for side in apart]


def cross_validate(
    gathered: Gathered, groups: Sequence[frozenset[str]], recipe: Recipe, name: str
) -> tuple[HeldOut, list[HeldOut]]:
    """Everybody's windows, said by networks fitted without them; and what each of these says of invented ones."""
    parts: list[HeldOut] = []
    invented: list[HeldOut] = []
    for number, held in enumerate(groups):
        train = gathered.learnt(sorted(held))
        test = gathered.plain.take(np.isin(gathered.plain.patient, sorted(held)))
        datasets.assert_disjoint([set(train.patient.tolist()), set(test.patient.tolist())])
        network = fit(train, recipe, SEED + number)
        with tempfile.TemporaryDirectory() as folder:
            exported = Exported(Path(folder), "vf")
            calibration = inputs_of(calibration_rows(train))
            export_float(network, calibration, exported.path("onnx-float"))
            quantize(exported.path("onnx-float"), calibration, exported.path("onnx"))
            for examples, into in ((test, parts), (concatenate([gathered.noise, gathered.standstill]), invented)):
                quantized = export.run(exported, "onnx", inputs_of(examples))
                into.append(HeldOut(examples, logits_of(network, examples), quantized))
        said = parts[-1].int8_logits.argmax(axis=1)[scored(test)]
        truth = test.label[scored(test)]
        say(
            f"{name} {number + 1}/{len(groups)}: sensitivity {100 * said[truth == 1].mean():.1f} %, "
            f"specificity {100 * (1 - said[truth == 0].mean()):.2f} %"
        )
    return joined(parts), invented


def joined(parts: Sequence[HeldOut]) -> HeldOut:
    return HeldOut(
        concatenate([part.examples for part in parts]),
        np.concatenate([part.float_logits for part in parts]),
        np.concatenate([part.int8_logits for part in parts]),
    )


def inputs_of(examples: Examples) -> dict[str, Float32]:
    """The network's inputs by name, in the order in which it takes them."""
    return {"signal": examples.signal.astype(np.float32), "context": examples.context}


def calibration_rows(train: Examples) -> Examples:
    """As many of each kind as there are, up to a fifth each of CALIBRATION_ROWS."""
    rng = np.random.default_rng(SEED)
    kinds = np.unique(train.kind[train.kind >= 0])
    chosen = [
        rng.permutation(np.flatnonzero(train.kind == kind))[: CALIBRATION_ROWS // len(kinds)] for kind in kinds.tolist()
    ]
    return train.take(np.concatenate(chosen))


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0 when the pack was written and verified."""
    parser = argparse.ArgumentParser(description="Make the fibrillation pack from PhysioNet recordings.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with vfdb/, cudb/, mitdb/, svdb/, noise/, cinc2017/, cinc2015/"
    )
    parser.add_argument("--out", type=Path, default=PACKS, help="folder to write the pack into (default: the shipped)")
    parser.add_argument("--quick", action="store_true", help="few steps and few windows: to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    recipe = replace(Recipe(), steps=150) if options.quick else Recipe()

    start = time.monotonic()
    gathered = gather(options.data, options.quick)
    say(f"{len(gathered.plain)} windows, {len(gathered.extra)} altered, after {time.monotonic() - start:.0f} s")
    held_out, invented = cross_validate(gathered, folds(gathered.plain, FOLDS), recipe, "fold")
    other_site, _ = cross_validate(gathered, sites(gathered.plain), recipe, "site")
    bias = operating_point(held_out)
    held_out, other_site = held_out.at(bias), other_site.at(bias)
    judged = held_out.of(scored(held_out.examples))
    apart = judged.of(np.isin(database(judged.examples), ("vfdb", "cudb")))
    temperature = scores.temperature(apart.int8_logits, apart.examples.label)
    everything = gathered.learnt()
    network: nn.Module = fit(everything, recipe, SEED, say)
    shift(network, bias)
    with tempfile.TemporaryDirectory() as folder:
        exported = export.export_all(network, inputs_of(calibration_rows(everything)), Path(folder), "vf")
        trial = vf_card.Trial(
            command="python -m models.training.vf --data DIR" + (" --quick" if options.quick else ""),
            seed=SEED,
            parameters=parameters(network),
            bias=bias,
            temperature=temperature,
            folds=FOLDS,
            people=sorted(set(everything.patient.tolist())),
            spans=gathered.spans,
            held_out=held_out,
            other_site=other_site,
            invented=[one.at(bias) for one in invented],
            agreement=export.agreement(exported, inputs_of(judged.examples)),
            conformal=conformal.thresholds(probabilities(apart.int8_logits, temperature), apart.examples.label, LABELS),
        )
        pack_path = write_pack(
            options.out / "vf",
            exported,
            vf_card.facts(trial),
            vf_card.golden_inputs(),
            card.text(vf_card.card(trial)),
            vf_card.plots(trial, Path(folder)),
        )
    verify(load(pack_path))
    for line in vf_card.summary(trial):
        say(line)
    say(f"wrote {pack_path}, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
