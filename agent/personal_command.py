"""`vagus personal`: what was learned of one person's glucose, version by version, and back to an earlier one."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.config import ConfigError, default_state_dir, load_config
from agent.history import History
from agent.history.file import HistoryError, open_for_reading
from agent.history.personal import PersonalVersion, PersonalVersions
from agent.history.whole import history_of, open_whole_history
from agent.signal.personal import PersonalCalibration
from agent.uplink import outbox_file
from agent.uplink.outbox import OutboxError


class _RefusedError(Exception):
    """Why it cannot be done."""


def personal_command(args: argparse.Namespace) -> int:
    """`vagus personal PATIENT [rollback GENERATION]`: 0 done, 1 not, 2 asked wrongly."""
    try:
        config = load_config(args.config) if args.config else None
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    state_dir = args.state or (config.agent.state_dir if config else Path(default_state_dir()).expanduser())
    if (args.action == "rollback") == (args.generation is None):
        sys.stderr.write("vagus personal: rollback GENERATION, or show\n")
        return 2
    try:
        if args.action == "rollback":
            return _roll_back(state_dir, args.patient, args.generation)
        return _show(state_dir, args.patient, as_json=args.json)
    except (_RefusedError, HistoryError) as error:
        sys.stderr.write(f"vagus personal: {error}\n")
        return 1


def _show(state_dir: Path, patient: str, *, as_json: bool) -> int:
    with closing(open_whole_history(state_dir)) as db:
        versions = PersonalVersions(db, time.time_ns).list(patient)
    if not versions:
        raise _RefusedError(f"nothing was learned of {patient!r} yet")
    told = [
        {"generation": one.generation, "saved_ns": one.saved_ns, "note": one.note, **_facts(one)} for one in versions
    ]
    if as_json:
        sys.stdout.write(json.dumps({"patient": patient, "versions": told}) + "\n")
        return 0
    head = ("generation", "saved (UTC)", "low starts at", "false/day", "sensitivity", "urgent starts at", "note")
    rows = [head, *(_row(one, facts) for one, facts in zip(versions, told, strict=True))]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    drift = told[0].get("drift")
    if drift:
        sys.stdout.write(f"Not as it was when calibrated: {drift}\n")
    return 0


def _facts(version: PersonalVersion) -> dict[str, Any]:
    """What a version says, in numbers; why it cannot be read, where it cannot."""
    try:
        personal = PersonalCalibration.from_state(version.state_json)
    except ValueError as error:
        return {"unreadable": str(error)}
    out: dict[str, Any] = {"drift": personal.drift, "frozen": personal.frozen}
    for name, alarm in (("low", personal.low), ("urgent_low", personal.urgent_low)):
        out[name] = {
            "starts_at": round(1.0 / (1.0 + math.exp(-alarm.budget.threshold)), 3),
            "at_mg_dl": alarm.prior.pivot_mg_dl,
            "false_per_day": round(alarm.budget.false_per_day(), 2),
            "sensitivity": round(alarm.budget.sensitivity(), 3),
            "logit_shift": round(alarm.shift.used, 2),
        }
    return out


def _row(version: PersonalVersion, facts: dict[str, Any]) -> tuple[str, ...]:
    saved = f"{datetime.fromtimestamp(version.saved_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M}"
    if "unreadable" in facts:
        return str(version.generation), saved, "?", "?", "?", "?", facts["unreadable"]
    low, urgent = facts["low"], facts["urgent_low"]
    starts = f"{low['starts_at']:.2f}", f"{low['false_per_day']:.2f}", f"{low['sensitivity']:.2f}"
    return str(version.generation), saved, *starts, f"{urgent['starts_at']:.2f}", version.note


def _roll_back(state_dir: Path, patient: str, generation: int) -> int:
    path = history_of(state_dir, patient)
    with closing(open_for_reading(path)) as db:
        found = [one for one in PersonalVersions(db, time.time_ns).list(patient) if one.generation == generation]
    if not found:
        raise _RefusedError(f"there is no generation {generation} of {patient!r}")
    try:
        PersonalCalibration.from_state(found[0].state_json)
    except ValueError as error:
        raise _RefusedError(f"generation {generation} cannot be read: {error}") from error
    with _stopped(state_dir), closing(History(path)) as history:
        versions = history.versions()
        version = versions.roll_back(patient, generation) if versions is not None else None
    if version is None:
        raise _RefusedError(history.trouble or f"{path} cannot be written")
    told = version.note or "this is what counts already"
    sys.stdout.write(f"{patient}: generation {version.generation}, {told}; it counts from the next start\n")
    return 0


@contextmanager
def _stopped(state_dir: Path) -> Iterator[None]:
    """While no agent runs with this state folder: it would write what it has learned over what is taken back."""
    path = state_dir / outbox_file.FILE_NAME
    if not path.exists():
        yield
        return
    try:
        db, _ = outbox_file.open_outbox_file(path, time.time_ns())
    except OutboxError as error:
        raise _RefusedError(f"stop the agent first: {error}") from error
    with closing(db):
        yield
