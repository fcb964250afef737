"""What was promised, on disk: outgoing messages, the input they rest on, and the state to go on from.

One SQLite file, one connection, one thread: SQLite 3.7.0 to 3.51.2 can corrupt a write-ahead log that two connections
reset at once. `synchronous=FULL` syncs at every commit, so a commit that returned survives a power cut (on storage
that tells the truth about its own flush). The exclusive lock keeps the log's index in memory instead of in a mapped
file, which a full disk turns into SIGBUS, and keeps a second agent out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.uplink.outbox_file import OutboxError, open_outbox_file
from agent.uplink.reserve import Reserve
from agent.uplink.webhook_queue import WebhookQueue

__all__ = [
    "Depth",
    "JournalEntry",
    "Kind",
    "Outbox",
    "OutboxError",
    "OutboxFull",
    "Outgoing",
    "Pending",
    "Recovery",
]

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
Kind = Literal["alert", "vital", "status"]

_INSERT_OUTGOING = """INSERT INTO outbox
    (topic, payload, retain, priority, expiry_s, content_type, kind, alert_id, expires_ns)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_JOURNAL = "INSERT INTO journal (patient, topic, content_type, payload, now_ns) VALUES (?, ?, ?, ?, ?)"


class OutboxFull(OutboxError):  # noqa: N818 - names a state that passes, not a fault
    """No room on the disk: nothing of this commit was stored. The outbox stays usable; commit it again later."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published once it is on disk."""

    topic: str
    payload: bytes
    retain: bool
    priority: int
    """0 = high alarm … 3 = technical or low; vitals and status above that."""
    expiry_s: int | None
    content_type: str | None
    kind: Kind
    alert_id: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """An outgoing message in the outbox, with its row id."""

    id: int
    message: Outgoing
    remaining_s: int | None
    """Seconds until it expires; None for never."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One inbound payload as it came, and the wall clock at which the engine stepped over it."""

    patient: str
    topic: str
    content_type: str | None
    payload: bytes
    now_ns: int | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """Where to go on after a restart."""

    snapshots: Mapping[str, bytes]
    journal: tuple[JournalEntry, ...]
    """What came since each patient's snapshot, in the order of arrival."""
    alarms: Mapping[str, bytes]
    """What was kept of the alarms, by its key."""


@dataclass(frozen=True, slots=True)
class Depth:
    rows: int
    alert_rows: int
    payload_bytes: int
    journal_rows: int


