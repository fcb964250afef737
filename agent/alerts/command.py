"""`vagus alerts`: from the command line to the history and the recordings."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from agent.alerts import stats, words
from agent.alerts.kept import KeptAlert, find_alert, kept_alerts, message_of, said_of, suppressed
from agent.config import Config, ConfigError, default_state_dir, load_config
from agent.history.file import HistoryError
from agent.history.whole import open_whole_history
from agent.intervals import Intervals, IntervalsError, is_installed, measure
from agent.recorder.ring import recordings_of
from agent.recorder.wfdb_export import export, stretch
from agent.uplink.evidence import EvidenceModel
from firmware_bridge.chunk import NS_PER_S

_AGO = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _UsageError(Exception):
    """What was asked for cannot be; the message says why."""


def alerts_command(args: argparse.Namespace) -> int:
    """`vagus alerts`: 0 when it was found, 1 when there is none or it cannot be read, 2 when it was asked wrongly."""
    try:
        config = load_config(args.config) if args.config else None
        state_dir = state_folder(args.state, config)
        with closing(open_whole_history(state_dir)) as db:
            return _do(args, db, state_dir)
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    except _UsageError as error:
        sys.stderr.write(f"vagus alerts: {error}\n")
        return 2
    except (HistoryError, LookupError, OSError) as error:
        sys.stderr.write(f"vagus alerts: {error.args[0] if isinstance(error, LookupError) else error}\n")
        return 1


def state_folder(state: Path | None, config: Config | None) -> Path:
    """The folder that was named, else the config's, else the user's."""
    return state or (config.agent.state_dir if config else Path(default_state_dir()).expanduser())


def _do(args: argparse.Namespace, db: sqlite3.Connection, state_dir: Path) -> int:
    if args.action in {"show", "export"} and not args.alert:
        raise _UsageError(f"{args.action} needs the ID of an alert, or its beginning: see vagus alerts")
    if args.action in {"list", "stats"} and args.alert:
        raise _UsageError(f"{args.action} takes no ID: try vagus alerts show {args.alert}")
    match args.action:
        case "show":
            return _show(args, db)
        case "export":
            return _export(args, db, state_dir)
        case "stats":
            rows = stats.stats(db, args.days, time.time_ns(), args.patient)
            sys.stdout.write(f"{json.dumps(stats.as_json(rows))}\n" if args.json else stats.as_text(rows))
            return 0
        case _:
            return _list(args, db)


def _list(args: argparse.Namespace, db: sqlite3.Connection) -> int:
    since_ns = None if args.since is None else _since_ns(args.since, time.time_ns())
    if args.suppressed:
        held_back = suppressed(db, args.patient, since_ns)
        if args.json:
            fields = ("patient", "t_ns", "rule", "reason")
            rows = [{name: getattr(one, name) for name in fields} for one in held_back]
            sys.stdout.write("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
        else:
            sys.stdout.write(words.listed_suppressed(held_back))
        return 0
    alerts = kept_alerts(db, args.patient, since_ns)
    if args.json:
        sys.stdout.write("".join(f"{json.dumps(words.as_json(one), ensure_ascii=False)}\n" for one in alerts))
    else:
        sys.stdout.write(words.listed(alerts))
    return 0


def _show(args: argparse.Namespace, db: sqlite3.Connection) -> int:
    alert = find_alert(db, args.alert)
    message = message_of(said_of(db, alert).values())
    if args.png:
        _draw(alert, args.png, None if message is None else message.data.evidence)
    evidence = None if message is None else message.data.evidence
    intervals = _intervals(evidence) if args.intervals else None
    if args.json:
        sys.stdout.write(words.shown_as_json(alert, message, intervals) + "\n")
    else:
        sys.stdout.write(words.shown(alert, message, intervals))
    return 0


def _intervals(evidence: EvidenceModel | None) -> Intervals:
    if not is_installed():
        raise LookupError("intervals need neurokit2: pip install 'vagus[analysis]'")
    if evidence is None:
        raise LookupError("no evidence is kept: there is nothing to measure")
    try:
        return measure(evidence)
    except IntervalsError as error:
        raise LookupError(f"intervals cannot be measured: {error}") from error


def _draw(alert: KeptAlert, path: Path, evidence: EvidenceModel | None) -> None:
    if evidence is None:
        raise LookupError(f"alert {alert.id} rests on no strip: there is nothing to draw")
    try:
        from agent.alerts.picture import picture  # noqa: PLC0415 (Pillow is an extra)
    except ImportError as error:
        raise LookupError("pictures need Pillow: pip install 'vagus[png]'") from error
    picture(alert, evidence).save(path, "PNG")


def _export(args: argparse.Namespace, db: sqlite3.Connection, state_dir: Path) -> int:
    if args.out is None:
        raise _UsageError("export needs --out DIR")
    alert = find_alert(db, args.alert)
    start_ns = min(alert.onset_ns, alert.first.at_ns) - round(args.before * NS_PER_S)
    end_ns = alert.transitions[-1].at_ns + round(args.after * NS_PER_S)
    written = export(stretch(recordings_of(state_dir, alert.patient), alert.patient, start_ns, end_ns), args.out)
    sys.stdout.write("".join(f"{path}\n" for path in written))
    if not written:
        raise LookupError(f"nothing is recorded of {alert.patient} around alert {alert.id}")
    return 0


def _since_ns(text: str, now_ns: int) -> int:
    """ "2h" ago and the like, or a date, or a date and time in UTC."""
    ago = _AGO.fullmatch(text)
    if ago:
        return now_ns - int(ago[1]) * _SECONDS[ago[2]] * NS_PER_S
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _UsageError(f"--since {text!r} is neither like 2h or 3d nor like 2026-11-24T08:00") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * NS_PER_S
