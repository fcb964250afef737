"""Rules about ventricular beats: runs of them, every other one, and how many there are.

Ventricular tachycardia is defined as in the 2015 PhysioNet/CinC Challenge (Clifford et al., CinC 2015).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from agent.alarms.observation import Beat, BeatStatus, Condition, Observation, Prediction, SignalLost, SignalStart
from agent.alarms.rule import NEVER, NS, seconds


@dataclass(slots=True)
class VentricularRun:
    """A run of ventricular beats faster than a limit: ventricular tachycardia.

    It ends at the third beat in a row that is not ventricular, or when no ventricular beat came for QUIET_S.
    """

    name: str
    beats: int
    above_bpm: float
    sees = (Beat, SignalStart, SignalLost)
    END_BEATS = 3
    QUIET_S = 6.0
    _run_start_ns: int = 0
    _run: list[float] = field(default_factory=list)
    _run_beats: int = 0
    _others: int = 0
    _onset_ns: int | None = None
    _last_v_ns: int = 0
    _last_r_ns: int = 0
    _count: int = 0
    due_ns: int = field(default=NEVER, init=False)

    def advance(self, to_ns: int) -> list[Condition]:
        return self._end(self.due_ns) if self._onset_ns is not None and self.due_ns <= to_ns else []

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED, label="V", usable=True):
                return self._ventricular(seen)
            case Beat(status=BeatStatus.CONFIRMED):
                self._run_beats = 0
                self._others += 1
                if self._onset_ns is not None and self._others >= self.END_BEATS:
                    return self._end(seen.at_ns)
            case SignalStart() | SignalLost():
                self._run_beats = 0
            case _:
                pass
        return []

    def _ventricular(self, beat: Beat) -> list[Condition]:
        self._others = 0
        if self._run_beats == 0 or beat.rr_s is None:
            self._run_start_ns, self._run_beats = beat.r_ns, 1
            self._run.clear()
        else:
            self._run_beats += 1
            self._run.append(beat.rr_s)
            del self._run[: -(self.beats - 1)]
        self._last_v_ns, self._last_r_ns = beat.at_ns, beat.r_ns
        if self._onset_ns is not None:
            self._count += 1
            self._stay_on()
            return []
        if self._run_beats < self.beats:
            return []
        rate = 60.0 * len(self._run) / sum(self._run)
        if rate <= self.above_bpm:
            return []
        self._onset_ns = self._run_start_ns
        self._stay_on()
        self._count = self._run_beats
        text = f"Run of {self._run_beats} ventricular beats at {rate:.0f} bpm, suggestive of ventricular tachycardia"
        values = (
            ("ventricular_beats", float(self._run_beats)),
            ("rate_bpm", round(rate, 1)),
            ("limit_beats", float(self.beats)),
            ("limit_bpm", self.above_bpm),
        )
        return [Condition(self.name, True, self._onset_ns, beat.at_ns, text, values)]

    def _stay_on(self) -> None:
        self.due_ns = self._last_v_ns + seconds(self.QUIET_S)

    def _end(self, at_ns: int) -> list[Condition]:
        onset_ns, self._onset_ns = self._onset_ns, None
        assert onset_ns is not None  # noqa: S101 (called only while active)
        self.due_ns = NEVER
        self._run_beats = 0
        text = f"Run of ventricular beats over after {self._count} beats"
        return [Condition(self.name, False, onset_ns, at_ns, text, until_ns=self._last_r_ns)]


@dataclass(slots=True)
class ProbableRun(VentricularRun):
    """A run of beats that are ventricular taken together: for somebody with a second lead or a pulse to ask as well.

    Over `beats` in a row the mean probability is at least MEAN and none is plainly another beat, and the median of
    their intervals is faster than the limit: one late or unrecognised beat does not hide a run. It ends as a
    VentricularRun does.
    """

    MEAN = 0.4
    LEAST = 0.2
    _last: deque[Beat] = field(default_factory=deque)

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED):
                self._last.append(seen)
                if len(self._last) > self.beats:
                    self._last.popleft()
                if self._onset_ns is None:
                    return self._begin()
            case SignalStart() | SignalLost():
                self._last.clear()
            case _:
                pass
        return VentricularRun.see(self, seen) if self._onset_ns is not None else []

    def _begin(self) -> list[Condition]:
        run = list(self._last)
        intervals = [beat.rr_s for beat in run[1:] if beat.rr_s is not None]
        shares = [beat.ventricular for beat in run if beat.usable]
        if len(intervals) < self.beats - 1 or len(shares) < self.beats:
            return []
        mean, rate = sum(shares) / len(shares), 60.0 / median(intervals)
        if mean < self.MEAN or min(shares) < self.LEAST or rate <= self.above_bpm:
            return []
        self._onset_ns, self._count, self._others = run[0].r_ns, len(run), 0
        self._last_v_ns, self._last_r_ns = run[-1].at_ns, run[-1].r_ns
        self._stay_on()
        text = f"Run of {len(run)} ventricular beats at {rate:.0f} bpm, suggestive of ventricular tachycardia"
        values = (
            ("ventricular_beats", float(len(run))),
            ("ventricular_probability", round(mean, 3)),
            ("rate_bpm", round(rate, 1)),
            ("limit_beats", float(self.beats)),
            ("limit_bpm", self.above_bpm),
        )
        return [Condition(self.name, True, self._onset_ns, run[-1].at_ns, text, values)]


@dataclass(slots=True)
class Bigeminy:
    """Every other beat ventricular, for at least CYCLES pairs. It ends when no such pair came for QUIET_S.

    In a shockable rhythm there are no beats to alternate: what was counted before and in it counts for nothing.
    """

    name: str
    sees = (Beat, Prediction, SignalStart, SignalLost)
    CYCLES = 4
    QUIET_S = 15.0
    _alternating: int = 0
    _last_label: str = ""
    _start_ns: int = 0
    _onset_ns: int | None = None
    due_ns: int = field(default=NEVER, init=False)

    def advance(self, to_ns: int) -> list[Condition]:
        if self._onset_ns is None or self.due_ns > to_ns:
            return []
        onset_ns, self._onset_ns = self._onset_ns, None
        over_ns, self.due_ns = self.due_ns, NEVER
        return [Condition(self.name, False, onset_ns, over_ns, "Ventricular bigeminy over")]

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED):
                return self._beat(seen)
            case SignalStart() | SignalLost() | Prediction(task="vf", label="shockable", usable=True):
                self._alternating, self._last_label = 0, ""
            case _:
                pass
        return []

    def _beat(self, beat: Beat) -> list[Condition]:
        label = ("V" if beat.label == "V" else "-") if beat.usable else ""
        alternates = beat.rr_s is not None and bool(label and self._last_label) and label != self._last_label
        self._last_label = label
        if not alternates:
            self._alternating, self._start_ns = (1 if label else 0), beat.r_ns
            return []
        self._alternating += 1
        if self._alternating < 2 * self.CYCLES:
            return []
        self.due_ns = beat.at_ns + seconds(self.QUIET_S)
        if self._onset_ns is not None:
            return []
        self._onset_ns = self._start_ns
        text = f"Every other beat ventricular for {self._alternating} beats: ventricular bigeminy"
        values = (("beats", float(self._alternating)), ("limit_beats", 2.0 * self.CYCLES))
        return [Condition(self.name, True, self._onset_ns, beat.at_ns, text, values)]


@dataclass(slots=True)
class PvcBurden:
    """Share of ventricular beats over the last WINDOW_S, judged every SLOT_S of stream time.

    At least MIN_BEATS usable beats must stand behind it. It ends below 80 % of the limit.
    """

    name: str
    above_percent: float
    sees = (Beat,)
    WINDOW_S = 600
    SLOT_S = 10
    MIN_BEATS = 100
    _slots: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(slot, beats, ventricular beats) of the window."""
    _slot: int = -1
    _beats: int = 0
    _ventricular: int = 0
    _onset_ns: int | None = None
    due_ns: int = field(default=0, init=False)

    def advance(self, to_ns: int) -> list[Condition]:
        slot = to_ns // (self.SLOT_S * NS)
        self.due_ns = (slot + 1) * self.SLOT_S * NS
        if slot == self._slot:
            return []
        if self._beats:
            self._slots.append((self._slot, self._beats, self._ventricular))
        self._beats = self._ventricular = 0
        self._slot = slot
        while self._slots and self._slots[0][0] < slot - self.WINDOW_S // self.SLOT_S:
            self._slots.popleft()
        return self._judge(slot * self.SLOT_S * NS)

    def see(self, seen: Observation) -> list[Condition]:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED, usable=True):
                self._beats += 1
                self._ventricular += seen.label == "V"
            case _:
                pass
        return []

    def _judge(self, at_ns: int) -> list[Condition]:
        beats = sum(slot[1] for slot in self._slots)
        if beats < self.MIN_BEATS:
            return []
        percent = 100.0 * sum(slot[2] for slot in self._slots) / beats
        if self._onset_ns is None and percent > self.above_percent:
            self._onset_ns = at_ns
            text = f"{percent:.0f} % of the last {beats} beats were ventricular (limit {self.above_percent:g} %)"
            values = (
                ("pvc_percent", round(percent, 1)),
                ("limit_percent", self.above_percent),
                ("beats", float(beats)),
            )
            return [Condition(self.name, True, at_ns, at_ns, text, values)]
        if self._onset_ns is not None and percent < 0.8 * self.above_percent:
            onset_ns, self._onset_ns = self._onset_ns, None
            return [Condition(self.name, False, onset_ns, at_ns, f"Ventricular beats down to {percent:.0f} %")]
        return []
