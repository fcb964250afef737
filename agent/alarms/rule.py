"""What a rule is: a condition over one person's observations, pure and told the time.

A rule is called in stream-time order: `advance(to_ns)` lets time pass up to an instant, `see(observation)` shows what
became known at that instant. Both return the conditions that began or ended. A rule keeps only what it needs of the
past.
"""

from __future__ import annotations

from typing import Protocol

from agent.alarms.observation import Condition, Observation

NS = 1_000_000_000


class Rule(Protocol):
    """One alarm's condition over one person's observations."""

    name: str

    def advance(self, to_ns: int) -> list[Condition]: ...

    def see(self, seen: Observation) -> list[Condition]: ...


def seconds(duration_s: float) -> int:
    return round(duration_s * NS)
