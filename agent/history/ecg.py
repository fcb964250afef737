"""An ECG as it is looked back on: what was seen in each five minutes. Sans-io; its state travels in a snapshot."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent.alarms.observation import Beat, BeatStatus, Observation, Prediction, Quality
from agent.signal.rhythm_window import HOP_S
from firmware_bridge.chunk import NS_PER_S

BUCKET_NS = 300 * NS_PER_S
LATEST_BEAT_NS = 10 * NS_PER_S
"""A beat is known and judged this long after its R peak at the latest: search-back takes 3 s, its second one more."""
POOR_REMEMBERED = 600
"""Poor seconds kept to tell an interval that may hide a beat: longer than the longest chunk."""
FIBRILLATION = "A"


@dataclass(slots=True)
class EcgBucket:
    """Five minutes of one person's ECG that begin at a multiple of BUCKET_NS."""

    start_ns: int
    seen_s: float = 0.0
    """Seconds of signal that came."""
    good_s: float = 0.0
    """Of those, seconds that passed the quality gate."""
    beats: int = 0
    """Beats on usable signal: the ones that ventricular and supraventricular beats are a share of."""
    ventricular: int = 0
    supraventricular: int = 0
    intervals: int = 0
    """Intervals between neighbouring beats with no poor second between them."""
    intervals_s: float = 0.0
    """Their sum: 60 · intervals / intervals_s is the mean heart rate."""
    shortest_s: float | None = None
    longest_s: float | None = None
    rhythm_s: float = 0.0
    """Seconds for which the rhythm model's answer counts."""
    fibrillation_s: float = 0.0
    """Of those, seconds that it took for atrial fibrillation."""

    @property
    def end_ns(self) -> int:
        return self.start_ns + BUCKET_NS


@dataclass(slots=True)
class EcgBuckets:
    """The open buckets of one person: push observations as the engine shows them, take what is complete."""

    open: dict[int, EcgBucket] = field(default_factory=dict)
    _frontier_ns: int = 0
    """End of the last second seen, wherever a device's clock has put it."""
    _poor: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=POOR_REMEMBERED))

    def push(self, seen: Observation) -> None:
        match seen:
            case Beat():
                if seen.usable and seen.status is BeatStatus.CONFIRMED:
                    self._beat(seen)
            case Quality():
                self._second(seen)
            case Prediction(task="rhythm", usable=True):
                bucket = self._at(seen.at_ns - 1)
                bucket.rhythm_s += HOP_S
                bucket.fibrillation_s += HOP_S if seen.label == FIBRILLATION else 0.0
            case _:
                pass

    def take_complete(self) -> list[EcgBucket]:
        """Buckets to which nothing more can come, oldest first; they are forgotten here.

        A bucket ahead of the frontier is complete too: a clock that was set back left it behind.
        """
        frontier_ns = self._frontier_ns
        done = [start for start in self.open if not start < frontier_ns <= start + BUCKET_NS + LATEST_BEAT_NS]
        return [self.open.pop(start) for start in sorted(done)]

    def _at(self, t_ns: int) -> EcgBucket:
        start_ns = t_ns - t_ns % BUCKET_NS
        bucket = self.open.get(start_ns)
        if bucket is None:
            bucket = self.open[start_ns] = EcgBucket(start_ns)
        return bucket

    def _second(self, second: Quality) -> None:
        bucket = self._at(second.start_ns)
        bucket.seen_s += 1.0
        bucket.good_s += second.good
        self._frontier_ns = second.at_ns
        if not second.good:
            self._poor.append((second.start_ns, second.at_ns))

    def _beat(self, beat: Beat) -> None:
        bucket = self._at(beat.r_ns)
        bucket.beats += 1
        bucket.ventricular += beat.label == "V"
        bucket.supraventricular += beat.label == "S"
        if beat.rr_s is None or self._hides_a_beat(beat.r_ns, beat.rr_s):
            return
        bucket.intervals += 1
        bucket.intervals_s += beat.rr_s
        bucket.shortest_s = min(beat.rr_s, bucket.shortest_s or beat.rr_s)
        bucket.longest_s = max(beat.rr_s, bucket.longest_s or beat.rr_s)

    def _hides_a_beat(self, r_ns: int, rr_s: float) -> bool:
        if not self._poor:
            return False
        previous_ns = r_ns - round(rr_s * NS_PER_S)
        return any(start <= r_ns and end > previous_ns for start, end in self._poor)
