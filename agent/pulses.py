"""Pulse waves on their way through a tick: the chunks of all patients' waves, one detector a sampling rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.alarms.observation import Pulse
from agent.signal.pulse import PulseDetector, PulseMark, PulseState
from firmware_bridge.chunk import Chunk, Gap, Stream


@dataclass(slots=True)
class PulseTrack:
    """One pulse wave of a person between steps."""

    stream: Stream
    state: PulseState | None = None
    """None before a run of signal begins."""
    count: int = 0
    """Samples of this run."""
    anchors: list[tuple[int, int]] = field(default_factory=list)
    """(count, stream time) where the run began, and at the last slips of the clock."""
    frontier_ns: int | None = None
    """Stream time up to which the wave has been looked at."""

    def append(self, chunk: Chunk) -> None:
        if not self.anchors or chunk.t0_ns != self.time_ns(self.count):
            self.anchors = [*self.anchors[-3:], (self.count, chunk.t0_ns)]
        self.count += len(chunk.samples)
        self.frontier_ns = chunk.end_ns

    def end_run(self, gap: Gap) -> None:
        """Nothing is joined over a gap."""
        self.state, self.count, self.anchors, self.frontier_ns = None, 0, [], gap.end_ns

    def time_ns(self, count: int) -> int:
        """Stream time of a sample of this run."""
        anchor, t_ns = next((a for a in reversed(self.anchors) if a[0] <= count), self.anchors[0])
        return t_ns + self.stream.duration_ns(count - anchor)

    def pulse(self, mark: PulseMark) -> Pulse:
        return Pulse(self.time_ns(mark.index), self.time_ns(mark.decided_index), mark.strength, mark.fit)


class PulseFlow:
    """The way of every pulse wave. All pieces of a tick are looked at before the ECG of that tick is decided upon."""

    def __init__(self) -> None:
        self._detectors: dict[float, PulseDetector] = {}

    def step(self, queues: Mapping[str, Sequence[tuple[PulseTrack, Chunk | Gap]]]) -> dict[str, list[Pulse]]:
        """Each wave's pieces in the order of its time line; returns each one's pulses, all waves of a rate together."""
        found: dict[str, list[Pulse]] = {key: [] for key in queues}
        for turn in range(max((len(queue) for queue in queues.values()), default=0)):
            by_rate: dict[float, list[tuple[str, PulseTrack, Chunk]]] = defaultdict(list)
            for key, queue in queues.items():
                if turn >= len(queue):
                    continue
                track, piece = queue[turn]
                if isinstance(piece, Gap):
                    track.end_run(piece)
                else:
                    by_rate[piece.stream.rate_hz].append((key, track, piece))
            for rate_hz, group in by_rate.items():
                self._push(self._detector(rate_hz), group, found)
        return found

    def _detector(self, rate_hz: float) -> PulseDetector:
        if rate_hz not in self._detectors:
            self._detectors[rate_hz] = PulseDetector(rate_hz)
        return self._detectors[rate_hz]

    @staticmethod
    def _push(
        detector: PulseDetector, group: Sequence[tuple[str, PulseTrack, Chunk]], found: dict[str, list[Pulse]]
    ) -> None:
        states = []
        for _, track, chunk in group:
            if track.state is None:
                track.state = detector.new_state()
            states.append(track.state)
            track.append(chunk)
        marks = detector.push(states, [chunk.samples[:, 0] for _, _, chunk in group])
        for (key, track, _), of_one in zip(group, marks, strict=True):
            found[key] += [track.pulse(mark) for mark in of_one]
