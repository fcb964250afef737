"""What the agent says of itself: the retained status, and the vital signs for display.

Display data is published straight away and is not promised: it is the first to go when anything is short.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, Literal

from agent import __version__
from agent.heart_day import heart_day_vitals
from agent.ingest.device_status import DeviceSource, DeviceStatus
from agent.ingest.inbox import Inbox
from agent.ingest.mqtt import MqttSource
from agent.ingest.nightscout import NightscoutSource
from agent.live_models import PackState
from agent.machine import disk_free_mb
from agent.mqtt import ConnectionStatus, MqttConnection, MqttError, PublishResult
from agent.patient import PatientState
from agent.power import Heat, Power
from agent.shed import WORDS, Level
from agent.spare import Economy
from agent.stream_state import StreamState
from agent.uplink.evidence import rfc3339
from agent.uplink.messages import (
    DeviceHealth,
    PackHealth,
    PauseHealth,
    PowerHealth,
    StatusMessage,
    StreamHealth,
    UpdateHealth,
    offline_payload,
    status_message,
    vital_message,
)
from agent.uplink.outbox import Outgoing
from agent.uplink.publisher import Publisher
from agent.uplink.webhook import WebhookPublisher
from agent.vitals import Vital, device_vitals, vitals_of
from agent.web.facts import Facts
from agent.worker import Worker
from agent.workers.tell import ToParent

log = logging.getLogger(__name__)

VITALS_S = 2.0
DEVICE_VITALS_S = 60.0
DAYS_S = 300.0
DISPLAY_BACKLOG = 200
"""Display messages under way at once; more are not sent at all."""

_TOLD_BY_REASON = ("new", "refused", "duplicate")
"""Kinds of glucose reading that are in order, or counted again with their reason."""

_HEAT: Final[Mapping[Heat, Literal["normal", "warm", "hot"]]] = {
    Heat.NORMAL: "normal",
    Heat.WARM: "warm",
    Heat.HOT: "hot",
}
StreamWord = Literal["ok", "waiting", "silent", "late", "poor"]


class Health:
    """Publishes status every so often and on every change that a subscriber should know at once, and vital signs."""

    def __init__(
        self,
        worker: Worker,
        thread: Executor,
        uplink: MqttConnection,
        publisher: Publisher,
        source: MqttSource,
        ingest: MqttConnection,
        packs: Sequence[PackState],
        sites: Sequence[NightscoutSource] = (),
        wearables: Sequence[DeviceSource] = (),
        webhook: WebhookPublisher | None = None,
        inbox: Inbox | None = None,
        economy: Economy | None = None,
        power: Power | None = None,
        parent: ToParent | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """`parent`: of a worker, whom it tells its part of the status in place of subscribers.

        `notes`: reasons that hold as long as the process lives.
        """
        self._parent, self._notes = parent, tuple(notes)
        self._worker, self._thread, self._uplink, self._publisher = worker, thread, uplink, publisher
        self._source, self._ingest = source, ingest
        self._packs, self._sites, self._wearables, self._webhook = packs, sites, wearables, webhook
        self._inbox = inbox
        self._economy, self._power = economy or Economy(), power
        self._started_ns = time.time_ns()
        self._every_s: float | None = None
        self.update: Callable[[], UpdateHealth] | None = None
        """Where the agent stands with roll-outs, if it takes part in them."""
        self._under_way = 0
        self._last_vital: dict[tuple[str, str], str] = {}
        self._glucose_shown_ns: dict[str, int] = {}
        self._shed = 0
        self._devices_due_s = self._days_due_s = 0.0
        self._changed = asyncio.Event()
        self._said: tuple[str, ...] = ()
        for connection in (uplink, ingest):
            connection.add_listener(self._connection_changed)

    def changed(self) -> None:
        """Something happened that the status should say now."""
        self._changed.set()

    def _connection_changed(self, _status: ConnectionStatus) -> None:
        self._changed.set()

    async def run(self, every_s: float) -> None:
        """Publish status and vital signs until cancelled."""
        loop = asyncio.get_running_loop()
        due_s, self._every_s = loop.time(), every_s
        while True:
            news = self._changed.is_set()
            self._changed.clear()
            if self._uplink.is_connected:
                await self._show_vitals()
            if self._uplink.is_connected or self._parent is not None:
                reasons = tuple(self._reasons())
                if news or loop.time() >= due_s or reasons != self._said:
                    due_s, self._said = loop.time() + every_s * self._economy.pace, reasons
                    await self._say()
            with suppress(TimeoutError):
                async with asyncio.timeout(VITALS_S * self._economy.pace):
                    await self._changed.wait()

    async def _show_vitals(self) -> None:
        if self._worker.level >= Level.DISPLAY:
            self._worker.shed.note("vital signs", "overload")
            return
        loop = asyncio.get_running_loop()
        vitals = await loop.run_in_executor(self._thread, self._vitals)
        if loop.time() >= self._days_due_s:
            self._days_due_s = loop.time() + DAYS_S
            vitals += await loop.run_in_executor(self._thread, self._heart_days)
        if loop.time() >= self._devices_due_s:
            self._devices_due_s = loop.time() + DEVICE_VITALS_S
            vitals += [vital for status in self._devices() for vital in device_vitals(status, time.time_ns())]
        for vital in vitals:
            self._show(vital_message(vital.message, self._worker.topics, vital.retained_s))

    def reasons(self) -> tuple[str, ...]:
        """Why the agent does less than it should, as last said."""
        return self._said

    def facts(self) -> Facts:
        """What a scrape shows; to be called on the worker's thread."""
        devices = self._devices()
        return Facts(
            status=self._status(list(self._said), [_device_health(status) for status in devices]),
            patients=tuple(self._worker.engine.patients.values()),
            devices=tuple(devices),
            packs=tuple(self._packs),
            shed={} if self._inbox is None else dict(self._inbox.shed.counts),
            rejected=self._source.decoder.rejected(),
            connected={"upstream": self._uplink.is_connected, "input": self._ingest.is_connected},
        )

    async def goodbye(self) -> None:
        """Tell subscribers that monitoring stops now, and on purpose."""
        if not self._uplink.is_connected or self._parent is not None:
            return
        topics = self._worker.topics
        try:
            async with asyncio.timeout(2.0):
                await self._uplink.publish(
                    topics.status, offline_payload(topics.agent, "stopped on request"), qos=1, retain=True
                )
        except (MqttError, TimeoutError) as error:
            log.warning("could not say goodbye: %s", error)

    def _devices(self) -> list[DeviceStatus]:
        return [status for source in self._wearables for status in source.devices()]

    async def _say(self) -> None:
        loop = asyncio.get_running_loop()
        devices = [_device_health(status) for status in self._devices()]
        status = await loop.run_in_executor(self._thread, self._status, self._reasons(), devices)
        if self._parent is not None:
            self._parent.tell(status)
            return
        outgoing = status_message(status, self._worker.topics)
        try:
            async with asyncio.timeout(10.0):
                await self._uplink.publish(
                    outgoing.topic, outgoing.payload, qos=1, retain=True, content_type=outgoing.content_type
                )
        except (MqttError, TimeoutError) as error:
            log.warning("status could not be published: %s", error)

    def _show(self, outgoing: Outgoing) -> None:
        if self._under_way >= DISPLAY_BACKLOG:
            self._not_shown()
            return
        try:
            sent = self._uplink.publish_nowait(
                outgoing.topic,
                outgoing.payload,
                qos=0,
                retain=outgoing.retain,
                expiry_s=outgoing.expiry_s,
                content_type=outgoing.content_type,
            )
        except MqttError:
            self._not_shown()
            return
        self._under_way += 1
        sent.add_done_callback(self._shown)

    def _not_shown(self) -> None:
        self._shed += 1
        self._worker.shed.note("vital signs", "the broker is slow")

    def _shown(self, sent: asyncio.Future[PublishResult]) -> None:
        self._under_way -= 1
        if not sent.cancelled():
            sent.exception()  # display data that could not be sent is not worth a word

    def _reasons(self) -> list[str]:
        reasons = list(self._notes)
        for pack in self._packs:
            reasons += [pack.loss] if pack.loss else [f"model {pack.id}: {refusal}" for refusal in pack.refused]
        if self._worker.disk_full:
            reasons.append("the disk is full: only alerts are kept, and a crash may lose some")
        if self._worker.outbox.moved_aside is not None:
            reasons.append(f"the outbox was damaged: moved to {self._worker.outbox.moved_aside}, started anew")
        if self._worker.audit is not None and self._worker.audit.trouble:
            reasons.append(self._worker.audit.trouble)
        history = self._worker.history
        if history is not None and history.trouble:
            reasons.append(history.trouble)
        if history is not None and history.moved_aside is not None:
            reasons.append(f"the history was damaged: moved to {history.moved_aside}, started anew")
        if self._worker.recorder is not None and self._worker.recorder.trouble:
            reasons.append(self._worker.recorder.trouble)
        reasons += [f"{topic}: {reason}" for topic, reason in self._publisher.refused.items()]
        if self._webhook is not None and self._webhook.trouble():
            reasons.append(self._webhook.trouble())
        reasons += self._power.reasons if self._power is not None else []
        return reasons + self._input_reasons()

    def _input_reasons(self) -> list[str]:
        """What keeps data from coming in."""
        reasons = self._inbox.troubles() if self._inbox is not None else []
        if self._worker.level in WORDS:
            reasons.append(WORDS[self._worker.level])
        if not self._uplink.is_connected:  # a worker's parent can say so
            reasons.append(f"alerts cannot be sent: {self._uplink.status.detail}")
        if not self._ingest.is_connected:
            reasons.append(f"no input: {self._ingest.status.detail}")
        reasons += [f"no input: denied to subscribe to {f}" for f in self._ingest.status.refused_subscriptions]
        reasons += [f"no input of {site.name}: {site.trouble}" for site in self._sites if site.trouble]
        reasons += [text for source in self._wearables for text in source.troubles().values()]
        reasons += [f"{status.device}: {status.trouble}" for status in self._devices() if status.trouble]
        return reasons

    # -- drawn up on the worker's thread ------------------------------------------------------------------------------

    def _vitals(self) -> list[Vital]:
        out: list[Vital] = []
        now_ns = time.time_ns() if self._worker.is_live else None
        for patient in self._worker.engine.patients.values():
            glucose, name = patient.glucose, patient.person.id
            for vital in vitals_of(patient, now_ns, self._glucose_shown_ns.get(name)):
                key = (vital.message.patient, vital.message.code)
                if self._last_vital.get(key) != vital.message.at:
                    self._last_vital[key] = vital.message.at
                    out.append(vital)
            if glucose is not None and glucose.last is not None:
                self._glucose_shown_ns[name] = glucose.last.t_ns
        return out

    def _heart_days(self) -> list[Vital]:
        history, now_ns = self._worker.history, time.time_ns()
        if history is None or not self._worker.is_live:
            return []
        worn = [name for name, patient in self._worker.engine.patients.items() if patient.person.ecg is not None]
        days = [(name, history.heart_day(name, now_ns)) for name in worn]
        return [vital for name, day in days if day is not None for vital in heart_day_vitals(name, day)]

    def _pauses(self) -> list[PauseHealth]:
        if self._worker.attendance is None:
            return []
        return [
            PauseHealth(patient=subject, what=target, by=by, until=rfc3339(until_ns))
            for subject, target, by, until_ns in self._worker.attendance.pauses()
        ]

    def _status(self, reasons: list[str], devices: list[DeviceHealth]) -> StatusMessage:
        now_ns = time.time_ns()
        depth = self._worker.outbox.depth()
        counters = {
            "ticks": self._worker.ticks,
            "outbox_rows": depth.rows,
            "outbox_bytes": depth.payload_bytes,
            "display_shed": self._shed,
            **({} if self._worker.outbox.webhook is None else {"webhook_waiting": len(self._worker.outbox.webhook)}),
            **{f"outbox_dropped {kind}": count for kind, count in self._worker.outbox.dropped.items()},
            **(self._worker.history.counters if self._worker.history is not None else {}),
            **(self._worker.recorder.counters if self._worker.recorder is not None else {}),
            **_flat(self._source.counters()),
            **(self._inbox.counters() if self._inbox is not None else {}),
            **{f"rejected {site.name}": site.rejected for site in self._sites if site.rejected},
            **{name: count for source in self._wearables for name, count in source.counters().items()},
        }
        return StatusMessage(
            agent=self._worker.topics.agent,
            state="degraded" if reasons else "online",
            at=rfc3339(now_ns),
            version=__version__,
            boot_id=self._worker.outbox.boot_id,
            started_at=rfc3339(self._started_ns),
            reasons=reasons,
            streams=[
                _stream_health(patient, state)
                for patient in self._worker.engine.patients.values()
                for state in patient.streams.values()
            ],
            devices=devices,
            pauses=self._pauses(),
            backends={pack.id: pack.runtime for pack in self._packs if pack.runtime},
            packs=[_pack_health(pack) for pack in self._packs],
            power=_power_health(self._power, self._economy),
            counters=counters,
            every_s=self._every_s and self._every_s * self._economy.pace,
            disk_free_mb=disk_free_mb(self._worker.outbox.path.parent),
            last_alert_at=rfc3339(self._worker.last_alert_ns) if self._worker.last_alert_ns else None,
            update=self.update() if self.update is not None else None,
        )


