"""One person watched by the real agent: how soon it is ready, what it holds, and what it costs while little happens.

Three stretches of the same length: before anything has come, while the ECG streams, and after it has fallen silent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.bench.figures import finish, head, machine, row
from agent.bench.live import cpu_s, rss_mb
from agent.broker import LocalBroker
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import MqttConnection
from agent.uplink.topics import Topics, input_topic
from firmware_bridge.chunk import NS_PER_S, Stream
from firmware_bridge.codecs import cbor_chunk

STREAM = Stream("p0", "d0", "ecg", kind="ecg", unit="mV", rate_hz=250.0, channels=("II",))
MEASURED_S = 60.0
GOAL_PERCENT = 2.0
SETTLED_S = {"waiting": 35.0, "streaming": 5.0, "silent": 45.0}
"""Before each stretch: what the last one left behind is done, alarms on silence have been sent, it is calm."""
START_TIMEOUT_S = 60.0
WAKES = "voluntary_ctxt_switches"


def idle_command(args: argparse.Namespace) -> int:
    """Only one person at whom little happens: print what that costs, and write JSON where asked; 1 past the goal."""
    figures = asyncio.run(idle_figures(MEASURED_S))
    sys.stdout.write(f"one patient, {MEASURED_S:.0f} s each, on {machine()}\n")
    head(("the ECG", "CPU % of a core", "wake-ups a second", "RSS MB"))
    stretches = {"waiting": "has not begun", "streaming": "streams", "silent": "has fallen silent"}
    for what, words in stretches.items():
        row((words, *(f"{figures[what][key]:.1f}" for key in ("cpu_percent", "wakes_a_second", "rss_mb"))))
    sys.stdout.write(f"ready after {figures['start_s']:.2f} s, of which {figures['start_cpu_s']:.2f} s of CPU\n")
    kept = all(figures[what]["cpu_percent"] <= GOAL_PERCENT for what in stretches)
    sys.stdout.write(f"goal for the CPU: {GOAL_PERCENT:.0f} %: {'kept' if kept else 'MISSED'}\n")
    finish("idle", figures, args)
    return 0 if kept else 1


async def idle_figures(seconds: float) -> dict[str, Any]:
    """Seconds, and CPU seconds, from the process's start until subscribers are told that somebody watches; and of each
    stretch of `seconds` CPU in % of a core, wake-ups of its threads a second, memory in MB. Raises TimeoutError."""
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as name:
        folder = Path(name)
        async with LocalBroker() as broker:
            config = folder / "bench.toml"
            config.write_text(_config(folder, broker.port))
            async with MqttConnection("127.0.0.1", broker.port, "bench-sensor", clean_start=True) as sensor:
                await sensor.subscribe(Topics("bench").status)
                began_s = time.monotonic()
                agent = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "agent.cli", "run", str(config)), stderr=asyncio.subprocess.DEVNULL
                )
                try:
                    async with asyncio.timeout(START_TIMEOUT_S):
                        await _online(sensor)
                    figures: dict[str, Any] = {"seconds": seconds, "start_s": time.monotonic() - began_s}
                    figures["start_cpu_s"] = cpu_s(agent.pid)
                    figures["waiting"] = await _measured("waiting", agent.pid, seconds)
                    streaming = asyncio.create_task(_stream(sensor))
                    try:
                        figures["streaming"] = await _measured("streaming", agent.pid, seconds)
                    finally:
                        streaming.cancel()
                    figures["silent"] = await _measured("silent", agent.pid, seconds)
                finally:
                    agent.terminate()
                    await agent.wait()
    return figures


async def _online(subscriber: MqttConnection) -> None:
    async for message in subscriber.messages():
        subscriber.ack(message)
        if b'"offline"' not in message.payload:
            return


async def _measured(stretch: str, pid: int, seconds: float) -> dict[str, float]:
    await asyncio.sleep(SETTLED_S[stretch])
    began_s, before_s, woke = time.monotonic(), cpu_s(pid), _wakes(pid)
    await asyncio.sleep(seconds)
    passed_s = time.monotonic() - began_s
    return {
        "cpu_percent": 100 * (cpu_s(pid) - before_s) / passed_s,
        "wakes_a_second": (_wakes(pid) - woke) / passed_s,
        "rss_mb": rss_mb(pid),
    }


def _wakes(pid: int) -> int:
    """Times that the threads there are have waited for something."""
    lines = [line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().split("\n")]
    return sum(int(line.split()[1]) for line in lines if line.startswith(WAKES))


async def _stream(sensor: MqttConnection) -> None:
    """A calm ECG, a chunk a second."""
    signal = list(SimulatedPatient(0, script=(Episode(Rhythm.SINUS, 60.0),)).chunks(chunk_s=1.0))
    t0_ns, began_s = time.time_ns() // NS_PER_S * NS_PER_S, time.monotonic()
    second = 0
    while True:
        chunk = replace(signal[second % len(signal)], stream=STREAM, seq=second, t0_ns=t0_ns + second * NS_PER_S)
        second += 1
        await asyncio.sleep(max(0.0, began_s + second - time.monotonic()))
        topic = input_topic(STREAM.device, STREAM.channel)
        await sensor.publish(topic, cbor_chunk.encode(chunk), qos=1, content_type="application/cbor")


def _config(folder: Path, port: int) -> str:
    return (
        f'[agent]\nid = "bench"\nstate_dir = "{folder}/state"\nmains_hz = 0\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n[[patient]]\nid = "{STREAM.patient}"\n'
        f'[[patient.source]]\ntype = "mqtt"\ndevice = "{STREAM.device}"\nchannel = "{STREAM.channel}"\nkind = "ecg"\n'
        'rate_hz = 250\nchannels = ["II"]\n'
    )
