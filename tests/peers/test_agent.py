"""The whole way on a real broker: a sensor publishes, the real agent runs as its own process, a subscriber listens.

What must come is what the engine says of the same signal in this process; nothing more, nothing less, however often
the agent or the broker is killed on the way.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pytest

from agent.broker import LocalBroker
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.replay import record_chunks
from agent.ingest.sensor import publish_chunks
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.ingest.wfdb import read_header
from agent.mqtt import MqttConnection
from agent.patient import Person
from agent.replay import ecg_of
from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import AlertMessage, parse_event
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import Chunk, Stream

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]
Transition = tuple[str, str]

CONFIG = """
[agent]
id = "ward"
state_dir = "{state}"
time = "{time}"
mains_hz = 0
[mqtt]
host = "127.0.0.1"
port = {port}
{mqtt}
[[patient]]
id = "demo"
[[patient.source]]
type = "mqtt"
device = "simulator"
channel = "ecg"
kind = "ecg"
rate_hz = {rate_hz}
channels = {channels}
"""


SIMULATED = SimulatedPatient(0, script=DEMO_SCRIPT[:1]).stream("demo", "simulator")


class AgentProcess:
    """`vagus run` as its own process, which does not outlive the `async with` block; its log goes to a file."""

    def __init__(
        self, folder: Path, port: int, *, time: str = "stream", mqtt: str = "", stream: Stream = SIMULATED
    ) -> None:
        self.folder = folder
        self._config = folder / "agent.toml"
        self._config.write_text(
            CONFIG.format(
                state=folder / "state",
                port=port,
                time=time,
                mqtt=mqtt,
                rate_hz=stream.rate_hz,
                channels=json.dumps(stream.channels),
            )
        )
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def start(self) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent.cli", "run", str(self._config), stderr=log
            )

    async def kill(self) -> None:
        """SIGKILL: no last words, no flushing."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        return await self._process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()


