"""What a rule is: a condition over one person's observations, pure and told the time.

A rule is called in stream-time order: `advance(to_ns)` lets time pass up to an instant, `see(observation)` shows what
became known at that instant. Both return the conditions that began or ended. A rule keeps only what it needs of the
past.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from agent.alarms.observation import Condition, Observation

NS = 1_000_000_000
NEVER = 1 << 63


class Rule(Protocol):
    """One alarm's condition over one person's observations."""

    name: str

    def advance(self, to_ns: int) -> list[Condition]: ...

    def see(self, seen: Observation) -> list[Condition]: ...


class Unconfirmed:
    """Among the kinds of observations that a rule sees: beats that are provisional, or were withdrawn."""


class EcgRule(Rule, Protocol):
    """A rule over an ECG, which says beforehand what it is to be shown."""

    @property
    def sees(self) -> tuple[type, ...]:
        """Kinds of observations that may change something here: Beat stands for confirmed ones."""


@runtime_checkable
class Timed(Protocol):
    """A rule to which time alone may make a difference; for one that is not, `advance` does nothing."""

    @property
    def due_ns(self) -> int:
        """From when on `advance` may make a difference if nothing more is seen; no later than it does."""

    def advance(self, to_ns: int) -> list[Condition]: ...


def seconds(duration_s: float) -> int:
    return round(duration_s * NS)
