"""A Nightscout site on the loopback interface that answers what a test says."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What it answers, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"[]"
    location: str = ""
    asked: list[tuple[str, dict[str, list[str]], str]] = field(default_factory=list)
    """(path, query, api-secret) of each request."""

    def answers(self, entries: object) -> None:
        self.status, self.body = 200, json.dumps(entries).encode()


@contextmanager
def serving() -> Iterator[Web]:
    """A site while the block lasts."""
    site = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            site.asked.append((parts.path, urllib.parse.parse_qs(parts.query), self.headers.get("api-secret", "")))
            self.send_response(site.status)
            if site.location:
                self.send_header("Location", site.location)
            self.send_header("Content-Length", str(len(site.body)))
            self.end_headers()
            self.wfile.write(site.body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
