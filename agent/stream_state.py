"""The book-keeping of one stream of a person: its time line, its silences, the steps of its clock, what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from agent.alarms.observation import Condition
from agent.alarms.technical import StreamSilent, silence_deadline_s
from agent.signal.align import Aligner
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap, Stream

CLOCK_STEP_HOLD_NS = 60 * NS_PER_S
"""A step of a device's clock is an event, not a state: its alarm ends by itself."""


@dataclass(slots=True)
class StreamState:
    """One stream of a person."""

    stream: Stream
    aligner: Aligner
    silence: StreamSilent
    last: Chunk | None = None
    longest_chunk_ns: int = 0
    step_until_ns: int = 0
    missing_ns: int = 0
    samples: int = 0
    """Taken in since the start or the last restored snapshot's."""

    @classmethod
    def new(cls, stream: Stream) -> StreamState:
        silence = StreamSilent(
            f"stream_silent:{stream.device}/{stream.channel}",
            f"{stream.kind.upper()} {stream.device}/{stream.channel}",
            silence_deadline_s(stream.rate_hz, stream.interval_s),
        )
        return cls(stream, Aligner(), silence)

    @property
    def silent_from_ns(self) -> int:
        """The instant from which it is silence, of the clock, that nothing comes."""
        return self.silence.due_ns + self.longest_chunk_ns

    def align(self, chunk: Chunk) -> list[Chunk | Gap]:
        """What follows on the time line now. A reading has its own time; one not newer than the last says nothing."""
        if chunk.stream.rate_hz:
            return self.aligner.push(chunk)
        if self.last is not None and chunk.t0_ns <= self.last.t0_ns:
            self.aligner.counts["late"] += 1
            return []
        return [chunk]

    def account(self, piece: Chunk | Gap, *, is_late: bool) -> list[Condition]:
        """Take the next piece of the time line; late data ends no silence."""
        if isinstance(piece, Gap):
            self.missing_ns += max(0, piece.end_ns - piece.start_ns)
            was_set = piece.reason == "clock step" or piece.end_ns < piece.start_ns
            return [self._clock_step(piece)] if was_set else self.silence.silent(piece.end_ns)
        found = [] if is_late else self.silence.data(piece.t0_ns, piece.end_ns)
        if self.step_until_ns and piece.t0_ns >= self.step_until_ns:
            found.append(self._clock_step_over())
        self.last = piece
        self.samples += len(piece.samples)
        self.longest_chunk_ns = max(piece.end_ns - piece.t0_ns, self.longest_chunk_ns * 7 // 8)
        return found

    def _clock_step(self, gap: Gap) -> Condition:
        step_s = (gap.end_ns - gap.start_ns) / NS_PER_S
        stream = self.stream
        self.silence.restart(gap.end_ns)
        self.step_until_ns = gap.end_ns + CLOCK_STEP_HOLD_NS
        text = f"The clock of {stream.device}/{stream.channel} was set by {step_s:+.1f} s: times before it are unsure"
        return Condition(self._clock_rule, True, gap.end_ns, gap.end_ns, text, (("step_s", round(step_s, 3)),))

    def _clock_step_over(self) -> Condition:
        at_ns, self.step_until_ns = self.step_until_ns, 0
        return Condition(self._clock_rule, False, at_ns, at_ns, "No further step of the clock for a minute")

    @property
    def _clock_rule(self) -> str:
        return f"clock_step:{self.stream.device}/{self.stream.channel}"
