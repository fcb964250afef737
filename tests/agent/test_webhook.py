"""Alerts over the web: signed, in order, at least once, and never in the way of anything else."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from webhook_receiver import SECRET, Receiver, receiving

from agent.alarms.alert import AlertEvent, Phase, alert_id
from agent.alarms.states import urgency
from agent.tls import client_context
from agent.uplink import webhook
from agent.uplink.messages import alert_messages
from agent.uplink.outbox import Outbox, OutboxFull, Outgoing
from agent.uplink.topics import Topics
from agent.uplink.webhook import Post, PostError, WebhookPublisher, read_secret, signature
from agent.uplink.webhook import Receiver as Target

TOPICS = Topics("home")
KEY = read_secret(SECRET)
AT_NS = 1_700_000_000_000_000_000


def event(rule: str, phase: Phase = Phase.START, text: str = "") -> list[Outgoing]:
    said = AlertEvent(
        alert_id("p1", rule, AT_NS), "p1", rule, *urgency(rule), phase, AT_NS, AT_NS, text or f"{rule} {phase}"
    )
    return alert_messages(said, TOPICS, seq=1, boot_id=1)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", webhook_bytes=1 << 20)
    yield opened
    opened.close()


def texts(receiver: Receiver) -> list[str]:
    return [taken["data"]["text"] for taken in receiver.taken]


def publish(outbox: Outbox, target: Target, until: Callable[[WebhookPublisher], bool]) -> WebhookPublisher:
    """Run a publisher until something is so."""

    async def scenario() -> WebhookPublisher:
        with ThreadPoolExecutor(1) as worker:
            publisher = WebhookPublisher(target, outbox, worker)
            running = asyncio.create_task(publisher.run())
            async with asyncio.timeout(30):
                while not until(publisher):
                    assert not running.done()
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return publisher

    return asyncio.run(scenario())


# -- the signature ----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.text("abcdef0123456789", min_size=1, max_size=40))
def test_the_signature_is_that_of_standard_webhooks(body: bytes, message_id: str) -> None:
    theirs, at_s, text = Webhook(SECRET), 1_700_000_000, body.decode("latin-1")
    assert signature(KEY, message_id, at_s, text.encode()) == theirs.sign(
        message_id, datetime.fromtimestamp(at_s, UTC), text
    )


def test_a_body_that_was_changed_or_is_old_is_not_verified() -> None:
    body, at_s = b'{"id":"a"}', int(time.time())
    headers = {"webhook-id": "a", "webhook-timestamp": str(at_s), "webhook-signature": signature(KEY, "a", at_s, body)}
    Webhook(SECRET).verify(body, headers)
    old = {**headers, "webhook-timestamp": "1", "webhook-signature": signature(KEY, "a", 1, body)}
    for changed, with_headers in ((b'{"id":"b"}', headers), (body, old)):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(changed, with_headers)


@pytest.mark.parametrize("text", ["", "secret", "whsec_", "whsec_???", "whsec_c2hvcnQ=", "whsec_" + "A" * 88])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"whsec_|bytes"):
        read_secret(text)


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_each_event_is_posted_once_signed_and_then_gone(outbox: Outbox) -> None:
    outbox.commit([*event("low"), *event("low", Phase.END)])
    with receiving() as receiver:
        publish(outbox, Target(receiver.url, KEY), lambda p: p.published == 2)
        assert texts(receiver) == ["low start", "low end"]
        assert receiver.unsigned == []
    assert len(outbox.webhook or ()) == 0
    assert len(outbox.pending()) == 3, "the broker's rows are another matter: two events and the retained state"


def test_the_urgent_go_first_and_each_alert_in_order(outbox: Outbox) -> None:
    outbox.commit([*event("low"), *event("device_battery:x"), *event("asystole"), *event("low", Phase.END)])
    with receiving() as receiver:
        publish(outbox, Target(receiver.url, KEY), lambda p: p.published == 4)
        assert texts(receiver) == ["asystole start", "low start", "low end", "device_battery:x start"]


@pytest.mark.parametrize("status", [422, 500])
def test_an_alert_that_the_receiver_cannot_take_waits_and_the_rest_goes_on(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(webhook, "FIRST_RETRY_S", 0.05)
    outbox.commit([*event("asystole"), *event("low"), *event("asystole", Phase.END)])
    with receiving() as receiver:
        receiver.refuses, receiver.refuses_with = "asystole", status
        publish(outbox, Target(receiver.url, KEY), lambda p: p.published == 1)
        assert texts(receiver) == ["low start"]
        receiver.refuses = ""
        publish(outbox, Target(receiver.url, KEY), lambda p: p.published == 2)
        assert texts(receiver) == ["low start", "asystole start", "asystole end"]


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404, 410, 302, 308])
def test_whatever_else_it_answers_nothing_is_lost(outbox: Outbox, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_RETRY_S", 0.02)
    outbox.commit(event("asystole"))
    with receiving() as elsewhere, receiving() as receiver:
        receiver.status, receiver.location = status, elsewhere.url if 300 <= status < 400 else ""
        publish(outbox, Target(receiver.url, KEY), lambda _: len(receiver.asked) >= 2)
        assert receiver.taken == []
        receiver.status = 200
        publish(outbox, Target(receiver.url, KEY), lambda p: p.published == 1)
        assert elsewhere.asked == [], "a redirection is not followed"
    assert len({asked["id"] for asked in receiver.asked}) == 1, "a repetition has the same id"


def test_between_tries_it_waits_longer_and_longer_and_never_the_same(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[float, float]] = []

    class Dice:
        def uniform(self, low: float, high: float) -> float:
            waits.append((low, high))
            return 0.0

    monkeypatch.setattr(webhook, "_jitter", Dice())
    outbox.commit(event("asystole"))
    with receiving() as receiver:
        receiver.status = 500
        publish(outbox, Target(receiver.url, KEY), lambda _: len(waits) >= 9)
    assert waits[:9] == [(x / 2, x) for x in (1, 2, 4, 8, 16, 32, 60, 60, 60)]


def test_a_receiver_that_is_not_there_or_never_answers_is_trouble(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "PATIENCE_S", 0.0)
    outbox.commit(event("asystole"))
    told = publish(outbox, Target("http://127.0.0.1:9/hook", KEY), lambda p: p.trouble() != "").trouble()
    assert told.startswith("The webhook at 127.0.0.1:9 does not get all alerts: cannot be reached")
    with receiving() as receiver:
        receiver.answers_after = threading.Event()
        told = publish(outbox, Target(receiver.url, KEY, timeout_s=0.1), lambda p: p.trouble() != "").trouble()
        receiver.answers_after.set()
    assert told.endswith("no answer within 0.1 s")


def test_an_answer_without_end_is_cut_off(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PATIENCE_S", 0.0)
    monkeypatch.setattr(webhook, "SPARE_S", 0.1)
    outbox.commit(event("asystole"))
    with receiving() as receiver:
        receiver.drips = True
        told = publish(outbox, Target(receiver.url, KEY, timeout_s=0.3), lambda p: p.trouble() != "").trouble()
    assert told.endswith("its answer did not come to an end")


def test_a_fault_in_the_publisher_is_trouble_and_not_its_end(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(webhook, "PATIENCE_S", 0.0)
    outbox.commit(event("asystole"))
    seen: list[str] = []
    with receiving() as receiver, monkeypatch.context() as broken:
        broken.setattr(webhook, "Post", None)

        def mended(publisher: WebhookPublisher) -> bool:
            seen.append(publisher.trouble())
            if len([text for text in seen if text]) == 3:
                broken.undo()
                monkeypatch.setattr(webhook, "FIRST_RETRY_S", 0.02)
            return publisher.published == 1

        publish(outbox, Target(receiver.url, KEY), mended)
        assert texts(receiver) == ["asystole start"]
    assert any("fault in the agent: TypeError" in text for text in seen)


def test_trouble_is_over_once_everything_is_through(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PATIENCE_S", 0.0)
    monkeypatch.setattr(webhook, "FIRST_RETRY_S", 0.02)
    outbox.commit(event("asystole"))
    with receiving() as receiver:
        receiver.status = 500
        seen: list[str] = []

        def mended(publisher: WebhookPublisher) -> bool:
            seen.append(publisher.trouble())
            if seen[-1]:
                receiver.status = 204
            return publisher.published == 1 and not publisher.trouble()

        publish(outbox, Target(receiver.url, KEY), mended)
    assert {text for text in seen if text} == {
        f"The webhook at {receiver.url.split('/')[2]} does not get all alerts: answered HTTP 500"
    }


# -- the queue --------------------------------------------------------------------------------------------------------


def test_a_dead_receiver_costs_no_more_than_the_bound_and_it_is_said(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", webhook_bytes=40_000)
    for number in range(200):
        outbox.commit([*event(f"device_battery:{number}", text="x" * 500), *event("asystole", text=f"{number}")])
    queue = outbox.webhook
    assert queue is not None
    assert queue.given_up > 0
    size = outbox._db.execute("SELECT SUM(LENGTH(payload)) FROM webhook").fetchone()[0]
    assert size <= 40_000
    kept = [row[0] for row in outbox._db.execute("SELECT payload FROM webhook ORDER BY id")]
    newest = [json.loads(payload)["data"]["text"] for payload in kept]
    assert newest == [str(number) for number in range(200 - len(newest), 200)], "the urgent ones, the newest of them"
    with ThreadPoolExecutor(1) as worker:
        publisher = WebhookPublisher(Target("http://127.0.0.1:9", KEY), outbox, worker)
        assert "some were given up" in publisher.trouble()
    outbox.close()


def test_on_a_full_disk_the_broker_s_alerts_come_before_the_webhook_s(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", max_pages=64, webhook_bytes=1 << 30)
    stored = 0
    try:
        for number in range(400):
            outbox.commit(event(f"device_battery:{number}", text="x" * 2000))
            outbox.delivered([row.id for row in outbox.pending()])
            stored += 1
    except OutboxFull:
        pass
    assert stored == 400, "a webhook that is never served costs the broker's subscribers nothing"
    assert outbox.webhook is not None
    assert outbox.webhook.given_up > 0
    outbox.close()


def test_without_a_webhook_nothing_is_kept_for_one(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox.sqlite", webhook_bytes=1 << 20)
    first.commit(event("asystole"))
    first.close()
    second = Outbox(tmp_path / "outbox.sqlite")
    second.commit(event("low"))
    assert second._db.execute("SELECT COUNT(*) FROM webhook").fetchone() == (0,)
    second.close()


def test_a_file_from_before_there_was_a_webhook_is_gone_on_with(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox.sqlite")
    first.commit(event("low"))
    first._db.execute("DROP TABLE webhook")
    first.close()
    second = Outbox(tmp_path / "outbox.sqlite", webhook_bytes=1 << 20)
    assert len(second.pending()) == 2
    second.close()


# -- TLS --------------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1" if name == "right" else "subjectAltName=DNS:other.example"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return cert, key


@contextmanager
def receiving_tls(cert: Path, key: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with receiving(context) as receiver:
        yield receiver


def test_only_a_certificate_that_is_trusted_and_of_that_host_gets_an_alert(tmp_path: Path) -> None:
    body = event("asystole")[0].payload
    right, other = certificate(tmp_path, "right"), certificate(tmp_path, "other")
    with receiving_tls(*right) as receiver:
        Post(Target(receiver.url, KEY, client_context(right[0])), body, 1).send()
        assert len(receiver.asked) == 1
        with pytest.raises(PostError, match="certificate is not trusted: self-signed"):
            Post(Target(receiver.url, KEY, client_context()), body, 1).send()
        assert len(receiver.asked) == 1
    with receiving_tls(*other) as receiver:
        with pytest.raises(PostError, match="certificate is not trusted: IP address mismatch"):
            Post(Target(receiver.url, KEY, client_context(other[0])), body, 1).send()
        assert receiver.asked == []
