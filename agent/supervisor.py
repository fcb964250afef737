"""The running agent: sources fill a bounded queue, one worker thread steps and commits, the publisher drains.

This is where clocks are read. Everything that decides is in the engine, everything that lasts is in the outbox.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from agent import __version__, audit, garbage, heap
from agent.alarms.alert import AlertEvent
from agent.audit import Audit
from agent.config import (
    BleConfig,
    Config,
    NightscoutConfig,
    PatientConfig,
    SerialConfig,
    WfdbSource,
    streams,
)
from agent.device_alarms import DeviceAlarms
from agent.engine import Engine
from agent.fleet.configured import listener_for
from agent.health import Health
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import Models
from agent.ingest.babble import Babble
from agent.ingest.bluetooth import BluetoothSettingError, bluetooth_source
from agent.ingest.decoder import StreamConfig
from agent.ingest.device_status import DeviceSource
from agent.ingest.inbox import Inbox
from agent.ingest.mqtt import MqttSource
from agent.ingest.nightscout import NightscoutSource, Site
from agent.ingest.replay import EPOCH_NS, ReplaySource, record_chunks
from agent.ingest.serial import SerialSource
from agent.ingest.source import Delivery, Source
from agent.live_models import live_models, model_alarms
from agent.mqtt import MqttConnection, Will
from agent.mqtt.configured import connection_to
from agent.overload import Overload, alarmed
from agent.persons import persons, record_of
from agent.power import Power, PowerWatch
from agent.progress import Progress
from agent.recorder.recorder import Recorder
from agent.recorder.ring import RECORDINGS, Ring
from agent.shed import Shed
from agent.spare import Economy
from agent.standing import Standing, StandingAlarms
from agent.systemd import ServiceManager, in_words
from agent.uplink import discovery, outbox_file
from agent.uplink.discovery import Discovery
from agent.uplink.home_assistant import Member, discovery_documents
from agent.uplink.messages import JSON_TYPE, offline_payload
from agent.uplink.outbox import Outbox, OutboxError
from agent.uplink.publisher import Publisher
from agent.uplink.unsaved import send_unsaved
from agent.uplink.webhook import WebhookPublisher
from agent.worker import Worker
from agent.workers.leaving import leave
from agent.workers.shares import Share
from agent.workers.tell import ToParent
from firmware_bridge.chunk import NS_PER_S

if TYPE_CHECKING:
    from agent.web.web import Web

log = logging.getLogger(__name__)

STATUS_S = 10.0
LOOK_S = 1.0
"""How often it is looked whether models, adapters and wearables are as they should be."""
MOST_UNACKED = 65_535
GOODBYE_S = 3.0
"""An orderly stop waits this long for the broker to take what is left."""


class Supervisor:
    """One agent process, from a config: the whole agent, or one of its workers."""

    def __init__(self, share: Share, parent: ToParent | None = None) -> None:
        """`parent`: of a worker, whom it tells what concerns the whole agent."""
        config = share.config
        self._config, self._share, self._parent = config, share, parent
        self._topics = share.topics
        self._streams = {place: StreamConfig(*expected) for place, expected in streams(config).items()}
        folder = share.folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        models, self._packs = live_models(config.agent.state_dir, config.agent.runtime, time.time_ns)
        self._persons, self._refused = persons(config, self._streams)
        outbox = Outbox(
            folder / outbox_file.FILE_NAME,
            config.outbox.max_mb << 20,
            webhook_bytes=config.webhook.max_mb << 20 if config.webhook else None,
        )
        kept = config.history  # opened after the outbox, whose lock keeps others out
        self._history = History(folder / FILE_NAME, days=kept.days, max_mb=kept.max_mb)
        engine = Engine(
            self._persons,
            models,
            mains_hz=config.agent.mains_hz,
            late_after_s=config.agent.late_after_s,
            watch=self._history.watch,
        )
        self._web = _web(share)
        if self._web is not None:
            engine.stage = self._web.meters.stage
        self._wall = config.agent.time == "wall"
        standing = StandingAlarms(folder / "standing.json")
        self._economy = Economy()
        minded = config.power.enabled and self._wall
        self._power = PowerWatch(Power(config.power.warm_c, config.power.hot_c), self._economy) if minded else None
        self._worker = Worker(
            engine,
            outbox,
            self._topics,
            wall=self._wall,
            standing=standing,
            history=self._history,
            recorder=_recorder(share, engine, models),
            manners=config.manners,
            alarms_per_day={patient.id: patient.alarms_per_day for patient in config.patients},
            audit=Audit(folder / audit.FILE_NAME),
            economy=self._economy,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        hook = config.webhook
        self._webhook = WebhookPublisher(hook.receiver(), outbox, self._thread) if hook is not None else None
        self._shed = Shed()
        self._inbox = Inbox({one.id: len(one.streams) for one in self._persons}, live=self._wall, shed=self._shed)
        self._overload = Overload(self._inbox, [one.id for one in self._persons], self._economy, time.monotonic())
        self._worker.shed = self._shed
        heard = self._streams.values() if self._wall else ()  # what is played fast sends its rubbish fast
        self._babble = Babble([one.stream for one in heard], shed=self._shed)
        self._sites = [
            NightscoutSource(Site(source.url, source.secret, source.token), source.stream, poll_s=source.poll_s)
            for patient in config.patients
            for source in patient.sources
            if isinstance(source, NightscoutConfig)
        ]
        self._stopping, self._hearing = asyncio.Event(), asyncio.Event()
        self._ingest: MqttConnection | None = None
        self._source: MqttSource | None = None
        self.has_left = False
        """Whether `leave` has come to its end."""
        self._progress, self._manager = Progress(), ServiceManager({} if parent else os.environ)
        self._late_ns = round(config.agent.late_after_s * NS_PER_S)
        self._wearables: list[DeviceSource] = [self._babble]
        worn = [source for patient in config.patients for source in patient.sources if isinstance(source, BleConfig)]
        self._bluetooth = bluetooth_source(worn, config.agent.state_dir) if worn else None
        if self._bluetooth is not None:
            self._wearables.append(self._bluetooth)
        wired = [
            source for patient in config.patients for source in patient.sources if isinstance(source, SerialConfig)
        ]
        self._serial = SerialSource(wired) if wired else None
        if self._serial is not None:
            self._wearables.append(self._serial)
        self._device_alarms = DeviceAlarms(config.agent.id)
        self._standing: dict[Standing, str] = {}

    async def run(self) -> None:
        """Run until `stop` is called."""
        loop = asyncio.get_running_loop()
        mqtt, share = self._config.mqtt, self._share
        async with AsyncExitStack() as stack:
            will = Will(self._topics.status, offline_payload(self._config.agent.id), content_type=JSON_TYPE)
            uplink = connection_to(mqtt, share.uplink_id, will=None if self._parent else will, clean_start=True)
            # The inbox bounds what waits: acknowledgements leave in the order of arrival, and one that takes its time
            # must not keep the others' data at the broker.
            ingest = connection_to(mqtt, share.session, max_unacked=MOST_UNACKED)
            source = MqttSource(
                ingest,
                self._streams,
                filters=share.filters,
                topics=self._topics,
                refuses=self._inbox.refuses,
                is_asked=share.is_asked,
                babble=self._babble,
            )
            publisher = Publisher(
                uplink,
                self._worker.outbox,
                self._thread,
                on_change=lambda: health.changed(),  # noqa: PLW0108 (health is made from the publisher)
            )
            health = Health(
                self._worker,
                self._thread,
                uplink,
                publisher,
                source,
                ingest,
                self._packs,
                self._sites,
                self._wearables,
                self._webhook,
                self._inbox,
                self._economy,
                self._power.power if self._power else None,
                self._parent,
                share.notes,
            )
            resumed = await loop.run_in_executor(self._thread, self._worker.recover, source.decoder.decode)
            log.info("agent %s, vagus %s: %s", self._config.agent.id, __version__, resumed)
            garbage.settle()
            await self._say_what_stands(self._what_stands())
            if self._web is not None:
                endpoints = self._web.open(health.facts, self._thread, self._progress, health.reasons)
                stack.callback(endpoints.stop)
            home = self._discovery(share.everybody) if share.everybody is not None else None
            updates = None if self._parent else listener_for(self._config, health.changed)
            health.update = updates.health if updates is not None else None
            for connection in (uplink, ingest, *(one.connection for one in (home, updates) if one is not None)):
                await stack.enter_async_context(connection)
            async with asyncio.TaskGroup() as tasks:
                publishing = tasks.create_task(publisher.run(), name="publisher")
                feeding = [
                    tasks.create_task(health.run(STATUS_S), name="health"),
                    tasks.create_task(self._work(uplink, publisher, health), name="worker"),
                    tasks.create_task(source.run(self._inbox.offer), name="mqtt"),
                    *(tasks.create_task(one.run(self._inbox.put)) for one in self._sources()),
                    tasks.create_task(
                        self._manager.run(self._progress, lambda: in_words(len(self._persons), health.reasons())),
                        name="service manager",
                    ),
                    *([tasks.create_task(home.run(), name="home assistant")] if home else []),
                    *([tasks.create_task(updates.run(), name="updates")] if updates else []),
                    *([tasks.create_task(self._webhook.run(), name="webhook")] if self._webhook else []),
                    *([tasks.create_task(self._power.run(health.changed), name="power")] if self._power else []),
                ]
                self._ingest, self._source = ingest, source
                self._hearing.set()
                self._manager.ready()
                await self._stopping.wait()
                log.info("stopping")
                self._manager.stopping()
                for task in feeding:
                    task.cancel()
                await asyncio.gather(*feeding, return_exceptions=True)
                await loop.run_in_executor(self._thread, self._worker.save_all)
                await _at_most(GOODBYE_S, publisher.drained())
                publishing.cancel()
            await health.goodbye()
        await loop.run_in_executor(self._thread, self._history.close)
        await loop.run_in_executor(self._thread, self._worker.outbox.close)
        if self._worker.recorder is not None:
            await loop.run_in_executor(self._thread, self._worker.recorder.close)
        self._thread.shutdown()

    def _sources(self) -> list[Source]:
        """Those that can wait."""
        replays = [
            self._replay(patient.id, source)
            for patient in self._config.patients
            for source in patient.sources
            if isinstance(source, WfdbSource)
        ]
        kept_open = [source for source in (self._bluetooth, self._serial) if source is not None]
        return [*replays, *self._sites, *kept_open]

    def _discovery(self, config: Config) -> Discovery | None:
        """What Home Assistant is to be told; None where there is nothing to say and nothing to take away."""
        home = config.home_assistant
        path = config.agent.state_dir / discovery.FILE_NAME
        worn = {patient.id: _wearables(patient) for patient in config.patients}
        expected = {place: StreamConfig(*one) for place, one in streams(config).items()}
        members = [Member(person, worn[person.id]) for person in persons(config, expected)[0]]
        documents = discovery_documents(self._topics, home.prefix, members) if home.enabled else {}
        if not documents and not path.exists():
            return None
        connection = connection_to(config.mqtt, f"{config.mqtt.client_id}-home", clean_start=True)
        return Discovery(connection, home.prefix, documents, path)

    def _replay(self, patient: str, source: WfdbSource) -> ReplaySource:
        """A recording as a sensor: as if it began now, where the clock counts."""
        t0_ns = time.time_ns() if self._wall else EPOCH_NS
        chunks = record_chunks(source.path, record_of(patient, source), t0_ns=t0_ns)
        return ReplaySource(chunks, speed=source.speed or None)

    def stop(self) -> None:
        """End `run`: state is saved, subscribers are told."""
        self._stopping.set()

    async def leave(self) -> None:
        """Take in what the broker has kept for this session, and stop: others hear the sensors from now on."""
        await self._hearing.wait()
        if self._ingest is not None and self._source is not None and await leave(self._ingest, self._source):
            self.has_left = True
        self.stop()

    async def has_turned(self) -> None:
        """Returns when the worker's thread has had its turn: it does not hang."""
        with suppress(RuntimeError):  # it has ended
            await asyncio.get_running_loop().run_in_executor(self._thread, int)

    async def _work(self, uplink: MqttConnection, publisher: Publisher, health: Health) -> None:
        """Tick after tick: take what has come, step, commit, acknowledge, and let the publisher know."""
        loop = asyncio.get_running_loop()
        sent_unsaved: set[int] = set()
        look_s = loop.time()
        while True:
            deliveries = await self._inbox.take()
            self._shed_what_must_be()
            now_ns = time.time_ns() if self._wall else None
            events = await self._tick(deliveries, now_ns)
            if loop.time() >= look_s:
                look_s = loop.time() + LOOK_S
                if (stands := self._what_stands()) != self._standing:
                    await self._say_what_stands(stands)
                    self._wake(publisher)
                    health.changed()
            for delivery in deliveries:
                delivery.ack()
            for delivery, outcome in self._worker.answers():
                if delivery.answer is not None:
                    delivery.answer(outcome.accepted, outcome.words)
                health.changed()
            if self._worker.unsaved:
                send_unsaved(uplink, self._worker.unsaved, sent_unsaved)
                health.changed()
            elif sent_unsaved:
                sent_unsaved.clear()
                health.changed()
            if events:
                self._wake(publisher)
                _log(events)

    async def _tick(self, deliveries: Sequence[Delivery], now_ns: int | None) -> Sequence[AlertEvent]:
        """One tick on the worker's thread, timed where somebody looks."""
        began_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        events = await loop.run_in_executor(self._thread, self._worker.tick, deliveries, now_ns)
        self._progress.made()
        if self._web is not None:
            self._web.meters.ticked(time.perf_counter() - began_s, deliveries, events, self._late_ns)
        return events

    def _shed_what_must_be(self) -> None:
        """Live, a tick must not take longer than its data took to come."""
        if not self._wall:
            return
        idle_s = self._inbox.idle_s + self._worker.outbox.synced_s
        self._overload.note(self._inbox.drawn_s, idle_s=idle_s, alarmed=partial(alarmed, self._worker.engine.patients))
        self._worker.level, self._worker.unheard = self._overload.level, tuple(self._inbox.asides())

    def _wake(self, publisher: Publisher) -> None:
        """There is something new to send."""
        publisher.wake()
        if self._webhook is not None:
            self._webhook.wake()

    def _what_stands(self) -> dict[Standing, str]:
        """Which models are missing or run on less than was asked for, which adapters and wearables need somebody."""
        agent = self._config.agent.id
        stands = {(agent, rule): text for rule, text in model_alarms(self._packs).items()}
        if self._webhook is not None and self._webhook.trouble():
            stands[agent, "webhook"] = self._webhook.trouble()
        if self._power is not None:
            stands |= {(agent, rule): text for rule, text in self._power.power.alarms.items()}
        if self._overload.words:
            stands[agent, "overload"] = self._overload.words
        stands |= {(one, "overload"): aside.words for one, aside in self._inbox.asides().items()}
        return stands | self._device_alarms.wanted(self._wearables)

    async def _say_what_stands(self, stands: dict[Standing, str]) -> None:
        """Put it on disk; what is no longer so ends."""
        self._standing = own = stands
        if self._parent is not None and self._topics.worker is not None:
            agent = self._config.agent.id
            self._parent.stand({rule: text for (subject, rule), text in own.items() if subject == agent})
            own = {standing: text for standing, text in own.items() if standing[0] != agent}
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._worker.stand, own, time.time_ns())


