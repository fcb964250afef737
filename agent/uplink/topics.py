"""The topics under vagus/v1: every one is built and taken apart here."""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "vagus/v1"
INPUT_FILTER = f"{ROOT}/in/+/+"


def level(name: str) -> str:
    """`name` if it can stand as one level of a topic; raises ValueError otherwise."""
    if not name or any(character in "/+#\0" for character in name):
        raise ValueError(f"{name!r} cannot be a level of a topic: it is empty or has one of / + # in it")
    return name


def input_topic(device: str, channel: str) -> str:
    """Where a sensor publishes."""
    return f"{ROOT}/in/{level(device)}/{level(channel)}"


def parse_input_topic(topic: str) -> tuple[str, str] | None:
    """(device, channel) of a sensor's topic; None for any other topic."""
    match topic.split("/"):
        case ["vagus", "v1", "in", device, channel] if device and channel:
            return device, channel
        case _:
            return None


def order_topic(ring: str) -> str:
    """Where the roll-out orders of a ring stand, retained; no agent is called "fleet"."""
    return f"{ROOT}/fleet/{level(ring)}/update"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one agent."""

    agent: str
    worker: int | None = None
    """Which of several processes speaks, where each has some of the patients."""

    def __post_init__(self) -> None:
        level(self.agent)

    @property
    def itself(self) -> str:
        """Whom an alarm is about that concerns this process alone; no pseudonym has a colon."""
        return self.agent if self.worker is None else f"{self.agent}:w{self.worker}"

    @property
    def status(self) -> str:
        """Retained; the last will says "offline" here."""
        return f"{ROOT}/{self.agent}/status"

    def alarm(self, patient: str, alert_id: str) -> str:
        """Retained: the alarm's current state; emptied when it is over."""
        return f"{ROOT}/{self.agent}/alarm/{level(patient)}/{level(alert_id)}"

    def event(self, patient: str) -> str:
        """Every transition, not retained."""
        return f"{ROOT}/{self.agent}/event/{level(patient)}"

    def summary(self, patient: str) -> str:
        """Retained: what is on for the person, or for the agent itself."""
        return f"{ROOT}/{self.agent}/summary/{level(patient)}"

    def vital(self, patient: str, code: str) -> str:
        return f"{ROOT}/{self.agent}/vital/{level(patient)}/{level(code)}"

    def command(self, name: str) -> str:
        """subscriber → agent: `ack`, `pause`, `verdict`, `drill`."""
        return f"{ROOT}/{self.agent}/cmd/{level(name)}"

    @property
    def commands(self) -> str:
        """Filter for all that is asked of the agent."""
        return f"{ROOT}/{self.agent}/cmd/+"

    def parse_command(self, topic: str) -> str | None:
        """The name of the command on a topic; None for any other topic."""
        before = f"{ROOT}/{self.agent}/cmd/"
        return topic.removeprefix(before) if topic.startswith(before) else None

    @property
    def everything(self) -> str:
        """Filter for all that the agent says."""
        return f"{ROOT}/{self.agent}/#"
