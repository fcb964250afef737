"""What a worker tells its parent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from agent.uplink.messages import StatusMessage


class ToParent(Protocol):
    """Of a worker: who speaks for the whole agent."""

    def stand(self, alarms: Mapping[str, str]) -> None:
        """Alarms on the agent's own watching, from now on these: rule → text."""

    def tell(self, status: StatusMessage) -> None:
        """This worker's part of the agent's status."""
