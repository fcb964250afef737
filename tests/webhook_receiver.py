"""A webhook's receiver on the loopback interface: it verifies, remembers, and answers as a test says."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 (of the tests alone)


@dataclass
class Receiver:
    """What it answers, and what it took."""

    url: str = ""
    status: int = 204
    location: str = ""
    refuses: str = ""
    """Part of a body that is answered with `refuses_with`."""
    refuses_with: int = 422
    answers_after: threading.Event | None = None
    """Set: the answer waits for it; the request has been read by then."""
    drips: bool = False
    """Answers without an end, a byte at a time."""
    taken: list[dict[str, Any]] = field(default_factory=list)
    """CloudEvents that were answered with a success."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """CloudEvents of all requests."""
    unsigned: list[str] = field(default_factory=list)
    """Why requests could not be verified."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        one = self.server.one
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            Webhook(SECRET).verify(body, {name: self.headers[name] or "" for name in self.headers})
        except Exception as error:
            one.unsigned.append(repr(error))
        event = json.loads(body)
        assert event["id"] == self.headers["webhook-id"]
        one.asked.append(event)
        if one.answers_after is not None:
            one.answers_after.wait(30)
        while one.drips and not self.server.over.wait(0.05):
            self.wfile.write(b"H")
        self._answer(event, one.refuses_with if one.refuses and one.refuses in body.decode() else one.status)

    def _answer(self, event: dict[str, Any], status: int) -> None:
        one = self.server.one
        if 200 <= status < 300:
            one.taken.append(event)
        self.send_response(status)
        if one.location:
            self.send_header("Location", one.location)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self, one: Receiver) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.one, self.over = one, threading.Event()

    def handle_error(self, *_args: object) -> None:
        pass  # a client that went away in the middle is what some tests are about


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver while the block lasts."""
    one = Receiver()
    server = _Server(one)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    one.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/hook?from=vagus"
    try:
        yield one
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