class Subscriber:
    """A nurse's station with a lasting session: it hears everything at least once."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self.alerts: list[AlertMessage] = []
        self.statuses: list[dict[str, Any]] = []
        self.retained: dict[str, bytes] = {}

    async def listen(self) -> None:
        await self._connection.subscribe("vagus/v1/ward/#")
        async for message in self._connection.messages():
            kind = message.topic.split("/")[3]
            if kind == "event":
                self.alerts.append(parse_event(message.payload))
            elif kind == "alarm":
                self.retained[message.topic] = message.payload
            elif kind == "status":
                self.statuses.append(json.loads(message.payload))
            self._connection.ack(message)

    def transitions(self) -> list[Transition]:
        """(alert id, phase) of what the signal led to, without the news about restarts."""
        return [
            (alert.data.alert_id, alert.data.phase.value)
            for alert in self.alerts
            if alert.data.rule != "agent_restarted" and alert.data.phase.value in {"start", "end"}
        ]

    async def until(self, condition: Callable[[Subscriber], bool], what: str) -> None:
        try:
            async with asyncio.timeout(90):
                while not condition(self):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"waited in vain for {what}; heard {self.transitions()} and {self.statuses[-1:]}")


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[Subscriber]:
    async with MqttConnection("127.0.0.1", port, "nurse", session_expiry_s=3600) as connection:
        subscriber = Subscriber(connection)
        task = asyncio.create_task(subscriber.listen())
        await connection.wait_connected()
        await asyncio.sleep(0.1)
        yield subscriber
        task.cancel()


class Ward(NamedTuple):
    """Everybody there is."""

    broker: LocalBroker
    agent: AgentProcess
    nurse: Subscriber
    sensor: MqttConnection


@asynccontextmanager
async def ward(
    folder: Path, *, acl_file: Path | None = None, time: str = "stream", stream: Stream = SIMULATED
) -> AsyncIterator[Ward]:
    """A broker, a nurse who listens, a sensor, and an agent that has said that it watches."""
    async with (
        LocalBroker(persistence_dir=folder, acl_file=acl_file) as broker,
        listening(broker.port) as nurse,
        MqttConnection("127.0.0.1", broker.port, "sensor") as sensor,
        AgentProcess(folder, broker.port, time=time, stream=stream) as agent,
    ):
        await nurse.until(lambda n: bool(n.statuses), "the agent's status")
        yield Ward(broker, agent, nurse, sensor)


def expected(chunks: Sequence[Chunk]) -> list[Transition]:
    """What the engine, uninterrupted, makes of the signal."""
    stream = chunks[0].stream
    engine = Engine([Person(stream.patient, (stream,))], shipped_models())
    return [(e.alert_id, e.phase.value) for chunk in chunks for e in engine.step([chunk])]


def demo_signal(seed: int = 7, rounds: int = 1) -> list[Chunk]:
    patient = SimulatedPatient(seed, script=DEMO_SCRIPT * rounds)
    return list(patient.chunks(patient.stream("demo", "simulator"), chunk_s=0.5))


def heard_all(wanted: Sequence[Transition]) -> Callable[[Subscriber], bool]:
    return lambda subscriber: set(wanted) <= set(subscriber.transitions())


def test_what_the_engine_decides_arrives_once_and_in_order(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        wanted = expected(played)
        async with ward(tmp_path) as (_, agent, nurse, sensor):
            await publish_chunks(sensor, played, speed=None)
            await nurse.until(heard_all(wanted), "all alerts")
            assert sorted(nurse.transitions()) == sorted(wanted)
            for alert_id in {alert_id for alert_id, _ in wanted}:
                phases = [phase for known, phase in nurse.transitions() if known == alert_id]
                assert phases == [phase for known, phase in wanted if known == alert_id]
            assert await agent.stop() == 0
            await nurse.until(lambda n: n.statuses[-1]["state"] == "offline", "the goodbye")
            assert nurse.statuses[-1]["reasons"] == ["stopped on request"]

    run(scenario())


@pytest.mark.recordings
def test_record_208_on_the_whole_way_raises_what_must_come(
    run: Run, tmp_path: Path, recordings_dir: Callable[[str], Path]
) -> None:
    async def scenario() -> None:
        path = recordings_dir("mitdb") / "208"
        record = ecg_of(read_header(path), "demo", device="simulator")
        record = replace(record, stream=replace(record.stream, channel="ecg"))
        played = list(record_chunks(path, record, stop_s=600.0))
        wanted = expected(played)
        async with ward(tmp_path, stream=record.stream) as (_, _, nurse, sensor):
            await publish_chunks(sensor, played, speed=None)
            await nurse.until(heard_all(wanted), "all alerts")
            assert sorted(nurse.transitions()) == sorted(wanted)
            (burden,) = [alert.data for alert in nurse.alerts if alert.data.rule == "pvc_burden"]
            assert burden.evidence is not None
            assert {beat.label for beat in burden.evidence.beats} >= {"N", "V"}
            assert burden.evidence.packs[0].id == "beat"
            strip = burden.evidence.strip
            whole = np.concatenate([chunk.samples for chunk in played])
            first = round((parse_rfc3339_ns(strip.t0) - played[0].t0_ns) * record.stream.rate_hz / 1e9)
            assert np.array_equal(strip.array()[:, 0], whole[first : first + len(strip.array()), 0])

    run(scenario())


def test_fifty_kills_lose_nothing_and_invent_nothing(tmp_path: Path) -> None:
    kills = 50
    dice = random.Random(20)

    async def scenario() -> None:
        played = demo_signal(rounds=12)
        wanted = expected(played)
        async with ward(tmp_path) as (_, agent, nurse, sensor):
            duration_s = (played[-1].end_ns - played[0].t0_ns) / 1e9
            playing = asyncio.create_task(publish_chunks(sensor, played, speed=duration_s / (kills * 1.2)))
            for _ in range(kills):
                await asyncio.sleep(dice.uniform(0.2, 2.0))
                await agent.kill()
                await agent.start()
            await playing
            await nurse.until(heard_all(wanted), "all alerts")
            assert set(nurse.transitions()) == set(wanted)

    asyncio.run(asyncio.wait_for(scenario(), 280))


def test_a_broker_that_dies_and_comes_back_costs_nothing(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal(rounds=3)
        wanted = expected(played)
        async with ward(tmp_path) as (broker, agent, nurse, sensor):
            playing = asyncio.create_task(publish_chunks(sensor, played, speed=20.0))
            for pause_s in (0.0, 3.0):
                await asyncio.sleep(2.5)
                await broker.kill()
                await asyncio.sleep(pause_s)
                await broker.start()
            await playing
            await nurse.until(heard_all(wanted), "all alerts")
            assert set(nurse.transitions()) == set(wanted)
            assert "nothing is listening" in agent.log

    run(scenario())


def test_when_the_agent_vanishes_the_broker_says_so(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path) as (_, agent, nurse, _):
            await agent.kill()
            await nurse.until(lambda n: n.statuses[-1]["state"] == "offline", "the last will")

    run(scenario())


def test_a_silent_sensor_is_an_alarm_by_the_wall_clock(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, time="wall") as (_, _, nurse, _):
            await nurse.until(lambda n: bool(n.alerts), "the alarm about a sensor that never came")
            alert = nurse.alerts[0].data
            assert alert.rule == "stream_silent:simulator/ecg"
            assert not alert.late

    run(scenario())


def test_garbage_on_a_topic_is_dropped_and_the_stream_goes_on(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        wanted = expected(played)
        dice = random.Random(4)
        topic = input_topic("simulator", "ecg")
        hostile = [
            (b"", None),
            (b"\xff" * 2000, "application/cbor"),
            (b'{"t0": 1, "samples": [NaN]}', "application/json"),
            (b'{"t0": "yesterday", "rate": 1e300, "samples": [[1]]}', "application/json"),
            (b"[" * 50_000, "application/json"),
            (b"\x9f" * 10_000, "application/cbor"),
            *(
                (dice.randbytes(dice.randrange(1, 400)), dice.choice([None, "text/plain", "application/cbor"]))
                for _ in range(60)
            ),
        ]
        async with ward(tmp_path) as (_, agent, nurse, sensor):
            attack = itertools.cycle(hostile)
            for chunk in played:
                payload, content_type = next(attack)
                await sensor.publish(topic, payload, content_type=content_type)
                await publish_chunks(sensor, [chunk], speed=None)
            await nurse.until(heard_all(wanted), "all alerts")
            await nurse.until(lambda n: any("rejected" in key for key in n.statuses[-1]["counters"]), "the count")
            assert set(nurse.transitions()) == set(wanted)
            assert "dropped" in agent.log

    run(scenario())


def test_a_refused_password_is_said_in_words(run: Run, tmp_path: Path, password_file: Path) -> None:
    async def scenario() -> None:
        secret = tmp_path / "secret"
        secret.write_text("wrong\n")
        mqtt = f'username = "agent1"\npassword_file = "{secret}"'
        async with (
            LocalBroker(password_file=password_file) as broker,
            AgentProcess(tmp_path, broker.port, mqtt=mqtt) as agent,
        ):
            async with asyncio.timeout(20):
                while "password" not in agent.log:
                    await asyncio.sleep(0.05)
            assert await agent.stop() == 0

    run(scenario())


def test_a_stopped_agent_resumes_where_it_was(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        wanted = expected(played)
        half = len(played) // 2
        async with ward(tmp_path) as (_, agent, nurse, sensor):
            await publish_chunks(sensor, played[:half], speed=None)
            await asyncio.sleep(0.5)
            assert await agent.stop() == 0
            before = len(nurse.statuses)
            await agent.start()
            await nurse.until(lambda n: len(n.statuses) > before, "the agent's status")
            await publish_chunks(sensor, played[half:], speed=None)
            await nurse.until(heard_all(wanted), "all alerts")
            assert sorted(set(nurse.transitions())) == sorted(wanted)
            assert any(alert.data.rule == "agent_restarted" for alert in nurse.alerts)

    run(scenario())


def test_a_pack_that_is_passed_over_is_an_alarm_on_the_agent_until_it_is_mended(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        installed = tmp_path / "state" / "packs"
        installed.mkdir(parents=True)
        (installed / "beat").symlink_to("versions/gone/beat")
        async with ward(tmp_path) as (_, agent, nurse, _):
            await nurse.until(lambda n: any(n.retained.values()), "the alarm")
            alarms = [alert.data for alert in nurse.alerts if alert.data.rule == "model_runtime:beat"]
            assert [(alarm.phase, alarm.patient, alarm.category) for alarm in alarms] == [
                ("start", "ward", "technical")
            ]
            assert "no such folder" in alarms[0].text
            assert nurse.statuses[-1]["state"] == "degraded"
            (beat,) = [pack for pack in nurse.statuses[-1]["packs"] if pack["id"] == "beat"]
            assert (beat["runtime"], beat["origin"], beat["fault"]) == ("cpu", "shipped", "")
            assert "no such folder" in beat["refused"][0]

            assert await agent.stop() == 0
            await agent.start()
            await nurse.until(lambda n: n.alerts[-1].data.phase == "continue", "the alarm again")
            assert await agent.stop() == 0
            (installed / "beat").unlink()
            await agent.start()
            await nurse.until(lambda n: n.alerts[-1].data.phase == "end", "the end of the alarm")
            assert len({alert.data.alert_id for alert in nurse.alerts}) == 1
            await nurse.until(lambda n: not any(n.retained.values()), "the alarm to be gone")
            await nurse.until(lambda n: n.statuses[-1]["state"] == "online", "an agent that is well")

    run(scenario())


def test_a_denied_topic_is_said_in_status_and_its_alerts_wait_for_a_better_day(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        wanted = expected(played)
        acl = tmp_path / "acl"
        acl.write_text("topic readwrite vagus/v1/#\ntopic deny vagus/v1/ward/event/demo\n")
        acl.chmod(0o600)
        async with ward(tmp_path, acl_file=acl) as (broker, _, nurse, sensor):
            await publish_chunks(sensor, played, speed=None)
            await nurse.until(
                lambda n: any("event/demo" in reason for reason in n.statuses[-1]["reasons"]), "the reason in words"
            )
            assert nurse.statuses[-1]["state"] == "degraded"
            acl.write_text("topic readwrite vagus/v1/#\n")
            await broker.restart()
            await nurse.until(heard_all(wanted), "all alerts")

    run(scenario())
