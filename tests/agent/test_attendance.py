"""What people did about alarms outlives the process, and no alarm outlives what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Phase, State, alert_id
from agent.alarms.attention import Attention, Manners
from agent.alarms.budget import AlarmBudget
from agent.alarms.states import urgency
from agent.attendance import Attendance
from agent.engine import Engine
from agent.inference import Models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.standing import StandingAlarms
from agent.uplink.commands import AckCommand, PauseCommand, parse_command
from agent.uplink.messages import AlertData, canonical_json, parse_event
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics, input_topic
from agent.worker import Worker
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk

SCRIPT = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0))
SIGNAL = tuple(SimulatedPatient(5, script=SCRIPT).chunks(chunk_s=1.0))
STREAM = SIGNAL[0].stream
OPENED: list[Outbox] = []


@pytest.fixture(autouse=True)
def _outboxes_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def worker_at(path: Path, *, mains_hz: float = 0.0, patients: tuple[str, ...] = ("demo",)) -> Worker:
    """A worker that lives by the clock; another `patients` or version is what an update may bring."""
    outbox = Outbox(path / "outbox.sqlite")
    OPENED.append(outbox)
    persons = [Person(name, (STREAM,) if name == STREAM.patient else ()) for name in patients]
    engine = Engine(persons, Models(), mains_hz=mains_hz)
    return Worker(engine, outbox, Topics("ward"), wall=True, standing=StandingAlarms(path / "standing.json"))


def decode(_topic: str, _content_type: str | None, payload: bytes) -> tuple[Chunk, ...]:
    return tuple(cbor_chunk.decode(payload, STREAM))


def play(worker: Worker, chunks: tuple[Chunk, ...] = SIGNAL) -> list[AlertEvent]:
    topic = input_topic(STREAM.device, STREAM.channel)
    out = []
    for chunk in chunks:
        payload = cbor_chunk.encode(chunk)
        out += worker.tick([Delivery((chunk,), topic, None, payload, 0, lambda: None)], chunk.end_ns)
    return out


def ask(worker: Worker, name: str, body: str, now_ns: int) -> tuple[bool, str]:
    worker.tick([Delivery((), f"vagus/v1/ward/cmd/{name}", None, body.encode(), 0, lambda: None, name)], now_ns)
    ((_, outcome),) = worker.answers()
    return outcome.accepted, outcome.words


def said(worker: Worker, rule: str) -> list[AlertData]:
    rows = worker.outbox.pending(limit=1000, max_bytes=1 << 30)
    events = [parse_event(row.message.payload).data for row in rows if "/event/" in row.message.topic]
    return sorted((event for event in events if event.rule == rule), key=lambda event: event.seq or 0)


def retained(worker: Worker, alarm_id: str) -> bytes | None:
    topic = f"vagus/v1/ward/alarm/{STREAM.patient}/{alarm_id}"
    rows = worker.outbox.pending(limit=1000, max_bytes=1 << 30)
    return next((row.message.payload for row in rows if row.message.topic == topic), None)


def test_an_acknowledgement_is_on_disk_with_the_event_that_tells_of_it(tmp_path: Path) -> None:
    first = worker_at(tmp_path)
    (began,) = [event for event in play(first) if event.rule == "asystole"]
    body = f'{{"id": "c1", "patient": "{STREAM.patient}", "by": "nurse-3", "alert_id": "{began.alert_id}"}}'
    assert ask(first, "ack", body, SIGNAL[-1].end_ns) == (True, "acknowledged")
    first.outbox.close()  # nothing else: no snapshot, no goodbye
    second = worker_at(tmp_path)
    second.recover(decode)
    assert ask(second, "ack", body, SIGNAL[-1].end_ns) == (True, "was done before")
    events = said(second, "asystole")
    assert [event.phase for event in events] == ["start", "update", "continue"]
    assert [event.acknowledged is not None for event in events] == [False, True, True]


def test_an_alarm_that_an_update_made_the_rules_forget_is_not_on_for_ever(tmp_path: Path) -> None:
    first = worker_at(tmp_path)
    (began,) = [event for event in play(first) if event.rule == "asystole"]
    first.save_all()
    first.outbox._db.execute("UPDATE snapshot SET state = x'00'")  # of another version
    first.outbox._db.execute("DELETE FROM journal")
    first.outbox.close()
    second = worker_at(tmp_path)
    second.recover(decode)
    last = said(second, "asystole")[-1]
    assert (last.phase, last.state, last.alert_id) == ("end", "latched", began.alert_id)
    assert "is not known" in last.text
    assert b"latched" in (retained(second, began.alert_id) or b"")


def test_the_alarms_of_somebody_who_is_watched_no_more_are_taken_away(tmp_path: Path) -> None:
    first = worker_at(tmp_path)
    (began,) = [event for event in play(first) if event.rule == "asystole"]
    first.outbox.close()
    second = worker_at(tmp_path, patients=("another",))
    second.recover(decode)
    assert said(second, "asystole")[-1].state == "inactive"
    assert retained(second, began.alert_id) == b""
    second.outbox.close()
    third = worker_at(tmp_path, patients=("another",))
    before = len(said(third, "asystole"))
    third.recover(decode)
    assert len(said(third, "asystole")) == before


def test_a_fault_that_makes_analysis_begin_anew_ends_what_was_on(tmp_path: Path) -> None:
    worker = worker_at(tmp_path)
    play(worker)
    broken = next(iter(worker.engine.patients.values()))
    broken.track.lead = 99  # type: ignore[union-attr]  # a defect that the next sample finds
    later = Chunk(STREAM, SIGNAL[-1].end_ns, SIGNAL[0].samples, (SIGNAL[-1].seq or 0) + 1)
    worker.outbox._db.execute("DELETE FROM journal")
    worker.outbox._db.execute("DELETE FROM snapshot")
    phases = [(event.rule, event.phase) for event in play(worker, (later,))]
    assert ("asystole", Phase.END) in phases


def test_a_command_that_was_refused_is_not_taken_for_done_when_it_comes_again(tmp_path: Path) -> None:
    worker = worker_at(tmp_path)
    for body in ('"alert_id": "no such"', '"alert_id": "another"'):
        asked = f'{{"id": "c1", "patient": "{STREAM.patient}", "by": "n", {body}}}'
        assert ask(worker, "ack", asked, SIGNAL[0].t0_ns) == (False, "is not known")
    for _ in range(2):
        drill = f'{{"id": "c2", "patient": "{STREAM.patient}", "by": "n", "rule": "stream_silent"}}'
        assert ask(worker, "drill", drill, SIGNAL[0].t0_ns) == (False, "'stream_silent' is no alarm about a person")


def test_a_replay_has_nobody_who_could_acknowledge(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    OPENED.append(outbox)
    worker = Worker(Engine([Person(STREAM.patient, (STREAM,))], Models()), outbox, Topics("ward"), wall=False)
    assert ask(worker, "ack", "{}", 0) == (False, "this is a replay")


def test_what_cannot_be_read_is_forgotten_and_costs_nothing_else() -> None:
    category, priority = urgency("pause")
    event = AlertEvent(alert_id("p", "pause", 1), "p", "pause", category, priority, Phase.START, 1, 1, "Pause")
    first = Attendance("ward", {"p": 0.0, "q": 0.0}, Manners())
    first.take([event], 1)
    kept = {key: blob for key, blob in first.unsaved.items() if blob is not None}
    for damaged in (
        b"",
        b"{}",
        b"[]",
        b'{"alarms": 3}',
        b"\xff",
        b'{"alarms":[{}],"pauses":[],"recent":[],"answered":[]}',
    ):
        second = Attendance("ward", {"p": 0.0, "q": 0.0}, Manners())
        assert second.load({**kept, "people:q": damaged, "summary:p": b"not ours"}, {event.alert_id}, (), 2) == []
        again = second.take([event], 3)
        assert [one.attended.state for one in again if one.attended] == [State.ACTIVE]
    ack = parse_command("ack", f'{{"patient": "p", "by": "n", "alert_id": "{event.alert_id}"}}'.encode())
    assert second.ask(ack, 4, lambda _subject, _rule: True).words == "acknowledged"


# -- time, of which most of a ward has nothing to say ------------------------------------------------------------------

PEOPLE, ON = ("anna", "ben"), ("asystole", "pause", "poor_signal")
DOINGS = st.lists(
    st.tuples(
        st.integers(0, 900),
        st.sampled_from(PEOPLE),
        st.sampled_from(ON),
        st.sampled_from(["start", "end", "ack", "pause", "resume", "nothing"]),
        st.booleans(),
    ),
    max_size=40,
)
"""So many seconds later, with or without data that is of now."""


@given(DOINGS)
def test_time_passes_as_if_everybody_were_looked_at_in_every_tick(
    doings: list[tuple[int, str, str, str, bool]],
) -> None:
    budget = 2.0
    attendance = Attendance("ward", dict.fromkeys(PEOPLE, budget), Manners())
    each = {name: Attention(budget=AlarmBudget(budget)) for name in PEOPLE}
    now_ns = began_ns = 1_000_000_000_000
    for later_s, name, rule, doing, fresh in doings:
        now_ns += later_s * 1_000_000_000
        category, priority = urgency(rule)
        key = alert_id(name, rule, began_ns)
        said: list[AlertEvent] = []
        expected: list[AlertEvent] = []
        match doing:
            case "start" | "end":
                event = AlertEvent(key, name, rule, category, priority, Phase(doing), began_ns, now_ns, rule)
                said += attendance.take([event], now_ns)
                expected += each[name].take(event, now_ns)
            case "ack":
                said += attendance.ask(AckCommand(patient=name, by="eva", alert_id=key), now_ns, _of(fresh)).events
                expected += each[name].acknowledge(key, "eva", now_ns).events
            case "pause":
                command = PauseCommand(patient=name, by="eva", rule=rule, minutes=10)
                said += attendance.ask(command, now_ns, _of(fresh)).events
                expected += each[name].pause(rule, 600.0, "eva", now_ns).events
            case "resume":
                command = PauseCommand(patient=name, by="eva", rule=rule, minutes=0)
                said += attendance.ask(command, now_ns, _of(fresh)).events
                expected += each[name].resume(rule, "eva", now_ns, lambda _, fresh=fresh: fresh).events
        said += attendance.advance(now_ns, _of(fresh))
        for attention in each.values():
            expected += attention.advance(now_ns, lambda _, fresh=fresh: fresh)
        assert [canonical_json(one) for one in said] == [canonical_json(one) for one in expected]


def _of(fresh: bool) -> Callable[[str, str], bool]:
    return lambda _subject, _rule: fresh
