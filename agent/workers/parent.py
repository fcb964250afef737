"""The parent of an agent in several processes: it watches nobody, it sees to it that others do.

It starts the workers and starts them again, and is the one voice of what concerns the whole agent: the retained status
with its last will, the alarms on the agent itself, and the answers to commands that are about nobody's alarm.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent import __version__, audit, heap
from agent.audit import Audit
from agent.config import Config
from agent.fleet.configured import listener_for
from agent.history import History
from agent.history.file import FILE_NAME
from agent.ingest.mqtt import MqttSource
from agent.ingest.source import Delivery
from agent.mqtt import ConnectionStatus, MqttConnection, MqttError, Will
from agent.mqtt.configured import connection_to
from agent.progress import Progress
from agent.standing import StandingAlarms
from agent.systemd import ServiceManager, in_words
from agent.uplink import outbox_file
from agent.uplink.evidence import rfc3339
from agent.uplink.messages import JSON_TYPE, PauseHealth, StatusMessage, WorkerHealth, offline_payload, status_message
from agent.uplink.outbox import Outbox, OutboxError
from agent.uplink.publisher import Publisher
from agent.uplink.topics import Topics
from agent.uplink.unsaved import send_unsaved
from agent.uplink.webhook import WebhookPublisher
from agent.worker import Worker
from agent.workers.keeper import Keeper
from agent.workers.merged import Part, merged_alarms, merged_status
from agent.workers.shares import Layout, asked_of
from agent.workers.talk import Orders

if TYPE_CHECKING:
    from agent.engine import Engine

log = logging.getLogger(__name__)

IDLE_S = 1.0
"""With nothing asked, time is let pass this often: an alarm that nobody sees to is escalated."""
STATUS_S = 10.0
GOODBYE_S = 3.0
OWN_HISTORY_MB = 16
"""For alarms on the agent itself; what is kept of patients is kept by their workers."""


class WorkersParent:
    """Runs the workers of `layout`, and speaks for all of them."""

    def __init__(self, config: Config, text: str, path: Path, layout: Layout, notes: Sequence[str] = ()) -> None:
        """`text`: of the config, from the file `path`. `notes`: why things are not as it asks for, for the status."""
        self._config, self._layout, self._notes = config, layout, tuple(notes)
        self._topics = Topics(config.agent.id)
        folder = config.agent.state_dir
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        hook = config.webhook
        outbox = Outbox(folder / outbox_file.FILE_NAME, webhook_bytes=hook.max_mb << 20 if hook else None)
        self._history = History(folder / FILE_NAME, days=config.history.days, max_mb=OWN_HISTORY_MB)
        self._wall = config.agent.time == "wall"
        self._worker = Worker(
            cast("Engine", Nobody()),
            outbox,
            self._topics,
            wall=self._wall,
            history=self._history,
            standing=StandingAlarms(folder / "standing.json"),
            manners=config.manners,
            audit=Audit(folder / audit.FILE_NAME),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._webhook = WebhookPublisher(hook.receiver(), outbox, self._thread) if hook is not None else None
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(64)
        self._stopping, self._changed = asyncio.Event(), asyncio.Event()
        workers = range(layout.workers)
        self.keepers = [Keeper(Orders(text, path, layout, worker), self._changed.set) for worker in workers]
        self._patients = [
            tuple(patient.id for patient in config.patients if layout.owner(patient.id) == worker) for worker in workers
        ]
        watched = {patient.id for patient in config.patients}
        self._others = watched | {Topics(config.agent.id, worker).itself for worker in workers}
        self._connections = 0
        self._progress, self._manager = Progress(), ServiceManager(os.environ)
        self._started_ns = time.time_ns()
        self._updates = listener_for(config, self._changed.set)

    def stop(self) -> None:
        """End `run`: the workers stop in good order, subscribers are told."""
        self._stopping.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        config, mqtt = self._config, self._config.mqtt
        await loop.run_in_executor(self._thread, self._worker.recover, lambda *_: ())
        log.info("agent %s, vagus %s: %d workers", config.agent.id, __version__, self._layout.workers)
        async with AsyncExitStack() as stack:
            will = Will(self._topics.status, offline_payload(config.agent.id), content_type=JSON_TYPE)
            uplink = connection_to(mqtt, mqtt.client_id, will=will, clean_start=True)
            asked = connection_to(mqtt, f"{mqtt.client_id}-cmd")
            source = MqttSource(asked, {}, filters=(), topics=self._topics, is_asked=self._is_asked)
            publisher = Publisher(uplink, self._worker.outbox, self._thread, on_change=self._changed.set)
            for connection in (uplink, asked):
                connection.add_listener(self._connection_changed)
                await stack.enter_async_context(connection)
            if self._updates is not None:
                await stack.enter_async_context(self._updates.connection)
            async with asyncio.TaskGroup() as tasks:
                keeping = [tasks.create_task(keeper.run(), name=f"keeper {keeper.number}") for keeper in self.keepers]
                publishing = tasks.create_task(publisher.run(), name="publisher")
                feeding = [
                    tasks.create_task(self._work(uplink, publisher), name="outbox"),
                    tasks.create_task(self._speak(uplink, asked, publisher), name="status"),
                    tasks.create_task(source.run(self._queue.put), name="commands"),
                    tasks.create_task(self._manager.run(self._progress, self._in_words), name="service manager"),
                    *([tasks.create_task(self._webhook.run(), name="webhook")] if self._webhook else []),
                    *([tasks.create_task(self._updates.run(), name="updates")] if self._updates else []),
                ]
                await self._stopping.wait()
                log.info("stopping %d workers", len(self.keepers))
                self._manager.stopping()
                await asyncio.gather(*(keeper.stop() for keeper in self.keepers))
                for task in [*keeping, *feeding]:
                    task.cancel()
                await asyncio.gather(*keeping, *feeding, return_exceptions=True)
                await loop.run_in_executor(self._thread, self._worker.save_all)
                try:
                    async with asyncio.timeout(GOODBYE_S):
                        await publisher.drained()
                except TimeoutError:
                    log.warning("not everything could be published before the stop: it stays in the outbox")
                publishing.cancel()
            await self._publish(uplink, offline_payload(config.agent.id, "stopped on request"))
        await loop.run_in_executor(self._thread, self._history.close)
        await loop.run_in_executor(self._thread, self._worker.outbox.close)
        self._thread.shutdown()

    def _is_asked(self, payload: bytes) -> bool:
        """Whether nobody else will answer a command."""
        return asked_of(payload) not in self._others

    async def _work(self, uplink: MqttConnection, publisher: Publisher) -> None:
        """Take what people ask of the agent itself, let time pass, and put on disk what comes of it."""
        loop = asyncio.get_running_loop()
        sent_unsaved: set[int] = set()
        while True:
            deliveries: list[Delivery] = []
            try:
                async with asyncio.timeout(IDLE_S):
                    deliveries.append(await self._queue.get())
            except TimeoutError:
                pass
            now_ns = time.time_ns() if self._wall else None
            events = await loop.run_in_executor(self._thread, self._worker.tick, deliveries, now_ns)
            if any(keeper.state != "down" for keeper in self.keepers):  # one that dies and dies is in its keeper's care
                self._progress.made()
            for delivery in deliveries:
                delivery.ack()
            for delivery, outcome in self._worker.answers():
                if delivery.answer is not None:
                    delivery.answer(outcome.accepted, outcome.words)
                self._changed.set()
            if self._worker.unsaved:
                send_unsaved(uplink, self._worker.unsaved, sent_unsaved)
            else:
                sent_unsaved.clear()
            if events:
                self._wake(publisher)

    async def _speak(self, uplink: MqttConnection, asked: MqttConnection, publisher: Publisher) -> None:
        """Alarms on the agent and its status: whenever something has changed, and every so often."""
        loop = asyncio.get_running_loop()
        due_s, said, stood = 0.0, None, None
        while True:
            self._changed.clear()
            parts = self._parts()
            if all(keeper.stands is not None or keeper.deaths for keeper in self.keepers):
                self._manager.ready()
                stands = {(self._topics.agent, rule): text for rule, text in merged_alarms(parts).items()}
                if self._webhook is not None and self._webhook.trouble():
                    stands[self._topics.agent, "webhook"] = self._webhook.trouble()
                if stands != stood:  # before all have spoken, what stood before this start is left standing
                    stood = stands
                    await loop.run_in_executor(self._thread, self._worker.stand, stands, time.time_ns())
                    self._wake(publisher)
            own = await loop.run_in_executor(self._thread, self._own_status, self._reasons(asked, publisher))
            status = merged_status(own, parts)
            news = (
                self._connections,
                status.state,
                status.reasons,
                status.pauses,
                [part.worker.state for part in parts],
            )
            if uplink.is_connected and (news != said or loop.time() >= due_s):
                due_s, said = loop.time() + STATUS_S, news
                await self._publish(uplink, status_message(status, self._topics).payload)
            try:
                async with asyncio.timeout(STATUS_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _connection_changed(self, _status: ConnectionStatus) -> None:
        """Whoever was cut off may have heard the last will."""
        self._connections += 1
        self._changed.set()

    def _wake(self, publisher: Publisher) -> None:
        publisher.wake()
        if self._webhook is not None:
            self._webhook.wake()

    def _reasons(self, asked: MqttConnection, publisher: Publisher) -> list[str]:
        reasons = list(self._notes)
        if self._worker.disk_full:
            reasons.append("the disk is full: only alerts are kept, and a crash may lose some")
        if self._worker.outbox.moved_aside is not None:
            reasons.append(f"the outbox was damaged: moved to {self._worker.outbox.moved_aside}, started anew")
        if self._worker.audit is not None and self._worker.audit.trouble:
            reasons.append(self._worker.audit.trouble)
        reasons += [f"{topic}: {reason}" for topic, reason in publisher.refused.items()]
        reasons += [f"no commands: denied to subscribe to {one}" for one in asked.status.refused_subscriptions]
        return reasons

    def _in_words(self) -> str:
        down = [f"worker {one.number} {one.trouble}" for one in self.keepers if one.trouble]
        return in_words(sum(len(patients) for patients in self._patients), [*self._notes, *down])

    def _parts(self) -> list[Part]:
        return [self._part(keeper) for keeper in self.keepers]

    def _part(self, keeper: Keeper) -> Part:
        patients = self._patients[keeper.number]
        health = WorkerHealth(
            worker=keeper.number,
            state=keeper.state,
            patients=len(patients),
            deaths=keeper.deaths,
            detail=keeper.trouble,
            numbers=keeper.numbers,
        )
        return Part(health, patients, keeper.trouble, keeper.status, keeper.stands or {})

    def _own_status(self, reasons: list[str]) -> StatusMessage:
        depth, attendance = self._worker.outbox.depth(), self._worker.attendance
        return StatusMessage(
            agent=self._topics.agent,
            state="online",
            at=rfc3339(time.time_ns()),
            version=__version__,
            boot_id=self._worker.outbox.boot_id,
            started_at=rfc3339(self._started_ns),
            reasons=reasons,
            pauses=[
                PauseHealth(patient=subject, what=target, by=by, until=rfc3339(until_ns))
                for subject, target, by, until_ns in (attendance.pauses() if attendance is not None else ())
            ],
            counters={"outbox_rows": depth.rows, "outbox_bytes": depth.payload_bytes},
            every_s=STATUS_S,
            update=self._updates.health() if self._updates is not None else None,
        )

    async def _publish(self, uplink: MqttConnection, payload: bytes) -> None:
        try:
            async with asyncio.timeout(GOODBYE_S):
                await uplink.publish(self._topics.status, payload, qos=1, retain=True, content_type=JSON_TYPE)
        except (MqttError, TimeoutError) as error:
            log.warning("status could not be published: %s", error)


class Nobody:
    """In place of an engine: whoever watches nobody has nothing to step."""

    def __init__(self) -> None:
        self.patients: dict[str, object] = {}
        self.stage = lambda _: nullcontext()

    def step(self, _chunks: Sequence[object], _now_ns: int | None = None) -> list[object]:
        return []


def run_workers(config: Config, text: str, path: Path, layout: Layout, notes: Sequence[str] = ()) -> int:
    """`vagus run` with several processes: until SIGTERM or SIGINT. 0 on a clean stop, 1 when it could not go on."""
    heap.one_heap()
    try:
        asyncio.run(_run_until_told(config, text, path, layout, notes))
    except OutboxError as error:
        sys.stderr.write(f"vagus run: {error}\n")
        return 1
    return 0


async def _run_until_told(config: Config, text: str, path: Path, layout: Layout, notes: Sequence[str]) -> None:
    parent = WorkersParent(config, text, path, layout, notes)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parent.stop)
    await parent.run()
