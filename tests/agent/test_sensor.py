"""A sensor made of software keeps its word at QoS 1: what it publishes arrives, also across a broker's restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.broker import LocalBroker, find_mosquitto
from agent.ingest.sensor import publish_chunks, publish_record
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import Message, MqttConnection
from agent.uplink.topics import INPUT_FILTER
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk

pytestmark = [pytest.mark.broker, pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto")]

PATIENT = SimulatedPatient(1, script=[Episode(Rhythm.SINUS, 20.0)])


async def collect(connection: MqttConnection, heard: list[Message], wanted: int) -> None:
    """Listen until `wanted` different payloads have come: at QoS 1 one may come twice."""
    async for message in connection.messages():
        heard.append(message)
        connection.ack(message)
        if len({one.payload for one in heard}) == wanted:
            return


async def heard_of(broker: LocalBroker, chunks: Iterator[Chunk], wanted: int) -> list[Message]:
    heard: list[Message] = []
    async with (
        asyncio.timeout(60),
        MqttConnection("127.0.0.1", broker.port, "listener") as listener,
        MqttConnection("127.0.0.1", broker.port, "sensor") as sensor,
    ):
        await listener.wait_connected()
        await listener.subscribe(INPUT_FILTER)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(collect(listener, heard, wanted))
            published = await publish_chunks(sensor, chunks, speed=None)
        assert published == wanted
    return heard


def test_a_sensor_publishes_every_chunk_on_its_topic_with_its_content_type() -> None:
    async def run() -> list[Message]:
        async with LocalBroker() as broker:
            return await heard_of(broker, PATIENT.chunks(), 40)

    heard = asyncio.run(run())
    assert {(message.topic, message.content_type) for message in heard} == {
        ("vagus/v1/in/simulator/ecg", "application/cbor")
    }
    chunks = [chunk for message in heard for chunk in cbor_chunk.decode(message.payload, PATIENT.stream())]
    assert [chunk.seq for chunk in chunks] == list(range(40))
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), PATIENT.samples)


def test_a_broker_that_restarts_costs_nothing() -> None:
    async def run() -> list[Message]:
        async with LocalBroker() as broker:
            restarts: list[asyncio.Task[None]] = []

            def chunks() -> Iterator[Chunk]:
                for chunk in PATIENT.chunks():
                    if chunk.seq in {10, 25}:
                        restarts.append(asyncio.get_running_loop().create_task(broker.restart()))
                    yield chunk

            heard = await heard_of(broker, chunks(), 40)
            await asyncio.gather(*restarts)
            return heard

    heard = asyncio.run(run())
    chunks = [chunk for message in heard for chunk in cbor_chunk.decode(message.payload, PATIENT.stream())]
    assert sorted({chunk.seq for chunk in chunks if chunk.seq is not None}) == list(range(40))


def test_a_recording_can_be_published_as_if_it_were_taken_now(tmp_path: Path) -> None:
    (tmp_path / "rec.dat").write_bytes(np.arange(1_000, dtype="<i2").tobytes())
    (tmp_path / "rec.hea").write_text("rec 1 250 1000\nrec.dat 16 200/mV 16 0 0 0 0 II\n")

    async def run() -> tuple[int, list[Message]]:
        heard: list[Message] = []
        async with (
            asyncio.timeout(30),
            LocalBroker() as broker,
            MqttConnection("127.0.0.1", broker.port, "listener") as listener,
            MqttConnection("127.0.0.1", broker.port, "sensor") as sensor,
        ):
            await listener.wait_connected()
            await listener.subscribe(INPUT_FILTER)
            before_ns = time.time_ns()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(collect(listener, heard, 3))
                await publish_record(sensor, tmp_path / "rec", start_s=1.0, speed=None, as_if_now=True)
        return before_ns, heard

    before_ns, heard = asyncio.run(run())
    stream = SimulatedPatient(1, script=[Episode(Rhythm.SINUS, 1.0)]).stream()
    first = cbor_chunk.decode(heard[0].payload, stream)[0]
    assert abs(first.t0_ns - before_ns) < 5_000_000_000
    assert first.samples[0, 0] == np.float32(250 / 200)
