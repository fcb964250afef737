"""The engine decides the same, to the byte, however the signal is cut and whoever else is in the tick."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Phase
from agent.alarms.observation import Beat, BeatStatus
from agent.engine import Engine
from agent.inference import Answer, Models, PackModel, ruled_out, shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.uplink.messages import canonical_json
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

SCRIPT = (
    Episode(Rhythm.SINUS, 12.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 6.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.ASYSTOLE, 8.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.LEAD_OFF, 6.0),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.SILENCE, 9.0),
    Episode(Rhythm.SINUS, 8.0),
)
PATIENT = SimulatedPatient(7, script=SCRIPT)


@pytest.fixture(scope="module")
def models() -> Models:
    return shipped_models()


@pytest.fixture(scope="module")
def recorded() -> list[Chunk]:
    """The script once, in chunks of 1 s."""
    return list(PATIENT.chunks(chunk_s=1.0))


def engine_for(streams: Sequence[Stream], models: Models) -> Engine:
    return Engine([Person(stream.patient, (stream,)) for stream in streams], models)


def as_bytes(events: Iterable[AlertEvent]) -> list[bytes]:
    return [canonical_json(event) for event in events]


def alone(chunks: Sequence[Chunk], models: Models, ticks: int = 1) -> list[bytes]:
    """Events of one patient whose chunks come `ticks` at a time."""
    engine = engine_for([chunks[0].stream], models)
    return as_bytes(e for k in range(0, len(chunks), ticks) for e in engine.step(chunks[k : k + ticks]))


def renamed(chunks: Iterable[Chunk], patient: str) -> list[Chunk]:
    return [replace(chunk, stream=replace(chunk.stream, patient=patient, device=patient)) for chunk in chunks]


def test_what_the_script_holds_is_raised_and_ended(recorded: list[Chunk], models: Models) -> None:
    engine = engine_for([recorded[0].stream], models)
    events = [event for chunk in recorded for event in engine.step([chunk])]
    raised = {event.rule.partition(":")[0] for event in events if event.phase is Phase.START}
    assert {"ventricular_tachycardia", "asystole", "lead_off", "stream_silent"} <= raised
    assert {event.alert_id for event in events if event.phase is Phase.START} >= {
        event.alert_id for event in events if event.phase is Phase.END
    }


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=400), st.integers(1, 5))
def test_any_chunking_and_any_ticks_give_the_same_bytes(
    recorded: list[Chunk], models: Models, sizes: list[int], ticks: int
) -> None:
    assert alone(list(PATIENT.chunks(sizes=sizes)), models, ticks) == alone(recorded, models)


def test_one_sample_at_a_time_gives_the_same_bytes(recorded: list[Chunk], models: Models) -> None:
    first = [chunk for chunk in recorded if chunk.t0_ns < recorded[0].t0_ns + 20 * NS_PER_S]
    samples = list(itertools.islice(PATIENT.chunks(sizes=itertools.repeat(1)), 20 * 250))
    assert alone(samples, models) == alone(first, models)


def test_company_changes_nothing(recorded: list[Chunk], models: Models) -> None:
    rng = np.random.default_rng(3)
    others = [
        list(SimulatedPatient(seed, rate, SCRIPT).chunks(chunk_s=1.0))
        for seed, rate in [(11, 250.0), (12, 360.0), (13, 128.0), (14, 250.0)]
    ]
    everybody = [renamed(chunks, f"p{k}") for k, chunks in enumerate([recorded, *others])]
    together = engine_for([chunks[0].stream for chunks in everybody], models)
    events: list[AlertEvent] = []
    for tick in itertools.zip_longest(*everybody):
        present = [chunk for chunk in tick if chunk is not None]
        rng.shuffle(present)  # type: ignore[arg-type]
        events += together.step(present)
    for chunks in everybody:
        patient = chunks[0].stream.patient
        assert as_bytes(e for e in events if e.patient == patient) == alone(chunks, models)


def test_a_snapshot_at_any_instant_goes_on_to_the_same_bytes(recorded: list[Chunk], models: Models) -> None:
    stream = recorded[0].stream
    engine = engine_for([stream], models)
    events: list[AlertEvent] = []
    for chunk in recorded:
        events += engine.step([chunk])
        blob = engine.snapshot(stream.patient)
        engine = engine_for([stream], models)
        assert engine.restore(stream.patient, blob)
    assert as_bytes(events) == alone(recorded, models)


def test_a_ventricular_run_shows_what_of_each_beat_spoke_for_it(recorded: list[Chunk], models: Models) -> None:
    engine = engine_for([recorded[0].stream], models)
    events = [event for chunk in recorded for event in engine.step([chunk])]
    run = next(event for event in events if event.rule == "ventricular_tachycardia" and event.phase is Phase.START)
    assert run.evidence is not None
    made = run.evidence.attributions
    assert len(made) >= 5
    assert not run.evidence.asked
    assert {one.label for one in made} == {"V"}
    r_ns = {beat.t_ns for beat in run.evidence.beats if beat.label == "V"}
    assert {one.t0_ns + NS_PER_S // 2 for one in made} <= r_ns
    assert min(max(one.falls) for one in made) > 0.1


def test_minutes_in_one_chunk_are_judged_like_minutes_in_seconds(models: Models) -> None:
    patient = SimulatedPatient(3, script=(Episode(Rhythm.ATRIAL_FIBRILLATION, 150.0),))
    seconds = alone(list(patient.chunks(chunk_s=1.0)), models)
    assert any(b"atrial_fibrillation" in event for event in seconds)
    assert alone(list(patient.chunks(chunk_s=150.0)), models) == seconds


def test_what_is_ruled_out_leaves_its_share_to_the_others() -> None:
    said = ruled_out(Answer("S", 0.5, (0.3, 0.5, 0.1, 0.1), unsure=False), ("N", "S", "V", "Q"), "S")
    assert (said.label, said.unsure) == ("N", True)
    assert said.probabilities == pytest.approx((0.6, 0.0, 0.2, 0.2))


class AlwaysS:
    """A beat network to which every beat is a premature one of the atria."""

    name = "always S"

    def run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile(np.array([[1.0, 5.0, 0.0, 0.0]], dtype=np.float32), (len(inputs["signal"]), 1))


def test_in_atrial_fibrillation_no_beat_is_called_premature(models: Models) -> None:
    patient = SimulatedPatient(3, script=(Episode(Rhythm.SINUS, 30.0), Episode(Rhythm.ATRIAL_FIBRILLATION, 60.0)))
    stream, seen = patient.stream(), []
    assert models.beat is not None
    always_s = PackModel(models.beat.pack, AlwaysS())
    engine = Engine(
        [Person(stream.patient, (stream,))],
        Models(beat=always_s, rhythm=models.rhythm),
        watch=lambda _, observation: seen.append(observation),
    )
    chunks = list(patient.chunks())
    for chunk in chunks:
        engine.step([chunk])
    beats = [one for one in seen if isinstance(one, Beat) and one.status is BeatStatus.CONFIRMED]
    began_ns = chunks[0].t0_ns + 30 * NS_PER_S
    before = {beat.label for beat in beats if beat.r_ns < began_ns and beat.label}
    after = {(beat.label, beat.unsure) for beat in beats if beat.r_ns > began_ns + 40 * NS_PER_S}
    assert before == {"S"}
    assert after == {("N", True)}


def test_a_snapshot_is_small(recorded: list[Chunk], models: Models) -> None:
    engine = engine_for([recorded[0].stream], models)
    for chunk in recorded:
        engine.step([chunk])
    assert len(engine.snapshot(recorded[0].stream.patient)) < 100_000


@pytest.mark.parametrize("blob", [b"", b"not a pickle", b"\x80\x05K\x01."], ids=["empty", "garbage", "not ours"])
def test_a_snapshot_that_is_not_ours_is_refused_and_nothing_changes(recorded: list[Chunk], blob: bytes) -> None:
    engine = engine_for([recorded[0].stream], Models())
    before = engine.patients[recorded[0].stream.patient]
    assert not engine.restore(recorded[0].stream.patient, blob)
    assert engine.patients[recorded[0].stream.patient] is before


def test_the_strip_is_the_recording_sample_for_sample(recorded: list[Chunk], models: Models) -> None:
    stream = recorded[0].stream
    engine = engine_for([stream], models)
    samples = np.concatenate([chunk.samples for chunk in recorded])
    times = np.concatenate(
        [[chunk.t0_ns + stream.duration_ns(i) for i in range(len(chunk.samples))] for chunk in recorded]
    )
    strips = [
        event.evidence
        for chunk in recorded
        for event in engine.step([chunk])
        if event.evidence and len(event.evidence.strip)
    ]
    assert strips
    for evidence in strips:
        first = int(np.searchsorted(times, evidence.strip_t0_ns))
        assert times[first] == evidence.strip_t0_ns
        assert np.array_equal(evidence.strip, samples[first : first + len(evidence.strip)])


def test_without_a_model_rate_and_asystole_still_stand(recorded: list[Chunk]) -> None:
    engine = engine_for([recorded[0].stream], Models())
    raised = {event.rule for chunk in recorded for event in engine.step([chunk])}
    assert "asystole" in raised
    assert "ventricular_tachycardia" not in raised


def test_a_heart_rate_stands_as_long_as_beats_come(recorded: list[Chunk]) -> None:
    engine = engine_for([recorded[0].stream], Models())
    patient = engine.patients[recorded[0].stream.patient]
    for chunk in recorded[:4]:
        engine.step([chunk])
    for chunk in recorded[4:11]:
        engine.step([chunk])
        assert patient.heart_rate_bpm == pytest.approx(72, abs=8)


# -- live: the clock counts -------------------------------------------------------------------------------------------


def test_late_data_is_reported_as_late_and_never_as_now(recorded: list[Chunk], models: Models) -> None:
    engine = engine_for([recorded[0].stream], models)
    an_hour_later = recorded[-1].end_ns + 3600 * NS_PER_S
    events = [event for chunk in recorded for event in engine.step([chunk], an_hour_later)]
    assert events
    signal_events = [
        event for event in events if not event.rule.startswith("stream_silent") or event.at_ns < recorded[-1].end_ns
    ]
    assert all(event.late for event in signal_events)


def test_silence_is_noticed_by_the_clock_and_over_when_data_comes(recorded: list[Chunk]) -> None:
    stream = recorded[0].stream
    engine = engine_for([stream], Models())
    engine.step(recorded[:5], recorded[4].end_ns)
    end_ns = recorded[4].end_ns
    assert engine.step([], end_ns + 5 * NS_PER_S) == []  # a device that sends whole seconds is given one second more
    (silent,) = engine.step([], end_ns + 6 * NS_PER_S)
    assert (silent.phase, silent.onset_ns) == (Phase.START, end_ns)
    assert engine.step([], end_ns + 60 * NS_PER_S) == []
    later = replace(recorded[5], t0_ns=end_ns + 70 * NS_PER_S)
    events = engine.step([later], later.end_ns)
    assert [(e.rule, e.phase) for e in events] == [(silent.rule, Phase.END)]


def test_data_from_yesterday_does_not_end_a_silence_of_now(recorded: list[Chunk]) -> None:
    engine = engine_for([recorded[0].stream], Models())
    now_ns = recorded[0].t0_ns + 86_400 * NS_PER_S
    engine.step([], now_ns)
    (silent,) = engine.step([], now_ns + 6 * NS_PER_S)
    assert not silent.late
    for k in range(10):
        assert engine.step([recorded[k]], now_ns + (7 + k) * NS_PER_S) == []
    fresh = replace(recorded[10], t0_ns=now_ns + 20 * NS_PER_S, seq=100)
    assert [(e.rule, e.phase) for e in engine.step([fresh], fresh.end_ns)] == [(silent.rule, Phase.END)]


def test_a_sensor_whose_clock_is_days_behind_is_silent_as_of_now(recorded: list[Chunk]) -> None:
    engine = engine_for([recorded[0].stream], Models())
    now_ns = recorded[0].t0_ns + 86_400 * NS_PER_S
    engine.step([recorded[0]], now_ns)
    (silent,) = engine.step([], now_ns + 7 * NS_PER_S)
    assert silent.rule.startswith("stream_silent")
    assert not silent.late


def test_an_alarm_that_began_late_and_is_still_on_is_said_again_as_of_now(recorded: list[Chunk]) -> None:
    stream = recorded[0].stream
    engine = engine_for([stream], Models())
    quiet = [chunk for chunk in recorded if chunk.t0_ns < recorded[0].t0_ns + 33 * NS_PER_S]  # ends within the asystole
    events = engine.step(quiet, quiet[-1].end_ns + 300 * NS_PER_S)
    assert [e.late for e in events if e.rule == "asystole"] == [True]
    level = quiet[-1].samples[-1, 0]
    flat = np.random.default_rng(0).normal(level, 0.005, (250, 1)).astype(np.float32)
    fresh = replace(quiet[-1], t0_ns=quiet[-1].end_ns, samples=flat, seq=(quiet[-1].seq or 0) + 1)
    said = [e for e in engine.step([fresh], fresh.end_ns) if e.rule == "asystole"]
    assert [(e.phase, e.late) for e in said] == [(Phase.CONTINUE, False)]


def test_a_clock_set_back_with_a_restart_is_said_and_silence_is_judged_by_the_new_time() -> None:
    signal = list(SimulatedPatient(3, script=(Episode(Rhythm.SINUS, 30.0),)).chunks(chunk_s=1.0))
    hour_ns = 3600 * NS_PER_S
    back = [replace(chunk, t0_ns=chunk.t0_ns - hour_ns, boot_id=1) for chunk in signal[20:]]
    engine = Engine([Person(signal[0].stream.patient, (signal[0].stream,))], Models())
    events = [event for chunk in signal[:20] for event in engine.step([chunk], chunk.end_ns)]
    events += [event for chunk in back for event in engine.step([chunk], chunk.end_ns)]
    assert [event.rule.partition(":")[0] for event in events] == ["clock_step"]
    assert "set by -3600.0 s" in events[0].text
    events = engine.step([], back[-1].end_ns + 6 * NS_PER_S)
    assert "stream_silent" in {event.rule.partition(":")[0] for event in events}