def _device_health(status: DeviceStatus) -> DeviceHealth:
    return DeviceHealth(
        patient=status.patient,
        device=status.device,
        state=status.state,
        detail=status.words,
        model=status.model,
        rssi_dbm=status.rssi_dbm,
        battery_percent=status.battery_percent,
        trouble=status.trouble,
        counts=dict(status.counts),
    )


def _power_health(power: Power | None, economy: Economy) -> PowerHealth | None:
    if power is None:
        return None
    reading = power.reading
    return PowerHealth(
        heat=_HEAT[power.heat],
        celsius=reading.celsius,
        under_voltage=power.under_voltage,
        on_battery=reading.on_battery,
        battery_percent=reading.battery_percent,
        undone=economy.words,
    )


def _pack_health(pack: PackState) -> PackHealth:
    return PackHealth(
        id=pack.id,
        version=pack.version,
        origin="installed" if pack.installed else "shipped",
        runtime=pack.runtime,
        fault=pack.loss,
        refused=list(pack.refused),
    )


def _flat(counters: Mapping[str, int | dict[str, dict[str, int]]]) -> dict[str, int]:
    """Counters of the source with the rejections of each device and reason as keys of their own."""
    flat: dict[str, int] = {}
    for name, value in counters.items():
        if isinstance(value, int):
            flat[name] = value
            continue
        flat |= {f"{name} {device}: {why}": n for device, reasons in value.items() for why, n in reasons.items()}
    return flat


