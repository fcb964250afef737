"""The MQTT port against a real mosquitto: nothing lost, nothing acknowledged too early, plain words."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.broker import BrokerError, LocalBroker
from agent.mqtt import Message, MqttConnection, NotConnected, PublishRefused, SubscribeRefused
from agent.mqtt import link as mqtt_link

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]
SETTLE_S = 0.5
"""mosquitto reads one packet a turn: a new connection may overtake acknowledgements sent on the old one."""
ROOT = Path(__file__).parents[2]


def connection(broker: LocalBroker, client_id: str = "agent1", **options: Any) -> MqttConnection:
    return MqttConnection("127.0.0.1", broker.port, client_id, **options)


async def take(client: MqttConnection, n: int) -> list[Message]:
    taken: list[Message] = []
    async for message in client.messages():
        taken.append(message)
        if len(taken) == n:
            break
    return taken


async def status_says(client: MqttConnection, words: str) -> None:
    """Wait until the status has these words."""
    changed = asyncio.Event()
    client.add_listener(lambda _: changed.set())
    while words not in client.status.detail:
        changed.clear()
        try:
            async with asyncio.timeout(20):
                await changed.wait()
        except TimeoutError:
            pytest.fail(f"status never said {words!r}, but {client.status.detail!r}")


def test_a_message_and_its_properties_go_round(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker) as client:
            await client.wait_connected()
            await client.subscribe("a/#")
            result = await client.publish(
                "a/b", b"\x00\xff", expiry_s=60, content_type="application/cbor", user_properties=[("k", "v")]
            )
            (message,) = await take(client, 1)
            assert (result.topic, result.code) == ("a/b", 0)
            assert (message.topic, message.payload, message.qos) == ("a/b", b"\x00\xff", 1)
            assert message.content_type == "application/cbor"
            assert message.user_properties == (("k", "v"),)
            assert client.status.protocol == "5"

    run(scenario())


def test_small_packets_are_not_held_back(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker) as client:
            await client.wait_connected()
            assert client._link is not None
            assert client._link._sock is not None
            assert client._link._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario())


def test_only_what_was_not_acknowledged_comes_again(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker, "sensor") as sensor:
            await sensor.wait_connected()
            async with connection(broker) as agent:
                await agent.wait_connected()
                await agent.subscribe("in/#")
                for i in range(4):
                    await sensor.publish("in/d1", b"%d" % i)
                messages = await take(agent, 4)
                agent.ack(messages[0])
                agent.ack(messages[1])
            await asyncio.sleep(SETTLE_S)
            async with connection(broker) as agent:
                again = await take(agent, 2)
                assert [message.payload for message in again] == [b"2", b"3"]
                assert all(message.duplicate for message in again)

    run(scenario())


def test_acknowledgements_leave_in_the_order_of_arrival(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker, "sensor") as sensor:
            await sensor.wait_connected()
            async with connection(broker) as agent:
                await agent.wait_connected()
                await agent.subscribe("in/#")
                for i in range(4):
                    await sensor.publish("in/d1", b"%d" % i)
                first, second, third, _ = await take(agent, 4)
                for message in (third, first):
                    agent.ack(message)
                await asyncio.sleep(SETTLE_S)
            async with connection(broker) as agent:
                again = await take(agent, 3)
                assert [message.payload for message in again] == [b"1", b"2", b"3"]
                agent.ack(second)  # of the old connection
                for message in reversed(again):
                    agent.ack(message)
                await asyncio.sleep(SETTLE_S)
            async with connection(broker) as agent:
                await agent.wait_connected()
                await sensor.publish("in/d1", b"next")
                assert (await take(agent, 1))[0].payload == b"next"

    run(scenario())


def test_a_pause_longer_than_the_keep_alive_loses_nothing(run: Run) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker() as broker,
            connection(broker, "sensor") as sensor,
            connection(broker, max_buffered=10, keepalive_s=1) as agent,
        ):
            await sensor.wait_connected()
            await agent.wait_connected()
            await agent.subscribe("in/#")
            await asyncio.gather(*(sensor.publish("in/d1", b"%d" % i) for i in range(100)))
            await asyncio.sleep(3)
            seen: set[bytes] = set()
            async for message in agent.messages():
                agent.ack(message)
                seen.add(message.payload)
                if len(seen) == 100:
                    break

    run(scenario())


def test_an_acknowledgement_never_reaches_another_connection(run: Run) -> None:
    """Packet identifiers start anew with a connection: an old one acknowledged there would lose another message."""

    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker, "sensor") as sensor, connection(broker) as agent:
            await sensor.wait_connected()
            await agent.wait_connected()
            await agent.subscribe("in/#")
            await sensor.publish("in/d1", b"first")
            (old,) = await take(agent, 1)
            await broker.restart()
            (again,) = await take(agent, 1)
            agent.ack(old)
            assert again.payload == b"first"
            await broker.restart()
            (still,) = await take(agent, 1)
            assert still.payload == b"first"

    run(scenario())


IN_MEMORY = "autosave_on_changes false\nautosave_interval 1800\n"
"""Saving five thousand waiting messages at each change would take mosquitto half a minute."""


def test_five_thousand_messages_through_a_buffer_of_twenty(run: Run) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker(extra_config=IN_MEMORY) as broker,
            connection(broker, "sensor", max_inflight=1000) as sensor,
            connection(broker, max_buffered=20) as agent,
        ):
            await sensor.wait_connected()
            await agent.wait_connected()
            await agent.subscribe("in/#")
            sent = [sensor.publish_nowait("in/d1", b"%d" % i) for i in range(5000)]
            got: list[bytes] = []
            most_buffered = 0
            async for message in agent.messages():
                got.append(message.payload)
                agent.ack(message)
                most_buffered = max(most_buffered, len(agent._buffer))
                if len(got) % 100 == 0:
                    await asyncio.sleep(0.001)
                if len(got) == 5000:
                    break
            await asyncio.gather(*sent)
            assert got == [b"%d" % i for i in range(5000)]
            assert most_buffered <= 20

    run(scenario())


def test_a_reader_who_takes_nothing_leaves_the_rest_with_the_broker(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker, "sensor") as sensor:
            await sensor.wait_connected()
            async with connection(broker, max_buffered=20) as agent:
                await agent.wait_connected()
                await agent.subscribe("in/#")
                await asyncio.gather(*(sensor.publish("in/d1", b"%d" % i) for i in range(300)))
                await asyncio.sleep(0.2)
                assert len(agent._buffer) == 20
            async with connection(broker) as agent:
                assert [m.payload for m in await take(agent, 300)] == [b"%d" % i for i in range(300)]

    run(scenario())


def test_no_broker_at_the_start(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker:
            await broker.stop()
            async with connection(broker) as client:
                await status_says(client, f"nothing is listening on 127.0.0.1:{broker.port}")
                with pytest.raises(NotConnected, match="nothing is listening"):
                    await client.publish("a", b"")
                await client.subscribe("a")
                await broker.start()
                await client.wait_connected()
                await client.publish("a", b"kept subscription")
                assert (await take(client, 1))[0].payload == b"kept subscription"

    run(scenario())


def test_a_name_that_cannot_be_resolved(run: Run) -> None:
    async def scenario() -> None:
        async with MqttConnection("no-such-host.invalid", 1883, "agent1") as client:
            await status_says(client, "'no-such-host.invalid' cannot be resolved")

    run(scenario())


def test_wrong_password_and_no_password(run: Run, password_file: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(password_file=password_file) as broker:
            async with connection(broker, username="agent1", password="right") as client:  # noqa: S106
                await client.wait_connected()
            async with connection(broker, username="agent1", password="wrong") as client:  # noqa: S106
                await status_says(client, f"127.0.0.1:{broker.port} refused the user name or password")
                assert "wrong" not in client.status.detail
            async with connection(broker) as client:
                await status_says(client, "wants a user name and password")

    run(scenario())


def test_a_denied_topic_is_an_error_and_not_a_success(run: Run, acl_file: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(acl_file=acl_file) as broker, connection(broker) as client:
            await client.wait_connected()
            with pytest.raises(PublishRefused, match="denied topic vagus/v1/agent1/event/denied: not authorized"):
                await client.publish("vagus/v1/agent1/event/denied", b"alert")
            # mosquitto 2.0.11 says no and closes the connection, too.
            await asyncio.sleep(0.1)
            await client.wait_connected()
            await client.publish("vagus/v1/agent1/event/p1", b"alert")

    run(scenario())


def test_a_denied_subscription_is_said_at_once_and_after_a_reconnect(run: Run) -> None:
    """mosquitto grants every subscription and then delivers nothing; other brokers say no as this one does."""
    accepted = b"\x20\x03\x00\x00\x00"

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.read(2):
            packet = await reader.readexactly(header[1])
            if header[0] == 0x10:
                writer.write(accepted)
            elif header[0] == 0x82:
                writer.write(b"\x90\x04" + packet[:2] + b"\x00\x87")
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with MqttConnection("127.0.0.1", port, "agent1") as client:
            await client.wait_connected()
            with pytest.raises(SubscribeRefused, match="denied to subscribe to in/#: not authorized"):
                await client.subscribe("in/#")
            assert client.status.refused_subscriptions == ("in/#",)
        async with MqttConnection("127.0.0.1", port, "agent1") as client:
            said = asyncio.Event()
            client.add_listener(lambda status: said.set() if status.refused_subscriptions else None)
            await client.subscribe("in/#")
            await said.wait()
        server.close()
        await server.wait_closed()

    run(scenario())


def test_what_was_on_its_way_when_the_broker_died_is_reported_as_unknown(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker) as client:
            await client.wait_connected()
            os.kill(broker.pid, signal.SIGSTOP)
            result = client.publish_nowait("a", b"x")
            await asyncio.sleep(0.05)
            await broker.kill()
            with pytest.raises(NotConnected, match="was lost"):
                await result
            await broker.start()
            await client.wait_connected()
            await client.publish("a", b"x")

    run(scenario())


def test_two_agents_with_one_client_id(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker) as first:
            await first.wait_connected()
            async with connection(broker):
                # mosquitto 2.0.11 does not say why it throws the older one out.
                await status_says(first, "is another client using the client id 'agent1'?")

    run(scenario())


def test_a_message_larger_than_the_broker_takes_is_refused_here(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker(extra_config="max_packet_size 2000\n") as broker, connection(broker) as client:
            await client.wait_connected()
            with pytest.raises(PublishRefused, match="at most 2000"):
                await client.publish("a", bytes(3000))
            await client.publish("a", bytes(1000))

    run(scenario())


def test_more_messages_than_the_broker_takes_at_once(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker(max_inflight=5) as broker, connection(broker) as client:
            await client.wait_connected()
            results = await asyncio.gather(*(client.publish("a", b"%d" % i) for i in range(500)))
            assert len(results) == 500

    run(scenario())


DYING_PROGRAM = """
import asyncio, sys
from agent.mqtt import MqttConnection, Will
async def main():
    will = Will("status", b"offline", content_type="application/json")
    async with MqttConnection("127.0.0.1", int(sys.argv[1]), "dying", will=will) as client:
        await client.wait_connected()
        await client.publish("status", b"online", retain=True)
        print("online", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_last_will_speaks_when_the_process_is_killed(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, connection(broker, "nurse") as nurse:
            await nurse.wait_connected()
            await nurse.subscribe("status")
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-c", DYING_PROGRAM, str(broker.port), stdout=subprocess.PIPE, cwd=ROOT
            )
            assert (await take(nurse, 1))[0].payload == b"online"
            program.kill()
            await program.wait()
            (last,) = await take(nurse, 1)
            assert (last.payload, last.content_type) == (b"offline", "application/json")

    run(scenario())


def test_a_broker_without_mqtt_5_is_used_and_complained_of(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("iotcore")
    caplog.set_level(logging.WARNING, logger="agent.mqtt")

    async def scenario() -> None:
        async with LocalBroker(kind="iotcore") as broker, connection(broker) as client:
            await client.wait_connected()
            assert client.status.protocol == "3.1.1"
            assert "cannot be noticed" in client.status.detail
            await client.subscribe("a")
            await client.publish("a", bytes(64 * 1024), content_type="not in 3.1.1", expiry_s=5)
            assert len((await take(client, 1))[0].payload) == 64 * 1024

    run(scenario())
    assert "over MQTT 3.1.1 only" in caplog.text


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak MQTT|not MQTT|was lost"),
        (b"\x20\xff\xff\xff\xff\xff", "was lost|not MQTT"),
        (b"\x20\x03\x00\x00\x05", "was lost|not MQTT"),
        (None, "does not speak MQTT"),
    ],
)
def test_a_peer_that_is_no_broker(
    run: Run, monkeypatch: pytest.MonkeyPatch, greeting: bytes | None, words: str
) -> None:
    monkeypatch.setattr(mqtt_link, "OPEN_TIMEOUT_S", 0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greeting is not None:
            writer.write(greeting)
        await reader.read()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with MqttConnection("127.0.0.1", port, "agent1") as client:
            heard: list[str] = []
            client.add_listener(lambda status: heard.append(status.detail))
            while not any(word in detail for detail in heard for word in words.split("|")):
                await asyncio.sleep(0.02)
            assert not client.is_connected
        server.close()
        await server.wait_closed()

    run(scenario())


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key) of a broker called localhost, signed by itself."""
    paths = tmp_path / "broker.crt", tmp_path / "broker.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    try:
        subprocess.run([*command, "-out", str(paths[0]), "-keyout", str(paths[1])], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not installed")
    return paths


def test_tls(run: Run, certificate: tuple[Path, Path]) -> None:
    crt, key = certificate

    async def scenario() -> None:
        async with LocalBroker() as free_port:
            tls_port = free_port.port
        lines = f"listener {tls_port} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\n"
        async with LocalBroker(extra_config=lines):
            trusting = ssl.create_default_context(cafile=str(crt))
            async with MqttConnection("localhost", tls_port, "agent1", tls=trusting, max_buffered=20) as client:
                await client.wait_connected()
                await client.subscribe("a")
                sent = [client.publish_nowait("a", json.dumps([i] * 2000).encode()) for i in range(300)]
                taken = await take(client, 300)
                assert [json.loads(message.payload)[0] for message in taken] == list(range(300))
                await asyncio.gather(*sent)

    run(scenario())


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves that socket to be collected
def test_a_broker_whose_certificate_nobody_vouches_for(run: Run, certificate: tuple[Path, Path]) -> None:
    crt, key = certificate

    async def scenario() -> None:
        async with LocalBroker() as free_port:
            tls_port = free_port.port
        async with LocalBroker(extra_config=f"listener {tls_port} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\n"):
            suspicious = ssl.create_default_context()
            async with MqttConnection("localhost", tls_port, "agent1", tls=suspicious) as client:
                await status_says(client, "was not accepted: self-signed certificate")

    run(scenario())
    gc.collect()


def test_a_port_that_is_taken_is_not_mistaken_for_our_broker(run: Run) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker:
            with pytest.raises(BrokerError, match=f"port {broker.port} cannot be used"):
                async with LocalBroker(port=broker.port):
                    pass

    run(scenario())


def test_a_broker_that_cannot_start_says_why(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(BrokerError, match="no_such_option"):
            async with LocalBroker(extra_config="no_such_option 1\n"):
                pass

    run(scenario())
