"""Sensors that publish on MQTT: vagus/v1/in/{device}/{channel}, QoS 1, acknowledged only when on disk."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.ingest.source import Delivery
from agent.mqtt import Message, MqttConnection
from agent.uplink.topics import INPUT_FILTER, parse_input_topic
from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs import decode

log = logging.getLogger(__name__)

MAX_DEVICES = 256
MAX_REASONS = 16
"""Per device. Both bound what a babbling sender can make the agent remember."""
OTHERS = "(others)"
LOG_EVERY = 1000
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
UNKNOWN_DEVICE = "unknown device or channel"


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What the configuration says about one device's channel."""

    stream: Stream
    format: str = "auto"
    """One of firmware_bridge.codecs.FORMATS."""


class MqttSource:
    """Payloads of configured streams as deliveries; everything else counted, sampled to the log, and dropped.

    Give it a connection of its own: while the receiver is busy the socket is not read, and acknowledgements of
    published alerts must not wait behind that.
    """

    def __init__(
        self,
        connection: MqttConnection,
        streams: Mapping[tuple[str, str], StreamConfig],
        *,
        filters: Sequence[str] = (INPUT_FILTER,),
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`streams`: by (device, channel). `filters`: what to subscribe to, where the broker allows only some."""
        self._connection, self._streams, self._filters, self._clock_ns = connection, streams, filters, clock_ns
        self._devices = {device for device, _ in streams}
        self._rejected: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.received = 0
        self.delivered = 0

    def counters(self) -> dict[str, int | dict[str, dict[str, int]]]:
        """`received` and `delivered` messages, and `rejected`: device → reason → count."""
        rejected = {device: dict(reasons) for device, reasons in self._rejected.items()}
        return {"received": self.received, "delivered": self.delivered, "rejected": rejected}

    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Subscribe, then hand on what comes, until cancelled.

        A broker that denies the subscription is shown in the connection's status, and asked again at every reconnect.
        """
        for topic_filter in self._filters:
            self._connection.subscribe_nowait(topic_filter, qos=1)
        async for message in self._connection.messages():
            self.received += 1
            chunks = self.decode_again(message.topic, message.content_type, message.payload)
            if not chunks:  # nothing that could become readable by being sent again
                self._connection.ack(message)
                continue
            self.delivered += 1
            await deliver(self._delivery(message, chunks))

    def decode_again(self, topic: str, content_type: str | None, payload: bytes) -> tuple[Chunk, ...]:
        """The chunks of a payload, live or from the journal; what cannot be read is counted, and left out."""
        place = parse_input_topic(topic)
        config = self._streams.get(place) if place is not None else None
        if config is None:
            self._reject(topic if place is None else place[0], UNKNOWN_DEVICE)
            return ()
        try:
            return tuple(decode(payload, config.stream, content_type, config.format))
        except DecodeError as error:
            self._reject(config.stream.device, str(error))
            return error.chunks

    def _delivery(self, message: Message, chunks: tuple[Chunk, ...]) -> Delivery:
        return Delivery(
            chunks=chunks,
            topic=message.topic,
            content_type=message.content_type,
            payload=message.payload,
            received_ns=self._clock_ns(),
            ack=lambda: self._connection.ack(message),
        )

    def _reject(self, device: str, reason: str) -> None:
        """Count; log the first of each kind and then every LOG_EVERYth, without anything quoted from the payload."""
        reason = _QUOTED.sub("…", reason)
        name = device[:64]
        if name not in self._rejected and name not in self._devices and len(self._rejected) >= MAX_DEVICES:
            name = OTHERS
        kind = re.sub(r"\d+", "#", reason)[:120]
        reasons = self._rejected[name]
        if kind not in reasons and len(reasons) >= MAX_REASONS:
            kind = OTHERS
        reasons[kind] += 1
        if reasons[kind] % LOG_EVERY == 1:
            log.warning("device %r: %s (%d so far); dropped", name, reason[:200], reasons[kind])