def run_agent(share: Share) -> int:
    """`vagus run`: until SIGTERM or SIGINT. 0 on a clean stop, 1 when the agent could not go on."""
    heap.one_heap()
    try:
        asyncio.run(_run_until_told(share))
    except OutboxError as error:
        sys.stderr.write(f"vagus run: {error}\n")
        return 1
    except BluetoothSettingError as error:
        sys.stderr.write(f"vagus run: {error}\n")
        return 2
    return 0


async def _run_until_told(share: Share) -> None:
    supervisor = Supervisor(share)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run()


def _web(share: Share) -> Web | None:
    if share.config.web is None:
        return None
    from agent.web.web import Web  # noqa: PLC0415 (only where somebody listens)

    return Web(share.config.web)


def _recorder(share: Share, engine: Engine, models: Models) -> Recorder | None:
    config, kept = share.config, share.config.recorder
    if not kept.enabled:
        return None
    ring = Ring(share.folder / RECORDINGS, days=kept.days, max_bytes=kept.max_mb << 20)
    return Recorder(engine, models, ring, mains_hz=config.agent.mains_hz, late_after_s=config.agent.late_after_s)


def _wearables(patient: PatientConfig) -> tuple[str, ...]:
    """Those that the agent itself keeps in touch with, and so knows the battery of."""
    devices = [source.device for source in patient.sources if isinstance(source, BleConfig)]
    devices += [source.stream.device for source in patient.sources if isinstance(source, SerialConfig)]
    return tuple(dict.fromkeys(devices))


async def _at_most(seconds: float, awaitable: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await awaitable
    except TimeoutError:
        log.warning("not everything could be published before the stop: it stays in the outbox")


def _log(events: Sequence[AlertEvent]) -> None:
    for event in events:
        level = logging.WARNING if event.phase.value == "start" and event.priority.rank == 0 else logging.INFO
        log.log(level, "%s %s %s %s: %s", event.patient, event.priority, event.phase, event.rule, event.text)
