"""The ring on disk: files of an hour per patient, the oldest of which give way. Of one thread; no call raises OSError.

A memory card wears by what is written and by how often it is synced. So records wait in memory for ten seconds, a file
is only ever appended to, and it is synced when it ends and when an alert was marked in it. A process that is killed
loses what waited; a power cut, at worst, what the kernel had not written yet.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.recorder.segment import SUFFIX, Encoder, Head, Mark, Record, block, head_bytes
from agent.workers.places import state_folders

log = logging.getLogger(__name__)

RECORDINGS = "recordings"
"""Of the state folder: where the ring is."""
FLUSH_NS = 10_000_000_000
"""Records of a patient wait so long for others, unless an alert is among them."""
BUFFER_BYTES = 1 << 20
KEEP_FREE_BYTES = 64 << 20
"""Room on the disk that is left to others, above all to the outbox."""
_DAY_NS = 86_400_000_000_000


@dataclass(slots=True)
class _Open:
    path: Path
    size: int
    """Bytes of it that are known to be good."""
    encoder: Encoder = field(default_factory=Encoder)
    waiting: bytearray = field(default_factory=bytearray)
    since_ns: int = 0
    is_marked: bool = False


class Ring:
    """The files below `folder`, at most `max_bytes` of them and none older than `days`.

    `clock_ns`: the wall clock, for names of files and their age. `free_bytes`: what is free on the disk of a folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        days: float,
        max_bytes: int,
        clock_ns: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self.folder, self._days, self._max_bytes, self._clock_ns = folder, days, max_bytes, clock_ns
        self._free_bytes = free_bytes or _free_bytes
        self.trouble = ""
        """Why nothing is recorded, in words for a status; "" when all is well."""
        self.counters: Counter[str] = Counter()
        self._open: dict[str, _Open] = {}
        self._sizes: dict[Path, int] = {}
        """Of every file, the oldest first."""
        with suppress(OSError):
            found = sorted(segment_files(folder), key=lambda path: path.name)
            self._sizes = {path: path.stat().st_size for path in found}
        self.size = sum(self._sizes.values())
        """Bytes in all files."""
        self._last_ns = max((_began_ns(path) for path in self._sizes), default=0)

    @property
    def recorded(self) -> set[str]:
        """Who is being recorded now."""
        return set(self._open)

    def begin(self, head: Head) -> None:
        """Go on in a new file, whose head this is."""
        self.end(head.patient)
        self._last_ns = max(self._clock_ns(), self._last_ns + 1)
        path = self.folder / head.patient / f"{self._last_ns:020d}{SUFFIX}"
        data = head_bytes(head)
        try:
            if not self._make_room(len(data)):
                raise OSError("the disk is nearly full")  # noqa: TRY301 (told like any other fault of the disk)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _append(path, 0, data, sync=False, create=True)
        except OSError as error:
            self._fails(head.patient, error)
            return
        self._sizes[path] = len(data)
        self.size += len(data)
        self._open[head.patient] = _Open(path, len(data))
        if self.trouble:
            log.info("recording goes on")
        self.trouble = ""

    def take(self, patient: str, record: Record) -> None:
        """A record of somebody who is being recorded; of anybody else it is not kept."""
        file = self._open.get(patient)
        if file is None:
            self.counters["recorder_lost"] += 1
            return
        if not file.waiting:
            file.since_ns = self._clock_ns()
        file.waiting += file.encoder.encode(record)
        file.is_marked = file.is_marked or isinstance(record, Mark)
        if len(file.waiting) >= BUFFER_BYTES:
            self._flush(patient, file)

    def end(self, patient: str) -> None:
        """Write what waits, and let go of the file."""
        file = self._open.get(patient)
        if file is not None:
            file.is_marked = True
            self._flush(patient, file)
            self._open.pop(patient, None)

    def flush_due(self) -> None:
        """Write what has waited for long enough, or holds an alert; let the oldest files give way."""
        now_ns = self._clock_ns()
        for patient, file in list(self._open.items()):
            waited = not 0 <= now_ns - file.since_ns < FLUSH_NS  # or the clock was set back
            if file.waiting and (file.is_marked or waited):
                self._flush(patient, file)

    def close(self) -> None:
        for patient in list(self._open):
            self.end(patient)

    def _flush(self, patient: str, file: _Open) -> None:
        data = block(bytes(file.waiting)) if file.waiting else b""
        try:
            if data and not self._make_room(len(data)):
                raise OSError("the disk is nearly full")  # noqa: TRY301
            _append(file.path, file.size, data, sync=file.is_marked)
        except OSError as error:
            self._fails(patient, error)
            return
        file.size += len(data)
        self._sizes[file.path] = file.size
        self.size += len(data)
        file.waiting.clear()
        file.is_marked = False

    def _fails(self, patient: str, error: OSError) -> None:
        """What this patient's file holds stays; it is not added to any more."""
        self._open.pop(patient, None)
        self.counters["recorder_faults"] += 1
        if not self.trouble:
            log.error("recording of %s: %s", patient, error)
        self.trouble = f"nothing is recorded: {error.strerror or error}"

    def _make_room(self, wanted: int) -> bool:
        """Delete what is too old or too much, the oldest first; False where there is no room all the same."""
        oldest_ns = self._clock_ns() - round(self._days * _DAY_NS)
        free = self._free_bytes(self.folder)
        first = next(iter(self._sizes), None)
        if not self._is_crowded(wanted, free) and (first is None or _began_ns(first) >= oldest_ns):
            return True
        in_use = {file.path for file in self._open.values()}
        for path, size in list(self._sizes.items()):
            if not self._is_crowded(wanted, free) and _began_ns(path) >= oldest_ns:
                break
            if path in in_use:
                continue
            with suppress(FileNotFoundError):
                path.unlink()
            del self._sizes[path]
            self.size -= size
            free += size
            self.counters["recorder_given_way"] += 1
        return free >= KEEP_FREE_BYTES + wanted

    def _is_crowded(self, wanted: int, free: int) -> bool:
        return self.size + wanted > self._max_bytes or free < KEEP_FREE_BYTES + wanted


def segment_files(folder: Path, patient: str = "*") -> Iterator[Path]:
    """The files of the ring in `folder`, in any order; `patient` "*" is everybody's."""
    people = [folder / patient] if patient != "*" else (folder.iterdir() if folder.is_dir() else ())
    for person in people:
        if person.is_dir():
            yield from (path for path in person.iterdir() if path.suffix == SUFFIX and path.stem.isdecimal())


def recordings_of(state_dir: Path, patient: str) -> Path:
    """The folder in which somebody's recordings are, of those of all workers; the agent's own where there are none."""
    rings = [folder / RECORDINGS for folder in state_folders(state_dir)]
    return next((ring for ring in rings if (ring / patient).is_dir()), rings[0])


def _began_ns(path: Path) -> int:
    return int(path.stem)


def _append(path: Path, at: int, data: bytes, *, sync: bool, create: bool = False) -> None:
    """Write at the end, which is `at`; where that fails the file is cut back to it. Raises OSError."""
    flags = os.O_WRONLY | (os.O_CREAT | os.O_EXCL if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        try:
            written = os.pwrite(fd, data, at) if data else 0
            if written < len(data):
                raise OSError("the disk is full")  # noqa: TRY301
            if sync:
                os.fdatasync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, at)
            raise
    finally:
        os.close(fd)


def _free_bytes(folder: Path) -> int:
    """Of the disk that a folder is on, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
