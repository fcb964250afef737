"""What is kept for looking back: readings, outlooks, five minutes of ECG in a row each, and alarms.

Written by the worker's thread alone, read by `vagus report` beside it. It may cost the watching nothing: what cannot be
written waits in memory and goes with the patient's snapshot, what does not fit there is given up, and `trouble` says
so. Every row has a key of its own, so what is stepped over again after a crash is noted again to no effect.
"""

from __future__ import annotations

import logging
import pickle
import sqlite3
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from agent.alarms.alert import AlertEvent
from agent.alarms.observation import Beat, Observation, Prediction, Quality
from agent.heart_day import HeartDay, heart_day
from agent.history.alarms import ALARM_INSERT, Row, alarm_row, alert_row, attention_row
from agent.history.ecg import EcgBucket, EcgBuckets
from agent.history.file import (
    TABLES,
    TIME_COLUMN,
    HistoryError,
    is_damage,
    move_aside,
    open_for_writing,
    patients_in,
)
from agent.history.personal import PersonalVersions
from agent.signal.glucose import SAME_S
from agent.signal.outlook import Glucose, Outlook, PastReading
from agent.unpickle import unpickle
from firmware_bridge.chunk import NS_PER_S

log = logging.getLogger(__name__)

WRITE_EVERY_NS = 60 * NS_PER_S
"""A row waits this long for others: every write is synced to the disk three times."""
WRITE_ALARMS_NS = 5 * NS_PER_S
"""An alarm waits no longer than this: `vagus alerts` is asked soon after one sounded."""
WRITE_ROWS = 2_000
"""So many rows are written at once."""
BUSY_NS = 5 * NS_PER_S
RETRY_NS = 60 * NS_PER_S
ROWS_IN_MEMORY = 20_000
"""Rows that wait while the file cannot be written; past it the oldest are given up."""
ROWS_IN_SNAPSHOT = 500
ALERTS_IN_MEMORY, ALERTS_IN_SNAPSHOT = 1_000, 20
"""The same of alerts with their evidence, each of which is some 20 kB."""
PRUNED_AT_ONCE = 2_000
"""Old rows deleted after a write, so that no tick waits for a spring clean."""
PRUNE_EVERY_NS = 3600 * NS_PER_S
NEARLY_FULL, ROOMY = 0.95, 0.85
"""Shares of the bound on the file: above the first the oldest rows go, down to the second."""
_PAGE_BYTES = 4096
_STATE_FORMAT = 1
_SAME_NS = round(SAME_S * NS_PER_S)

# Said again, a row is the same. What came in time stays in time, and five minutes that were seen more of are the truer
# ones. A corrected reading need not be of quite the same instant.
_INSERT = {
    "glucose": "INSERT INTO glucose VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET mg_dl = excluded.mg_dl,"
    " late = min(late, excluded.late), doubt = excluded.doubt, beyond = excluded.beyond",
    "revised": "WITH said (patient, t_ns, mg_dl) AS (VALUES (?, ?, ?)), meant AS (SELECT near.t_ns, said.patient,"  # noqa: S608
    " said.mg_dl FROM glucose AS near JOIN said ON near.patient = said.patient AND near.t_ns BETWEEN"
    f" said.t_ns - {_SAME_NS} AND said.t_ns + {_SAME_NS} ORDER BY abs(near.t_ns - said.t_ns) LIMIT 1)"
    " UPDATE glucose SET mg_dl = meant.mg_dl FROM meant WHERE glucose.patient = meant.patient"
    " AND glucose.t_ns = meant.t_ns",
    "outlook": "INSERT OR REPLACE INTO outlook VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "ecg": "INSERT INTO ecg VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " seen_s = excluded.seen_s, good_s = excluded.good_s, beats = excluded.beats, ventricular = excluded.ventricular,"
    " supraventricular = excluded.supraventricular, intervals = excluded.intervals,"
    " intervals_s = excluded.intervals_s, shortest_s = excluded.shortest_s, longest_s = excluded.longest_s,"
    " rhythm_s = excluded.rhythm_s, fibrillation_s = excluded.fibrillation_s WHERE excluded.seen_s >= seen_s",
    **ALARM_INSERT,
}


