"""How figures are printed, kept, and set beside the last ones that were kept."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent import __version__

KEPT = Path(__file__).with_name("last.json")
"""The last figures that were kept, by part; in the repository, so that a change shows what it does to them."""
UNCHANGED = 0.03
"""Less of a difference is the machine's mood, not a change."""


def machine() -> str:
    """Processor and system, as the figures must be read with them."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "Model"))
    ]
    cores = len([name for name in names if name]) or 1
    return f"{names[0] if names else platform.machine()} ({cores} cores), Python {platform.python_version()}"


def head(columns: Sequence[str]) -> None:
    """The first two lines of a table."""
    sys.stdout.write(" | ".join(columns) + "\n" + " | ".join("-" * len(column) for column in columns) + "\n")


def row(values: Sequence[object]) -> None:
    sys.stdout.write(" | ".join(str(value) for value in values) + "\n")
    sys.stdout.flush()


def finish(part: str, figures: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Say what has changed since figures of this part were last kept; write and keep them where asked.

    `args.json`: a file or None; `args.keep`: whether these are the last ones from now on.
    """
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    before = kept.get(part)
    if before is not None:
        sys.stdout.write("\n" + "\n".join(_changes(before, figures)) + "\n")
    now = {"vagus": __version__, "machine": machine(), "figures": figures}
    if args.json:
        Path(args.json).write_text(json.dumps({"part": part, **now}, indent=1) + "\n")
    if args.keep:
        KEPT.write_text(json.dumps({**kept, part: now}, indent=1, sort_keys=True) + "\n")


def _changes(before: Mapping[str, Any], figures: Mapping[str, Any]) -> Iterator[str]:
    old, new = dict(_leaves(before["figures"])), dict(_leaves(json.loads(json.dumps(figures))))
    where = "here" if before["machine"] == machine() else f"on {before['machine']}"
    moved = {name: (old[name], value) for name, value in new.items() if name in old and _differs(old[name], value)}
    yield f"against the figures last kept ({where}): {len(new.keys() & old.keys()) - len(moved)} as before"
    for name, (was, value) in moved.items():
        share = f"{100 * (value / was - 1):+.0f} %" if was else "new"
        yield f"  {name:40} {was:10.4g} → {value:10.4g}  {share}"


def _differs(was: float, value: float) -> bool:
    return abs(value - was) > UNCHANGED * max(abs(was), abs(value))


def _leaves(figures: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number, with the way to it."""
    if isinstance(figures, Mapping):
        for key, value in figures.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(figures, int | float) and not isinstance(figures, bool):
        yield name, float(figures)
