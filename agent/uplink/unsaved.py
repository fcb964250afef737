"""Alerts that a full disk does not take: they go out all the same."""

from __future__ import annotations

from collections.abc import Sequence

from agent.mqtt import MqttConnection
from agent.uplink.outbox import Outgoing


def send_unsaved(uplink: MqttConnection, unsaved: Sequence[Outgoing], sent: set[int]) -> None:
    """With a full disk an alert goes out at once, from memory; it is published again once it could be saved."""
    for message in unsaved:
        if id(message) not in sent and uplink.is_connected:
            sent.add(id(message))
            under_way = uplink.publish_nowait(
                message.topic, message.payload, qos=1, retain=message.retain, content_type=message.content_type
            )
            under_way.add_done_callback(lambda done: done.cancelled() or done.exception())
