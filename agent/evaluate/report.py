"""What every evaluation shares: recordings in two processes, a table a database, JSON and predictions where asked."""

from __future__ import annotations

import csv
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from agent.ingest.wfdb import RecordError
from models.pack import load, shipped

Task = TypeVar("Task")
Result = TypeVar("Result")
PROCESSES = 2


class Report:
    """Tables for people as they come, and the same figures for programs at the end."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[str, object]] = {}

    def add(self, database: str, table: str, figures: dict[str, object], **more: object) -> None:
        """Print the table; keep it with its figures."""
        sys.stdout.write(f"{table}\n\n")
        self._parts[database] = {"table": table, "figures": figures, **more}

    def write(
        self, json_path: Path | None, csv_path: Path | None, header: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """The figures as JSON and the predictions as CSV, where a path is given."""
        if json_path:
            json_path.write_text(json.dumps(self._parts, indent=1))
        if csv_path:
            with csv_path.open("w", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(header)
                writer.writerows(rows)


def in_processes(evaluate: Callable[[Task], Result], tasks: Sequence[Task], name: str) -> list[Result] | None:
    """Each task's result, in order; None, and the reason on standard error, where a recording cannot be read."""
    if not tasks:
        sys.stderr.write(f"vagus evaluate {name}: no annotated records there\n")
        return None
    try:
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            return pool.map(evaluate, tasks, chunksize=max(1, min(32, len(tasks) // 64)))
    except (RecordError, OSError) as error:
        sys.stderr.write(f"vagus evaluate {name}: {error}\n")
        return None


def seen_in_training(pack_id: str, database: str, records: set[str]) -> str:
    """How many of these records the pack has seen: what is printed of those is no promise about anybody else."""
    sources = load(shipped(pack_id)).manifest.training.sources
    learnt = {record for source in sources if source.database == database for record in source.records}
    n_seen = len(learnt & records)
    if not n_seen:
        return f"the {pack_id} pack was not trained on any of these records"
    return (
        f"SEEN IN TRAINING by the {pack_id} pack: {n_seen} of these {len(records)} records; "
        f"for people never seen read models/packs/{pack_id}/CARD.md"
    )
