"""The conversation with one wearable over a link that somebody else owns: reads, writes, subscriptions, time-outs.

A session knows bytes and their order, and nothing of radios, adapters or clocks. It lives as long as the agent and is
started anew on each connection, so that it can ask for what was missed and tell a restart from a hole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from firmware_bridge.chunk import Chunk, DecodeError
from firmware_bridge.clock import Arrival

NoticeAbout = Literal["battery", "contact", "sensor", "signal"]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a device says of itself beside its readings."""

    about: NoticeAbout
    text: str
    """For a person; empty: all is well again."""
    trouble: bool = False
    """Whether somebody should see to it."""
    value: float | None = None
    """Per cent of a battery."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What follows from what came."""

    chunks: tuple[Chunk, ...] = ()
    notices: tuple[Notice, ...] = ()
    refused: tuple[DecodeError, ...] = ()
    """Why some of it could not be read; each costs nothing but itself."""
    dropped: tuple[str, ...] = ()
    """What came and was left out on purpose, such as "duplicate"; one word each."""


Emit = Callable[[Heard], None]

LinkFault = Literal["lost", "timeout", "refused", "missing", "bond"]


class LinkError(Exception):
    """Something could not be read, written or subscribed to.

    `fault`: the link is lost; no answer came in time; the device refused; it has no such characteristic (its cached
    services may be stale); it wants to be paired, or has forgotten that it was.
    """

    def __init__(self, fault: LinkFault, message: str) -> None:
        self.fault = fault
        super().__init__(message)


class DeviceRefusedError(Exception):
    """The device was reached and says that it will not do what was asked; the message says what and why, in words."""


class Link(Protocol):
    """One connection. Every method may raise LinkError, and none waits for ever."""

    @property
    def mtu(self) -> int:
        """Bytes of an ATT packet; a notification carries 3 less."""

    @property
    def characteristics(self) -> frozenset[str]:
        """UUIDs, in full and lower case, of all that the device has."""

    async def read(self, characteristic: str) -> bytes: ...

    async def write(self, characteristic: str, data: bytes, *, response: bool = True) -> None: ...

    async def subscribe(self, characteristic: str) -> None:
        """From now on what it notifies or indicates goes to the session's `notified`."""

    async def ask(self, characteristic: str, data: bytes, *, timeout_s: float | None = None) -> bytes:
        """Write to a control point that is subscribed to; what it next notifies, which does not go to `notified`.

        Raises LinkError with fault "timeout" where nothing comes in `timeout_s` (None: the link's own patience).
        """


class Session(Protocol):
    """One wearable, from connection to connection. What is heard goes to the `Emit` it was opened with."""

    async def start(self, link: Link) -> None:
        """Make the device send; returns once it does. Raises LinkError, DeviceRefusedError or DecodeError."""

    async def tend(self, link: Link) -> None:
        """All that is to be done while connected beyond listening, such as fetching what was stored; may return."""

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        """Something came. Raises DecodeError where it cannot be read, which harms nothing else."""

    async def stop(self, link: Link) -> None:
        """An orderly end: tell the device to stop where that spares its battery. May raise LinkError."""
