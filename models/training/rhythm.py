"""Make the rhythm pack: `python -m models.training.rhythm --data DIR` (see NOTES.md).

Recordings are held out in turn to score, to set the operating point and to calibrate; the network that ships is then
fitted to all of them with what was found.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from agent.signal.rhythm_window import RATE_HZ
from models.pack import PACKS, load, verify
from models.training import card, conformal, export, quantize, rhythm_card
from models.training.datasets import DS1, SVDB, Record, assert_disjoint, read, read_noise
from models.training.packing import write_pack
from models.training.rhythm_examples import Streamed, Windows, cut, from_beats, live_spans, stream_variant, together
from models.training.rhythm_examples import load as load_streamed
from models.training.rhythm_examples import save as save_streamed
from models.training.rhythm_fit import Pool, Recipe, bank, fit, hide_signal, logits_of, piece, shift
from models.training.rhythm_network import RhythmNetwork, parameters
from models.training.rhythm_records import (
    AFDB,
    LABELS,
    NOT_A,
    NSRDB,
    VFDB,
    RhythmRecording,
    read_afdb,
    read_all_cinc2017,
    read_mitdb,
    read_nsrdb,
    read_vfdb,
    stratified_folds,
)
from models.training.rhythm_scores import Said, answers, letters, operating_point, truth, window_shares
from models.training.scores import temperature

Float32 = npt.NDArray[np.float32]

SEED = 20
FOLDS = 5
CALIBRATION_ROWS = 2048
TIMED_HOP_S = 8.0
"""Windows of beat times alone are that far apart: they fill days."""
UNSURE_SVDB = frozenset({"svdb/804", "svdb/867"})
"""Without annotated rhythms, and with beats so irregular that fibrillation cannot be excluded: not learnt from."""


@dataclass(frozen=True, slots=True, eq=False)
class Everybody:
    """All recordings, streamed."""

    short: list[list[Streamed]]
    """CinC 2017: as recorded, and two variants."""
    long: list[list[Streamed]]
    """mitdb, vfdb and svdb: as recorded, and (not svdb) a variant."""
    timed: list[Streamed]
    """afdb and nsrdb, of which only beat times are given."""

    @property
    def labels(self) -> dict[str, int]:
        """Patient → label of the short recordings, 0 for all others."""
        others = [*self.long[0], *self.timed]
        return {s.patient: s.rhythms[0][1] for s in self.short[0]} | {s.patient: 0 for s in others}


def gather(data: Path, cache: Path, variants: int) -> Everybody:
    """All recordings through the live signal path; what was streamed before is taken from `cache`."""
    noise = read_noise(data)
    cache.mkdir(parents=True, exist_ok=True)

    def variant(name: str, number: int, recordings: Callable[[], list[RhythmRecording]]) -> list[Streamed]:
        kept = cache / f"{name}.{number}.npz"
        if not kept.exists():
            save_streamed(kept, [stream_variant(recording, number, noise) for recording in recordings()])
            say(f"streamed {name}, variant {number}")
        return load_streamed(kept)

    def mitdb() -> list[RhythmRecording]:
        return [read_mitdb(data, name) for name in DS1]

    def vfdb() -> list[RhythmRecording]:
        return [read_vfdb(data, name) for name in VFDB]

    long = [variant("mitdb", 0, mitdb) + variant("vfdb", 0, vfdb) + variant("svdb", 0, lambda: _svdb(data))]
    if variants > 1:
        long.append(variant("mitdb", 1, mitdb) + variant("vfdb", 1, vfdb))
    timed = [from_beats(read_afdb(data, name)) for name in AFDB] + [
        from_beats(read_nsrdb(data, name)) for name in NSRDB
    ]
    short = [variant("cinc2017", number, lambda: read_all_cinc2017(data)) for number in range(variants)]
    return Everybody(short, long, [one for one in timed if one.samples])


def _svdb(data: Path) -> list[RhythmRecording]:
    recordings = [read(data, Record("svdb", name)) for name in SVDB]
    return [RhythmRecording(r.record.patient, r.rate_hz, r.signals, r.lead, ((0.0, NOT_A),)) for r in recordings]


def pool_of(everybody: Everybody, rng: np.random.Generator) -> Pool:
    """What is learnt from: windows of every recording."""
    short = [bank(everybody.short[0], 2, 0.0, rng), bank(everybody.short[0], 2, 1.0, rng)]
    short += [bank(variant, 2, 0.4, rng) for variant in everybody.short[1:]]
    of_svdb = [s for s in everybody.long[0] if s.patient.startswith("svdb/") and s.patient not in UNSURE_SVDB]
    others = [[s for s in variant if not s.patient.startswith("svdb/")] for variant in everybody.long]
    long = [bank(variant, 80, 0.4, rng) for variant in others] + [bank(of_svdb, 20, 0.4, rng)]
    return Pool(together(short), together(long), hide_signal(bank(everybody.timed, 300, 0.4, rng)))


Answer = Callable[[Windows], Float32]
"""Logits (n, labels) of windows."""


def said_of(recordings: Sequence[Streamed], answer: Answer) -> list[Said]:
    """What a network says of the live windows of each recording."""
    said: list[Said] = []
    for recording in recordings:
        parts: list[Windows] = []
        if len(recording.path):
            spans = live_spans(recording.samples)
            parts += [cut([recording] * len(spans[i : i + 512]), spans[i : i + 512]) for i in range(0, len(spans), 512)]
        else:
            spans = live_spans(recording.samples, TIMED_HOP_S)
            for i in range(0, len(spans), 512):
                pieces = [piece(recording, *span) for span in spans[i : i + 512]]
                parts.append(hide_signal(cut(pieces, [(0, to - start) for start, to in spans[i : i + 512]])))
        windows = together(parts)
        starts, ends = (np.array(edge) / RATE_HZ for edge in zip(*spans, strict=True))
        said.append(Said(recording.patient, starts, ends, answer(windows), windows.label))
    return said


def cross_validate(everybody: Everybody, pool: Pool, recipe: Recipe) -> rhythm_card.HeldOut:
    """Every recording's windows, said by networks that were fitted without it, as 8-bit and as float networks."""
    short: list[Said] = []
    long: list[Said] = []
    full: list[Said] = []
    for number, held in enumerate(stratified_folds(everybody.labels, FOLDS, SEED)):
        learnt = pool.without(held)
        assert_disjoint([learnt.people, held])
        network = fit(learnt, recipe, SEED + number)
        test = [s for s in everybody.short[0] if s.patient in held]
        others = [s for s in [*everybody.long[0], *everybody.timed] if s.patient in held]
        with tempfile.TemporaryDirectory() as folder:
            answer = through_int8(network, learnt, recipe, Path(folder))
            short += said_of(test, answer)
            long += said_of(others, answer)
        full += said_of(test, lambda windows, network=network: logits_of(network, windows, recipe))  # type: ignore[misc]
        nought = np.zeros(len(LABELS), dtype=np.float32)
        f1 = rhythm_card.mean_of(truth(short), letters(answers(short, nought)))
        say(f"fold {number + 1}/{FOLDS}: mean F1 so far {f1:.4f}")
    return rhythm_card.HeldOut(short, full, long, everybody.long[0] + everybody.timed)


