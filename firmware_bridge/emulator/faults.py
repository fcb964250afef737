"""What goes wrong on the way of a wearable's frames, on command or by chance; the chance is the same each time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from enum import Enum


class FrameFault(Enum):
    """What can become of one frame."""

    LOSE = "lose"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    """It comes after the one that follows it."""
    CORRUPT = "corrupt"
    """Some of its bits are others, or its end is missing."""
    CUT = "cut"
    """Half of it is sent, and then the link breaks."""


class Faults:
    """One wearable's. `silent`: it stays connected and sends nothing, as a zombie does."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - chance that can be repeated is what is wanted
        self._next: deque[FrameFault] = deque()
        self._held: list[bytes] = []
        self._chance: dict[FrameFault, float] = {}
        self.silent = False
        self.link_breaks = False
        """Whether the link is to break after what `frames` gave last."""
        self.counts = dict.fromkeys(FrameFault, 0)
        """How often each has happened."""

    def once(self, *faults: FrameFault) -> None:
        """These befall the next frames, one each."""
        self._next.extend(faults)

    def by_chance(self, chance: Mapping[FrameFault, float]) -> None:
        """From now on each befalls a frame with this probability."""
        self._chance = dict(chance)

    def frames(self, frame: bytes) -> list[bytes]:
        """What is sent in place of a frame, in order."""
        if self.silent:
            return []
        fault = self._next.popleft() if self._next else self._drawn()
        if fault is not None:
            self.counts[fault] += 1
        if fault is FrameFault.REORDER:
            self._held.append(frame)
            return []
        held, self._held = self._held, []
        if fault is FrameFault.LOSE:
            return held
        if fault is FrameFault.CORRUPT:
            frame = self._corrupted(frame)
        if fault is FrameFault.CUT:
            self.link_breaks = True
            return [*held, frame[: len(frame) // 2]]
        return [frame, *([frame] if fault is FrameFault.DUPLICATE else []), *held]

    def _drawn(self) -> FrameFault | None:
        return next((fault for fault, chance in self._chance.items() if self._random.random() < chance), None)

    def _corrupted(self, frame: bytes) -> bytes:
        if self._random.random() < 0.5:
            return frame[: self._random.randrange(len(frame))]
        broken = bytearray(frame)
        for bit in self._random.sample(range(8 * len(frame)), self._random.randint(1, 4)):
            broken[bit // 8] ^= 1 << bit % 8
        return bytes(broken)
