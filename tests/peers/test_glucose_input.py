"""Glucose that is wrong, through the real way in: a real broker, the real agent as its own process, every format.

What cannot be is refused, counted in the status and costs nothing else.
"""

from __future__ import annotations

import json
import re
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
from agent.ingest.sensor import publish_chunks
from agent.mqtt import MqttConnection
from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import AlertData
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import Stream
from firmware_bridge.codecs.bluetooth_cgm_annunciation import SensorCalibration, SensorStatus, SensorWarning
from firmware_bridge.codecs.bluetooth_cgm_collector import CgmCollector, Heard
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat
from firmware_bridge.codecs.bluetooth_racp import RacpAnswer, RacpCount, RacpOp, RacpResult

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
"""
PERSON = """
[[patient]]
id = "{form}"
[[patient.source]]
type = "mqtt"
device = "{form}"
channel = "glucose"
kind = "cgm"
interval_s = 300
"""
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
    """`vagus run` for a person a format, each with one CGM named like it, by the wall clock."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        people = "".join(PERSON.format(form=form) for form in FORMATS)
        (folder / "agent.toml").write_text(CONFIG.format(state=folder / "state", port=port) + people)


class Home(NamedTuple):
    """Everybody there is."""

    agent: GlucoseAgent
    nurse: Subscriber
    sensors: MqttConnection

    async def send(self, form: str, t_ms: int, mg_dl: float) -> None:
        await self.publish(form, FORMATS[form].payload(t_ms, mg_dl))

    async def publish(self, form: str, payload: bytes) -> None:
        await self.sensors.publish(input_topic(form, "glucose"), payload, content_type=FORMATS[form].content_type)

    @property
    def counters(self) -> dict[str, int]:
        """The newest status' counters."""
        return dict(self.nurse.statuses[-1]["counters"])

    def rejected(self, form: str) -> dict[str, int]:
        """Payloads refused, by reason."""
        prefix = f"rejected {form}: "
        return {k.removeprefix(prefix): n for k, n in self.counters.items() if k.startswith(prefix)}

    def stream(self, form: str) -> dict[str, str]:
        """What the newest status says of a CGM."""
        (found,) = [one for one in self.nurse.statuses[-1]["streams"] if one["device"] == form]
        return dict(found)


@asynccontextmanager
async def home(folder: Path) -> AsyncIterator[Home]:
    """A broker, a nurse who listens, a CGM a format, and an agent that has said that it watches."""
    async with (
        LocalBroker(persistence_dir=folder) as broker,
        listening(broker.port) as nurse,
        MqttConnection("127.0.0.1", broker.port, "sensors") as sensors,
        GlucoseAgent(folder, broker.port) as agent,
    ):
        await nurse.until(lambda n: bool(n.statuses), "the agent's status")
        await sensors.wait_connected()
        yield Home(agent, nurse, sensors)


def about_people(nurse: Subscriber) -> list[AlertData]:
    """What was alarmed, without what the agent says of itself."""
    return [alert.data for alert in nurse.alerts if alert.data.patient in FORMATS]


