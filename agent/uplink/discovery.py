"""Keeps Home Assistant's discovery documents at the broker, and takes away those that are no longer wanted.

Over a connection of its own: some brokers close the connection on a topic that they do not allow, and the alerts must
not pay for that.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from agent.mqtt import ConnectionStatus, MqttConnection, MqttError
from agent.uplink.home_assistant import birth_topic

log = logging.getLogger(__name__)

FILE_NAME = "home_assistant.json"
"""In the state folder: the topics that documents were put on, so that a later start can empty them."""
RETRY_S = 10.0


class Discovery:
    """`documents` by their topic; without any, `run` takes away what an earlier start put there, and ends."""

    def __init__(self, connection: MqttConnection, prefix: str, documents: Mapping[str, bytes], path: Path) -> None:
        self.connection, self._documents, self._path = connection, documents, path
        self._birth = birth_topic(prefix)
        self._due = asyncio.Event()
        connection.add_listener(self._connection_changed)

    async def run(self) -> None:
        """Until cancelled: say everything when connected, and again whenever Home Assistant has started."""
        if self._documents:
            self.connection.subscribe_nowait(self._birth)
        async with asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(self._hear())
            while True:
                await self.connection.wait_connected()
                self._due.clear()
                try:
                    await self._say()
                except MqttError as error:
                    log.warning("home assistant: not told of the devices: %s", error)
                    await asyncio.sleep(RETRY_S)
                    continue
                except Exception:  # a fault here must cost the watching nothing
                    log.exception("home assistant: not told of the devices")
                    await asyncio.sleep(RETRY_S)
                    continue
                if not self._documents:
                    hearing.cancel()
                    return
                await self._due.wait()

    async def _say(self) -> None:
        put = put_by_earlier_starts(self._path)
        gone = [topic for topic in put if topic not in self._documents]
        # Named in the file before they are there, and until they are gone: a crash in between leaves nothing behind.
        self._keep([*self._documents, *gone])
        for topic in gone:
            await self.connection.publish(topic, b"", qos=1, retain=True)
        for topic, document in self._documents.items():
            await self.connection.publish(topic, document, qos=1, retain=True)
        self._keep(list(self._documents))

    async def _hear(self) -> None:
        async for message in self.connection.messages():
            if message.topic == self._birth and message.payload == b"online":
                self._due.set()
            self.connection.ack(message)

    def _connection_changed(self, status: ConnectionStatus) -> None:
        if status.connected:
            self._due.set()

    def _keep(self, topics: list[str]) -> None:
        try:
            if not topics:
                self._path.unlink(missing_ok=True)
                return
            beside = self._path.with_suffix(".new")
            beside.write_text(json.dumps(topics), encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)


def put_by_earlier_starts(path: Path) -> list[str]:
    """Topics that may still hold a document."""
    try:
        topics = json.loads(path.read_text(encoding="utf-8"))
        return [str(topic) for topic in topics]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return []
