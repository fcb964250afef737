"""People and a running agent: what they ask over MQTT is done once, outlives a crash, and is told to everybody."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from test_agent import AgentProcess, Subscriber, listening

from agent.broker import LocalBroker
from agent.mqtt import MqttConnection
from agent.uplink.messages import AlertData

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

CONFIG = """
[agent]
id = "ward"
state_dir = "{state}"
[mqtt]
host = "127.0.0.1"
port = {port}
[alarms]
escalate_high_s = 5
[[patient]]
id = "anna"
[[patient.source]]
type = "mqtt"
device = "cgm"
channel = "glucose"
kind = "cgm"
interval_s = 300
"""


class GlucoseAgent(AgentProcess):
    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        (folder / "agent.toml").write_text(CONFIG.format(state=folder / "state", port=port))


@asynccontextmanager
async def ward(folder: Path) -> AsyncIterator[tuple[Subscriber, MqttConnection, AgentProcess]]:
    """A nurse's station that listens, a phone that sends readings and commands, and the agent, online."""
    async with (
        LocalBroker(persistence_dir=folder) as broker,
        listening(broker.port) as nurse,
        MqttConnection("127.0.0.1", broker.port, "phone", clean_start=True, session_expiry_s=0) as phone,
        GlucoseAgent(folder, broker.port) as agent,
    ):
        await phone.wait_connected()
        await nurse.until(lambda n: bool(n.statuses) and n.statuses[-1]["state"] == "online", "the agent")
        yield nurse, phone, agent


async def reading(connection: MqttConnection, mg_dl: float, ago_s: float = 0.0) -> None:
    chunk = {"t0_ms": round(1000 * (time.time() - ago_s)), "unit": "mg/dL", "samples": [mg_dl]}
    await connection.publish("vagus/v1/in/cgm/glucose", json.dumps(chunk).encode())


async def ask(connection: MqttConnection, name: str, **command: object) -> None:
    body = {"patient": "anna", "by": "nurse-3", **command}
    await connection.publish(f"vagus/v1/ward/cmd/{name}", json.dumps(body).encode())


def of(nurse: Subscriber, rule: str) -> list[AlertData]:
    return [alert.data for alert in nurse.alerts if alert.data.rule == rule]


def last_phase(rule: str, phase: str) -> Callable[[Subscriber], bool]:
    return lambda nurse: bool(of(nurse, rule)) and of(nurse, rule)[-1].phase == phase


def test_an_urgent_low_is_escalated_acknowledged_kept_over_a_crash_and_over(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path) as (nurse, phone, agent):
            await reading(phone, 52.0, ago_s=300.0)
            await nurse.until(last_phase("urgent_low", "start"), "the alarm")
            began = of(nurse, "urgent_low")[0]
            assert (began.state, began.acknowledged, began.escalation) == ("active", None, None)
            await nurse.until(last_phase("urgent_low", "escalate"), "its escalation")
            assert of(nurse, "urgent_low")[-1].escalation == 1
            await ask(phone, "ack", id="c1", alert_id=began.alert_id)
            await nurse.until(last_phase("urgent_low", "de-escalate"), "that somebody has seen it")
            seen = of(nurse, "urgent_low")[-1]
            assert seen.acknowledged is not None
            assert (seen.acknowledged.by, seen.alert_id) == ("nurse-3", began.alert_id)
            await agent.kill()
            await ask(phone, "ack", id="c1", alert_id=began.alert_id)
            await ask(phone, "verdict", id="c2", alert_id=began.alert_id, verdict="true", note="had juice")
            await agent.start()
            await nurse.until(lambda n: any(a.verdict for a in of(n, "urgent_low")), "the verdict sent meanwhile")
            retained = json.loads(nurse.retained[f"vagus/v1/ward/alarm/anna/{began.alert_id}"])["data"]
            assert retained["acknowledged"]["by"] == "nurse-3"
            assert retained["verdict"]["note"] == "had juice"
            acknowledged = [a for a in of(nurse, "urgent_low") if a.text.startswith("Acknowledged")]
            assert len({a.decided_at for a in acknowledged}) == 1
            await reading(phone, 90.0)
            await nurse.until(last_phase("urgent_low", "end"), "its end")
            await nurse.until(lambda n: not any(t for t in n.retained.values() if began.alert_id.encode() in t), "gone")

    run(scenario())


