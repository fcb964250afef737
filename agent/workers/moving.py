"""Moves the state of patients to the folders of those who watch them from now on. Nobody may be watching meanwhile.

Of each patient everything goes: snapshot and inputs since, what is promised and not yet sent, what people did about
alarms, history and recordings. It is stored at its new place before it is taken away at the old one, and what is there
twice after a crash in between is known again: the move is simply done once more.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from agent.history.file import FILE_NAME as HISTORY
from agent.history.file import TABLES, HistoryError, open_for_reading, open_for_writing, patients_in
from agent.recorder.ring import RECORDINGS
from agent.uplink import outbox_file
from agent.uplink.outbox_file import OutboxError, open_outbox_file
from agent.workers.places import state_folders
from agent.workers.shares import Layout

log = logging.getLogger(__name__)

AT_ONCE = 50
"""Patients in one transaction."""
PATIENCE_S = 20.0
"""Processes of a parent that was killed stop by themselves, but not at once."""
HISTORY_TABLES = (*TABLES, "personal")
STANDING = "standing.json"
_OF_SUBJECT = ("people:", "summary:")
"""Keys in the outbox's table of alarms that name whom they are about; the audit's stay with its file."""
_PAGES = 1 << 28
_MOVES = (
    (
        "SELECT patient, topic, content_type, payload, now_ns FROM journal"
        " WHERE patient IN (SELECT value FROM json_each(:subjects)) ORDER BY id",
        "INSERT INTO journal (patient, topic, content_type, payload, now_ns) VALUES (?, ?, ?, ?, ?)",
        "DELETE FROM journal WHERE patient IN (SELECT value FROM json_each(:subjects))",
    ),
    (
        "SELECT patient, state FROM snapshot WHERE patient IN (SELECT value FROM json_each(:subjects))",
        "INSERT OR REPLACE INTO snapshot VALUES (?, ?)",
        "DELETE FROM snapshot WHERE patient IN (SELECT value FROM json_each(:subjects))",
    ),
    (
        "SELECT alert_id, state FROM alarm WHERE alert_id IN (SELECT value FROM json_each(:keys))",
        "INSERT OR REPLACE INTO alarm VALUES (?, ?)",
        "DELETE FROM alarm WHERE alert_id IN (SELECT value FROM json_each(:keys))",
    ),
    (
        "SELECT topic, payload, retain, priority, expiry_s, content_type, kind, alert_id, expires_ns FROM outbox"
        " WHERE id IN (SELECT value FROM json_each(:outgoing)) ORDER BY id",
        "INSERT INTO outbox (topic, payload, retain, priority, expiry_s, content_type, kind, alert_id, expires_ns)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
        " WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE topic = ?1 AND payload = ?2)",
        "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(:outgoing))",
    ),
    (
        "SELECT alert_id, priority, payload FROM webhook"
        " WHERE id IN (SELECT value FROM json_each(:posted)) ORDER BY id",
        "INSERT INTO webhook (alert_id, priority, payload) SELECT ?1, ?2, ?3"
        " WHERE NOT EXISTS (SELECT 1 FROM webhook WHERE payload = ?3)",
        "DELETE FROM webhook WHERE id IN (SELECT value FROM json_each(:posted))",
    ),
)
"""Of each table of an outbox: what to read there, how to store it here so that twice is once, what to delete there."""


def move_to_owners(state_dir: Path, layout: Layout, agent: str) -> int:
    """Everything of everybody to where `layout` has them; how many subjects moved.

    Raises OutboxError where an outbox cannot be opened or written. What is only looked back at (history, recordings)
    may fail: that is logged, and stays where it is.
    """
    folders = state_folders(state_dir)
    moved: set[str] = set()
    for folder in folders:
        for target, subjects in _misplaced(folder, _in_outbox(folder), state_dir, layout, agent).items():
            _move_promises(folder, target, subjects)
            moved |= subjects
        for target, subjects in _misplaced(folder, _in_standing(folder), state_dir, layout, agent).items():
            _move_standing(folder, target, subjects)
    for folder in folders:
        try:
            for target, subjects in _misplaced(folder, _in_history(folder), state_dir, layout, agent).items():
                _move_history(folder / HISTORY, target / HISTORY, sorted(subjects))
            for target, subjects in _misplaced(folder, _in_recordings(folder), state_dir, layout, agent).items():
                _move_recordings(folder / RECORDINGS, target / RECORDINGS, sorted(subjects))
        except (HistoryError, sqlite3.Error, OSError) as error:
            log.error("not all of what was kept in %s could be moved to its new place: %s", folder, error)  # noqa: TRY400
    return len(moved)


def _misplaced(
    folder: Path, subjects: Collection[str], state_dir: Path, layout: Layout, agent: str
) -> dict[Path, set[str]]:
    """Who is in `folder` and belongs elsewhere, by where that is."""
    found: defaultdict[Path, set[str]] = defaultdict(set)
    for subject in subjects:
        place = _place(subject, state_dir, layout, agent)
        if place != folder:
            found[place].add(subject)
    return found


def _place(subject: str, state_dir: Path, layout: Layout, agent: str) -> Path:
    """Of a patient, of the agent, or of one of its workers; what is left of a worker that is no more is the agent's."""
    if subject == agent:
        return state_dir
    if subject.startswith(f"{agent}:w"):
        worker = subject.removeprefix(f"{agent}:w")
        there_is = worker.isdecimal() and layout.workers > 1 and int(worker) < layout.workers
        return state_dir / f"worker-{worker}" if there_is else state_dir
    return layout.folder(state_dir, subject)


# -- what was promised -------------------------------------------------------------------------------------------------


