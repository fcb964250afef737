"""The second lead of a person's ECG on its way: the same path as the first, without the questions about rhythm."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.alarms.intervals import Intervals
from agent.alarms.observation import Beat, BeatStatus, Observation, OtherLead, Quality, SignalLost, SignalStart
from agent.signal.track import KEEP_S, STRIP_S, EcgTrack
from firmware_bridge.chunk import NS_PER_S, Chunk

RATE_BEATS = 8
"""Over so many beats a heart rate is a mean."""
STRIP_NS = round(KEEP_S * NS_PER_S)
"""No strip of evidence shows a beat that is older than this."""


@dataclass(slots=True)
class SecondLead:
    """State of a person's second lead between steps; its fields are named as the first one's in `PatientState`."""

    column: int
    """Of the stream's samples."""
    track: EcgTrack | None = None
    waiting: list[Beat] = field(default_factory=list)
    last_confirmed: int | None = None
    intervals: Intervals = field(default_factory=Intervals)
    recent: deque[Beat] = field(default_factory=lambda: deque(maxlen=64))
    seconds: deque[Quality] = field(default_factory=lambda: deque(maxlen=round(STRIP_S) + 2))

    def cut(self, chunk: Chunk) -> Chunk:
        """The lead's own samples of a chunk."""
        stream = replace(chunk.stream, channels=(chunk.stream.channels[self.column],))
        return replace(chunk, stream=stream, samples=chunk.samples[:, self.column : self.column + 1])

    @staticmethod
    def seen(observations: Iterable[Observation]) -> list[Observation]:
        """What was seen on the track, as the person's rules are told it."""
        return [OtherLead(one) for one in observations if isinstance(one, Beat | Quality | SignalStart | SignalLost)]

    def take(self, seen: Beat | Quality | SignalStart | SignalLost) -> Beat | Quality | SignalStart | SignalLost:
        """An observation on its way to the rules; what a model was shown of a beat is not kept."""
        seen = self.intervals.gate(seen)
        match seen:
            case Beat(status=BeatStatus.CONFIRMED):
                seen = replace(seen, inputs=None)
                remember(self.recent, seen)
            case Quality():
                self.seconds.append(seen)
            case _:
                pass
        return seen


def remember(recent: deque[Beat], beat: Beat) -> None:
    """Add a beat, and forget those that neither a strip nor a heart rate asks for any more."""
    recent.append(beat)
    while len(recent) > RATE_BEATS and recent[0].r_ns < beat.r_ns - STRIP_NS:
        recent.popleft()


def judged(waiting: Iterable[Beat], seconds: Iterable[Quality], frontier_ns: int) -> tuple[list[Beat], list[Beat]]:
    """Classified beats whose second of signal has been judged, and the others: they wait, at most one second.

    `seconds`: the last verdicts on a lead's signal, the oldest first; `frontier_ns`: up to where it is analysed.
    """
    verdicts = {second.start_ns: second for second in seconds}.values()
    out: list[Beat] = []
    still: list[Beat] = []
    for beat in waiting:
        r_ns = beat.r_ns
        for second in verdicts:
            if second.start_ns <= r_ns < second.at_ns:
                out.append(beat.judged(max(beat.at_ns, second.at_ns), usable=second.good))
                break
        else:
            if frontier_ns < r_ns + NS_PER_S:
                still.append(beat)
            else:
                out.append(beat.judged(max(beat.at_ns, r_ns + NS_PER_S), usable=False))
    return out, still
