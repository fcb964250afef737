"""The same recordings through other programs that find beats: `vagus bench --against RECORD…`.

Others look at the whole of a record at once, with all of its future; vagus hears it in chunks of a second and also
classifies every beat, looks for fibrillation of atria and ventricles, judges the quality of each second and applies all
rules: that is what its CPU time is of. It is timed alone and as one of WARD people, for people share its work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.alarms.observation import Beat, BeatStatus, Observation
from agent.bench.figures import finish, head, machine, row
from agent.bench.peers import NOT_INSTALLED, PEERS
from agent.engine import Engine
from agent.evaluate.beats import not_scored
from agent.inference import Models, shipped_models
from agent.ingest.replay import EPOCH_NS, record_chunks
from agent.ingest.wfdb import RecordError, read_annotations, read_header
from agent.patient import Person
from agent.scoring import AAMI_CLASS, LEARNING_S, BeatScore, gross, score_beats
from agent.signal.lead import analysis_lead
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

WARD = 100
WARD_S = 300
"""Of each record, as long as the ward hears it."""
ALONE = "vagus alone"
IN_A_WARD = f"vagus, one of {WARD}"
BEATS_ONLY = f"vagus without models, one of {WARD}"
"""Beats, quality, and the rules on rate and pauses; the beats are the same."""
Watch = Callable[[str, Observation], None]
Float64 = npt.NDArray[np.float64]


def against_command(args: argparse.Namespace) -> int:
    """`args.against`: WFDB records with reference beats beside them (.atr). Prints a table; 2 where one is missing."""
    try:
        records = [(path, _reference(path)) for path in map(Path, args.against)]
    except (OSError, RecordError) as error:
        sys.stderr.write(f"vagus bench: {error}\n")
        return 2
    sys.stdout.write(f"beats of {len(records)} records, one lead, on {machine()}\n")
    hours = sum(read_header(path).duration_s for path, _ in records) / 3600
    figures: dict[str, Any] = {}
    for name in (ALONE, *PEERS):
        found = [_beats(name, path) for path, _ in records]
        if None in found:
            sys.stdout.write(f"{name}: not installed\n")
            continue
        told = [one for one in found if one is not None]
        total = gross(
            [_score(path, reference, beats) for (path, reference), (_, beats) in zip(records, told, strict=True)]
        )
        figures[name] = {
            "cpu_s_per_hour": sum(cpu_s for cpu_s, _ in told) / hours,
            "qrs_sensitivity": total.sensitivity,
            "qrs_positive_predictivity": total.positive_predictivity,
        }
    for name, models in ((IN_A_WARD, shipped_models()), (BEATS_ONLY, Models())):
        spent_s = [_ward_cpu_s(path, models) for path, _ in records]
        figures[name] = {**figures[ALONE], "cpu_s_per_hour": 3600 * float(np.mean(spent_s))}
    _print(figures)
    finish("against", figures, args)
    return 0


def _print(figures: dict[str, Any]) -> None:
    ours = figures[IN_A_WARD]["cpu_s_per_hour"]
    head(("program", "CPU s an hour of signal", f"times vagus', one of {WARD}", "QRS sensitivity %", "QRS +P %"))
    for name, one in sorted(figures.items(), key=lambda item: item[1]["cpu_s_per_hour"]):
        shares = (100 * one["qrs_sensitivity"], 100 * one["qrs_positive_predictivity"])
        cpu_s = one["cpu_s_per_hour"]
        row((name, f"{cpu_s:.2f}", f"{cpu_s / ours:.2f}", *(f"{share:.2f}" for share in shares)))
    sys.stdout.write(
        "vagus: with the classes of beats, rhythm, fibrillation, quality and every rule; others: beats alone\n"
    )


def one_lead(path: Path) -> tuple[Float64, float]:
    """The lead that vagus analyses, (n,) in mV with 0 where nothing was recorded, and its rate in Hz."""
    header = read_header(path)
    out = np.zeros(header.n_samples)
    for chunk in record_chunks(path, chunk_s=60.0):
        at = round((chunk.t0_ns - EPOCH_NS) * header.rate_hz / NS_PER_S)
        out[at : at + len(chunk.samples)] = chunk.samples[:, analysis_lead(chunk.stream.channels)]
    return out, header.rate_hz


def _reference(path: Path) -> tuple[Float64, list[tuple[float, float]]]:
    """Times of the true beats, s, and the stretches that have none to find."""
    header, reference = read_header(path), read_annotations(path.with_suffix(".atr"))
    times_s = reference.sample / header.rate_hz
    beats = times_s[[symbol in AAMI_CLASS for symbol in reference.symbol]]
    return beats, not_scored(reference.symbol, reference.aux, times_s, header.duration_s)


def _score(path: Path, reference: tuple[Float64, list[tuple[float, float]]], beats: Sequence[float]) -> BeatScore:
    duration_s = read_header(path).duration_s
    start_s = LEARNING_S if duration_s > 2 * LEARNING_S else 0.0
    return score_beats(path.name, reference[0], sorted(beats), exclude_s=reference[1], start_s=start_s)


def _beats(name: str, path: Path) -> tuple[float, list[float]] | None:
    """CPU time in s, and the times of the beats found, s; None where the program is not installed."""
    if name not in PEERS:
        beats: list[float] = []

        def watch(_: str, seen: Observation) -> None:
            if isinstance(seen, Beat) and seen.status is BeatStatus.CONFIRMED:
                beats.append((seen.r_ns - EPOCH_NS) / NS_PER_S)

        return _heard(path, 1, shipped_models(), watch=watch), beats
    command = [sys.executable, "-m", "agent.bench.peers", name, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode == NOT_INSTALLED:
        return None
    said.check_returncode()
    told = json.loads(said.stdout)
    return told["cpu_s"], [one / read_header(path).rate_hz for one in told["beats"]]


def _ward_cpu_s(path: Path, models: Models) -> float:
    """CPU time of one person's second when WARD people are heard together."""
    seconds = min(WARD_S, int(read_header(path).duration_s))
    return _heard(path, WARD, models, seconds=seconds) / (WARD * seconds)


def _heard(path: Path, people: int, models: Models, *, seconds: int | None = None, watch: Watch | None = None) -> float:
    """CPU time in s of hearing the lead of a record, a second at a time, as so many people who all have this heart."""
    streams: list[Stream] = []
    engine: Engine | None = None
    spent_s = 0.0
    for chunk in islice(record_chunks(path), seconds):
        lead = analysis_lead(chunk.stream.channels)
        own = replace(chunk.stream, channels=(chunk.stream.channels[lead],))
        if engine is None:
            streams = [replace(own, patient=f"p{k}", device=f"d{k}") for k in range(people)]
            engine = Engine([Person(one.patient, (one,)) for one in streams], models, watch=watch)
        mine = chunk.samples[:, [lead]]
        chunks = [Chunk(one, chunk.t0_ns, mine, chunk.seq) for one in streams]
        began_s = time.process_time()
        engine.step(chunks)
        spent_s += time.process_time() - began_s
    return spent_s
