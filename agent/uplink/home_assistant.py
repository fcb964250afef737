"""What Home Assistant is told so that it shows the agent and everybody it watches as devices, with nothing to write.

Device discovery: one retained document a device (Home Assistant 2024.12 or newer). Every entity reads the topics that
every other subscriber reads; nothing is published for Home Assistant alone but these documents.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from agent import __version__
from agent.alarms.technical import silence_deadline_s
from agent.patient import Person
from agent.uplink.messages import RESEARCH_NOTE, Trend
from agent.uplink.summary import Family, Watched, families_of
from agent.uplink.topics import Topics
from firmware_bridge.chunk import Stream

Component = dict[str, Any]

HEART_RATE_EXPIRES_S = 30
"""Said every two seconds while beats come."""
STATUS_EXPIRES_S = 60
"""Said every ten seconds."""
BATTERY_EXPIRES_S, RSSI_EXPIRES_S = 86_400, 300
FORECASTS_MIN = (30, 60)

_NAMES: Final[Mapping[Family, str]] = {
    "urgent": "Urgent alarm",
    "heart": "Heart alarm",
    "glucose_low": "Glucose low",
    "glucose_low_ahead": "Glucose low ahead",
    "glucose_high": "Glucose high",
    "technical": "Watching impaired",
}
_OF_NOW = "{{ 'None' if value_json.late else value_json.value }}"
"""What was measured earlier than now is no state of now."""


@dataclass(frozen=True, slots=True)
class Member:
    """One person, as Home Assistant is to see them."""

    person: Person
    devices: tuple[str, ...] = ()
    """Wearables that the agent itself keeps in touch with."""


def discovery_documents(topics: Topics, prefix: str, members: Iterable[Member]) -> dict[str, bytes]:
    """The retained document of each device by its topic; the agent's own comes first. `prefix`: "homeassistant"."""
    agent = _safe(topics.agent)
    documents = {f"{prefix}/device/{agent}/config": _document(topics, None, dict(_of_agent(topics)))}
    for member in members:
        topic = f"{prefix}/device/{agent}/{_safe(member.person.id)}/config"
        documents[topic] = _document(topics, member.person.id, dict(_of_member(topics, member)))
    return documents


def birth_topic(prefix: str) -> str:
    """Where Home Assistant says "online" when it has started: everything is then to be said again."""
    return f"{prefix}/status"