def through_int8(network: RhythmNetwork, learnt: Pool, recipe: Recipe, folder: Path) -> Answer:
    """The 8-bit ONNX network's answers."""
    exported = export.Exported(folder, "rhythm")
    rows = calibration_rows(learnt, recipe)
    quantize.export_float(network, rows, exported.path(export.FLOAT))
    quantize.quantize(exported.path(export.FLOAT), rows, exported.path("onnx"))

    def answer(windows: Windows) -> Float32:
        return export.run(exported, "onnx", inputs_of(windows))

    return answer


def inputs_of(windows: Windows) -> dict[str, Float32]:
    """The network's inputs by name, in the order in which it takes them."""
    return {"signal": windows.signal.astype(np.float32), "context": windows.context}


def calibration_rows(pool: Pool, recipe: Recipe) -> dict[str, Float32]:
    """Windows of the short recordings and of the long ones, as they are drawn to learn from."""
    rng = np.random.default_rng(SEED)
    short = rng.permutation(len(pool.short))[: CALIBRATION_ROWS * 3 // 4]
    long = rng.permutation(len(pool.long))[: CALIBRATION_ROWS // 4]
    return inputs_of(together([pool.short.take(short), pool.long.take(long)]))


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0 when the pack was written and verified."""
    parser = argparse.ArgumentParser(description="Make the rhythm pack from PhysioNet recordings.")
    parser.add_argument("--data", type=Path, required=True, help="folder as models.training.fetch leaves it")
    parser.add_argument("--out", type=Path, default=PACKS, help="folder to write the pack into (default: the shipped)")
    parser.add_argument("--cache", type=Path, help="folder to keep streamed recordings in (default: DIR/streamed)")
    parser.add_argument("--quick", action="store_true", help="few epochs and no variants: to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    recipe = replace(Recipe(), epochs=2) if options.quick else Recipe()
    start = time.monotonic()
    everybody = gather(options.data, options.cache or options.data / "streamed", 1 if options.quick else 3)
    pool = pool_of(everybody, np.random.default_rng(SEED))
    say(f"{len(pool.short)} + {len(pool.long)} + {len(pool.timed)} windows, after {time.monotonic() - start:.0f} s")
    held_out = cross_validate(everybody, pool, recipe)
    bias = operating_point(held_out.short)
    shares, label = window_shares(held_out.short, bias, 1.0)
    divisor = temperature(np.log(np.maximum(shares, 1e-9)), label.astype(np.int8))
    network = fit(pool, recipe, SEED + FOLDS, say)
    shift(network, bias)
    with tempfile.TemporaryDirectory() as folder:
        rows = calibration_rows(pool, recipe)
        exported = export.export_all(network, rows, Path(folder), "rhythm")
        shares, label = window_shares(held_out.short, bias, divisor)
        trial = rhythm_card.Trial(
            held_out=held_out,
            bias=bias,
            temperature=divisor,
            conformal=conformal.thresholds(shares, label, LABELS),
            agreement=export.agreement(exported, rows),
            agreed_rows=len(rows["signal"]),
            parameters=parameters(network),
            folds=FOLDS,
            seed=SEED,
            command="python -m models.training.rhythm --data DIR" + (" --quick" if options.quick else ""),
        )
        for line in rhythm_card.report(trial):
            say(line)
        pack_path = write_pack(
            options.out / "rhythm",
            exported,
            rhythm_card.facts(trial),
            rhythm_card.golden_inputs(),
            card.text(rhythm_card.card(trial)),
            rhythm_card.plots(trial, Path(folder)),
        )
    say(f"wrote {pack_path}: golden difference {verify(load(pack_path)):.6f}, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
