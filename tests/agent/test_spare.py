"""What is left undone is in order, costs no alarm, changes nothing for others, and is the same after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent
from agent.alarms.observation import Observation, Quality
from agent.engine import Engine
from agent.inference import Models, shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.spare import AT_ONCE, ORDER, SLOWER, Economy, Spare, Spared
from agent.uplink.messages import canonical_json
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics, input_topic
from agent.worker import Worker
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk

SCRIPT = (
    Episode(Rhythm.SINUS, 12.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 6.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.ASYSTOLE, 8.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 6.0),
    Episode(Rhythm.SINUS, 8.0),
)
SIGNAL = tuple(SimulatedPatient(7, script=SCRIPT).chunks(chunk_s=1.0))
EVERYTHING = frozenset(ORDER)


@pytest.fixture(scope="module")
def models() -> Models:
    return shipped_models()


def of(patient: str, chunk: Chunk) -> Chunk:
    return replace(chunk, stream=replace(chunk.stream, patient=patient, device=patient))


def engine_of(patients: Sequence[str], models: Models) -> Engine:
    return Engine([Person(name, (of(name, SIGNAL[0]).stream,)) for name in patients], models)


def played(engine: Engine, patients: Sequence[str], *, undone: dict[int, str] | None = None) -> list[AlertEvent]:
    """Events over the signal; before the second k everything is left undone of the patient `undone[k]`."""
    events: list[AlertEvent] = []
    for second, chunk in enumerate(SIGNAL):
        if undone and second in undone:
            assert engine.patients[undone[second]].leave_undone(EVERYTHING)
        events += engine.step([of(patient, chunk) for patient in patients])
    return events


def unexplained(event: AlertEvent) -> AlertEvent:
    evidence = event.evidence
    return event if evidence is None else replace(event, evidence=replace(evidence, attributions=()))


# -- who asks for how much ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["power", "load", "nurse"]), st.sampled_from(Spare)), max_size=20))
def test_the_most_that_anybody_asks_for_holds(asked: list[tuple[str, Spare]]) -> None:
    economy, last = Economy(), dict[str, Spare]()
    for who, much in asked:
        before = economy.undone
        last[who] = much
        assert economy.ask(who, much) == (economy.undone != before)
        assert economy.words == list(ORDER[: max(last.values())])
        assert economy.pace == (SLOWER if economy.undone else 1.0)


def test_it_is_put_to_some_patients_at_a_time_and_to_each_once(models: Models) -> None:
    names = [f"p{k}" for k in range(AT_ONCE + 3)]
    economy, engine = Economy(), engine_of(names, models)
    spared = Spared(economy, engine.patients)
    assert spared.take() == []
    economy.ask("power", Spare.EXPLANATIONS)
    turns = [spared.take(), spared.take(), spared.take()]
    assert [len(turn) for turn in turns] == [AT_ONCE, 3, 0]
    assert sorted(turns[0] + turns[1]) == sorted(names)
    engine.reset("p0")
    spared.again()
    assert spared.take() == ["p0"]
    economy.ask("power", Spare.NOTHING)
    while spared.take():
        pass
    assert not any(patient.undone for patient in engine.patients.values())


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_no_alarm_is_lost_or_moved_by_what_is_left_undone(models: Models) -> None:
    whole = played(engine_of(["a"], models), ["a"])
    less = played(engine_of(["a"], models), ["a"], undone={0: "a"})
    assert {event.rule for event in whole} >= {"ventricular_tachycardia", "asystole"}
    assert [canonical_json(event) for event in less] == [canonical_json(unexplained(event)) for event in whole]
    assert any(event.evidence and event.evidence.attributions for event in whole)


def test_what_is_left_undone_of_one_changes_nothing_for_another_to_the_bit(models: Models) -> None:
    alone = [canonical_json(event) for event in played(engine_of(["b"], models), ["b"])]
    together = played(engine_of(["a", "b"], models), ["a", "b"], undone={13: "a"})
    assert [canonical_json(event) for event in together if event.patient == "b"] == alone


def test_a_second_opinion_that_was_left_out_begins_anew(models: Models) -> None:
    agreement: dict[int, float | None] = {}

    def watch(_: str, seen: Observation) -> None:
        if isinstance(seen, Quality):
            agreement[second] = seen.agreement

    engine = Engine([Person("a", (of("a", SIGNAL[0]).stream,))], models, watch=watch)
    for second, chunk in enumerate(SIGNAL[:24]):
        if second in (8, 12):
            engine.patients["a"].leave_undone(EVERYTHING if second == 8 else frozenset())
        engine.step([of("a", chunk)])
    assert agreement[7] == 1.0
    assert {agreement[second] for second in range(8, 12)} == {None}
    assert agreement[23] is not None


# -- after a crash -----------------------------------------------------------------------------------------------------


def delivery(chunk: Chunk) -> Delivery:
    topic = input_topic(chunk.stream.device, chunk.stream.channel)
    return Delivery((chunk,), topic, "application/cbor", cbor_chunk.encode(chunk), 0, lambda: None)


def decode(topic: str, _content_type: str | None, payload: bytes) -> tuple[Chunk, ...]:
    return tuple(cbor_chunk.decode(payload, of(topic.split("/")[3], SIGNAL[0]).stream))


@pytest.mark.parametrize("crash_at", [10, 15, 41, 45])
def test_what_was_left_undone_is_left_undone_when_it_is_stepped_over_again(
    tmp_path: Path, models: Models, crash_at: int
) -> None:
    expected: list[bytes] = []
    for crashes in (False, True):
        economy, path = Economy(), tmp_path / f"{crashes}.sqlite"
        outbox = Outbox(path)
        worker = Worker(engine_of(["a"], models), outbox, Topics("ward"), wall=False, economy=economy)
        worker.recover(decode)
        said: list[bytes] = []
        for second, chunk in enumerate(SIGNAL):
            if second in (9, 40):
                economy.ask("power", Spare.SECOND_OPINIONS if second == 9 else Spare.NOTHING)
            if crashes and second == crash_at:
                outbox.close()
                outbox = Outbox(path)
                worker = Worker(engine_of(["a"], models), outbox, Topics("ward"), wall=False, economy=economy)
                before = economy.undone
                worker.recover(decode)
                assert worker.engine.patients["a"].undone == before
            said += [canonical_json(event) for event in worker.tick([delivery(of("a", chunk))], None)]
        outbox.close()
        if crashes:
            assert said == expected
        expected = said
    assert expected
