"""What a person at the other end reads: each transition once, in words, and silence said aloud."""

import argparse
import asyncio
import io
import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.alert import (
    AlertEvent,
    Attended,
    Category,
    Evidence,
    EvidenceBeat,
    EvidencePrediction,
    Mark,
    Phase,
    Priority,
    State,
    Verdict,
    alert_id,
)
from agent.alert_words import render, render_status
from agent.broker import LocalBroker, find_mosquitto
from agent.mqtt import ConnectionStatus, MqttConnection
from agent.subscribe import Listener, Printer, subscribe_command
from agent.uplink.messages import StatusMessage, alert_messages, offline_payload, parse_event
from agent.uplink.topics import Topics

NS = 1_000_000_000
ONSET_NS = 1_767_225_600 * NS  # 2026-01-01 00:00:00 UTC
DECIDED_NS = ONSET_NS + 3 * NS
TOPICS = Topics("bed-1")

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


def event(
    phase: Phase = Phase.START, at_ns: int = DECIDED_NS, late: bool = False, text: str = "Run of 5"
) -> AlertEvent:
    evidence = Evidence(
        strip_t0_ns=ONSET_NS,
        strip_rate_hz=250.0,
        strip_unit="mV",
        strip_channels=("MLII",),
        strip=np.zeros((4, 1), np.float32),
        beats=tuple(EvidenceBeat(ONSET_NS + i, label, 0.9) for i, label in enumerate("NNVVVVV")),
        quality=0.98,
        missing_s=0.5,
        values={"rate_bpm": 151.4, "limit_beats": 5.0},
        packs=(("ecg-beat", "0123456789abcdef"),),
    )
    return AlertEvent(
        alert_id=alert_id("p1", "ventricular_tachycardia", ONSET_NS),
        patient="p1",
        rule="ventricular_tachycardia",
        category=Category.PHYSIOLOGICAL,
        priority=Priority.HIGH,
        phase=phase,
        onset_ns=ONSET_NS,
        at_ns=at_ns,
        text=text,
        late=late,
        evidence=evidence if phase is Phase.START else None,
    )


def payload(of: AlertEvent, seq: int = 1) -> bytes:
    return alert_messages(of, TOPICS, seq=seq, boot_id=1)[0].payload


def read(of: AlertEvent, now_ns: int = DECIDED_NS + NS) -> str:
    return render(parse_event(payload(of)), now_ns=now_ns, zone=UTC).plain


class Screen:
    """A listener and what it wrote."""

    def __init__(self, **options: object) -> None:
        self._file = io.StringIO()
        as_json = bool(options.pop("as_json", False))
        self.listener = Listener(Printer(self._file, as_json), **options)  # type: ignore[arg-type]

    def hear(self, topic: str, said: bytes, *, retained: bool = False) -> str:
        """What is written because of this message."""
        before = len(self._file.getvalue())
        self.listener.hear(topic, said, retained=retained, now_ns=DECIDED_NS + NS)
        return self._file.getvalue()[before:]

    def text(self) -> str:
        return self._file.getvalue()


def test_an_alert_says_who_what_since_when_and_why() -> None:
    assert read(event()).splitlines() == [
        "00:00:03   !!! HIGH     p1  Run of 5",
        "          since 00:00:00 (4 s) · agent bed-1",
        "          beats N N V V V V V · rate 151.4 bpm · limit beats 5 · signal good for 98 % of the strip"
        " · 0.5 s missing · model ecg-beat 01234567",
    ]


def test_an_alert_that_is_over_says_how_long_it_was() -> None:
    lines = read(event(Phase.END, DECIDED_NS + 60 * NS, text="over"), DECIDED_NS + 61 * NS).splitlines()

    assert "ok over" in lines[0]
    assert "for 63 s" in lines[1]


def test_a_late_alert_does_not_look_like_one_for_now() -> None:
    text = read(event(late=True), DECIDED_NS + 3 * 3600 * NS)

    assert "!!!" not in text
    assert "late" in text.splitlines()[0]
    assert "no alarm for now" in text
    assert "decided 3 h ago" in text


def test_an_alert_of_another_day_has_its_date() -> None:
    assert read(event(), DECIDED_NS + 86_400 * NS).startswith("2026-01-01 00:00:03")


def test_an_offline_agent_is_loud() -> None:
    status = StatusMessage.model_validate_json(offline_payload("bed-1", "power cut"))

    text = render_status(status, now_ns=DECIDED_NS, zone=UTC)

    assert "AGENT bed-1 IS OFFLINE, MONITORING HAS STOPPED: power cut" in text.plain
    assert "red" in str(text.spans[-1].style)


