"""Between the rules and the alarms of one person: whoever else has seen the heart is asked before an alarm is raised.

An alarm of a rule that can be corroborated is weighed as of the instant at which the rule found it. A pulse wave that
is a little behind the ECG is waited for, but no longer than HOLD_S; one that has fallen silent is not waited for at
all. What speaks against it holds the alarm back, and it is weighed anew every second for as long as the rule's
condition lasts: when nothing speaks against it any more, it sounds. Stream time decides, so the order in which streams
arrive changes nothing as long as no stream is further behind than HOLD_S.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.alarms.alert import Evidence
from agent.alarms.corroboration import objection, support
from agent.alarms.observation import Condition
from agent.alarms.rule import NS, seconds
from agent.alarms.witnesses import Witnesses

HOLD_S = 1.5
"""How long an alarm waits for a pulse wave that is behind: by the time of the ECG, and live by the clock as well."""
SILENT_S = 5.0
"""A pulse wave that is further behind than this has fallen silent."""
REVIEW_NS = NS
REMEMBERED = 200
CORROBORATED = frozenset(
    {"asystole", "pause", "bradycardia", "tachycardia", "ventricular_tachycardia", "ventricular_fibrillation"}
)

Draw = Callable[[Condition], Evidence | None]


@dataclass(frozen=True, slots=True)
class Suppression:
    """An alarm that was held back: never one that was dropped."""

    t_ns: int
    """Stream time at which it would have sounded."""
    rule: str
    reason: str
    """What would have been said, and what spoke against it."""


@dataclass(slots=True)
class _Case:
    """A rule's condition from when it began until it sounded or was over."""

    condition: Condition
    next_ns: int
    """When it is weighed anew."""
    held_back: bool = False
    sounded: bool = False


@dataclass(slots=True)
class _Item:
    """Something to be decided as of its condition's `at_ns`, in the order in which the rules found it."""

    condition: Condition
    case: _Case | None
    """None for the end of an alarm that has sounded."""
    evidence: Evidence | None = None
    """Of that instant."""
    since_ns: int | None = None
    """The wall clock when it was put, where there is one."""


@dataclass(slots=True)
class Gate:
    """What of one person is being weighed. What comes out are conditions for `AlarmStates`, each with its evidence."""

    witnesses: Witnesses
    suppressed: deque[Suppression] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    held_back: dict[str, int] = field(default_factory=dict)
    """Per rule, how many alarms were held back since this person is watched."""
    _open: dict[str, _Case] = field(default_factory=dict)
    """By rule, what has neither sounded nor ended."""
    _queue: deque[_Item] = field(default_factory=deque)

    @property
    def is_weighing(self) -> bool:
        """Whether something waits to be decided."""
        return bool(self._queue)

    def offer(self, condition: Condition, draw: Draw, now_ns: int | None) -> bool:
        """Take in a condition that began or ended; False where it is none that can be corroborated."""
        if condition.rule not in CORROBORATED:
            return False
        if condition.active:
            case = self._open[condition.rule] = _Case(condition, condition.at_ns + REVIEW_NS)
            self._queue.append(_Item(condition, case, draw(condition), now_ns))
        else:
            self._queue.append(_Item(condition, self._open.pop(condition.rule, None), None, now_ns))
        return True

    def time(self, to_ns: int, draw: Draw, now_ns: int | None) -> None:
        """The rules' time has come to `to_ns`: what has not sounded is put again every second."""
        for case in self._open.values():
            if to_ns - case.next_ns > seconds(SILENT_S):
                case.next_ns = to_ns
            while case.next_ns <= to_ns:
                again = replace(case.condition, at_ns=case.next_ns)
                self._queue.append(_Item(again, case, draw(again), now_ns))
                case.next_ns += REVIEW_NS

    def settle(self, ecg_ns: int, now_ns: int | None) -> list[tuple[Condition, Evidence | None]]:
        """Decide what can be decided: `ecg_ns` is the rules' time."""
        out: list[tuple[Condition, Evidence | None]] = []
        while self._queue and self._ready(self._queue[0], ecg_ns, now_ns):
            item = self._queue.popleft()
            condition, case = item.condition, item.case
            if not condition.active:
                if case is None or case.sounded:
                    out.append((condition, None))
            elif case is not None and not case.sounded:
                against = objection(self.witnesses, condition, condition.at_ns)
                if against:
                    self._note(case, condition, against)
                    continue
                out.append((self._worded(condition, case), item.evidence))
                case.sounded = True
                if self._open.get(condition.rule) is case:
                    self._open.pop(condition.rule)
        return out

    def _ready(self, item: _Item, ecg_ns: int, now_ns: int | None) -> bool:
        at_ns = item.condition.at_ns
        if ecg_ns >= at_ns + seconds(HOLD_S):
            return True
        if now_ns is not None and item.since_ns is not None and now_ns - item.since_ns >= seconds(HOLD_S):
            return True
        known = [wave.known_ns for wave in self.witnesses.pulses.values() if wave.known_ns is not None]
        return all(known_ns >= at_ns or known_ns < at_ns - seconds(SILENT_S) for known_ns in known)

    def _note(self, case: _Case, condition: Condition, against: str) -> None:
        if case.held_back:
            return
        case.held_back = True
        self.held_back[condition.rule] = self.held_back.get(condition.rule, 0) + 1
        self.suppressed.append(Suppression(condition.at_ns, condition.rule, f"{self._seen(condition)}, but {against}"))

    def _seen(self, condition: Condition) -> str:
        """The sentence, with the lead it is about where there are two."""
        name = self.witnesses.name(condition.lead)
        return f"{condition.text} ({name})" if name else condition.text

    def _worded(self, condition: Condition, case: _Case) -> Condition:
        """The sentence with what else bears it out."""
        parts = [self._seen(condition)]
        if borne_out := support(self.witnesses, condition, condition.at_ns):
            parts.append(borne_out)
        if case.held_back:
            parts.append("what spoke against it is over")
        return replace(condition, text="; ".join(parts))
