"""What becomes of it that nothing comes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent, Phase
from agent.alarms.observation import Condition
from agent.patient import PatientState, Person
from agent.uplink.messages import canonical_json
from agent.wall_time import WallTime
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

NOON_NS = 1_790_000_000 * NS_PER_S
LATE_NS = 30 * NS_PER_S
STREAMS = [
    Stream("p1", "strap", "ecg", "ecg", "mV", 250.0, ("II",)),
    Stream("p2", "strap", "ecg", "ecg", "mV", 250.0, ("II",)),
    Stream("p2", "thermometer", "temperature", "temperature", "Cel", 0.0, interval_s=10.0),
]
TWO_LEADS = Stream("p3", "holter", "ecg", "ecg", "mV", 250.0, ("II", "V"))
PULSE = Stream("p3", "watch", "ppg", "ppg", "1", 100.0)
DATA = st.tuples(st.sampled_from([*STREAMS, TWO_LEADS]), st.integers(-40, 1), st.integers(1, 3))
"""Of a stream: so many seconds from now on, so many seconds long."""
ALARMS = st.tuples(st.sampled_from(["p1", "p2", "p3"]), st.booleans(), st.integers(-40, 0))
"""Of somebody an alarm begins or ends, found so many seconds before now."""
Tick = tuple[int, list[tuple[Stream, int, int]], list[tuple[str, bool, int]]]
TICKS = st.lists(
    st.tuples(st.sampled_from([-3, 0, 1, 2, 20]), st.lists(DATA, max_size=3), st.lists(ALARMS, max_size=1)), max_size=40
)
"""So many seconds later, or earlier where the clock was set back, and what came by then."""


def ward() -> dict[str, PatientState]:
    streams = (*STREAMS, TWO_LEADS, PULSE)
    people = [Person(name, tuple(s for s in streams if s.patient == name)) for name in ("p1", "p2", "p3")]
    return {person.id: PatientState.new(person, LATE_NS) for person in people}


def come(patients: dict[str, PatientState], stream: Stream, t0_ns: int, seconds: int, now_ns: int) -> list[AlertEvent]:
    n_samples = round(seconds * stream.rate_hz) or 1
    chunk = Chunk(stream, t0_ns, np.zeros((n_samples, max(1, len(stream.channels))), np.float32))
    return patients[stream.patient].account(chunk, now_ns)


def alarm(patients: dict[str, PatientState], name: str, active: bool, at_ns: int, now_ns: int) -> list[AlertEvent]:
    """Of somebody who can be asked, it is weighed once the pulse wave, a second behind, has come up to it."""
    patient = patients[name]
    if patient.gate is not None:
        patient.gate.witnesses.pulses[PULSE.key].take((), at_ns - NS_PER_S, at_ns)
    values = (("heart_rate_bpm", 30.0), ("limit_bpm", 40.0))
    found = Condition("bradycardia", active, at_ns, at_ns, "Heart rate 30 bpm", values)
    return [*patient.advance(at_ns, now_ns), *patient.apply([found], now_ns)]


@given(TICKS)
def test_whoever_is_passed_over_had_nothing_to_say(ticks: list[Tick]) -> None:
    patients, again = ward(), ward()
    wall_time = WallTime(LATE_NS)
    now_ns = NOON_NS
    for later_s, data, alarms in ticks:
        now_ns += later_s * NS_PER_S
        events: list[AlertEvent] = []
        expected: list[AlertEvent] = []
        for stream, from_s, seconds in data:
            t0_ns = now_ns + from_s * NS_PER_S
            wall_time.heard(stream.patient)
            events += come(patients, stream, t0_ns, seconds, now_ns)
            expected += come(again, stream, t0_ns, seconds, now_ns)
        for name, active, from_s in alarms:
            at_ns = now_ns + from_s * NS_PER_S
            wall_time.heard(name)
            events += alarm(patients, name, active, at_ns, now_ns)
            expected += alarm(again, name, active, at_ns, now_ns)
        events += wall_time.step(patients, now_ns)
        expected += WallTime(LATE_NS).step(again, now_ns)
        assert [canonical_json(event) for event in events] == [canonical_json(event) for event in expected]


def test_a_stream_that_has_never_sent_is_silent_some_seconds_after_the_first_tick() -> None:
    patients, wall_time = ward(), WallTime(LATE_NS)
    at_s = [
        s for s in range(120) for event in wall_time.step(patients, NOON_NS + s * NS_PER_S) if event.patient == "p2"
    ]
    assert at_s == [5, 22 + 60]  # two missed readings and a minute


def test_what_was_late_becomes_current_when_the_clock_of_the_agent_is_set_right() -> None:
    patients, wall_time = ward(), WallTime(LATE_NS)
    come(patients, STREAMS[0], NOON_NS - 32 * NS_PER_S, 1, NOON_NS)
    alarm(patients, "p1", True, NOON_NS - 35 * NS_PER_S, NOON_NS)
    assert not list(wall_time.step(patients, NOON_NS))
    (said,) = wall_time.step(patients, NOON_NS - 3 * NS_PER_S)
    assert (said.rule, said.phase, said.late) == ("bradycardia", Phase.CONTINUE, False)