def _document(topics: Topics, person: str | None, components: Mapping[str, Component]) -> bytes:
    identifier = _identifier(topics, person)
    device: dict[str, Any] = {
        "identifiers": [identifier],
        "name": person or f"vagus {topics.agent}",
        "manufacturer": "vagus",
        "model": RESEARCH_NOTE,
        "sw_version": __version__,
    }
    if person is not None:
        device["via_device"] = _identifier(topics, None)
    document = {
        "device": device,
        "origin": {"name": "vagus", "sw_version": __version__},
        "qos": 1,
        "components": {
            name: {**component, "unique_id": f"{identifier}_{_safe(name)}"} for name, component in components.items()
        },
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _identifier(topics: Topics, person: str | None) -> str:
    return f"vagus_{_safe(topics.agent)}" + (f"_{_safe(person)}" if person is not None else "")


def _of_agent(topics: Topics) -> Iterator[tuple[str, Component]]:
    said = {"platform": "binary_sensor", "state_topic": topics.status, "expire_after": STATUS_EXPIRES_S}
    yield (
        "connectivity",
        {
            **said,
            "name": "Watching",
            "device_class": "connectivity",
            "value_template": "{{ 'OFF' if value_json.state == 'offline' else 'ON' }}",
        },
    )
    yield (
        "degraded",
        {
            **said,
            **_available(topics),
            "name": "Goes on with less",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "value_template": "{{ 'ON' if value_json.state == 'degraded' else 'OFF' }}",
            "json_attributes_topic": topics.status,
            "json_attributes_template": "{{ {'reasons': value_json.reasons} | tojson }}",
        },
    )
    yield from _alarms(topics, topics.agent, Watched())


def _of_member(topics: Topics, member: Member) -> Iterator[tuple[str, Component]]:
    person = member.person
    yield from _alarms(topics, person.id, Watched.of(person))
    seen = set()
    if person.ecg is not None:
        seen.add("hr")
        yield "hr", _sensor(topics, person.id, "hr", "Heart rate", HEART_RATE_EXPIRES_S, unit_of_measurement="bpm")
    if person.cgm is not None:
        seen.add("cgm")
        yield from _glucose(topics, person.id, person.cgm)
    for stream in person.streams:
        if stream.rate_hz == 0 and stream.kind in _SINGLE and stream.kind not in seen:
            seen.add(stream.kind)
            name, more = _SINGLE[stream.kind]
            yield stream.kind, _sensor(topics, person.id, stream.kind, name, _deadline_s(stream), **more)
    for device in member.devices:
        yield from _wearable(topics, person.id, device)


_SINGLE: Final[Mapping[str, tuple[str, Component]]] = {
    "hr": ("Heart rate", {"unit_of_measurement": "bpm"}),
    "spo2": ("Oxygen saturation", {"unit_of_measurement": "%"}),
    "temperature": ("Temperature", {"unit_of_measurement": "°C", "device_class": "temperature"}),
}
"""Kinds of single reading: what each is called, and what else is said of it."""


def _alarms(topics: Topics, subject: str, watched: Watched) -> Iterator[tuple[str, Component]]:
    """A switch for a rule of the home per family of alarms, and one entity that says which alarm is the most urgent."""
    said = {"state_topic": topics.summary(subject), **_available(topics)}
    for family in families_of(watched):
        word = f"value_json.families.{family}"
        yield (
            family,
            {
                **said,
                "platform": "binary_sensor",
                "name": _NAMES[family],
                "device_class": "safety" if family == "urgent" else "problem",
                "payload_on": "on",
                "payload_off": "off",
                "value_template": f"{{{{ 'None' if {word} == 'unknown' else {word} }}}}",
            },
        )
    yield (
        "alarm",
        {
            **said,
            "platform": "sensor",
            "name": "Alarm",
            "device_class": "enum",
            "options": ["none", "low", "medium", "high"],
            "value_template": "{{ value_json.highest or 'none' }}",
            "json_attributes_topic": topics.summary(subject),
            "json_attributes_template": "{{ {'text': value_json.text, 'since': value_json.since,"
            " 'alarms': value_json.alarms} | tojson }}",
        },
    )


def _glucose(topics: Topics, person: str, stream: Stream) -> Iterator[tuple[str, Component]]:
    expires_s = _deadline_s(stream)
    of_glucose = {"unit_of_measurement": "mg/dL", "device_class": "blood_glucose_concentration"}
    newest = topics.vital(person, "glucose")
    yield (
        "glucose",
        {
            **_sensor(topics, person, "glucose", "Glucose", expires_s, **of_glucose),
            "json_attributes_topic": newest,
            "json_attributes_template": "{{ {'doubt': value_json.doubt | default(none),"
            " 'rate_per_min': value_json.rate_per_min | default(none), 'at': value_json.at} | tojson }}",
        },
    )
    yield (
        "glucose_trend",
        {
            "platform": "sensor",
            "name": "Glucose trend",
            "state_topic": newest,
            "expire_after": expires_s,
            **_available(topics),
            "device_class": "enum",
            "options": list(get_args(Trend)),
            "value_template": "{{ 'None' if value_json.late else value_json.trend | default('None') }}",
        },
    )
    for minutes in FORECASTS_MIN:
        forecast = _sensor(topics, person, "glucose", f"Glucose in {minutes} min", expires_s, **of_glucose)
        at = f"selectattr('minutes', 'eq', {minutes})"
        yield (
            f"glucose_{minutes}min",
            {
                **forecast,
                "value_template": "{{ 'None' if value_json.late else value_json.expected | default([]) |"
                f" {at} | map(attribute='value') | first | default('None') }}}}",
                "json_attributes_topic": newest,
                "json_attributes_template": "{{ (value_json.expected | default([]) |"
                f" {at} | list | first | default({{}})) | tojson }}}}",
            },
        )


def _wearable(topics: Topics, person: str, device: str) -> Iterator[tuple[str, Component]]:
    battery, rssi = f"battery_{device}", f"rssi_{device}"
    diagnostic = {"entity_category": "diagnostic"}
    of_battery = {"unit_of_measurement": "%", "device_class": "battery", **diagnostic}
    of_rssi = {"unit_of_measurement": "dBm", "device_class": "signal_strength", **diagnostic}
    yield battery, _sensor(topics, person, battery, f"Battery {device}", BATTERY_EXPIRES_S, **of_battery)
    yield rssi, _sensor(topics, person, rssi, f"Signal {device}", RSSI_EXPIRES_S, **of_rssi)


def _sensor(topics: Topics, person: str, code: str, name: str, expires_s: int, **more: str) -> Component:
    return {
        "platform": "sensor",
        "name": name,
        "state_topic": topics.vital(person, code),
        "state_class": "measurement",
        "value_template": _OF_NOW,
        "expire_after": expires_s,
        **_available(topics),
        **more,
    }


def _available(topics: Topics) -> Component:
    """While the agent watches; its last will says that it does not."""
    template = "{{ 'offline' if value_json.state == 'offline' else 'online' }}"
    return {"availability": [{"topic": topics.status, "value_template": template}]}


def _deadline_s(stream: Stream) -> int:
    return round(silence_deadline_s(stream.rate_hz, stream.interval_s))


def _safe(name: str) -> str:
    """`name` as a level of a discovery topic, where only letters, digits, _ and - may stand; different names differ."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    mark = hashlib.blake2s(name.encode(), digest_size=4).hexdigest()
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) + f"_{mark}"
