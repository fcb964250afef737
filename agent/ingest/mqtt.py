"""Sensors that publish on MQTT, and people who ask something of the agent: QoS 1, acknowledged only when on disk.

Sensors write to vagus/v1/in/{device}/{channel}, people to vagus/v1/{agent}/cmd/{ack,pause,verdict,drill}.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from agent.ingest.babble import Babble
from agent.ingest.decoder import Decoder, StreamConfig
from agent.ingest.source import Delivery
from agent.mqtt import Message, MqttConnection
from agent.uplink.commands import CommandAnswer
from agent.uplink.topics import INPUT_FILTER, Topics
from firmware_bridge.chunk import Chunk

log = logging.getLogger(__name__)


def _hears_all(_patient: str) -> bool:
    return False


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
        topics: Topics | None = None,
        refuses: Callable[[str], bool] = _hears_all,
        is_asked: Callable[[bytes], bool] = lambda _: True,
        babble: Babble | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`streams`: by (device, channel). `filters`: what to subscribe to, where the broker allows only some.

        `topics`: of the agent that commands are meant for; without them none are heard. `refuses`: whether a patient's
        message is to be dropped unread, `babble`: whether a device's is. `is_asked`: whether a command with this
        payload is this process's to answer, where an agent has several.
        """
        self._connection, self._filters, self._clock_ns = connection, filters, clock_ns
        self._topics, self._refuses, self._is_asked = topics, refuses, is_asked
        self._babble = babble or Babble(one.stream for one in streams.values())
        self.decoder = Decoder(streams)
        self.received = 0
        self.delivered = 0

    def counters(self) -> dict[str, int | dict[str, dict[str, int]]]:
        """`received` and `delivered` messages, and `rejected`: device → reason → count."""
        return {"received": self.received, "delivered": self.delivered, "rejected": self.decoder.rejected()}

    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Subscribe, then hand on what comes, until cancelled.

        A broker that denies the subscription is shown in the connection's status, and asked again at every reconnect.
        """
        self._connection.subscribe_nowait(*self._all_filters())
        async for message in self._connection.messages():
            self.received += 1
            command = self._topics.parse_command(message.topic) if self._topics else None
            if command is not None and message.retain:
                log.warning("a retained %s command is not obeyed: it would come again at every start", command)
                self._connection.ack(message)
                continue
            if command is not None and not self._is_asked(message.payload):
                self._connection.ack(message)
                continue
            if command is not None:
                await deliver(self._command(message, command))
                continue
            chunks = self._read(message)
            if not chunks:  # nothing that could become readable by being sent again
                self._connection.ack(message)
                continue
            self.delivered += 1
            await deliver(self._delivery(message, chunks))

    def _read(self, message: Message) -> tuple[Chunk, ...]:
        """The chunks of a message; none where it is not to be read, or cannot be."""
        stream = self.decoder.stream_of(message.topic)
        if stream is not None and (self._babble.mutes(stream.device) or self._refuses(stream.patient)):
            return ()
        unreadable = self.decoder.unreadable
        chunks = self.decoder.decode(message.topic, message.content_type, message.payload)
        if stream is not None and self.decoder.unreadable > unreadable:
            self._babble.unreadable(stream.device)
        return chunks

    def leave(self) -> None:
        """Hear nothing new any more, only what the broker has kept."""
        self._connection.unsubscribe_nowait(*self._all_filters())

    def _all_filters(self) -> tuple[str, ...]:
        return (*self._filters, *((self._topics.commands,) if self._topics else ()))

    def _command(self, message: Message, name: str) -> Delivery:
        answer = partial(self._answer, message) if message.response_topic else None
        return replace(self._delivery(message, ()), command=name, answer=answer)

    def _answer(self, message: Message, accepted: bool, words: str) -> None:
        body = CommandAnswer(accepted=accepted, words=words).model_dump_json().encode()
        sent = self._connection.publish_nowait(
            message.response_topic or "", body, content_type="application/json", correlation=message.correlation
        )
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _delivery(self, message: Message, chunks: tuple[Chunk, ...]) -> Delivery:
        return Delivery(
            chunks=chunks,
            topic=message.topic,
            content_type=message.content_type,
            payload=message.payload,
            received_ns=self._clock_ns(),
            ack=lambda: self._connection.ack(message),
        )
