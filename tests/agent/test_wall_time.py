"""What becomes of it that nothing comes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent
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
DATA = st.tuples(st.sampled_from(STREAMS), st.integers(-40, 1), st.integers(1, 3))
"""Of a stream: so many seconds from now on, so many seconds long."""
TICKS = st.lists(st.tuples(st.integers(-3, 20), st.lists(DATA, max_size=3)), max_size=40)
"""So many seconds later, or earlier where the clock was set back, and what came by then."""


def ward() -> dict[str, PatientState]:
    people = [Person(name, tuple(s for s in STREAMS if s.patient == name)) for name in ("p1", "p2")]
    return {person.id: PatientState.new(person, LATE_NS) for person in people}


def come(patients: dict[str, PatientState], stream: Stream, t0_ns: int, seconds: int, now_ns: int) -> list[AlertEvent]:
    n_samples = round(seconds * stream.rate_hz) or 1
    chunk = Chunk(stream, t0_ns, np.zeros((n_samples, 1), np.float32))
    return patients[stream.patient].account(chunk, now_ns)


@given(TICKS)
def test_whoever_is_passed_over_had_nothing_to_say(ticks: list[tuple[int, list[tuple[Stream, int, int]]]]) -> None:
    patients, again = ward(), ward()
    wall_time = WallTime(LATE_NS)
    now_ns = NOON_NS
    for later_s, data in ticks:
        now_ns += later_s * NS_PER_S
        events: list[AlertEvent] = []
        expected: list[AlertEvent] = []
        for stream, from_s, seconds in data:
            t0_ns = now_ns + from_s * NS_PER_S
            wall_time.heard(stream.patient)
            events += come(patients, stream, t0_ns, seconds, now_ns)
            expected += come(again, stream, t0_ns, seconds, now_ns)
        events += wall_time.step(patients, now_ns)
        expected += WallTime(LATE_NS).step(again, now_ns)
        assert [canonical_json(event) for event in events] == [canonical_json(event) for event in expected]


def test_a_stream_that_has_never_sent_is_silent_some_seconds_after_the_first_tick() -> None:
    patients, wall_time = ward(), WallTime(LATE_NS)
    at_s = [
        s for s in range(120) for event in wall_time.step(patients, NOON_NS + s * NS_PER_S) if event.patient == "p2"
    ]
    assert at_s == [5, 22 + 60]  # two missed readings and a minute
