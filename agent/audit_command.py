"""`vagus audit`: whether any line of the audit file was changed, and what is in it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agent.audit import FILE_NAME, Checked, check
from agent.config import ConfigError, default_state_dir, load_config
from agent.workers.places import state_folders


def audit_command(args: argparse.Namespace) -> int:
    """`vagus audit [--config FILE | --state DIR] [--json]`: 0 where every line is as it was written, else 1.

    Of an agent in several processes each has a file; all are looked at.
    """
    try:
        folder = load_config(args.config).agent.state_dir if args.config else args.state or default_state_dir()
        paths = [place / FILE_NAME for place in state_folders(Path(folder).expanduser())]
        checked = [(path, check(path)) for path in [one for one in paths if one.exists()] or paths[:1]]
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    except OSError as error:
        sys.stderr.write(f"vagus audit: {error}\n")
        return 1
    for path, found in checked:
        sys.stdout.write(_as_json(path, found) if args.json else _as_text(path, found))
    return 1 if any(found.faults for _, found in checked) else 0


def _as_json(path: Path, checked: Checked) -> str:
    return json.dumps({"file": str(path), **asdict(checked)}) + "\n"


def _as_text(path: Path, checked: Checked) -> str:
    faults = "".join(f"{path}:{fault.line}: {fault.what}\n" for fault in checked.faults)
    state = f"{len(checked.faults)} of them changed" if checked.faults else "each as it was written"
    return f"{faults}{path}: {checked.entries} entries, {state}; the last hash is {checked.head}\n"
