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
