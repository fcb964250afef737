"""One MQTT connection, from its opening to its end: a paho client whose socket the event loop watches.

No thread runs here but the short one in which the socket is opened (name resolution, TCP and TLS block). Every
connection has its own paho client, so that paho never sends anything again by itself: what must survive a connection
lives in the outbox, and what the broker must send again it sends again because it was not acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.mqtt.client import Client
from agent.mqtt.nouns import Message
from agent.mqtt.words import explain_connack, explain_disconnect, explain_os_error, explain_refusal

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0
READS_AT_ONCE = 64
"""Messages taken off the socket before other tasks of the event loop get their turn."""
UNSUPPORTED_PROTOCOL_VERSION = 0x84
LARGEST_PACKET = 16 << 20
"""Bytes of the largest message the broker is to send us; no chunk is larger."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when we vanish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to connect, and as whom."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    clean_start: bool
    session_expiry_s: int
    will: Will | None
    keepalive_s: int
    receive_maximum: int


@dataclass(frozen=True, slots=True)
class Events:
    """What a link reports, on the event loop."""

    opened: Callable[[Properties | None], None]
    """The broker let us in, with these properties of its CONNACK."""
    received: Callable[[Message], None]
    published: Callable[[int, ReasonCode], None]
    subscribed: Callable[[int, list[ReasonCode]], None]


class Outcome(Enum):
    """How a connection ended."""

    OVER = auto()
    V5_NOT_SPOKEN = auto()
    CLOSED_UNSAID = auto()
    """Closed before CONNACK, without a word: a broker that knows no MQTT 5, or one that is just going down."""


