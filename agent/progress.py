"""Whether the agent gets on: every tick says so, and whoever restarts a stalled agent asks."""

from __future__ import annotations

import time
from collections.abc import Callable

STALLED_S = 20.0
"""Ticks come several times a second, and one over a long backlog takes a second or two; a slow disk a few more."""


class Progress:
    """When the last tick was done. Any thread may ask."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._last_s = clock_s()

    def made(self) -> None:
        """A tick was done, and what it led to is on disk."""
        self._last_s = self._clock_s()

    @property
    def since_s(self) -> float:
        """How long ago that was; from the start on until the first."""
        return self._clock_s() - self._last_s

    @property
    def is_stalled(self) -> bool:
        return self.since_s > STALLED_S
