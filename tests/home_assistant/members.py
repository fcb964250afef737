"""Whom the tests tell Home Assistant about: every kind of stream, a wearable, and names that need care."""

from __future__ import annotations

from agent.patient import Person
from agent.uplink.home_assistant import Member, discovery_documents
from agent.uplink.summary import Watched
from agent.uplink.topics import Topics
from firmware_bridge.chunk import Stream

TOPICS = Topics("home.1")
PERSON = Person(
    "anna",
    (
        Stream("anna", "patch", "ecg", "ecg", "mV", 250.0, ("II",)),
        Stream("anna", "cgm", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0),
        Stream("anna", "ring", "spo2", "spo2", "%", 0.0, interval_s=60.0),
        Stream("anna", "ring", "temperature", "temperature", "Cel", 0.0, interval_s=60.0),
    ),
)
WATCHED = Watched.of(PERSON)


def documents() -> dict[str, bytes]:
    return discovery_documents(TOPICS, "homeassistant", [Member(PERSON, ("polar-h10",))])