class History:
    """The file at `path`; every call belongs to one thread once the constructor has returned. No call raises."""

    def __init__(
        self,
        path: Path,
        *,
        days: int = 90,
        max_mb: int = 1024,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path, self._days, self._clock_ns = path, days, clock_ns
        self._max_pages = max(64, (max_mb << 20) // _PAGE_BYTES)
        self.trouble = ""
        """Why what is noted is not on disk, in words for a status; "" when all is well."""
        self.moved_aside: Path | None = None
        """Where a damaged file went."""
        self.given_up = 0
        """Rows lost for want of room."""
        self._waiting: defaultdict[str, list[Row]] = defaultdict(list)
        self._unpacked: deque[AlertEvent] = deque(maxlen=ALERTS_IN_MEMORY)
        """Alerts to be packed when nobody waits to be told of one."""
        self._ecg: defaultdict[str, EcgBuckets] = defaultdict(EcgBuckets)
        self._ripe: set[str] = set()
        """Patients with more than one open bucket."""
        self._due_ns: int | None = None
        self._prune_due_ns = 0
        self._to_prune: list[tuple[str, str]] = []
        self._gives_up_oldest = False
        self._db: sqlite3.Connection | None = None
        self._opens()

    # -- what is noted ------------------------------------------------------------------------------------------------

    def watch(self, patient: str, seen: Observation) -> None:
        """Take one observation as the engine makes it: its `watch`."""
        match seen:
            case Beat() | Quality() | Prediction():
                buckets = self._ecg[patient]
                buckets.push(seen)
                if len(buckets.open) > 1:
                    self._ripe.add(patient)
            case Glucose():
                self._add("glucose", (patient, seen.t_ns, seen.mg_dl, 0, seen.doubt, seen.beyond))
            case PastReading(kind="revised"):
                self._add("revised", (patient, seen.t_ns, seen.mg_dl))
            case PastReading():
                self._add("glucose", (patient, seen.t_ns, seen.mg_dl, 1, "", ""))
            case Outlook():
                self._add("outlook", _outlook_row(patient, seen))
            case _:
                pass

    def note_events(self, events: Sequence[AlertEvent]) -> None:
        """Take what the rules, or the agent itself, have said."""
        for event in events:
            self._add("alarm", alarm_row(event))
        self._unpacked.extend(events)

    def note_attended(self, events: Sequence[AlertEvent]) -> None:
        """Take how people stand to alerts: who acknowledged, who judged."""
        for event in events:
            row = attention_row(event)
            if row is not None:
                self._add("attention", row)

    def note_suppressed(self, patient: str, t_ns: int, rule: str, reason: str) -> None:
        """Take that an alarm was held back at stream time `t_ns`, and why, in words."""
        self._add("suppressed", (patient, t_ns, rule, reason))

    def _add(self, table: str, row: Row) -> None:
        rows = self._waiting[table]
        rows.append(row)
        most = ALERTS_IN_MEMORY if table == "alert" else ROWS_IN_MEMORY
        if len(rows) > most:
            self.given_up += most // 10
            del rows[: most // 10]

    def _pack(self) -> None:
        while self._unpacked:
            self._add("alert", alert_row(self._unpacked.popleft()))

    # -- state of a patient that is not on disk yet -------------------------------------------------------------------

    def state(self, patient: str) -> bytes:
        """What is in memory only of one patient, for `resume`: to be kept with the snapshot that it belongs to."""
        self._pack()
        rows = {
            table: [row for row in waiting if row[0] == patient][
                -(ALERTS_IN_SNAPSHOT if table == "alert" else ROWS_IN_SNAPSHOT) :
            ]
            for table, waiting in self._waiting.items()
        }
        return pickle.dumps((_STATE_FORMAT, self._ecg[patient], rows))

    def resume(self, patient: str, blob: bytes) -> None:
        """Go on from `state`; one that does not fit is left."""
        try:
            form, ecg, rows = unpickle(blob)
        except Exception:  # whatever a damaged or foreign pickle raises, the answer is the same
            return
        if form != _STATE_FORMAT:
            return
        self._ecg[patient] = ecg
        self._ripe.add(patient)
        for table, kept in rows.items():
            self._waiting[table] += kept

    def forget(self, patient: str) -> None:
        """Begin the patient's five minutes anew: their state has been reset."""
        self._ecg.pop(patient, None)
        self._ripe.discard(patient)

    # -- onto the disk ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a tick of the worker: take complete five minutes, and write when that is due."""
        for patient in list(self._ripe):
            for bucket in self._ecg[patient].take_complete():
                self._add("ecg", _ecg_row(patient, bucket))
            if len(self._ecg[patient].open) <= 1:
                self._ripe.discard(patient)
        self._pack()
        rows = self.waiting
        if not rows:
            return
        now_ns = self._clock_ns()
        if self._due_ns is None or self._due_ns > now_ns + RETRY_NS:  # the second: a clock was set back
            self._due_ns = now_ns + WRITE_EVERY_NS
        if self._waiting["alarm"] or self._waiting["suppressed"]:
            self._due_ns = min(self._due_ns, now_ns + WRITE_ALARMS_NS)
        if now_ns >= self._due_ns or (rows >= WRITE_ROWS and not self.trouble):
            self.flush()

    def flush(self) -> bool:
        """Write all that waits; False where it has to wait on."""
        self._due_ns = None
        self._pack()
        try:
            self._write()
        except (sqlite3.Error, HistoryError, OSError) as error:
            self._fails(error)
            return False
        if self.trouble:
            log.info("history %s is written again", self.path)
        self.trouble = ""
        return True

    def close(self) -> None:
        """Write all there is, unfinished five minutes included, and let go of the file."""
        for patient, buckets in self._ecg.items():
            for bucket in buckets.open.values():
                self._add("ecg", _ecg_row(patient, bucket))
        self.flush()
        self._let_go()

    def heart_day(self, patient: str, end_ns: int) -> HeartDay | None:
        """The last 24 hours of a heart, as far as they are on disk; None while the file cannot be used."""
        if self._db is None:
            return None
        try:
            return heart_day(self._db, patient, end_ns)
        except sqlite3.Error:  # what ails the file is found, mended and told by the next write
            return None

    def versions(self) -> PersonalVersions | None:
        """The kept versions of what is adapted to each person; None while the file cannot be used."""
        if self._db is None:
            self._opens()
        return None if self._db is None else PersonalVersions(self._db, self._clock_ns)

    def _write(self) -> None:
        if self._db is None:
            self._db, aside = open_for_writing(self.path, self._max_pages, self._clock_ns())
            self.moved_aside = aside or self.moved_aside
        try:
            self._store(self._db)
            self._prune(self._db)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._let_go()
            self.moved_aside = move_aside(self.path, error, self._clock_ns())
            self._db, _ = open_for_writing(self.path, self._max_pages, self._clock_ns())
            self._store(self._db)

    def _store(self, db: sqlite3.Connection) -> None:
        if not any(self._waiting.values()):
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            for table, statement in _INSERT.items():
                db.executemany(statement, self._waiting[table])
            db.execute("COMMIT")
        except BaseException:
            _roll_back(db)
            raise
        self._waiting.clear()

    def _fails(self, error: Exception) -> None:
        """Keep what waits and try again: soon where only a report stands in the way, else later."""
        now_ns = self._clock_ns()
        busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        self._due_ns = now_ns + (BUSY_NS if busy else RETRY_NS)
        if busy:
            return
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL and self._db is not None:
            with suppress(sqlite3.Error):  # the file has reached its bound: a store that fails prunes nothing
                self._prune(self._db)
        if not self.trouble:
            log.error("history: %s: what a report would show is kept in memory", error)
        self.trouble = f"the history cannot be written: {error}"

    def _opens(self) -> None:
        """Open the file; where that fails, the next write tries again and says why."""
        try:
            self._db, aside = open_for_writing(self.path, self._max_pages, self._clock_ns())
            self.moved_aside = aside or self.moved_aside
        except (HistoryError, OSError) as error:
            self._fails(error)

    def _let_go(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    # -- no more than is to be kept -----------------------------------------------------------------------------------

    def _prune(self, db: sqlite3.Connection) -> None:
        """Delete a few rows that are too old, of one table of one patient at a time.

        Old is by the clock and by the newest row, whichever is earlier: a clock that runs ahead deletes nothing.
        """
        now_ns = self._clock_ns()
        if not self._to_prune and (now_ns >= self._prune_due_ns or self._is_over(NEARLY_FULL)):
            self._prune_due_ns = now_ns + PRUNE_EVERY_NS
            self._gives_up_oldest = self._is_over(NEARLY_FULL) or (self._gives_up_oldest and self._is_over(ROOMY))
            self._to_prune = [(table, patient) for table in TABLES for patient in patients_in(db, table)]
        if not self._to_prune:
            return
        table, patient = self._to_prune[-1]
        column = TIME_COLUMN[table]
        oldest_ns, newest_ns = db.execute(
            f"SELECT MIN({column}), MAX({column}) FROM {table} WHERE patient = ?",  # noqa: S608 (one of TABLES)
            (patient,),
        ).fetchone()
        cutoff_ns = min(now_ns, newest_ns or 0) - self._days * 86_400 * NS_PER_S
        if self._gives_up_oldest and oldest_ns is not None:
            cutoff_ns = max(cutoff_ns, oldest_ns + (newest_ns - oldest_ns) // 10)
        deleted = db.execute(
            f"DELETE FROM {table} WHERE patient = ? AND {column} IN"  # noqa: S608 (one of TABLES)
            f" (SELECT {column} FROM {table} WHERE patient = ? AND {column} < ? ORDER BY {column} LIMIT ?)",
            (patient, patient, cutoff_ns, PRUNED_AT_ONCE),
        ).rowcount
        if deleted < PRUNED_AT_ONCE:
            self._to_prune.pop()

    def _is_over(self, share: float) -> bool:
        if self._db is None:
            return False
        pages, free = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        return bool(pages - free > share * self._max_pages)

    @property
    def waiting(self) -> int:
        """Rows that are not on disk yet."""
        return sum(map(len, self._waiting.values()))

    @property
    def counters(self) -> Counter[str]:
        """Numbers for a status."""
        return Counter(history_waiting=self.waiting, history_given_up=self.given_up)


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")


def _outlook_row(patient: str, seen: Outlook) -> Row:
    by_minutes = {expected.minutes: expected for expected in seen.expected}
    forecasts: list[float | None] = []
    for minutes in (30, 60):
        found = by_minutes.get(minutes)
        forecasts += [None] * 3 if found is None else [found.mg_dl, found.low_mg_dl, found.high_mg_dl]
    risks = (seen.low.p, seen.urgent_low.p, seen.high.p)
    return (patient, seen.t_ns, *forecasts, *risks, int(seen.usable))


def _ecg_row(patient: str, bucket: EcgBucket) -> Row:
    return (
        patient,
        bucket.start_ns,
        bucket.seen_s,
        bucket.good_s,
        bucket.beats,
        bucket.ventricular,
        bucket.supraventricular,
        bucket.intervals,
        bucket.intervals_s,
        bucket.shortest_s,
        bucket.longest_s,
        bucket.rhythm_s,
        bucket.fibrillation_s,
    )