def _stream_health(patient: PatientState, state: StreamState) -> StreamHealth:
    word, detail = _stream_word(patient, state)
    return StreamHealth(
        patient=patient.person.id,
        device=state.stream.device,
        channel=state.stream.channel,
        kind=state.stream.kind,
        state=word,
        last_sample_at=None if state.last is None else rfc3339(state.last.end_ns),
        detail=detail,
    )


def _stream_word(patient: PatientState, state: StreamState) -> tuple[StreamWord, str]:
    counted = _counts(_counted(patient, state))
    if state.last is None:
        return "waiting", f"nothing that counts has come yet: {counted}" if counted else "nothing has come yet"
    active = patient.states.active
    if state.silence.name in active:
        return "silent", active[state.silence.name].text
    ecg = patient.person.ecg
    if ecg is not None and state.stream.key == ecg.key:
        for rule in ("lead_off", "poor_signal"):
            if rule in active:
                return "poor", active[rule].text
    drift = ""
    if patient.glucose is not None and state.stream.key == patient.glucose.stream.key:
        doubt = f"cgm_doubt:{state.stream.device}/{state.stream.channel}"
        if doubt in active:
            return "poor", active[doubt].text
        drift = patient.glucose.personal.drift
    return "ok", "; ".join(filter(None, (drift, _coverage(patient, state), counted)))


def _coverage(patient: PatientState, state: StreamState) -> str:
    """How much of the time could be judged: for the ECG that is analysed."""
    ecg = patient.person.ecg
    coverage = patient.coverage
    if ecg is None or state.stream.key != ecg.key or not coverage.seen:
        return ""
    missing = f", {coverage.missing:.0f} s missing" if coverage.missing else ""
    return f"{100 * coverage.good / coverage.seen:.1f} % of {coverage.seen:.0f} s usable{missing}"


def _counted(patient: PatientState, state: StreamState) -> Mapping[str, int]:
    """What was out of the ordinary with a stream, and how often."""
    counts = state.aligner.counts
    if patient.glucose is None or state.stream.key != patient.glucose.stream.key:
        return counts
    readings = patient.glucose.track.counts
    return counts + Counter({reason: n for reason, n in readings.items() if reason not in _TOLD_BY_REASON})


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in sorted(counts.items()))
