"""Whom the agent speaks to beside the broker's subscribers, as the config says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config, ConfigError, HomeAssistantConfig, parse_config

BASE = """
[agent]
id = "home"
state_dir = "state"
[[patient]]
id = "anna"
[[patient.source]]
type = "mqtt"
device = "patch"
channel = "ecg"
kind = "ecg"
rate_hz = 250
"""


def config(more: str, folder: Path = Path("/nowhere")) -> Config:
    return parse_config(BASE + more, folder / "agent.toml", {})


def faults(more: str, folder: Path = Path("/nowhere")) -> list[str]:
    with pytest.raises(ConfigError) as error:
        config(more, folder)
    return [f"{fault.key}: {fault.message}" for fault in error.value.faults]


def test_home_assistant_is_told_nothing_unless_it_is_asked_for() -> None:
    assert not config("").home_assistant.enabled
    assert config("[home_assistant]").home_assistant == HomeAssistantConfig(True, "homeassistant")
    assert not config("[home_assistant]\nenabled = false").home_assistant.enabled
    assert config('[home_assistant]\nprefix = "ha/found"').home_assistant.prefix == "ha/found"


@pytest.mark.parametrize("prefix", ["", "/ha", "ha/", "ha/#", "+"])
def test_a_prefix_that_is_no_topic_is_a_fault(prefix: str) -> None:
    (fault,) = faults(f'[home_assistant]\nprefix = "{prefix}"')
    assert fault.startswith("home_assistant.prefix: must be a topic")


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 (of the tests alone)


def hook(folder: Path, secret: str = SECRET, more: str = "", url: str = "https://example.org/hook") -> str:
    (folder / "secret").write_text(secret + "\n")
    return f'[webhook]\nurl = "{url}"\nsecret_file = "secret"\n{more}'


def test_there_is_no_webhook_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert config("").webhook is None
    webhook = config(hook(tmp_path), tmp_path).webhook
    assert webhook is not None
    assert (webhook.url, len(webhook.key), webhook.timeout_s, webhook.max_mb) == (
        "https://example.org/hook",
        32,
        10,
        64,
    )
    assert SECRET not in repr(webhook)
    assert repr(webhook.key) not in repr(webhook.receiver())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[webhook]", "webhook.url: is required"),
        ('[webhook]\nurl = "example.org"\nsecret_file = "secret"', "webhook.url: must begin with http"),
        ('[webhook]\nurl = "https://me:pw@example.org"\nsecret_file = "secret"', "webhook.url: must begin with http"),
        ('[webhook]\nurl = "https://example.org"\nsecret_file = "gone"', "webhook.secret_file: cannot read"),
    ],
)
def test_each_fault_of_a_webhook_is_said(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    assert any(found.startswith(fault) for found in faults(text, tmp_path)), faults(text, tmp_path)


def test_a_secret_that_is_no_key_is_a_fault_that_does_not_show_it(tmp_path: Path) -> None:
    (found,) = faults(hook(tmp_path, secret="hunter2"), tmp_path)  # noqa: S106
    assert found == "webhook.secret_file: its first line does not begin with whsec_"


@pytest.mark.parametrize(
    "url",
    ["https://example.org:99999/", "https://example.org:0/", "https://:443/x", "https://[::1/", "https://a/ü", "x"],
)
def test_an_address_that_nothing_can_be_posted_to_is_a_fault(url: str, tmp_path: Path) -> None:
    (found,) = faults(hook(tmp_path, url=url), tmp_path)
    assert found.startswith("webhook.url: must")


@pytest.mark.parametrize("url", ["https://example.org", "http://127.0.0.1:1880/vagus?x=1", "https://[::1]:8443/hook"])
def test_an_address_with_port_path_and_query_is_good(url: str, tmp_path: Path) -> None:
    webhook = config(hook(tmp_path, url=url), tmp_path).webhook
    assert webhook is not None
    assert webhook.url == url
