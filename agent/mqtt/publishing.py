"""A message on its way out: what waits for its turn, and what is said of it in MQTT 5's properties."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.mqtt.link import new_properties
from agent.mqtt.nouns import PublishResult


@dataclass(slots=True)
class Waiting:
    """A publish that has no packet identifier yet because the broker's Receive Maximum is used up."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties | None
    result: asyncio.Future[PublishResult]


def publish_properties(
    expiry_s: int | None,
    content_type: str | None,
    user_properties: Sequence[tuple[str, str]],
    correlation: bytes | None,
) -> Properties | None:
    if expiry_s is None and content_type is None and not user_properties and correlation is None:
        return None
    properties = new_properties(PacketTypes.PUBLISH)
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if content_type is not None:
        properties.ContentType = content_type
    if user_properties:
        properties.UserProperty = list(user_properties)
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties
