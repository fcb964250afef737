"""What becomes of the others' alarms when one floods, a disk is slow, or there is too much for all.

The real agent on a real broker, at real speed. What hinders it is made to: a disk whose syncs take their time, and an
engine that needs so long for every chunk that half of them would be all it can do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.alarms.states import PHYSIOLOGICAL
from agent.bench.figures import finish, head, machine, row
from agent.bench.live import BROKER, CALM, SCRIPT, rss_mb
from agent.bench.ward import stream_of
from agent.broker import LocalBroker
from agent.ingest.simulate import SimulatedPatient
from agent.mqtt import MqttConnection
from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import parse_event
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import NS_PER_S, Chunk
from firmware_bridge.codecs import cbor_chunk

SECONDS = 60
PATIENTS = 50
FLOOD, GARBAGE_A_S = 100, 1000
SLOW_SYNC_S = 2.0
SIGNALS = 10
SETTLED_S = 20.0
"""Alarms of the first seconds are left out: beats are learnt, and overload is being noticed."""
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Scenario:
    words: str
    patients: int = PATIENTS
    hindered: tuple[str, float] | None = None
    """What takes its time, and how long in seconds."""
    trouble: Callable[[MqttConnection, int], Awaitable[None]] | None = None
    """What the first patient's device does besides, over a connection at a port."""


async def _flood(sensors: MqttConnection, _port: int) -> None:
    """A hundred times its rate: a second of signal each hundredth of one, from long ago on."""
    signal = _signal(0, is_loud=False)
    t0_ns = time.time_ns() - 2 * FLOOD * SECONDS * NS_PER_S
    began_s = time.monotonic()
    for number in range(FLOOD * SECONDS):
        chunk = replace(
            signal[number % len(signal)], stream=stream_of(0), seq=number, boot_id=7, t0_ns=t0_ns + number * NS_PER_S
        )
        sensors.publish_nowait(input_topic("d0", "ecg"), cbor_chunk.encode(chunk), content_type="application/cbor")
        await asyncio.sleep(max(0.0, began_s + number / FLOOD - time.monotonic()))


async def _garbage(sensors: MqttConnection, _port: int) -> None:
    began_s = time.monotonic()
    for number in range(GARBAGE_A_S * SECONDS):
        sensors.publish_nowait(input_topic("d0", "ecg"), b"\xa5" * 700, content_type="application/cbor")
        await asyncio.sleep(max(0.0, began_s + number / GARBAGE_A_S - time.monotonic()))


async def _stalled(_sensors: MqttConnection, port: int) -> None:
    """Subscribes to everything and reads none of it."""
    async with MqttConnection("127.0.0.1", port, "bench-stalled", clean_start=True, max_buffered=1) as stalled:
        await stalled.wait_connected()
        stalled.subscribe_nowait("#")
        await asyncio.Event().wait()


SCENARIOS = {
    "calm": Scenario("nothing out of the ordinary"),
    "flood": Scenario(f"one patient sends {FLOOD} times its rate", trouble=_flood),
    "garbage": Scenario(f"one device sends {GARBAGE_A_S} messages a second that cannot be read", trouble=_garbage),
    "disk": Scenario(f"each commit to the disk takes {SLOW_SYNC_S:g} s", hindered=("disk", SLOW_SYNC_S)),
    "stalled": Scenario("a subscriber has stopped reading", trouble=_stalled),
    "twice": Scenario("twice as many as can be carried", 2 * PATIENTS, hindered=("chunk", 1 / PATIENTS)),
}


def overload_command(args: argparse.Namespace) -> int:
    """Only overload: print a line a scenario, and write JSON where asked."""
    sys.stdout.write(f"{PATIENTS} patients for {SECONDS} s each, on {machine()}\n")
    head(
        (
            "what happens",
            "alarms of the others",
            "ms p50",
            "p99",
            "max",
            "most that waited, kB",
            "RSS MB",
            "what is shed",
        )
    )
    figures = {}
    for name, scenario in SCENARIOS.items():
        figures[name] = one = asyncio.run(overload_figures(scenario, SECONDS))
        shed = ", ".join(f"{what} {count}" for what, count in one["shed"].items()) or "nothing"
        row(
            (
                scenario.words,
                one["alarms"],
                *(f"{one[key]:.0f}" for key in ("p50_ms", "p99_ms", "max_ms", "inbox_kb", "rss_mb")),
                f"{shed}; alarms: {', '.join(one['technical']) or 'none'}",
            )
        )
    finish("overload", figures, args)
    return 0


