"""The one thread that steps the engine and commits: what a tick implies is on disk before anyone is told.

A crash loses nothing: each patient's state is a snapshot plus the inputs since, both in the outbox's file and written
in the same transaction as the messages they led to. After a restart the inputs are stepped over again and the events
they give are known already.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from agent import __version__
from agent.alarms.alert import AlertEvent
from agent.alarms.attention import Manners, Outcome
from agent.attendance import Attendance
from agent.audit import Audit
from agent.held_back import HeldBack
from agent.ingest.source import Delivery
from agent.personal_keeping import PersonalKeeping
from agent.shed import Level, Shed
from agent.spare import Economy, Spared
from agent.standing import Standing, StandingAlarms, ended, technical
from agent.unpickle import unpickle
from agent.uplink.commands import MAX_COMMAND_BYTES, parse_command
from agent.uplink.messages import alert_messages
from agent.uplink.outbox import JournalEntry, Outbox, OutboxFull, Outgoing
from agent.uplink.summary import Summaries, Watched
from agent.uplink.topics import Topics
from firmware_bridge.chunk import NS_PER_S, Chunk

if TYPE_CHECKING:  # whoever watches nobody needs none of them
    from agent.engine import Engine
    from agent.history import History
    from agent.recorder.recorder import Recorder

log = logging.getLogger(__name__)

SNAPSHOT_AFTER_ENTRIES = 60
"""Inputs of one patient journalled since the last snapshot that make a new one worth its bytes."""
SNAPSHOTS_A_TICK = 8
"""A ward that was started at once would otherwise be written to disk at once; the others wait for the next tick."""
WAITING_ROWS = 5_000
"""Rows of the history that wait for a quiet tick; past it they are written in any."""
UNSAVED_MESSAGES = 5_000
"""Messages kept in memory while the disk is full; the least urgent go first past this."""

Decode = Callable[[str, str | None, bytes], Sequence[Chunk]]


class Worker:
    """Engine and outbox of one process. Every method belongs to one thread."""

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        topics: Topics,
        *,
        wall: bool,
        standing: StandingAlarms | None = None,
        history: History | None = None,
        recorder: Recorder | None = None,
        manners: Manners | None = None,
        alarms_per_day: Mapping[str, float] | None = None,
        audit: Audit | None = None,
        economy: Economy | None = None,
    ) -> None:
        """`wall`: whether the clock counts; False in a replay, where the newest sample is now and nobody is there.

        `alarms_per_day`: somebody's alarm budget; who is not in it has none.

        `history` keeps what a report shows; the engine's `watch` must be its `watch`. `economy`: what is left undone.
        """
        self._standing = standing
        self.history, self.recorder = history, recorder
        self._personal = PersonalKeeping(engine, history) if history is not None else None
        self.engine, self.outbox, self.topics = engine, outbox, topics
        watched = {name: Watched.of(patient.person) for name, patient in engine.patients.items()}
        self._summaries = Summaries(topics, watched)
        self._wall = wall
        self.attendance: Attendance | None = None
        if wall:
            budgets = dict.fromkeys(engine.patients, 0.0) | dict(alarms_per_day or {})
            self.attendance = Attendance(topics.itself, budgets, manners or Manners())
        self._answers: list[tuple[Delivery, Outcome]] = []
        self._spared = Spared(economy or Economy(), engine.patients)
        self._had_fault = False
        self.audit = audit
        self._held_back = HeldBack(engine, history, audit)
        self._decode: Decode = _decode_nothing
        self._journalled: Counter[str] = Counter()
        self._unsaved: list[Outgoing] = []
        self._disk_full_since_ns: int | None = None
        self.ticks = 0
        self.last_alert_ns: int | None = None
        """When somebody was last told something, since the start."""
        self.shed, self.level = Shed(), Level.NOTHING
        self.unheard: Collection[str] = ()
        """Patients whose data is not stepped over for want of time."""

    @property
    def is_live(self) -> bool:
        """Whether the wall clock counts."""
        return self._wall

    @property
    def disk_full(self) -> bool:
        return self._disk_full_since_ns is not None

    @property
    def unsaved(self) -> Sequence[Outgoing]:
        """Alerts that could not be put on disk, most of them also unpublished: they must get out all the same."""
        return tuple(self._unsaved)

    def recover(self, decode: Decode) -> str:
        """Go on where the last process was stopped; returns what was found, in words."""
        self._decode = decode
        snapshots, inputs = self._resume()
        kept = self.outbox.recover().alarms
        if self.audit is not None:
            self.audit.resume(kept)
            self.audit.note("start", {"agent": self.topics.agent, "version": __version__}, time.time_ns())
        said = {"seq": self.outbox.seq, "boot_id": self.outbox.boot_id}
        summaries = self._summaries.resume(kept, self._has_data, **said)
        self._commit([*summaries, *self._resume_attendance(kept)], (), {})
        if snapshots or inputs:
            self._say_restarted()
        if self.recorder is not None:
            self.recorder.start()
        if not snapshots and not inputs:
            return "nothing to resume"
        return f"resumed {snapshots} of {len(self.engine.patients)} patients, {inputs} inputs again"

    def _resume(self) -> tuple[int, int]:
        """State as of the last commit: how many snapshots were taken back, and how many inputs stepped over again."""
        recovery = self.outbox.recover()
        self._journalled.clear()
        resumed = sum(self._restore(name, blob) for name, blob in recovery.snapshots.items())
        for entry in recovery.journal:
            if entry.patient in self.engine.patients:
                chunks = self._decode(entry.topic, entry.content_type, entry.payload)
                self._note(self._step_alone(entry.patient, chunks, entry.now_ns))
                self._journalled[entry.patient] += 1
        self._spared.again()
        if self._personal is not None:
            self._personal.resume()
        return resumed, len(recovery.journal)

    def _resume_attendance(self, kept: Mapping[str, bytes]) -> list[Outgoing]:
        """What people did about alarms; those that nothing bears out any more end, so that none is on for ever."""
        if self.attendance is None:
            return []
        ends = self.attendance.load(kept, *self._ground(), time.time_ns())
        self._note(ends)
        return self._outgoing(ends)

    def _has_data(self, subject: str, stream: str) -> bool:
        patient = self.engine.patients.get(subject)
        state = None if patient is None else patient.streams.get(f"{subject}/{stream}")
        return state is not None and state.last is not None

    def _restore(self, patient: str, blob: bytes) -> bool:
        engine_state, history_state = _unpacked(blob)
        known = patient in self.engine.patients and self.engine.restore(patient, engine_state)
        if self.history is not None and patient in self.engine.patients:
            self.history.resume(patient, history_state)
        if not known:
            log.warning("state of %s does not fit this version or config: it starts afresh", patient)
        return known

    def _say_restarted(self) -> None:
        """Every patient was unwatched for a while: said once, with how long; alarms that are on are said again."""
        events: list[AlertEvent] = []
        for patient in self.engine.patients.values():
            frontier_ns = patient.frontier_ns
            if frontier_ns is None:
                continue
            now_ns = time.time_ns() if self._wall else frontier_ns
            unwatched_s = max(0.0, (now_ns - frontier_ns) / NS_PER_S)
            text = f"The agent was restarted: not watched for {unwatched_s:.0f} s"
            event = technical(patient.person.id, "agent_restarted", now_ns, text)
            events += [event, ended(event, now_ns, "Watching again"), *patient.states.still_on(now_ns)]
        self._commit(self._messages(events, restarted=True), (), {})

    def stand(self, wanted: Mapping[Standing, str], now_ns: int) -> None:
        """Alarms on the watching itself that are true from now on, with their texts; those no longer in it end."""
        if self._standing is not None:
            self._standing.change(wanted, now_ns, lambda events: self._commit(self._messages(events), (), {}))

    def tick(self, deliveries: Sequence[Delivery], now_ns: int | None) -> list[AlertEvent]:
        """Step over what has come, and commit. On return all of it may be acknowledged."""
        chunks = [chunk for delivery in deliveries for chunk in delivery.chunks]
        self._leave_undone(len(chunks), now_ns or 0)
        decided = self._step(chunks, now_ns)
        had_fault = self._had_fault
        events = self._attended(decided, now_ns)
        events += self._without_ground(now_ns)
        events += self._people(deliveries, now_ns)
        self._held_back.note(dict.fromkeys(chunk.stream.patient for chunk in chunks), self.attendance)
        if self.history is not None:
            self.history.note_attended(events)
        journal = [
            JournalEntry(patient, delivery.topic, delivery.content_type, delivery.payload, now_ns)
            for delivery in deliveries
            for patient in dict.fromkeys(chunk.stream.patient for chunk in delivery.chunks)
            if patient in self.engine.patients
        ]
        spared = [] if events and self.level < Level.EXTRAS else self._spared.take()  # snapshots take their time
        if events or journal or self._unsaved or self._answers or spared:
            outgoing = self._outgoing(events)
            outgoing += self._summaries.heard(self._has_data, seq=self.outbox.seq, boot_id=self.outbox.boot_id)
            with self.engine.stage("commit"):
                self._commit(outgoing, journal, self._due_snapshots(journal, spared))
        with self.engine.stage("keep"):
            if self.recorder is not None and self.level < Level.DISPLAY:
                self.recorder.note(now_ns, chunks, decided)
                if had_fault:
                    self.recorder.interrupted()
                self.recorder.begin_anew(spared)
                if not events:
                    self.recorder.begin_due()
            self._look_back(events, journal)
        if events and now_ns is not None:
            self.last_alert_ns = now_ns
        self.ticks += 1
        return events

    def _look_back(self, events: Sequence[AlertEvent], journal: Sequence[JournalEntry]) -> None:
        """What reports and the audit are made from, while nobody waits to be told of an alarm."""
        is_quiet = not events and self.level < Level.DISPLAY
        if self.history is not None and not self.disk_full and (is_quiet or self.history.waiting > WAITING_ROWS):
            self.history.tick()
            if self._personal is not None:
                self._personal.keep(dict.fromkeys(entry.patient for entry in journal))
        if self.audit is not None and (not events or self.audit.is_long):
            self.audit.write()

    def _leave_undone(self, count: int, now_ns: int) -> None:
        """What there is no time for, before a step over so many chunks."""
        if self.level >= Level.EXTRAS:
            self.shed.note("extras", "overload", count)
        if self.level >= Level.DISPLAY and self.recorder is not None:
            self.recorder.interrupted()
            self.shed.note("recording", "overload", count)
        for patient in self.unheard:
            self.engine.wall_time.unheard(self.engine.patients[patient], now_ns)

    def _step(self, chunks: Sequence[Chunk], now_ns: int | None) -> list[AlertEvent]:
        """The engine's step; a fault in it costs the patient it is about some signal, and the others nothing."""
        try:
            return self.engine.step(chunks, now_ns)
        except Exception:
            log.exception("fault in a step over %d chunks: going on patient by patient", len(chunks))
            self._had_fault = True
        for patient in self.engine.patients:
            self.engine.reset(patient)
            if self.history is not None:
                self.history.forget(patient)
        self._resume()
        by_patient: defaultdict[str, list[Chunk]] = defaultdict(list)
        for chunk in chunks:
            by_patient[chunk.stream.patient].append(chunk)
        return [event for patient, own in by_patient.items() for event in self._step_alone(patient, own, now_ns)]

    def _step_alone(self, patient: str, chunks: Sequence[Chunk], now_ns: int | None) -> list[AlertEvent]:
        """Step over one patient's chunks; where that fails, the patient starts afresh and an alarm says so."""
        try:
            return self.engine.step(chunks, now_ns)
        except Exception as error:
            log.exception("signal of %s cannot be analysed: dropped, analysis starts afresh", patient)
            self.engine.reset(patient)
            self._spared.again()
            at_ns = max(chunk.end_ns for chunk in chunks)
            text = f"Some signal could not be analysed ({type(error).__name__}): analysis started afresh"
            event = technical(patient, "analysis_fault", at_ns, text)
            return [event, ended(event, at_ns, "Analysis runs again")]

    def save_all(self) -> None:
        """Snapshot every patient: before an orderly stop, so that the next start is quick."""
        if self._personal is not None:
            self._personal.keep(self.engine.patients, at_once=True)
        if self.audit is not None:
            self.audit.note("stop", {"agent": self.topics.agent}, time.time_ns())
        self._commit([], (), {patient: self._snapshot(patient) for patient in self.engine.patients})
        if self.audit is not None:
            self.audit.write()

    def _due_snapshots(self, journal: Sequence[JournalEntry], changed: Sequence[str]) -> dict[str, bytes]:
        self._journalled.update(entry.patient for entry in journal)
        heard = dict.fromkeys(entry.patient for entry in journal)
        due = [patient for patient in heard if self._journalled[patient] >= SNAPSHOT_AFTER_ENTRIES]
        # With long ticks as many are made as become due, or the journal would grow without bound.
        due = due[: max(SNAPSHOTS_A_TICK, 2 * len(journal) // SNAPSHOT_AFTER_ENTRIES)]
        due = list(dict.fromkeys([*changed, *due]))
        for patient in due:
            self._journalled[patient] = 0
        return {patient: self._snapshot(patient) for patient in due}

    def _snapshot(self, patient: str) -> bytes:
        history_state = self.history.state(patient) if self.history is not None else b""
        return pickle.dumps((self.engine.snapshot(patient), history_state))

    def _note(self, events: Sequence[AlertEvent]) -> None:
        if self.history is not None:
            self.history.note_events(events)

    def answers(self) -> list[tuple[Delivery, Outcome]]:
        """What became of the commands since the last call: to be told to who asked, now that it is on disk."""
        answers, self._answers = self._answers, []
        return answers

    def _without_ground(self, now_ns: int | None) -> list[AlertEvent]:
        """After a fault: the ends of alarms that the rules have forgotten."""
        had_fault, self._had_fault = self._had_fault, False
        if not had_fault or self.attendance is None or now_ns is None:
            return []
        return self.attendance.without_ground(*self._ground(), now_ns)

    def _ground(self) -> tuple[set[str], set[Standing]]:
        """Ids of the alarms that the rules have on, and what the agent says of itself."""
        patients = self.engine.patients.values()
        on = {alarm.alert_id for patient in patients for alarm in patient.states.active.values()}
        return on, self._standing.on() if self._standing is not None else set()

    def _people(self, deliveries: Sequence[Delivery], now_ns: int | None) -> list[AlertEvent]:
        """What people ask, and what is said because nobody came."""
        commands = [delivery for delivery in deliveries if delivery.command]
        if self.attendance is None or now_ns is None:
            self._answers += [(delivery, Outcome(False, "this is a replay")) for delivery in commands]
            return []
        is_fresh = partial(self._is_fresh, now_ns)
        events: list[AlertEvent] = []
        for delivery in commands:
            try:
                command = parse_command(delivery.command, delivery.payload)
                outcome = self.attendance.ask(command, now_ns, is_fresh)
            except ValueError as error:
                outcome = Outcome(False, str(error))
            log.info("command %s: %s", delivery.command, outcome.words)
            self._note_command(delivery, outcome, now_ns)
            self._answers.append((delivery, outcome))
            events += outcome.events
        return events + self.attendance.advance(now_ns, is_fresh)

    def _note_command(self, delivery: Delivery, outcome: Outcome, now_ns: int) -> None:
        if self.audit is not None:
            asked = delivery.payload[:MAX_COMMAND_BYTES].decode(errors="replace")
            body = {"name": delivery.command, "asked": asked, "accepted": outcome.accepted, "words": outcome.words}
            self.audit.note("command", body, now_ns)

    def _is_fresh(self, now_ns: int, subject: str, rule: str) -> bool:
        patient = self.engine.patients.get(subject)
        return patient is None or patient.is_fresh(rule, now_ns)

    def _attended(
        self, events: Sequence[AlertEvent], now_ns: int | None, *, restarted: bool = False
    ) -> list[AlertEvent]:
        """The events as the rules have them, with how people stand to them."""
        self._note(events)
        if self.attendance is None:
            return list(events)
        return self.attendance.take(events, time.time_ns() if now_ns is None else now_ns, restarted=restarted)

    def _messages(self, events: Sequence[AlertEvent], *, restarted: bool = False) -> list[Outgoing]:
        return self._outgoing(self._attended(events, None, restarted=restarted))

    def _outgoing(self, events: Sequence[AlertEvent]) -> list[Outgoing]:
        committed_ns = time.time_ns()
        if self.audit is not None:
            self.audit.note_events(events, committed_ns)
        messages = [
            message
            for event in events
            for message in alert_messages(
                event,
                self.topics,
                seq=self.outbox.next_seq(),
                boot_id=self.outbox.boot_id,
                committed_ns=committed_ns,
            )
        ]
        return messages + self._summaries.take(events, seq=self.outbox.seq, boot_id=self.outbox.boot_id)

    def _commit(
        self, outgoing: Sequence[Outgoing], journal: Sequence[JournalEntry], snapshots: dict[str, bytes]
    ) -> None:
        """One transaction; with a full disk the watching goes on from memory, and that is said."""
        keepers = [one for one in (self._summaries, self.attendance, self.audit) if one is not None]
        kept = {key: blob for one in keepers for key, blob in one.unsaved.items()}
        try:
            self.outbox.commit([*self._unsaved, *outgoing], journal, snapshots, kept)
        except OutboxFull as error:
            self._keep_in_memory(outgoing, str(error))
            return
        self._unsaved.clear()
        for one in keepers:
            one.saved()
        if self.outbox.is_short_of_room and self._disk_full_since_ns is None:
            self._disk_full_since_ns = time.time_ns()
            log.critical("the disk is full: only alerts are kept, in the room set aside for them")
            self._commit(self._messages([self._disk_full_event(self._disk_full_since_ns)]), (), {})
        elif self._disk_full_since_ns is not None and not self.outbox.is_short_of_room:
            began_ns, self._disk_full_since_ns = self._disk_full_since_ns, None
            log.warning("the disk has room again: all alerts are saved")
            event = ended(self._disk_full_event(began_ns), time.time_ns(), "The disk has room again, alerts are saved")
            self._commit(self._messages([event]), (), {})

    def _keep_in_memory(self, outgoing: Sequence[Outgoing], reason: str) -> None:
        if self._disk_full_since_ns is None:
            self._disk_full_since_ns = time.time_ns()
            log.critical("%s: alerts are kept in memory and would be lost by a crash", reason)
            self._unsaved += self._messages([self._disk_full_event(self._disk_full_since_ns)])
        self._unsaved += [message for message in outgoing if message.kind == "alert"]
        if len(self._unsaved) > UNSAVED_MESSAGES:
            self._unsaved.sort(key=lambda message: message.priority)
            del self._unsaved[UNSAVED_MESSAGES:]

    def _disk_full_event(self, since_ns: int) -> AlertEvent:
        text = "The disk is full: only alerts are kept, and a crash may lose some"
        return technical(self.topics.itself, "outbox_full", since_ns, text)


def _unpacked(blob: bytes) -> tuple[bytes, bytes]:
    """The engine's and the history's state of a patient."""
    try:
        engine_state, history_state = unpickle(blob)
    except Exception:  # whatever a damaged pickle raises, or another version's is, it does not fit
        return b"", b""
    return engine_state, history_state


def _decode_nothing(_topic: str, _content_type: str | None, _payload: bytes) -> tuple[Chunk, ...]:
    return ()
