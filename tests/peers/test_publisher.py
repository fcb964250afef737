"""From a committed row to a subscriber, whatever the broker does in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.broker import LocalBroker
from agent.mqtt import MqttConnection
from agent.uplink.outbox import Outbox, Outgoing
from agent.uplink.publisher import Publisher

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]


def alert(payload: bytes, *, patient: str = "p1", priority: int = 0, alert_id: str = "a1") -> Outgoing:
    return Outgoing(f"vagus/v1/agent1/event/{patient}", payload, False, priority, None, None, "alert", alert_id)


class Uplink:
    """An outbox, its one worker thread, a connection and the publisher between them."""

    def __init__(self, path: Path, port: int) -> None:
        self.worker = ThreadPoolExecutor(1)
        self.outbox = Outbox(path)
        self.connection = MqttConnection("127.0.0.1", port, "agent1")
        self.publisher = Publisher(self.connection, self.outbox, self.worker)

    async def commit(self, *outgoing: Outgoing) -> None:
        await asyncio.get_running_loop().run_in_executor(self.worker, self.outbox.commit, outgoing)
        self.publisher.wake()


@asynccontextmanager
async def uplink(path: Path, port: int) -> AsyncIterator[Uplink]:
    up = Uplink(path, port)
    async with up.connection:
        running = asyncio.create_task(up.publisher.run())
        try:
            yield up
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            up.worker.shutdown()
            up.outbox.close()


@asynccontextmanager
async def nurse(port: int, client_id: str = "nurse") -> AsyncIterator[MqttConnection]:
    async with MqttConnection("127.0.0.1", port, client_id) as client:
        await client.wait_connected()
        await client.subscribe("vagus/v1/agent1/#")
        yield client


async def take(client: MqttConnection, n: int) -> list[bytes]:
    """The payloads of the next `n` messages."""
    taken: list[bytes] = []
    async for message in client.messages():
        client.ack(message)
        taken.append(message.payload)
        if len(taken) == n:
            break
    return taken


async def take_until(client: MqttConnection, expected: set[bytes]) -> list[bytes]:
    """Payloads until all of `expected` have come; at least once is the promise."""
    taken: list[bytes] = []
    async for message in client.messages():
        client.ack(message)
        taken.append(message.payload)
        if expected <= set(taken):
            break
    return taken


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_what_is_committed_arrives_and_leaves_the_outbox(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, nurse(broker.port) as reader, uplink(tmp_path / "o.db", broker.port) as up:
            await up.commit(alert(b"start"), alert(b"end"))
            assert await take(reader, 2) == [b"start", b"end"]
            await up.publisher.drained()
            assert up.publisher.published == 2

    run(scenario())


def test_retain_expiry_and_content_type_are_passed_on(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, uplink(tmp_path / "o.db", broker.port) as up:
            topic = "vagus/v1/agent1/alarm/p1/a1"
            await up.commit(Outgoing(topic, b"{}", True, 0, None, "application/cloudevents+json", "alert", "a1"))
            await up.publisher.drained()
            async with nurse(broker.port) as reader:
                message = await anext(reader.messages())
                assert (message.retain, message.content_type) == (True, "application/cloudevents+json")

    run(scenario())


def test_a_backlog_leaves_most_urgent_first_and_each_patient_in_order(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, nurse(broker.port) as reader:
            await broker.stop()
            async with uplink(tmp_path / "o.db", broker.port) as up:
                low = [alert(b"low %03d" % i, patient="p2", priority=2, alert_id="a2") for i in range(150)]
                high = [alert(b"high %03d" % i, patient="p1", alert_id="a1") for i in range(150)]
                await up.commit(*low, *high)
                await broker.start()
                await reader.wait_connected()
                expected = {message.payload for message in low + high}
                taken = list(dict.fromkeys(await take_until(reader, expected)))
                assert [payload for payload in taken if payload.startswith(b"high")] == [m.payload for m in high]
                assert [payload for payload in taken if payload.startswith(b"low")] == [m.payload for m in low]
                assert all(payload.startswith(b"high") for payload in taken[:100])

    run(scenario())


def test_no_broker_at_the_start(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker:
            async with nurse(broker.port):
                pass
            await broker.stop()
            async with uplink(tmp_path / "o.db", broker.port) as up:
                await up.commit(alert(b"kept"))
                await until(lambda: "nothing is listening" in up.connection.status.detail)
                assert up.outbox.depth().rows == 1
                await broker.start()
                async with nurse(broker.port) as reader:
                    assert b"kept" in await take_until(reader, {b"kept"})

    run(scenario())


def test_a_broker_killed_again_and_again_loses_nothing(run: Run, tmp_path: Path) -> None:
    """The reader is away; what the broker acknowledged it must have kept, what it did not we must send again."""

    async def scenario() -> None:
        async with LocalBroker(persistence_dir=tmp_path) as broker:
            async with nurse(broker.port):
                pass
            async with uplink(tmp_path / "o.db", broker.port) as up:
                for batch in range(4):
                    await up.commit(*(alert(b"%d-%d" % (batch, i), patient=f"p{i % 7}") for i in range(50)))
                    await up.connection.wait_connected()
                    await until(lambda n=batch: up.publisher.published > 50 * n)  # type: ignore[misc]
                    await broker.stop() if batch % 2 else await kill_once_saved(broker, up)
                    await up.commit(*(alert(b"down-%d-%d" % (batch, i)) for i in range(10)))
                    await broker.start()
                await up.publisher.drained()
            expected = {b"%d-%d" % (b, i) for b in range(4) for i in range(50)}
            expected |= {b"down-%d-%d" % (b, i) for b in range(4) for i in range(10)}
            async with nurse(broker.port) as reader:
                await take_until(reader, expected)

    run(scenario())


async def kill_once_saved(broker: LocalBroker, up: Uplink) -> None:
    """SIGKILL, a moment after the last acknowledgement: mosquitto acknowledges just before it saves, not after."""
    await up.publisher.drained()
    await asyncio.sleep(0.3)
    await broker.kill()


def test_a_denied_topic_stays_is_said_and_holds_nobody_up(run: Run, tmp_path: Path, acl_file: Path) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker(acl_file=acl_file) as broker,
            nurse(broker.port) as reader,
            uplink(tmp_path / "o.db", broker.port) as up,
        ):
            topic = "vagus/v1/agent1/event/denied"
            await up.commit(alert(b"denied 1", patient="denied"), alert(b"denied 2", patient="denied"))
            await until(lambda: topic in up.publisher.refused)
            assert up.publisher.refused == {topic: "not authorized"}
            await up.commit(*(alert(b"%d" % i, patient="p1", priority=2, alert_id="a2") for i in range(20)))
            await take_until(reader, {b"%d" % i for i in range(20)})
            await until(lambda: up.publisher.published >= 20)
            assert [row.message.payload for row in up.outbox.pending() if row.message.topic == topic] == [
                b"denied 1",
                b"denied 2",
            ]

            acl_file.write_text("topic readwrite vagus/v1/#\n")
            await broker.restart()
            taken = await take_until(reader, {b"denied 1", b"denied 2"})
            assert [payload for payload in dict.fromkeys(taken) if payload.startswith(b"denied")] == [
                b"denied 1",
                b"denied 2",
            ]
            await up.publisher.drained()
            assert not up.publisher.refused

    run(scenario())


def test_a_message_that_ends_every_connection_holds_nobody_up(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("iotcore")

    async def scenario() -> None:
        async with (
            LocalBroker(kind="iotcore") as broker,
            nurse(broker.port) as reader,
            uplink(tmp_path / "o.db", broker.port) as up,
        ):
            await up.commit(alert(bytes(2 << 20), patient="huge"))
            await up.commit(*(alert(b"%d" % i, patient=f"p{i}", priority=1, alert_id=f"b{i}") for i in range(30)))
            await take_until(reader, {b"%d" % i for i in range(30)})
            await until(lambda: bool(up.publisher.refused))
            (reason,) = up.publisher.refused.values()
            assert "the connection ends whenever this message of 2097152 bytes is sent" in reason

    run(scenario())


def test_what_was_acknowledged_is_not_sent_again_after_a_restart(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, nurse(broker.port) as reader:
            async with uplink(tmp_path / "o.db", broker.port) as up:
                await up.commit(alert(b"once"))
                assert await take(reader, 1) == [b"once"]
                await until(lambda: up.publisher.published == 1)
            async with uplink(tmp_path / "o.db", broker.port) as up:
                await up.commit(alert(b"next"))
                assert await take(reader, 1) == [b"next"]

    run(scenario())
