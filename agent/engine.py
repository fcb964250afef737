"""One synchronous tick over all patients' new chunks: align, condition, one inference, decide.

`Engine.step` does no I/O and reads no clock. Live, replay and evaluation call it alike.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from agent import __version__
from agent.alarms.alert import AlertEvent
from agent.alarms.observation import Observation, Quality
from agent.ecg_flow import EcgFlow, Lead, Piece
from agent.explanation import explained
from agent.glucose_flow import GlucoseFlow
from agent.inference import Models
from agent.leads import judged
from agent.patient import PatientState, Person
from agent.pulses import PulseFlow, PulseTrack
from agent.turns import turns
from agent.unpickle import unpickle
from agent.wall_time import WallTime
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap

SNAPSHOT_FORMAT = 10
Stage = Callable[[str], AbstractContextManager[None]]


class Engine:
    """All patients of one process.

    `persons`: who is watched; `models`: those there are (without any, rate, pause and asystole still stand);
    `mains_hz`: 0, 50 or 60; `late_after_s`: the age past which data is a report about the past; `watch`: shown each
    patient's observations as they are made, for evaluation.
    """

    def __init__(
        self,
        persons: Sequence[Person],
        models: Models,
        *,
        mains_hz: float = 0.0,
        late_after_s: float = 30.0,
        watch: Callable[[str, Observation], None] | None = None,
    ) -> None:
        self._models = models
        self._watch = watch
        self._late_after_ns = round(late_after_s * NS_PER_S)
        self.stage: Stage = lambda _: nullcontext()
        """What each part of a tick is done within, by its name: for who times them."""
        ecg = self._ecg = EcgFlow(models, mains_hz)
        self._stages = {"condition": ecg.condition, "judge": ecg.judge, "ask": ecg.ask, "classify": ecg.classify}
        self._glucose = GlucoseFlow(models.glucose, watch)
        self._pulses = PulseFlow()
        self.wall_time = WallTime(self._late_after_ns)
        self.patients = {person.id: self._new_patient(person) for person in persons}

    def _new_patient(self, person: Person) -> PatientState:
        patient = PatientState.new(person, self._late_after_ns)
        patient.packs = self._models.identity
        return patient

    # -- the way through ---------------------------------------------------------------------------------------------

    def step(self, chunks: Iterable[Chunk], now_ns: int | None = None) -> list[AlertEvent]:
        """One tick. `chunks`: what has come since the last; `now_ns`: the wall clock, or None in a replay.

        Events come grouped by patient in stream-time order. The same chunks give the same events in any ticks, in any
        company, cut in any way.
        """
        events: dict[str, list[AlertEvent]] = defaultdict(list)
        for turn in turns(chunks):
            with self.stage("align"):
                queues = self._align(turn, events, now_ns)
            self._take(queues, events, now_ns)
        if now_ns is not None:
            for event in self.wall_time.step(self.patients, now_ns):
                events[event.patient].append(event)
        with self.stage("explain"):
            return explained([event for patient_id in sorted(events) for event in events[patient_id]], self._models)

    def _take(
        self, queues: dict[str, list[Chunk | Gap]], events: dict[str, list[AlertEvent]], now_ns: int | None
    ) -> None:
        """The analysed ECG of everybody, piece by piece."""
        while any(queues.values()):
            pieces = [
                piece
                for patient_id, queue in queues.items()
                if queue
                for piece in self._open(self.patients[patient_id], queue.pop(0), events, now_ns)
            ]
            for name, stage in self._stages.items():
                with self.stage(name):
                    stage(pieces)
            with self.stage("decide"):
                self._decide(pieces, events, now_ns)

    def _align(
        self, chunks: Iterable[Chunk], events: dict[str, list[AlertEvent]], now_ns: int | None
    ) -> dict[str, list[Chunk | Gap]]:
        """Chunks onto their time lines; what belongs to the analysed ECG is queued per patient, the rest ends here."""
        queues: dict[str, list[Chunk | Gap]] = defaultdict(list)
        readings: dict[str, list[tuple[PatientState, Chunk]]] = defaultdict(list)
        waves: dict[str, list[tuple[PulseTrack, Chunk | Gap]]] = defaultdict(list)
        for chunk in chunks:
            name, key = chunk.stream.patient, chunk.stream.key
            patient = self.patients.get(name)
            state = patient.streams.get(key) if patient else None
            if patient is None or state is None:
                continue
            self.wall_time.heard(name)
            if patient.glucose is not None and key == patient.glucose.stream.key:
                readings[name].append((patient, chunk))
                continue
            analysed = patient.person.ecg
            is_analysed = analysed is not None and key == analysed.key
            for piece in state.align(chunk):
                if is_analysed:
                    queues[name].append(piece)
                else:
                    events[name] += patient.account(piece, now_ns)
                    if key in patient.pulses:
                        waves[key].append((patient.pulses[key], piece))
        for key, pulses in self._pulses.step(waves).items():
            self.patients[waves[key][0][0].stream.patient].pulse(key, pulses)
        for patient_id in dict.fromkeys(queue[0][0].stream.patient for queue in waves.values()):
            events[patient_id] += self.patients[patient_id].settle(now_ns)
        for event in self._glucose.step(readings, now_ns):
            events[event.patient].append(event)
        return queues

    # -- the analysed ECG --------------------------------------------------------------------------------------------

    def _open(
        self, patient: PatientState, piece: Chunk | Gap, events: dict[str, list[AlertEvent]], now_ns: int | None
    ) -> list[Piece]:
        """Make the patient's tracks ready for the piece. A gap closes the run of signal: nothing is joined over it."""
        out = events[patient.person.id]
        leads: list[Lead] = [patient, patient.second] if patient.second else [patient]
        if isinstance(piece, Gap):
            if patient.track is not None and patient.track.running:
                lost = [seen for lead in leads if lead.track for seen in self._ecg.closing(lead, lead.track, piece)]
                out += patient.observe(lost, patient.track.frontier_ns, now_ns)
            out += patient.account(piece, now_ns)
            for lead in leads:
                self._ecg.end_run(lead, piece)
            return []
        out += patient.account(piece, now_ns)
        return [self._ecg.append(patient, lead, piece) for lead in leads]

    def _decide(self, pieces: list[Piece], events: dict[str, list[AlertEvent]], now_ns: int | None) -> None:
        """Show each patient's rules what became known on their leads, in stream-time order."""
        seen: dict[str, list[Observation]] = defaultdict(list)
        for piece in pieces:
            lead, frontier_ns = piece.lead, piece.track.frontier_ns
            if lead.waiting:
                new = [one for one in piece.seen if isinstance(one, Quality)]
                released, lead.waiting = judged(lead.waiting, [*lead.seconds, *new], frontier_ns)
                piece.seen += released
            seen[piece.patient.person.id] += lead.seen(piece.seen)
        watch = self._watch
        for piece in pieces:
            if piece.lead is piece.patient:
                patient, name = piece.patient, piece.patient.person.id
                if watch:
                    for observation in seen[name]:
                        watch(name, observation)
                if said := patient.observe(seen[name], piece.track.frontier_ns, now_ns):
                    events[name] += said
            piece.track.trim()

    # -- state on disk -----------------------------------------------------------------------------------------------

    def snapshot(self, patient_id: str) -> bytes:
        """All state of one patient, for `restore`."""
        patient = self.patients[patient_id]
        return pickle.dumps((SNAPSHOT_FORMAT, __version__, repr(patient.person), patient.packs, patient))

    def reset(self, patient_id: str) -> None:
        """Forget all state of one patient."""
        self.wall_time.heard(patient_id)
        self.patients[patient_id] = self._new_patient(self.patients[patient_id].person)

    def restore(self, patient_id: str, blob: bytes) -> bool:
        """Take a snapshot back; nothing in it but state is read.

        False where it does not fit: another version, another config of this person, another pack.
        """
        here = self.patients[patient_id]
        try:
            form, version, person, packs, patient = unpickle(blob)
        except Exception:  # whatever a damaged or foreign pickle raises, the answer is the same
            return False
        expected = (SNAPSHOT_FORMAT, __version__, repr(here.person), here.packs)
        if (form, version, person, packs) != expected or not isinstance(patient, PatientState):
            return False
        self.wall_time.heard(patient_id)
        self.patients[patient_id] = patient
        return True
