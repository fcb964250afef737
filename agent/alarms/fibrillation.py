"""The alarm on what the fibrillation network says, second by second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent.alarms.observation import Condition, Observation, Prediction, SignalLost, SignalStart
from agent.alarms.rule import NEVER, seconds

TASK = "vf"
SHOCKABLE = "shockable"


@dataclass(slots=True)
class Fibrillation:
    """Ventricular fibrillation, flutter or fast ventricular tachycardia for several seconds on end.

    It begins when the mean probability of the last AVERAGED usable predictions, which lie within their own number of
    seconds of signal, reaches `on_at`; it ends when that mean falls below OFF_AT, or when nothing usable came for
    QUIET_S. Predictions on poor signal are passed over: they neither raise nor end it. Its onset is DECIDING_S before
    the first of the predictions in a row that were more likely than not.
    """

    name: str
    on_at: float = 0.8
    sees = (Prediction, SignalStart, SignalLost)
    AVERAGED = 3
    OFF_AT = 0.2
    DECIDING_S = 3.0
    QUIET_S = 20.0
    PASSED_OVER_S = 3.0
    """Predictions further apart than this are not averaged."""
    _recent: deque[float] = field(default_factory=deque)
    _last_ns: int = 0
    _suspected_ns: int | None = None
    _likely_ns: int = 0
    """When the last prediction came that was more likely than not."""
    _onset_ns: int | None = None
    due_ns: int = field(default=NEVER, init=False)

    def advance(self, to_ns: int) -> list[Condition]:
        if self._onset_ns is None or self.due_ns > to_ns:
            return []
        return self._end(self.due_ns, "No signal good enough to say whether the ventricles still fibrillate")

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Prediction(task="vf", usable=True):
                return self._judge(seen)
            case SignalStart() | SignalLost():
                self._forget()
            case _:
                pass
        return []

    def _forget(self) -> None:
        self._recent.clear()
        self._suspected_ns = None

    def _judge(self, seen: Prediction) -> list[Condition]:
        if seen.at_ns - self._last_ns > seconds(self.PASSED_OVER_S):
            self._forget()
        self._last_ns = seen.at_ns
        self.due_ns = NEVER if self._onset_ns is None else self._over_ns
        likely = seen.probability if seen.label == SHOCKABLE else 1.0 - seen.probability
        if likely < 0.5:
            self._suspected_ns = None
        else:
            self._likely_ns = seen.at_ns
            if self._suspected_ns is None:
                self._suspected_ns = max(seen.start_ns, seen.at_ns - seconds(self.DECIDING_S))
        self._recent.append(likely)
        if len(self._recent) > self.AVERAGED:
            self._recent.popleft()
        if len(self._recent) < self.AVERAGED:
            return []
        mean = sum(self._recent) / self.AVERAGED
        if self._onset_ns is None and mean >= self.on_at:
            return self._begin(seen, mean)
        if self._onset_ns is not None and mean < self.OFF_AT:
            return self._end(
                seen.at_ns, "Rhythm no longer suggestive of ventricular fibrillation, flutter or very fast tachycardia"
            )
        return []

    @property
    def _over_ns(self) -> int:
        """When it is over if nothing more can be judged."""
        return self._last_ns + seconds(self.QUIET_S)

    def _begin(self, seen: Prediction, mean: float) -> list[Condition]:
        earliest_ns = max(seen.start_ns, seen.at_ns - seconds(self.DECIDING_S))
        self._onset_ns = onset_ns = earliest_ns if self._suspected_ns is None else self._suspected_ns
        self.due_ns = self._over_ns
        text = (
            "Rhythm suggestive of ventricular fibrillation, flutter or very fast tachycardia "
            f"({100 * mean:.0f} % over {self.AVERAGED} s)"
        )
        values = (("shockable_probability", round(mean, 3)), ("limit_probability", self.on_at))
        return [Condition(self.name, True, onset_ns, seen.at_ns, text, values)]

    def _end(self, at_ns: int, text: str) -> list[Condition]:
        onset_ns, self._onset_ns = self._onset_ns, None
        assert onset_ns is not None  # noqa: S101 (called only while active)
        self.due_ns = NEVER
        self._forget()
        until_ns = max(onset_ns, self._likely_ns - seconds(self.DECIDING_S / 2))  # half of what decided was of it
        return [Condition(self.name, False, onset_ns, at_ns, text, until_ns=until_ns)]