def test_what_cannot_be_is_counted_by_reason_and_raises_no_alarm(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with home(tmp_path) as at:
            now_ms = time.time_ns() // 10**6
            sent = 0
            for form in FORMATS:
                refused_by_codec = [(now_ms, float("nan")), (now_ms, -5.0), (now_ms, 5000.0), (300_000, 104.0)]
                questionable = [(now_ms, 0.0), (now_ms, 1000.0), (now_ms + HOUR_MS, 45.0)]
                before = [(now_ms - minutes * MINUTE_MS, 118.0) for minutes in (15, 10)]
                twice = [(now_ms - 10 * MINUTE_MS, 112.0)]
                # Low for an hour, and well again in the last one.
                hours_late = [
                    (now_ms - minutes * MINUTE_MS, min(52.0 + 1.5 * max(0, 120 - minutes), 118.0))
                    for minutes in range(200, 15, -5)
                ]
                readings = [*refused_by_codec, *before, *questionable, *twice, *hours_late, (now_ms, 116.0)]
                for t_ms, mg_dl in readings:
                    await at.send(form, t_ms, mg_dl)
                sent += len(readings)
            polled = [{"sgv": 117, "date": now_ms - 10 * MINUTE_MS}, {"sgv": None, "date": now_ms}]
            await at.publish("nightscout", json.dumps(polled).encode())
            await at.nurse.until(
                lambda n: (
                    n.statuses[-1]["counters"].get("received") == sent + 1
                    and "2 × revised" in at.stream("nightscout")["detail"]
                ),
                "a status after all of it, the last a correction beside an entry without a value",
            )
            for form in FORMATS:
                reasons = " | ".join(at.rejected(form))
                assert re.search("not a (finite )?number", reasons)
                assert "is no cgm value" in reasons
                assert ("a time relative to now" if form == "senml" else "outside the years") in reasons
                said = at.stream(form)
                assert said["state"] == "ok"
                assert said["last_sample_at"].startswith(time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now_ms // 1000)))
                for counted in ("37 × back-fill", "1 × from the future", "1 × refused: above 600", "× revised"):
                    assert counted in said["detail"]
            assert all("refused: below 20" in at.stream(form)["detail"] for form in ("json", "cbor", "senml"))
            of_nightscout = " | ".join(at.rejected("nightscout"))
            assert "error code" in of_nightscout, "which 0 is there"
            assert "of # entries were refused" in of_nightscout
            assert about_people(at.nurse) == []
            assert "Traceback" not in at.agent.log
            assert await at.agent.stop() == 0

    run(scenario())


def test_mmol_declared_as_mg_is_questioned_and_is_no_low(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with home(tmp_path) as at:
            now_ms = time.time_ns() // 10**6
            for form in FORMATS:
                for i, mmol_l in enumerate((6.2, 6.1, 5.9, 5.8, 5.9, 6.1)):
                    await at.send(form, now_ms - (25 - 5 * i) * MINUTE_MS, mmol_l)
            await at.nurse.until(
                lambda n: len({alert.patient for alert in about_people(n)}) == len(FORMATS), "doubt about every sensor"
            )
            alerts = about_people(at.nurse)
            assert {(alert.patient, alert.rule) for alert in alerts} == {
                (form, f"cgm_doubt:{form}/glucose") for form in FORMATS
            }
            assert all("another unit" in alert.text for alert in alerts)
            assert {alert.category for alert in alerts} == {"technical"}

    run(scenario())


def test_a_low_of_now_is_alarmed_whatever_the_format(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with home(tmp_path) as at:
            now_ms = time.time_ns() // 10**6
            for form in FORMATS:
                for i, mg_dl in enumerate((84.0, 76.0, 66.0, 53.0)):
                    await at.send(form, now_ms - (15 - 5 * i) * MINUTE_MS, mg_dl)
            wanted = {(form, "urgent_low") for form in FORMATS}
            await at.nurse.until(
                lambda n: wanted <= {(alert.patient, alert.rule) for alert in about_people(n)}, "every urgent low"
            )

    run(scenario())


def test_a_bluetooth_cgm_through_a_bridge(run: Run, tmp_path: Path) -> None:
    """What a bridge does: the sensor's bytes into the collector, its chunks out over MQTT."""

    async def scenario() -> None:
        async with home(tmp_path) as at:
            now_s = time.time_ns() // 10**9
            start = time.gmtime(now_s - 240 * 60)
            session = CgmSessionStart(DateTime(*start[:6]), 0, 0)
            collector = CgmCollector(Stream("cbor", "cbor", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0))
            status = CgmStatus(235, SensorStatus(0), SensorCalibration(0), SensorWarning(0))
            feature = bytes.fromhex("00000059FFFF")

            async def publish(heard: Heard) -> None:
                await publish_chunks(at.sensors, [r.chunk for r in heard.readings if r.chunk is not None], speed=None)

            collector.connected(feature, bytes(session), bytes(status))
            await publish(collector.measurement(bytes(CgmMeasurement(Sfloat.of(74), 235))))
            collector.control_point(bytes(RacpCount(30)))
            stored = {offset: 52 if offset < 150 else 90 for offset in range(50, 230, 5)} | {230: 84}
            for offset, mg_dl in stored.items():
                collector.measurement(bytes(CgmMeasurement(Sfloat.of(mg_dl), offset)))
            await publish(collector.control_point(bytes(RacpAnswer(RacpOp.REPORT, RacpResult.SUCCESS))))
            await publish(collector.measurement(bytes(CgmMeasurement(Sfloat.of(53), 240))))
            await at.nurse.until(
                lambda n: any(alert.rule == "urgent_low" for alert in about_people(n)), "the urgent low of now"
            )
            since_ns = (now_s - 600) * 10**9
            assert all(parse_rfc3339_ns(alert.onset) > since_ns for alert in about_people(at.nurse))

    run(scenario())
