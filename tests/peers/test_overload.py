"""One who floods, a device gone mad, a disk that hangs, a nurse who does not read, a ward that is too large: what the
others' alarms notice of it is nothing, by order and by count, on a real broker with the whole agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.alarms.alert import AlertEvent
from agent.broker import LocalBroker
from agent.config import parse_config
from agent.engine import Engine
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import MqttConnection
from agent.supervisor import Supervisor
from agent.uplink.messages import AlertMessage, parse_event
from agent.uplink.outbox import Outbox
from agent.uplink.topics import input_topic
from agent.workers.shares import whole
from firmware_bridge.chunk import NS_PER_S, Chunk
from firmware_bridge.codecs import cbor_chunk

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

IN_MEMORY = "autosave_interval 0\nautosave_on_changes false\n"
ARREST = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0))
SIGNAL = list(SimulatedPatient(5, script=ARREST).chunks(chunk_s=1.0))
CALM = list(SimulatedPatient(6, script=(Episode(Rhythm.SINUS, 30.0),)).chunks(chunk_s=1.0))


def chunks_of(patient: str, signal: Sequence[Chunk], t0_ns: int, count: int) -> Iterator[Chunk]:
    """`count` seconds of a signal, over and over."""
    stream = replace(signal[0].stream, patient=patient, device=f"device-{patient}")
    for number in range(count):
        played = signal[number % len(signal)]
        yield replace(played, stream=stream, seq=number, t0_ns=t0_ns + number * NS_PER_S)


@dataclass
class Ward:
    """The agent, in this process, and everybody around it."""

    broker: LocalBroker
    supervisor: Supervisor
    sensor: MqttConnection
    alerts: list[AlertMessage] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """Every one that a status has given."""
    stepped: Counter[str] = field(default_factory=Counter)
    """Chunks of each patient that the engine has stepped over."""
    ticks: list[int] = field(default_factory=list)
    """Chunks of each tick that had any."""

    async def send(self, chunks: Iterable[Chunk]) -> None:
        """All at once."""
        sent = [
            self.sensor.publish_nowait(
                input_topic(chunk.stream.device, chunk.stream.channel),
                cbor_chunk.encode(chunk),
                content_type="application/cbor",
            )
            for chunk in chunks
        ]
        await asyncio.gather(*sent)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(90):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            heard = [(a.data.patient, a.data.rule, a.data.phase.value) for a in self.alerts]
            pytest.fail(f"waited in vain for {what}; {heard[-20:]} {self.stepped} {self.supervisor._inbox.counters()}")

    def said(self, patient: str, rule: str) -> list[AlertMessage]:
        return [one for one in self.alerts if (one.data.patient, one.data.rule) == (patient, rule)]

    def shed(self, what: str, why: str) -> int:
        return self.supervisor._shed.counts[what, why]

    async def listen(self, nurse: MqttConnection) -> None:
        async for message in nurse.messages():
            kind = message.topic.split("/")[3]
            if kind == "event":
                self.alerts.append(parse_event(message.payload))
            elif kind == "status":
                self.reasons += json.loads(message.payload).get("reasons", [])
            nurse.ack(message)


@asynccontextmanager
async def ward(folder: Path, patients: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ward]:
    async with (
        LocalBroker(extra_config=IN_MEMORY) as broker,
        MqttConnection("127.0.0.1", broker.port, "nurse", clean_start=True) as nurse,
        MqttConnection("127.0.0.1", broker.port, "sensor", clean_start=True, max_inflight=10_000) as sensor,
    ):
        text = f'[agent]\nid = "ward"\nstate_dir = "state"\nmains_hz = 0\n[mqtt]\nport = {broker.port}\n' + "".join(
            f'[[patient]]\nid = "{patient}"\n[[patient.source]]\ntype = "mqtt"\ndevice = "device-{patient}"\n'
            f'channel = "{CALM[0].stream.channel}"\nkind = "ecg"\nrate_hz = 250\nchannels = ["II"]\n'
            for patient in patients
        )
        supervisor = Supervisor(whole(parse_config(text, folder / "agent.toml", {})))
        one = Ward(broker, supervisor, sensor)
        step = Engine.step

        def counted(self: Engine, chunks: Iterable[Chunk], now_ns: int | None = None) -> list[AlertEvent]:
            taken = list(chunks)
            one.stepped.update(chunk.stream.patient for chunk in taken)
            if taken:
                one.ticks.append(len(taken))
            return step(self, taken, now_ns)

        monkeypatch.setattr(Engine, "step", counted)
        await nurse.subscribe("vagus/v1/ward/#")
        await sensor.wait_connected()
        tasks = [asyncio.create_task(one.listen(nurse)), asyncio.create_task(supervisor.run())]
        await one.until(supervisor._hearing.is_set, "the agent")
        await asyncio.sleep(0.3)  # its subscription
        try:
            yield one
        finally:
            supervisor.stop()
            await tasks[1]
            tasks[0].cancel()
            await asyncio.gather(tasks[0], return_exceptions=True)


FLOOD = 1200


def test_a_flood_of_one_patient_is_worked_off_beside_the_alarm_of_another(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, ["loud", "quiet"], monkeypatch) as one:
            now_ns = time.time_ns()
            flood = chunks_of("loud", CALM, now_ns - (FLOOD + 60) * NS_PER_S, FLOOD)
            flooding = asyncio.create_task(one.send(flood))
            await one.until(lambda: one.stepped["loud"] > 20, "the flood")
            await one.send(chunks_of("quiet", SIGNAL, time.time_ns() - 20 * NS_PER_S, 20))
            await one.until(lambda: one.said("quiet", "asystole"), "the alarm")
            assert one.stepped["loud"] < FLOOD / 2
            assert not one.said("quiet", "asystole")[0].data.late
            assert one.stepped["quiet"] == 20
            await flooding
            await one.until(
                lambda: one.stepped["loud"] + one.shed("input", "flood") + one.shed("input", "overload") == FLOOD,
                "an account of every message",
            )
            assert one.supervisor._inbox.size == 0

    run(scenario())


RUBBISH = 3000


def test_rubbish_of_one_device_is_looked_at_some_dozen_times_and_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, ["mad", "quiet"], monkeypatch) as one:
            topic = input_topic("device-mad", CALM[0].stream.channel)
            rubbish = [one.sensor.publish_nowait(topic, b"\xa5" * 700) for _ in range(RUBBISH)]
            await one.send(chunks_of("quiet", SIGNAL, time.time_ns() - 20 * NS_PER_S, 20))
            await one.until(lambda: one.said("quiet", "asystole"), "the alarm")
            await asyncio.gather(*rubbish)
            await one.until(lambda: one.said("mad", "device_trouble:device-mad"), "the alarm on the device")
            await one.until(lambda: any("device-mad: it sends what cannot be read" in r for r in one.reasons), "words")
            assert one.shed("input", "garbage") > RUBBISH - 200
            assert not one.said("quiet", "overload")

    run(scenario())


def test_while_the_disk_hangs_nothing_is_lost_and_what_came_meanwhile_is_one_tick(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spins, hangs = threading.Event(), threading.Event()
    spins.set()
    sync = Outbox._sync

    def slow(self: Outbox) -> None:
        if not spins.is_set():
            hangs.set()
        spins.wait(60)
        sync(self)

    async def scenario() -> None:
        monkeypatch.setattr(Outbox, "_sync", slow)
        patients = [f"p{k}" for k in range(10)]
        async with ward(tmp_path, patients, monkeypatch) as one:
            spins.clear()
            t0_ns = time.time_ns() - 20 * NS_PER_S
            await one.send(chunks_of("p9", CALM, t0_ns, 1))
            await one.until(hangs.is_set, "the disk to hang")
            await one.send(chunk for patient in patients[1:9] for chunk in chunks_of(patient, CALM, t0_ns, 4))
            await one.send(chunks_of("p0", SIGNAL, t0_ns, 20))
            await one.until(lambda: one.supervisor._inbox.waiting == 52, "what waits")
            assert not one.said("p0", "asystole")
            before = len(one.ticks)
            spins.set()
            await one.until(lambda: one.said("p0", "asystole"), "the alarm")
            await one.until(lambda: sum(one.stepped.values()) == 53, "all of it")
            assert len(one.ticks) - before <= 5  # four or more of a patient's seconds in each
            assert not one.supervisor._shed.counts
            assert not one.supervisor._inbox.asides()

    run(scenario())


def test_a_nurse_who_has_stopped_reading_keeps_nobody_else_waiting(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with ward(tmp_path, ["quiet"], monkeypatch) as one:
            stalled = MqttConnection("127.0.0.1", one.broker.port, "asleep", clean_start=True, max_buffered=1)
            async with stalled:
                await stalled.wait_connected()
                stalled.subscribe_nowait("#")
                await one.send(chunks_of("quiet", SIGNAL, time.time_ns() - 20 * NS_PER_S, 20))
                await one.until(lambda: one.said("quiet", "asystole"), "the alarm")
                assert one.stepped["quiet"] == 20

    run(scenario())


def test_of_a_ward_that_is_too_large_some_are_not_watched_by_name_and_the_others_have_their_alarms(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many as can be carried: each chunk takes 0.1 s of the worker's time."""
    patients = [f"p{k}" for k in range(40)]

    async def scenario() -> None:
        async with ward(tmp_path, patients, monkeypatch) as one:
            step = Engine.step

            def slow(self: Engine, chunks: Iterable[Chunk], now_ns: int | None = None) -> list[AlertEvent]:
                taken = list(chunks)
                time.sleep(0.1 * len(taken))
                return step(self, taken, now_ns)

            monkeypatch.setattr(Engine, "step", slow)
            sending = asyncio.create_task(_play(one, patients))
            await one.until(one.supervisor._inbox.asides, "somebody to be left out")
            await one.until(lambda: any(a.data.rule == "overload" and a.data.patient != "ward" for a in one.alerts), "")
            await one.until(lambda: one.said("ward", "overload"), "the alarm on the agent")
            await one.until(lambda: any("not everybody is watched" in reason for reason in one.reasons), "the status")
            left_out = {a.data.patient for a in one.alerts if a.data.rule == "overload"} - {"ward"}
            assert 0 < len(left_out) < len(patients)
            assert any(f"{next(iter(left_out))}" in reason for reason in one.reasons if "Not watched" in reason)
            assert one.shed("input", "overload")
            await one.until(lambda: any(a.data.rule == "asystole" and not a.data.late for a in one.alerts), "an alarm")
            assert not [a for a in one.alerts if a.data.rule.startswith("stream_silent") and a.data.patient in left_out]
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

    run(scenario())


async def _play(one: Ward, patients: Sequence[str]) -> None:
    """Everybody's chunk a second, at the pace of life; all have their arrest every twenty."""
    t0_ns, began_s = time.time_ns(), time.monotonic()
    playing = [chunks_of(patient, SIGNAL, t0_ns, 200) for patient in patients]
    for second, chunks in enumerate(zip(*playing, strict=True)):
        await asyncio.sleep(max(0.0, began_s + second + 1 - time.monotonic()))
        await one.send(chunks)
