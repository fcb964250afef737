"""Glucose through the engine: the same in any ticks and company, nothing late raised as now, and it explains itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Phase
from agent.alarms.observation import Observation
from agent.engine import Engine
from agent.inference import Models, shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.patient import Person
from agent.signal.outlook import Glucose, Outlook, PastReading
from agent.uplink.messages import canonical_json, parse_event
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

COURSE = ((0.0, 140.0), (3.0, 150.0), (4.5, 62.0), (5.2, 50.0), (6.5, 130.0), (8.0, 290.0), (10.0, 150.0))
"""(hour, mg/dL): a low that is urgent at its bottom, then a high."""
MIN_NS = 60 * NS_PER_S


@pytest.fixture(scope="module")
def models() -> Models:
    return shipped_models()


@pytest.fixture(scope="module")
def course() -> list[Chunk]:
    return list(cgm_chunks(cgm_readings(3, COURSE)))


def engine_for(chunks: Sequence[Chunk], models: Models) -> Engine:
    streams = {chunk.stream.key: chunk.stream for chunk in chunks}
    return Engine([Person("demo", tuple(streams.values()))], models)


def as_bytes(events: Iterable[AlertEvent]) -> list[bytes]:
    return [canonical_json(event) for event in events]


def alone(chunks: Sequence[Chunk], models: Models) -> list[AlertEvent]:
    engine = engine_for(chunks, models)
    return [event for chunk in chunks for event in engine.step([chunk])]


def live(chunks: Sequence[Chunk], models: Models, delay_ns: Sequence[int]) -> list[AlertEvent]:
    """Each reading steps the engine so long after it was measured."""
    engine = engine_for(chunks, models)
    came = sorted(
        zip([c.t0_ns + late for c, late in zip(chunks, delay_ns, strict=True)], chunks, strict=True), key=lambda x: x[0]
    )
    return [event for at_ns, chunk in came for event in engine.step([chunk], at_ns)]


def started(events: Iterable[AlertEvent], *, late: bool = False) -> list[str]:
    return [event.rule for event in events if event.phase is Phase.START and event.late is late]


def test_a_low_is_warned_of_before_it_comes(course: list[Chunk], models: Models) -> None:
    events = alone(course, models)
    by_rule = {event.rule: event for event in reversed(events) if event.phase is Phase.START}
    assert {"predicted_low", "low", "urgent_low", "high"} <= by_rule.keys()
    assert by_rule["predicted_low"].at_ns < by_rule["low"].at_ns < by_rule["urgent_low"].at_ns
    assert by_rule["low"].at_ns - by_rule["predicted_low"].at_ns >= 10 * MIN_NS
    assert {event.rule for event in events if event.phase is Phase.END} >= {"low", "urgent_low", "high"}


def test_an_alert_shows_the_readings_the_forecast_and_what_spoke_for_it(course: list[Chunk], models: Models) -> None:
    events = alone(course, models)
    warned = next(event for event in events if event.rule == "predicted_low" and event.phase is Phase.START)
    message = parse_event(canonical_json(warned))
    evidence = message.data.evidence
    assert evidence is not None
    past = [chunk for chunk in course if warned.at_ns - 3 * 3600 * NS_PER_S <= chunk.t0_ns <= warned.at_ns]
    assert evidence.strip.array()[:, 0].tolist() == [float(chunk.samples[0, 0]) for chunk in past]
    assert evidence.strip.times is not None
    assert len(evidence.strip.times) == len(past)
    assert evidence.strip.rate_hz == 0
    assert evidence.expected is not None
    assert [one.minutes for one in evidence.expected] == [30, 60]
    assert all(one.low <= one.value <= one.high for one in evidence.expected)
    assert [pack.id for pack in evidence.packs] == ["glucose"]
    assert evidence.attributions is not None
    assert evidence.attributions[0].label == "lt70_30"
    assert evidence.missing_s == 0.0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_any_ticks_give_the_same_bytes(sizes: list[int]) -> None:
    chunks = list(cgm_chunks(cgm_readings(3, COURSE)))
    models = shipped_models()
    engine = engine_for(chunks, models)
    cut = itertools.chain(sizes, itertools.repeat(50))
    at, events = 0, []
    while at < len(chunks):
        step = next(cut)
        events += engine.step(chunks[at : at + step])
        at += step
    assert as_bytes(events) == as_bytes(alone(chunks, models))


def test_company_changes_nothing(course: list[Chunk], models: Models) -> None:
    everybody = {}
    for k in range(6):
        own = cgm_chunks(cgm_readings(k, COURSE), f"p{k}") if k else (with_patient(chunk, "p0") for chunk in course)
        everybody[f"p{k}"] = list(own)
    together = Engine([Person(name, (chunks[0].stream,)) for name, chunks in everybody.items()], models)
    rng, events = np.random.default_rng(5), list[AlertEvent]()
    for tick in zip(*everybody.values(), strict=True):
        present = list(tick)
        rng.shuffle(present)  # type: ignore[arg-type]
        events += together.step(present)
    for name, chunks in everybody.items():
        engine = Engine([Person(name, (chunks[0].stream,))], models)
        own = [event for chunk in chunks for event in engine.step([chunk])]
        assert as_bytes(e for e in events if e.patient == name) == as_bytes(own)


def with_patient(chunk: Chunk, name: str) -> Chunk:
    return replace(chunk, stream=replace(chunk.stream, patient=name))


def test_a_snapshot_at_any_reading_goes_on_to_the_same_bytes(course: list[Chunk], models: Models) -> None:
    engine, events = engine_for(course, models), list[AlertEvent]()
    for chunk in course:
        events += engine.step([chunk])
        blob = engine.snapshot("demo")
        engine = engine_for(course, models)
        assert engine.restore("demo", blob)
    assert as_bytes(events) == as_bytes(alone(course, models))


def test_three_hours_filled_in_raise_nothing_of_now(course: list[Chunk], models: Models) -> None:
    """A phone that was out of reach sends the whole low at once, hours after it was over."""
    behind = course[: 12 * 6]
    engine = engine_for(course, models)
    now_ns = behind[-1].t0_ns + 4 * 3600 * NS_PER_S
    events = engine.step(behind, now_ns)
    assert started(events) == []
    assert {"low", "urgent_low"} <= set(started(events, late=True))


def test_what_is_missing_is_filled_in_without_a_word(course: list[Chunk], models: Models) -> None:
    """Only readings before the newest come late: they are taken into the history, and no rule hears of them."""
    engine = engine_for(course, models)
    first, missing, rest = course[:30], course[30:66], course[66:70]
    heard: list[Observation] = []
    engine = Engine([Person("demo", (course[0].stream,))], models, watch=lambda _patient, seen: heard.append(seen))
    for chunk in [*first, *rest]:
        engine.step([chunk], chunk.t0_ns)
    events = engine.step(list(reversed(missing)), rest[-1].t0_ns + MIN_NS)
    assert [event for event in events if event.patient == "demo"] == []
    assert sum(isinstance(seen, PastReading) for seen in heard) == len(missing)
    track = engine.patients["demo"].glucose_state.track
    times_ns, _ = track.history(course[0].t0_ns)
    assert times_ns.tolist() == [chunk.t0_ns for chunk in course[:70]]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_however_late_and_mixed_nothing_late_is_of_now(data: st.DataObject) -> None:
    chunks = list(cgm_chunks(cgm_readings(3, COURSE)))
    delays = [data.draw(st.sampled_from((0, 20, 120, 3600, 4 * 3600))) * NS_PER_S for _ in chunks]
    on: set[str] = set()
    for event in live(chunks, shipped_models(), delays):
        if event.category == "technical" or event.late:
            continue
        if event.phase is Phase.START:
            on.add(event.alert_id)
        elif event.phase is Phase.END:
            on.discard(event.alert_id)
    fresh = {c.t0_ns for c, late in zip(chunks, delays, strict=True) if late <= 120 * NS_PER_S}
    for event in live(chunks, shipped_models(), delays):
        if event.phase is Phase.START and not event.late and event.category != "technical":
            assert event.at_ns in fresh


def test_a_reading_from_the_future_is_refused_and_stops_nothing(course: list[Chunk], models: Models) -> None:
    ahead = replace(course[5], t0_ns=course[5].t0_ns + 86_400 * NS_PER_S, seq=None)
    engine, events = engine_for(course, models), list[AlertEvent]()
    for k, chunk in enumerate(course):
        events += engine.step([chunk, ahead] if k == 5 else [chunk], chunk.t0_ns + NS_PER_S)
    assert engine.patients["demo"].glucose_state.track.counts["from the future"] == 1
    assert {"predicted_low", "low", "urgent_low"} <= set(started(events))


def test_without_a_model_lows_still_sound(course: list[Chunk]) -> None:
    events = alone(course, Models())
    assert {"low", "urgent_low", "high"} <= set(started(events))
    assert not {"predicted_low", "urgent_low_soon"} & set(started(events))


def test_mmol_declared_as_mg_is_questioned_and_raises_no_low(course: list[Chunk], models: Models) -> None:
    wrong = [replace(chunk, samples=(chunk.samples / np.float32(18.0156)).round(1)) for chunk in course]
    events = alone(wrong, models)
    assert [rule for rule in started(events) if not rule.startswith("cgm_doubt")] == []
    assert any(rule.startswith("cgm_doubt") for rule in started(events))


def test_the_rhythm_of_the_heart_is_judged_by_its_own_time(models: Models) -> None:
    """A reading of now must not make the ECG's silence since its last chunk an asystole."""
    heart = SimulatedPatient(2, script=(Episode(Rhythm.SINUS, 40.0),))
    beats = list(heart.chunks())
    cgm = Stream("demo", "cgm", "cgm", kind="cgm", unit="mg/dL", rate_hz=0.0, interval_s=300.0)
    ahead = Chunk(cgm, beats[20].t0_ns + 120 * NS_PER_S, np.array([[110.0]], np.float32))
    engine = Engine([Person("demo", (beats[0].stream, cgm))], models)
    events = [event for k, chunk in enumerate(beats) for event in engine.step([chunk, ahead] if k == 20 else [chunk])]
    assert events == []


