"""The discovery documents against the forms that Home Assistant documents for MQTT (as of version 2025.4).

test_real_home_assistant.py asks a real one, where there is one.
"""

from __future__ import annotations

import json

import jsonschema
import pytest
from members import PERSON, TOPICS, documents

from agent.patient import Person
from agent.uplink.home_assistant import Member, discovery_documents
from agent.uplink.topics import Topics

TEXT = {"type": "string", "minLength": 1}
COMMON = {
    "platform": TEXT,
    "unique_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
    "name": TEXT,
    "state_topic": TEXT,
    "value_template": TEXT,
    "expire_after": {"type": "integer", "minimum": 1},
    "entity_category": {"enum": ["diagnostic", "config"]},
    "json_attributes_topic": TEXT,
    "json_attributes_template": TEXT,
    "availability": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["topic"],
            "additionalProperties": False,
            "properties": {"topic": TEXT, "value_template": TEXT},
        },
    },
}
SENSOR = {
    **COMMON,
    "platform": {"const": "sensor"},
    "state_class": {"const": "measurement"},
    "unit_of_measurement": TEXT,
    "device_class": {
        "enum": ["battery", "blood_glucose_concentration", "enum", "signal_strength", "temperature"],
    },
    "options": {"type": "array", "minItems": 1, "items": TEXT},
}
BINARY_SENSOR = {
    **COMMON,
    "platform": {"const": "binary_sensor"},
    "payload_on": TEXT,
    "payload_off": TEXT,
    "device_class": {"enum": ["connectivity", "problem", "safety"]},
}
DEVICE = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers", "name"],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "minItems": 1, "items": TEXT},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version", "via_device"), TEXT),
            },
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": TEXT, "sw_version": TEXT},
        },
        "qos": {"enum": [0, 1, 2]},
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["platform", "unique_id", "name", "state_topic"],
                "oneOf": [
                    {
                        "properties": SENSOR,
                        "additionalProperties": False,
                        "dependentRequired": {"options": ["device_class"]},
                        "not": {"required": ["options", "state_class"]},
                    },
                    {"properties": BINARY_SENSOR, "additionalProperties": False},
                ],
            },
        },
    },
}


@pytest.mark.parametrize("topic", list(documents()))
def test_a_document_has_the_documented_form(topic: str) -> None:
    jsonschema.Draft202012Validator(DEVICE).validate(json.loads(documents()[topic]))


def test_the_agent_comes_first_and_people_hang_on_it() -> None:
    agent, person = (json.loads(document) for document in documents().values())
    assert person["device"]["via_device"] == agent["device"]["identifiers"][0]
    assert person["device"]["name"] == "anna"


def test_no_two_entities_share_an_id() -> None:
    ids = [one["unique_id"] for document in documents().values() for one in json.loads(document)["components"].values()]
    assert len(ids) == len(set(ids))


def test_names_that_differ_only_in_a_dot_make_two_devices() -> None:
    for_names = [Member(Person(name, PERSON.streams)) for name in ("bed.1", "bed_1", "bed-1")]
    assert len(discovery_documents(Topics("ward"), "homeassistant", for_names)) == 1 + len(for_names)


def test_what_is_measured_expires_and_what_is_watched_goes_with_the_agent() -> None:
    _, anna = documents().values()
    for name, component in json.loads(anna)["components"].items():
        assert component["availability"][0]["topic"] == TOPICS.status, name
        assert ("expire_after" in component) == ("/vital/" in component["state_topic"]), name


def test_who_wears_no_glucose_sensor_has_no_entity_for_it() -> None:
    heart = Person("bert", PERSON.streams[:1])
    document = discovery_documents(TOPICS, "homeassistant", [Member(heart)]).popitem()[1]
    names = set(json.loads(document)["components"])
    assert names == {"urgent", "heart", "technical", "alarm", "hr"}
