"""What was left undone so that alarms are in time: counted by what it was and why, in the one place to read it from."""

from __future__ import annotations

from collections import Counter


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
