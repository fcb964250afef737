"""Technical rules: what hinders the watching itself. Same calling convention as the rhythm rules."""

from __future__ import annotations

from dataclasses import dataclass

from agent.alarms.observation import Condition, Observation, Quality, SignalLost, SignalStart
from agent.alarms.rule import NEVER, NS, seconds

LEAD_OFF_REASONS = ("lead off", "flat", "saturated")


@dataclass(slots=True)
class PoorSeconds:
    """So many seconds in a row without a usable signal, for one of the stated reasons (all reasons where empty).

    It ends after END_S good seconds in a row. A gap neither begins nor ends it.
    """

    name: str
    for_s: int
    reasons: tuple[str, ...]
    what: str
    sees = (Quality, SignalStart, SignalLost)
    END_S = 3
    _bad: int = 0
    _good: int = 0
    _bad_since_ns: int = 0
    _onset_ns: int | None = None

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Quality():
                return self._second(seen)
            case SignalStart() | SignalLost():
                self._bad = self._good = 0
            case _:
                pass
        return []

    def _second(self, second: Quality) -> list[Condition]:
        if second.good:
            self._bad, self._good = 0, self._good + 1
            if self._onset_ns is None or self._good < self.END_S:
                return []
            onset_ns, self._onset_ns = self._onset_ns, None
            return [Condition(self.name, False, onset_ns, second.at_ns, f"{self.what}: the signal is usable again")]
        self._good = 0
        if self.reasons and second.reason not in self.reasons:
            self._bad = 0
            return []
        self._bad += 1
        if self._bad == 1:
            self._bad_since_ns = second.start_ns
        if self._onset_ns is not None or self._bad < self.for_s:
            return []
        self._onset_ns = self._bad_since_ns
        text = f"{self.what} for {self._bad} s ({second.reason}): heart rhythm is not being watched"
        values = (("seconds", float(self._bad)), ("limit_s", float(self.for_s)), ("reason", second.reason))
        return [Condition(self.name, True, self._onset_ns, second.at_ns, text, values)]


def silence_deadline_s(rate_hz: float, interval_s: float) -> float:
    """How long a stream may say nothing before that is an alarm: from its own rate.

    A sampled stream: 5 s. A stream of readings: two missed readings and a minute.
    """
    return 5.0 if rate_hz else 2.2 * interval_s + 60.0


@dataclass(slots=True)
class StreamSilent:
    """No data of a stream past its deadline: by stream time where the hole is known, by the clock while it lasts."""

    name: str
    what: str
    deadline_s: float
    _last_ns: int | None = None
    _onset_ns: int | None = None

    @property
    def due_ns(self) -> int:
        """From when on it is an alarm if nothing comes; NEVER where it is one already, or nothing is expected yet."""
        if self._last_ns is None or self._onset_ns is not None:
            return NEVER
        return self._last_ns + seconds(self.deadline_s)

    def data(self, start_ns: int, end_ns: int) -> list[Condition]:
        """Samples covering [start_ns, end_ns) have come."""
        out = self.silent(start_ns)
        if self._onset_ns is not None:
            onset_ns, self._onset_ns = self._onset_ns, None
            gap_s = (start_ns - onset_ns) / NS
            out.append(Condition(self.name, False, onset_ns, start_ns, f"{self.what} sends again after {gap_s:.0f} s"))
        self._last_ns = end_ns
        return out

    def restart(self, at_ns: int) -> None:
        """The device's clock was set: what was expected by the old time is expected by the new."""
        if self._last_ns is not None:
            self._last_ns = at_ns

    def begin(self, at_ns: int) -> None:
        """Expect data from this instant on, though none has come yet."""
        if self._last_ns is None:
            self._last_ns = at_ns

    def silent(self, now_ns: int) -> list[Condition]:
        """It is now `now_ns` and nothing has come since the last data."""
        due_ns = self.due_ns
        if self._last_ns is None or due_ns > now_ns:
            return []
        self._onset_ns = self._last_ns
        text = f"{self.what} has sent nothing for {self.deadline_s:g} s: monitoring has stopped"
        return [Condition(self.name, True, self._last_ns, due_ns, text, (("deadline_s", self.deadline_s),))]
