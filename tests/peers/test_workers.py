"""An agent in several processes on a real broker: what it says is what one process says, whoever of them is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from test_agent import AgentProcess, Subscriber, Transition, listening

from agent.broker import LocalBroker
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.sensor import publish_chunks
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.mqtt import MqttConnection
from agent.patient import Person
from agent.workers.shares import Layout
from firmware_bridge.chunk import Chunk

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

BEDS = ("anna", "bert", "cleo", "dora")
HEAD = """
[agent]
id = "ward"
state_dir = "{state}"
time = "{time}"
mains_hz = 0
workers = {workers}
[mqtt]
host = "127.0.0.1"
port = {port}
"""
KILLS = int(os.environ.get("VAGUS_WORKER_KILLS", "2"))
"""More by hand; a fifth death within five minutes is answered by a pause of five."""
BED = """
[[patient]]
id = "{bed}"
[[patient.source]]
type = "mqtt"
device = "of-{bed}"
channel = "ecg"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""


class WardProcess(AgentProcess):
    """`vagus run` with several beds and workers."""

    def __init__(self, folder: Path, port: int, workers: int, time: str = "stream") -> None:
        super().__init__(folder, port)
        self.port, self.time = port, time
        self.share_out(workers)

    def share_out(self, workers: int) -> None:
        """Write the config anew: it counts from the next start."""
        head = HEAD.format(state=self.folder / "state", port=self.port, workers=workers, time=self.time)
        (self.folder / "agent.toml").write_text(head + "".join(BED.format(bed=bed) for bed in BEDS))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def worker_pids(self) -> list[int]:
        """Its children, by worker."""
        found = {}
        for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            folders = {
                link.readlink().parent.name
                for link in Path(f"/proc/{pid}/fd").iterdir()
                if link.exists() and link.readlink().name == "outbox.sqlite"
            }
            found |= dict.fromkeys(folders, int(pid))
        return [found[name] for name in sorted(found)]


class Ward(NamedTuple):
    agent: WardProcess
    nurse: Subscriber
    sensors: dict[str, MqttConnection]
    broker: LocalBroker


def is_online(workers: int) -> Callable[[Subscriber], bool]:
    def all_run(nurse: Subscriber) -> bool:
        if not nurse.statuses or nurse.statuses[-1]["state"] != "online":
            return False
        return [one["state"] for one in nurse.statuses[-1]["workers"]] == ["running"] * (workers if workers > 1 else 0)

    return all_run


@asynccontextmanager
async def ward(folder: Path, workers: int, time: str = "stream") -> AsyncIterator[Ward]:
    async with (
        LocalBroker(persistence_dir=folder) as broker,
        listening(broker.port) as nurse,
        WardProcess(folder, broker.port, workers, time) as agent,
    ):
        sensors = {bed: MqttConnection("127.0.0.1", broker.port, f"sensor-{bed}") for bed in BEDS}
        for sensor in sensors.values():
            await sensor.__aenter__()
        await nurse.until(is_online(workers), "all workers")
        yield Ward(agent, nurse, sensors, broker)
        for sensor in sensors.values():
            await sensor.__aexit__(None, None, None)


def signals(rounds: int = 1) -> dict[str, list[Chunk]]:
    played = {}
    for seed, bed in enumerate(BEDS):
        patient = SimulatedPatient(seed, script=DEMO_SCRIPT * rounds)
        played[bed] = list(patient.chunks(patient.stream(bed, f"of-{bed}"), chunk_s=0.5))
    return played


def expected(played: dict[str, list[Chunk]]) -> list[Transition]:
    """What one engine makes of all of them."""
    models = shipped_models()
    wanted = []
    for bed, chunks in played.items():
        engine = Engine([Person(bed, (chunks[0].stream,))], models)
        wanted += [(event.alert_id, event.phase.value) for chunk in chunks for event in engine.step([chunk])]
    return wanted


async def play(ward: Ward, played: dict[str, list[Chunk]], speed: float | None = None) -> None:
    await asyncio.gather(*(publish_chunks(ward.sensors[bed], chunks, speed=speed) for bed, chunks in played.items()))


def heard(wanted: Sequence[Transition]) -> Callable[[Subscriber], bool]:
    return lambda nurse: set(wanted) <= set(of_beds(nurse))


