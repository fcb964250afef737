"""What was said, and what people did, in a file that is only ever added to and in which no line can be changed unseen.

A line is a SHA-256 and a JSON object: the hash of the hash before it and of the object. An entry is stored with the
messages that it tells of in one transaction of the outbox, and then added to the file: a crash in between loses
nothing and writes nothing twice. The outbox also keeps where the file ends, so lines cut off are missed too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.alarms.alert import AlertEvent
from agent.uplink.evidence import rfc3339

log = logging.getLogger(__name__)

FILE_NAME = "audit.log"
"""In the state folder."""
FIRST = "0" * 64
"""Stands for the hash before the first."""
_KEPT = "audit:"
"""Before the number of an entry in the outbox's table of alarms."""
_HEAD = f"{_KEPT}head"
WAITING = 10_000
"""Entries in memory while the file cannot be written; past it the oldest are only in the outbox."""
MANY_LINES = 500
"""Entries that are written even while somebody waits for an alarm."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an audit file."""

    line: int
    """Counted from 1."""
    what: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at a whole file gave."""

    entries: int
    head: str
    faults: tuple[Fault, ...]


class Audit:
    """The file of one agent. Belongs to the worker's thread; nothing here raises on a disk that is full or gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number, self._head = 0, FIRST
        self._waiting: dict[int, str] = {}
        """Lines to be added to the file, by number: stored or about to be."""
        self._stored: set[int] = set()
        """Of these, what the outbox has."""
        self._added: set[int] = set()
        """In the file and still in the outbox."""
        self.trouble = ""
        """Why the file cannot be written, in words for a status; "" when all is well."""

    def resume(self, kept: Mapping[str, bytes]) -> None:
        """Go on where the last process was stopped."""
        stored = {
            int(key.removeprefix(_KEPT)): blob.decode()
            for key, blob in kept.items()
            if key.startswith(_KEPT) and key != _HEAD
        }
        self._mend_end()
        last = last_line(self._path)
        self._number, self._head = (last.number, last.hash) if last is not None else (0, FIRST)
        if _HEAD in kept:
            number, head = json.loads(kept[_HEAD])
            if self._number < number - len(stored):
                log.critical("audit file %s ends at entry %d of %d", self._path, self._number, number)
            self._number, self._head = max((self._number, self._head), (number, head))
        in_file = last.number if last is not None else 0
        self._waiting = {number: line for number, line in sorted(stored.items()) if number > in_file}
        self._stored = set(self._waiting)
        self._added = set(stored) - self._stored

    def note(self, kind: str, body: Mapping[str, Any], now_ns: int) -> None:
        """One more entry: with the next commit."""
        self._number += 1
        text = json.dumps({"n": self._number, "at": rfc3339(now_ns), "kind": kind, **body}, ensure_ascii=False)
        self._head = chained(self._head, text)
        self._waiting[self._number] = f"{self._head} {text}\n"

    def note_events(self, events: Iterable[AlertEvent], now_ns: int) -> None:
        """Each transition of an alarm, as it is sent, without its evidence."""
        for event in events:
            people = event.attended
            self.note(
                "alert",
                {
                    "alert_id": event.alert_id,
                    "patient": event.patient,
                    "rule": event.rule,
                    "priority": event.priority,
                    "phase": event.phase,
                    "state": people and people.state,
                    "acknowledged": people and people.acknowledged and people.acknowledged.by,
                    "paused": people and people.paused and people.paused.by,
                    "verdict": people and people.verdict and people.verdict.word,
                    "late": event.late,
                    "onset": rfc3339(event.onset_ns),
                    "decided": rfc3339(event.at_ns),
                    "text": event.text,
                },
                now_ns,
            )

    @property
    def is_long(self) -> bool:
        """Whether more waits than should: where every tick has an alarm, there is no better moment to write."""
        return len(self._waiting) > MANY_LINES

    @property
    def unsaved(self) -> dict[str, bytes | None]:
        """What the next commit has to store, for `Outbox.commit`: what is new, and no more what is in the file."""
        new = {number: line for number, line in self._waiting.items() if number not in self._stored}
        if not new and not self._added:
            return {}
        return {
            _HEAD: json.dumps([self._number, self._head]).encode(),
            **{f"{_KEPT}{number}": line.encode() for number, line in new.items()},
            **{f"{_KEPT}{number}": None for number in self._added},
        }

    def saved(self) -> None:
        """The commit is on disk."""
        self._added.clear()
        self._stored.update(self._waiting)

    def write(self) -> None:
        """Add to the file what the outbox has stored: at a moment when nobody waits for an alarm."""
        if not self._waiting or self._stored != self._waiting.keys():
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(self._waiting.values())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if not self.trouble:
                log.warning("audit file %s cannot be written: %s", self._path, error)
            self.trouble = f"the audit file cannot be written: {error.strerror}"
            self._mend_end()
            for number in list(self._waiting)[:-WAITING]:
                del self._waiting[number]
            return
        self.trouble = ""
        self._added, self._stored = set(self._waiting), set()
        self._waiting.clear()

    def _mend_end(self) -> None:
        """A line that a crash has torn is taken away: the outbox has it whole."""
        try:
            with self._path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - (1 << 16)))
                end = file.read()
                if end and not end.endswith(b"\n"):
                    file.truncate(size - len(end) + end.rfind(b"\n") + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("audit file %s cannot be mended: %s", self._path, error)


@dataclass(frozen=True, slots=True)
class Line:
    """Where a chain goes on."""

    number: int
    hash: str


def chained(before: str, text: str) -> str:
    """The hash of an entry after the one whose hash is `before`."""
    return hashlib.sha256(f"{before}{text}".encode()).hexdigest()


def last_line(path: Path) -> Line | None:
    """Number and hash of a file's last entry that can be read; None where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (1 << 16)))
            lines = file.read().splitlines()
    except OSError:
        return None
    for raw in reversed(lines):
        found = _parsed(raw)
        if found is not None:
            return Line(found[2], found[0])
    return None


def check(path: Path) -> Checked:
    """Read a whole file and say which lines are not as they were written; raises OSError."""
    entries, before, number = 0, [FIRST], 0
    faults: list[Fault] = []
    for line, raw in enumerate(_lines(path), 1):
        entries += 1
        found = _parsed(raw)
        if found is None:
            faults.append(Fault(line, "is no entry"))
            before, number = [], number + 1
            continue
        stated, text, n = found
        computed = [chained(one, text) for one in before]
        if before and stated not in computed:
            faults.append(Fault(line, "is not as it was written"))
        elif n != number + 1 and before:
            faults.append(Fault(line, f"is entry {n}, expected {number + 1}"))
        # After a changed line the next may rest on what is written as its hash, or on what its text has.
        before, number = list(dict.fromkeys([stated, *computed])), n
    return Checked(entries, before[0] if before else FIRST, tuple(faults))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for raw in file:
            yield raw.removesuffix(b"\n")


def _parsed(raw: bytes) -> tuple[str, str, int] | None:
    """Hash, text and number of a line; None where it is none."""
    try:
        stated, _, text = raw.decode().partition(" ")
        number = json.loads(text)["n"]
    except (ValueError, TypeError, KeyError):
        return None
    return (stated, text, number) if len(stated) == 64 and type(number) is int else None
