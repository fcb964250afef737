"""Everything that a real agent publishes, command answers and the last will included, against the published schemas."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_agent import AgentProcess

from agent.broker import LocalBroker
from agent.ingest.sensor import publish_chunks
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import MqttConnection

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]
DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 6.0))


def kinds() -> dict[str, re.Pattern[str]]:
    channels = json.loads((DOCS / "asyncapi.json").read_text())["channels"]
    addresses = {kind: channel["address"] for kind, channel in channels.items() if channel["address"]}
    return {kind: re.compile(re.sub(r"{\w+}", "[^/]+", address)) for kind, address in addresses.items()}


def test_whatever_the_agent_says_has_the_form_that_is_published(run: Run, tmp_path: Path) -> None:
    heard: list[tuple[str, bytes]] = []

    async def listen(connection: MqttConnection) -> None:
        await connection.subscribe("vagus/v1/ward/#")
        async for message in connection.messages():
            heard.append((message.topic, message.payload))
            connection.ack(message)

    async def until(condition: Callable[[str, bytes], bool]) -> None:
        async with asyncio.timeout(60):
            while not any(condition(topic, payload) for topic, payload in heard):
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        patient = SimulatedPatient(5, script=SCRIPT)
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            MqttConnection("127.0.0.1", broker.port, "nurse") as nurse,
            AgentProcess(tmp_path, broker.port) as agent,
        ):
            listening = asyncio.create_task(listen(nurse))
            await until(lambda topic, _: topic.endswith("/status"))
            await publish_chunks(nurse, patient.chunks(patient.stream("demo", "simulator"), chunk_s=1.0), speed=None)
            await until(lambda topic, payload: "/event/" in topic and b'"vagus.alert.end"' in payload)
            await until(lambda topic, _: "/vital/" in topic)
            await agent.kill()
            await until(lambda topic, payload: topic.endswith("/status") and b'"offline"' in payload)
            listening.cancel()

    run(scenario())
    counted: Counter[str] = Counter()
    for topic, payload in heard:
        (kind,) = [kind for kind, pattern in kinds().items() if pattern.fullmatch(topic)]
        counted[kind] += 1
        if payload:
            schema = json.loads((DOCS / "schema" / f"{kind}.json").read_text())
            jsonschema.Draft202012Validator(schema).validate(json.loads(payload))
    assert set(counted) == {"event", "alarm", "summary", "status", "vital"}
