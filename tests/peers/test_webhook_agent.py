"""The real agent and a real receiver: killed between a POST and its acknowledgement, held up, and out of the way."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from test_agent import AgentProcess, expected, heard_all, listening
from webhook_receiver import SECRET, Receiver, receiving

from agent.broker import LocalBroker
from agent.config import parse_config
from agent.ingest.sensor import publish_chunks
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import MqttConnection
from agent.supervisor import Supervisor
from agent.workers.shares import whole

pytestmark = pytest.mark.broker
SCRIPT = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 6.0))
Run = Callable[[Coroutine[Any, Any, None]], None]


def webhook(receiver: Receiver, folder: Path) -> str:
    (folder / "secret").write_text(SECRET + "\n")
    return f'[webhook]\nurl = "{receiver.url}"\nsecret_file = "{folder}/secret"\n'


def transitions(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (event["data"]["alert_id"], event["data"]["phase"])
        for event in events
        if event["data"]["phase"] in {"start", "end"} and event["data"]["rule"] != "agent_restarted"
    ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_killed_between_a_post_and_its_acknowledgement_it_sends_again_and_loses_nothing(
    run: Run, tmp_path: Path
) -> None:
    async def scenario(receiver: Receiver) -> None:
        patient = SimulatedPatient(5, script=SCRIPT)
        played = list(patient.chunks(patient.stream("demo", "simulator"), chunk_s=1.0))
        wanted = expected(played)
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            listening(broker.port) as nurse,
            MqttConnection("127.0.0.1", broker.port, "sensor") as sensor,
            AgentProcess(tmp_path, broker.port, mqtt=webhook(receiver, tmp_path)) as agent,
        ):
            await nurse.until(lambda n: bool(n.statuses), "the agent's status")
            receiver.answers_after = threading.Event()
            await publish_chunks(sensor, played, speed=None)
            await nurse.until(heard_all(wanted), "all alerts, while the webhook is held up")
            await until(lambda: len(receiver.asked) == 1)
            await agent.kill()
            receiver.answers_after.set()
            await until(lambda: len(receiver.taken) == 1)  # it was taken, and nobody is left to be told
            await agent.start()
            first = receiver.taken[0]["id"]
            await until(lambda: [event["id"] for event in receiver.taken].count(first) == 2)  # as the same, again
            await until(lambda: set(wanted) <= set(transitions(receiver.taken)))
        assert receiver.unsigned == []
        times = Counter(event["id"] for event in receiver.taken)
        assert [count for count in times.values() if count > 1] == [2], "no other one came twice"
        for alert_id in {alert_id for alert_id, _ in wanted}:
            phases = list(dict.fromkeys(phase for known, phase in transitions(receiver.taken) if known == alert_id))
            assert phases == [phase for known, phase in wanted if known == alert_id]

    with receiving() as receiver:
        run(scenario(receiver))


def test_a_receiver_that_hangs_does_not_hold_up_an_orderly_stop(run: Run, tmp_path: Path) -> None:
    async def scenario(receiver: Receiver) -> None:
        receiver.answers_after = threading.Event()
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            AgentProcess(tmp_path, broker.port, time="wall", mqtt=webhook(receiver, tmp_path)) as agent,
        ):
            await until(lambda: len(receiver.asked) == 1)  # nothing comes of the stream, which is an alarm
            assert await agent.stop() == 0
            assert receiver.taken == [], "it still hangs"
            receiver.answers_after.set()
            assert "Traceback" not in agent.log

    with receiving() as receiver:
        run(scenario(receiver))


def test_a_webhook_in_trouble_is_an_alarm_on_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        text = (
            '[agent]\nid = "home"\nstate_dir = "state"\n[[patient]]\nid = "anna"\n[[patient.source]]\ntype = "mqtt"\n'
        )
        text += 'device = "patch"\nchannel = "ecg"\nkind = "ecg"\nrate_hz = 250\n' + webhook(receiver, tmp_path)
        supervisor = Supervisor(whole(parse_config(text, tmp_path / "agent.toml", {})))
        hook = supervisor._webhook
        assert hook is not None
        assert ("home", "webhook") not in supervisor._what_stands()
        monkeypatch.setattr(hook, "trouble", lambda: "The webhook does not get all alerts")
        assert supervisor._what_stands()["home", "webhook"] == "The webhook does not get all alerts"
        supervisor._worker.stand(supervisor._what_stands(), 1)
        assert any(b"webhook" in row.message.payload for row in supervisor._worker.outbox.pending())
        supervisor._worker.outbox.close()
        assert supervisor._worker.history is not None
        supervisor._worker.history.close()


def test_a_drill_sounds_everywhere_and_says_everywhere_that_it_is_one(run: Run, tmp_path: Path) -> None:
    async def scenario(receiver: Receiver) -> None:
        switched: list[str] = []

        async def watch(connection: MqttConnection) -> None:
            await connection.subscribe("vagus/v1/ward/summary/demo")
            async for message in connection.messages():
                said = json.loads(message.payload)
                switched.append(said["families"]["urgent"])
                assert all(alarm["drill"] for alarm in said["alarms"] if alarm["priority"] == "high")
                connection.ack(message)

        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            MqttConnection("127.0.0.1", broker.port, "light") as light,
            AgentProcess(tmp_path, broker.port, time="wall", mqtt=webhook(receiver, tmp_path)),
        ):
            watching = asyncio.create_task(watch(light))
            await until(lambda: bool(switched))
            config = str(tmp_path / "agent.toml")
            drill = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent.cli", "drill", config, "--seconds", "1", stdout=asyncio.subprocess.DEVNULL
            )
            assert await drill.wait() == 0
            await until(
                lambda: [e["data"]["phase"] for e in receiver.taken if e["data"].get("drill")] == ["start", "end"]
            )
            await until(lambda: "on" in switched and switched[-1] != "on")
            assert not watching.done(), "it found a real alarm"
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    with receiving() as receiver:
        run(scenario(receiver))
