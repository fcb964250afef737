"""Room on the disk that is kept for the moment when there is none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 3 << 20
"""On a full disk up to two checkpoints' worth of log (1 MiB each) waits to be written into the database."""


class Reserve:
    """A file that only takes up room, until `release` gives that room to the outbox beside it."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path, self._size = path, size
        self.is_kept = False

    def keep(self) -> None:
        """Take the room if the disk has plenty; else leave it as it is."""
        if self.is_kept:
            return
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._path.parent)
            has_plenty = disk.f_bavail * disk.f_frsize > 2 * self._size
            if not has_plenty and not self._path.exists():
                return
            with self._path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
            self.is_kept = True

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self.is_kept = False
