"""`vagus report`: from the command line to a file."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from agent.alarms.local_time import LocalTime
from agent.config import Config, ConfigError, default_state_dir, load_config
from agent.history.file import HistoryError
from agent.history.whole import open_whole_history
from agent.report.page import page
from agent.report.period import Period, patients_with_data, read_period
from agent.report.summary import Summary, as_json, summarise
from agent.report.words import GlucoseUnit
from agent.time_zone import TimeZoneError, local_time


class _UsageError(Exception):
    """What was asked for cannot be; the message says why."""


def report_command(args: argparse.Namespace) -> int:
    """`vagus report PATIENT`: 0 when there was something to report, 1 when not, 2 when it was asked wrongly."""
    try:
        config = load_config(args.config) if args.config else None
        local = _local(args.timezone, config)
        period = _period(args, config, local)
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    except _UsageError as error:
        sys.stderr.write(f"vagus report: {error}\n")
        return 2
    except HistoryError as error:
        sys.stderr.write(f"vagus report: {error}\n")
        return 1
    summary = summarise(period)
    if args.json:
        sys.stdout.write(json.dumps(as_json(summary), ensure_ascii=False) + "\n")
    if args.out or not args.json:
        out = args.out or Path(_file_name(summary))
        try:
            out.write_text(page(period, summary, GlucoseUnit(args.unit), _now(local)), encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"vagus report: {out} cannot be written: {error.strerror}\n")
            return 1
        if not args.json:
            sys.stdout.write(f"{out}\n")
    if summary.is_empty:
        days = f"from {summary.first_day} to {summary.last_day}"
        sys.stderr.write(f"vagus report: nothing is kept of {summary.patient} {days}\n")
        return 1
    return 0


def _period(args: argparse.Namespace, config: Config | None, local: LocalTime) -> Period:
    state_dir = args.state or (config.agent.state_dir if config else Path(default_state_dir()).expanduser())
    with closing(open_whole_history(state_dir)) as db:
        period = read_period(db, args.patient, args.days, local, now_ns=time.time_ns(), last_day=args.until)
        known = patients_with_data(db)
    watched = {patient.id for patient in config.patients} if config else set()
    if period.is_empty and args.patient not in {*known, *watched}:
        there = ", ".join(sorted({*known, *watched})) or "nobody yet"
        raise _UsageError(f"nothing is known of {args.patient!r}; there is {there}")
    return period


def _local(asked: str | None, config: Config | None) -> LocalTime:
    name = asked or (config.agent.timezone if config else "UTC")
    try:
        return local_time(name)
    except TimeZoneError as error:
        raise _UsageError(f'time zone "{name}" {error}{f": {error.suggestion}" if error.suggestion else ""}') from error


def _now(local: LocalTime) -> str:
    now_ns = time.time_ns()
    seconds = now_ns // 1_000_000_000 + local.offset_s(now_ns)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _file_name(summary: Summary) -> str:
    """A name that is a file's in this folder, whatever the pseudonym."""
    patient = re.sub(r"[^A-Za-z0-9._-]+", "_", summary.patient).strip(".") or "patient"
    return f"report-{patient}-{summary.last_day}.html"