@given(st.text(), st.text(min_size=1))
def test_whatever_a_message_says_cannot_move_the_cursor(words: str, patient: str) -> None:
    message = parse_event(payload(event()))
    odd = message.model_copy(update={"data": message.data.model_copy(update={"text": words, "patient": patient})})

    lines = render(odd, now_ns=DECIDED_NS, zone=UTC).plain.split("\n")

    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_a_transition_is_shown_once_however_often_it_comes() -> None:
    screen = Screen()

    first = screen.hear("vagus/v1/bed-1/event/p1", payload(event()))
    again = screen.hear("vagus/v1/bed-1/event/p1", payload(event(), seq=2))
    state = screen.hear("vagus/v1/bed-1/alarm/p1/x", payload(event()), retained=True)
    end = screen.hear("vagus/v1/bed-1/event/p1", payload(event(Phase.END, DECIDED_NS + NS), seq=3))

    assert "Run of 5" in first
    assert (again, state) == ("", "")
    assert "ok over" in end


def test_an_alarm_that_was_on_before_is_shown_as_such() -> None:
    assert "was on before" in Screen().hear("vagus/v1/bed-1/alarm/p1/x", payload(event()), retained=True)


def test_a_cleared_alarm_and_foreign_topics_are_passed_over() -> None:
    screen = Screen()

    assert screen.hear("vagus/v1/bed-1/alarm/p1/x", b"", retained=True) == ""
    assert screen.hear("vagus/v1/bed-1/vital/p1/hr", b"{}") == ""
    assert screen.hear("x", b"{}") == ""


def test_missed_events_are_said() -> None:
    screen = Screen()
    screen.hear("vagus/v1/bed-1/event/p1", payload(event(), seq=4))

    said = screen.hear("vagus/v1/bed-1/event/p1", payload(event(Phase.END, DECIDED_NS + NS), seq=7))

    assert "2 event(s) of agent bed-1 were missed" in said


def test_status_is_said_when_it_changes() -> None:
    screen = Screen()
    online = StatusMessage(agent="bed-1", state="online").payload()
    degraded = StatusMessage(agent="bed-1", state="degraded", reasons=["the disk is full"]).payload()

    assert "online" in screen.hear(TOPICS.status, online)
    assert screen.hear(TOPICS.status, online) == ""
    assert "goes on with less: the disk is full" in screen.hear(TOPICS.status, degraded)
    assert "OFFLINE" in screen.hear(TOPICS.status, offline_payload("bed-1"))


def test_alarms_only_leaves_out_good_news_but_never_a_stop() -> None:
    screen = Screen(alarms_only=True)

    assert screen.hear(TOPICS.status, StatusMessage(agent="bed-1", state="online").payload()) == ""
    assert screen.hear(TOPICS.event("p1"), payload(event(late=True))) == ""
    assert screen.hear(TOPICS.event("p1"), payload(event(Phase.END, DECIDED_NS + NS))) == ""
    assert "OFFLINE" in screen.hear(TOPICS.status, offline_payload("bed-1"))
    assert "HIGH" in screen.hear(TOPICS.event("p2"), payload(event(at_ns=DECIDED_NS + 2 * NS)))


def test_the_count_is_of_alerts() -> None:
    screen = Screen(count=1)
    screen.hear(TOPICS.status, offline_payload("bed-1"))
    assert not screen.listener.done

    screen.hear(TOPICS.event("p1"), payload(event()))

    assert screen.listener.done


def test_silence_is_said_and_an_unknown_agent_told_from_a_silent_one() -> None:
    screen = Screen()
    screen.listener.quiet(10, DECIDED_NS)
    assert "no agent has said anything yet" in screen.text()

    screen.hear(TOPICS.event("p1"), payload(event()))
    screen.listener.quiet(60, DECIDED_NS)
    assert "nothing heard from any agent for 60 s" in screen.text()


def test_a_lost_connection_is_loud_and_said_once() -> None:
    screen = Screen()
    screen.listener.connection_changed(ConnectionStatus(connected=False, detail="nothing is listening"))
    screen.listener.connection_changed(ConnectionStatus(connected=False, detail="nothing is listening"))

    assert screen.text().count("NO ALERT CAN BE SEEN: nothing is listening") == 1