def of_beds(nurse: Subscriber) -> list[Transition]:
    return [
        (alert.data.alert_id, alert.data.phase.value)
        for alert in nurse.alerts
        if alert.data.patient in BEDS
        and alert.data.rule != "agent_restarted"
        and alert.data.phase.value in {"start", "end"}
    ]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_three_workers_say_what_one_process_says_each_thing_once(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = signals()
        wanted = expected(played)
        assert {Layout(3).owner(bed) for bed in BEDS} == {0, 1, 2}
        async with ward(tmp_path, 3) as there:
            await play(there, played)
            await there.nurse.until(heard(wanted), "all alerts")
            assert sorted(of_beds(there.nurse)) == sorted(wanted)
            for worker in range(3):
                numbers = [alert.data.seq for alert in there.nurse.alerts if alert.data.worker == worker]
                assert sorted(numbers) == list(range(1, len(numbers) + 1))
            await there.nurse.until(
                lambda nurse: [s["state"] for s in nurse.statuses[-1]["streams"]] == ["ok"] * len(BEDS), "their data"
            )
            assert {stream["patient"] for stream in there.nurse.statuses[-1]["streams"]} == set(BEDS)
            assert await there.agent.stop() == 0
            await there.nurse.until(lambda n: n.statuses[-1]["state"] == "offline", "the goodbye")
            assert there.nurse.statuses[-1]["reasons"] == ["stopped on request"]

    run(scenario())


def test_a_worker_killed_at_any_instant_loses_nothing_and_the_others_do_not_notice(run: Run, tmp_path: Path) -> None:
    kills, dice = KILLS, random.Random(11)

    async def scenario() -> None:
        played = signals(rounds=max(2, KILLS))
        wanted = expected(played)
        async with ward(tmp_path, 2) as there:
            (victim, other) = there.agent.worker_pids()
            playing = asyncio.create_task(play(there, played, speed=12.0))
            for kill in range(1, kills + 1):
                await asyncio.sleep(dice.uniform(0.2, 1.5))
                os.kill(victim, signal.SIGKILL)
                await there.nurse.until(lambda n: bool(n.statuses[-1]["workers"][0]["detail"]), "that it is down")
                down = there.nurse.statuses[-1]
                mine = [bed for bed in BEDS if Layout(2).owner(bed) == 0]
                assert down["state"] == "degraded"
                assert all(bed in down["reasons"][0] for bed in mine)
                assert {one["patient"] for one in down["streams"] if one["state"] == "silent"} >= set(mine)
                await there.nurse.until(
                    lambda n, kill=kill: is_online(2)(n) and n.statuses[-1]["workers"][0]["deaths"] == kill,
                    "its return",
                )
                victim = there.agent.worker_pids()[0]
            await playing
            await there.nurse.until(heard(wanted), "all alerts")
            assert set(of_beds(there.nurse)) == set(wanted)
            others = {bed for bed in BEDS if Layout(2).owner(bed) == 1}
            theirs = set(expected({bed: played[bed] for bed in others}))
            once = [transition for transition in of_beds(there.nurse) if transition in theirs]
            assert len(once) == len(theirs)
            restarted = {a.data.patient for a in there.nurse.alerts if a.data.rule == "agent_restarted"}
            assert not restarted & others
            assert there.agent.worker_pids()[1] == other
            assert "offline" not in {status["state"] for status in there.nurse.statuses}
            phases = [a.data.phase.value for a in there.nurse.alerts if a.data.rule == "worker_down:0"]
            assert (phases.count("start"), phases.count("end")) == (kills, kills)

    run(scenario())


def test_the_patients_are_shared_out_anew_without_losing_what_was_sent_meanwhile(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = signals(rounds=2)
        wanted = expected(played)
        runs = (1, 3, 1)
        parts = len(runs) + 1
        async with ward(tmp_path, 1) as there:
            for part, workers in enumerate(runs):
                some = {bed: cut(chunks, part, parts) for bed, chunks in played.items()}
                await play(there, some)
                if part + 1 < len(runs):
                    await there.agent.stop()
                    await there.nurse.until(lambda n: n.statuses[-1]["state"] == "offline", "the goodbye")
                    later = {bed: cut(chunks, part + 1, parts)[:20] for bed, chunks in played.items()}
                    await play(there, later)  # while nobody is there to hear it: the broker keeps it
                    following = runs[part + 1]
                    there.agent.share_out(following)
                    await there.agent.start()
                    await there.nurse.until(is_online(following), f"{following} after {workers}")
            await play(there, {bed: cut(chunks, parts - 1, parts) for bed, chunks in played.items()})
            await there.nurse.until(heard(wanted), "all alerts")
            assert set(of_beds(there.nurse)) == set(wanted)
            await there.agent.stop()
            for folder in (tmp_path / "state").glob("worker-*"):
                db = sqlite3.connect(folder / "outbox.sqlite")
                assert db.execute("SELECT COUNT(*) FROM snapshot").fetchone() == (0,)
                assert db.execute("SELECT COUNT(*) FROM journal").fetchone() == (0,)
                db.close()
            history = sqlite3.connect(tmp_path / "state" / "history.sqlite")
            kept = {
                name
                for (name,) in history.execute("SELECT DISTINCT alert_id FROM alarm WHERE rule != 'agent_restarted'")
            }
            history.close()
            assert kept >= {alert_id for alert_id, _ in wanted}

    run(scenario())


def cut(chunks: list[Chunk], part: int, parts: int) -> list[Chunk]:
    size = -(-len(chunks) // parts)
    return chunks[part * size : (part + 1) * size]


def test_workers_stop_when_their_parent_is_killed_and_the_next_start_goes_on(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = signals()
        wanted = expected(played)
        halves = [{bed: cut(chunks, half, 2) for bed, chunks in played.items()} for half in (0, 1)]
        async with ward(tmp_path, 2) as there:
            await play(there, halves[0])
            pids = there.agent.worker_pids()
            await there.agent.kill()
            await there.nurse.until(lambda n: n.statuses[-1]["state"] == "offline", "the last will")
            await there.agent.start()
            await play(there, halves[1])
            await there.nurse.until(is_online(2), "its return")
            await there.nurse.until(heard(wanted), "all alerts")
            assert set(of_beds(there.nurse)) == set(wanted)
            await there.nurse.until(lambda _: all(is_gone(pid) for pid in pids), "the end of the orphans")

    run(scenario())


def test_a_command_reaches_whose_alarm_it_is_and_is_answered_once(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, 2, time="wall") as there:
            phone = there.sensors["anna"]
            answers: list[dict[str, Any]] = []
            await phone.subscribe("answers/me")

            async def hear() -> None:
                async for message in phone.messages():
                    answers.append(json.loads(message.payload))
                    phone.ack(message)

            hearing = asyncio.create_task(hear())
            first, second = (next(bed for bed in BEDS if Layout(2).owner(bed) == k) for k in (0, 1))
            asked = [
                (first, "pause", {"rule": "pause", "minutes": 5}, True),
                (second, "pause", {"rule": "pause", "minutes": 5}, True),
                (second, "ack", {"alert_id": "none-such"}, False),
                ("nobody", "ack", {"alert_id": "none-such"}, False),
                ("ward", "ack", {"alert_id": "none-such"}, False),
            ]
            for n, (patient, name, more, accepted) in enumerate(asked, 1):
                await command(there.broker.port, name, {"patient": patient, "by": "nurse-3", **more})
                await there.nurse.until(lambda _, n=n: len(answers) >= n, f"an answer about {patient}")
                assert answers[-1]["accepted"] is accepted, answers
            paused = {first, second}
            await there.nurse.until(
                lambda nurse: {pause["patient"] for pause in nurse.statuses[-1]["pauses"]} == paused, "both pauses"
            )
            assert len(answers) == len(asked)
            hearing.cancel()

    run(scenario())


async def command(port: int, name: str, body: dict[str, object]) -> None:
    """Ask, with a topic for the answer: only paho itself can say it."""
    import paho.mqtt.client as paho

    def publish() -> None:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect("127.0.0.1", port)
        client.loop_start()
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = "answers/me"
        client.publish(f"vagus/v1/ward/cmd/{name}", json.dumps(body), qos=1, properties=properties).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()

    await asyncio.to_thread(publish)


def test_one_process_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, 1) as there:
            children = Path(f"/proc/{there.agent.pid}/task/{there.agent.pid}/children").read_text()
            assert children.split() == []
            assert there.nurse.statuses[-1]["workers"] == []
            assert not (tmp_path / "state" / "workers.json").exists()

    run(scenario())


def test_without_a_broker_the_patients_stay_where_they_are(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, 1) as there:
            await there.agent.stop()
            await there.broker.kill()
            there.agent.share_out(2)
            await there.agent.start()
            until_s = time.monotonic() + 60
            while "still one process" not in there.agent.log and time.monotonic() < until_s:
                await asyncio.sleep(0.1)
            await there.broker.start()
            await there.nurse.until(
                lambda nurse: any("still one process" in reason for reason in nurse.statuses[-1]["reasons"]),
                "the reason",
            )
            assert there.nurse.statuses[-1]["workers"] == []

    run(scenario())
