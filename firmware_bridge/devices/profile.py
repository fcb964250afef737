"""What a kind of wearable is: how it is recognised, what it offers, and who speaks with it. One file a kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from firmware_bridge.chunk import CANONICAL_UNIT, Stream
from firmware_bridge.devices.session import Emit, Session

OptionValue = str | int | float | bool
_BASE = "-0000-1000-8000-00805f9b34fb"


def uuid16(number: int) -> str:
    """The full UUID, in lower case, of a number that the Bluetooth SIG has assigned."""
    return f"{number:08x}{_BASE}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A stream that a wearable can send."""

    channel: str
    """What the agent calls it: the `channel` of the Stream."""
    kind: str
    """One of CANONICAL_UNIT's keys; the stream comes in that kind's unit."""
    rate_hz: float = 0.0
    interval_s: float = 0.0
    """Expected seconds between readings where `rate_hz` is 0."""
    channels: tuple[str, ...] = ("",)
    default: bool = True
    """Whether it is taken where the configuration names no streams."""
    interval_option: str = ""
    """Name of the Option that says `interval_s`, a number, where devices of this kind differ."""
    rate_option: str = ""
    """Likewise of the one that says `rate_hz`."""
    channels_option: str = ""
    """Likewise of the one that says `channels`, a text with a comma between them."""

    def stream(self, patient: str, device: str, options: Mapping[str, OptionValue] = MappingProxyType({})) -> Stream:
        """This offer as one person's stream; `options` are every Option's value."""
        channels = str(options.get(self.channels_option, ",".join(self.channels))).split(",")
        return Stream(
            patient, device, self.channel, self.kind, CANONICAL_UNIT[self.kind],
            float(options.get(self.rate_option, self.rate_hz)),
            tuple(name.strip() for name in channels),
            float(options.get(self.interval_option, self.interval_s)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """A thing that a configuration may say about one device of a kind."""

    name: str
    default: OptionValue
    words: str
    """What it is for, as the documentation has it."""
    choices: tuple[OptionValue, ...] = ()
    """All that may be said; empty: whatever has the default's type."""

    def check(self, value: object) -> OptionValue:
        """The value, if it may be one; raises ValueError, in words."""
        if isinstance(self.default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(self.default):
            self._refuse(f"must be {_TYPE_WORDS[type(self.default)]}")
        if self.choices and value not in self.choices:
            self._refuse(f"must be one of {', '.join(map(repr, self.choices))}")
        return value

    def _refuse(self, why: str) -> NoReturn:
        raise ValueError(f"{self.name} {why}")


_TYPE_WORDS: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a device says of itself to everybody, as far as it is known."""

    name: str = ""
    services: frozenset[str] = frozenset()
    """UUIDs in full, in lower case."""
    makers: frozenset[int] = frozenset()
    """Company identifiers of its manufacturer data."""


Open = Callable[[Mapping[str, Stream], Mapping[str, OptionValue], Emit], Session]
"""Begin to speak with one device: the streams wanted, by the channel of their Offer; every Option's value; and where
what is heard goes."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of wearable."""

    id: str
    """What a configuration calls it, such as "polar-h10"."""
    name: str
    """What a person calls it."""
    words: str
    """What it is and measures, in one sentence."""
    offers: tuple[Offer, ...]
    open: Open
    services: frozenset[str] = frozenset()
    """Service UUIDs; it is recognised by any one of them in its advertisement."""
    name_pattern: str = ""
    """A regular expression that its whole name matches, any case; more telling than its services."""
    characteristics: frozenset[str] = frozenset()
    """UUIDs without which it cannot be what it is taken for (a stale cache, another device)."""
    bonds: bool = False
    """Whether it has to be paired before it says anything."""
    min_mtu: int = 23
    options: tuple[Option, ...] = ()
    verified: str = ""
    """What of it was checked, and against what, as the documentation has it."""

    def score(self, heard: Advertisement) -> int:
        """How well the advertisement fits: 0 not at all, 1 by a service, 2 by its name, 3 by both."""
        by_name = bool(self.name_pattern and re.fullmatch(self.name_pattern, heard.name, re.IGNORECASE))
        return 2 * by_name + bool(self.services & heard.services)
