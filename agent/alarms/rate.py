"""Rules about how often the heart beats: asystole and pause, bradycardia and tachycardia.

Definitions follow the 2015 PhysioNet/CinC Challenge where it has one (Clifford et al., CinC 2015).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent.alarms.observation import Beat, BeatStatus, Condition, Observation, Quality, SignalLost, SignalStart
from agent.alarms.rule import NEVER, NS, Unconfirmed, seconds

DETECTION_NS = 350_000_000
"""A beat that happened is known at the latest this long after its R peak; silence is judged only after it."""
LEARNING_NS = 2 * NS
"""The detector needs this long after the signal begins before its silence means anything."""

ACTIVITY_AFTER_NS = 500_000_000
"""The T wave of the last beat is over this long after its R peak."""


@dataclass(slots=True)
class NoBeats:
    """No QRS for longer than a limit, on a signal that would have shown one: pause, and asystole.

    Judged on the stream's clock, DETECTION_NS after the limit has passed. Silence counts from the last beat or, when
    the signal was poor after it, from where the signal became good again: a lead that is off is a technical matter,
    and a heart that stopped meanwhile is found as soon as it can be seen. A heart that stands still is quiet: while
    the signal is as active as with beats, they may be there unrecognised, and the alarm waits ACTIVE_TIMES as long
    before it says just that; a pause is then not said at all. It ends at the second confirmed beat or, for a limit
    with `momentary_s`, that long after the last pause.
    """

    name: str
    longer_than_s: float
    what: str
    momentary_s: float = 0.0
    sees = (Beat, Unconfirmed, Quality, SignalStart, SignalLost)
    ACTIVE_SHARE = 0.35
    """Of the person's usual activity: P waves alone stay below, QRS complexes do not."""
    ACTIVE_TIMES = 2.5
    USUAL_SECONDS = 30
    _since_ns: int | None = None
    _provisional: list[int] = field(default_factory=list)
    _not_before_ns: int = 0
    _found: bool = False
    _onset_ns: int | None = None
    _last_found_ns: int = 0
    _beats_since: int = 0
    _activity_mv: deque[float] = field(default_factory=lambda: deque(maxlen=NoBeats.USUAL_SECONDS))
    """Of the last good seconds up to the last beat's."""
    _usually_mv: tuple[float, ...] = ()
    """The same as of the last beat, once they are enough to tell what is usual."""
    _loudest_mv: float = 0.0
    """Most active whole second since the last beat."""
    due_ns: int = field(default=NEVER, init=False)
    _limit_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self._limit_ns = seconds(self.longer_than_s)

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED):
                return self._confirmed(seen)
            case Beat(status=BeatStatus.PROVISIONAL):
                self._provisional.append(seen.r_ns)
            case Quality(good=True):
                self._activity_mv.append(seen.activity_mv)
                if self._since_ns is not None and seen.start_ns >= self._since_ns + ACTIVITY_AFTER_NS:
                    self._loudest_mv = max(self._loudest_mv, seen.activity_mv)
            case Quality():
                if self._since_ns is not None:
                    self._since_ns = max(self._since_ns, seen.at_ns + LEARNING_NS)
            case Beat():
                self._provisional = [r_ns for r_ns in self._provisional if r_ns != seen.r_ns]
                self._not_before_ns = seen.at_ns
            case SignalStart():
                self._since_ns = seen.at_ns + LEARNING_NS
                self._provisional.clear()
                self._found = False
                self._expect()
            case SignalLost():
                self._since_ns = None
            case _:
                pass
        return []

    def _expect(self) -> None:
        """Set `due_ns`: beats that are provisional, and an active signal, only make it later."""
        self.due_ns = NEVER
        if not self._found and self._since_ns is not None:
            self.due_ns = self._since_ns + self._limit_ns + DETECTION_NS
        if self._onset_ns is not None and self.momentary_s and self._beats_since >= 2:
            self.due_ns = min(self.due_ns, self._last_found_ns + seconds(self.momentary_s))

    def _confirmed(self, beat: Beat) -> list[Condition]:
        if self._provisional:
            self._provisional = [r_ns for r_ns in self._provisional if r_ns > beat.r_ns]
        self._since_ns = max(beat.r_ns, self._since_ns or 0)
        self._found = False
        self._loudest_mv = 0.0
        if len(self._activity_mv) >= self.USUAL_SECONDS // 6:
            self._usually_mv = tuple(self._activity_mv)
        self._beats_since += 1
        self._expect()
        if self._onset_ns is None or self.momentary_s or self._beats_since < 2:
            return []
        return self._end(beat.at_ns)

    def _end(self, at_ns: int) -> list[Condition]:
        onset_ns, self._onset_ns = self._onset_ns, None
        assert onset_ns is not None  # noqa: S101 (called only while active)
        return [Condition(self.name, False, onset_ns, at_ns, f"{self.what} over: the heart beats again")]

    def advance(self, to_ns: int) -> list[Condition]:
        out: list[Condition] = []
        if self._onset_ns is not None and self.momentary_s:
            over_ns = self._last_found_ns + seconds(self.momentary_s)
            if over_ns <= to_ns and self._beats_since >= 2:
                out += self._end(over_ns)
        if not self._found and self._since_ns is not None:
            out += self._silence(self._since_ns, to_ns)
        self._expect()
        return out

    def _silence(self, since_ns: int, to_ns: int) -> list[Condition]:
        since_ns = max([since_ns, *self._provisional])
        active = bool(self._usually_mv) and self._loudest_mv > self.ACTIVE_SHARE * self._usual_mv
        limit_s = self.longer_than_s * (self.ACTIVE_TIMES if active else 1.0)
        due_ns = max(since_ns + seconds(limit_s) + DETECTION_NS, self._not_before_ns)
        if due_ns > to_ns:
            return []
        self._found = True
        if active and self.momentary_s:
            return []
        self._last_found_ns = due_ns
        self._beats_since = 0
        if self._onset_ns is not None:
            return []
        self._onset_ns = since_ns
        text = f"{self.what}: no heart beat for {limit_s:g} s on a clean signal"
        if active:
            text = f"No heart beat recognised for {limit_s:g} s though the signal is active: check the person"
        values = (("no_qrs_s", round((due_ns - since_ns) / NS, 3)), ("limit_s", limit_s))
        return [Condition(self.name, True, since_ns, due_ns, text, values)]

    @property
    def _usual_mv(self) -> float:
        return sorted(self._usually_mv)[len(self._usually_mv) // 2]


@dataclass(slots=True)
class RateOutside:
    """Heart rate below or above a limit over a number of consecutive beats.

    The rate is the mean over the beats' intervals. It ends when that mean is back inside the limit by 5 %: a rate that
    hovers at the limit is one alarm, not twenty. Artefact and T waves counted as beats make a rate fast, and two
    detectors seldom count the same ones: while their agreement is below `agreement`, the alarm waits up to DOUBT_S, and
    then says that they disagree.
    """

    name: str
    limit_bpm: float
    beats: int
    above: bool
    longest_s: float = 4.0
    """An interval longer than this is a pause, which has its own alarm; the rate is counted anew after it."""
    agreement: float = 0.0
    sees = (Beat, Quality, SignalStart, SignalLost)
    DOUBT_S = 20.0
    _intervals_s: deque[float] = field(default_factory=deque)
    _onset_ns: int | None = None
    _agreed: float | None = None
    """How far two detectors agreed over the last ten seconds."""
    _doubted_ns: int | None = None
    """Since when the rate has been outside, but not believed."""

    def advance(self, to_ns: int) -> list[Condition]:
        return []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED):
                return self._beat(seen)
            case Quality():
                self._agreed = seen.agreement
            case SignalStart() | SignalLost():
                self._intervals_s.clear()
                self._agreed = self._doubted_ns = None
            case _:
                pass
        return []

    def _beat(self, beat: Beat) -> list[Condition]:
        if beat.rr_s is None or beat.rr_s > self.longest_s or not beat.usable:
            self._intervals_s.clear()
            self._doubted_ns = None
            return []
        self._intervals_s.append(beat.rr_s)
        if len(self._intervals_s) > self.beats - 1:
            self._intervals_s.popleft()
        if self._onset_ns is not None:
            return self._maybe_end(beat)
        if len(self._intervals_s) < self.beats - 1 or not self._outside(rate := self._rate_bpm()):
            self._doubted_ns = None
            return []
        doubted = self._agreed is not None and self._agreed < self.agreement
        if doubted:
            self._doubted_ns = self._doubted_ns or beat.at_ns
            if beat.at_ns < self._doubted_ns + seconds(self.DOUBT_S):
                return []
        self._doubted_ns = None
        onset_ns = beat.r_ns - seconds(sum(self._intervals_s))
        self._onset_ns = onset_ns
        word = "fast" if self.above else "slow"
        text = f"Heart rate {rate:.0f} bpm over {self.beats} beats, too {word} (limit {self.limit_bpm:g})"
        if doubted:
            text += "; a second detector does not agree: check the person"
        values = (("heart_rate_bpm", round(rate, 1)), ("limit_bpm", self.limit_bpm), ("beats", float(self.beats)))
        return [Condition(self.name, True, onset_ns, beat.at_ns, text, values)]

    def _maybe_end(self, beat: Beat) -> list[Condition]:
        if len(self._intervals_s) < self.beats - 1:
            return []
        rate = self._rate_bpm()
        inside = rate <= self.limit_bpm * 0.95 if self.above else rate >= self.limit_bpm * 1.05
        if not inside or self._onset_ns is None:
            return []
        onset_ns, self._onset_ns = self._onset_ns, None
        return [Condition(self.name, False, onset_ns, beat.at_ns, f"Heart rate back at {rate:.0f} bpm")]

    def _rate_bpm(self) -> float:
        return 60.0 * len(self._intervals_s) / sum(self._intervals_s)

    def _outside(self, rate_bpm: float) -> bool:
        return rate_bpm > self.limit_bpm if self.above else rate_bpm < self.limit_bpm