def test_a_high_alarm_that_nobody_saw_stays_on_the_board(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path) as (nurse, phone, _):
            await reading(phone, 50.0, ago_s=300.0)
            await nurse.until(last_phase("urgent_low", "start"), "the alarm")
            await reading(phone, 90.0)
            await nurse.until(last_phase("urgent_low", "end"), "its end")
            over = of(nurse, "urgent_low")[-1]
            assert over.state == "latched"
            topic = f"vagus/v1/ward/alarm/anna/{over.alert_id}"
            await nurse.until(lambda n: b"latched" in n.retained[topic], "the board")
            await ask(phone, "ack", alert_id=over.alert_id)
            await nurse.until(lambda n: n.retained[topic] == b"", "an empty board")
            assert of(nurse, "urgent_low")[-1].state == "inactive"

    run(scenario())


def test_a_pause_shows_in_the_status_and_on_the_alarm(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path) as (nurse, phone, _):
            await ask(phone, "pause", rule="low", minutes=30)
            await nurse.until(lambda n: bool(n.statuses and n.statuses[-1].get("pauses")), "the pause")
            assert [(p["patient"], p["what"], p["by"]) for p in nurse.statuses[-1]["pauses"]] == [
                ("anna", "low", "nurse-3")
            ]
            await reading(phone, 65.0)
            await nurse.until(last_phase("low", "start"), "the alarm")
            paused = of(nurse, "low")[0].paused
            assert paused is not None
            assert paused.by == "nurse-3"
            await ask(phone, "pause", rule="low", minutes=0)
            await nurse.until(last_phase("low", "continue"), "the alarm again")
            assert of(nurse, "low")[-1].paused is None

    run(scenario())


def test_a_drill_goes_the_whole_way_says_that_it_is_one_and_is_over(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path) as (nurse, phone, _):
            drill = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent.cli", "drill", str(tmp_path / "agent.toml"), "--seconds", "7"),
                stdout=asyncio.subprocess.PIPE,
            )
            await nurse.until(last_phase("asystole", "escalate"), "its escalation")
            (alert_id,) = {event.alert_id for event in of(nurse, "asystole")}
            await ask(phone, "ack", alert_id=alert_id)
            printed, _ = await drill.communicate()
            assert drill.returncode == 0
            assert all(event.drill and "DRILL" in event.text for event in of(nurse, "asystole"))
            assert [event.phase for event in of(nurse, "asystole")] == ["start", "escalate", "de-escalate", "end"]
            assert printed.decode().splitlines()[-1].endswith("DRILL, not real: over; acknowledged by nurse-3")
            await nurse.until(lambda n: not any(alert_id.encode() in kept for kept in n.retained.values()), "its end")

    run(scenario())


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("ack", b"{", "EOF"),
        ("ack", b'{"patient": "nobody", "by": "x", "alert_id": "1"}', "nobody called 'nobody' is watched here"),
        ("ack", b'{"patient": "anna", "by": "x", "alert_id": "1"}', "is not known"),
        ("ack", b'{"patient": "anna", "by": " ", "alert_id": "1"}', "by: Value error, must be printable"),
        ("pause", b'{"patient": "anna", "by": "x", "rule": "low", "priority": "low", "minutes": 1}', "either"),
        ("pause", b'{"patient": "anna", "by": "x", "rule": "urgent_low", "minutes": 60}', "for up to 15 min"),
        ("drill", b'{"patient": "anna", "by": "x", "rule": "stream_silent"}', "is no alarm about a person"),
        ("shutdown", b"{}", "is no command: there are ack, pause, verdict, drill"),
    ],
)
def test_a_command_that_cannot_be_done_is_answered_in_words(
    run: Run, tmp_path: Path, name: str, body: bytes, words: str
) -> None:
    """By a client of another make, with MQTT 5's response topic."""

    async def scenario() -> None:
        async with LocalBroker(persistence_dir=tmp_path) as broker, GlucoseAgent(tmp_path, broker.port):
            answer = await asyncio.to_thread(asked_by_paho, broker.port, name, body)
            assert answer["accepted"] is False
            assert words in answer["words"]

    run(scenario())


def asked_by_paho(port: int, name: str, body: bytes) -> dict[str, Any]:
    """Ask until there is an answer: the agent may not be there yet. Raises TimeoutError."""
    answers: list[dict[str, Any]] = []

    def heard(_client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        assert message.properties is not None
        assert message.properties.CorrelationData == b"42"  # type: ignore[attr-defined]
        answers.append(json.loads(message.payload))

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = heard
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        client.subscribe("answers/me", qos=1)
        wanted = Properties(PacketTypes.PUBLISH)
        wanted.ResponseTopic, wanted.CorrelationData = "answers/me", b"42"
        deadline = time.monotonic() + 30.0
        while not answers:
            client.publish(f"vagus/v1/ward/cmd/{name}", body, qos=1, properties=wanted)
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.2)
        return answers[0]
    finally:
        client.loop_stop()
        client.disconnect()
