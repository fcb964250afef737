"""`vagus audit`: whether any line of the audit file was changed, and what is in it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agent.audit import FILE_NAME, check
from agent.config import ConfigError, default_state_dir, load_config


def audit_command(args: argparse.Namespace) -> int:
    """`vagus audit [--config FILE | --state DIR] [--json]`: 0 where every line is as it was written, else 1."""
    try:
        folder = load_config(args.config).agent.state_dir if args.config else args.state or default_state_dir()
        path = Path(folder).expanduser() / FILE_NAME
        checked = check(path)
    except ConfigError as error:
        sys.stderr.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    except OSError as error:
        sys.stderr.write(f"vagus audit: {error}\n")
        return 1
    if args.json:
        sys.stdout.write(json.dumps({"file": str(path), **asdict(checked)}) + "\n")
    else:
        for fault in checked.faults:
            sys.stdout.write(f"{path}:{fault.line}: {fault.what}\n")
        state = f"{len(checked.faults)} of them changed" if checked.faults else "each as it was written"
        sys.stdout.write(f"{path}: {checked.entries} entries, {state}; the last hash is {checked.head}\n")
    return 1 if checked.faults else 0