def _opened(folder: Path) -> sqlite3.Connection:
    """The folder's outbox, for this process alone; raises OutboxError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return open_outbox_file(folder / outbox_file.FILE_NAME, time.time_ns())[0]
        except OutboxError as error:
            if "in use" not in str(error) or time.monotonic() > until_s:
                raise
        time.sleep(0.2)


def _in_outbox(folder: Path) -> set[str]:
    if not (folder / outbox_file.FILE_NAME).exists():
        return set()
    with closing(_opened(folder)) as db:
        found = {name for (name,) in db.execute("SELECT patient FROM snapshot UNION SELECT patient FROM journal")}
        for (key,) in db.execute("SELECT alert_id FROM alarm"):
            found |= {key.removeprefix(kind) for kind in _OF_SUBJECT if key.startswith(kind)}
        found |= {_subject_of(topic) for (topic,) in db.execute("SELECT DISTINCT topic FROM outbox")}
        found |= {_subject_in(payload) for (payload,) in db.execute("SELECT payload FROM webhook")}
    return found - {""}


def _subject_of(topic: str) -> str:
    """Whom a message is about: vagus/v1/{agent}/{kind}/{subject}…"""
    parts = topic.split("/")
    return parts[4] if len(parts) > 4 else ""


def _subject_in(payload: bytes) -> str:
    try:
        return str(json.loads(payload)["subject"])
    except (ValueError, KeyError, TypeError):
        return ""


def _move_promises(source: Path, target: Path, subjects: Collection[str]) -> None:
    with closing(_opened(source)) as old, closing(_opened(target)) as new:
        try:
            for some in _in_groups(sorted(subjects)):
                _move_some(old, new, some)
        except sqlite3.DatabaseError as error:
            raise OutboxError(f"what is in {source} cannot be moved to {target}: {error}") from error


def _move_some(old: sqlite3.Connection, new: sqlite3.Connection, subjects: Collection[str]) -> None:
    outgoing, posted = old.execute("SELECT id, topic FROM outbox"), old.execute("SELECT id, payload FROM webhook")
    whose = {
        "subjects": list(subjects),
        "keys": [kind + subject for subject in subjects for kind in _OF_SUBJECT],
        "outgoing": [row_id for row_id, topic in outgoing if _subject_of(topic) in subjects],
        "posted": [row_id for row_id, payload in posted if _subject_in(payload) in subjects],
    }
    wanted = {name: json.dumps(found) for name, found in whose.items()}
    new.execute("BEGIN IMMEDIATE")
    new.execute("DELETE FROM journal WHERE patient IN (SELECT value FROM json_each(:subjects))", wanted)
    for read, write, _ in _MOVES:
        new.executemany(write, old.execute(read, wanted))
    new.execute("COMMIT")
    old.execute("BEGIN IMMEDIATE")
    for _, _, delete in _MOVES:
        old.execute(delete, wanted)
    old.execute("COMMIT")


# -- what stands -------------------------------------------------------------------------------------------------------


def _standing(folder: Path) -> list[list[object]]:
    try:
        rows = json.loads((folder / STANDING).read_text(encoding="utf-8"))
        return [row for row in rows if isinstance(row, list) and row and isinstance(row[0], str)]
    except (OSError, ValueError, TypeError):
        return []  # as for whoever would read it next


def _in_standing(folder: Path) -> set[str]:
    return {str(row[0]) for row in _standing(folder)}


def _move_standing(source: Path, target: Path, subjects: Collection[str]) -> None:
    rows = _standing(source)
    moved = [row for row in rows if row[0] in subjects]
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    there = [row for row in _standing(target) if row[:2] not in [one[:2] for one in moved]]
    for folder, kept in ((target, there + moved), (source, [row for row in rows if row[0] not in subjects])):
        beside = folder / f"{STANDING}.moved"
        beside.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
        beside.replace(folder / STANDING)


# -- what is only looked back at ---------------------------------------------------------------------------------------


def _in_history(folder: Path) -> set[str]:
    if not (folder / HISTORY).is_file():
        return set()
    with closing(open_for_reading(folder / HISTORY)) as db:
        return {name for table in _tables(db, "main") for name in patients_in(db, table)}


def _tables(db: sqlite3.Connection, schema: str) -> list[str]:
    there = {name for (name,) in db.execute(f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'")}  # noqa: S608
    return [table for table in HISTORY_TABLES if table in there]


def _move_history(source: Path, target: Path, patients: list[str]) -> None:
    """One transaction over both files, a group of patients at a time: their rollback journals make it one."""
    for path in (source, target):  # whichever lacks a table of this version gets it
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        open_for_writing(path, _PAGES, time.time_ns())[0].close()
    with closing(open_for_writing(target, _PAGES, time.time_ns())[0]) as db:
        db.execute("ATTACH ? AS old", (str(source),))
        for some in _in_groups(patients):
            db.execute("BEGIN IMMEDIATE")
            for table in _tables(db, "old"):
                theirs = f"FROM old.{table} WHERE patient IN (SELECT value FROM json_each(?))"  # noqa: S608 (its names)
                db.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * {theirs}", (json.dumps(some),))
                db.execute(f"DELETE {theirs}", (json.dumps(some),))
            db.execute("COMMIT")


def _in_recordings(folder: Path) -> set[str]:
    try:
        return {path.name for path in (folder / RECORDINGS).iterdir() if path.is_dir()}
    except OSError:
        return set()


def _move_recordings(source: Path, target: Path, patients: list[str]) -> None:
    for patient in patients:
        (target / patient).mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (source / patient).iterdir():
            path.replace(target / patient / path.name)
        (source / patient).rmdir()


def _in_groups(subjects: list[str]) -> Iterator[list[str]]:
    return (subjects[k : k + AT_ONCE] for k in range(0, len(subjects), AT_ONCE))
