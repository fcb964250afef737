"""How well rhythms are told apart: `vagus evaluate rhythm`.

Short recordings with one label each (CinC 2017) get one answer from the windows that were asked about while they
streamed; in long ones the time and the episodes of atrial fibrillation are those of the live alarm.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.annotate import episodes
from agent.evaluate.reference import UNKNOWN, rhythm_spans
from agent.evaluate.report import Report, in_processes, seen_in_training
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.wfdb import read_annotations, read_header
from agent.replay import Observed, observe
from agent.scoring.rhythm import (
    SCORED_LABELS,
    AfTimeScore,
    Interval,
    af_time_score,
    f1_by_class,
    mean_f1,
    mean_f1_interval,
    recording_answer,
)
from firmware_bridge.chunk import NS_PER_S
from models.vocabulary import RHYTHM_LABELS

LONG_DATABASES = ("mitdb", "afdb", "ltafdb", "nsrdb")
SHORT = "cinc2017"
LABELS_FILE = "REFERENCE-v3.csv"
CSV_HEADER = ("record", "label", *(f"p_{'noise' if label == '~' else label}" for label in RHYTHM_LABELS))
NOT_ASKED = {UNKNOWN, "AFL", "VF", "VFL", "NOISE"}
"""Rhythms in which neither answer is counted."""


@dataclass(frozen=True, slots=True)
class ShortResult:
    """One recording with one label."""

    record: str
    label: str
    probabilities: tuple[float, ...]
    unsure: bool
    coverage: float

    @property
    def answer(self) -> str:
        return RHYTHM_LABELS[int(np.argmax(self.probabilities))]


@dataclass(frozen=True, slots=True)
class LongResult:
    """One recording in which rhythms begin and end."""

    database: str
    record: str
    score: AfTimeScore
    latency_s: tuple[float, ...]
    """Onset to alarm of each episode that was said."""
    coverage: float


def evaluate_rhythm(args: argparse.Namespace) -> int:
    """`vagus evaluate rhythm --data DIR`: a table for short recordings and one for each database of long ones."""
    labels = _labels(args.data / SHORT / LABELS_FILE)
    names = args.records or [
        *(f"{SHORT}/{name}" for name in labels),
        *(f"{db}/{path.stem}" for db in LONG_DATABASES for path in sorted((args.data / db).glob("*.atr"))),
    ]
    results = in_processes(
        _evaluate, [(args.data, name, labels.get(name.partition("/")[2], "")) for name in names], "rhythm"
    )
    if results is None:
        return 2
    short = [result for result in results if isinstance(result, ShortResult)]
    long = [result for result in results if isinstance(result, LongResult)]
    report = Report()
    if short:
        report.add(SHORT, *_short_table(short))
    for database in dict.fromkeys(result.database for result in long):
        report.add(database, *_long_table(database, [result for result in long if result.database == database]))
    rows = [(r.record, r.label, *(f"{p:.5f}" for p in r.probabilities)) for r in short]
    report.write(args.json, args.predictions, CSV_HEADER, rows)
    return 0


def _labels(path: Path) -> dict[str, str]:
    """Recording → label; empty where the table is not there."""
    if not path.exists():
        return {}
    return dict(line.split(",") for line in path.read_text(encoding="ascii").split())


def _evaluate(task: tuple[Path, str, str]) -> ShortResult | LongResult:
    data, name, label = task
    database, _, record = name.partition("/")
    folder = data / database
    seen = observe(folder / "training2017" / record if database == SHORT else folder / record, shipped_models())
    return _short(record, label, seen) if database == SHORT else _long(database, folder / record, seen)


def _short(record: str, label: str, seen: Observed) -> ShortResult:
    said = [one for one in seen.predictions if one.task == "rhythm"]
    known_s = [(one.at_ns - one.start_ns) / NS_PER_S for one in said]
    answer = recording_answer([one.probabilities for one in said], known_s)
    model = shipped_models().rhythm
    unsure = model is None or bool(model.pack.unsure(answer[None].astype(np.float32))[0])
    return ShortResult(record, label, tuple(answer.tolist()), unsure, seen.coverage)


def _long(database: str, path: Path, seen: Observed) -> LongResult:
    header = read_header(path)
    spans = rhythm_spans(read_annotations(path.with_suffix(".atr")), header.rate_hz, header.duration_s)
    if all(span.rhythm == UNKNOWN for span in spans):  # a database without rhythms: normal people
        spans = []
    said: list[Interval] = [
        ((start - EPOCH_NS) / NS_PER_S, (stop - EPOCH_NS) / NS_PER_S)
        for rhythm, start, stop in episodes(seen.events, EPOCH_NS + round(header.duration_s * NS_PER_S))
        if rhythm == "(AFIB"
    ]
    score = af_time_score(
        [(span.start_s, span.stop_s) for span in spans if span.rhythm == "AFIB"],
        said,
        (0.0, header.duration_s),
        unscored=[(span.start_s, span.stop_s) for span in spans if span.rhythm in NOT_ASKED],
    )
    latency = tuple(
        (event.at_ns - event.onset_ns) / NS_PER_S
        for event in seen.events
        if event.rule == "atrial_fibrillation" and event.phase == "start"
    )
    return LongResult(database, path.name, score, latency, seen.coverage)


def _short_table(results: Sequence[ShortResult]) -> tuple[str, dict[str, object]]:
    truth, answer = [r.label for r in results], [r.answer for r in results]
    low, high = mean_f1_interval(truth, answer)
    by_class = f1_by_class(truth, answer)
    mean = mean_f1(truth, answer)
    sure = [r for r in results if not r.unsure]
    right_when_sure = sum(r.answer == r.label for r in sure) / len(sure) if sure else float("nan")
    confusion = Counter((r.label, r.answer) for r in results)
    lines = [
        f"{SHORT}: {len(results)} recordings, one lead, streamed; one answer from all windows of a recording",
        seen_in_training("rhythm", SHORT, {r.record for r in results}),
        f"mean F1 of {', '.join(SCORED_LABELS)}: {mean:.4f} (95 % interval {low:.4f} to {high:.4f}); "
        + ", ".join(f"{label} {by_class[label]:.4f}" for label in RHYTHM_LABELS),
        "reference \\ answer " + " ".join(f"{label:>6}" for label in RHYTHM_LABELS),
        *(f"{truth:>18} " + " ".join(f"{confusion[truth, a]:6d}" for a in RHYTHM_LABELS) for truth in RHYTHM_LABELS),
        f"abstains on {100 * (1 - len(sure) / len(results)):.1f} %; right on {100 * right_when_sure:.1f} % of the rest",
        f"coverage {100 * sum(r.coverage for r in results) / len(results):.2f} % of the time passed the quality gate",
    ]
    figures: dict[str, object] = {"recordings": len(results), "mean_f1": mean, "mean_f1_interval": [low, high]}
    figures |= {f"f1_{label}": by_class[label] for label in RHYTHM_LABELS}
    figures |= {"abstained": 1 - len(sure) / len(results), "accuracy_when_sure": right_when_sure}
    return "\n".join(lines), figures


def _long_table(database: str, results: Sequence[LongResult]) -> tuple[str, dict[str, object]]:
    total = sum((r.score for r in results), AfTimeScore())
    latency = sorted(t for r in results for t in r.latency_s)
    coverage = sum(r.coverage for r in results) / len(results)
    worst = sorted(results, key=lambda r: r.score.missed_s + r.score.false_s, reverse=True)[:5]
    lines = [
        f"{database}: {len(results)} records, alarm on atrial fibrillation against annotated rhythm, by time",
        seen_in_training("rhythm", database, {r.record for r in results}),
        f"Se {100 * total.sensitivity:.2f}  Sp {100 * total.specificity:.2f}  "
        f"+P {100 * total.positive_predictivity:.2f}, over {(total.true_s + total.missed_s) / 3600:.2f} h of AF "
        f"and {(total.rest_s + total.false_s) / 3600:.2f} h of other rhythms",
        f"episodes of 30 s and more: Se {total.episodes_found}/{total.episodes}, +P {total.said_true}/{total.said}",
        f"onset to alarm {latency[len(latency) // 2]:.0f} s at the median, {latency[-1]:.0f} at most"
        if latency
        else "no alarm",
        f"coverage {100 * coverage:.2f} % of the time passed the quality gate",
        "worst five: "
        + ", ".join(f"{r.record} ({r.score.missed_s:.0f} s missed, {r.score.false_s:.0f} false)" for r in worst),
    ]
    figures: dict[str, object] = {
        "records": len(results),
        "sensitivity": total.sensitivity,
        "specificity": total.specificity,
        "positive_predictivity": total.positive_predictivity,
        "episode_sensitivity": total.episode_sensitivity,
        "episode_positive_predictivity": total.episode_positive_predictivity,
        "coverage": coverage,
    }
    return "\n".join(lines), figures
