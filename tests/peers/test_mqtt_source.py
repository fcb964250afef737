"""Sensors over a real broker: read exactly, acknowledged late, bounded, and robust against rubbish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from agent.broker import LocalBroker
from agent.ingest.decoder import MAX_DEVICES, OTHERS, UNKNOWN_DEVICE, StreamConfig
from agent.ingest.mqtt import MqttSource
from agent.ingest.source import Delivery
from agent.mqtt import MqttConnection
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import Chunk, Stream
from firmware_bridge.codecs import json_chunk

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

ECG = Stream("p1", "patch1", "ecg", "ecg", "mV", 250.0, ("II",))
STREAMS = {("patch1", "ecg"): StreamConfig(ECG)}
TOPIC = input_topic("patch1", "ecg")
SETTLE_S = 0.5
"""mosquitto reads one packet a turn: a new connection may overtake acknowledgements sent on the old one."""
T0_NS = 1_700_000_000_000_000_000


def payload(i: int, n: int = 25) -> bytes:
    samples = np.sin(np.arange(n, dtype=np.float32) + np.float32(i)).reshape(-1, 1)
    return json_chunk.encode(Chunk(ECG, T0_NS + i * ECG.duration_ns(n), samples, seq=i))


def client(broker: LocalBroker, client_id: str = "agent1-in", **options: Any) -> MqttConnection:
    return MqttConnection("127.0.0.1", broker.port, client_id, **options)


class Receiver:
    """Collects deliveries; `enough` is set when `n` have come."""

    def __init__(self, n: int, *, acknowledges: bool = True, pause_s: float = 0.0) -> None:
        self.deliveries: list[Delivery] = []
        self.enough = asyncio.Event()
        self._n, self._acknowledges, self._pause_s = n, acknowledges, pause_s

    async def deliver(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self._pause_s and len(self.deliveries) % 100 == 0:
            await asyncio.sleep(self._pause_s)
        if self._acknowledges:
            delivery.ack()
        if len(self.deliveries) == self._n:
            self.enough.set()

    @property
    def numbers(self) -> list[int | None]:
        return [delivery.chunks[0].seq for delivery in self.deliveries]


async def receive(source: MqttSource, receiver: Receiver) -> None:
    """Run the source until the receiver has enough."""
    running = asyncio.create_task(source.run(receiver.deliver))
    waiting = asyncio.create_task(receiver.enough.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    waiting.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)


async def registered(broker: LocalBroker) -> None:
    """Let the agent's session exist before anything is published."""
    async with client(broker) as agent:
        await agent.wait_connected()
        await agent.subscribe("vagus/v1/in/+/+")


