"""What people ask of the agent over MQTT: `vagus/v1/{agent}/cmd/{ack,pause,verdict,drill}`, one JSON object each.

A command with an `id` is carried out once, however often it is sent. Where a command names a response topic (MQTT 5),
what became of it is answered there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agent.alarms.attention import OF_PRIORITY

MAX_COMMAND_BYTES = 8192


def _printable(text: str) -> str:
    if not text.strip() or not re.sub(r"[\n\t]", "", text).isprintable():
        raise ValueError("must be printable, and not blank")
    return text.strip()


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]


class _Command(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str | None = Field(None, max_length=128, description="of this command: sent again it is not carried out again")
    patient: str = Field(max_length=64, description="the pseudonym; of an alarm on the agent itself, the agent's name")
    by: Name = Field(description="who asks: shown to everybody, so no more of a name than that needs")


class AckCommand(_Command):
    """Somebody has seen an alarm."""

    alert_id: str = Field(max_length=64)


class PauseCommand(_Command):
    """Somebody asks not to hear a rule's alarms, or those of a priority, for a while."""

    rule: str | None = Field(None, max_length=128)
    priority: Literal["medium", "low"] | None = None
    minutes: float = Field(ge=0, allow_inf_nan=False, description="0 calls a pause off")
    while_on: bool = Field(False, description="the pause also ends when the alarm does that is on now")

    @property
    def target(self) -> str:
        """As `Attention.pause` wants it; raises ValueError where it is not said, or said twice."""
        if (self.rule is None) == (self.priority is None):
            raise ValueError("say either rule or priority")
        return self.rule if self.rule is not None else f"{OF_PRIORITY}{self.priority}"


class VerdictCommand(_Command):
    """Somebody has looked and says what an alert was worth."""

    alert_id: str = Field(max_length=64)
    verdict: Literal["true", "false", "not_actionable"]
    note: str = Field("", max_length=500)


class DrillCommand(_Command):
    """Somebody wants to see whether an alarm is heard."""

    rule: str = Field("asystole", max_length=64)
    seconds: float = Field(60.0, ge=1, le=900)


class CommandAnswer(BaseModel):
    """What became of a command: said to its response topic, once it is on disk."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    accepted: bool
    words: str = Field(description="what was done, or why not")


Command = AckCommand | PauseCommand | VerdictCommand | DrillCommand
COMMANDS: dict[str, type[AckCommand] | type[PauseCommand] | type[VerdictCommand] | type[DrillCommand]] = {
    "ack": AckCommand,
    "pause": PauseCommand,
    "verdict": VerdictCommand,
    "drill": DrillCommand,
}


def parse_command(name: str, payload: bytes) -> Command:
    """The command on the topic `cmd/{name}`; raises ValueError, in words."""
    if name not in COMMANDS:
        raise ValueError(f"{name!r} is no command: there are {', '.join(COMMANDS)}")
    if len(payload) > MAX_COMMAND_BYTES:
        raise ValueError(f"{len(payload)} bytes are too many for a command")
    try:
        return COMMANDS[name].model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place + ': ' if place else ''}{first['msg']}") from None
