"""To whom beside the subscribers of the broker the agent speaks, as the config says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config_schema import Table


def _prefix(value: str) -> str:
    if not value or value.startswith("/") or value.endswith("/") or any(c in value for c in "+#\0"):
        raise ValueError("must be a topic without / at its ends and without + or #")
    return value


class HomeAssistantTable(Table):
    """Shows everybody who is watched in Home Assistant. Without this table it is told nothing."""

    enabled: bool = Field(
        True, title="On", description="false takes away what was put there, at the next start of the agent."
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "homeassistant", title="Discovery prefix", description="As in Home Assistant's own MQTT settings."
    )


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """[home_assistant]"""

    enabled: bool = False
    prefix: str = "homeassistant"
