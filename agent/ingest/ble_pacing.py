"""How often a radio is bothered: reconnections that never become a storm, repairs of an adapter that come to an end.

All of it is told the time, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class TokenBucket:
    """`burst` attempts at once, and one more every `every_s`."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst, self._every_s = burst, every_s
        self._tokens = float(burst)
        self._at_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take the next token; returns for how many seconds to wait before it may be used."""
        if self._at_s is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) / self._every_s)
        self._at_s = now_s if self._at_s is None else max(now_s, self._at_s)
        self._tokens -= 1
        return max(0.0, -self._tokens * self._every_s)


@dataclass(slots=True)
class Backoff:
    """Waits after failures: they double from `first_s` to `longest_s`, each anywhere from half of that to all of it."""

    first_s: float
    longest_s: float
    chance: Callable[[], float]
    """A number from 0 to 1: many devices that fail together must not come back together."""
    failures: int = 0

    def failed(self) -> float:
        """One more failure; returns the seconds to wait."""
        full_s = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return full_s * (0.5 + 0.5 * self.chance())

    def worked(self) -> None:
        """What follows is a first failure again."""
        self.failures = 0


class Repair(Enum):
    """What is done about an adapter, from the mildest."""

    WAIT = "try again later"
    RESTART_SCAN = "stop and start the search"
    POWER_CYCLE = "switch the adapter off and on"


RESTARTS = 2
"""Faults in a row that a restart of the search is to mend."""
POWER_CYCLES = 2
POWER_CYCLE_EVERY_S = 3600.0
"""Power cycles beyond those, and those because of mere quiet, no more often than this."""
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 60.0


class RepairLadder:
    """From fault to fault of one adapter, what to do next; `told` once nothing is left but to tell somebody."""

    def __init__(self) -> None:
        self._faults = 0
        self._power_cycled_s: float | None = None
        self.told = ""
        """Why the adapter cannot be used, once every repair was tried; empty: it is not known to be broken."""

    def failed(self, now_s: float, why: str) -> tuple[Repair, float]:
        """A call to the adapter failed: the repair, and the seconds to wait after it."""
        self._faults += 1
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._faults - 1, 10))
        if self._faults <= RESTARTS:
            return Repair.RESTART_SCAN, wait_s
        if self._faults <= RESTARTS + POWER_CYCLES:
            return self._power_cycle(now_s), wait_s
        self.told = why
        if self._may_power_cycle(now_s):
            return self._power_cycle(now_s), wait_s
        return Repair.WAIT, wait_s

    def quiet(self, now_s: float, in_use: bool) -> Repair:
        """The search runs and hears nothing, or connections fail one after the other: no fault for certain.

        A wedged adapter looks like that, and so does a lonely house: the adapter is left on while a link lives on it
        (`in_use`), is switched off and on rarely, and nobody is alarmed.
        """
        return self._power_cycle(now_s) if not in_use and self._may_power_cycle(now_s) else Repair.RESTART_SCAN

    def worked(self) -> None:
        """The adapter did what it should."""
        self._faults = 0
        self.told = ""

    def _may_power_cycle(self, now_s: float) -> bool:
        return self._power_cycled_s is None or now_s - self._power_cycled_s >= POWER_CYCLE_EVERY_S

    def _power_cycle(self, now_s: float) -> Repair:
        self._power_cycled_s = now_s
        return Repair.POWER_CYCLE