class Link:
    """One attempt to connect and what comes of it; `run` lasts as long as the connection."""

    def __init__(self, broker: Broker, protocol: MQTTProtocolVersion, events: Events, number: int) -> None:
        """`number`: told by every message that comes."""
        self._number = number
        self.is_v5 = protocol is MQTTProtocolVersion.MQTTv5
        self.is_paused = False
        self._broker, self._events = broker, events
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[tuple[Outcome, str]] = self._loop.create_future()
        self._sock: socket.socket | None = None
        self._client = self._new_client(protocol)

    @property
    def was_opened(self) -> bool:
        return self._opened.done()

    async def run(self) -> tuple[Outcome, str]:
        """Open, stay until the connection is over, close; how it ended, and why in plain words."""
        try:
            await self._open()
            either: list[asyncio.Future[Any]] = [self._opened, self._over]
            await asyncio.wait(either, timeout=OPEN_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if self._opened.done():
                await self._watch()
            if self._over.done():
                return self._over.result()
        except OSError as error:
            return Outcome.OVER, explain_os_error(error, self._broker.host, self._broker.port, OPEN_TIMEOUT_S)
        finally:
            self._close()
        return Outcome.OVER, f"{self._broker.host}:{self._broker.port} accepts connections but does not speak MQTT"

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None
    ) -> int | MQTTErrorCode:
        """The packet identifier, or why it could not be sent. Raises ValueError for an impossible topic."""
        info = self._client.publish(topic, payload, qos, retain, properties)
        return info.mid if info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS else info.rc

    def subscribe(self, topic_filters: Sequence[str], qos: int) -> int | None:
        """The packet identifier; None when there is no connection any more."""
        options = SubscribeOptions(qos) if self.is_v5 else qos
        rc, mid = self._client.subscribe([(one, options) for one in topic_filters])  # type: ignore[arg-type]
        return mid if rc is MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        self._client.unsubscribe(list(topic_filters))

    def acknowledge(self, mids: Sequence[int]) -> None:
        """PUBACK for each of these packet identifiers, in this order and all at once."""
        self._client.acknowledge(mids)

    def pause_reading(self) -> None:
        """Leave what comes in the socket, so that the broker keeps the rest."""
        self.is_paused = True
        if self._sock is not None:
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        self.is_paused = False
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._on_readable)
            self._loop.call_soon(self._on_readable)  # there may be bytes that the kernel no longer has

    # -- opening and closing --------------------------------------------------------------------------------------

    def _new_client(self, protocol: MQTTProtocolVersion) -> Client:
        broker = self._broker
        client = Client(
            protocol,
            self._number,
            self._on_plain_message,
            client_id=broker.client_id,
            clean_session=None if self.is_v5 else broker.clean_start,
            reconnect_on_failure=False,
        )
        client.connect_timeout = OPEN_TIMEOUT_S
        client.max_inflight_messages = 0  # the caller's window counts, since paho does not know the broker's
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        if broker.will is not None:
            properties = None
            if self.is_v5 and broker.will.content_type:
                properties = new_properties(PacketTypes.WILLMESSAGE)
                properties.ContentType = broker.will.content_type
            client.will_set(broker.will.topic, broker.will.payload, broker.will.qos, broker.will.retain, properties)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = lambda _client, _data, mid, reason, _props: self._events.published(mid, reason)
        client.on_subscribe = lambda _client, _data, mid, reasons, _props: self._events.subscribed(mid, reasons)
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_socket_register_write
        client.on_socket_unregister_write = self._on_socket_unregister_write
        return client

    async def _open(self) -> None:
        """Open the socket in a thread, then let the event loop watch it."""
        opening = self._loop.run_in_executor(None, self._connect)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: None if done.exception() else self._close_socket())
            raise
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            raise ConnectionResetError
        self._sock = sock
        self._loop.add_reader(sock, self._on_readable)
        if self._client.want_write():
            self._loop.add_writer(sock, self._on_writable)

    def _connect(self) -> None:
        broker = self._broker
        if not self.is_v5:
            self._client.connect(broker.host, broker.port, broker.keepalive_s)
            return
        properties = new_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = broker.session_expiry_s
        properties.ReceiveMaximum = broker.receive_maximum
        properties.MaximumPacketSize = LARGEST_PACKET
        self._client.connect(
            broker.host, broker.port, broker.keepalive_s, clean_start=broker.clean_start, properties=properties
        )

    async def _watch(self) -> None:
        """Until the connection is over, let paho look after the keep-alive.

        Not while reading is paused: the broker's answer to a ping may then lie unread in the socket.
        """
        while not self._over.done():
            await asyncio.wait([self._over], timeout=1.0)
            if not (self.is_paused or self._over.done()):
                self._client.loop_misc()

    def _close(self) -> None:
        """Say goodbye, after everything that still waits to be written, and leave no watcher and no socket behind."""
        if self._sock is None:
            return
        if self._client.is_connected():
            self._client.disconnect()
            self._client.loop_write()
        self._forget(self._sock)
        self._close_socket()
        self._sock = None

    def _close_socket(self) -> None:
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.close()

    def _forget(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _end(self, outcome: Outcome, detail: str) -> None:
        if not self._over.done():
            self._over.set_result((outcome, detail))

    # -- paho's callbacks, and the event loop's -------------------------------------------------------------------

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            self._opened.set_result(None)
            self._events.opened(properties)
            return
        is_v5_unknown = self.is_v5 and reason.value == UNSUPPORTED_PROTOCOL_VERSION
        has_username = self._broker.username is not None
        detail = explain_connack(reason, self._broker.host, self._broker.port, has_username=has_username)
        self._end(Outcome.V5_NOT_SPOKEN if is_v5_unknown else Outcome.OVER, detail)

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, flags: paho.DisconnectFlags, reason: ReasonCode, _props: Any
    ) -> None:
        if self._client.refusal is not None:
            self._end(Outcome.OVER, explain_refusal(self._client.refusal, self._broker.host, self._broker.port))
            return
        was_said = flags.is_disconnect_packet_from_server
        detail = explain_disconnect(reason, self._broker.host, self._broker.port, was_said=was_said)
        is_unsaid = self.is_v5 and not (self._opened.done() or was_said)
        self._end(Outcome.CLOSED_UNSAID if is_unsaid else Outcome.OVER, detail)

    def _on_plain_message(self, message: Message) -> None:
        self._events.received(message)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        """One that the client has not made a message of itself."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("mqtt %s: a message on a topic that is not UTF-8 was dropped", self._broker.client_id)
            self._client.ack(message.mid, message.qos)
            return
        properties = message.properties
        self._events.received(
            Message(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                duplicate=message.dup,
                content_type=getattr(properties, "ContentType", None),
                user_properties=tuple(getattr(properties, "UserProperty", ())),
                mid=message.mid,
                connection_number=self._number,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )

    def _on_socket_open(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        # Without it the kernel holds back each small packet for the last one's acknowledgement: 22 ms instead of 0.2.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_socket_close(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._forget(sock)

    def _on_socket_register_write(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        if sock == self._sock:  # else it is still being opened, in the thread, and _open looks after it
            self._loop.add_writer(sock, self._on_writable)

    def _on_socket_unregister_write(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        if sock == self._sock:
            self._loop.remove_writer(sock)

    def _on_writable(self) -> None:
        self._client.loop_write()

    def _on_readable(self) -> None:
        """Read until the socket is dry, reading is paused or others should have a turn."""
        sock = self._sock
        if sock is None or self.is_paused:
            return
        try:
            for _ in range(READS_AT_ONCE):
                self._client.loop_read()
                if self.is_paused or not self._client.has_ahead:
                    break
        except Exception as error:  # whatever broke paho's parser came from outside and must not stop the agent
            log.exception("mqtt %s: unreadable packet", self._broker.client_id)
            place = f"{self._broker.host}:{self._broker.port}"
            outcome = Outcome.OVER if self._opened.done() else Outcome.V5_NOT_SPOKEN
            self._end(outcome, f"the broker at {place} sent a packet that is not MQTT ({error!r})")
            return
        if self.is_paused or sock.fileno() < 0:
            return
        if self._client.has_ahead or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            self._loop.call_soon(self._on_readable)


def new_properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]
