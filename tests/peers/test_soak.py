"""A day of a small ward in minutes: the agent's process neither grows nor keeps descriptors, and hears all of it.

Six minutes of it run always; `make test-soak` runs a day, and VAGUS_SOAK_H says how many hours otherwise. The agent's
time is that of the data, which comes as fast as it is acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from agent.bench.live import rss_mb
from agent.broker import LocalBroker
from agent.ingest.replay import EPOCH_NS
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.mqtt import MqttConnection
from agent.uplink.messages import parse_event
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import NS_PER_S, Chunk, Samples, Stream
from firmware_bridge.codecs import cbor_chunk

pytestmark = pytest.mark.broker
HOURS = float(os.environ.get("VAGUS_SOAK_H", "0.1"))
SETTLED = 0.25
"""After this share of the time all that is kept for a while has reached its size."""
PATIENTS = 5
UNDER_WAY = 64
LOOKS = 48
GROWTH_MB = 8.0 if HOURS >= 4 else 20.0
"""In the first hours the heap finds its size."""
ROOM_MB = 20
"""For the recorder, which has to throw away the oldest hours then."""
LOST = 0.002
"""A chunk in five hundred never comes, and then a handful with it."""


def streams_of(k: int) -> list[Stream]:
    """The first two have two leads, the third a pulse wave, the fourth a glucose sensor."""
    leads = ("II", "V") if k < 2 else ("II",)
    streams = [Stream(f"p{k}", f"d{k}", "ecg", kind="ecg", unit="mV", rate_hz=250.0, channels=leads)]
    if k == 2:
        streams.append(Stream(f"p{k}", f"d{k}", "ppg", kind="ppg", unit="1", rate_hz=100.0))
    if k == 3:
        streams.append(Stream(f"p{k}", f"d{k}", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0))
    return streams


def config(folder: Path, port: int) -> str:
    """As a user would write it."""
    lines = ["[agent]", 'id = "ward"', f'state_dir = "{folder / "state"}"', 'time = "stream"', "mains_hz = 0"]
    lines += ["[mqtt]", 'host = "127.0.0.1"', f"port = {port}", "[recorder]", f"max_mb = {ROOM_MB}"]
    for k in range(PATIENTS):
        lines += ["[[patient]]", f'id = "p{k}"']
        for one in streams_of(k):
            lines += ["[[patient.source]]", 'type = "mqtt"', f'device = "{one.device}"', f'channel = "{one.channel}"']
            lines += [f'kind = "{one.kind}"']
            lines += [f"rate_hz = {one.rate_hz}"] if one.rate_hz else [f"interval_s = {one.interval_s}"]
            if one.kind == "ecg":
                lines += [f"channels = {list(one.channels)}".replace("'", '"')]
    return "\n".join(lines) + "\n"


def played(k: int) -> Iterator[Samples | None]:
    """Seconds of the ECG without end; None while nothing is sent."""
    heart = SimulatedPatient(k, script=DEMO_SCRIPT)
    seconds: list[Samples | None] = []
    for at in range(0, len(heart.samples) - 249, 250):
        one = heart.samples[at : at + 250]
        both = np.concatenate((one, -0.6 * one), axis=1) if k < 2 else one
        seconds.append(both if heart.present[at : at + 250].all() else None)
    return cycle(seconds)


def ward(seconds: int) -> Iterator[Chunk]:
    """All that the sensors send, second by second."""
    chance = random.Random(4)
    hearts = [played(k) for k in range(PATIENTS)]
    away = [0] * PATIENTS
    t = np.arange(100) / 100.0
    wave = np.exp(-0.5 * ((t - 0.5) / 0.08) ** 2).astype(np.float32)[:, np.newaxis]
    for second in range(seconds):
        t0_ns = EPOCH_NS + second * NS_PER_S
        for k in range(PATIENTS):
            samples = next(hearts[k])
            away[k] = max(0, away[k] - 1) or (chance.randint(1, 90) if chance.random() < LOST else 0)
            for stream in streams_of(k):
                if stream.kind == "cgm" and second % 300 == 0:
                    mg_dl = 110.0 + 60.0 * np.sin(second / 7000)
                    yield Chunk(stream, t0_ns, np.array([[mg_dl]], np.float32), second // 300)
                elif stream.kind == "ppg" and not away[k]:
                    yield Chunk(stream, t0_ns, wave, second)
                elif stream.kind == "ecg" and not away[k] and samples is not None:
                    yield Chunk(stream, t0_ns, np.ascontiguousarray(samples, np.float32), second)


class Nurse:
    """Counts what comes."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self.online = asyncio.Event()
        self.heard: Counter[str] = Counter()
        self.ids: set[str] = set()

    async def listen(self) -> None:
        await self._connection.subscribe("vagus/v1/ward/#")
        async for message in self._connection.messages():
            kind = message.topic.split("/")[3]
            if kind == "status" and b'"online"' in message.payload:
                self.online.set()
            elif kind == "event":
                event = parse_event(message.payload)
                self.heard[event.data.rule] += 1
                self.ids.add(event.id)
            self._connection.ack(message)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.timeout(7200)
