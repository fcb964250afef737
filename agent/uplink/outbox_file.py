"""The outbox's file: its tables, how it is opened, and what happens when it is damaged."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from agent.uplink.webhook_queue import SCHEMA as WEBHOOK_SCHEMA

log = logging.getLogger(__name__)

FILE_NAME = "outbox.sqlite"
"""In the state folder."""
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    retain INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    expiry_s INTEGER,
    content_type TEXT,
    kind TEXT NOT NULL,
    alert_id TEXT,
    expires_ns INTEGER
);
CREATE INDEX outbox_by_urgency ON outbox (priority, id);
CREATE INDEX outbox_by_alert ON outbox (alert_id) WHERE alert_id IS NOT NULL;
CREATE INDEX outbox_by_expiry ON outbox (expires_ns) WHERE expires_ns IS NOT NULL;
CREATE INDEX outbox_retained ON outbox (topic) WHERE retain = 1;
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    patient TEXT NOT NULL,
    topic TEXT NOT NULL,
    content_type TEXT,
    payload BLOB NOT NULL,
    now_ns INTEGER
);
CREATE INDEX journal_by_patient ON journal (patient);
CREATE TABLE snapshot (patient TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
-- What is kept of alarms, each kind under keys of its own; the names are older.
CREATE TABLE alarm (alert_id TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
"""


class OutboxError(Exception):
    """The outbox file cannot be used; the message says why and what to do."""


def open_outbox_file(path: Path, now_ns: int) -> tuple[sqlite3.Connection, Path | None]:
    """Open or create the file; a damaged one is moved aside, to the second value, and a new one started.

    Raises OutboxError when another process has the file, when it was written by another version of the agent, or when
    the folder cannot be written.
    """
    try:
        return _open(path, now_ns), None
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise _unusable(path, error) from error
        aside = _move_aside(path, now_ns)
        # The one message an operator must not miss: messages that were promised may be in that file.
        log.critical("outbox %s is damaged (%s): moved to %s, started anew", path, error, aside)
    return _open(path, now_ns), aside


def _open(path: Path, now_ns: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA mmap_size = 0")
        db.execute("PRAGMA wal_autocheckpoint = 256")
        db.execute("PRAGMA journal_size_limit = 4194304")
        _check(db)
        if db.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]:
            # Counting boots from the time of creation keeps them rising when a damaged file is started anew.
            boot_id = now_ns // 1_000_000_000
            first = f"INSERT INTO meta VALUES ('schema_version', {SCHEMA_VERSION}), ('seq', 0), ('boot_id', {boot_id});"  # noqa: S608
            db.executescript(f"BEGIN; {_SCHEMA} {first} COMMIT;")
        _check_version(db, path)
        if not db.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'webhook')").fetchone()[0]:
            db.executescript(f"BEGIN; {WEBHOOK_SCHEMA} COMMIT;")  # of an agent before there was one
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _DamagedError(found)


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if version is None or version[0] != SCHEMA_VERSION:
        found = version[0] if version else "no"
        raise OutboxError(f"outbox {path} has schema version {found}, this agent reads {SCHEMA_VERSION}")


class _DamagedError(sqlite3.DatabaseError):
    """The integrity check found something."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, _DamagedError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _unusable(path: Path, error: sqlite3.DatabaseError) -> OutboxError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutboxError(f"outbox {path} is in use by another process: is the agent already running?")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return OutboxError(f"outbox {path} cannot be opened for writing: {error}")
    return OutboxError(f"outbox {path}: {error}")


def _move_aside(path: Path, now_ns: int) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{now_ns}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
