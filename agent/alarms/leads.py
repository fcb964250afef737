"""One alarm over two leads of the same heart: what is hidden in one of them may be plain in the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.alarms.observation import Condition, Observation, OtherLead
from agent.alarms.rule import NEVER, EcgRule, Timed


@dataclass(slots=True)
class EitherLead:
    """The same rule over each of two leads: it begins where the first begins, and is over where both are.

    The two see the same time line, so their conditions come in one order however the signal was cut.
    """

    first: EcgRule
    second: EcgRule
    name: str = field(init=False)
    sees: tuple[type, ...] = field(init=False)
    _on: list[bool] = field(default_factory=lambda: [False, False])
    _said: Condition | None = None
    _timed: tuple[Timed, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.first.name
        self.sees = (*self.first.sees, OtherLead)
        self._timed = tuple(rule for _, rule in self._rules() if isinstance(rule, Timed))

    @property
    def due_ns(self) -> int:
        return min([rule.due_ns for rule in self._timed], default=NEVER)

    def advance(self, to_ns: int) -> list[Condition]:
        found = [(condition, lead) for lead, rule in self._rules() for condition in rule.advance(to_ns)]
        found.sort(key=lambda one: one[0].at_ns)
        return [said for condition, lead in found for said in self._take(condition, lead)]

    def see(self, seen: Observation) -> list[Condition]:
        lead = int(isinstance(seen, OtherLead))
        found = self.second.see(seen.seen) if isinstance(seen, OtherLead) else self.first.see(seen)
        return [said for condition in found for said in self._take(condition, lead)]

    def _rules(self) -> tuple[tuple[int, EcgRule], tuple[int, EcgRule]]:
        return (0, self.first), (1, self.second)

    def _take(self, condition: Condition, lead: int) -> list[Condition]:
        self._on[lead] = condition.active
        if condition.active:
            if self._said is not None:
                return []
            self._said = replace(condition, lead=lead)
            return [self._said]
        if self._said is None or any(self._on):
            return []
        onset_ns, self._said = self._said.onset_ns, None
        return [replace(condition, onset_ns=onset_ns, lead=lead)]