@given(st.binary(), st.sampled_from(["status", "event/p", "alarm/p/x"]))
def test_a_message_that_cannot_be_read_is_one_line(said: bytes, kind: str) -> None:
    assert Screen().hear(f"vagus/v1/a/{kind}", said).count("\n") <= 1


def test_a_time_that_is_none_is_a_message_that_cannot_be_read() -> None:
    odd = payload(event()).replace(b"2026-01-01T00:00:03.000000000Z", b"soon")

    assert "cannot be read" in Screen().hear(TOPICS.event("p1"), odd)


def test_json_lines_hold_the_event_as_it_was_sent() -> None:
    written = json.loads(Screen(as_json=True).hear(TOPICS.event("p1"), payload(event())))

    assert written["agent"] == "bed-1"
    assert written["event"] == json.loads(payload(event()))


def arguments(**given: object) -> argparse.Namespace:
    """What the command line gives, on the loopback interface."""
    usual = {"host": "127.0.0.1", "port": 1, "agent": "+", "username": None, "password_file": None, "ca_file": None}
    return argparse.Namespace(**{**usual, "alarms_only": False, "count": 1, "json": False, "timeout": 20.0, **given})


@pytest.mark.parametrize(
    "wrong", [{"agent": "a/b"}, {"ca_file": Path("/nowhere.pem")}, {"password_file": Path("/nowhere")}]
)
def test_wrong_arguments_are_a_usage_error(wrong: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert subscribe_command(arguments(**wrong)) == 2
    assert capsys.readouterr().err.startswith("vagus subscribe: ")


def test_without_a_broker_the_timeout_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert subscribe_command(arguments(timeout=0.5)) == 1
    assert "NO ALERT CAN BE SEEN" in capsys.readouterr().out


@pytest.mark.broker
@needs_mosquitto
def test_alerts_come_from_a_real_broker(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def act() -> int:
        async with (
            LocalBroker(kind="mosquitto", persistence_dir=tmp_path) as broker,
            MqttConnection("127.0.0.1", broker.port, "agent") as agent,
        ):
            await agent.wait_connected()
            await agent.publish(TOPICS.status, StatusMessage(agent="bed-1", state="online").payload(), retain=True)
            await agent.publish(TOPICS.alarm("p1", "x"), payload(event()), retain=True)
            wanted = arguments(port=broker.port, count=2, json=True)
            listening = asyncio.create_task(asyncio.to_thread(subscribe_command, wanted))
            while not listening.done():
                for message in alert_messages(event(Phase.END, DECIDED_NS + NS), TOPICS, seq=2, boot_id=1):
                    await agent.publish(message.topic, message.payload)
                await asyncio.sleep(0.05)
            return await listening

    assert asyncio.run(act()) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["connected"] is True
    phases = {line["event"]["data"]["phase"]: line["retained"] for line in lines if "event" in line}
    assert phases == {"start": True, "end": False}
    assert [line["status"]["state"] for line in lines if "status" in line] == ["online"]


def test_what_a_model_was_not_sure_of_is_said() -> None:
    sure = event()
    assert sure.evidence is not None
    doubtful = replace(
        sure.evidence,
        beats=(EvidenceBeat(ONSET_NS, "N", 0.9), EvidenceBeat(ONSET_NS, "V", 0.6, unsure=True)),
        predictions=(EvidencePrediction("rhythm", ONSET_NS, DECIDED_NS, "A", 0.71, unsure=True),),
    )
    said = read(replace(sure, evidence=doubtful))
    assert "beats N V? ·" in said
    assert "rhythm A 71 % (unsure)" in said


def test_an_end_says_how_long_it_truly_lasted() -> None:
    assert "for 2 s" in read(replace(event(Phase.END), until_ns=ONSET_NS + 2 * NS))


def test_what_people_did_is_said_with_the_alert() -> None:
    nurse = Mark("nurse-3", DECIDED_NS)
    seen = Attended(State.LATCHED, nurse, nurse, 2, Verdict("not_actionable", "moved", "nurse-3", DECIDED_NS))
    said = read(replace(event(Phase.UPDATE), attended=seen))
    assert "acknowledged by nurse-3" in said
    assert "stays until somebody acknowledges it" in said
    assert "paused by nurse-3 until" in said
    assert "judged not actionable by nurse-3 (moved)" in said
    alone = read(replace(event(Phase.ESCALATE), attended=Attended(State.ACTIVE, escalation=2), drill=True))
    assert "escalated 2 ×: nobody has acknowledged it" in alone
    assert "a drill: not real" in alone
