"""From the outbox to the broker: most urgent first, each topic in order, deleted only on the broker's word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from agent.mqtt import ConnectionStatus, MqttConnection, NotConnected, PublishRefused
from agent.uplink.outbox import Outbox, OutboxError, Pending

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 120.0
LOSSES_TO_SUSPECT = 2
"""Connections that ended while a topic's message was on its way, before that message is sent alone."""
FLUSH_ROWS = 200
FLUSH_S, FLUSH_REST = 0.25, 10.0
"""After a deletion, how long until the next: so long, or so many times as long as it took, where the disk is slow."""
ROUND_BYTES = 1 << 20
"""Of payloads that are asked of the outbox at once."""
_R = TypeVar("_R")


@dataclass(slots=True)
class _Hold:
    """A topic that is left alone until `until_s` because the broker refused it."""

    reason: str
    delay_s: float
    until_s: float


class Publisher:
    """Drains `outbox` over `connection` while `run` runs.

    Every call into the outbox happens on `executor`, which must be the single thread that also commits. What the
    broker acknowledged is deleted in groups, at most FLUSH_S later: a crash in between sends it again, with the same
    id. What the broker refuses stays, its topic is tried again with growing delays, and `refused` says why.
    """

    def __init__(
        self,
        connection: MqttConnection,
        outbox: Outbox,
        executor: Executor,
        *,
        window: int = 100,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`window`: rows in flight at once. `on_change` is called when `refused` changes."""
        self._connection, self._outbox, self._executor = connection, outbox, executor
        self._window, self._on_change = window, on_change
        self._work = asyncio.Event()
        self._acknowledged: set[int] = set()
        self._flush_due_s = 0.0
        self._held: dict[str, _Hold] = {}
        self._losses: dict[str, int] = {}
        self._is_lone_round = False
        self.published = 0
        """Rows that the broker has acknowledged."""
        connection.add_listener(self._connection_changed)

    @property
    def refused(self) -> Mapping[str, str]:
        """Topics the broker refuses, and why."""
        return {topic: hold.reason for topic, hold in self._held.items()}

    def wake(self) -> None:
        """New rows were committed. Call on the event loop."""
        self._work.set()

    async def run(self) -> None:
        """Publish until cancelled; what was acknowledged by then is deleted before the end."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                await self._connection.wait_connected()
                self._work.clear()
                try:
                    if not await self._publish_some():
                        if self._loop.time() >= self._flush_due_s:
                            await self._flush()
                        await self._wait_for_work()
                except OutboxError as error:  # the disk is full or failing: whoever commits has raised the alarm
                    log.warning("publishing waits: %s", error)
                    await asyncio.sleep(FIRST_RETRY_S)
        finally:
            with contextlib.suppress(OutboxError):  # then it is sent once more after the restart
                await asyncio.shield(self._flush())

    async def drained(self) -> None:
        """Wait until nothing is left to publish; for tests and for a replay's end."""
        while True:
            depth = await self._on_worker(self._outbox.depth)
            if depth.rows == 0:
                return
            await asyncio.sleep(0.02)

    async def _publish_some(self) -> bool:
        """One round; False when there is nothing to do now."""
        held = self._held_now()
        # Some brokers close the connection on a message they do not take (mosquitto 2.0.11 after "not authorized",
        # others when it is too large). Such topics are tried alone, every other round, so that the rest gets through.
        suspects = {topic for topic, losses in self._losses.items() if losses >= LOSSES_TO_SUSPECT} | set(self._held)
        self._is_lone_round = bool(suspects) and not self._is_lone_round
        if self._is_lone_round:
            rows = await self._pending(1, held)
        else:
            rows = await self._pending(self._window, [*held, *suspects]) or await self._pending(1, held)
        by_topic: defaultdict[str, list[Pending]] = defaultdict(list)
        for row in rows:
            by_topic[row.message.topic].append(row)
        is_alone = len(rows) == 1
        await asyncio.gather(*(self._publish_in_order(in_order, is_alone) for in_order in by_topic.values()))
        if len(self._acknowledged) >= FLUSH_ROWS or self._loop.time() >= self._flush_due_s:
            await self._flush()
        return bool(rows)

    async def _publish_in_order(self, rows: Sequence[Pending], is_alone: bool) -> None:
        """Publish one topic's rows, each after the broker's word on the one before; stop at the first failure."""
        topic = rows[0].message.topic
        for row in rows:
            was_connected = self._connection.is_connected
            try:
                await self._connection.publish(
                    topic,
                    row.message.payload,
                    qos=1,
                    retain=row.message.retain,
                    expiry_s=row.remaining_s,
                    content_type=row.message.content_type,
                )
            except PublishRefused as refusal:
                self._hold(topic, refusal.reason)
                return
            except NotConnected:
                if was_connected:
                    self._losses[topic] = self._losses.get(topic, 0) + 1
                if was_connected and is_alone and self._losses[topic] > LOSSES_TO_SUSPECT:
                    reason = f"the connection ends whenever this message of {len(row.message.payload)} bytes is sent"
                    self._hold(topic, reason)
                return
            self._acknowledged.add(row.id)
            self.published += 1
            self._losses.pop(topic, None)
            if self._held.pop(topic, None) is not None:
                self._refused_changed()

    # -- topics the broker does not take --------------------------------------------------------------------------

    def _held_now(self) -> list[str]:
        now_s = self._loop.time()
        forgotten = [topic for topic, hold in self._held.items() if now_s - hold.until_s > 2 * LONGEST_RETRY_S]
        for topic in forgotten:  # its rows have expired or were shed meanwhile
            del self._held[topic]
        if forgotten:
            self._refused_changed()
        return [topic for topic, hold in self._held.items() if hold.until_s > now_s]

    def _hold(self, topic: str, reason: str) -> None:
        before = self._held.get(topic)
        delay_s = FIRST_RETRY_S if before is None else min(2 * before.delay_s, LONGEST_RETRY_S)
        self._held[topic] = _Hold(reason, delay_s, self._loop.time() + delay_s)
        if before is None or before.reason != reason:
            log.error("denied topic %s: %s; its messages stay in the outbox", topic, reason)
            self._refused_changed()

    def _refused_changed(self) -> None:
        if self._on_change is not None:
            self._on_change()

    def _connection_changed(self, status: ConnectionStatus) -> None:
        if status.connected:
            self._work.set()

    # -- the outbox, on its own thread ----------------------------------------------------------------------------

    async def _wait_for_work(self) -> None:
        now_s = self._loop.time()
        waits_s = [hold.until_s for hold in self._held.values() if hold.until_s > now_s]
        if self._acknowledged:
            waits_s.append(self._flush_due_s)
        next_s = min(waits_s, default=None)
        try:
            async with asyncio.timeout_at(next_s):
                await self._work.wait()
        except TimeoutError:
            return

    async def _pending(self, limit: int, skip_topics: Sequence[str]) -> list[Pending]:
        acknowledged = tuple(self._acknowledged)
        return await self._on_worker(
            lambda: self._outbox.pending(limit, ROUND_BYTES, skip_ids=acknowledged, skip_topics=skip_topics)
        )

    async def _flush(self) -> None:
        if not self._acknowledged:
            return
        began_s = self._loop.time()
        acknowledged = tuple(self._acknowledged)
        await self._on_worker(lambda: self._outbox.delivered(acknowledged))
        self._acknowledged.clear()
        now_s = self._loop.time()
        self._flush_due_s = now_s + max(FLUSH_S, FLUSH_REST * (now_s - began_s))

    async def _on_worker(self, call: Callable[[], _R]) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)
