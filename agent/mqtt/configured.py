"""A connection to the broker that a config names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.mqtt import ConnectionStatus, MqttConnection, Will

if TYPE_CHECKING:
    from agent.config import MqttConfig


def connection_to(
    mqtt: MqttConfig,
    client_id: str,
    *,
    clean_start: bool = False,
    session_expiry_s: int = 86_400,
    will: Will | None = None,
    max_unacked: int = 1000,
    on_change: Callable[[ConnectionStatus], None] | None = None,
) -> MqttConnection:
    """As MqttConnection; the config says where the broker is and by what right it is spoken with."""
    return MqttConnection(
        mqtt.host,
        mqtt.port,
        client_id,
        username=mqtt.username,
        password=mqtt.password,
        tls=mqtt.tls_context(),
        clean_start=clean_start,
        session_expiry_s=session_expiry_s,
        will=will,
        max_unacked=max_unacked,
        on_change=on_change,
    )
