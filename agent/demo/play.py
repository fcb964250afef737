"""A demo from start to end: a broker, the real agent in a process of its own, sensors, a subscriber."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from agent.broker import BrokerError, LocalBroker
from agent.demo.bluetooth import ECG_HZ, FOUND_S, VirtualBluetooth, source_lines, virtual_bluetooth
from agent.demo.display import Display, LiveDisplay, PlainDisplay
from agent.demo.programme import Programme, liveliest, recorded, scripted
from agent.demo.subscriber import Subscriber
from agent.demo.summary import show_heard, show_next, show_verdicts
from agent.demo.truth import earlier, judge
from agent.ingest.bluetooth import VARIABLE
from agent.ingest.sensor import publish_chunks
from agent.mqtt import MqttConnection
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

AGENT = "demo"
READY_S = 60.0
"""A small machine loads its models for a while."""
STOP_S = 15.0
TAIL_S = 3.0
"""After the last sample: what is under way may still arrive."""


class _NoBluetoothError(RuntimeError):
    """The wearables cannot be reached over Bluetooth; the message says why."""


class DemoError(RuntimeError):
    """The demo could not be played to its end; the message says why."""


def _programme(args: argparse.Namespace) -> Programme:
    if args.record is None:
        return scripted(args.seconds) if find_spec("bumble") is None else scripted(args.seconds, ECG_HZ)
    if args.start_s is None and args.seconds is None:
        return recorded(args.record, *liveliest(args.record))
    return recorded(args.record, args.start_s or 0.0, args.seconds)


def demo_command(args: argparse.Namespace) -> int:
    """`vagus demo`: 0 when everything that had to come came, 1 when not, 2 when there is nothing to play."""
    console = Console()
    # Connections that end because the demo ends are no news.
    logging.getLogger("agent.mqtt").setLevel(logging.ERROR)
    try:
        programme = _programme(args)
    except (OSError, ValueError) as error:
        console.print(f"vagus demo: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    live = console.is_terminal and console.encoding.startswith("utf") and not args.plain
    display: Display = LiveDisplay(programme, console) if live else PlainDisplay(programme, console)
    try:
        return asyncio.run(play(programme, display, console))
    except (DemoError, BrokerError) as error:
        console.print(f"vagus demo: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1


@dataclass(frozen=True, slots=True)
class _Performance:
    """What was heard, and with which config."""

    subscriber: Subscriber
    config: str
    glucose_lead_s: float = 0.0
    """How much earlier than the script says the sensor measured, as the agent took its time to find it."""


async def play(programme: Programme, display: Display, console: Console) -> int:
    """Play it all, then sum up. Raises DemoError or BrokerError."""
    with tempfile.TemporaryDirectory(prefix="vagus-demo-") as folder:
        async with LocalBroker() as broker, virtual_bluetooth() as bluetooth:
            with display:
                display.say(f"broker: {broker.kind} on 127.0.0.1:{broker.port}; starting the agent …")
                performance = None
                if bluetooth is not None and programme.cgm is not None:
                    performance = await _over_bluetooth(programme, display, Path(folder), broker.port, bluetooth)
                if performance is None:
                    performance = await _perform(programme, display, Path(folder), broker.port)
    subscriber = performance.subscriber
    if programme.expected is None:
        show_heard(console, subscriber.heard)
        is_good = subscriber.vitals > 0
    else:
        expected = earlier(programme.expected, "predicted_low", performance.glucose_lead_s)
        verdicts = judge(expected, subscriber.heard)
        show_verdicts(console, verdicts)
        is_good = all(verdict.heard is not None for verdict in verdicts)
    if not subscriber.vitals:
        console.print("No heart rate was heard at all.", highlight=False)
    for reason in subscriber.reasons:
        console.print(f"The agent said: {reason}", markup=False, highlight=False, soft_wrap=True)
    show_next(console, performance.config)
    return 0 if is_good else 1


async def _over_bluetooth(
    programme: Programme, display: Display, folder: Path, port: int, bluetooth: VirtualBluetooth
) -> _Performance | None:
    """With the wearables over Bluetooth; None, and a word why, where that does not come about."""
    try:
        return await _perform(programme, display, folder, port, bluetooth)
    except _NoBluetoothError as error:
        display.say(f"{error}: they go over MQTT; starting the agent anew …")
        return None


async def _perform(
    programme: Programme, display: Display, folder: Path, port: int, bluetooth: VirtualBluetooth | None = None
) -> _Performance:
    worn = None if bluetooth is None or programme.cgm is None else source_lines(programme.ecg, programme.cgm)
    home = folder / ("mqtt" if worn is None else "bluetooth")
    home.mkdir()
    environment = dict(os.environ) if bluetooth is None else os.environ | {VARIABLE: bluetooth.setting}
    async with contextlib.AsyncExitStack() as stack:
        listening = await stack.enter_async_context(_connection(port, "demo-subscriber"))
        sensor = await stack.enter_async_context(_connection(port, "demo-sensor"))
        subscriber = Subscriber(listening, AGENT, display)
        await listening.wait_connected()
        await subscriber.subscribe()
        listener = asyncio.create_task(subscriber.run(), name="subscriber")
        stack.push_async_callback(_end, listener)
        agent = await stack.enter_async_context(_agent(agent_config(programme, port, home, worn), home, environment))
        await _first(subscriber.ready.wait(), agent, READY_S, home, "did not say that it is online")
        lead_s = 0.0
        if bluetooth is None:
            t0_ns = subscriber.begin(time.time_ns())
            sending = _send(programme, display, sensor, t0_ns)
        else:
            display.say("the agent is online; it looks for a chest strap and a glucose sensor over Bluetooth")
            met_ns, lead_s = await _meet(programme, bluetooth)
            t0_ns = subscriber.begin(met_ns)
            sending = _show(programme, display, t0_ns)
        display.say("the agent is online; the sensor begins to send")
        clock = asyncio.create_task(_advance(display, t0_ns), name="clock")
        stack.push_async_callback(_end, clock)
        await _first(sending, agent, programme.duration_s + 60.0, home, "stopped reading")
        await _first(asyncio.sleep(TAIL_S), agent, TAIL_S + 60.0, home, "stopped")
        display.say("stopping the agent")
        with contextlib.suppress(ProcessLookupError):
            agent.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await subscriber.gone.wait()
    return _Performance(subscriber, agent_config(programme, 1883, None, worn), lead_s)


async def _meet(programme: Programme, bluetooth: VirtualBluetooth) -> tuple[int, float]:
    """Switch the wearables on and let the agent find them. Raises _NoBluetoothError.

    Returns UTC ns of the ECG's first sample, and how many s the glucose sensor is ahead of it.
    """
    begun_ns = time.time_ns() // NS_PER_S * NS_PER_S  # a sensor knows the second in which its session began
    readings = list(programme.cgm_chunks(begun_ns)) if programme.cgm_chunks is not None else []
    t0_ns = await bluetooth.switch_on(list(programme.ecg_chunks(begun_ns)), readings)
    if t0_ns is None:
        raise _NoBluetoothError(f"the agent did not listen to both over Bluetooth within {FOUND_S:.0f} s")
    return t0_ns, (t0_ns - begun_ns) / NS_PER_S


async def _show(programme: Programme, display: Display, t0_ns: int) -> None:
    """The ECG on the display, as the strap sends it."""
    for chunk in programme.ecg_chunks(t0_ns):
        display.sent(chunk, t0_ns)
        await asyncio.sleep(max(0.0, (chunk.end_ns - time.time_ns()) / NS_PER_S))


def _connection(port: int, client_id: str) -> MqttConnection:
    return MqttConnection("127.0.0.1", port, client_id, clean_start=True, session_expiry_s=0)


async def _send(programme: Programme, display: Display, sensor: MqttConnection, t0_ns: int) -> None:
    def shown(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            display.sent(chunk, t0_ns)
            yield chunk

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish_chunks(sensor, shown(programme.ecg_chunks(t0_ns))), name="ecg")
        if programme.cgm_chunks is not None:
            tasks.create_task(_send_readings(list(programme.cgm_chunks(t0_ns)), sensor, t0_ns), name="cgm")


async def _send_readings(readings: Sequence[Chunk], sensor: MqttConnection, t0_ns: int) -> None:
    """As a sensor does when it connects: what it has stored at once, in order; then each as it is measured."""
    await publish_chunks(sensor, (one for one in readings if one.t0_ns < t0_ns), speed=None)
    for one in readings:
        if one.t0_ns >= t0_ns:
            await asyncio.sleep(max(0.0, (one.t0_ns - time.time_ns()) / NS_PER_S))
            await publish_chunks(sensor, [one])


async def _advance(display: Display, t0_ns: int) -> None:
    while True:
        display.advance((time.time_ns() - t0_ns) / NS_PER_S)
        await asyncio.sleep(0.1)


async def _first(
    wanted: Coroutine[Any, Any, object], agent: asyncio.subprocess.Process, within_s: float, folder: Path, fault: str
) -> None:
    """Wait for what is wanted; raises DemoError with the agent's last words when that ends first, or takes too long."""
    task = asyncio.create_task(wanted)
    ended = asyncio.create_task(agent.wait())
    try:
        await asyncio.wait({task, ended}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return
        words = (folder / "agent.log").read_text(errors="replace").strip().splitlines()[-5:]
        what = f"ended with {agent.returncode}" if ended.done() else f"{fault} within {within_s:.0f} s"
        raise DemoError("\n".join([f"the agent {what}", *words]))
    finally:
        for one in (task, ended):
            await _end(one)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _agent(
    config: str, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`vagus run` as anybody would start it."""
    path = folder / "vagus.toml"
    path.write_text(config)
    with (folder / "agent.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent.cli",
            "run",
            str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        yield process
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def agent_config(
    programme: Programme, port: int = 1883, folder: Path | None = None, worn: Sequence[str] | None = None
) -> str:
    """The config the agent runs with, as text; without a folder, as one would write it for a broker of one's own.

    `worn`: the lines of the sources; None: they are on MQTT.
    """
    if worn is None:
        streams = [programme.ecg, *([programme.cgm] if programme.cgm is not None else [])]
        worn = [line for stream in streams for line in ("", *_source_lines(stream))][1:]
    lines = [
        "[agent]",
        f'id = "{AGENT}"',
        *([f"state_dir = {json.dumps(str(folder / 'state'))}"] if folder else []),
        "",
        "[mqtt]",
        'host = "localhost"',
        f"port = {port}",
        "",
        "[[patient]]",
        f"id = {json.dumps(programme.ecg.patient)}",
        "",
        *worn,
    ]
    return "\n".join(lines) + "\n"


def _source_lines(stream: Stream) -> list[str]:
    lines = [
        "[[patient.source]]",
        'type = "mqtt"',
        f"device = {json.dumps(stream.device)}",
        f"channel = {json.dumps(stream.channel)}",
        f"kind = {json.dumps(stream.kind)}",
        'format = "cbor"',
        f"rate_hz = {stream.rate_hz}" if stream.rate_hz else f"interval_s = {stream.interval_s}",
    ]
    if any(stream.channels):
        lines.append(f"channels = {json.dumps(list(stream.channels))}")
    return lines
