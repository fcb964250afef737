"""The history of a whole agent, for whoever looks back: those of all its workers are read as if they were one."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from agent.history.file import FILE_NAME, TABLES, HistoryError, open_for_reading
from agent.workers.places import state_folders

_TABLES = (*TABLES, "personal")
_READ_TIMEOUT_S = 5.0


def open_whole_history(state_dir: Path) -> sqlite3.Connection:
    """A connection that changes nothing, also beside the agent that writes; the caller closes it.

    Where there are several files, each table's name stands for that table in all of them. Raises HistoryError where
    there is none, or one is damaged or another version's.
    """
    paths = _files(state_dir)
    if len(paths) == 1:
        return open_for_reading(paths[0])
    for path in paths:  # a file that a killed writer left half written is mended by that
        open_for_reading(path).close()
    db = sqlite3.connect(f"{paths[0].resolve().as_uri()}?mode=ro", uri=True, timeout=_READ_TIMEOUT_S)
    try:
        for number, path in enumerate(paths[1:]):  # ten at most, as many as there may be workers
            db.execute(f"ATTACH ? AS f{number}", (f"{path.resolve().as_uri()}?mode=ro",))
        places: defaultdict[str, list[str]] = defaultdict(list)
        for schema in ("main", *(f"f{number}" for number in range(len(paths) - 1))):
            for (table,) in db.execute(f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'"):  # noqa: S608
                places[table].append(f"SELECT * FROM {schema}.{table}")  # noqa: S608 (our own names)
        for table in _TABLES:
            if table in places:
                db.execute(f"CREATE TEMP VIEW {table} AS {' UNION ALL '.join(places[table])}")
        db.execute("PRAGMA query_only = ON")
    except sqlite3.DatabaseError as error:
        db.close()
        raise HistoryError(f"the history in {state_dir} cannot be read: {error}") from error
    return db


def history_of(state_dir: Path, patient: str) -> Path:
    """The file that has somebody's rows; the agent's own where none has."""
    paths = _files(state_dir)
    for path in paths if len(paths) > 1 else ():
        with closing(open_for_reading(path)) as db:
            there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            tables = [table for table in _TABLES if table in there]
            if any(_has(db, table, patient) for table in tables):
                return path
    return paths[0]


def _has(db: sqlite3.Connection, table: str, patient: str) -> bool:
    asked = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE patient = ?)"  # noqa: S608 (one of _TABLES)
    return bool(db.execute(asked, (patient,)).fetchone()[0])


def _files(state_dir: Path) -> list[Path]:
    """Those that are there; the agent's own, which opening then says is not there, where there are none."""
    paths = [folder / FILE_NAME for folder in state_folders(state_dir)]
    return [path for path in paths if path.is_file()] or paths[:1]
