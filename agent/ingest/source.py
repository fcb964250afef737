"""Where chunks come from: what a source hands on, and what a source is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from firmware_bridge.chunk import Chunk


@dataclass(frozen=True, slots=True)
class Delivery:
    """One inbound payload, decoded, whose sender waits for `ack`."""

    chunks: tuple[Chunk, ...]
    """Of one patient, in the order in which the payload has them."""
    topic: str
    content_type: str | None
    payload: bytes
    """As it came, for the journal."""
    received_ns: int
    """Wall clock at which it came in."""
    ack: Callable[[], None]
    """Tell the sender that it is on disk with all it implies. Call on the event loop, in the order of arrival."""
    command: str = ""
    """Of what somebody asks of the agent, which holds no chunks: the name of the command."""
    answer: Callable[[bool, str], None] | None = None
    """Tell who asks whether it was accepted, and what became of it, in words; None where nobody waits for that."""


class Source(Protocol):
    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Hand on deliveries until cancelled, or until the source has no more.

        `deliver` waits while its receiver is busy; a source then stops reading and never drops.
        """
