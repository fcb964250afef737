"""What the live engine finds in recordings, as WFDB annotations for bxb, rxr and epicmp to judge: `vagus annotate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from agent.alarms.alert import AlertEvent, Phase
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.wfdb import RecordError, read_header, write_annotations
from agent.replay import Observed, observe
from agent.scoring import aami_class
from firmware_bridge.chunk import NS_PER_S

ANNOTATOR = "vagus"
RHYTHM_OF = {"ventricular_fibrillation": "(VF", "ventricular_tachycardia": "(VT", "atrial_fibrillation": "(AFIB"}
"""The rhythm that an alarm stands for; the first in this order names the time in which several are on."""
OTHERWISE = "(N"

Episode = tuple[str, int, int]
"""Rhythm, from, to: stream times in ns."""


def annotate_command(args: argparse.Namespace) -> int:
    """`vagus annotate RECORD… --out DIR`: RECORD.vagus, and how long after the fact each decision came."""
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.records:
        try:
            header = read_header(path)
            seen = observe(path, shipped_models())
        except (RecordError, OSError) as error:
            sys.stderr.write(f"vagus annotate: {error}\n")
            return 2
        end_ns = EPOCH_NS + round(header.duration_s * NS_PER_S)
        found = episodes(seen.events, end_ns)
        _write(args.out / f"{path.name}.{ANNOTATOR}", seen, rhythm_changes(found, EPOCH_NS, end_ns), header.rate_hz)
        sys.stdout.write(f"{path.name}: {_summary(seen, found)}\n")
    return 0


def episodes(events: Iterable[AlertEvent], end_ns: int) -> list[Episode]:
    """From the onset of each alarm about a rhythm to when it really ended; one still on lasts to `end_ns`."""
    began: dict[str, int] = {}
    out: list[Episode] = []
    for event in events:
        if event.rule not in RHYTHM_OF:
            continue
        if event.phase is Phase.START:
            began[event.rule] = event.onset_ns
        elif event.phase is Phase.END:
            out.append((RHYTHM_OF[event.rule], began.pop(event.rule), event.until_ns or event.at_ns))
    out += [(RHYTHM_OF[rule], onset_ns, end_ns) for rule, onset_ns in began.items()]
    return sorted(out, key=lambda episode: episode[1])


def rhythm_changes(found: Iterable[Episode], begin_ns: int, end_ns: int) -> list[tuple[int, str]]:
    """(time, rhythm) at `begin_ns` and at every change before `end_ns`; the graver of two at once names the rhythm."""
    listed = list(found)
    rank = list(RHYTHM_OF.values())
    edges = sorted({begin_ns, *(max(t, begin_ns) for _, start, stop in listed for t in (start, stop) if t < end_ns)})
    changes: list[tuple[int, str]] = []
    for at in edges:
        on = [name for name, start, stop in listed if start <= at < stop]
        rhythm = min(on, key=rank.index, default=OTHERWISE)
        if not changes or changes[-1][1] != rhythm:
            changes.append((at, rhythm))
    return changes


def _write(path: Path, seen: Observed, changes: Iterable[tuple[int, str]], rate_hz: float) -> None:
    """Beats with their class at the R peak, changes of rhythm as `+`, each second of poor signal as `~`."""
    marks = [(_sample(beat.r_ns, rate_hz), aami_class(beat.label), "") for beat in seen.beats]
    marks += [(_sample(second.start_ns, rate_hz), "~", "") for second in seen.seconds if not second.good]
    marks += [(_sample(at_ns, rate_hz), "+", rhythm) for at_ns, rhythm in changes]
    marks.sort(key=lambda mark: (mark[0], mark[1] != "+"))
    samples, symbols, aux = zip(*marks, strict=True)
    write_annotations(path, np.array(samples, np.int64), symbols, aux=aux)


def _sample(t_ns: int, rate_hz: float) -> int:
    return round((t_ns - EPOCH_NS) * rate_hz / NS_PER_S)


def _summary(seen: Observed, found: list[Episode]) -> str:
    latest_s = max(((beat.at_ns - beat.r_ns) / NS_PER_S for beat in seen.beats), default=0.0)
    text = f"{len(seen.beats)} beats, each decided at most {latest_s:.2f} s after its R peak"
    raised = [event for event in seen.events if event.rule in RHYTHM_OF and event.phase is Phase.START]
    if raised:
        delays = sorted((event.at_ns - event.onset_ns) / NS_PER_S for event in raised)
        names = ", ".join(f"{sum(name == one for name, _, _ in found)} {one}" for one in sorted({f[0] for f in found}))
        text += f"; episodes {names}, alarmed {delays[0]:.1f} to {delays[-1]:.1f} s after their onset"
    return text
