"""How well beats are found and told apart: `vagus evaluate beats`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.evaluate.report import Report, in_processes, seen_in_training
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.wfdb import read_annotations, read_header
from agent.replay import observe
from agent.scoring import AAMI_CLASS, LEARNING_S, BeatScore, aami_class, format_table, gross, score_beats, worst
from agent.signal.lead import analysis_lead
from firmware_bridge.chunk import NS_PER_S

DATABASES = ("mitdb", "svdb")
PACED = frozenset({"102", "104", "107", "217"})
"""Scored apart: a pacemaker's beats are not in EC57's aggregate."""


@dataclass(frozen=True, slots=True)
class RecordResult:
    """One record's score and what it rests on."""

    database: str
    record: str
    lead: str
    score: BeatScore
    provisional_latency_s: tuple[float, ...]
    confirmed_latency_s: tuple[float, ...]
    coverage: float
    duration_s: float
    rows: tuple[tuple[str, int, str, float], ...]
    """(record, sample, AAMI class, probability) of every beat found."""


def evaluate_record(path: Path) -> RecordResult:
    """Stream one annotated record through the engine and score it after EC57."""
    header = read_header(path)
    seen = observe(path, shipped_models())
    reference = read_annotations(path.with_suffix(".atr"))
    is_beat = [symbol in AAMI_CLASS for symbol in reference.symbol]
    times_s = reference.sample[is_beat] / header.rate_hz
    classes = [AAMI_CLASS[symbol] for symbol in reference.symbol if symbol in AAMI_CLASS]
    found_s = np.array([(beat.r_ns - EPOCH_NS) / NS_PER_S for beat in seen.beats])
    score = score_beats(
        path.name,
        times_s,
        found_s,
        reference_class=classes,
        test_class=[aami_class(beat.label) for beat in seen.beats],
        exclude_s=not_scored(reference.symbol, reference.aux, reference.sample / header.rate_hz, header.duration_s),
    )
    return RecordResult(
        database=path.parent.name,
        record=path.name,
        lead=header.leads[analysis_lead(header.leads)] or "unnamed, first",
        score=score,
        provisional_latency_s=tuple(seen.provisional_latency_s),
        confirmed_latency_s=tuple((beat.at_ns - beat.r_ns) / NS_PER_S for beat in seen.beats),
        coverage=seen.coverage,
        duration_s=header.duration_s,
        rows=tuple(
            (path.name, round(t * header.rate_hz), aami_class(beat.label), beat.probability)
            for t, beat in zip(found_s.tolist(), seen.beats, strict=True)
        ),
    )


def not_scored(
    symbols: Sequence[str], aux: Sequence[str], times_s: np.ndarray, end_s: float
) -> list[tuple[float, float]]:
    """Ventricular flutter and fibrillation, which have no beats to find: `[` to `]`, and rhythm (VFL or (VF."""
    out: list[tuple[float, float]] = []
    began_s: float | None = None
    for symbol, text, t in zip(symbols, aux, times_s.tolist(), strict=True):
        fibrillates = symbol == "[" or (symbol == "+" and text.startswith("(VF"))
        over = symbol == "]" or (symbol == "+" and not text.startswith("(VF"))
        if began_s is None and fibrillates:
            began_s = t
        elif began_s is not None and over:
            out.append((began_s, t))
            began_s = None
    return [*out, (began_s, end_s)] if began_s is not None else out


def evaluate_beats(args: argparse.Namespace) -> int:
    """`vagus evaluate beats --data DIR`: one table a database, JSON and predictions where asked."""
    names = args.records or [
        f"{database}/{path.stem}" for database in DATABASES for path in sorted((args.data / database).glob("*.atr"))
    ]
    results = in_processes(evaluate_record, [args.data / name for name in names], "beats")
    if results is None:
        return 2
    report = Report()
    for database in dict.fromkeys(result.database for result in results):
        report.add(database, *_report(results, database))
    report.write(
        args.json,
        args.predictions,
        ("record", "sample", "class", "probability"),
        (row for result in results for row in result.rows),
    )
    return 0


