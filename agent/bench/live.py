"""The real agent as a process of its own, on a real broker, at real speed: latency, memory, start-up, CPU."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.broker import LocalBroker
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import MqttConnection
from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import parse_event
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream
from firmware_bridge.codecs import cbor_chunk

SCRIPT = (
    Episode(Rhythm.SINUS, 6.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 5.0, beats=12),
    Episode(Rhythm.SINUS, 5.0),
    Episode(Rhythm.LEAD_OFF, 6.0),
)
"""An alert every few seconds."""
BROKER = "autosave_interval 0\nautosave_on_changes false\n"
"""mosquitto rewrites its whole database at every change otherwise, which is its own cost, not the agent's."""
CALM = (Episode(Rhythm.SINUS, 22.0),)
WITH_ALARMS = 50
"""At most about so many patients play SCRIPT, an alert each every few seconds; the others are well."""
DIFFERENT_SIGNALS = 20
LAST_ACKS_S = 10.0
START_TIMEOUT_S = 60.0


async def live_figures(patients: int, *, seconds: float, workers: int = 1) -> dict[str, Any]:
    """Play `patients` simulated people at real speed for `seconds`; measure at the subscriber.

    `workers`: of the agent; memory and CPU are those of all its processes, which have as many cores where there are.
    """
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as name, _cores_of_its_own(workers) as cores:
        folder = Path(name)
        async with LocalBroker(extra_config=BROKER) as broker:
            streams = [_stream(k) for k in range(patients)]
            config = folder / "bench.toml"
            config.write_text(_config(folder, broker.port, streams, workers))
            async with (
                MqttConnection("127.0.0.1", broker.port, "bench-nurse", clean_start=True) as nurse,
                MqttConnection("127.0.0.1", broker.port, "bench-sensors", clean_start=True) as sensors,
            ):
                await nurse.subscribe("vagus/v1/bench/#")
                await sensors.wait_connected()
                listener = _Listener(nurse)
                listening = asyncio.create_task(listener.run())
                began_s = time.monotonic()
                with (folder / "log").open("wb") as log:
                    agent = await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "agent.cli", "run", str(config), stderr=log
                    )
                os.sched_setaffinity(agent.pid, cores)
                try:
                    async with asyncio.timeout(START_TIMEOUT_S):
                        await listener.online.wait()
                    start_s = time.monotonic() - began_s
                    cpu_before_s = {pid: cpu_s(pid) for pid in _processes(agent.pid)}
                    await _play(sensors, streams, seconds, listener.sent_s)
                    used_s = sum(cpu_s(pid) - before_s for pid, before_s in cpu_before_s.items())
                    await asyncio.sleep(1.0)
                    memory_mb = sum(rss_mb(pid) for pid in cpu_before_s)
                finally:
                    agent.terminate()
                    await agent.wait()
                    listening.cancel()
    latency_ms = sorted(listener.latency_ms)
    return {
        "alerts": len(latency_ms),
        "latency_p50_ms": _quantile(latency_ms, 0.50),
        "latency_p99_ms": _quantile(latency_ms, 0.99),
        "latency_max_ms": _quantile(latency_ms, 1.0),
        "rss_mb": memory_mb,
        "start_s": start_s,
        "cpu_percent": 100 * used_s / seconds,
        "broker": broker.kind,
    }


class _Listener:
    """Hears alerts, and knows when the sample that decided each was published."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self.online = asyncio.Event()
        self.sent_s: dict[tuple[str, int], float] = {}
        """(patient, second of stream time) → when the chunk with it was handed to the client."""
        self.latency_ms: list[float] = []

    async def run(self) -> None:
        async for message in self._connection.messages():
            heard_s = time.monotonic()
            kind = message.topic.split("/")[3]
            if kind == "status" and b'"online"' in message.payload:
                self.online.set()
            elif kind == "event":
                data = parse_event(message.payload).data
                if not data.rule.startswith("stream_silent"):
                    # Decided within the chunk whose end is the next whole second.
                    second = -(-parse_rfc3339_ns(data.decided_at) // NS_PER_S)
                    sent_s = self.sent_s.get((data.patient, second))
                    if sent_s is not None:
                        self.latency_ms.append(1000 * (heard_s - sent_s))
            self._connection.ack(message)


async def _play(
    sensors: MqttConnection, streams: list[Stream], seconds: float, sent_s: dict[tuple[str, int], float]
) -> None:
    """Every patient's chunk once a second, the patients spread over the second as in life."""
    loud = [list(SimulatedPatient(k, script=SCRIPT).chunks(chunk_s=1.0)) for k in range(DIFFERENT_SIGNALS)]
    calm = [list(SimulatedPatient(k, script=CALM).chunks(chunk_s=1.0)) for k in range(DIFFERENT_SIGNALS)]
    t0_ns = (time.time_ns() // NS_PER_S) * NS_PER_S
    began_s = time.monotonic()
    pending: list[asyncio.Future[Any]] = []
    for second, k in _schedule(len(streams), math.ceil(seconds)):
        due_s = began_s + second + k / len(streams)
        if due_s > time.monotonic():
            await asyncio.sleep(due_s - time.monotonic())
        is_loud = k % max(1, len(streams) // WITH_ALARMS) == 0
        chunk = _chunk(loud if is_loud else calm, streams[k], k, second, t0_ns)
        sent_s[streams[k].patient, chunk.end_ns // NS_PER_S] = time.monotonic()
        pending.append(
            sensors.publish_nowait(
                input_topic(streams[k].device, "ecg"), cbor_chunk.encode(chunk), content_type="application/cbor"
            )
        )
    await asyncio.wait(pending, timeout=LAST_ACKS_S)


def _schedule(patients: int, seconds: int) -> Iterator[tuple[int, int]]:
    return ((second, k) for second in range(seconds) for k in range(patients))


def _chunk(signals: list[list[Chunk]], stream: Stream, k: int, second: int, t0_ns: int) -> Chunk:
    signal = signals[k % len(signals)]
    played = signal[(second + 3 * (k // len(signals))) % len(signal)]
    return replace(played, stream=stream, seq=second, t0_ns=t0_ns + second * NS_PER_S)


def _stream(k: int) -> Stream:
    return Stream(f"p{k}", f"d{k}", "ecg", kind="ecg", unit="mV", rate_hz=250.0, channels=("II",))


def _config(folder: Path, port: int, streams: list[Stream], workers: int) -> str:
    patients = "".join(
        f'[[patient]]\nid = "{stream.patient}"\n[[patient.source]]\ntype = "mqtt"\ndevice = "{stream.device}"\n'
        'channel = "ecg"\nkind = "ecg"\nrate_hz = 250\nchannels = ["II"]\n'
        for stream in streams
    )
    agent = f'[agent]\nid = "bench"\nstate_dir = "{folder}/state"\nmains_hz = 0\nworkers = {workers}\n'
    return f'{agent}[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{patients}'


@contextmanager
def _cores_of_its_own(count: int) -> Iterator[set[int]]:
    """Leave `count` cores to the agent, where there are more: sensors and broker would count as it.

    Some kernels put all of a light load on one core.
    """
    cores = os.sched_getaffinity(0)
    own = set(sorted(cores)[-count:])
    os.sched_setaffinity(0, cores - own or own)
    try:
        yield own
    finally:
        os.sched_setaffinity(0, cores)


def _processes(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, in s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Memory that a process holds, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return math.nan


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))] if ordered else math.nan