def test_observers_see_the_reading_and_the_outlook(course: list[Chunk], models: Models) -> None:
    heard: list[Observation] = []
    engine = Engine([Person("demo", (course[0].stream,))], models, watch=lambda _patient, seen: heard.append(seen))
    for chunk in course[:20]:
        engine.step([chunk])
    assert [type(seen) for seen in heard[:4]] == [Glucose, Outlook, Glucose, Outlook]
    outlooks = [seen for seen in heard if isinstance(seen, Outlook)]
    assert [one.usable for one in outlooks[:12]] == [False] * 8 + [True] * 4


def test_a_silence_is_ended_by_a_reading_that_is_minutes_old_and_not_by_a_staler_one(
    course: list[Chunk], models: Models
) -> None:
    first, stale, recent = course[0], course[10], course[12]
    engine = engine_for(course, models)
    events = engine.step([first], first.t0_ns) + engine.step([], first.t0_ns + 20 * MIN_NS)
    assert started(events) == ["stream_silent:cgm/cgm"]
    back_ns = recent.t0_ns + 4 * MIN_NS
    assert engine.step([stale], back_ns) == []
    (ended,) = [event for event in engine.step([recent], back_ns) if event.rule.startswith("stream_silent")]
    assert (ended.phase, ended.late) == (Phase.END, False)