def _report(results: Sequence[RecordResult], database: str) -> tuple[str, dict[str, object]]:
    chosen = [result for result in results if result.database == database]
    scored = [result for result in chosen if result.record not in PACED] or chosen
    total = gross([result.score for result in scored])
    provisional = np.array([t for result in scored for t in result.provisional_latency_s])
    confirmed = np.array([t for result in scored for t in result.confirmed_latency_s])
    seconds = sum(result.duration_s for result in scored)
    coverage = sum(result.coverage * result.duration_s for result in scored) / seconds
    figures: dict[str, float] = {
        "records": len(scored),
        "qrs_sensitivity": total.sensitivity,
        "qrs_positive_predictivity": total.positive_predictivity,
        "error_rate": total.error_rate,
        "jitter_ms": 1e3 * total.jitter_s,
        "coverage": coverage,
    }
    for name, latency in (("provisional", provisional), ("classified", confirmed)):
        for label, q in (("p50", 50), ("p99", 99), ("max", 100)):
            figures[f"{name}_latency_{label}_s"] = float(np.percentile(latency, q)) if len(latency) else float("nan")
    for name, label in (("veb", "V"), ("sveb", "S")):
        score = total.class_score(label)
        figures[f"{name}_sensitivity"] = score.sensitivity
        figures[f"{name}_positive_predictivity"] = score.positive_predictivity
    return _table(database, chosen, scored, figures), {**figures, "confusion": _confusion(total)}


def _table(
    database: str, chosen: Sequence[RecordResult], scored: Sequence[RecordResult], figures: dict[str, float]
) -> str:
    paced = sorted({result.record for result in chosen} - {result.record for result in scored})
    leads = sorted({result.lead for result in scored})
    f = figures
    lines = [
        f"{database}: {len(scored)} records, analysed lead {', '.join(leads)}; own beats, causal, first "
        f"{LEARNING_S / 60:.0f} minutes and VF not scored; AAMI classes after de Chazal",
        *([f"scored apart (paced): {', '.join(paced)}"] if paced else []),
        _seen_in_training(database, scored),
        format_table([result.score for result in scored]),
        *(
            [
                f"paced {result.score.record}: Se {100 * result.score.sensitivity:.2f} "
                f"+P {100 * result.score.positive_predictivity:.2f}"
                for result in chosen
                if result.record in paced
            ]
        ),
        f"VEB   Se {100 * f['veb_sensitivity']:.2f}  +P {100 * f['veb_positive_predictivity']:.2f}",
        f"SVEB  Se {100 * f['sveb_sensitivity']:.2f}  +P {100 * f['sveb_positive_predictivity']:.2f}",
        "latency R → provisional p50 {provisional_latency_p50_s:.3f}, p99 {provisional_latency_p99_s:.3f}, "
        "max {provisional_latency_max_s:.3f} s; R → classified and gated p50 {classified_latency_p50_s:.3f}, "
        "p99 {classified_latency_p99_s:.3f}, max {classified_latency_max_s:.3f} s".format(**f),
        f"coverage {100 * f['coverage']:.2f} % of the time passed the quality gate",
        "worst five: " + ", ".join(f"{s.record} ({s.missed + s.extra})" for s in worst([r.score for r in scored])),
    ]
    return "\n".join(lines)


def _seen_in_training(database: str, scored: Sequence[RecordResult]) -> str:
    line = seen_in_training("beat", database, {result.record for result in scored})
    return f"{line}; the QRS scorer has seen the same, see models/training/NOTES.md" if "SEEN" in line else line


def _confusion(total: BeatScore) -> dict[str, int]:
    return {f"{truth}->{called}": n for (truth, called), n in sorted(total.confusion.items())}
