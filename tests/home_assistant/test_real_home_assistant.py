"""A real Home Assistant on a real broker: it takes our documents, shows what we say, and forgets what we take away.

`make test-home-assistant` installs it and runs this; elsewhere it is skipped. The states are read where Home
Assistant's own `mqtt_statestream` puts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from members import TOPICS, WATCHED, documents

from agent.alarms.alert import AlertEvent, Phase, alert_id
from agent.alarms.states import urgency
from agent.broker import LocalBroker, find_mosquitto
from agent.mqtt import MqttConnection
from agent.uplink.evidence import ExpectedModel, rfc3339
from agent.uplink.messages import StatusMessage, VitalMessage, offline_payload
from agent.uplink.summary import Summaries

PROGRAM = os.environ.get("VAGUS_HOME_ASSISTANT", "")
pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(not PROGRAM, reason="VAGUS_HOME_ASSISTANT does not name the program hass"),
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
]
NOW_NS = 1_790_000_000_000_000_000
MARK = next(iter(documents())).split("/")[2]
ENTRY = {
    "created_at": "2025-01-01T00:00:00+00:00",
    "modified_at": "2025-01-01T00:00:00+00:00",
    "disabled_by": None,
    "discovery_keys": {},
    "domain": "mqtt",
    "entry_id": "01JD0000000000000000000000",
    "version": 1,
    "minor_version": 2,
    "options": {"discovery": True, "discovery_prefix": "homeassistant"},
    "pref_disable_new_entities": False,
    "pref_disable_polling": False,
    "source": "user",
    "subentries": [],
    "title": "mqtt",
    "unique_id": None,
}


def vital(code: str, value: float, unit: str, **more: object) -> tuple[str, bytes]:
    message = VitalMessage.model_validate(
        {"patient": "anna", "code": code, "value": value, "unit": unit, "at": rfc3339(NOW_NS), "late": False, **more}
    )
    return TOPICS.vital("anna", code), message.model_dump_json(exclude_none=True).encode()


def summary(*rules: str) -> tuple[str, bytes]:
    events = [
        AlertEvent(alert_id("anna", rule, NOW_NS), "anna", rule, *urgency(rule), Phase.START, NOW_NS, NOW_NS, rule)
        for rule in rules
    ]
    kept = Summaries(TOPICS, {"anna": WATCHED})
    said = kept.take(events, seq=1, boot_id=1) if events else kept.resume({}, lambda *_: True, seq=0, boot_id=1)
    return said[0].topic, said[0].payload


class House:
    """What Home Assistant shows, and the topics that it reads."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self.states: dict[str, str] = {}

    async def listen(self) -> None:
        await self._connection.subscribe("ha/#")
        async for message in self._connection.messages():
            _, domain, entity, what = message.topic.split("/")
            if what == "state":
                self.states[f"{domain}.{entity}"] = message.payload.decode()
            elif what in {"text", "doubt", "low", "reasons"}:
                self.states[f"{domain}.{entity}/{what}"] = message.payload.decode()
            self._connection.ack(message)

    async def say(self, said: tuple[str, bytes]) -> None:
        await self._connection.publish(*said, retain=True)

    async def shows(self, wanted: dict[str, str]) -> None:
        await self.until(lambda: wanted.items() <= self.states.items(), wanted)

    async def until(self, condition: Callable[[], bool], wanted: dict[str, str]) -> None:
        try:
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"wanted {wanted}, but it shows { {key: self.states.get(key) for key in wanted} }")


