"""The newest status of every agent, as the broker has it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from agent.mqtt import MqttConnection
from agent.uplink.messages import StatusMessage
from agent.uplink.topics import ROOT

STATUS_FILTER = f"{ROOT}/+/status"
_MOST_AGENTS = 10_000
_MAX_STATUS_BYTES = 4 << 20


class Watcher:
    """Hears all statuses; its methods belong to the event loop's thread."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._news, self._agreed = asyncio.Event(), asyncio.Event()
        self.statuses: dict[str, StatusMessage] = {}
        """Agent → what it said last; a last will keeps the version, the ring and so on that were said before it."""
        self.last_at: dict[str, str] = {}
        """Agent → when it said something itself, where that was heard."""
        self.unreadable: set[str] = set()

    async def changed(self) -> None:
        """Returns once something has come since the last call."""
        await self._news.wait()
        self._news.clear()

    async def run(self) -> None:
        """Hear until cancelled. A refusal shows in the connection's status."""
        hearing = self._connection.messages()
        await self._connection.wait_connected()
        asked = asyncio.ensure_future(self._connection.subscribe(STATUS_FILTER, qos=1))
        asked.add_done_callback(self._answered)
        async for message in hearing:
            self.hear(message.topic.split("/")[2], message.payload)
            self._connection.ack(message)

    def _answered(self, asked: asyncio.Future[None]) -> None:
        if not asked.cancelled():
            asked.exception()  # the connection's status says it
        self._agreed.set()

    async def settled(self, quiet_s: float, most_s: float) -> None:
        """Returns when the broker has agreed and for `quiet_s` nothing more has come, or after `most_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._agreed.wait()
                while True:
                    try:
                        async with asyncio.timeout(quiet_s):
                            await self.changed()
                    except TimeoutError:
                        return

    def hear(self, agent: str, payload: bytes) -> None:
        """An empty payload: somebody took the agent out."""
        self._news.set()
        if not payload:
            self.statuses.pop(agent, None)
            self.last_at.pop(agent, None)
            return
        if len(payload) > _MAX_STATUS_BYTES or (agent not in self.statuses and len(self.statuses) >= _MOST_AGENTS):
            self.unreadable.add(agent)
            return
        try:
            status = StatusMessage.model_validate_json(payload)
        except ValueError:
            self.unreadable.add(agent)
            return
        known = self.statuses.get(agent)
        if status.state == "offline" and known is not None:
            status = known.model_copy(update={"state": "offline", "reasons": status.reasons, "at": None})
        elif status.at is not None:
            self.last_at[agent] = status.at
        # The topic says who speaks: the broker lets nobody write to another's.
        self.statuses[agent] = status.model_copy(update={"agent": agent})
