"""A Nightscout site is asked again and again: each entry once, its secrets nowhere else, its faults told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from nightscout_site import Web, serving

from agent.ingest.nightscout import FetchError, NightscoutSource, Site, fetch
from agent.ingest.source import Delivery
from firmware_bridge.chunk import Stream

CGM = Stream("p1", "phone", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0)
T0_MS = 1_790_000_000_000


def entry(n: int, sgv: object = 120) -> dict[str, Any]:
    return {"type": "sgv", "sgv": sgv, "date": T0_MS + n * 300_000}


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as site:
        yield site


def heard(source: NightscoutSource, wanted: int) -> list[Delivery]:
    """What a source hands on until so many deliveries have come."""
    got: list[Delivery] = []

    async def listen() -> None:
        enough = asyncio.Event()

        async def deliver(delivery: Delivery) -> None:
            got.append(delivery)
            if len(got) >= wanted:
                enough.set()

        task = asyncio.create_task(source.run(deliver))
        async with asyncio.timeout(20):
            await enough.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(listen())
    return got


def readings(delivery: Delivery) -> list[tuple[int, float]]:
    return [((chunk.t0_ns // 1_000_000 - T0_MS) // 300_000, float(chunk.samples[0, 0])) for chunk in delivery.chunks]


def test_entries_come_oldest_first_and_once(web: Web) -> None:
    web.answers([entry(2, 110), entry(1, "115"), entry(0)])
    source = NightscoutSource(Site(web.url), CGM, poll_s=0.05)
    (first,) = heard(source, 1)
    assert readings(first) == [(0, 120.0), (1, 115.0), (2, 110.0)]
    assert first.topic == "vagus/v1/in/phone/glucose"
    web.answers([entry(3, 105), entry(2, 110), entry(1, "115")])
    (second,) = heard(source, 1)
    assert readings(second) == [(3, 105.0)]


def test_a_day_is_asked_for_at_first_and_then_what_may_be_missing(web: Web) -> None:
    web.answers([entry(0)])
    now_ns = [(T0_MS + 60_000) * 1_000_000]
    source = NightscoutSource(Site(web.url), CGM, poll_s=0.05, clock_ns=lambda: now_ns[0])
    heard(source, 1)
    now_ns[0] += 3600 * 10**9
    web.answers([entry(12)])
    heard(source, 1)
    counts = [int(query["count"][0]) for _, query, _ in web.asked]
    assert counts[0] == 294
    assert counts[-1] in {18, 19}


def test_a_secret_goes_as_its_hash_and_a_token_in_the_query(web: Web) -> None:
    fetch(Site(web.url + "/", secret="correct horse"), 3)  # noqa: S106
    fetch(Site(web.url + "/sgv.json?brief_mode=Y", token="reader-1"), 3)  # noqa: S106
    assert web.asked == [
        ("/api/v1/entries/sgv.json", {"count": ["3"]}, hashlib.sha1(b"correct horse").hexdigest()),  # noqa: S324
        ("/sgv.json", {"brief_mode": ["Y"], "count": ["3"], "token": ["reader-1"]}, ""),
    ]
    assert "correct" not in repr(Site(web.url, secret="correct horse"))  # noqa: S106


def test_a_redirection_is_told_and_not_followed(web: Web) -> None:
    web.status, web.location = 302, f"{web.url.replace('127.0.0.1', 'localhost')}/elsewhere"
    with pytest.raises(FetchError, match=r"has moved to localhost:\d+ \(HTTP 302\)"):
        fetch(Site(web.url, secret="s"), 3)  # noqa: S106
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, b"", "secret_file or token_file"),
        (500, b"", "answered HTTP 500"),
        (200, b"<html>", "Nightscout site"),
        (200, b'{"status": "ok"}', "no list of entries"),
        (200, b"[" * 100_000, "Nightscout site"),
    ],
)
def test_what_is_wrong_is_said(web: Web, status: int, body: bytes, reason: str) -> None:
    web.status, web.body = status, body
    with pytest.raises(FetchError, match=reason):
        fetch(Site(web.url), 3)


def test_nobody_there_is_trouble_until_somebody_is(web: Web) -> None:
    web.status = 503
    source = NightscoutSource(Site(web.url), CGM, poll_s=0.02)

    async def listen() -> None:
        got = asyncio.Event()

        async def deliver(_delivery: Delivery) -> None:
            got.set()

        task = asyncio.create_task(source.run(deliver))
        async with asyncio.timeout(20):
            while not source.trouble:
                await asyncio.sleep(0.01)
            assert source.trouble == "answered HTTP 503"
            web.answers([entry(0)])
            await got.wait()
        assert source.trouble == ""
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(listen())


def test_an_entry_that_is_none_costs_only_itself(web: Web) -> None:
    bad = [
        None,
        7,
        {"type": "sgv", "sgv": {}, "date": T0_MS},
        {"sgv": 100, "date": -5},
        {"sgv": "1e999", "date": T0_MS},
    ]
    web.answers([entry(1, 101), *bad, entry(0, "LOW")])
    source = NightscoutSource(Site(web.url), CGM, poll_s=0.05)
    (delivery,) = heard(source, 1)
    assert readings(delivery) == [(0, 39.0), (1, 101.0)]
    assert source.rejected == 1


def test_the_unit_that_the_first_entry_hints_at_is_meant_of_all(web: Web) -> None:
    web.answers([{**entry(1, 5.5), "units_hint": "mmol"}, entry(0, 6.0)])
    (delivery,) = heard(NightscoutSource(Site(web.url), CGM, poll_s=0.05), 1)
    assert readings(delivery) == [(0, pytest.approx(6.0 * 18.0156)), (1, pytest.approx(5.5 * 18.0156))]
