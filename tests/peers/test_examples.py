"""The examples as they stand, against a real broker and what the real agent says."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_agent import AgentProcess

from agent.asyncapi import examples_in
from agent.broker import LocalBroker
from agent.ingest.sensor import publish_chunks
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.mqtt import MqttConnection

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENT = json.loads((EXAMPLES.parent / "docs" / "asyncapi.json").read_text())
SAID: dict[str, Any] = examples_in(DOCUMENT)
FLOW: list[dict[str, Any]] = json.loads((EXAMPLES / "node-red.json").read_text())
SCRIPT = (Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.SINUS, 6.0))
NODE_RED = os.environ.get("VAGUS_NODE_RED", "")
Run = Callable[[Coroutine[Any, Any, None]], None]

needs_broker = pytest.mark.broker
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@asynccontextmanager
async def program(arguments: Sequence[str], env: dict[str, str] | None = None) -> AsyncIterator[list[str]]:
    """A program while the block lasts, and the lines that it has printed."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **(env or {})}
    )
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            lines.append(line.decode().rstrip("\n"))

    reading = asyncio.create_task(read())
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def until(condition: Callable[[], bool], lines: Sequence[str] = ()) -> None:
    try:
        async with asyncio.timeout(25):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited in vain; printed: {lines}")


async def play(port: int) -> None:
    patient = SimulatedPatient(5, script=SCRIPT)
    async with MqttConnection("127.0.0.1", port, "sensor") as sensor:
        await sensor.wait_connected()
        await publish_chunks(sensor, patient.chunks(patient.stream("demo", "simulator"), chunk_s=1.0), speed=None)


