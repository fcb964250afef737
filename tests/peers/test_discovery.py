"""Home Assistant's documents on a real broker, put there, said again and taken away by the real agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_agent import AgentProcess

from agent.broker import LocalBroker
from agent.mqtt import MqttConnection
from agent.uplink.discovery import Discovery, put_by_earlier_starts

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]
DOCUMENTS = {"homeassistant/device/home/config": b"{}", "homeassistant/device/home/anna/config": b"{}"}


class House:
    """What is retained under the prefix, and how often each document was said."""

    def __init__(self, connection: MqttConnection) -> None:
        self.connection = connection
        self.retained: dict[str, bytes] = {}
        self.heard: list[str] = []

    async def listen(self) -> None:
        await self.connection.subscribe("homeassistant/device/#")
        async for message in self.connection.messages():
            self.retained[message.topic] = message.payload
            self.heard.append(message.topic)
            self.connection.ack(message)

    async def until(self, condition: Callable[[House], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(self):
                await asyncio.sleep(0.01)

    @property
    def shown(self) -> set[str]:
        return {topic for topic, document in self.retained.items() if document}


@asynccontextmanager
async def house_on(broker: LocalBroker) -> AsyncIterator[House]:
    async with MqttConnection("127.0.0.1", broker.port, "house", clean_start=True) as connection:
        await connection.wait_connected()
        house = House(connection)
        task = asyncio.create_task(house.listen())
        yield house
        task.cancel()


@asynccontextmanager
async def discovery(broker: LocalBroker, documents: dict[str, bytes], path: Path) -> AsyncIterator[asyncio.Task[None]]:
    async with MqttConnection("127.0.0.1", broker.port, "home", clean_start=True) as connection:
        task = asyncio.create_task(Discovery(connection, "homeassistant", documents, path).run())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_they_are_said_again_when_home_assistant_starts_and_when_the_broker_is_back(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "put.json"
        async with LocalBroker() as broker, house_on(broker) as house, discovery(broker, DOCUMENTS, path):
            await house.until(lambda h: len(h.heard) == 2)
            await house.connection.publish("homeassistant/status", b"offline")
            await house.connection.publish("homeassistant/status", b"online")
            await house.until(lambda h: len(h.heard) == 4)
            await broker.restart()
            await house.until(lambda h: len(h.heard) >= 6)
            assert house.shown == set(DOCUMENTS)
            assert set(put_by_earlier_starts(path)) == set(DOCUMENTS)

    run(scenario())


def test_who_is_no_longer_watched_is_taken_away_and_switched_off_everybody_is(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "put.json"
        async with LocalBroker() as broker, house_on(broker) as house:
            async with discovery(broker, DOCUMENTS, path):
                await house.until(lambda h: h.shown == set(DOCUMENTS))
            fewer = dict(list(DOCUMENTS.items())[:1])
            async with discovery(broker, fewer, path):
                await house.until(lambda h: h.shown == set(fewer))
            async with discovery(broker, {}, path) as ending:
                await ending
                await house.until(lambda h: not h.shown)
            assert not path.exists()

    run(scenario())


def test_what_a_crash_left_behind_is_still_taken_away(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "put.json"
        path.write_text(json.dumps([*DOCUMENTS, "homeassistant/device/home/gone/config"]))
        async with LocalBroker() as broker, house_on(broker) as house:
            await house.connection.publish("homeassistant/device/home/gone/config", b"{}", retain=True)
            async with discovery(broker, DOCUMENTS, path):
                await house.until(lambda h: h.shown == set(DOCUMENTS))

    run(scenario())


def test_the_agent_puts_them_there_when_its_config_says_so_and_takes_them_away_after_that(
    run: Run, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with LocalBroker() as broker, house_on(broker) as house:
            async with AgentProcess(tmp_path, broker.port, mqtt="[home_assistant]") as agent:
                await house.until(lambda h: len(h.shown) == 2)
                assert await agent.stop() == 0
            person = json.loads(house.retained["homeassistant/device/ward/demo/config"])
            assert set(person["components"]) == {"urgent", "heart", "technical", "alarm", "hr"}
            async with AgentProcess(tmp_path, broker.port, mqtt="[home_assistant]\nenabled = false"):
                await house.until(lambda h: not h.shown)

    run(scenario())
