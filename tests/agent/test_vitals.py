"""What is shown of a person's glucose: the newest reading once, its trend, what is expected, and how the days went."""

from __future__ import annotations

import numpy as np
import pytest

from agent.engine import Engine
from agent.inference import Models, shipped_models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.patient import PatientState, Person
from agent.uplink.messages import vital_message
from agent.uplink.topics import Topics
from agent.vitals import Vital, trend, vitals_of
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

MIN_NS = 60 * NS_PER_S


def watched(course: tuple[tuple[float, float], ...]) -> PatientState:
    chunks = list(cgm_chunks(cgm_readings(1, course)))
    engine = Engine([Person("demo", (chunks[0].stream,))], shipped_models())
    engine.step(chunks)
    return engine.patients["demo"]


def by_code(vitals: list[Vital]) -> dict[str, Vital]:
    return {vital.message.code: vital for vital in vitals}


@pytest.fixture(scope="module")
def falling() -> PatientState:
    return watched(((0.0, 180.0), (2.0, 180.0), (3.0, 80.0)))


def test_the_newest_reading_comes_with_its_trend_and_what_is_expected(falling: PatientState) -> None:
    shown = by_code(list(vitals_of(falling, None, None)))["glucose"]
    message = shown.message
    assert (message.unit, message.late, message.doubt) == ("mg/dL", False, None)
    assert message.rate_per_min is not None
    assert message.rate_per_min < 0
    assert message.trend == trend(message.rate_per_min)
    assert message.expected is not None
    assert [one.minutes for one in message.expected] == [30, 60]
    assert all(one.low < one.value < one.high for one in message.expected)


def test_it_is_kept_for_those_who_come_later_as_long_as_it_can_be_of_now(falling: PatientState) -> None:
    shown = by_code(list(vitals_of(falling, None, None)))["glucose"]
    outgoing = vital_message(shown.message, Topics("a"), shown.retained_s)
    assert (outgoing.topic, outgoing.retain, outgoing.expiry_s) == ("vagus/v1/a/vital/demo/glucose", True, 720)


def test_it_is_shown_once_and_says_when_it_is_old(falling: PatientState) -> None:
    assert falling.glucose is not None
    assert falling.glucose.last is not None
    newest_ns = falling.glucose.last.t_ns
    assert list(vitals_of(falling, None, newest_ns)) == []
    for minutes, late in ((5, False), (20, True)):
        shown = by_code(list(vitals_of(falling, newest_ns + minutes * MIN_NS, None)))["glucose"]
        assert shown.message.late is late


@pytest.mark.parametrize(
    ("rate", "word"),
    [(4, "rising_quickly"), (2.5, "rising"), (1.5, "rising_slightly"), (0, "steady"), (-1, "falling_slightly"),
     (-2.5, "falling"), (-9, "falling_quickly")],
)  # fmt: skip
def test_a_rate_has_a_word(rate: float, word: str) -> None:
    assert trend(rate) == word


def test_the_days_are_summed_up_only_where_enough_of_them_is_known(falling: PatientState) -> None:
    assert "time_in_range_14d" not in by_code(list(vitals_of(falling, None, None)))
    days = watched(
        tuple((24.0 * day + hour, level) for day in range(14) for hour, level in ((0.0, 120.0), (12.0, 200.0)))
    )
    shown = by_code(list(vitals_of(days, None, None)))
    in_range, above = shown["time_in_range_14d"].message, shown["time_above_180_14d"].message
    assert in_range.value + above.value == pytest.approx(100.0, abs=0.11)
    assert in_range.quality is not None
    assert in_range.quality > 0.9
    assert shown["gmi_14d"].message.value == pytest.approx(3.31 + 0.02392 * 160, abs=0.15)


def test_beside_the_rate_of_an_ecg_a_strap_s_own_count_is_not_shown() -> None:
    ecg = list(SimulatedPatient(3, script=(Episode(Rhythm.SINUS, 20.0),)).chunks(chunk_s=1.0))
    patient = ecg[0].stream.patient
    strap = Stream(patient, "h10", "hr", "hr", "1/min", 0.0, interval_s=1.0)
    counts = [Chunk(strap, chunk.t0_ns, np.array([[61.0]], np.float32)) for chunk in ecg]
    engine = Engine([Person(patient, (ecg[0].stream, strap))], Models())
    engine.step(counts)
    (alone,) = vitals_of(engine.patients[patient], None, None)
    assert (alone.message.code, alone.message.value) == ("hr", 61.0)
    engine.step(ecg)
    (shown,) = vitals_of(engine.patients[patient], None, None)
    assert shown.message.code == "hr"
    assert shown.message.quality is not None
