"""What subscribers read: exact, complete, bounded, and the same for the same data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.alarms.alert import AlertEvent, Category, Evidence, EvidenceBeat, Phase, Priority, alert_id
from agent.uplink.evidence import parse_rfc3339_ns, rfc3339
from agent.uplink.messages import (
    MAX_ALERT_BYTES,
    RESEARCH_NOTE,
    StatusMessage,
    VitalMessage,
    alert_messages,
    canonical_json,
    offline_payload,
    outgoing_priority,
    parse_event,
    status_message,
    vital_message,
)
from agent.uplink.topics import Topics, input_topic, parse_input_topic

ONSET_NS = 1_700_000_000_123_456_789
TOPICS = Topics("agent1")


def evidence(strip: npt.NDArray[np.float32], rate_hz: float = 250.0) -> Evidence:
    return Evidence(
        strip_t0_ns=ONSET_NS - 10_000_000_000,
        strip_rate_hz=rate_hz,
        strip_unit="mV",
        strip_channels=tuple(f"lead{i}" for i in range(strip.shape[1])),
        strip=strip,
        beats=(EvidenceBeat(ONSET_NS, "V", 0.97),),
        quality=0.9,
        missing_s=0.5,
        values={"heart_rate_1_per_min": 171.0, "threshold_1_per_min": 140.0},
        packs=(("beat-cnn", "ab" * 32),),
    )


def start(strip: npt.NDArray[np.float32] | None = None, rate_hz: float = 250.0) -> AlertEvent:
    return AlertEvent(
        alert_id=alert_id("p1", "tachycardia", ONSET_NS),
        patient="p1",
        rule="tachycardia",
        category=Category.PHYSIOLOGICAL,
        priority=Priority.HIGH,
        phase=Phase.START,
        onset_ns=ONSET_NS,
        at_ns=ONSET_NS + 6_000_000_000,
        text="Heart rate 171/min, suggestive of extreme tachycardia.",
        evidence=None if strip is None else evidence(strip, rate_hz),
    )


def strips() -> st.SearchStrategy[npt.NDArray[np.float32]]:
    return hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.floats(width=32, allow_infinity=False, allow_nan=True),
    )


def ecg(n: int, channels: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 0.7, (n, channels)).astype(np.float32)


def test_a_start_is_an_event_and_a_retained_state() -> None:
    event, state = alert_messages(start(ecg(2500)), TOPICS, seq=7, boot_id=3, committed_ns=ONSET_NS)

    assert (event.topic, event.retain, event.priority, event.kind) == ("vagus/v1/agent1/event/p1", False, 0, "alert")
    assert state.topic == f"vagus/v1/agent1/alarm/p1/{start().alert_id}"
    assert state.retain
    assert state.payload == event.payload
    document = json.loads(event.payload)
    assert document["specversion"] == "1.0"
    assert document["type"] == "vagus.alert.start"
    assert document["subject"] == "p1"
    assert document["time"] == "2023-11-14T22:13:26.123456789Z"
    assert document["data"]["late"] is False
    assert document["data"]["seq"] == 7
    assert document["data"]["boot_id"] == 3
    assert document["data"]["note"] == RESEARCH_NOTE == "research software, not a medical device"
    assert event.content_type == "application/cloudevents+json"


def test_an_end_empties_the_retained_state_and_says_so_as_an_event() -> None:
    event, state = alert_messages(replace(start(), phase=Phase.END), TOPICS, seq=8, boot_id=3)
    assert parse_event(event.payload).type == "vagus.alert.end"
    assert (state.payload, state.retain) == (b"", True)


@pytest.mark.parametrize("phase", [Phase.START, Phase.CONTINUE, Phase.UPDATE])
def test_what_is_late_is_told_but_never_stands_as_a_current_alarm(phase: Phase) -> None:
    (event,) = alert_messages(replace(start(), phase=phase, late=True), TOPICS, seq=1, boot_id=1)
    assert parse_event(event.payload).data.late
    assert not event.retain


@given(strips())
def test_the_strip_reads_back_as_the_same_float32(strip: npt.NDArray[np.float32]) -> None:
    event, _ = alert_messages(start(strip), TOPICS, seq=1, boot_id=1)
    said = parse_event(event.payload).data.evidence
    assert said is not None
    np.testing.assert_array_equal(said.strip.array(), strip)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(1)), elements=st.floats(width=32)))
def test_a_sample_has_no_more_digits_than_it_takes(strip: npt.NDArray[np.float32]) -> None:
    said = parse_event(alert_messages(start(strip), TOPICS, seq=1, boot_id=1)[0].payload).data.evidence
    assert said is not None
    [samples] = said.strip.samples
    digits = [None if one is None else repr(one) for one in samples]
    assert digits == [repr(float(str(value))) if np.isfinite(value) else None for value in strip[:, 0]]


def test_evidence_survives_the_way() -> None:
    event, _ = alert_messages(start(ecg(2500)), TOPICS, seq=1, boot_id=1)
    said = parse_event(event.payload).data.evidence
    assert said is not None
    assert parse_rfc3339_ns(said.strip.t0) == ONSET_NS - 10_000_000_000
    assert said.strip.left_out is None
    assert said.beats[0].label == "V"
    assert said.packs[0].sha256 == "ab" * 32
    assert said.values["heart_rate_1_per_min"] == 171.0
    assert (said.quality, said.missing_s) == (0.9, 0.5)


def test_a_strip_too_large_loses_channels_beyond_the_first_and_says_so() -> None:
    strip = ecg(5000, channels=3)
    event, _ = alert_messages(start(strip), TOPICS, seq=1, boot_id=1)
    assert len(event.payload) <= MAX_ALERT_BYTES
    said = parse_event(event.payload).data.evidence
    assert said is not None
    assert said.strip.channels == ["lead0"]
    assert "lead1, lead2" in (said.strip.left_out or "")
    np.testing.assert_array_equal(said.strip.array(), strip[:, :1])


def test_a_strip_still_too_large_keeps_its_newest_samples_and_their_time() -> None:
    strip = ecg(40_000, channels=2)
    event, _ = alert_messages(start(strip, rate_hz=4000.0), TOPICS, seq=1, boot_id=1)
    assert len(event.payload) <= MAX_ALERT_BYTES
    said = parse_event(event.payload).data.evidence
    assert said is not None
    kept = said.strip.array()
    np.testing.assert_array_equal(kept, strip[-len(kept) :, :1])
    n_cut = len(strip) - len(kept)
    assert parse_rfc3339_ns(said.strip.t0) == ONSET_NS - 10_000_000_000 + n_cut * 250_000
    assert said.strip.left_out == (
        f"channels lead1: the message would exceed {MAX_ALERT_BYTES} bytes; the oldest samples"
    )


def test_one_transition_has_one_id_however_often_it_is_built() -> None:
    first, _ = alert_messages(start(), TOPICS, seq=1, boot_id=1, committed_ns=1)
    again, _ = alert_messages(start(), TOPICS, seq=9, boot_id=2, committed_ns=2)
    other, _ = alert_messages(replace(start(), at_ns=ONSET_NS + 1), TOPICS, seq=9, boot_id=2)
    assert parse_event(first.payload).id == parse_event(again.payload).id != parse_event(other.payload).id


def test_canonical_json_is_the_event_without_what_differs_between_runs() -> None:
    document = json.loads(canonical_json(start(ecg(10))))
    assert canonical_json(start(ecg(10))) == canonical_json(start(ecg(10)))
    assert not {"seq", "boot_id", "committed_at"} & set(document["data"])
    assert parse_event(canonical_json(start(ecg(10)))).data.seq is None


@given(strips())
def test_canonical_json_is_what_the_json_module_makes_of_it(strip: npt.NDArray[np.float32]) -> None:
    document = json.loads(canonical_json(start(strip)))
    expected = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_json(start(strip)) == expected.encode()


@pytest.mark.parametrize(
    ("category", "priority", "expected"),
    [
        (Category.PHYSIOLOGICAL, Priority.HIGH, 0),
        (Category.TECHNICAL, Priority.HIGH, 1),
        (Category.PHYSIOLOGICAL, Priority.MEDIUM, 1),
        (Category.PHYSIOLOGICAL, Priority.LOW, 2),
        (Category.TECHNICAL, Priority.LOW, 3),
    ],
)
def test_urgency(category: Category, priority: Priority, expected: int) -> None:
    assert outgoing_priority(replace(start(), category=category, priority=priority)) == expected


def test_status_and_vitals_stand_behind_every_alert() -> None:
    status = status_message(StatusMessage(agent="agent1", state="online"), TOPICS)
    vital = vital_message(
        VitalMessage(patient="p1", code="hr", value=61, unit="1/min", at=rfc3339(0), late=False), TOPICS
    )
    assert 3 < status.priority < vital.priority
    assert (status.retain, status.topic) == (True, "vagus/v1/agent1/status")
    assert (vital.expiry_s, vital.topic) == (300, "vagus/v1/agent1/vital/p1/hr")
    assert json.loads(offline_payload("agent1"))["state"] == "offline"


def test_what_is_not_an_alert_is_refused() -> None:
    event, _ = alert_messages(start(), TOPICS, seq=1, boot_id=1)
    for payload in (b"", b"{}", b"\xff", event.payload[:-1], event.payload.replace(b"vagus.alert.start", b"other")):
        with pytest.raises(ValueError, match="validation error"):
            parse_event(payload)


def test_what_a_newer_agent_adds_is_no_error() -> None:
    event, _ = alert_messages(start(), TOPICS, seq=1, boot_id=1)
    document = json.loads(event.payload)
    document["data"]["added_later"] = 1
    assert parse_event(json.dumps(document).encode()) == parse_event(event.payload)


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_times_keep_every_nanosecond(t_ns: int) -> None:
    assert parse_rfc3339_ns(rfc3339(t_ns)) == t_ns


@pytest.mark.parametrize(
    "text", ["", "2023-11-14T22:13:26Z", "2023-11-14T22:13:26.12Z", "2023-11-14T22:13:26.123456789"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a UTC time"):
        parse_rfc3339_ns(text)


def test_topics_are_taken_apart_as_they_are_put_together() -> None:
    assert parse_input_topic(input_topic("d1", "ecg")) == ("d1", "ecg")
    for topic in ("vagus/v1/in/d1", "vagus/v1/in/d1/ecg/x", "vagus/v1/in//ecg", "other/v1/in/d1/ecg", ""):
        assert parse_input_topic(topic) is None
    for name in ("", "a/b", "a+", "#", "a\0"):
        with pytest.raises(ValueError, match="cannot be a level"):
            TOPICS.event(name)
