"""A link that answers from a script: what drives a session in its unit tests. Real connections are tested elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from firmware_bridge.chunk import Chunk
from firmware_bridge.devices import Arrival, Heard, LinkError, Notice, Profile, Session

START_NS = 1_795_460_370 * 10**9
"""2026-11-23T18:59:30Z."""


def at(seconds: float, era: int = 0) -> Arrival:
    """The arrival of something `seconds` after START_NS."""
    return Arrival(round(seconds * 1e9), START_NS, era)


@dataclass
class ScriptedLink:
    """`values` are read; `answers` gives what a control point notifies after it was asked, or None for no answer;
    `on_write` sees every other write, and may raise LinkError."""

    values: dict[str, bytes] = field(default_factory=dict)
    answers: Callable[[str, bytes], bytes | None] = lambda _characteristic, _data: None
    on_write: Callable[[str, bytes], None] = lambda _characteristic, _data: None
    mtu: int = 247
    subscribed: list[str] = field(default_factory=list)
    written: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def characteristics(self) -> frozenset[str]:
        return frozenset(self.values)

    async def read(self, characteristic: str) -> bytes:
        if characteristic not in self.values:
            raise LinkError("missing", f"no characteristic {characteristic}")
        return self.values[characteristic]

    async def write(self, characteristic: str, data: bytes, *, response: bool = True) -> None:
        self.written.append((characteristic, data))
        self.on_write(characteristic, data)

    async def subscribe(self, characteristic: str) -> None:
        self.subscribed.append(characteristic)

    async def ask(self, characteristic: str, data: bytes, *, timeout_s: float | None = None) -> bytes:
        assert characteristic in self.subscribed, "a control point is subscribed to before it is asked"
        self.written.append((characteristic, data))
        answer = self.answers(characteristic, data)
        if answer is None:
            raise LinkError("timeout", f"no answer to {data.hex()}")
        return answer


@dataclass
class Ear:
    """Everything that a session emits."""

    heard: list[Heard] = field(default_factory=list)

    def __call__(self, heard: Heard) -> None:
        self.heard.append(heard)

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for heard in self.heard for chunk in heard.chunks]

    @property
    def notices(self) -> list[Notice]:
        return [notice for heard in self.heard for notice in heard.notices]

    @property
    def dropped(self) -> list[str]:
        return [word for heard in self.heard for word in heard.dropped]

    def samples(self, channel: str) -> np.ndarray:
        """All samples of one stream in the order they came: (n, channels)."""
        return np.concatenate([chunk.samples for chunk in self.chunks if chunk.stream.channel == channel])


def opened(profile: Profile, channels: Iterable[str] | None = None, **options: object) -> tuple[Session, Ear]:
    """A session with the streams named (None: those taken by default), and what hears it."""
    ear = Ear()
    wanted = [offer for offer in profile.offers if (offer.default if channels is None else offer.channel in channels)]
    values = {option.name: option.check(options.pop(option.name, option.default)) for option in profile.options}
    streams = {offer.channel: offer.stream("p1", profile.id, values) for offer in wanted}
    assert not options, f"{profile.id} knows no option {', '.join(options)}"
    return profile.open(streams, values, ear), ear
