"""The rule about atrial fibrillation: a rhythm that holds, not a window that was called so.

Windows of the rhythm model overlap; their probabilities of fibrillation are averaged over a fading memory, and the
episode begins and ends with hysteresis. Guidelines call half a minute of it an episode (Hindricks et al., Eur Heart J
2021), so nothing shorter is.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.alarms.observation import Condition, Observation, Prediction, SignalLost, SignalStart
from agent.alarms.rule import NS, seconds
from models.vocabulary import RHYTHM_LABELS

_A = RHYTHM_LABELS.index("A")
_NOISE = RHYTHM_LABELS.index("~")


@dataclass(slots=True)
class AtrialFibrillation:
    """Atrial fibrillation for at least `longer_than_s`.

    It begins where the mean probability has reached ABOVE and windows likely to be fibrillation span `longer_than_s`;
    it ends where the mean has fallen below BELOW. Either is dated to the middle of the first window that says so, for
    that is when half of it was of the new rhythm; the first window of a run has no other rhythm before it, and dates
    to its start. Windows that are poor, or likelier noise than not, are passed over: the last word stands.
    """

    name: str
    longer_than_s: float = 30.0
    sees = (Prediction, SignalStart, SignalLost)
    ABOVE = 0.8
    BELOW = 0.4
    MEMORY_S = 20.0
    """Time constant of the mean."""
    _mean: float | None = None
    _last_ns: int = 0
    _turn_ns: int | None = None
    """When the rhythm changed to what the last windows say."""
    _in_fibrillation: bool = False
    """What the last windows say."""
    _onset_ns: int | None = None

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case SignalStart() | SignalLost():
                self._mean = self._turn_ns = None
            case Prediction(task="rhythm", usable=True) if seen.probabilities[_NOISE] < 0.5:
                return self._window(seen)
            case _:
                pass
        return []

    def _window(self, seen: Prediction) -> list[Condition]:
        probability = seen.probabilities[_A] / (1.0 - seen.probabilities[_NOISE])
        likely = probability > 0.5
        if self._turn_ns is None:
            self._turn_ns = seen.start_ns
        elif likely != self._in_fibrillation:
            self._turn_ns = (seen.start_ns + seen.at_ns) // 2
        self._in_fibrillation = likely
        if self._mean is None:
            self._mean = probability
        else:
            share = min(1.0, (seen.at_ns - self._last_ns) / seconds(self.MEMORY_S))
            self._mean += share * (probability - self._mean)
        self._last_ns = seen.at_ns
        if self._onset_ns is None:
            return self._begin(seen)
        return self._end(seen)

    def _begin(self, seen: Prediction) -> list[Condition]:
        assert self._mean is not None  # noqa: S101 (set by the window that is being judged)
        assert self._turn_ns is not None  # noqa: S101
        held_s = (seen.at_ns - self._turn_ns) / NS
        if not self._in_fibrillation or self._mean < self.ABOVE or held_s < self.longer_than_s or seen.unsure:
            return []
        self._onset_ns = self._turn_ns
        text = f"Irregular rhythm for {held_s:.0f} s, suggestive of atrial fibrillation"
        values = (
            ("probability", round(self._mean, 3)),
            ("limit_probability", self.ABOVE),
            ("held_s", round(held_s, 1)),
            ("limit_s", self.longer_than_s),
        )
        return [Condition(self.name, True, self._onset_ns, seen.at_ns, text, values)]

    def _end(self, seen: Prediction) -> list[Condition]:
        assert self._mean is not None  # noqa: S101 (set by the window that is being judged)
        assert self._turn_ns is not None  # noqa: S101
        if self._in_fibrillation or self._mean > self.BELOW:
            return []
        onset_ns, self._onset_ns = self._onset_ns, None
        assert onset_ns is not None  # noqa: S101 (called only while active)
        until_ns = max(self._turn_ns, onset_ns)
        minutes = (until_ns - onset_ns) / seconds(60.0)
        text = f"Rhythm suggestive of atrial fibrillation over after {minutes:.1f} min"
        return [Condition(self.name, False, onset_ns, seen.at_ns, text, until_ns=until_ns)]
