"""All rules over one person's ECG, each of them called only where it may have something to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from agent.alarms.observation import (
    Beat,
    BeatStatus,
    Condition,
    Observation,
    OtherLead,
    Prediction,
    Quality,
    SignalLost,
    SignalStart,
)
from agent.alarms.rule import EcgRule, Timed, Unconfirmed

KINDS = (Beat, Unconfirmed, Quality, Prediction, SignalStart, SignalLost, OtherLead)
_AT_NS = attrgetter("at_ns")


@dataclass(slots=True)
class Rulebook:
    """Says what the rules would say if each were told all of the time and shown every observation.

    In a second of an ECG four things are seen, by a dozen rules, and hardly ever does anything become of it.
    """

    rules: tuple[EcgRule, ...]
    """The most urgent first."""
    _by_kind: dict[type, tuple[EcgRule, ...]] = field(init=False)
    _timed: tuple[Timed, ...] = field(init=False)
    _told_ns: int = 0

    def __post_init__(self) -> None:
        self._by_kind = {kind: tuple(rule for rule in self.rules if kind in rule.sees) for kind in KINDS}
        self._timed = tuple(rule for rule in self.rules if isinstance(rule, Timed))

    def advance(self, to_ns: int) -> list[Condition]:
        """Let time pass up to an instant; what began or ended, in order of time."""
        was_set_back = to_ns < self._told_ns
        woken = [rule for rule in self._timed if rule.due_ns <= to_ns or was_set_back]
        self._told_ns = to_ns
        if not woken:
            return []
        return sorted((condition for rule in woken for condition in rule.advance(to_ns)), key=_AT_NS)

    def see(self, seen: Observation) -> list[Condition]:
        """Show what became known at the instant that was told last."""
        is_unconfirmed = isinstance(seen, Beat) and seen.status is not BeatStatus.CONFIRMED
        found: list[Condition] = []
        for rule in self._by_kind.get(Unconfirmed if is_unconfirmed else type(seen), ()):
            if said := rule.see(seen):
                found += said
        return found
