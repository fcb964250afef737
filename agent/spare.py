"""What may be left undone when heat, the supply or the load asks for it, in which order; and who asks for how much.

Least is lost first. No alarm is in the list, nor any model that one rests on: beats, rhythms, fibrillation and glucose
forecasts are asked for as ever. What is left out of one patient changes nothing for another, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.patient import PatientState

DISPLAY: Final = "display"
"""Status and vital signs are said less often; what has changed for the worse is said at once as ever."""
EXPLANATION: Final = "explanation"
"""An alert does not say which part of the signal its model looked at."""
OPINION: Final = "second opinion"
"""No other network looks for the beats too: a fast rate is not disputed, as without that pack."""
ORDER: Final = (DISPLAY, EXPLANATION, OPINION)
AT_ONCE = 8
"""Patients for whom it changes in one tick: of each a snapshot is written."""
SLOWER = 3.0
"""How many times as long display data waits; what Home Assistant shows still does not expire."""


class Spare(IntEnum):
    """How much is left undone: so many of ORDER."""

    NOTHING = 0
    DISPLAY = 1
    EXPLANATIONS = 2
    SECOND_OPINIONS = 3


class Economy:
    """Who asks for how much. The most that anybody asks for holds. Asked on one thread, read on any."""

    def __init__(self) -> None:
        self._asked: dict[str, Spare] = {}
        self.undone: frozenset[str] = frozenset()

    def ask(self, who: str, much: Spare) -> bool:
        """From now on `who` ("power", "load") asks for so much; whether more or less is left undone than before."""
        self._asked[who] = much
        before, self.undone = self.undone, frozenset(ORDER[: max(self._asked.values())])
        return self.undone != before

    @property
    def pace(self) -> float:
        """How many times as long display data waits."""
        return SLOWER if DISPLAY in self.undone else 1.0

    @property
    def words(self) -> list[str]:
        """What is left undone, least important first."""
        return [what for what in ORDER if what in self.undone]


class Spared:
    """What is asked for, put to one patient after another, each at a snapshot of theirs.

    So what is stepped over again, after a crash or from a recording, leaves undone what was left undone the first time.
    """

    def __init__(self, economy: Economy, patients: Mapping[str, PatientState]) -> None:
        """`patients`: the engine's."""
        self._economy, self._patients = economy, patients
        self._put: frozenset[str] | None = None
        self._due: list[str] = []

    def again(self) -> None:
        """Patients may have gone back to a state of before."""
        self._put = None

    def take(self) -> list[str]:
        """Patients for whom it has changed with this call, some at a time: their state is to be saved now."""
        wanted = self._economy.undone
        if wanted != self._put:
            self._put, self._due = wanted, list(self._patients)
        changed: list[str] = []
        while self._due and len(changed) < AT_ONCE:
            patient = self._due.pop()
            if self._patients[patient].leave_undone(wanted):
                changed.append(patient)
        return changed
