"""From the outbox to an address of the web: one signed POST an event, deleted only on the receiver's word.

The form is that of Standard Webhooks (https://www.standardwebhooks.com), for which most languages have a library that
verifies: HMAC-SHA256 over id, time and body. At least once: a receiver tells a repetition by its `webhook-id`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import random
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from agent import __version__
from agent.uplink.messages import CLOUD_EVENT_TYPE
from agent.uplink.outbox import Outbox, OutboxError
from agent.uplink.webhook_queue import Waiting

log = logging.getLogger(__name__)

SECRET_PREFIX = "whsec_"  # noqa: S105 (what a secret of this form begins with)
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
PATIENCE_S = 30.0
"""Failing for so long is an alarm."""
LOOK_AGAIN_S = 5.0
SPARE_S = 5.0
"""Past its own time-outs a POST that still goes on is cut off."""
OF_THIS_ALERT: Final = frozenset({400, 406, 409, 411, 412, 413, 414, 415, 422, 431})
"""Answers that are about what was sent: other alerts may still be taken."""
MOVED: Final = frozenset({301, 302, 303, 307, 308})
_jitter = random.SystemRandom()
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts are posted to, and the key that they are signed with."""

    url: str
    key: bytes = field(repr=False)
    tls: ssl.SSLContext | None = None
    """For an https address."""
    timeout_s: float = 10.0
    """For each step of a POST: to connect, to send, to be answered."""

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).netloc


