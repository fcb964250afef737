"""How well shockable rhythms are told from all others, and how fast they are alarmed on: `vagus evaluate vf`.

After the AHA recommendations for rhythm analysis (Kerber et al., Circulation 1997): windows of one rhythm each are
called shockable or not; ventricular fibrillation and flutter are to be found more often than fast tachycardia.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agent.alarms.alert import AlertEvent, Phase
from agent.evaluate.reference import OTHER, UNKNOWN, rhythm_spans
from agent.evaluate.report import Report, in_processes, seen_in_training
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.wfdb import read_annotations, read_header
from agent.replay import Observed, observe
from agent.scoring.episodes import (
    MIXED,
    AlarmScore,
    RhythmSpan,
    Share,
    Stretch,
    score_alarms,
    window_kinds,
    window_shares,
)
from firmware_bridge.chunk import NS_PER_S

DATABASES = ("vfdb", "cudb", "mitdb")
RULE = "ventricular_fibrillation"
DECIDING_S = 3.0
"""A window is what its last seconds are; what lies before them is context."""
KIND_OF = {"VFL": "VF", "SLOW_VT": MIXED, UNKNOWN: OTHER}
"""Rhythms scored under another name, or not at all; every other keeps its own. Before the first change is the person's
own rhythm."""
CSV_HEADER = ("record", "start_s", "end_s", "p_shockable", "label")
GOALS = {"VF": 0.90, "VT": 0.75, "N": 0.99}
"""AHA: one-sided 90 % lower bounds, of sensitivity for VF and VT, of specificity for sinus rhythm ..."""
OTHER_GOAL = 0.95
"""... and for every other rhythm."""


@dataclass(frozen=True, slots=True)
class VfResult:
    """One record."""

    database: str
    record: str
    shares: dict[str, Share]
    """Per kind of rhythm, windows called right."""
    alarms: AlarmScore
    coverage: float
    usable: Share
    """Windows that passed the quality gate: the alarm passes over the others, and they are not scored."""
    rows: tuple[tuple[str, float, float, float, str], ...]

    @property
    def fibrillation(self) -> Share:
        return self.shares.get("VF", Share(0, 0))


def evaluate_vf(args: argparse.Namespace) -> int:
    """`vagus evaluate vf --data DIR`: a table for each database, and of all together."""
    names = args.records or [f"{db}/{path.stem}" for db in DATABASES for path in sorted((args.data / db).glob("*.atr"))]
    results = in_processes(_evaluate, [(args.data, name) for name in names], "vf")
    if results is None:
        return 2
    report = Report()
    for database in dict.fromkeys(result.database for result in results):
        report.add(database, *_table(database, [result for result in results if result.database == database]))
    rows = [(r, f"{a:.3f}", f"{b:.3f}", f"{p:.5f}", label) for result in results for r, a, b, p, label in result.rows]
    report.write(args.json, args.predictions, CSV_HEADER, rows)
    return 0


def _evaluate(task: tuple[Path, str]) -> VfResult:
    data, name = task
    path = data / name
    header = read_header(path)
    seen = observe(path, shipped_models())
    spans = [
        RhythmSpan(span.start_s, span.stop_s, KIND_OF.get(span.rhythm, span.rhythm))
        for span in rhythm_spans(read_annotations(path.with_suffix(".atr")), header.rate_hz, header.duration_s)
    ]
    return scored(path.parent.name, path.name, spans, seen, header.duration_s)


def scored(database: str, record: str, spans: Sequence[RhythmSpan], seen: Observed, end_s: float) -> VfResult:
    """What the engine saw in a record against its rhythms."""
    said = [one for one in seen.predictions if one.task == "vf" and _seconds(one.at_ns) <= end_s]
    model = shipped_models().vf
    labels = model.pack.labels if model else ()
    stops = [_seconds(one.at_ns) for one in said]
    kinds = window_kinds(spans, [stop - DECIDING_S for stop in stops], stops)
    scored_kinds = [kind if one.usable else MIXED for one, kind in zip(said, kinds, strict=True)]
    called = [one.label == "shockable" for one in said]
    rows = tuple(
        (record, round(_seconds(one.start_ns), 3), stop, one.probabilities[labels.index("shockable")], kind)
        for one, stop, kind in zip(said, stops, kinds, strict=True)
    )
    return VfResult(
        database,
        record,
        window_shares(scored_kinds, called),
        score_alarms(spans, alarms_of(seen.events, end_s)),
        seen.coverage,
        Share(sum(one.usable for one in said), len(said)),
        rows,
    )


def alarms_of(events: Sequence[AlertEvent], end_s: float) -> list[Stretch]:
    """The alarms on a shockable rhythm, each from its decision to its end."""
    began: float | None = None
    out: list[Stretch] = []
    for event in events:
        if event.rule == RULE and event.phase is Phase.START:
            began = _seconds(event.at_ns)
        elif event.rule == RULE and event.phase is Phase.END and began is not None:
            out.append(Stretch(began, _seconds(event.at_ns)))
            began = None
    return [*out, Stretch(began, end_s)] if began is not None else out


def _seconds(t_ns: int) -> float:
    return (t_ns - EPOCH_NS) / NS_PER_S


def _table(database: str, results: Sequence[VfResult]) -> tuple[str, dict[str, object]]:
    shares: dict[str, Share] = {}
    for result in results:
        for kind, share in result.shares.items():
            shares[kind] = shares.get(kind, Share(0, 0)) + share
    quiet = sum((share for kind, share in shares.items() if kind not in {"VF", "VT"}), Share(0, 0))
    usable = sum((result.usable for result in results), Share(0, 0))
    alarms = AlarmScore((), 0, 0, 0.0)
    for result in results:
        alarms = alarms.add(result.alarms)
    fibrillating = [result for result in results if result.fibrillation.of]
    by_record = median(r.fibrillation.value for r in fibrillating) if fibrillating else float("nan")
    worst = sorted(fibrillating, key=lambda r: r.fibrillation.value)[:5]
    in_time = alarms.within(10.0)
    noisiest = sorted(results, key=lambda r: r.alarms.false_alarms, reverse=True)[:3]
    lines = [
        f"{database}: {len(results)} records, {len(fibrillating)} people with VF; windows of 8 s by the second, "
        "scored where their last 3 s are one rhythm",
        seen_in_training("vf", database, {r.record for r in results}),
        "rhythm     windows  called right %  90 % lower bound  AHA goal",
        *(
            f"{kind:9} {share.of:8d}  {100 * share.value:13.2f}  {100 * share.lower_bound:15.2f}  "
            f"{100 * GOALS.get(kind, OTHER_GOAL):8.0f}"
            for kind, share in sorted(shares.items())
        ),
        f"VF: Se {100 * shares.get('VF', Share(0, 0)).value:.2f} gross, {100 * by_record:.2f} median per record; "
        f"Sp {100 * quiet.value:.2f} over all that is not shockable",
        f"alarm within 10 s of onset in {in_time.part} of {in_time.of} fresh episodes of 10 s and more "
        f"({alarms.covered} began under an alarm already on)",
        f"false alarms {alarms.false_alarms} in {alarms.quiet_s / 3600:.2f} h: {alarms.false_per_hour:.2f} an hour",
        f"coverage {100 * sum(r.coverage for r in results) / len(results):.2f} % of the time passed the quality gate; "
        f"of the windows {100 * usable.value:.2f} % did, and only those are scored",
        "worst: "
        + ", ".join(f"{r.record} (Se {100 * r.fibrillation.value:.0f} of {r.fibrillation.of})" for r in worst)
        + "; most false alarms: "
        + ", ".join(f"{r.record} ({r.alarms.false_alarms})" for r in noisiest if r.alarms.false_alarms),
    ]
    figures: dict[str, object] = {
        "records": len(results),
        "records_with_vf": len(fibrillating),
        "vf_sensitivity_median_record": by_record,
        "specificity": quiet.value,
        "in_time": in_time.part,
        "fresh_episodes": in_time.of,
        "false_alarms": alarms.false_alarms,
        "false_alarms_per_hour": alarms.false_per_hour,
        "by_rhythm": {kind: [share.part, share.of] for kind, share in sorted(shares.items())},
    }
    return "\n".join(lines), figures
