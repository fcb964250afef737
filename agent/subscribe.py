"""`vagus subscribe`: what a person at the other end of the broker sees of the agents' alerts."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from agent.alert_words import notice, render, render_status
from agent.config import PASSWORD_VARIABLE
from agent.config.reader import read_password
from agent.mqtt import ConnectionStatus, MqttConnection, SubscribeRefused
from agent.tls import client_context
from agent.uplink.messages import RESEARCH_NOTE, AlertData, AlertMessage, StatusMessage, parse_event
from agent.uplink.topics import ROOT, level

QUIET_S = 60.0
"""Nothing from anybody for so long is said, and said again after each further such stretch."""
FIRST_WORD_S = 10.0
_SEEN_KEPT = 10_000

_LOUD = "bold white on red"


def subscribe_command(args: argparse.Namespace) -> int:
    """`vagus subscribe`: listen until stopped.

    Reads host, port, agent, username, password_file, ca_file, alarms_only, count and json of `args`; `timeout`, where
    there is one, is in seconds. 0 when stopped or after `count` alerts, 1 when refused or too late, 2 on wrong use.
    """
    timeout_s: float | None = getattr(args, "timeout", None)
    try:
        tls = client_context(args.ca_file) if args.ca_file else None
        password = read_password(args.password_file) if args.password_file else os.environ.get(PASSWORD_VARIABLE)
        agent = args.agent if args.agent == "+" else level(args.agent)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"vagus subscribe: {error}\n")
        return 2
    logging.getLogger("agent").addHandler(logging.NullHandler())  # the listener says itself what the log would
    listener = Listener(Printer(sys.stdout, as_json=args.json), alarms_only=args.alarms_only, count=args.count)
    connection = MqttConnection(
        args.host,
        args.port or (8883 if tls else 1883),
        f"vagus-subscribe-{secrets.token_hex(4)}",
        username=args.username,
        password=password if args.username else None,
        tls=tls,
        clean_start=True,
        session_expiry_s=0,
        on_change=listener.connection_changed,
    )
    try:
        asyncio.run(_listen(connection, listener, agent, timeout_s))
    except KeyboardInterrupt:
        return 0
    except TimeoutError:
        return 1 if args.count else 0
    except SubscribeRefused as error:
        sys.stderr.write(f"vagus subscribe: {error}\n")
        return 1
    except BrokenPipeError:  # whoever read this has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    return 0


@dataclass(slots=True)
class Printer:
    """Lines for a person, or JSON for a program, at once."""

    file: TextIO
    as_json: bool = False
    _console: Console = field(init=False)

    def __post_init__(self) -> None:
        self._console = Console(file=self.file, highlight=False, soft_wrap=True)

    def print(self, text: Text, document: dict[str, Any]) -> None:
        """`text` or, with `as_json`, `document`."""
        if self.as_json:
            self.file.write(json.dumps(document, ensure_ascii=False) + "\n")
        else:
            self._console.print(text)
        self.file.flush()


class Listener:
    """Messages in, lines out: each transition once, however often the broker sends it."""

    def __init__(self, printer: Printer, *, alarms_only: bool = False, count: int | None = None) -> None:
        self._printer = printer
        self._alarms_only = alarms_only
        self._left = count
        self._seen: dict[tuple[str, str, str], None] = {}
        self._seq: dict[tuple[str, int | None], int] = {}
        self._status: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._was_connected: bool | None = None
        self.heard = 0
        """Messages that could be read."""

    @property
    def done(self) -> bool:
        """Whether as many alerts as wanted have been shown."""
        return self._left is not None and self._left <= 0

    def hear(self, topic: str, payload: bytes, *, retained: bool, now_ns: int) -> None:
        """One message from the broker; one that cannot be read is said and costs nothing else."""
        match topic.split("/")[2:]:
            case [agent, "status"]:
                self._read(topic, now_ns, lambda: self._hear_status(agent, payload, now_ns))
            case [agent, "event", _] | [agent, "alarm", _, _] if payload:
                is_event = "/event/" in topic
                self._read(topic, now_ns, lambda: self._hear_alert(agent, payload, retained, is_event, now_ns))
            case _:
                pass  # an alarm's state that was cleared, or nothing of ours

    def quiet(self, seconds: float, now_ns: int) -> None:
        """Nothing came for so long."""
        if self.heard:
            words = f"nothing heard from any agent for {seconds:.0f} s"
        else:
            words = "no agent has said anything yet: is one running, with this broker, and may this user read it?"
        self._say(words, "bold yellow", {"quiet_s": round(seconds)}, now_ns)

    def connection_changed(self, status: ConnectionStatus) -> None:
        """Say when alerts can and cannot be seen."""
        if status.connected is self._was_connected:
            return
        self._was_connected = status.connected
        document = {"connected": status.connected, "detail": status.detail}
        if status.connected:
            self._say(f"{status.detail}. {RESEARCH_NOTE}", "green", document, time.time_ns())
        else:
            self._say(f"!!! NO ALERT CAN BE SEEN: {status.detail}", _LOUD, document, time.time_ns())

    def _read(self, topic: str, now_ns: int, read: Callable[[], None]) -> None:
        try:
            read()
        except (ValidationError, ValueError) as error:
            reason = f"{error.error_count()} fault(s)" if isinstance(error, ValidationError) else str(error)
            words = f"a message on {topic} cannot be read: {reason}"
            self._say(words, "bold yellow", {"topic": topic, "unreadable": reason}, now_ns)
        else:
            self.heard += 1

    def _hear_status(self, agent: str, payload: bytes, now_ns: int) -> None:
        if not payload:
            return
        status = StatusMessage.model_validate_json(payload)
        news = (status.state, tuple(status.reasons))
        if self._status.get(agent) == news:
            return
        self._status[agent] = news
        if status.state == "offline" or not self._alarms_only:
            self._printer.print(render_status(status, now_ns=now_ns), {"status": status.model_dump(mode="json")})

    def _hear_alert(self, agent: str, payload: bytes, retained: bool, is_event: bool, now_ns: int) -> None:
        message = parse_event(payload)
        alert = message.data
        if is_event and not retained:
            self._count_missed(agent, alert, now_ns)
        transition = (alert.alert_id, alert.phase.value, alert.decided_at)
        if transition in self._seen:
            return
        text = render(message, now_ns=now_ns, was_on=retained)
        self._remember(transition)
        if self.done or (self._alarms_only and (alert.late or alert.phase.value == "end")):
            return
        self._printer.print(text, _document(agent, message, retained))
        if self._left is not None:
            self._left -= 1

    def _count_missed(self, agent: str, alert: AlertData, now_ns: int) -> None:
        """Events are numbered without holes: say how many never came."""
        seq, counted = alert.seq, (agent, alert.worker)
        if seq is None:
            return
        last = self._seq.get(counted)
        if last is not None and seq > last + 1:
            missed = seq - last - 1
            words = f"{missed} event(s) of agent {agent} were missed"
            self._say(words, "bold yellow", {"agent": agent, "missed": missed}, now_ns)
        self._seq[counted] = max(seq, last or 0)

    def _remember(self, transition: tuple[str, str, str]) -> None:
        self._seen[transition] = None
        if len(self._seen) > _SEEN_KEPT:
            del self._seen[next(iter(self._seen))]

    def _say(self, words: str, style: str, document: dict[str, Any], now_ns: int) -> None:
        self._printer.print(notice(words, style, now_ns=now_ns), document)


def _document(agent: str, message: AlertMessage, retained: bool) -> dict[str, Any]:
    return {"agent": agent, "retained": retained, "event": message.model_dump(mode="json", exclude_none=True)}


async def _listen(connection: MqttConnection, listener: Listener, agent: str, timeout_s: float | None) -> None:
    """Until the listener has what it wants; raises TimeoutError after `timeout_s`, and SubscribeRefused."""
    async with asyncio.timeout(timeout_s), connection:
        # The events before the alarms' retained states: what happens in between is then heard in any case.
        for topics in ("status", "event/#", "alarm/#"):
            await connection.subscribe(f"{ROOT}/{agent}/{topics}", qos=1)
        quiet_s, wait_s = 0.0, FIRST_WORD_S
        messages = connection.messages()
        coming = asyncio.ensure_future(anext(messages))
        while not listener.done:
            # Waiting must not cancel: that would end the iterator.
            arrived, _ = await asyncio.wait({coming}, timeout=wait_s)
            if refused := connection.status.refused_subscriptions:
                raise SubscribeRefused(refused[0], "not authorized")
            if arrived:
                message = coming.result()
                listener.hear(message.topic, message.payload, retained=message.retain, now_ns=time.time_ns())
                connection.ack(message)
                coming = asyncio.ensure_future(anext(messages))
                quiet_s = 0.0
            else:
                quiet_s += wait_s
                if connection.is_connected:
                    listener.quiet(quiet_s, time.time_ns())
            wait_s = QUIET_S
        coming.cancel()
