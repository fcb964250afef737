"""Everything the engine carries for one person between steps, and how one person's observations become alert events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.alarms.alert import AlertEvent, Asked, Category, Evidence, EvidenceBeat, EvidencePrediction
from agent.alarms.beside import OLDEST_READING_NS, SLOPE_NS, HeartMinutes, glucose_beside
from agent.alarms.gate import Gate, Suppression
from agent.alarms.glucose import fresh_ns
from agent.alarms.glucose_settings import GlucoseSettings
from agent.alarms.intervals import Intervals
from agent.alarms.limits import GLUCOSE_RULES, Limits
from agent.alarms.observation import (
    Beat,
    BeatStatus,
    Condition,
    Observation,
    OtherLead,
    Prediction,
    Pulse,
    Quality,
    SignalLost,
    SignalStart,
)
from agent.alarms.precedence import FIBRILLATION, OneVentricular
from agent.alarms.rulebook import Rulebook
from agent.alarms.rules import rhythm_rules, rules_of_two_leads, signal_rules
from agent.alarms.states import AlarmStates, of_anything_else, of_glucose, of_glucose_sensor, urgency
from agent.alarms.witnesses import LeadWitness, PulseWitness, Witnesses
from agent.glucose_state import GlucoseState
from agent.leads import RATE_BEATS, STRIP_NS, SecondLead, remember
from agent.pulses import PulseTrack
from agent.signal.lead import analysis_lead, second_lead
from agent.signal.outlook import Glucose, Outlook
from agent.signal.pulse import LEAST_RATE_HZ
from agent.signal.second_opinion import OpinionState
from agent.signal.track import STRIP_S, EcgTrack
from agent.spare import EXPLANATION
from agent.stream_state import StreamState
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap, Stream

EXPLAINED_BEATS = 8
"""Of the last so many beats that were not normal it is kept what the model saw: a run of ventricular ones and more."""


_OF_THE_SIGNAL = ("lead_off", "poor_signal")

JUDGED_BY = {
    "ventricular_tachycardia": "beat",
    "ventricular_bigeminy": "beat",
    "pvc_burden": "beat",
    "atrial_fibrillation": "rhythm",
    "ventricular_fibrillation": "vf",
}
"""Which model's answers a rule rests on; rules that are not here rest on none."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who is watched: pseudonym, the streams that belong to them, their limits, and what is said of their glucose."""

    id: str
    streams: tuple[Stream, ...]
    limits: Limits = field(default_factory=Limits)
    glucose: GlucoseSettings = field(default_factory=GlucoseSettings)

    @property
    def ecg(self) -> Stream | None:
        """The stream whose rhythm is judged: the first ECG."""
        return next((stream for stream in self.streams if stream.kind == "ecg"), None)

    @property
    def pulse_waves(self) -> tuple[Stream, ...]:
        """The streams that show every pulse."""
        return tuple(one for one in self.streams if one.kind in {"ppg", "abp"} and one.rate_hz >= LEAST_RATE_HZ)

    @property
    def cgm(self) -> Stream | None:
        """The glucose sensor that is judged: the first one."""
        return next((stream for stream in self.streams if stream.kind == "cgm"), None)


@dataclass(frozen=True, slots=True)
class Seconds:
    """How much signal there was, and how much of it could be judged."""

    seen: float
    good: float
    missing: float


