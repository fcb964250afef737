"""Whether the live engine would have sounded at the alarms of a bedside monitor: `vagus evaluate alarms`.

The recordings are those of the PhysioNet/CinC 2015 Challenge (Clifford et al., CinC 2015): the minutes before an alarm
of an intensive care monitor, two leads and pulse, and whether experts called that alarm true. What happened must lie in
the ten seconds before the alarm; nothing after it is played, as in the Challenge's real-time event. The engine is
not told that there was an alarm: each record is a patient like any other.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.alarms.alert import AlertEvent, Phase
from agent.alarms.rate import DETECTION_NS
from agent.evaluate.report import Report, in_processes, seen_in_training
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS, RecordStream, record_chunks
from agent.ingest.wfdb import RecordError, read_header
from agent.replay import HELD_S, replay
from firmware_bridge.chunk import NS_PER_S, Chunk

DATABASE = "cinc2015"
ALARMS_FILE = "ALARMS"
ALARM_S = 300.0
"""When the bedside alarm sounded; a shorter record ends with it."""
WINDOW_S = 10.0
"""What it was about lies in so many seconds before."""
CHUNK_S = 1.0
RULES = {
    "Asystole": ("asystole",),
    "Bradycardia": ("bradycardia", "asystole"),
    "Tachycardia": ("tachycardia", "ventricular_tachycardia", "ventricular_fibrillation"),
    "Ventricular_Tachycardia": ("ventricular_tachycardia", "ventricular_fibrillation"),
    "Ventricular_Flutter_Fib": ("ventricular_fibrillation",),
}
"""Ours that answer each of theirs: the same arrhythmia, or a graver one."""
BY_THE_CLOCK_S = {"asystole": DETECTION_NS / NS_PER_S}
"""Alarms decided by time passing, and how much later than it is due: time that was not recorded counts for nothing."""
MISS_WEIGHT = 5
TARGET = 0.82
CSV_HEADER = ("record", "alarm", "p")


@dataclass(frozen=True, slots=True)
class Bedside:
    """One alarm of the monitor."""

    record: str
    alarm: str
    true: bool | None
    """What the experts said; None where that is not told."""


@dataclass(frozen=True, slots=True)
class AlarmResult:
    """What ours did at one alarm."""

    bedside: Bedside
    sounded: tuple[str, ...]
    """The sentence of each of ours that answers it and was on in the window."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Alarms by what they were and what ours did."""

    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0

    @property
    def score(self) -> float:
        """The Challenge's: a miss costs five."""
        total = self.tp + self.tn + self.fp + MISS_WEIGHT * self.fn
        return (self.tp + self.tn) / total if total else math.nan


def evaluate_alarms(args: argparse.Namespace) -> int:
    """`vagus evaluate alarms --data DIR`: the records are in DIR/cinc2015, or in DIR itself."""
    folder = args.data / DATABASE if (args.data / DATABASE).is_dir() else args.data
    try:
        bedside = bedside_alarms(folder)
    except (RecordError, OSError) as error:
        sys.stderr.write(f"vagus evaluate alarms: {error}\n")
        return 2
    wanted = {Path(name).name for name in args.records or ()}
    results = in_processes(
        _evaluate, [(folder, alarm) for alarm in bedside if not wanted or alarm.record in wanted], "alarms"
    )
    if results is None:
        return 2
    report = Report()
    report.add(DATABASE, *table(results))
    rows = [(r.bedside.record, r.bedside.alarm, 1.0 if r.sounded else 0.0) for r in results]
    report.write(args.json, args.predictions, CSV_HEADER, rows)
    return 0


def bedside_alarms(folder: Path) -> list[Bedside]:
    """The alarms of a folder: from its table ALARMS (record,alarm[,1 or 0]), or else from the records' headers.

    Raises RecordError or OSError on what cannot be read.
    """
    path = folder / ALARMS_FILE
    if not path.exists():
        return [alarm for header in sorted(folder.glob("*.hea")) if (alarm := _of_header(header))]
    out = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        fields = [part.strip() for part in line.split(",")]
        if len(fields) < 2 or fields[1] not in RULES or (len(fields) > 2 and fields[2] not in {"0", "1", ""}):
            raise RecordError(path, f"not a line `record,alarm,0 or 1`: {line!r}", number)
        told = fields[2] if len(fields) > 2 else ""
        out.append(Bedside(fields[0], fields[1], told == "1" if told else None))
    return out


def _of_header(path: Path) -> Bedside | None:
    """A record's alarm as its header's comments give it: what it was, and `True alarm` or `False alarm`."""
    header = read_header(path)
    alarm = next((comment for comment in header.comments if comment in RULES), None)
    told = {"True alarm": True, "False alarm": False}
    true = next((told[comment] for comment in header.comments if comment in told), None)
    return None if alarm is None else Bedside(path.stem, alarm, true)


