"""How soon a worker that died is started again: at once at first, and not for ever without a pause."""

from __future__ import annotations

from collections import deque

FIRST_S, LONGEST_S = 1.0, 30.0
DEATHS, WITHIN_S = 5, 300.0
"""So many deaths within so long are too many."""
PAUSE_S = 300.0
"""Then it is left alone for so long: what kills it so fast may take others with it, or fill a disk with logs."""


class RestartBudget:
    """Of one worker."""

    def __init__(self) -> None:
        self._deaths_s: deque[float] = deque(maxlen=DEATHS)

    def died(self, now_s: float) -> float:
        """It died now; how long to wait before it is started again, in s."""
        self._deaths_s.append(now_s)
        recent = [death_s for death_s in self._deaths_s if now_s - death_s < WITHIN_S]
        if len(recent) == DEATHS:
            self._deaths_s.clear()
            return PAUSE_S
        return min(FIRST_S * (1 << len(recent) - 1), LONGEST_S)