@needs_broker
@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is not installed")
def test_both_small_subscribers_hear_every_alert_and_that_the_agent_is_gone(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(persistence_dir=tmp_path) as broker:
            python = [sys.executable, str(EXAMPLES / "subscriber.py"), "127.0.0.1", str(broker.port)]
            shell = [str(EXAMPLES / "subscribe.sh"), "127.0.0.1", str(broker.port)]
            async with (
                AgentProcess(tmp_path, broker.port) as agent,
                program(python) as lines,
                program(shell) as raw,
            ):
                await until(lambda: any("agent ward is online" in line for line in lines), lines)
                await until(lambda: any(line.startswith("vagus/v1/ward/status {") for line in raw), raw)
                await play(broker.port)
                await until(lambda: any(line.startswith("start high demo: Asystole") for line in lines), lines)
                await until(lambda: any(line.startswith("end high demo:") for line in lines), lines)
                await until(lambda: sum("/event/" in line for line in raw) >= 2, raw)
                assert all(json.loads(line.partition(" ")[2])["id"] for line in raw if "/event/" in line)
                await agent.kill()
                await until(lambda: any("agent ward is offline" in line for line in lines), lines)
            said = [line for line in lines if not line.startswith("agent")]
            assert len(said) == len(set(said))

    run(scenario())


@needs_broker
def test_the_python_subscriber_hears_what_came_while_it_was_away(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with LocalBroker(persistence_dir=tmp_path) as broker:
            python = [sys.executable, str(EXAMPLES / "subscriber.py"), "127.0.0.1", str(broker.port)]
            async with MqttConnection("127.0.0.1", broker.port, "agent") as agent:
                await agent.wait_connected()
                await agent.publish("vagus/v1/home/status", json.dumps(SAID["status"]).encode(), retain=True)
                async with program(python) as lines:
                    await until(lambda: any("is online" in line for line in lines), lines)
                for _ in range(2):
                    await agent.publish("vagus/v1/home/event/anna", json.dumps(SAID["event"]).encode())
                async with program(python) as lines:
                    text = SAID["event"]["data"]["text"]
                    await until(lambda: f"start high anna: {text}" in lines, lines)
                    await until(lambda: any("is online" in line for line in lines), lines)
                    assert sum(text in line for line in lines) == 1

    run(scenario())


# -- Node-RED ---------------------------------------------------------------------------------------------------------


def test_the_flow_hangs_together() -> None:
    ids = [node["id"] for node in FLOW]
    assert len(ids) == len(set(ids))
    for node in FLOW:
        assert {"id", "type"} <= set(node)
        assert {one for wire in node.get("wires", []) for one in wire} <= set(ids)
        assert node.get("broker", "vagus-broker") in {"vagus-broker", "localhost"}
    channels = DOCUMENT["channels"].values()
    addresses = {(one["address"] or "").replace("{agent}", "+").replace("{patient}", "+") for one in channels}
    assert {node["topic"] for node in FLOW if node["type"] == "mqtt in"} <= addresses


HARNESS = """
const [code, ...messages] = JSON.parse(require("fs").readFileSync(0));
const kept = new Map();
const context = { get: (key) => kept.get(key), set: (key, value) => kept.set(key, value) };
const call = new Function("msg", "context", "node", "flow", "global", "env", code);
console.log(JSON.stringify(messages.map((msg) => call(msg, context, {}, {}, {}, {}) ?? null)));
"""


def javascript(run: Run, node: str, *payloads: object) -> list[Any]:
    """What a function node of the flow makes of these payloads, one after another."""
    code = next(one["func"] for one in FLOW if one["id"] == node)
    out: list[Any] = []

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            "node", "-e", HARNESS, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        given = json.dumps([code, *({"payload": payload} for payload in payloads)])
        printed, _ = await process.communicate(given.encode())
        out.extend(json.loads(printed))

    run(scenario())
    return out


@needs_node
def test_the_flow_tells_each_alert_once_and_a_late_one_apart(run: Run) -> None:
    event = SAID["event"]
    late = {**event, "id": "other", "data": {**event["data"], "late": True}}
    first, again, past = javascript(run, "vagus-once", event, event, late)
    assert first[0]["payload"] == f"high start: {event['data']['text']}"
    assert first[1] is None
    assert again is None
    assert (past[0], past[1]["topic"]) == (None, "anna")


@needs_node
def test_the_flow_switches_a_light_and_says_nothing_while_it_cannot_be_seen(run: Run) -> None:
    on = SAID["summary"]
    off, unknown = ({**on, "families": {**on["families"], "urgent": word}} for word in ("off", "unknown"))
    lit, dark, unseen, gone = javascript(run, "vagus-light", on, off, unknown, "")
    assert (lit["topic"], lit["payload"], dark["payload"]) == ("house/alarm/anna", "on", "off")
    assert (unseen, gone) == (None, None)


@needs_broker
@pytest.mark.skipif(not NODE_RED, reason="VAGUS_NODE_RED does not name the program node-red")
def test_a_real_node_red_switches_the_light(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            MqttConnection("127.0.0.1", broker.port, "house", clean_start=True) as house,
        ):
            flow = json.dumps(FLOW).replace('"port": "1883"', f'"port": "{broker.port}"')
            folder = tmp_path / "node-red"
            folder.mkdir()
            (folder / "flow.json").write_text(flow.replace('"localhost"', '"127.0.0.1"'))
            (folder / "settings.js").write_text(
                'module.exports = {httpAdminRoot: false, uiHost: "127.0.0.1", uiPort: 0};'
            )
            await house.wait_connected()
            await house.subscribe("house/alarm/#")
            red = [NODE_RED, "--userDir", str(folder), "--settings", str(folder / "settings.js"), "flow.json"]
            async with program(red) as lines:
                await until(lambda: any("Connected to broker" in line for line in lines), lines)
                light = house.messages()
                for word in ("off", "on", "unknown", "off"):
                    summary = {**SAID["summary"], "families": {**SAID["summary"]["families"], "urgent": word}}
                    await house.publish("vagus/v1/home/summary/anna", json.dumps(summary).encode(), retain=True)
                    if word != "unknown":
                        said = await anext(light)
                        assert (said.topic, said.payload.decode()) == ("house/alarm/anna", word)
                for _ in range(2):
                    await house.publish("vagus/v1/home/event/anna", json.dumps(SAID["event"]).encode())
                text = f"high start: {SAID['event']['data']['text']}"
                await until(lambda: any(text in line for line in lines), lines)

    run(scenario())
