"""paho's client, with what it does for each message at less cost: a ward's messages would fill half a core with it."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from agent.mqtt.nouns import Message
from agent.mqtt.publish_packet import parse_publish

READ_BYTES = 1 << 16
_PUBACK = struct.Struct("!BBH")


class Client(paho.Client):
    """Reads the socket in large pieces, makes messages of PUBLISH packets itself, and acknowledges many in one write.

    What it overrides is private to paho 2: where a later one has other names for it, paho's own ways are taken, which
    `tests/agent/test_mqtt_client.py` would notice. `on_plain_message` gets what it can read; all else goes to paho, and
    so to `on_message`.
    """

    def __init__(
        self,
        protocol: MQTTProtocolVersion,
        connection_number: int,
        on_plain_message: Callable[[Message], None],
        **rest: Any,
    ) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, protocol=protocol, manual_ack=True, **rest)
        self._is_v5 = protocol is MQTTProtocolVersion.MQTTv5
        self._connection_number = connection_number
        self._on_plain_message = on_plain_message
        self.refusal: ssl.SSLError | None = None
        """What the broker said against our TLS, once it has: with TLS 1.3 that comes after the handshake."""
        self._ahead = b""
        self._ahead_at = 0

    @property
    def has_ahead(self) -> bool:
        """Whether something was taken off the socket that has not been looked at."""
        return self._ahead_at < len(self._ahead)

    def acknowledge(self, mids: Sequence[int]) -> None:
        """PUBACK for each, in this order."""
        packets = b"".join(_PUBACK.pack(paho.PUBACK, 2, mid) for mid in mids)
        self._packet_queue(paho.PUBACK, packets, mids[-1], 1)

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.has_ahead:
            try:
                self._ahead, self._ahead_at = super()._sock_recv(READ_BYTES), 0
            except ssl.SSLError as error:
                self.refusal = error
                raise
        start = self._ahead_at
        self._ahead_at = min(start + bufsize, len(self._ahead))
        return self._ahead[start : self._ahead_at]

    def _handle_publish(self) -> MQTTErrorCode:
        flags, body = self._in_packet["command"], self._in_packet["packet"]
        try:
            message = parse_publish(flags, body, self._connection_number, is_v5=self._is_v5)
        except (ValueError, LookupError, struct.error):
            return super()._handle_publish()
        self._on_plain_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS
