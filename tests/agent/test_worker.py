"""The worker keeps its promise: on disk before anyone is told, and one patient's trouble stays that patient's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from agent.alarms.alert import AlertEvent, Phase
from agent.engine import Engine
from agent.inference import Models, PackModel
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.standing import StandingAlarms
from agent.uplink.messages import parse_event
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics, input_topic
from agent.worker import Worker
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk
from models.pack import load, shipped

SCRIPT = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 6.0))
SIGNAL = tuple(SimulatedPatient(5, script=SCRIPT).chunks(chunk_s=1.0))
LOUD_MV = 50.0
OPENED: list[Outbox] = []


class Brittle:
    """A runtime with a bug: it raises on a beat far larger than any heart's."""

    name = "brittle"

    def run(self, inputs: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        if np.abs(inputs["signal"]).max() > 4:
            raise ZeroDivisionError
        return np.tile(np.array([[9.0, 0.0, 0.0, 0.0]], dtype=np.float32), (len(inputs["signal"]), 1))


def brittle() -> Models:
    return Models(beat=PackModel(load(shipped("beat")), Brittle()))


def of(patient: str, chunk: Chunk, gain: float = 1.0) -> Chunk:
    stream = replace(chunk.stream, patient=patient, device=patient)
    return replace(chunk, stream=stream, samples=(chunk.samples * np.float32(gain)).astype(np.float32))


def delivery(chunk: Chunk) -> Delivery:
    topic = input_topic(chunk.stream.device, chunk.stream.channel)
    return Delivery((chunk,), topic, "application/cbor", cbor_chunk.encode(chunk), 0, lambda: None)


def worker_at(
    path: Path, patients: Sequence[str], models: Models | None = None, max_pages: int | None = None
) -> Worker:
    persons = [Person(name, (of(name, SIGNAL[0]).stream,)) for name in patients]
    path.mkdir(exist_ok=True)
    outbox = Outbox(path / "outbox.sqlite", max_pages=max_pages)
    OPENED.append(outbox)
    standing = StandingAlarms(path / "standing.json")
    return Worker(Engine(persons, models or Models()), outbox, Topics("ward"), wall=False, standing=standing)


@pytest.fixture(autouse=True)
def _outboxes_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def decode(topic: str, _content_type: str | None, payload: bytes) -> tuple[Chunk, ...]:
    device = topic.split("/")[3]
    return tuple(cbor_chunk.decode(payload, of(device, SIGNAL[0]).stream))


def play(worker: Worker, chunks: Sequence[Chunk]) -> list[AlertEvent]:
    return [event for chunk in chunks for event in worker.tick([delivery(chunk)], None)]


def raised(events: Sequence[AlertEvent]) -> list[tuple[str, str]]:
    return [(event.alert_id, event.phase.value) for event in events]


@pytest.mark.parametrize("stop", [1, 7, 13, 16, 20, 25])
def test_a_worker_that_takes_over_after_a_crash_decides_as_if_there_had_been_none(tmp_path: Path, stop: int) -> None:
    through = raised(play(worker_at(tmp_path / "a", ["p1"]), [of("p1", chunk) for chunk in SIGNAL]))
    first = worker_at(tmp_path / "b", ["p1"])
    before = raised(play(first, [of("p1", chunk) for chunk in SIGNAL[:stop]]))
    first.outbox.close()  # nothing else: no snapshot, no goodbye
    second = worker_at(tmp_path / "b", ["p1"])
    assert "inputs again" in second.recover(decode)
    again = [of("p1", chunk) for chunk in SIGNAL[max(0, stop - 3) :]]  # the broker sends some of them twice
    assert before + raised(play(second, again)) == through


def test_what_a_tick_decided_is_in_the_outbox_when_it_returns(tmp_path: Path) -> None:
    worker = worker_at(tmp_path, ["p1"])
    events = play(worker, [of("p1", chunk) for chunk in SIGNAL])
    rows = [row.message for row in worker.outbox.pending(limit=100)]
    said = {parse_event(row.payload).data.alert_id for row in rows if "/event/" in row.topic}
    assert said == {event.alert_id for event in events}
    assert events


def test_a_fault_over_one_patient_is_said_and_costs_the_others_nothing(tmp_path: Path) -> None:
    names = ["calm", "loud"]
    alone = raised(play(worker_at(tmp_path / "a", ["calm"], brittle()), [of("calm", chunk) for chunk in SIGNAL]))
    worker = worker_at(tmp_path / "b", names, brittle())
    worker.recover(decode)
    events: list[AlertEvent] = []
    for k, chunk in enumerate(SIGNAL):
        both = [of("calm", chunk), of("loud", chunk, gain=LOUD_MV if 5 <= k < 8 else 1.0)]
        events += worker.tick([delivery(one) for one in both], None)
    assert raised([event for event in events if event.patient == "calm"]) == alone
    assert "analysis_fault" in {event.rule for event in events if event.patient == "loud"}
    assert "asystole" in {event.rule for event in events if event.patient == "loud"}


def test_with_a_full_disk_watching_goes_on_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    worker = worker_at(tmp_path, ["p1"], max_pages=24)
    events = play(worker, [of("p1", chunk) for chunk in SIGNAL])
    assert worker.disk_full
    kept = {message.alert_id for message in worker.unsaved} | {
        row.message.alert_id for row in worker.outbox.pending(limit=1000)
    }
    assert kept >= {event.alert_id for event in events if event.phase is Phase.START}
    assert any("outbox_full" in message.payload.decode() for message in worker.unsaved)
    worker.outbox._db.execute("PRAGMA max_page_count = 100000")  # the disk has room again
    worker.outbox.delivered([])  # as the publisher says of what the broker has taken
    later = replace(SIGNAL[-1], t0_ns=SIGNAL[-1].end_ns, seq=(SIGNAL[-1].seq or 0) + 1)
    worker.tick([delivery(of("p1", later))], None)
    assert not worker.disk_full
    assert not worker.unsaved
    saved = [
        parse_event(r.message.payload).data for r in worker.outbox.pending(limit=1000) if "/event/" in r.message.topic
    ]
    assert {event.alert_id for event in events} <= {data.alert_id for data in saved}
    assert [data.phase for data in saved if data.rule == "outbox_full"] == [Phase.START, Phase.END]


def test_a_missing_model_is_on_disk_as_an_alarm_that_the_next_start_can_end(tmp_path: Path) -> None:
    def heard(worker: Worker) -> list[tuple[str, str, str, bool]]:
        rows = [row.message for row in worker.outbox.pending(limit=100)]
        events = [parse_event(row.payload).data for row in rows if "/event/" in row.topic]
        return [(data.rule, data.phase.value, data.patient, data.category == "technical") for data in events]

    first = worker_at(tmp_path, ["p1"])
    first.stand({("ward", "model_missing:beat"): "Model missing: it is gone"}, 5)
    assert heard(first) == [("model_missing:beat", "start", "ward", True)]
    first.outbox.close()
    second = worker_at(tmp_path, ["p1"])
    second.recover(decode)
    second.stand({}, 6)
    assert heard(second)[1:] == [("model_missing:beat", "end", "ward", True)]
    retained = {
        row.message.topic: row.message.payload
        for row in second.outbox.pending(limit=100)
        if "/alarm/" in row.message.topic
    }
    assert list(retained.values()) == [b""], "the retained alarm is taken away"
