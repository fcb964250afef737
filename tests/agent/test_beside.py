"""An alarm about the heart says what glucose was, one about glucose what the heart did; who wears one says nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from agent.alarms.alert import AlertEvent
from agent.alarms.beside import HeartMinutes, glucose_beside
from agent.engine import Engine
from agent.inference import Models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

MIN_NS = 60 * NS_PER_S
AT = 1_000 * MIN_NS
SCRIPT = (Episode(Rhythm.SINUS, 200.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 4.0))
ECG = tuple(SimulatedPatient(5, script=SCRIPT).chunks(chunk_s=1.0))
PATIENT, T0_NS = ECG[0].stream.patient, ECG[0].t0_ns
CGM = Stream(PATIENT, "cgm", "glucose", "cgm", "mg/dL", 0.0, interval_s=60.0)


def reading(at_s: float, mg_dl: float) -> Chunk:
    return Chunk(CGM, T0_NS + round(at_s * NS_PER_S), np.array([[mg_dl]], np.float32))


def beside(events: Sequence[AlertEvent], rule: str) -> str:
    (found,) = {event.evidence.beside for event in events if event.rule == rule and event.evidence is not None}
    return found


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ([], "no glucose reading of the last half hour"),
        ([(40, 100)], "no glucose reading of the last half hour"),
        ([(4, 52)], "glucose 52 mg/dL 4 min before"),
        ([(9, 80), (4, 52)], "glucose 52 mg/dL 4 min before, falling"),
        ([(9, 52), (4, 80)], "glucose 80 mg/dL 4 min before, rising"),
        ([(9, 80), (4, 82)], "glucose 82 mg/dL 4 min before, steady"),
        ([(29, 80), (4, 52)], "glucose 52 mg/dL 4 min before"),
        ([(9, 80), (4, 52), (0.5, 40)], "glucose 52 mg/dL 4 min before, falling"),
    ],
)
def test_glucose_in_words(readings: list[tuple[float, float]], words: str) -> None:
    times = np.array([AT - round(ago * MIN_NS) for ago, _ in readings], np.int64)
    assert glucose_beside(times, np.array([value for _, value in readings], np.float32), AT) == words


def test_the_heart_in_words() -> None:
    minutes = HeartMinutes()
    assert minutes.beside(AT) == "the heart was not seen"
    for second in range(180):
        minutes.second(AT + second * NS_PER_S, second < 120, 45.0 if second < 120 else None)
    assert minutes.beside(AT + 2 * MIN_NS) == "heart rate 45/min"
    assert minutes.beside(AT + 20 * MIN_NS) == "the heart was not seen"
    for second in range(180, 300):
        minutes.second(AT + second * NS_PER_S, False, None)
    assert minutes.beside(AT + 5 * MIN_NS) == "the heart's signal was poor"


def test_both_ways_and_whatever_the_company_of_the_streams_in_a_tick() -> None:
    """Within the minute that is left between what is known and what is said of it."""
    readings = [reading(60.0 * k, 90.0 - 10.0 * k) for k in range(4)]
    pick, heard = random.Random(0), set()
    for _ in range(4):
        engine = Engine([Person(PATIENT, (ECG[0].stream, CGM))], Models())
        late = [(chunk.end_ns + pick.randrange(0, 20 * NS_PER_S, NS_PER_S) * (chunk.stream is CGM), k, chunk)
                for k, chunk in enumerate((*readings, *ECG))]  # fmt: skip
        events = [event for _, _, chunk in sorted(late, key=lambda one: one[:2]) for event in engine.step([chunk])]
        heard.add((beside(events, "asystole"), beside(events, "low")))
    ((glucose, heart),) = heard
    assert glucose == "glucose 70 mg/dL 1 min before, falling"
    assert heart.startswith("heart rate ")


def test_who_wears_one_sensor_only_is_told_nothing_of_another() -> None:
    engine = Engine([Person(PATIENT, (ECG[0].stream,))], Models())
    events = [event for chunk in ECG for event in engine.step([chunk])]
    assert beside(events, "asystole") == ""