@dataclass(slots=True)
class PatientState:
    """All state of one person. It can be pickled: a snapshot is this object."""

    person: Person
    states: AlarmStates
    streams: dict[str, StreamState]
    rules: Rulebook
    track: EcgTrack | None = None
    waiting: list[Beat] = field(default_factory=list)
    """Classified beats whose second has not been judged for quality yet."""
    recent: deque[Beat] = field(default_factory=lambda: deque(maxlen=64))
    seconds: deque[Quality] = field(default_factory=lambda: deque(maxlen=round(STRIP_S) + 2))
    intervals: Intervals = field(default_factory=Intervals)
    last_confirmed: int | None = None
    """Analysis count of the last confirmed R peak of this run."""
    heart_rate_bpm: float | None = None
    minutes: HeartMinutes = field(default_factory=HeartMinutes)
    seen_s: int = 0
    good_s: int = 0
    explainable: deque[Asked] = field(default_factory=lambda: deque(maxlen=EXPLAINED_BEATS))
    """The last beats that were not normal, as the model saw them."""
    predictions: dict[str, Prediction] = field(default_factory=dict)
    """Per task the last answer about a window of signal, with what the model saw."""
    glucose: GlucoseState | None = None
    """Of who wears a glucose sensor."""
    packs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Per task (pack id, sha256 of its network) of the models that are asked."""
    second: SecondLead | None = None
    """Of somebody whose ECG has another lead."""
    pulses: dict[str, PulseTrack] = field(default_factory=dict)
    """By key of the stream, the pulse waves that may be asked."""
    gate: Gate | None = None
    """Of somebody with a second lead or a pulse wave."""
    ecg_ns: int | None = None
    """Stream time up to which the rules have been told."""
    ventricular: OneVentricular = field(default_factory=OneVentricular)
    undone: frozenset[str] = frozenset()
    """What is left undone of them for now: names of agent.spare."""

    @classmethod
    def new(cls, person: Person, late_after_ns: int) -> PatientState:
        streams = {stream.key: StreamState.new(stream) for stream in person.streams}
        ecg, waves = person.ecg, person.pulse_waves
        other = second_lead(ecg.channels) if ecg is not None else None
        leads = () if ecg is None or other is None else (analysis_lead(ecg.channels), other)
        witnesses = Witnesses(
            tuple(LeadWitness(ecg.channels[column]) for column in leads) if ecg is not None else (),
            {wave.key: PulseWitness(wave.kind.upper()) for wave in waves},
        )
        return cls(
            person=person,
            states=AlarmStates(person.id, late_after_ns),
            streams=streams,
            rules=Rulebook((*(rules_of_two_leads if leads else rhythm_rules)(person.limits), *signal_rules())),
            second=None if other is None else SecondLead(other),
            pulses={wave.key: PulseTrack(wave) for wave in waves},
            gate=Gate(witnesses) if leads or (waves and ecg is not None) else None,
            glucose=None if person.cgm is None else GlucoseState.new(person.cgm, person.limits, person.glucose),
        )

    @property
    def frontier_ns(self) -> int | None:
        """Stream time just past the newest data of any stream; None before the first."""
        ends = [state.last.end_ns for state in self.streams.values() if state.last is not None]
        return max(ends, default=None)

    @property
    def coverage(self) -> Seconds:
        missing_ns = sum(state.missing_ns for state in self.streams.values() if state.stream.kind == "ecg")
        return Seconds(float(self.seen_s), float(self.good_s), missing_ns / NS_PER_S)

    @staticmethod
    def cut(chunk: Chunk) -> Chunk:
        """What of a chunk the first lead's track takes: all, for the strip shows every lead."""
        return chunk

    @staticmethod
    def seen(observations: list[Observation]) -> list[Observation]:
        """What was seen on the first lead, as the rules are told it."""
        return observations

    def observe(self, observations: list[Observation], frontier_ns: int, now_ns: int | None) -> list[AlertEvent]:
        """Show the rules what became known, in order of time, then let time pass up to the frontier.

        Time passes for every rule before any of them sees what happened then, so the order of events does not depend
        on how the signal was cut into chunks. Evidence is drawn up at once: it shows what was known at the decision.
        """
        events: list[AlertEvent] = []
        for observed in sorted(observations, key=_order):
            seen = self._gated(observed)
            events += self.advance(seen.at_ns, now_ns)
            if self.gate is not None:
                self.gate.witnesses.see(seen)
            found = self.rules.see(seen)
            self._remember(seen)
            if found:
                events += self.apply(found, now_ns)
        events += self.advance(frontier_ns, now_ns)
        return events

    def advance(self, to_ns: int, now_ns: int | None) -> list[AlertEvent]:
        found = self.rules.advance(to_ns)
        events = self.apply(found, now_ns) if found else []
        if self.gate is not None:
            self.ecg_ns = to_ns
            self.gate.time(to_ns, self.evidence, now_ns)
            events += self.settle(now_ns)
        return events

    def pulse(self, key: str, beats: Iterable[Pulse]) -> None:
        """Take in the pulses of one wave, as early as they are known: they are asked about as of an instant."""
        known_ns = self.pulses[key].frontier_ns
        if self.gate is not None and known_ns is not None:
            self.gate.witnesses.pulses[key].take(beats, known_ns, known_ns if self.ecg_ns is None else self.ecg_ns)

    def settle(self, now_ns: int | None) -> list[AlertEvent]:
        """Raise or hold back what had to wait for a pulse wave that was a little behind."""
        if self.gate is None or self.ecg_ns is None:
            return []
        return [
            event
            for condition, evidence in self.gate.settle(self.ecg_ns, now_ns)
            for event in self._say(condition, now_ns, evidence)
        ]

    def suppressed(self, since_ns: int = 0) -> list[Suppression]:
        """The last alarms that were held back since an instant, oldest first, each with the reason."""
        return [] if self.gate is None else [one for one in self.gate.suppressed if one.t_ns >= since_ns]

    def observe_glucose(self, glucose: Glucose, outlook: Outlook | None, now_ns: int | None) -> list[AlertEvent]:
        """Show the rules on glucose a new reading and what may follow it. Their time is that of the readings."""
        return self.apply(self.glucose_state.see(glucose, outlook), now_ns)

    def account(self, piece: Chunk | Gap, now_ns: int | None) -> list[AlertEvent]:
        """Take the next piece of a stream's time line: how long it was silent, whether its clock was set."""
        state = self.streams[piece.stream.key]
        fresh_ns = self.fresh_ns(state.stream)
        found = state.account(piece, is_late=now_ns is not None and now_ns - piece.end_ns > fresh_ns)
        # A reading ends a silence for as long as it is of now: minutes, where readings are minutes apart.
        found = [one if one.active else replace(one, fresh_ns=fresh_ns) for one in found]
        return self.apply(found, now_ns)

    def caught_up(self, now_ns: int) -> list[AlertEvent]:
        """Alarms that were late become current once the data is that they rest on: readings, or the ECG."""
        ecg, cgm = (None if one is None else self.streams[one.key].last for one in (self.person.ecg, self.person.cgm))
        believed_ns = self.glucose.believed_ns if self.glucose is not None else None
        events: list[AlertEvent] = []
        if ecg is not None:
            events += self.states.caught_up(ecg.end_ns, now_ns, of_anything_else)
        if cgm is not None:
            events += self.states.caught_up(cgm.end_ns, now_ns, of_glucose_sensor)
        if believed_ns is not None:
            events += self.states.caught_up(believed_ns, now_ns, of_glucose)
        return events

    def is_fresh(self, rule: str, now_ns: int) -> bool:
        """Whether the data that a rule rests on is of now; what it says of silence always is."""
        ecg, cgm = (None if one is None else self.streams[one.key] for one in (self.person.ecg, self.person.cgm))
        if of_glucose(rule):
            believed_ns = self.glucose.believed_ns if self.glucose is not None else None
            return cgm is not None and believed_ns is not None and now_ns - believed_ns <= self.fresh_ns(cgm.stream)
        if urgency(rule)[0] is Category.TECHNICAL and rule not in _OF_THE_SIGNAL and not of_glucose_sensor(rule):
            return True
        state = cgm if of_glucose_sensor(rule) else ecg
        return (
            state is not None and state.last is not None and now_ns - state.last.end_ns <= self.fresh_ns(state.stream)
        )

    def fresh_ns(self, stream: Stream) -> int:
        """How long data of a stream is of now."""
        return max(self.states.late_after_ns, 0 if stream.rate_hz else fresh_ns(stream.interval_s))

    @property
    def glucose_state(self) -> GlucoseState:
        """What is kept of the glucose of somebody who wears a sensor; raises LookupError of anybody else."""
        if self.glucose is None:
            raise LookupError(f"{self.person.id} wears no glucose sensor")
        return self.glucose

    def leave_undone(self, what: frozenset[str]) -> bool:
        """From the next step on; whether that is a change. A second opinion that was left out begins anew."""
        is_news, self.undone = what != self.undone, what
        if is_news and self.track is not None:
            self.track.opinion = OpinionState()
        return is_news

    def apply(self, conditions: list[Condition], now_ns: int | None) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for found in conditions:
            if self.gate is None:
                events += self._say(found, now_ns, None)
                continue
            self.gate.time(found.at_ns, self.evidence, now_ns)
            if self.gate.offer(found, self.evidence, now_ns):
                events += self.settle(now_ns)
            else:
                events += self._say(found, now_ns, None)
        return events

    def _say(self, condition: Condition, now_ns: int | None, drawn: Evidence | None) -> list[AlertEvent]:
        """What a condition means to a subscriber, with the evidence drawn when it was found, or else drawn now."""
        fibrillates = FIBRILLATION in self.states.active
        return [
            event
            for said in self.ventricular.take(condition, fibrillates)
            for event in self.states.apply(said, now_ns, self.evidence if drawn is None else lambda _: drawn)
        ]

    def _gated(self, seen: Observation) -> Observation:
        if self.second is not None and isinstance(seen, OtherLead):
            return OtherLead(self.second.take(seen.seen))
        return self.intervals.gate(seen)

    def _remember(self, seen: Observation) -> None:
        match seen:
            case Beat(status=BeatStatus.CONFIRMED):
                if seen.inputs is not None and seen.label != "N":
                    self.explainable.append(Asked("beat", seen.label, seen.r_ns, seen.inputs))
                while self.explainable and self.explainable[0].anchor_ns < seen.r_ns - STRIP_NS:
                    self.explainable.popleft()
                if seen.inputs is not None:
                    seen = replace(seen, inputs=None)
                remember(self.recent, seen)
                if seen.rr_s is not None and seen.usable:
                    self.heart_rate_bpm = self._mean_rate_bpm()
            case Quality():
                self.seconds.append(seen)
                self.minutes.second(seen.at_ns, seen.good, self.heart_rate_bpm)
                self.seen_s += 1
                self.good_s += seen.good
            case Prediction():
                self.predictions[seen.task] = seen
            case SignalStart() | SignalLost():
                self.heart_rate_bpm = None
                self.predictions.clear()

    def _mean_rate_bpm(self) -> float | None:
        intervals = [beat.rr_s for beat in list(self.recent)[-RATE_BEATS:] if beat.rr_s is not None]
        return 60.0 * len(intervals) / sum(intervals) if intervals else None

    def evidence(self, condition: Condition) -> Evidence | None:
        """What the condition rests on; None for a stream that has no strip to show."""
        if self.glucose is not None and condition.rule in GLUCOSE_RULES:
            beside = self.minutes.beside(condition.at_ns) if self.person.ecg is not None else ""
            drawn = replace(self.glucose.evidence(condition, self.packs), beside=beside)
            return replace(drawn, asked=()) if EXPLANATION in self.undone else drawn
        track = self.track
        values = dict(condition.values)
        if track is None or not track.running or (":" in condition.rule and not condition.rule.endswith(track.source)):
            return None
        start_ns, strip = track.strip(condition.at_ns)
        end_ns = start_ns + track.stream.duration_ns(len(strip))
        judged = [second for second in self.seconds if second.at_ns > start_ns]
        return Evidence(
            strip_t0_ns=start_ns,
            strip_rate_hz=track.stream.rate_hz,
            strip_unit=track.stream.unit,
            strip_channels=track.stream.channels,
            strip=strip,
            beats=tuple(
                EvidenceBeat(beat.r_ns, beat.label, beat.probability, beat.unsure)
                for beat in (self.second.recent if condition.lead and self.second else self.recent)
                if start_ns <= beat.r_ns < end_ns
            ),
            quality=sum(second.good for second in judged) / len(judged) if judged else 0.0,
            missing_s=max(0.0, STRIP_S - (end_ns - start_ns) / NS_PER_S),
            values=values,
            beside=self._glucose_beside(condition.at_ns),
            predictions=tuple(
                EvidencePrediction(said.task, said.start_ns, said.at_ns, said.label, said.probability, said.unsure)
                for said in self.predictions.values()
            ),
            asked=()
            if condition.lead or EXPLANATION in self.undone
            else self._asked(JUDGED_BY.get(condition.rule, ""), start_ns),
            packs=tuple(pack for task, pack in self.packs.items() if task == JUDGED_BY.get(condition.rule)),
        )

    def _glucose_beside(self, at_ns: int) -> str:
        if self.glucose is None:
            return ""
        return glucose_beside(*self.glucose.track.history(at_ns - OLDEST_READING_NS - SLOPE_NS), at_ns)

    def _asked(self, task: str, since_ns: int) -> tuple[Asked, ...]:
        """What a rule resting on `task` was told, as the model saw it: the strip's ventricular beats, or a window."""
        if task == "beat":
            return tuple(asked for asked in self.explainable if asked.label == "V" and asked.anchor_ns >= since_ns)
        said = self.predictions.get(task)
        if said is None or said.inputs is None:
            return ()
        return (Asked(task, said.label, said.at_ns, said.inputs),)


def _order(seen: Observation) -> tuple[int, int, int, int]:
    """By the time it was known; at the same time quality first, so that it gates the beats, in the order of their R
    peaks; then what was asked about a window; and last that the signal is lost: beats still waiting then end nothing
    that the loss began. Of two leads the analysed one comes first."""
    match seen:
        case Beat():
            return (seen.at_ns, 1, seen.r_ns, 0)
        case Prediction():
            return (seen.at_ns, 2, 0, 0)
        case SignalLost():
            return (seen.at_ns, 3, 0, 0)
        case OtherLead():
            return (*_order(seen.seen)[:3], 1)
        case _:
            return (seen.at_ns, 0, 0, 0)