class PostError(Exception):
    """The receiver did not take it; the message says why. `status`: its answer, where there was one."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def read_secret(text: str) -> bytes:
    """The key in "whsec_" and base64 of 24 to 64 bytes; raises ValueError on anything else."""
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(f"does not begin with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"is not base64 after {SECRET_PREFIX}") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"holds {len(key)} bytes, a key has 24 to 64")
    return key


def signature(key: bytes, message_id: str, at_s: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{message_id}.{at_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class Post:
    """One POST, on a thread of its own; `cut_off` ends it from another."""

    def __init__(self, receiver: Receiver, body: bytes, at_s: int) -> None:
        self._receiver, self._body, self._at_s = receiver, body, at_s
        self._connection = _connection(receiver)

    def send(self) -> None:
        """Blocks until the receiver has taken it; raises PostError where it has not."""
        parts = urllib.parse.urlsplit(self._receiver.url)
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        message_id = str(json.loads(self._body)["id"])
        headers = {
            "content-type": CLOUD_EVENT_TYPE,
            "user-agent": f"vagus/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(self._at_s),
            "webhook-signature": signature(self._receiver.key, message_id, self._at_s, self._body),
        }
        with _in_words(self._receiver), contextlib.closing(self._connection):
            self._connection.request("POST", path, self._body, headers)
            answer = self._connection.getresponse()
            answer.close()  # what else it says is of no use
        if 200 <= answer.status < 300:
            return
        if answer.status in MOVED:
            host = urllib.parse.urlsplit(answer.headers.get("Location", "")).netloc or "another address"
            raise PostError(f"has moved to {host} (HTTP {answer.status}), which is not followed", answer.status)
        raise PostError(f"answered HTTP {answer.status}", answer.status)

    def cut_off(self) -> None:
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def reach(receiver: Receiver) -> None:
    """Connect, check the certificate of an https address, and send nothing; raises PostError where that fails."""
    with _in_words(receiver), contextlib.closing(_connection(receiver)) as connection:
        connection.connect()


def _connection(receiver: Receiver) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(receiver.url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=receiver.timeout_s, context=receiver.tls)
    return http.client.HTTPConnection(host, port, timeout=receiver.timeout_s)


@contextlib.contextmanager
def _in_words(receiver: Receiver) -> Iterator[None]:
    """Whatever goes wrong on the way, as a PostError."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise PostError(f"its certificate is not trusted: {error.verify_message}") from None
    except TimeoutError:
        raise PostError(f"no answer within {receiver.timeout_s:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PostError(f"cannot be reached: {error or type(error).__name__}") from None


@dataclass(slots=True)
class _Hold:
    """An alert that the receiver refused, left alone until `until_s`."""

    delay_s: float
    until_s: float


class WebhookPublisher:
    """Drains the outbox's webhook queue while `run` runs: most urgent first, each alert's events in their order.

    Every call into the outbox happens on `executor`, the single thread that also commits; the POSTs happen on another
    one, so nothing that the receiver does holds up the watching or the broker's subscribers.
    """

    def __init__(self, receiver: Receiver, outbox: Outbox, executor: Executor) -> None:
        if outbox.webhook is None:
            raise ValueError("this outbox keeps nothing for a webhook")
        self._receiver, self._outbox, self._queue, self._executor = receiver, outbox, outbox.webhook, executor
        self._posting = ThreadPoolExecutor(1, thread_name_prefix="webhook")
        self._work = asyncio.Event()
        self._held: dict[str, _Hold] = {}
        self._aside: set[str] = set()
        """Alerts that step aside once, for the others to be tried."""
        self._delay_s = 0.0
        self._failing_since_s: float | None = None
        self._first_reason = ""
        self._given_up_before = 0
        self.published = 0
        """Events that the receiver has acknowledged."""

    def trouble(self) -> str:
        """What somebody has to see to, in words that change only when it does; empty when all is well."""
        lasting = self._failing_since_s is not None and time.monotonic() - self._failing_since_s > PATIENCE_S
        lost = self._queue.given_up > self._given_up_before
        if not lasting and not lost:
            return ""
        reason = f": {self._first_reason}" if lasting else ""
        given_up = "; some were given up for want of room, the least urgent and oldest" if lost else ""
        return f"The webhook at {self._receiver.host} does not get all alerts{reason}{given_up}"

    def wake(self) -> None:
        """New events were committed. Call on the event loop."""
        self._work.set()

    async def run(self) -> None:
        """Post until cancelled."""
        try:
            while True:
                self._work.clear()
                try:
                    waited = await self._post_next()
                except OutboxError as error:  # the disk is full or failing: whoever commits has raised the alarm
                    log.warning("webhook waits: %s", error)
                    waited = False
                    await asyncio.sleep(FIRST_RETRY_S)
                except Exception as error:  # a fault here must cost the watching and the broker's subscribers nothing
                    log.exception("webhook: fault")
                    self._fails(f"fault in the agent: {type(error).__name__}")
                    await self._back_off()
                    waited = True
                if not waited:
                    await self._wait_for_work()
        finally:
            self._posting.shutdown(wait=False, cancel_futures=True)

    async def _post_next(self) -> bool:
        """Send what is next; False when there is nothing to send now."""
        held = self._held_now()
        waiting = await self._on_worker(lambda: self._queue.next([*held, *self._aside]))
        if waiting is None and self._aside:
            self._aside.clear()
            waiting = await self._on_worker(lambda: self._queue.next(held))
        if waiting is None:
            if not held:  # nothing is left: what was given up, and what that was held for, is over
                self._held.clear()
                self._given_up_before = self._queue.given_up
                self._well()
            return False
        try:
            await self._post(waiting)
        except PostError as refusal:
            self._failed(waiting, refusal)
            if refusal.status is not None and refusal.status >= 500:
                self._aside.add(waiting.alert_id)  # it may be this very alert that the receiver stumbles over
            if refusal.status not in OF_THIS_ALERT:
                await self._back_off()
            return True
        await self._on_worker(lambda: self._outbox.webhook_delivered([waiting.id]))
        self.published += 1
        self._delay_s = 0.0
        self._aside.clear()
        self._held.pop(waiting.alert_id, None)
        return True

    async def _post(self, waiting: Waiting) -> None:
        post = Post(self._receiver, waiting.payload, int(time.time()))
        sending = asyncio.get_running_loop().run_in_executor(self._posting, post.send)
        try:
            async with asyncio.timeout(3 * self._receiver.timeout_s + SPARE_S):
                await asyncio.shield(sending)
        except TimeoutError:
            post.cut_off()
            with contextlib.suppress(PostError):
                await sending
            raise PostError("its answer did not come to an end") from None
        except asyncio.CancelledError:
            post.cut_off()
            done, _ = await asyncio.wait({sending}, timeout=1.0)
            for one in done:
                one.exception()  # it was cut off, and nobody waits for it any more
            raise

    async def _back_off(self) -> None:
        self._delay_s = min(max(2 * self._delay_s, FIRST_RETRY_S), LONGEST_RETRY_S)
        await asyncio.sleep(_jitter.uniform(self._delay_s / 2, self._delay_s))

    def _fails(self, reason: str) -> None:
        if self._failing_since_s is None:
            self._failing_since_s, self._first_reason = time.monotonic(), reason
            log.warning("webhook at %s: %s; alerts wait", self._receiver.host, reason)

    def _failed(self, waiting: Waiting, refusal: PostError) -> None:
        now_s = time.monotonic()
        self._fails(str(refusal))
        if refusal.status in OF_THIS_ALERT:
            before = self._held.get(waiting.alert_id)
            delay_s = FIRST_RETRY_S if before is None else min(2 * before.delay_s, LONGEST_RETRY_S)
            self._held[waiting.alert_id] = _Hold(delay_s, now_s + _jitter.uniform(delay_s / 2, delay_s))

    def _well(self) -> None:
        if self._failing_since_s is not None:
            log.info("webhook at %s: alerts are taken again", self._receiver.host)
        self._failing_since_s = None

    def _held_now(self) -> list[str]:
        now_s = time.monotonic()
        return [alert_id for alert_id, hold in self._held.items() if hold.until_s > now_s]

    async def _wait_for_work(self) -> None:
        now_s = time.monotonic()
        next_s = min((hold.until_s - now_s for hold in self._held.values()), default=LOOK_AGAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(next_s, 0.0)):
                await self._work.wait()

    async def _on_worker(self, call: Callable[[], _R]) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)