async def overload_figures(scenario: Scenario, seconds: int) -> dict[str, Any]:
    """Latency in ms, sample to subscriber, of the alarms of everybody but the first patient; what the status says."""
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as name:
        folder = Path(name)
        async with LocalBroker(extra_config=BROKER) as broker:
            config = folder / "bench.toml"
            config.write_text(_config(folder, broker.port, scenario.patients))
            module = ["agent.cli", "run"]
            if scenario.hindered is not None:
                module = ["agent.bench.hindered", scenario.hindered[0], str(scenario.hindered[1])]
            async with (
                MqttConnection("127.0.0.1", broker.port, "bench-nurse", clean_start=True) as nurse,
                MqttConnection("127.0.0.1", broker.port, "bench-sensors", clean_start=True) as sensors,
                MqttConnection("127.0.0.1", broker.port, "bench-trouble", clean_start=True) as other,
            ):
                await nurse.subscribe("vagus/v1/bench/#")
                await sensors.wait_connected()
                await other.wait_connected()
                station = Station(nurse)
                with (folder / "log").open("wb") as log:
                    agent = await asyncio.create_subprocess_exec(sys.executable, "-m", *module, str(config), stderr=log)
                tasks = [asyncio.create_task(station.listen())]
                try:
                    async with asyncio.timeout(START_TIMEOUT_S):
                        await station.online.wait()
                    if scenario.trouble is not None:
                        tasks.append(asyncio.create_task(_trouble(scenario.trouble, other, broker.port)))
                    await _play(sensors, scenario.patients, seconds, station.sent_s)
                    memory_mb = rss_mb(agent.pid)
                finally:
                    agent.terminate()
                    await agent.wait()
                    for task in tasks:
                        task.cancel()
    return station.figures() | {"rss_mb": memory_mb}


async def _trouble(trouble: Callable[[MqttConnection, int], Awaitable[None]], over: MqttConnection, port: int) -> None:
    await trouble(over, port)


class Station:
    """A nurse's station that knows when the sample was published that decided an alarm."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self.online = asyncio.Event()
        self.sent_s: dict[tuple[str, int], float] = {}
        """(patient, second of stream time) → when the chunk with it was handed to the client."""
        self._began_s = math.inf
        self._latency_ms: list[float] = []
        self._technical: set[str] = set()
        self._counters: dict[str, int] = {}
        self._most: defaultdict[str, int] = defaultdict(int)

    async def listen(self) -> None:
        async for message in self._connection.messages():
            heard_s = time.monotonic()
            match message.topic.split("/")[3]:
                case "status":
                    self._status(json.loads(message.payload), heard_s)
                case "event":
                    self._event(message.payload, heard_s)
                case _:
                    pass
            self._connection.ack(message)

    def _status(self, status: dict[str, Any], heard_s: float) -> None:
        if status["state"] != "offline" and not self.online.is_set():
            self._began_s = heard_s
            self.online.set()
        self._counters = status.get("counters") or self._counters
        for name, value in self._counters.items():
            self._most[name] = max(self._most[name], value)

    def _event(self, payload: bytes, heard_s: float) -> None:
        data = parse_event(payload).data
        if data.rule not in PHYSIOLOGICAL:
            self._technical.add(data.rule.partition(":")[0])
            return
        # Decided within the chunk whose end is the next whole second.
        second = -(-parse_rfc3339_ns(data.decided_at) // NS_PER_S)
        sent_s = self.sent_s.get((data.patient, second))
        if sent_s is not None and data.patient != "p0" and sent_s - self._began_s >= SETTLED_S:
            self._latency_ms.append(1000 * (heard_s - sent_s))

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self._latency_ms)
        shed = {name.removeprefix("shed "): n for name, n in self._counters.items() if name.startswith("shed ")}
        return {
            "alarms": len(ordered),
            "p50_ms": _quantile(ordered, 0.50),
            "p99_ms": _quantile(ordered, 0.99),
            "max_ms": _quantile(ordered, 1.0),
            "inbox_kb": self._most["inbox_bytes"] / 1000,
            "not_watched": self._most["not_watched"],
            "shed": shed,
            "technical": sorted(self._technical - {"lead_off", "poor_signal", "stream_silent"}),
        }


async def _play(sensors: MqttConnection, patients: int, seconds: int, sent_s: dict[tuple[str, int], float]) -> None:
    """Every patient's chunk once a second, spread over it; every other one has alarms."""
    signals = [_signal(k, is_loud=k % 2 == 1) for k in range(SIGNALS)]
    t0_ns = time.time_ns() // NS_PER_S * NS_PER_S
    began_s = time.monotonic()
    for second in range(seconds):
        for k in range(patients):
            await asyncio.sleep(max(0.0, began_s + second + k / patients - time.monotonic()))
            signal = signals[k % SIGNALS]
            played = signal[(second + 3 * (k // SIGNALS)) % len(signal)]
            chunk = replace(played, stream=stream_of(k), seq=second, t0_ns=t0_ns + second * NS_PER_S)
            sent_s[chunk.stream.patient, chunk.end_ns // NS_PER_S] = time.monotonic()
            topic = input_topic(chunk.stream.device, "ecg")
            sensors.publish_nowait(topic, cbor_chunk.encode(chunk), content_type="application/cbor")


def _signal(seed: int, *, is_loud: bool) -> list[Chunk]:
    return list(SimulatedPatient(seed, script=SCRIPT if is_loud else CALM).chunks(chunk_s=1.0))


def _config(folder: Path, port: int, patients: int) -> str:
    streams = [stream_of(k) for k in range(patients)]
    return (
        f'[agent]\nid = "bench"\nstate_dir = "{folder}/state"\nmains_hz = 0\n[mqtt]\nhost = "127.0.0.1"\n'
        + (f"port = {port}\n")
        + "".join(
            f'[[patient]]\nid = "{stream.patient}"\n[[patient.source]]\ntype = "mqtt"\ndevice = "{stream.device}"\n'
            'channel = "ecg"\nkind = "ecg"\nrate_hz = 250\nchannels = ["II"]\n'
            for stream in streams
        )
    )


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))] if ordered else math.nan
