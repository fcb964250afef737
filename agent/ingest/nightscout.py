"""Glucose entries fetched from a Nightscout site, or from the web service of xDrip or Juggluco on a phone.

`GET {url}/api/v1/entries/sgv.json?count=N`, or a URL that ends in .json as it stands (http://phone:17580/sgv.json). A
secret goes in the `api-secret` header as its SHA-1, as Nightscout wants it, a token in the query. Redirections are not
followed: a secret must not travel to a host that nobody wrote down.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent.ingest.source import Delivery
from agent.uplink.topics import input_topic
from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs import nightscout

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/json"
POLL_S = 30.0
LONGEST_WAIT_S = 300.0
"""After failures the waits double up to this."""
TIMEOUT_S = 20.0
MAX_BYTES = 4 << 20
DAY_S = 86_400
SPARE_ENTRIES = 6
REMEMBERED = 4096
LOG_EVERY = 1000
_MARKS = ("date", "dateString", "sgv", "type")


@dataclass(frozen=True, slots=True)
class Site:
    """Where to ask, and with what right."""

    url: str
    """https://my.site or http://phone:17580/sgv.json."""
    secret: str | None = None
    token: str | None = None

    def request(self, count: int) -> urllib.request.Request:
        """What is sent to get the newest `count` entries."""
        parts = urllib.parse.urlsplit(self.url)
        path = parts.path if parts.path.endswith(".json") else f"{parts.path.rstrip('/')}/api/v1/entries/sgv.json"
        query = [*urllib.parse.parse_qsl(parts.query), ("count", str(count))]
        query += [("token", self.token)] if self.token else []
        headers = {"Accept": CONTENT_TYPE, "User-Agent": "vagus"}
        if self.secret:
            headers["api-secret"] = hashlib.sha1(self.secret.encode(), usedforsecurity=False).hexdigest()
        url = urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, urllib.parse.urlencode(query), ""))
        return urllib.request.Request(url, headers=headers)  # noqa: S310 (the config takes http and https only)

    def __repr__(self) -> str:
        return f"Site({self.url!r})"


class FetchError(Exception):
    """The entries could not be had; the message says why, without anything secret."""


class NightscoutSource:
    """Asks a site again and again, and hands on the entries that it has not seen."""

    def __init__(
        self, site: Site, stream: Stream, *, poll_s: float = POLL_S, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._site, self._stream, self._poll_s, self._clock_ns = site, stream, poll_s, clock_ns
        self._seen: dict[str, None] = {}
        self._newest_ns: int | None = None
        self.rejected = 0
        """Answers with an entry that could not be read."""
        self.trouble = ""
        """Why nothing can be had at present; empty while it can."""

    @property
    def name(self) -> str:
        """As status and log call it."""
        return f"{self._stream.device}/{self._stream.channel}"

    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Ask until cancelled."""
        wait_s = self._poll_s
        while True:
            try:
                entries = await asyncio.to_thread(fetch, self._site, self._wanted())
            except FetchError as error:
                self._note(str(error))
                wait_s = min(2 * wait_s, max(LONGEST_WAIT_S, self._poll_s))
            else:
                self._note("")
                wait_s = self._poll_s
                delivery = self._delivery(entries)
                if delivery is not None:
                    await deliver(delivery)
            await asyncio.sleep(wait_s)

    def _wanted(self) -> int:
        """Entries since the newest one known, and a few more; a day of them at first."""
        since_s = DAY_S if self._newest_ns is None else (self._clock_ns() - self._newest_ns) / 1e9
        return SPARE_ENTRIES + round(min(max(since_s, 0.0), DAY_S) / max(self._stream.interval_s, 60.0))

    def _delivery(self, entries: list[Any]) -> Delivery | None:
        """What is new of these entries and can be read; None where nothing is."""
        fresh = [entry for entry in entries if self._is_new(entry)]
        hint = next(
            (entry["units_hint"] for entry in entries if isinstance(entry, dict) and "units_hint" in entry), None
        )
        if hint is not None and fresh and isinstance(fresh[0], dict):
            fresh[0] = {**fresh[0], "units_hint": hint}  # only a list's first entry says the unit of all
        payload = json.dumps(fresh).encode()
        chunks = self._readable(payload) if fresh else ()
        if not chunks:
            return None
        self._newest_ns = min(max(chunks[-1].t0_ns, self._newest_ns or 0), self._clock_ns())
        return Delivery(
            chunks=chunks,
            topic=input_topic(self._stream.device, self._stream.channel),
            content_type=CONTENT_TYPE,
            payload=payload,
            received_ns=self._clock_ns(),
            ack=lambda: None,
        )

    def _is_new(self, entry: object) -> bool:
        mark = json.dumps([entry.get(key) for key in _MARKS] if isinstance(entry, dict) else entry, default=str)
        if mark in self._seen:
            return False
        self._seen[mark] = None
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True

    def _readable(self, payload: bytes) -> tuple[Chunk, ...]:
        """The chunks of the entries that can be read; those that cannot cost nothing else."""
        try:
            return tuple(nightscout.decode(payload, self._stream))
        except DecodeError as error:
            self.rejected += 1
            if self.rejected % LOG_EVERY == 1:
                log.warning("%s: %s; dropped", self.name, error)
            return error.chunks

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("%s: %s", self.name, trouble)
        elif self.trouble and not trouble:
            log.info("%s: entries come again", self.name)
        self.trouble = trouble


class _Still(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Still)


def fetch(site: Site, count: int) -> list[Any]:
    """The newest `count` entries as parsed JSON. Blocks up to TIMEOUT_S; raises FetchError."""
    try:
        with _OPENER.open(site.request(count), timeout=TIMEOUT_S) as answer:
            body = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise FetchError(_refusal(error)) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(f"cannot be reached: {reason}") from None
    if len(body) > MAX_BYTES:
        raise FetchError(f"answered with more than {MAX_BYTES >> 20} MB")
    try:
        entries = json.loads(body or b"[]")
    except (ValueError, RecursionError):
        raise FetchError("did not answer with JSON: is this the address of a Nightscout site?") from None
    if not isinstance(entries, list):
        raise FetchError("answered with JSON that is no list of entries")
    return entries


def _refusal(error: urllib.error.HTTPError) -> str:
    if error.code in (301, 302, 303, 307, 308):
        host = urllib.parse.urlsplit(error.headers.get("Location", "")).netloc
        return f"has moved to {host or 'another address'} (HTTP {error.code}): write that address into the config"
    if error.code in (401, 403):
        return f"refused (HTTP {error.code}): secret_file or token_file is missing or wrong"
    return f"answered HTTP {error.code}"
