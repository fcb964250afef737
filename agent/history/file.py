"""The file behind `vagus report`: its tables, how it is opened for writing and for reading, what damage does.

A rollback journal, not a write-ahead log: SQLite 3.7.0 to 3.51.2 can corrupt a log that two connections reset at once,
and a report reads while the agent writes. `synchronous=FULL`, since rows are written a few times a minute at most and
in this journal mode NORMAL can lose the file, not only its last rows, to a power cut.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from agent.history.alarms import ALARM_SCHEMA

log = logging.getLogger(__name__)

FILE_NAME = "history.sqlite"
SCHEMA_VERSION = 1
_APPLICATION_ID = 0x76616768  # "vagh"
_CHECKED_BYTES = 32 << 20
"""A file up to this size is read through at the start, which takes a fraction of a second; a larger one is not."""
_READ_TIMEOUT_S = 5.0

TABLES = ("glucose", "outlook", "ecg", "alarm", "alert", "attention", "suppressed")
"""Tables that grow with time; each has `patient` and a time in ns as the first columns of its key."""
TIME_COLUMN = dict.fromkeys(TABLES, "t_ns") | {
    "ecg": "start_ns",
    "alarm": "at_ns",
    "alert": "at_ns",
    "attention": "onset_ns",
}

_SCHEMA = f"""
CREATE TABLE glucose (
    patient TEXT NOT NULL, t_ns INTEGER NOT NULL, mg_dl REAL NOT NULL,
    late INTEGER NOT NULL, doubt TEXT NOT NULL, beyond TEXT NOT NULL,
    PRIMARY KEY (patient, t_ns)
) WITHOUT ROWID;
CREATE TABLE outlook (
    patient TEXT NOT NULL, t_ns INTEGER NOT NULL,
    f30 REAL, f30_low REAL, f30_high REAL, f60 REAL, f60_low REAL, f60_high REAL,
    p_low REAL NOT NULL, p_urgent_low REAL NOT NULL, p_high REAL NOT NULL, usable INTEGER NOT NULL,
    PRIMARY KEY (patient, t_ns)
) WITHOUT ROWID;
CREATE TABLE ecg (
    patient TEXT NOT NULL, start_ns INTEGER NOT NULL, seen_s REAL NOT NULL, good_s REAL NOT NULL,
    beats INTEGER NOT NULL, ventricular INTEGER NOT NULL, supraventricular INTEGER NOT NULL,
    intervals INTEGER NOT NULL, intervals_s REAL NOT NULL, shortest_s REAL, longest_s REAL,
    rhythm_s REAL NOT NULL, fibrillation_s REAL NOT NULL,
    PRIMARY KEY (patient, start_ns)
) WITHOUT ROWID;
CREATE TABLE alarm (
    patient TEXT NOT NULL, at_ns INTEGER NOT NULL, alert_id TEXT NOT NULL, phase TEXT NOT NULL,
    rule TEXT NOT NULL, category TEXT NOT NULL, priority TEXT NOT NULL, onset_ns INTEGER NOT NULL, until_ns INTEGER,
    late INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (patient, at_ns, alert_id, phase)
) WITHOUT ROWID;
CREATE TABLE personal (
    patient TEXT NOT NULL, generation INTEGER NOT NULL, saved_ns INTEGER NOT NULL,
    state_json TEXT NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (patient, generation)
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class HistoryError(Exception):
    """The history cannot be used; the message says why and what to do."""


def open_for_writing(path: Path, max_pages: int, now_ns: int) -> tuple[sqlite3.Connection, Path | None]:
    """Open or create the file; a damaged one is moved aside, to the second value, and a new one started.

    `max_pages` bounds it, in pages of 4 KiB. Raises HistoryError where the folder cannot be written, another process
    writes at this moment, or the file is another version's: then it is left as it is.
    """
    try:
        return _open(path, max_pages), None
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise HistoryError(f"history {path}: {error}") from error
        aside = move_aside(path, error, now_ns)
    try:
        return _open(path, max_pages), aside
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"history {path}: {error}") from error


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, also beside the agent that writes; the caller closes it.

    Raises HistoryError where there is no such file, or it is damaged or another version's.
    """
    if not path.is_file():
        raise HistoryError(f"{path}: there is no such file; has an agent run with this state folder?")
    try:
        try:
            return _reader(path, "ro")
        except sqlite3.OperationalError as error:
            # What a killed writer had half done must be taken back first, and that is a change to the file.
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            return _reader(path, "rw")
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"history {path} cannot be read: {error}") from error


def is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, _DamagedError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def move_aside(path: Path, error: Exception, now_ns: int) -> Path:
    """Rename a damaged file and its journal out of the way; raises HistoryError where even that fails."""
    aside = path.with_name(f"{path.name}.damaged-{now_ns}")
    try:
        for suffix in ("", "-journal"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as refused:
        raise HistoryError(f"history {path} is damaged ({error}) and cannot be moved aside: {refused}") from refused
    log.error("history %s is damaged (%s): moved to %s, started anew", path, error, aside)
    return aside


def patients_in(db: sqlite3.Connection, table: str) -> list[str]:
    """Whose rows a table holds, sorted; one look-up a name, not a walk over the table."""
    rows = db.execute(
        f"WITH RECURSIVE name(p) AS (SELECT MIN(patient) FROM {table} UNION ALL"  # noqa: S608 (one of TABLES)
        f" SELECT (SELECT MIN(patient) FROM {table} WHERE patient > p) FROM name WHERE p IS NOT NULL)"
        " SELECT p FROM name WHERE p IS NOT NULL"
    )
    return [name for (name,) in rows]


def _open(path: Path, max_pages: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA max_page_count = {int(max_pages)}").fetchone()
        _check(db, path)
        if db.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]:
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        _check_version(db, path)
        db.executescript(f"BEGIN; {ALARM_SCHEMA} COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _reader(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=_READ_TIMEOUT_S)
    try:
        db.execute("PRAGMA query_only = ON")
        _check_version(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > _CHECKED_BYTES:
        return
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _DamagedError(found)


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise HistoryError(f"history {path} has schema version {version}, this agent knows {SCHEMA_VERSION}")


class _DamagedError(sqlite3.DatabaseError):
    """The integrity check found something."""
