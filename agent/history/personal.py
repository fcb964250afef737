"""Versions of what the agent has learned of each person, so that one can be taken back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

VERSIONS_KEPT = 30
_COLUMNS = "patient, generation, saved_ns, state_json, note"


@dataclass(frozen=True, slots=True)
class PersonalVersion:
    """One saved state of one person's calibration."""

    patient: str
    generation: int
    """Counts up from 1, also over a roll-back."""
    saved_ns: int
    state_json: str
    note: str


class PersonalVersions:
    """The `personal` table. A version that was saved is never changed; the last VERSIONS_KEPT of a person are kept."""

    def __init__(self, db: sqlite3.Connection, clock_ns: Callable[[], int]) -> None:
        self._db, self._clock_ns = db, clock_ns

    def save(self, patient: str, state_json: str, note: str = "") -> PersonalVersion | None:
        """Add a version; None where it could not be put on disk. The same state as the latest is that version."""
        latest = self.load_latest(patient)
        if latest is not None and latest.state_json == state_json:
            return latest
        generation = latest.generation + 1 if latest is not None else 1
        version = PersonalVersion(patient, generation, self._clock_ns(), state_json, note)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                f"INSERT INTO personal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
                (patient, generation, version.saved_ns, state_json, note),
            )
            self._db.execute(
                "DELETE FROM personal WHERE patient = ? AND generation <= ?", (patient, generation - VERSIONS_KEPT)
            )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            return None
        return version

    def load_latest(self, patient: str) -> PersonalVersion | None:
        return next(iter(self.list(patient)), None)

    def list(self, patient: str) -> list[PersonalVersion]:
        """A person's versions, the newest first."""
        with suppress(sqlite3.Error):
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM personal WHERE patient = ? ORDER BY generation DESC",  # noqa: S608
                (patient,),
            )
            return [PersonalVersion(*row) for row in rows]
        return []

    def roll_back(self, patient: str, generation: int) -> PersonalVersion | None:
        """Make the state of an earlier generation the latest one, as a new generation that says so.

        None where there is no such generation, or no room on the disk.
        """
        found = next((version for version in self.list(patient) if version.generation == generation), None)
        if found is None:
            return None
        return self.save(patient, found.state_json, f"rolled back to generation {generation}")