@asynccontextmanager
async def home_assistant(folder: Path, mqtt_port: int) -> AsyncIterator[None]:
    storage = folder / ".storage"
    storage.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        web_port = free.getsockname()[1]
    (folder / "configuration.yaml").write_text(
        f"http:\n  server_host: 127.0.0.1\n  server_port: {web_port}\n"
        "mqtt_statestream:\n  base_topic: ha\n  publish_attributes: true\n"
    )
    entry = {**ENTRY, "data": {"broker": "127.0.0.1", "port": mqtt_port}}
    stored = {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
    (storage / "core.config_entries").write_text(json.dumps(stored))
    with (folder / "hass.out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "-c", str(folder), "--skip-pip", stdout=out, stderr=out, cwd=folder
        )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def test_a_real_home_assistant_shows_what_we_say(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            MqttConnection("127.0.0.1", broker.port, "house", clean_start=True) as connection,
        ):
            await connection.wait_connected()
            house = House(connection)
            listening = asyncio.create_task(house.listen())
            for said in documents().items():
                await house.say(said)
            await house.say((TOPICS.status, StatusMessage(agent="home.1", state="online").payload()))
            await house.say(summary())
            async with home_assistant(tmp_path / "ha", broker.port):
                await _see(house, tmp_path / "ha")
            listening.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 240))


async def _see(house: House, folder: Path) -> None:
    all_quiet = {
        "binary_sensor.anna_urgent_alarm": "off",
        "binary_sensor.anna_heart_alarm": "off",
        "binary_sensor.anna_glucose_low": "off",
        "binary_sensor.anna_watching_impaired": "off",
        "sensor.anna_alarm": "none",
    }
    await house.shows({**all_quiet, "sensor.anna_glucose": "unavailable"})
    watching = "binary_sensor.vagus_home_1_watching"
    await house.say((TOPICS.status, StatusMessage(agent="home.1", state="online").payload()))
    await house.shows({watching: "on"})

    await house.say(vital("hr", 71.5, "1/min"))
    await house.say(vital("spo2", 97.0, "%"))
    await house.say(vital("temperature", 36.6, "Cel"))
    await house.say(vital("battery_polar-h10", 80.0, "%", device="polar-h10"))
    await house.say(vital("rssi_polar-h10", -61.0, "dBm", device="polar-h10"))
    expected = [
        ExpectedModel(minutes=30, value=88.0, low=70.0, high=105.0),
        ExpectedModel(minutes=60, value=80.0, low=55.0, high=110.0),
    ]
    await house.say(vital("glucose", 101.0, "mg/dL", trend="falling", rate_per_min=-2.1, expected=expected))
    await house.shows(
        {
            "sensor.anna_heart_rate": "71.5",
            "sensor.anna_oxygen_saturation": "97.0",
            "sensor.anna_temperature": "36.6",
            "sensor.anna_battery_polar_h10": "80.0",
            "sensor.anna_signal_polar_h10": "-61.0",
            "sensor.anna_glucose": "101.0",
            "sensor.anna_glucose_trend": "falling",
            "sensor.anna_glucose_in_30_min": "88.0",
            "sensor.anna_glucose_in_60_min": "80.0",
            "sensor.anna_glucose_in_60_min/low": "55.0",
        }
    )
    await house.say(vital("glucose", 60.0, "mg/dL", late=True))
    await house.shows({"sensor.anna_glucose": "unknown", "sensor.anna_glucose_trend": "unknown"})
    await house.say(vital("glucose", 99.0, "mg/dL"))
    await house.shows({"sensor.anna_glucose": "99.0", "sensor.anna_glucose_in_30_min": "unknown"})

    await house.say(summary("asystole", "stream_silent:cgm/glucose"))
    await house.shows(
        {
            "binary_sensor.anna_urgent_alarm": "on",
            "binary_sensor.anna_heart_alarm": "on",
            "binary_sensor.anna_glucose_low": "unknown",
            "binary_sensor.anna_watching_impaired": "on",
            "sensor.anna_alarm": "high",
            "sensor.anna_alarm/text": '"asystole"',
        }
    )
    await house.say(summary())
    await house.shows(all_quiet)
    await house.say((TOPICS.status, offline_payload("home.1")))
    await house.shows({watching: "off", "binary_sensor.anna_urgent_alarm": "unavailable"})

    for topic in documents():
        await house.say((topic, b""))
    registry = folder / ".storage" / "core.device_registry"
    await house.until(lambda: "vagus_" not in _devices(registry), {})


def _devices(registry: Path) -> str:
    """Those that there are, without those that there were."""
    return json.dumps(json.loads(registry.read_text())["data"]["devices"]) if registry.exists() else "vagus_"
