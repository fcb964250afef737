"""Glucose that is wrong, through the real way in: a real broker, the real agent as its own process, every format.

What cannot be is refused, counted in the status and costs nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import numpy as np
import pytest
from test_agent import AgentProcess, Subscriber, listening

from agent.broker import LocalBroker
from agent.mqtt import MqttConnection
from agent.uplink.topics import input_topic

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

CONFIG = """
[agent]
id = "ward"
state_dir = "{state}"
time = "wall"
[mqtt]
host = "127.0.0.1"
port = {port}
[[patient]]
id = "p1"
[[patient.source]]
type = "mqtt"
device = "sensor"
channel = "glucose"
kind = "cgm"
interval_s = 300
"""
TOPIC = input_topic("sensor", "glucose")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


class Format(NamedTuple):
    """One way to send a reading: what a payload is, given epoch ms and a number."""

    content_type: str
    payload: Callable[[int, float], bytes]


def _json(t_ms: int, mg_dl: float) -> bytes:
    return json.dumps({"t0_ms": t_ms, "unit": "mg/dL", "samples": [mg_dl]}).encode()


def _cbor(t_ms: int, mg_dl: float) -> bytes:
    samples = cbor2.CBORTag(85, np.array([mg_dl], "<f4").tobytes())
    return cbor2.dumps({"t0": t_ms * 10**6, "unit": "mg/dL", "samples": samples})


def _senml(t_ms: int, mg_dl: float) -> bytes:
    return json.dumps([{"n": "glucose", "u": "mg/dL", "bt": t_ms / 1000, "v": mg_dl}]).encode()


def _nightscout(t_ms: int, mg_dl: float) -> bytes:
    return json.dumps([{"type": "sgv", "sgv": str(mg_dl), "date": t_ms, "direction": "NOT COMPUTABLE"}]).encode()


FORMATS = {
    "json": Format("application/json", _json),
    "cbor": Format("application/cbor", _cbor),
    "senml": Format("application/senml+json", _senml),
    "nightscout": Format("application/json", _nightscout),
}


class GlucoseAgent(AgentProcess):
    """`vagus run` for one person with one CGM, by the wall clock."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        (folder / "agent.toml").write_text(CONFIG.format(state=folder / "state", port=port))


class Home(NamedTuple):
    """Everybody there is."""

    agent: GlucoseAgent
    nurse: Subscriber
    sensor: MqttConnection

    async def send(self, form: Format, t_ms: int, mg_dl: float) -> None:
        await self.sensor.publish(TOPIC, form.payload(t_ms, mg_dl), content_type=form.content_type)

    @property
    def counters(self) -> dict[str, int]:
        """The newest status' counters."""
        return dict(self.nurse.statuses[-1]["counters"])

    @property
    def rejected(self) -> dict[str, int]:
        """Payloads refused, by reason."""
        prefix = "rejected sensor: "
        return {k.removeprefix(prefix): n for k, n in self.counters.items() if k.startswith(prefix)}

    async def until_received(self, count: int) -> None:
        await self.nurse.until(
            lambda n: n.statuses[-1]["counters"].get("received", 0) >= count, f"a status after {count} messages"
        )


@asynccontextmanager
async def home(folder: Path) -> AsyncIterator[Home]:
    """A broker, a nurse who listens, a CGM, and an agent that has said that it watches."""
    async with (
        LocalBroker(persistence_dir=folder) as broker,
        listening(broker.port) as nurse,
        MqttConnection("127.0.0.1", broker.port, "sensor") as sensor,
        GlucoseAgent(folder, broker.port) as agent,
    ):
        await nurse.until(lambda n: bool(n.statuses), "the agent's status")
        await sensor.wait_connected()
        yield Home(agent, nurse, sensor)


def test_what_cannot_be_is_counted_by_reason_and_costs_nothing_else(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with home(tmp_path) as at:
            now_ms = time.time_ns() // 10**6
            for minutes, form in zip((60, 55, 50, 45), FORMATS.values(), strict=True):
                for bad in (float("nan"), -5.0, 5000.0):
                    await at.send(form, now_ms, bad)
                await at.send(form, 300_000, 104.0)
                await at.send(form, now_ms - minutes * MINUTE_MS, 104.0)
            polled: list[object] = [{"sgv": 104, "date": now_ms - i * 5 * MINUTE_MS} for i in range(8)]
            polled[3] = {"sgv": 10, "date": now_ms - 15 * MINUTE_MS}
            await at.sensor.publish(TOPIC, json.dumps(polled).encode(), content_type="application/json")
            await at.until_received(21)
            assert (at.counters["received"], at.counters["delivered"]) == (21, 5)
            assert sum(at.rejected.values()) == 17
            reasons = " | ".join(at.rejected)
            for reason in ("not a finite number", "is no cgm value", "outside the years", "error code"):
                assert reason in reasons
            (stream,) = at.nurse.statuses[-1]["streams"]
            assert stream["state"] == "ok"
            assert stream["last_sample_at"].startswith(time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now_ms // 1000)))
            assert at.nurse.alerts == []
            assert at.nurse.statuses[-1]["state"] == "online"
            assert "Traceback" not in at.agent.log
            assert await at.agent.stop() == 0

    run(scenario())
