"""The last samples of a run, found by their count, in a room that is written round and round."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_ROOMY = 1.5
"""A room of more than so many times what is kept was made for one long piece, and is given up."""


@dataclass(slots=True, eq=False)
class LastSamples:
    """Samples (n,) or (n, channels) of one run: the newest `keep`, and between two calls of `trim` all that came.

    Nothing is moved while the pieces are of a size: a new one is written over what is no longer needed.
    """

    keep: int
    count: int = 0
    """Samples of the run so far."""
    first: int = 0
    """The oldest of them that is still held."""
    room: Float32 = field(default_factory=lambda: np.empty(0, np.float32))
    """Sample k lies at k modulo its length."""

    def append(self, x: Float32) -> None:
        """Take the run's next samples."""
        if not len(x):
            return
        count = self.count
        end = count + len(x)
        if end - self.first > len(self.room):
            self._move(np.empty((end - self.first, *x.shape[1:]), x.dtype))
        self._write(x, count)
        self.count = end

    def read(self, start: int, end: int) -> Float32:
        """Samples [start, end), which must be held; what is returned may be written over by the next `append`."""
        if start >= end:
            return self.room[:0]
        size = len(self.room)
        at = start % size
        stop = at + end - start
        return self.room[at:stop] if stop <= size else np.concatenate((self.room[at:], self.room[: stop - size]))

    def trim(self) -> None:
        """Forget all but the last `keep`."""
        if self.count - self.first > self.keep:
            self.first = self.count - self.keep
            if len(self.room) > _ROOMY * self.keep:
                self._move(np.empty((self.keep, *self.room.shape[1:]), self.room.dtype))

    def _move(self, room: Float32) -> None:
        held = self.read(self.first, self.count)
        self.room = room
        if len(held):
            self._write(held, self.first)

    def _write(self, x: Float32, start: int) -> None:
        room = self.room
        size = len(room)
        at = start % size
        stop = at + len(x)
        if stop <= size:
            room[at:stop] = x
        else:
            room[at:] = x[: size - at]
            room[: stop - size] = x[size - at :]
