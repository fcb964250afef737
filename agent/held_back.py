"""What was not sent is written down, so that somebody can ask why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.attendance import Attendance
from agent.audit import Audit
from agent.engine import Engine

if TYPE_CHECKING:
    from agent.history import History


class HeldBack:
    """Alarms that the budget, a second lead or the pulse held back, into the history and the audit file."""

    def __init__(self, engine: Engine, history: History | None, audit: Audit | None) -> None:
        self._engine, self._history, self._audit = engine, history, audit
        self._noted_ns: Counter[str] = Counter()
        """Until when it was noted what spoke against somebody's alarms."""

    def note(self, heard: Iterable[str], attendance: Attendance | None) -> None:
        """`heard`: of whom something came, and so something may have spoken against an alarm."""
        if self._history is not None:
            for name in heard:
                self._note_of(self._history, name)
        for one in attendance.suppressed() if attendance is not None else ():
            if self._history is not None:
                self._history.note_suppressed(one.event.patient, one.event.at_ns, one.event.rule, one.reason)
            if self._audit is not None:
                said = {"alert_id": one.event.alert_id, "patient": one.event.patient, "rule": one.event.rule}
                self._audit.note("suppressed", {**said, "reason": one.reason}, one.over_ns)

    def _note_of(self, history: History, name: str) -> None:
        """What a second lead or the pulse spoke against, since the last time."""
        patient = self._engine.patients.get(name)
        for held in patient.suppressed(self._noted_ns[name]) if patient is not None else ():
            self._noted_ns[name] = held.t_ns
            history.note_suppressed(name, held.t_ns, held.rule, held.reason)
