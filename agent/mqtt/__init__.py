"""MQTT for the agent: one connection to one broker that mends itself, and says in plain words what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.mqtt.link import Broker, Events, Link, Outcome, Will
from agent.mqtt.nouns import (
    ConnectionStatus,
    Message,
    MqttError,
    NotConnected,
    PublishRefused,
    PublishResult,
    SubscribeRefused,
)
from agent.mqtt.publishing import Waiting, publish_properties

__all__ = [
    "ConnectionStatus",
    "Message",
    "MqttConnection",
    "MqttError",
    "NotConnected",
    "PublishRefused",
    "PublishResult",
    "SubscribeRefused",
    "Will",
]

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
STEADY_S = 10.0
"""A connection that lasted this long was a good one: the next attempt starts again from the first delay."""
THROWN_OUT_TO_SUSPECT = 3
"""Connections in a row that were closed soon after they had been accepted."""
TOPIC_NAME_INVALID, PACKET_TOO_LARGE = 0x90, 0x95
"""MQTT 5 reason codes that we give ourselves, before the broker has to."""
PACKET_OVERHEAD = 256
"""Bytes of a PUBLISH packet beside topic and payload, at most: header and our properties."""
FILTERS_A_PACKET = 100
"""Subscriptions that go to the broker in one packet."""
_jitter = random.SystemRandom()


class MqttConnection:
    """A connection to one broker that is kept up for as long as the `async with` block lasts.

    Entering does not wait for the broker: `wait_connected()` does. Incoming messages are read from `messages()`; when
    `max_buffered` of them wait there, the socket is no longer read, so that the broker keeps the rest. Since that also
    holds back the acknowledgements of what this connection publishes, alerts belong on a connection of their own, with
    `clean_start` so that no session of old sends it anything.
    All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        clean_start: bool = False,
        session_expiry_s: int = 86_400,
        will: Will | None = None,
        keepalive_s: int = 30,
        max_unacked: int = 1000,
        max_buffered: int = 256,
        max_inflight: int = 100,
        on_change: Callable[[ConnectionStatus], None] | None = None,
    ) -> None:
        """`max_unacked`: Receive Maximum told to the broker; `max_inflight`: our own unacknowledged publishes."""
        self.host, self.port, self.client_id = host, port, client_id
        self._broker = Broker(
            host=host,
            port=port,
            client_id=client_id,
            username=username,
            password=password,
            tls=tls,
            clean_start=clean_start,
            session_expiry_s=session_expiry_s,
            will=will,
            keepalive_s=keepalive_s,
            receive_maximum=max_unacked,
        )
        self._events = Events(self._on_opened, self._on_message, self._on_published, self._on_subscribed)
        self._max_buffered, self._max_inflight = max_buffered, max_inflight
        self._listeners: list[Callable[[ConnectionStatus], None]] = [on_change] if on_change else []
        self._status = ConnectionStatus(connected=False, detail=f"not yet connected to the broker at {host}:{port}")
        self._subscriptions: dict[str, int] = {}
        self._link: Link | None = None
        self._connection_number = 0
        self._buffer: deque[Message] = deque()
        self._unacknowledged: deque[int] = deque()
        self._done: set[int] = set()
        self._is_ack_due = False
        self._arrived = asyncio.Event()
        self._connected = asyncio.Event()
        self._publishing: dict[int, tuple[str, asyncio.Future[PublishResult]]] = {}
        self._waiting: deque[Waiting] = deque()
        self._subscribing: dict[int, tuple[Sequence[str], asyncio.Future[None]]] = {}
        self._send_window = max_inflight
        self._largest_packet: int | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> ConnectionStatus:
        return self._status

    @property
    def is_connected(self) -> bool:
        return self._status.connected

    def add_listener(self, listener: Callable[[ConnectionStatus], None]) -> None:
        """Call `listener` with every change of the status, on the event loop."""
        self._listeners.append(listener)

    async def wait_connected(self) -> None:
        await self._connected.wait()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._stay_connected(), name=f"mqtt {self.client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # -- publishing -----------------------------------------------------------------------------------------------

    def publish_nowait(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = (),
        correlation: bytes | None = None,
    ) -> asyncio.Future[PublishResult]:
        """Send now; the future is resolved by the PUBACK. Messages sent so leave in the order of the calls."""
        result: asyncio.Future[PublishResult] = self._loop.create_future()
        if self._link is None or not self.is_connected:
            result.set_exception(NotConnected(self._status.detail))
            return result
        if self._largest_packet is not None and len(payload) + len(topic) + PACKET_OVERHEAD > self._largest_packet:
            reason = f"{len(payload)} bytes, the broker takes packets of at most {self._largest_packet}"
            result.set_exception(PublishRefused(topic, reason, PACKET_TOO_LARGE))
            return result
        properties = None
        if self._status.protocol == "5":
            properties = publish_properties(expiry_s, content_type, user_properties, correlation)
        self._waiting.append(Waiting(topic, payload, qos, retain, properties, result))
        self._send_waiting()
        return result

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        content_type: str | None = None,
        user_properties: Sequence[tuple[str, str]] = (),
    ) -> PublishResult:
        """Publish and wait for the broker's word. Raises NotConnected or PublishRefused.

        On MQTT 3.1.1 a message on a denied topic is acknowledged like any other: that protocol cannot say no.
        """
        return await self.publish_nowait(
            topic,
            payload,
            qos=qos,
            retain=retain,
            expiry_s=expiry_s,
            content_type=content_type,
            user_properties=user_properties,
        )

    def _send_waiting(self) -> None:
        while self._link is not None and self._waiting and len(self._publishing) < self._send_window:
            waiting = self._waiting.popleft()
            if waiting.result.cancelled():
                continue
            try:
                mid = self._link.publish(
                    waiting.topic, waiting.payload, waiting.qos, waiting.retain, waiting.properties
                )
            except ValueError as error:
                waiting.result.set_exception(PublishRefused(waiting.topic, str(error), TOPIC_NAME_INVALID))
                continue
            if isinstance(mid, MQTTErrorCode):
                waiting.result.set_exception(NotConnected(paho.error_string(mid)))
            else:
                self._publishing[mid] = (waiting.topic, waiting.result)

    def _on_published(self, mid: int, reason: ReasonCode) -> None:
        topic, result = self._publishing.pop(mid, ("", None))
        if result is not None and not result.done():
            if reason.is_failure:
                result.set_exception(PublishRefused(topic, reason.getName().lower(), reason.value))
            else:
                result.set_result(PublishResult(topic, reason.value))
        if self._waiting:
            self._loop.call_soon(self._send_waiting)

    # -- subscribing and receiving --------------------------------------------------------------------------------

    def subscribe_nowait(self, *topic_filters: str, qos: int = 1) -> asyncio.Future[None] | None:
        """Subscribe now, or when there is a connection, and again after every reconnect.

        The future, None while there is no connection, is resolved by the broker's word; a refusal also shows in
        `status`. Read `messages()` meanwhile: what a lasting session has kept comes before that word, and once the
        buffer is full nothing more is read.
        """
        self._subscriptions |= dict.fromkeys(topic_filters, qos)
        return self._send_subscribe(topic_filters, qos) if self.is_connected else None

    async def subscribe(self, *topic_filters: str, qos: int = 1) -> None:
        """As `subscribe_nowait`, and wait for the broker's word if there is a connection. Raises SubscribeRefused."""
        granted = self.subscribe_nowait(*topic_filters, qos=qos)
        if granted is not None:
            with contextlib.suppress(NotConnected):
                await granted

    def unsubscribe_nowait(self, *topic_filters: str) -> None:
        """Ask the broker, over the connection that there is, to send no more; what it has kept still comes."""
        for topic_filter in topic_filters:
            self._subscriptions.pop(topic_filter, None)
        if self._link is not None and self.is_connected:
            for some in _in_packets(topic_filters):
                self._link.unsubscribe(some)

    def _send_subscribe(self, topic_filters: Sequence[str], qos: int) -> asyncio.Future[None]:
        """The broker's word on the last packet of them: it answers in their order."""
        granted: asyncio.Future[None] = self._loop.create_future()
        for some in _in_packets(topic_filters):
            mid = self._link.subscribe(some, qos) if self._link is not None else None
            if mid is None:
                granted.set_exception(NotConnected(self._status.detail))
                granted.exception()
                break
            is_last = some[-1] == topic_filters[-1]
            self._subscribing[mid] = (some, granted if is_last else self._loop.create_future())
        return granted

    def _on_subscribed(self, mid: int, reasons: list[ReasonCode]) -> None:
        topic_filters, granted = self._subscribing.pop(mid, ((), None))
        refusals = {
            topic_filter: reason.getName().lower()
            for topic_filter, reason in zip(topic_filters, reasons, strict=False)
            if reason.is_failure
        }
        for topic_filter, refusal in refusals.items():
            refused = (*self._status.refused_subscriptions, topic_filter)
            log.error("mqtt %s: denied to subscribe to %s: %s", self.client_id, topic_filter, refusal)
            self._report(replace(self._status, refused_subscriptions=tuple(dict.fromkeys(refused))), logging.INFO)
        if granted is None or granted.done():
            return
        if not refusals:
            granted.set_result(None)
        else:
            granted.set_exception(SubscribeRefused(*next(iter(refusals.items()))))
            granted.exception()  # a re-subscription has nobody waiting: the status and the log have said it

    async def messages(self) -> AsyncIterator[Message]:
        """Incoming messages, oldest first; for one consumer. Does not end by itself."""
        while True:
            while not self._buffer:
                self._arrived.clear()
                await self._arrived.wait()
            message = self._buffer.popleft()
            if self._link is not None and self._link.is_paused and len(self._buffer) <= self._max_buffered // 2:
                self._link.resume_reading()
            yield message

    @property
    def unacknowledged(self) -> int:
        """Messages that have come and wait for `ack`."""
        return len(self._unacknowledged)

    def ack(self, message: Message) -> None:
        """Acknowledge a QoS 1 message, in any order: MQTT wants the order of arrival, so it leaves after those before.

        Does nothing when the connection it came over is gone: the broker sends the message again, and on the new
        connection its packet identifier may stand for another one.
        """
        if self._link is None or not message.qos or message.connection_number != self._connection_number:
            return
        self._done.add(message.mid)
        if not self._is_ack_due:
            self._is_ack_due = True
            self._loop.call_soon(self._send_acks)

    def _send_acks(self) -> None:
        """All that may leave, in one write: acknowledgements come by the tick."""
        self._is_ack_due = False
        mids: list[int] = []
        while self._unacknowledged and self._unacknowledged[0] in self._done:
            mid = self._unacknowledged.popleft()
            self._done.discard(mid)
            mids.append(mid)
        if mids and self._link is not None:
            self._link.acknowledge(mids)

    def _on_message(self, message: Message) -> None:
        if message.qos:
            self._unacknowledged.append(message.mid)
        self._buffer.append(message)
        self._arrived.set()
        if self._link is not None and len(self._buffer) >= self._max_buffered:
            self._link.pause_reading()

    # -- the connection -------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        delay_s = FIRST_DELAY_S
        n_thrown_out = n_closed_unsaid = 0
        while True:
            began_s = self._loop.time()
            outcome, was_opened = await self._connect_once(MQTTProtocolVersion.MQTTv5)
            n_closed_unsaid = n_closed_unsaid + 1 if outcome is Outcome.CLOSED_UNSAID else 0
            if outcome is Outcome.V5_NOT_SPOKEN or n_closed_unsaid >= 2:
                _, was_opened = await self._connect_once(MQTTProtocolVersion.MQTTv311)
            if self._loop.time() - began_s > STEADY_S:
                delay_s = FIRST_DELAY_S
                n_thrown_out = 0
            elif was_opened:
                n_thrown_out += 1
                if n_thrown_out == THROWN_OUT_TO_SUSPECT:  # two agents with one client id throw each other out
                    hint = f"; is another client using the client id {self.client_id!r}?"
                    self._report(replace(self._status, detail=self._status.detail + hint), logging.WARNING)
            await asyncio.sleep(_jitter.uniform(delay_s / 2, delay_s))
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    async def _connect_once(self, protocol: MQTTProtocolVersion) -> tuple[Outcome, bool]:
        """One connection from its opening to its end: how it ended, and whether it had been accepted."""
        self._connection_number += 1
        link = Link(self._broker, protocol, self._events, self._connection_number)
        self._link = link
        self._unacknowledged.clear()
        self._done.clear()
        self._send_window, self._largest_packet = self._max_inflight, None
        detail, level = "the agent closed the connection", logging.INFO
        try:
            outcome, detail = await link.run()
            level = logging.WARNING
        except Exception as error:  # a connection that cannot even be tried must not end the trying
            log.exception("mqtt %s: cannot connect", self.client_id)
            outcome, detail, level = Outcome.OVER, f"cannot connect to {self.host}:{self.port}: {error}", logging.ERROR
        finally:
            self._link = None
            self._connected.clear()
            self._report(ConnectionStatus(connected=False, detail=detail), level)
            self._disappoint(NotConnected(detail))
        return outcome, link.was_opened

    def _on_opened(self, properties: Properties | None) -> None:
        assert self._link is not None  # noqa: S101 - it is this link that reports
        detail, protocol = f"connected to the broker at {self.host}:{self.port} over MQTT 5", "5"
        level = logging.INFO
        if not self._link.is_v5:
            detail, protocol = f"{detail[:-1]}3.1.1 only: a topic the broker refuses cannot be noticed", "3.1.1"
            level = logging.WARNING
        self._send_window = min(self._max_inflight, getattr(properties, "ReceiveMaximum", self._max_inflight))
        self._largest_packet = getattr(properties, "MaximumPacketSize", None)
        if len(self._buffer) >= self._max_buffered:
            self._link.pause_reading()
        for qos in set(self._subscriptions.values()):
            self._send_subscribe([one for one, asked in self._subscriptions.items() if asked == qos], qos)
        self._connected.set()
        self._report(ConnectionStatus(connected=True, detail=detail, protocol=protocol), level)

    def _disappoint(self, lost: NotConnected) -> None:
        """Nobody waits for an answer over a connection that is gone."""
        unanswered: list[asyncio.Future[Any]] = [result for _, result in self._publishing.values()]
        unanswered += [waiting.result for waiting in self._waiting]
        unanswered += [granted for _, granted in self._subscribing.values()]
        self._publishing.clear()
        self._waiting.clear()
        self._subscribing.clear()
        for future in unanswered:
            if not future.done():
                future.set_exception(lost)
                future.exception()  # whoever waits still gets it; nobody waiting is no error

    def _report(self, status: ConnectionStatus, level: int) -> None:
        if status == self._status:
            return
        self._status = status
        log.log(level, "mqtt %s: %s", self.client_id, status.detail)
        for listener in self._listeners:
            try:
                listener(status)
            except Exception:  # a listener's fault must not cost the connection
                log.exception("mqtt %s: a listener failed", self.client_id)


def _in_packets(topic_filters: Sequence[str]) -> list[Sequence[str]]:
    return [topic_filters[k : k + FILTERS_A_PACKET] for k in range(0, len(topic_filters), FILTERS_A_PACKET)]
