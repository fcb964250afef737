"""The pages of the real agent: what came over the broker is what they count."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.broker import LocalBroker
from agent.ingest.sensor import publish_chunks
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.mqtt import MqttConnection
from tests.peers.test_agent import AgentProcess, Subscriber

pytestmark = pytest.mark.broker


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def page(port: int, path: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


def test_a_scraper_sees_what_came_and_what_became_of_it(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def scenario() -> None:
        heart, port = SimulatedPatient(2, script=DEMO_SCRIPT[:5]), free_port()
        async with (
            LocalBroker() as broker,
            MqttConnection("127.0.0.1", broker.port, "nurse", clean_start=True) as station,
            MqttConnection("127.0.0.1", broker.port, "sensors", clean_start=True) as sensors,
        ):
            nurse = Subscriber(station)
            listening = asyncio.create_task(nurse.listen())
            async with AgentProcess(tmp_path, broker.port, mqtt=f'[web]\nlisten = "127.0.0.1:{port}"\n') as agent:
                await nurse.until(lambda seen: bool(seen.statuses), "the agent is online")
                await publish_chunks(sensors, heart.chunks(heart.stream("demo", "simulator"), chunk_s=1.0), speed=None)
                await nurse.until(lambda seen: ("asystole", "start") in rules(seen), "the asystole")
                told = (await page(port, "/metrics")).splitlines()
                assert (
                    f'vagus_stream_samples_total{{channel="ecg",device="simulator",patient="demo"}} {taken(told)}'
                    in told
                )
                assert taken(told) > 0.9 * len(heart.samples)
                assert 'vagus_alarm_events_total{phase="start",priority="high",rule="asystole"} 1.0' in told
                for stage in ("align", "condition", "ask", "classify", "decide", "commit", "keep"):
                    assert any(line.startswith(f'vagus_stage_seconds_count{{stage="{stage}"}}') for line in told)
                assert 'vagus_broker_connected{connection="upstream"} 1.0' in told
                assert json.loads(await page(port, "/healthz"))["state"] == "ok"
                assert await agent.stop() == 0
            listening.cancel()

    def rules(seen: Subscriber) -> set[tuple[str, str]]:
        return {(alert.data.rule, alert.data.phase.value) for alert in seen.alerts}

    def taken(told: list[str]) -> float:
        return next(float(line.split()[-1]) for line in told if line.startswith("vagus_stream_samples_total"))

    run(scenario())
