"""`vagus export fhir`: from the command line to a file that FHIR programs read."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from agent.alarms.local_time import LocalTime
from agent.config import ConfigError, default_state_dir, load_config
from agent.fhir.bundle import bundle
from agent.fhir.kept import read_kept
from agent.history.file import HistoryError
from agent.history.whole import open_whole_history
from agent.time_zone import instant_ns, local_time

EVER_NS = (0, (1 << 63) - 1)


def export_command(args: argparse.Namespace) -> int:
    """`vagus export fhir PATIENT`: 0 when written, 1 when there is nothing or it cannot be, 2 when asked wrongly."""
    try:
        from fhir.resources.R4B.bundle import Bundle  # noqa: PLC0415 (an extra)
    except ImportError:
        sys.stderr.write("vagus export: needs the extra [fhir]: pip install 'vagus[fhir]'\n")
        return 1
    try:
        config = load_config(args.config) if args.config else None
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    state_dir = args.state or (config.agent.state_dir if config else Path(default_state_dir()).expanduser())
    local = local_time(config.agent.timezone if config else "UTC")
    from_ns = _midnight_ns(args.first, local) if args.first else EVER_NS[0]
    to_ns = _midnight_ns(args.last + timedelta(days=1), local) if args.last else EVER_NS[1]
    try:
        with closing(open_whole_history(state_dir)) as db:
            kept = read_kept(db, args.patient, from_ns, to_ns)
    except HistoryError as error:
        sys.stderr.write(f"vagus export: {error}\n")
        return 1
    if kept.is_empty:
        sys.stderr.write(f"vagus export: nothing is kept of {args.patient} in that time\n")
        return 1
    document = bundle(kept, time.time_ns())
    Bundle.model_validate(document)  # what leaves is what it says it is
    out = args.out or Path(re.sub(r"[^A-Za-z0-9._-]+", "_", f"fhir-{args.patient}") + ".json")
    try:
        out.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"vagus export: {out} cannot be written: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{out}: {len(document['entry'])} resources\n")
    return 0


def _midnight_ns(day: date, local: LocalTime) -> int:
    return instant_ns(datetime(day.year, day.month, day.day, tzinfo=UTC).replace(tzinfo=None), local)