def test_a_payload_becomes_a_delivery(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, client(broker, "sensor") as sensor:
            await registered(broker)
            await sensor.wait_connected()
            await sensor.publish(TOPIC, payload(3), content_type="application/json")
            async with client(broker) as agent:
                receiver = Receiver(1)
                source = MqttSource(agent, STREAMS, clock_ns=lambda: 42)
                await receive(source, receiver)
            (delivery,) = receiver.deliveries
            (chunk,) = delivery.chunks
            assert (delivery.topic, delivery.content_type, delivery.received_ns) == (TOPIC, "application/json", 42)
            assert delivery.payload == payload(3)
            assert (chunk.stream, chunk.seq, chunk.t0_ns) == (ECG, 3, T0_NS + 3 * 100_000_000)
            np.testing.assert_array_equal(chunk.samples[:, 0], np.sin(np.arange(25, dtype=np.float32) + np.float32(3)))
            again = source.decoder.decode(delivery.topic, delivery.content_type, delivery.payload)
            np.testing.assert_array_equal(again[0].samples, chunk.samples)

    run(scenario())


def test_what_was_not_acknowledged_comes_again_after_a_restart(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, client(broker, "sensor") as sensor:
            await registered(broker)
            await sensor.wait_connected()
            for i in range(5):
                await sensor.publish(TOPIC, payload(i))
            async with client(broker) as agent:
                receiver = Receiver(5, acknowledges=False)
                await receive(MqttSource(agent, STREAMS), receiver)
                for delivery in receiver.deliveries[:3]:
                    delivery.ack()
            await asyncio.sleep(SETTLE_S)
            async with client(broker) as agent:
                receiver = Receiver(2)
                await receive(MqttSource(agent, STREAMS), receiver)
                assert receiver.numbers == [3, 4]

    run(scenario())


IN_MEMORY = "autosave_on_changes false\nautosave_interval 1800\n"
"""Saving five thousand waiting messages at each change would take mosquitto half a minute."""


def test_five_thousand_payloads_through_a_queue_of_twenty(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker(extra_config=IN_MEMORY) as broker, client(broker, "sensor", max_inflight=1000) as sensor:
            await registered(broker)
            await sensor.wait_connected()
            async with client(broker, max_buffered=20) as agent:
                receiver = Receiver(5000, pause_s=0.002)
                sending = asyncio.gather(*(sensor.publish_nowait(TOPIC, payload(i, n=5)) for i in range(5000)))
                await receive(MqttSource(agent, STREAMS), receiver)
                await sending
            assert receiver.numbers == list(range(5000))

    run(scenario())


def test_a_backlog_larger_than_the_queue_is_read_at_the_start(run: Run) -> None:
    """It comes before the broker's word on the subscription, which must not be waited for without reading."""

    async def scenario() -> None:
        async with LocalBroker() as broker, client(broker, "sensor") as sensor:
            await registered(broker)
            await sensor.wait_connected()
            for i in range(100):
                await sensor.publish(TOPIC, payload(i, n=5))
            async with client(broker, max_buffered=10) as agent:
                await agent.wait_connected()
                receiver = Receiver(100)
                await receive(MqttSource(agent, STREAMS), receiver)
                assert receiver.numbers == list(range(100))

    run(scenario())


def test_rubbish_is_counted_acknowledged_and_costs_nothing_else(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    secret = b'{"samples": "Jane Doe"}'

    async def scenario() -> None:
        async with LocalBroker() as broker, client(broker, "sensor") as sensor:
            await registered(broker)
            await sensor.wait_connected()
            for rubbish in (b"", b"\xff\x00", secret, payload(0)[:-5], secret):
                await sensor.publish(TOPIC, rubbish)
            await sensor.publish(input_topic("stranger", "ecg"), payload(0))
            await sensor.publish(input_topic("patch1", "ppg"), payload(0))
            await sensor.publish(TOPIC, payload(1))
            async with client(broker) as agent:
                source = MqttSource(agent, STREAMS)
                receiver = Receiver(1)
                await receive(source, receiver)
                counters = source.counters()
                assert receiver.numbers == [1]
                assert (counters["received"], counters["delivered"]) == (8, 1)
                rejected = counters["rejected"]
                assert isinstance(rejected, dict)
                assert rejected["stranger"] == {UNKNOWN_DEVICE: 1}
                assert sum(rejected["patch1"].values()) == 6
            await asyncio.sleep(SETTLE_S)
            async with client(broker) as agent:  # nothing of it comes again
                await sensor.publish(TOPIC, payload(2))
                receiver = Receiver(1)
                await receive(MqttSource(agent, STREAMS), receiver)
                assert receiver.numbers == [2]

    run(scenario())
    assert "stranger" in caplog.text
    assert "Jane" not in caplog.text


def test_a_babbling_stranger_cannot_fill_memory_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        source = MqttSource(MqttConnection("127.0.0.1", 1, "agent1-in"), STREAMS)
        for i in range(3 * MAX_DEVICES):
            assert source.decoder.decode(input_topic(f"device{i}", "ecg"), None, b"") == ()
        for _ in range(2500):
            source.decoder.decode(TOPIC, "application/json", b"{")
        rejected = source.counters()["rejected"]
        assert isinstance(rejected, dict)
        assert len(rejected) <= MAX_DEVICES + 2
        assert rejected[OTHERS] == {UNKNOWN_DEVICE: 2 * MAX_DEVICES}

    asyncio.run(scenario())
    assert len([record for record in caplog.records if "patch1" in record.getMessage()]) <= 3