def test_a_day_of_a_ward(tmp_path: Path) -> None:
    began_s = time.monotonic()
    seconds = round(HOURS * 3600)

    async def scenario() -> None:
        path = tmp_path / "agent.toml"
        async with (
            LocalBroker() as broker,
            MqttConnection("127.0.0.1", broker.port, "nurse", clean_start=True) as station,
            MqttConnection("127.0.0.1", broker.port, "sensors", clean_start=True) as sensors,
        ):
            path.write_text(config(tmp_path, broker.port))
            nurse = Nurse(station)
            listening = asyncio.create_task(nurse.listen())
            with (tmp_path / "log").open("wb") as log:
                agent = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "agent.cli", "run", str(path), stderr=log
                )
            try:
                await asyncio.wait_for(nurse.online.wait(), 60)
                looked: list[tuple[float, int]] = []
                due = deque(seconds * (n + 1) / LOOKS for n in range(LOOKS))
                under_way: deque[asyncio.Future[object]] = deque()
                for chunk in ward(seconds):
                    topic = input_topic(chunk.stream.device, chunk.stream.channel)
                    sent = sensors.publish_nowait(topic, cbor_chunk.encode(chunk), content_type="application/cbor")
                    under_way.append(sent)
                    if len(under_way) >= UNDER_WAY:
                        await under_way.popleft()
                    if due and (chunk.t0_ns - EPOCH_NS) / NS_PER_S >= due[0] - 1:
                        due.popleft()
                        looked.append((rss_mb(agent.pid), descriptors(agent.pid)))
                await asyncio.gather(*under_way)
                agent.terminate()
                assert await agent.wait() == 0
            finally:
                if agent.returncode is None:
                    agent.kill()
                listening.cancel()
        memory, held = (list(column) for column in zip(*looked, strict=True))
        first = round(SETTLED * LOOKS)
        print(  # noqa: T201 - the figures are what it is run for
            f"\n{HOURS:.2f} h of {PATIENTS} people in {time.monotonic() - began_s:.0f} s: {nurse.heard.total()} "
            f"events, memory {memory[0]:.0f}, {memory[first]:.0f}, {memory[-1]:.0f} MB at first, settled, at last, "
            f"most {max(memory):.0f}; descriptors {held[0]} to {max(held)}"
        )
        assert nurse.heard["ventricular_tachycardia"] > 10 * HOURS * PATIENTS
        assert len(nurse.ids) == nurse.heard.total()
        assert max(memory[first:]) - memory[first] < GROWTH_MB
        assert max(held) <= held[0] + 3

    asyncio.run(asyncio.wait_for(scenario(), 7000))
