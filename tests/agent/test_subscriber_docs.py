"""What the pages for subscribers say is so."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from webhook_receiver import SECRET

from agent.asyncapi import address
from agent.config import parse_config
from agent.patient import Person
from agent.uplink.home_assistant import Member, discovery_documents
from agent.uplink.summary import RULES_OF, Watched, families_of
from agent.uplink.topics import Topics
from agent.uplink.webhook import OF_THIS_ALERT, read_secret, signature
from firmware_bridge.chunk import Stream

DOCS = Path(__file__).parents[2] / "docs"


def sample() -> Callable[[str, dict[str, str], bytes], None]:
    """The code that docs/webhook.md shows."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "webhook.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 13
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102 (our own page)
    verify: Callable[[str, dict[str, str], bytes], None] = scope["verify"]
    return verify


def headers(body: bytes, at_s: int) -> dict[str, str]:
    signed = signature(read_secret(SECRET), "id1", at_s, body)
    return {"webhook-id": "id1", "webhook-timestamp": str(at_s), "webhook-signature": signed}


def test_the_sample_verifies_what_we_send_and_nothing_else() -> None:
    verify, body, now_s = sample(), b'{"id": "id1"}', int(time.time())
    verify(SECRET, headers(body, now_s), body)
    for changed in (headers(b"other", now_s), {**headers(body, now_s), "webhook-id": "id2"}):
        with pytest.raises(ValueError, match="signature"):
            verify(SECRET, changed, body)
    with pytest.raises(ValueError, match="too old"):
        verify(SECRET, headers(body, now_s - 301), body)


def test_the_page_names_the_answers_that_are_about_one_alert() -> None:
    page = (DOCS / "webhook.md").read_text()
    said = {int(code) for code in re.findall(r"\b4\d\d\b", page)}
    assert said | {412, 413, 414} == OF_THIS_ALERT


def test_the_config_that_the_page_shows_is_good(tmp_path: Path) -> None:
    base = '[agent]\nid = "home"\nstate_dir = "s"\n[[patient]]\nid = "anna"\n[[patient.source]]\ntype = "mqtt"\n'
    base += 'device = "patch"\nchannel = "ecg"\nkind = "ecg"\nrate_hz = 250\n'
    (tmp_path / "secret").write_text(SECRET)
    for name in ("webhook.md", "home-assistant.md"):
        (table,) = re.findall(r"```toml\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
        parse_config(base + table.replace("/etc/vagus/webhook-secret", "secret"), tmp_path / "agent.toml", {})


def test_the_home_assistant_page_has_every_entity() -> None:
    streams = (
        Stream("anna", "patch", "ecg", "ecg", "mV", 250.0),
        Stream("anna", "cgm", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0),
    )
    documents = discovery_documents(Topics("home"), "homeassistant", [Member(Person("anna", streams), ("x",))])
    page = (DOCS / "home-assistant.md").read_text()
    for component in json.loads(list(documents.values())[1])["components"].values():
        entity = component["name"].lower().replace(" ", "_").replace("_x", "_{device}")
        assert entity in page, component["name"]


def test_the_subscriber_page_names_topics_and_families_as_they_are() -> None:
    page = (DOCS / "subscriber.md").read_text()
    for kind in ("summary", "event", "status"):
        assert address(kind) in page
    for family in families_of(Watched("ecg", "cgm")):
        assert f"`{family}`" in page
    assert set(RULES_OF) <= set(families_of(Watched("ecg", "cgm")))


@pytest.mark.parametrize("name", ["subscriber.md", "home-assistant.md", "webhook.md"])
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text()):
        assert (DOCS / link).exists(), link
