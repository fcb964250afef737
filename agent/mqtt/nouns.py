"""What the MQTT port speaks of: messages, results, the state of the connection, and what can go wrong."""

from __future__ import annotations

from dataclasses import dataclass


class MqttError(Exception):
    """What went wrong, in words a person can act on."""


class NotConnected(MqttError):  # noqa: N818 - names a state, as the caller reads it
    """There is no connection, or it was lost before the broker acknowledged: the message may or may not be there."""


class PublishRefused(MqttError):  # noqa: N818
    """The broker (or its announced limits) refused this message; it is not stored there."""

    def __init__(self, topic: str, reason: str, code: int) -> None:
        self.topic, self.reason, self.code = topic, reason, code
        super().__init__(f"denied topic {topic}: {reason}")


class SubscribeRefused(MqttError):  # noqa: N818
    """The broker does not let this client read the topic."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic, self.reason = topic, reason
        super().__init__(f"denied to subscribe to {topic}: {reason}")


@dataclass(frozen=True, slots=True)
class PublishResult:
    topic: str
    code: int
    """MQTT 5 reason code of the PUBACK; 0 on MQTT 3.1.1, which has none."""


@dataclass(frozen=True, slots=True)
class Message:
    """An incoming message, not yet acknowledged."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    content_type: str | None
    user_properties: tuple[tuple[str, str], ...]
    mid: int
    connection_number: int
    """Which connection it came over: an acknowledgement is only good on that one."""
    response_topic: str | None = None
    """Where an answer is wanted (MQTT 5), and with what in it to be told by."""
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    connected: bool
    detail: str
    """One line in plain words: what is so, or the last failure."""
    protocol: str = ""
    """"5", "3.1.1", or empty while not connected."""
    refused_subscriptions: tuple[str, ...] = ()
