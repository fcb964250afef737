"""Which intervals between beats are intervals: not one with a poor second in it, where a beat may have been missed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TypeVar

from agent.alarms.observation import Beat, BeatStatus, Observation, Quality

Seen = TypeVar("Seen", bound=Observation)


@dataclass(slots=True)
class Intervals:
    """One lead's observations on their way to the rules, in the order in which they were known."""

    poor: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=2))
    """(start, end) of the last seconds that failed the quality gate; the newest may come after the beat in hand."""
    last_r_ns: int | None = None

    def gate(self, seen: Seen) -> Seen:
        """The observation, its interval taken off where it is none."""
        if isinstance(seen, Beat):
            if seen.status is not BeatStatus.CONFIRMED:
                return seen
            since_ns, self.last_r_ns = self.last_r_ns, seen.r_ns
            if since_ns is not None and self.poor and self._is_poor(since_ns, seen.r_ns):
                return replace(seen, rr_s=None)
        elif isinstance(seen, Quality) and not seen.good:
            self.poor.append((seen.start_ns, seen.at_ns))
        return seen

    def _is_poor(self, since_ns: int, to_ns: int) -> bool:
        return any(start <= to_ns and end > since_ns for start, end in self.poor)