def _evaluate(task: tuple[Path, Bedside]) -> AlarmResult:
    folder, bedside = task
    path = folder / bedside.record
    events = list(replay([path], shipped_models(), chunks_of=_until_the_alarm))
    alarm_s = min(ALARM_S, read_header(path).duration_s)
    return AlarmResult(bedside, sounding(events, RULES[bedside.alarm], alarm_s))


def _until_the_alarm(path: Path, stream: RecordStream) -> Iterator[Chunk]:
    """What was there before the alarm; the last sample is held while the last beats are decided."""
    chunk: Chunk | None = None
    stop_s = min(ALARM_S, read_header(path).duration_s)
    for chunk in record_chunks(path, stream, chunk_s=CHUNK_S, stop_s=stop_s):
        yield chunk
    if chunk is not None and chunk.seq is not None:
        held = np.repeat(chunk.samples[-1:], round(HELD_S * chunk.stream.rate_hz), axis=0)
        yield replace(chunk, t0_ns=chunk.end_ns, seq=chunk.seq + 1, samples=held)


def sounding(events: Sequence[AlertEvent], rules: Sequence[str], alarm_s: float) -> tuple[str, ...]:
    """What the alarms of `rules` said that were on at some time in the WINDOW_S before `alarm_s`.

    One about time without beats must have been due by then; one about beats may be decided HELD_S later, when the last
    of them are known.
    """
    said: dict[str, str] = {}
    for event in events:
        at_s = (event.at_ns - EPOCH_NS) / NS_PER_S
        if event.rule not in rules or at_s > alarm_s + BY_THE_CLOCK_S.get(event.rule, HELD_S):
            continue
        if event.phase is Phase.START:
            said[event.alert_id] = event.text
        elif event.phase is Phase.END and at_s < alarm_s - WINDOW_S:
            said.pop(event.alert_id, None)
    return tuple(said.values())


def counts(results: Sequence[AlarmResult]) -> Counts:
    """Over those of which the truth is told."""
    told = [(bool(r.sounded), r.bedside.true) for r in results if r.bedside.true is not None]
    return Counts(
        tp=told.count((True, True)),
        fp=told.count((True, False)),
        tn=told.count((False, False)),
        fn=told.count((False, True)),
    )


def score_interval(results: Sequence[AlarmResult]) -> tuple[float, float]:
    """95 % interval of the score: the records drawn anew 2,000 times."""
    rng = np.random.default_rng(2015)
    drawn = rng.integers(len(results), size=(2000, len(results)))
    scores = [counts([results[k] for k in row]).score for row in drawn.tolist()]
    low, high = np.nanquantile(scores, (0.025, 0.975))
    return float(low), float(high)


def table(results: Sequence[AlarmResult]) -> tuple[str, dict[str, object]]:
    """A line for each kind of alarm and one for all, and the same as figures."""
    kinds = [alarm for alarm in RULES if any(r.bedside.alarm == alarm for r in results)]
    by_kind = {alarm: counts([r for r in results if r.bedside.alarm == alarm]) for alarm in kinds}
    total = counts(results)
    told = [r for r in results if r.bedside.true is not None]
    low, high = score_interval(told) if told else (math.nan, math.nan)
    missed = [r.bedside.record for r in told if r.bedside.true and not r.sounded]
    false = [r.bedside.record for r in told if not r.bedside.true and r.sounded]
    lines = [
        f"{DATABASE}: {len(results)} bedside alarms, {len(told)} of them judged; the {ALARM_S:g} s before each "
        f"streamed, all ECG leads and pulse; ours counts where it was on in the last {WINDOW_S:g} s",
        *(seen_in_training(pack, DATABASE, {r.bedside.record for r in results}) for pack in ("beat", "vf")),
        "alarm                      TP   FP   TN   FN   score",
        *(f"{alarm:24} {_row(one)}" for alarm, one in by_kind.items()),
        f"{'all':24} {_row(total)}   95 % interval {low:.3f} to {high:.3f}; goal {TARGET:g}",
        "missed: " + (", ".join(missed) or "none"),
        "false: " + (", ".join(false) or "none"),
    ]
    figures: dict[str, object] = {
        "alarms": len(results),
        "judged": len(told),
        "score": total.score,
        "score_interval": [low, high],
        "by_alarm": {alarm: [one.tp, one.fp, one.tn, one.fn] for alarm, one in by_kind.items()},
        "missed": missed,
        "false": false,
        "said": {r.bedside.record: list(r.sounded) for r in results if r.sounded},
    }
    return "\n".join(lines), figures


def _row(one: Counts) -> str:
    return f"{one.tp:4d} {one.fp:4d} {one.tn:4d} {one.fn:4d}   {one.score:.3f}"
