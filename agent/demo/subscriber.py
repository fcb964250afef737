"""The demo's subscriber: all it knows of the agent is what the agent publishes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from agent.demo.display import Display, is_shown
from agent.demo.truth import Heard
from agent.mqtt import Message, MqttConnection
from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import StatusMessage, VitalMessage, parse_event
from agent.uplink.topics import Topics
from firmware_bridge.chunk import NS_PER_S


class Subscriber:
    """Listens to one agent, keeps what it hears, and shows it."""

    def __init__(self, connection: MqttConnection, agent: str, display: Display) -> None:
        self._connection = connection
        self._topics = Topics(agent)
        self._display = display
        self._t0_ns = 0
        self.ready = asyncio.Event()
        """The agent has said that it watches."""
        self.gone = asyncio.Event()
        """After that, it has said that it does not any more."""
        self.heard: list[Heard] = []
        self.reasons: list[str] = []
        """Why the agent is not simply online, as it said last."""
        self.vitals = 0
        """Heart rates heard."""

    async def subscribe(self) -> None:
        await self._connection.subscribe(self._topics.everything)

    def begin(self, t0_ns: int) -> int:
        """From here on times count from `t0_ns`, which it returns."""
        self._t0_ns = t0_ns
        return t0_ns

    async def run(self) -> None:
        """Listen until cancelled."""
        async for message in self._connection.messages():
            self._connection.ack(message)
            with suppress(ValueError):  # not of this version: not for this display
                self._take(message)

    def _take(self, message: Message) -> None:
        _, _, _, what, *_ = message.topic.split("/")
        if what == "status":
            self._status(StatusMessage.model_validate_json(message.payload))
        elif what == "vital":
            vital = VitalMessage.model_validate_json(message.payload)
            self.vitals += vital.code == "hr"
            if is_shown(vital.code):
                self._display.vital(vital.code, vital.value, vital.unit)
        elif what == "event":
            self._event(message.payload)

    def _status(self, status: StatusMessage) -> None:
        if status.state == "offline":
            if self.ready.is_set():
                self.gone.set()
            return
        self.reasons = status.reasons
        # Before it reads its input, what a sensor publishes would be lost: no session of its waits at the broker yet.
        if not any(reason.startswith("no input") for reason in status.reasons):
            self.ready.set()

    def _event(self, payload: bytes) -> None:
        alert = parse_event(payload).data
        now_s = (time.time_ns() - self._t0_ns) / NS_PER_S
        known = next((one for one in self.heard if one.alert_id == alert.alert_id), None)
        if alert.phase == "start" and known is None:
            heard = Heard(
                alert_id=alert.alert_id,
                rule=alert.rule,
                priority=alert.priority.value,
                text=alert.text,
                onset_s=(parse_rfc3339_ns(alert.onset) - self._t0_ns) / NS_PER_S,
                heard_s=now_s,
            )
            self.heard.append(heard)
            self._display.began(heard)
        elif alert.phase == "end" and known is not None:
            self._display.ended(known, now_s)
