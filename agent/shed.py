"""What is left undone so that alarms are in time: in which order, and counts by what and why to be read by anybody."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum


class Level(IntEnum):
    """Each sheds what those before it do."""

    NOTHING = 0
    SHARES = 1
    """Nobody is analysed faster than their signal lasts."""
    DISPLAY = 2
    """Vital signs, recordings, what a report shows."""
    EXTRAS = 3
    """The second opinion on beats, and why a model said what it said."""
    PEOPLE = 4


WORDS = {
    Level.DISPLAY: "too much to do: no vital signs, nothing is recorded",
    Level.EXTRAS: "too much to do: no vital signs, nothing is recorded, no second opinion, no explanations",
    Level.PEOPLE: "too much to do: not everybody is watched all the time",
}


class Shed:
    """Counts since the start. A key is counted on one thread only; any thread may read."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """(what, why) → how many: ("input", "flood") are messages of a sensor that sends faster than is analysed."""

    def note(self, what: str, why: str, count: int = 1) -> None:
        self.counts[what, why] += count

    def counters(self) -> dict[str, int]:
        """The same for a status, by name."""
        return {f"shed {what}: {why}": count for (what, why), count in sorted(self.counts.items())}
