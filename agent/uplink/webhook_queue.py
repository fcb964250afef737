"""Alerts that wait for the webhook: a table of the outbox's file, so that they are stored with all the rest or not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

SCHEMA = """
CREATE TABLE IF NOT EXISTS webhook (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS webhook_by_urgency ON webhook (priority, id);
CREATE INDEX IF NOT EXISTS webhook_by_alert ON webhook (alert_id);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One event of an alert, as it is to be sent."""

    id: int
    alert_id: str
    payload: bytes


class WebhookQueue:
    """The rows of the table; whoever calls what changes them has begun a transaction.

    `max_bytes` bounds the payloads; past it the least urgent and then the oldest give way.
    """

    def __init__(self, db: sqlite3.Connection, max_bytes: int) -> None:
        self._db, self._max_bytes = db, max_bytes
        self.given_up = 0
        """Events that never went out, for want of room."""

    def add(self, alert_id: str, priority: int, payload: bytes) -> None:
        # Earlier events of an alert go ahead of its escalation, not after it.
        self._db.execute(
            "UPDATE webhook SET priority = ? WHERE alert_id = ? AND priority > ?", (priority, alert_id, priority)
        )
        self._db.execute(
            "INSERT INTO webhook (alert_id, priority, payload) VALUES (?, ?, ?)", (alert_id, priority, payload)
        )

    def shed(self) -> int:
        """Give up what is past the bound; how many events those are, for `count` once that is on disk."""
        excess = self._db.execute("SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM webhook").fetchone()[0]
        excess -= self._max_bytes
        victims: list[int] = []
        if excess > 0:
            rows = self._db.execute("SELECT id, LENGTH(payload) FROM webhook ORDER BY priority DESC, id")
            for row_id, size in rows:
                victims.append(row_id)
                excess -= size
                if excess <= 0:
                    break
            rows.close()
            self.remove(victims)
        return len(victims)

    def remove(self, ids: Collection[int]) -> None:
        self._db.execute("DELETE FROM webhook WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))

    def clear(self) -> int:
        """Give up everything; how many events that was."""
        return self._db.execute("DELETE FROM webhook").rowcount

    def next(self, skip_alerts: Collection[str] = ()) -> Waiting | None:
        """The most urgent and then the oldest, of those alerts that are not skipped."""
        row = self._db.execute(
            "SELECT id, alert_id, payload FROM webhook WHERE alert_id NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY priority, id LIMIT 1",
            (json.dumps(list(skip_alerts)),),
        ).fetchone()
        return None if row is None else Waiting(*row)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM webhook").fetchone()[0])