class Outbox:
    """The file at `path`; every call belongs to one and the same worker thread once the constructor has returned.

    `max_bytes` bounds the payloads waiting to be published. Past it, rows that are not alerts give way, least urgent
    and oldest first; alerts never do.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int = 256 << 20,
        *,
        max_pages: int | None = None,
        webhook_bytes: int | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open or create. A file that is damaged is moved aside (`moved_aside`) and a new one started.

        `max_pages` bounds the file itself, in pages of 4 KiB; `webhook_bytes` the alerts that wait for the webhook,
        None where there is no webhook. Raises OutboxError when another process has the file, when it was written by a
        newer version, or when the folder cannot be written.
        """
        self.path, self._max_bytes, self._clock_ns = path, max_bytes, clock_ns
        self.dropped: Counter[str] = Counter()
        """Messages given up for want of room or because they expired, by kind. Never alerts."""
        self._db, self.moved_aside = open_outbox_file(path, clock_ns())
        # The second is not for commits: they would use up the room without which nothing can be deleted any more.
        self._reserve = Reserve(path.with_name(path.name + "-reserve"))
        self._last_reserve = Reserve(path.with_name(path.name + "-last-reserve"))
        self.synced_s = 0.0
        """Time spent waiting for the disk."""
        self._keep_reserves()
        if max_pages is not None:
            self._db.execute(f"PRAGMA max_page_count = {int(max_pages)}")
        meta: dict[str, int] = dict(self._db.execute("SELECT key, value FROM meta"))
        self._bytes: int = self._db.execute("SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM outbox").fetchone()[0]
        self._seq = meta["seq"]
        self.boot_id = meta["boot_id"] + 1
        """Rises with every start; with `seq` it lets a subscriber see what it missed."""
        self.webhook = None if webhook_bytes is None else WebhookQueue(self._db, webhook_bytes)
        try:
            with self._transaction():
                if self.webhook is None:
                    self._db.execute("DELETE FROM webhook")
                self._db.execute("UPDATE meta SET value = ? WHERE key = 'boot_id'", (self.boot_id,))
        except OutboxFull:
            log.exception("outbox %s: no room to count this start", path)

    @property
    def is_short_of_room(self) -> bool:
        """The disk is full, or was when last looked: what is kept for that moment has been used."""
        return not (self._reserve.is_kept and self._last_reserve.is_kept)

    @property
    def seq(self) -> int:
        """The number that was given out last."""
        return self._seq

    def close(self) -> None:
        self._db.close()

    def next_seq(self) -> int:
        """The next sequence number. It is persisted by the commit that carries the payload built with it.

        A number whose commit never happened is used again after a restart; nobody has seen it.
        """
        self._seq += 1
        return self._seq

    def commit(
        self,
        outgoing: Sequence[Outgoing] = (),
        journal: Sequence[JournalEntry] = (),
        snapshots: Mapping[str, bytes] | None = None,
        alarms: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """Store all of it or nothing; on return it is on disk.

        A snapshot is a patient's state after everything in `journal` and before: it replaces that patient's journal.
        `alarms`: what is to be kept of them, by its key; None where nothing is any more. Raises OutboxFull when there
        is no room even after everything that is not an alert has been given up.
        """
        snapshots, alarms = snapshots or {}, alarms or {}
        try:
            self._store(outgoing, journal, snapshots, alarms)
        except OutboxFull:
            self._make_room()
            alerts = [message for message in outgoing if message.kind == "alert"]
            try:
                self._store(alerts, journal, snapshots, alarms)
            except OutboxFull:
                if not self._give_up_webhook():
                    raise
                self._store(alerts, journal, snapshots, alarms)
            self.dropped.update(message.kind for message in outgoing if message.kind != "alert")

    def pending(
        self,
        limit: int = 100,
        max_bytes: int = 1 << 17,
        *,
        skip_ids: Collection[int] = (),
        skip_topics: Collection[str] = (),
    ) -> list[Pending]:
        """What to publish next: most urgent first, then oldest first, and one alert's events always in order.

        At most `limit` rows and, beyond the first, `max_bytes` of payload. Rows past their expiry are deleted.
        """
        now_ns = self._clock_ns()
        self._drop_expired(now_ns)
        rows = self._db.execute(
            "SELECT id, topic, payload, retain, priority, expiry_s, content_type, kind, alert_id, expires_ns"
            " FROM outbox WHERE (expires_ns IS NULL OR expires_ns > ?) AND id NOT IN (SELECT value FROM json_each(?))"
            " AND topic NOT IN (SELECT value FROM json_each(?)) ORDER BY priority, id LIMIT ?",
            (now_ns, json.dumps(list(skip_ids)), json.dumps(list(skip_topics)), limit),
        )
        found: list[Pending] = []
        size = 0
        for row_id, topic, payload, retain, priority, expiry_s, content_type, kind, alert_id, expires_ns in rows:
            size += len(payload)
            if found and size > max_bytes:
                break
            message = Outgoing(topic, payload, bool(retain), priority, expiry_s, content_type, kind, alert_id)
            remaining_s = expiry_s
            if expires_ns is not None:  # a clock that was set back must not make it live longer
                remaining_s = min(expiry_s, max(1, (expires_ns - now_ns) // NS_PER_S))
            found.append(Pending(row_id, message, remaining_s))
        rows.close()
        return found

    def delivered(self, ids: Collection[int]) -> None:
        """Delete rows that the broker has acknowledged."""
        delete = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))"
        self._surely(lambda: self._delete(delete, json.dumps(list(ids))))

    def webhook_delivered(self, ids: Collection[int]) -> None:
        """Delete rows that the webhook has acknowledged."""
        webhook = self.webhook
        if webhook is not None:
            self._surely(lambda: webhook.remove(ids))

    def _surely(self, delete: Callable[[], object]) -> None:
        try:
            with self._transaction():
                delete()
        except OutboxFull:  # even a deletion is first written to the log
            self._use(self._reserve if self._reserve.is_kept else self._last_reserve)
            with self._transaction():
                delete()
        self._keep_reserves()

    def recover(self) -> Recovery:
        entries = self._db.execute("SELECT patient, topic, content_type, payload, now_ns FROM journal ORDER BY id")
        return Recovery(
            snapshots=dict(self._db.execute("SELECT patient, state FROM snapshot ORDER BY patient")),
            journal=tuple(JournalEntry(*entry) for entry in entries),
            alarms=dict(self._db.execute("SELECT alert_id, state FROM alarm ORDER BY alert_id")),
        )

    def depth(self) -> Depth:
        rows, alerts = self._db.execute("SELECT COUNT(*), COALESCE(SUM(kind = 'alert'), 0) FROM outbox").fetchone()
        journal_rows = self._db.execute("SELECT COUNT(*) FROM journal").fetchone()[0]
        return Depth(rows, alerts, self._bytes, journal_rows)

    def backup_to(self, path: Path) -> None:
        """A consistent copy; the way to copy the file while the agent runs."""
        with sqlite3.connect(path) as copy:
            self._db.backup(copy)
        copy.close()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _store(
        self,
        outgoing: Sequence[Outgoing],
        journal: Sequence[JournalEntry],
        snapshots: Mapping[str, bytes],
        alarms: Mapping[str, bytes | None],
    ) -> None:
        now_ns = self._clock_ns()
        entries = [
            (entry.patient, entry.topic, entry.content_type, entry.payload, entry.now_ns)
            for entry in journal
            if entry.patient not in snapshots
        ]
        kept = [(key, state) for key, state in alarms.items() if state is not None]
        with self._transaction():
            for message in outgoing:
                self._insert(message, now_ns)
            self._db.executemany(_INSERT_JOURNAL, entries)
            self._db.executemany("DELETE FROM journal WHERE patient = ?", [(patient,) for patient in snapshots])
            self._db.executemany("INSERT OR REPLACE INTO snapshot VALUES (?, ?)", snapshots.items())
            self._db.executemany("DELETE FROM alarm WHERE alert_id = ?", [(key,) for key in alarms])
            self._db.executemany("INSERT INTO alarm VALUES (?, ?)", kept)
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'seq'", (self._seq,))
            shed = self._shed() if outgoing else Counter[str]()
            given_up = self.webhook.shed() if self.webhook is not None and outgoing else 0
        self.dropped += shed
        if self.webhook is not None:
            self.webhook.given_up += given_up

    def _insert(self, message: Outgoing, now_ns: int) -> None:
        if message.retain:  # only the last value of a retained topic is of use to anybody
            self._delete("DELETE FROM outbox WHERE topic = ? AND retain = 1", message.topic)
        if message.alert_id is not None:  # earlier events of an alert go ahead of its escalation, not after it
            self._db.execute(
                "UPDATE outbox SET priority = ? WHERE alert_id = ? AND priority > ?",
                (message.priority, message.alert_id, message.priority),
            )
        can_expire = message.expiry_s is not None and message.kind != "alert"
        self._db.execute(
            _INSERT_OUTGOING,
            (
                message.topic,
                message.payload,
                int(message.retain),
                message.priority,
                message.expiry_s,
                message.content_type,
                message.kind,
                message.alert_id,
                now_ns + (message.expiry_s or 0) * NS_PER_S if can_expire else None,
            ),
        )
        self._bytes += len(message.payload)
        if self.webhook is not None and message.alert_id is not None and not message.retain:
            self.webhook.add(message.alert_id, message.priority, message.payload)

    def _shed(self) -> Counter[str]:
        """Delete the least urgent, then the oldest, of what is not an alert, until the payloads fit."""
        excess = self._bytes - self._max_bytes
        if excess <= 0:
            return Counter()
        victims: list[int] = []
        rows = self._db.execute(
            "SELECT id, LENGTH(payload) FROM outbox WHERE kind != 'alert' ORDER BY priority DESC, id"
        )
        for row_id, size in rows:
            victims.append(row_id)
            excess -= size
            if excess <= 0:
                break
        rows.close()
        return self._delete("DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))", json.dumps(victims))

    def _drop_expired(self, now_ns: int) -> None:
        expired = "SELECT EXISTS (SELECT 1 FROM outbox WHERE expires_ns IS NOT NULL AND expires_ns <= ?)"
        if not self._db.execute(expired, (now_ns,)).fetchone()[0]:
            return
        with contextlib.suppress(OutboxFull):  # a full disk must not keep what is left from being published
            with self._transaction():
                dropped = self._delete("DELETE FROM outbox WHERE expires_ns IS NOT NULL AND expires_ns <= ?", now_ns)
            self.dropped += dropped

    def _make_room(self) -> None:
        """Give up everything that is not an alert, and let its pages be used again."""
        self._use(self._reserve)
        with contextlib.suppress(OutboxFull):
            with self._transaction():
                dropped = self._delete("DELETE FROM outbox WHERE kind != 'alert'")
            self.dropped += dropped

    def _give_up_webhook(self) -> bool:
        """The broker's subscribers come first: what waits for a webhook must not use up the room for alerts."""
        if self.webhook is None or not len(self.webhook):
            return False
        with contextlib.suppress(OutboxFull):
            with self._transaction():
                given_up = self.webhook.clear()
            self.webhook.given_up += given_up
        return True

    def _keep_reserves(self) -> None:
        self._last_reserve.keep()
        self._reserve.keep()

    def _use(self, reserve: Reserve) -> None:
        """With the reserve's room, write the log into the database; the log's own room is then free for new entries."""
        reserve.release()
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _delete(self, statement: str, *parameters: str | int) -> Counter[str]:
        """Delete outbox rows and keep the count of bytes; how many of each kind went."""
        rows = self._db.execute(statement + " RETURNING kind, LENGTH(payload)", parameters).fetchall()
        self._bytes -= sum(size for _, size in rows)
        return Counter(kind for kind, _ in rows)

    def _sync(self) -> None:
        began_s = time.monotonic()
        try:
            self._db.execute("COMMIT")
        finally:
            self.synced_s += time.monotonic() - began_s

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        bytes_before = self._bytes
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._sync()
        except BaseException as error:
            self._bytes = bytes_before
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and _is_full(error):
                raise OutboxFull(f"no room for outbox {self.path}: {error}") from error
            if isinstance(error, sqlite3.DatabaseError):
                raise OutboxError(f"outbox {self.path}: {error}") from error
            raise


def _is_full(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
