"""The two pages and the thread that serves them.

One request at a time, each within seconds: enough for a scraper and a watchdog, and nothing that could be flooded.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.progress import Progress

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""For a client that says nothing."""
Reply = tuple[str, str, bytes]
"""Status line, content type, body."""


class Endpoints:
    """`/metrics` and `/healthz` at an address, from `start` to `stop`.

    `reasons`: why the agent is degraded, in words. Raises OSError where nothing can listen at the address.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        progress: Progress,
        reasons: Callable[[], Iterable[str]],
    ) -> None:
        self._registry, self._progress, self._reasons = registry, progress, reasons
        self._server = make_server(host, port, self._answer, _Server, _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)

    @property
    def port(self) -> int:
        """The one that was free, where 0 was asked for."""
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        pages = {"/metrics": self._metrics, "/healthz": self._health}
        page = pages.get(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, kind, body = "405 Method Not Allowed", "text/plain", b"read only\n"
        elif page is None:
            status, kind, body = "404 Not Found", "text/plain", b"there are /metrics and /healthz\n"
        else:
            status, kind, body = page()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def _metrics(self) -> Reply:
        try:
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
        except TimeoutError:
            return "503 Service Unavailable", "text/plain", b"the agent is stalled\n"

    def _health(self) -> Reply:
        stalled, reasons = self._progress.is_stalled, list(self._reasons())
        state = "stalled" if stalled else "degraded" if reasons else "ok"
        body = {"state": state, "last_tick_s": round(self._progress.since_s, 3), "reasons": reasons}
        return (
            "503 Service Unavailable" if stalled else "200 OK",
            "application/json",
            json.dumps(body).encode() + b"\n",
        )


class _Server(WSGIServer):
    allow_reuse_address = True
    request_queue_size = 8

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or said nonsense costs a line in the log at most."""
        log.debug("a request from %s failed", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (as in the base class)
        """Every scrape is not worth a line."""
