"""Put the chunks of one stream on one time line: in order, once each, with the holes named.

Sans-io and without a clock: what comes out depends only on what went in, in the order it went in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from agent.signal.chunks_taken import ChunksTaken
from firmware_bridge.chunk import NS_PER_S, Chunk, Gap

JITTER_NS = 100_000_000
"""A chunk in sequence whose stamp is off by no more than this continues the count of samples: devices jitter."""
SEAM_SAMPLES = 1.5
"""Without sequence numbers a stamp may be off by this many sample periods and still continue."""
STEP_NS = 500_000_000
"""A chunk in sequence whose stamp is off by more than this: the device paused, or its clock was set."""
PAUSE_NS = 3600 * NS_PER_S
"""A jump ahead of up to this, in sequence, is a device that paused; a larger one or one back is a clock set."""
HELD_CHUNKS = 512
"""So many wait at most: a device whose clock stands still sends no two seconds, however long one waits."""
HOLD_NS = 2 * NS_PER_S
"""Chunks after a hole wait until this much signal has come after it, in case the missing one is only late."""
STALE_RUN_NS = 10 * NS_PER_S
"""Old-looking chunks that continue one another for this long, with nothing newer between, are a clock set back."""


@dataclass(slots=True)
class Aligner:
    """State of one sampled stream (rate_hz > 0). `push` returns chunks that follow one another, and the gaps between.

    A returned chunk's `t0_ns` is on the stream's time line: exactly the end of the one before it, unless a Gap stands
    between or the clock slipped by less than STEP_NS. `counts` tells what was dropped or mended, by reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    _frontier_ns: int | None = None
    _anchor_ns: int = 0
    _since_anchor: int = 0
    _rate_hz: float = 0.0
    _boot_id: int = 0
    _seq: int | None = None
    _held: list[Chunk] = field(default_factory=list)
    _taken: ChunksTaken = field(default_factory=ChunksTaken)
    _stale_start_ns: int = 0
    _stale_end_ns: int | None = None

    @property
    def frontier_ns(self) -> int | None:
        """Time just past the last sample given out; None before the first."""
        return self._frontier_ns

    def push(self, chunk: Chunk) -> list[Chunk | Gap]:
        if chunk in self._taken:
            self.counts["duplicate"] += 1
            return []
        if self._frontier_ns is None or chunk.boot_id != self._boot_id or chunk.stream.rate_hz != self._rate_hz:
            return self._new_run(chunk)
        if self._is_old(chunk):
            return self._old(chunk)
        self._stale_end_ns = None
        if not self._continues(chunk):
            return self._hold(chunk)
        return [*self._append(chunk), *self._release()]

    def flush(self) -> list[Chunk | Gap]:
        """Give out what is still held back: at the end of a recording, or when the stream has fallen silent."""
        out: list[Chunk | Gap] = []
        while self._held:
            out += self._append(self._held.pop(0))
        return out

    def _new_run(self, chunk: Chunk) -> list[Chunk | Gap]:
        out = self.flush()
        if self._frontier_ns is not None:
            restarted = chunk.boot_id != self._boot_id
            reason = "device restart" if restarted else "rate change"
            self.counts[reason] += 1
            out.append(Gap(chunk.stream, self._frontier_ns, chunk.t0_ns, reason))
        self._boot_id, self._rate_hz = chunk.boot_id, chunk.stream.rate_hz
        self._stale_end_ns = None
        return [*out, self._place(chunk, chunk.t0_ns)]

    def _is_old(self, chunk: Chunk) -> bool:
        if chunk.seq is not None and self._seq is not None:
            return chunk.seq <= self._seq or any(chunk.seq == held.seq for held in self._held)
        return chunk.end_ns <= self._frontier() + self._tolerance_ns()

    def _old(self, chunk: Chunk) -> list[Chunk | Gap]:
        """Seen before, or too late to be put in its place; unless the device's counter or clock went back for good."""
        if chunk.seq is not None and chunk.t0_ns >= self._frontier() - self._tolerance_ns():
            self.counts["device restart"] += 1
            out = self.flush()
            gap = Gap(chunk.stream, self._frontier(), max(chunk.t0_ns, self._frontier()), "device restart")
            return [*out, gap, self._place(chunk, gap.end_ns)]
        self.counts["late"] += 1
        if chunk.seq is None:
            return self._after_stale(chunk)
        return []

    def _after_stale(self, chunk: Chunk) -> list[Chunk | Gap]:
        if self._stale_end_ns is None or abs(chunk.t0_ns - self._stale_end_ns) > JITTER_NS:
            self._stale_start_ns = chunk.t0_ns
        self._stale_end_ns = chunk.end_ns
        if chunk.end_ns - self._stale_start_ns < STALE_RUN_NS:
            return []
        self._stale_end_ns = None
        self.counts["clock step"] += 1
        out = self.flush()
        return [*out, Gap(chunk.stream, self._frontier(), chunk.t0_ns, "clock step"), self._place(chunk, chunk.t0_ns)]

    def _continues(self, chunk: Chunk) -> bool:
        if chunk.seq is not None and self._seq is not None:
            return chunk.seq == self._seq + 1
        return chunk.t0_ns <= self._frontier() + self._tolerance_ns()

    def _hold(self, chunk: Chunk) -> list[Chunk | Gap]:
        self._held.append(chunk)
        self._held.sort(key=lambda held: (held.seq if held.seq is not None else held.t0_ns, held.t0_ns))
        waited_ns = self._held[-1].end_ns - self._held[0].t0_ns
        is_near = waited_ns < HOLD_NS and self._held[-1].end_ns - self._frontier() < 2 * HOLD_NS
        if is_near and len(self._held) < HELD_CHUNKS:
            return []
        return [*self._append(self._held.pop(0)), *self._release()]

    def _release(self) -> list[Chunk | Gap]:
        out: list[Chunk | Gap] = []
        while self._held and (self._is_past(self._held[0]) or self._continues(self._held[0])):
            chunk = self._held.pop(0)
            if not self._is_past(chunk):
                out += self._append(chunk)
        return out

    def _is_past(self, chunk: Chunk) -> bool:
        return chunk.seq is None and chunk.end_ns <= self._frontier() + self._tolerance_ns()

    def _append(self, chunk: Chunk) -> list[Chunk | Gap]:
        """The next chunk on the time line, with the hole before it if there is one."""
        frontier = self._frontier()
        in_sequence = chunk.seq is not None and self._seq is not None and chunk.seq == self._seq + 1
        off_ns = chunk.t0_ns - frontier
        if in_sequence and abs(off_ns) > STEP_NS:
            reason = "missing" if 0 < off_ns <= PAUSE_NS else "clock step"
            self.counts["gap" if reason == "missing" else reason] += 1
            return [Gap(chunk.stream, frontier, chunk.t0_ns, reason), self._place(chunk, chunk.t0_ns)]
        if in_sequence:
            if abs(off_ns) > JITTER_NS:
                self.counts["clock slip"] += 1
                return [self._place(chunk, chunk.t0_ns)]
            return [self._extend(chunk)]
        if off_ns > self._tolerance_ns():
            self.counts["gap"] += 1
            return [Gap(chunk.stream, frontier, chunk.t0_ns, "missing"), self._place(chunk, chunk.t0_ns)]
        overlap = round(-off_ns * self._rate_hz / NS_PER_S)
        if overlap >= len(chunk.samples):
            self.counts["late or duplicate"] += 1
            return []
        if overlap > 0:
            self.counts["overlap"] += 1
            chunk = replace(chunk, samples=chunk.samples[overlap:])
        return [self._extend(chunk)]

    def _place(self, chunk: Chunk, t0_ns: int) -> Chunk:
        self._anchor_ns, self._since_anchor = t0_ns, 0
        return self._extend(chunk)

    def _extend(self, chunk: Chunk) -> Chunk:
        t0_ns = self._anchor_ns + chunk.stream.duration_ns(self._since_anchor)
        aligned = Chunk(chunk.stream, t0_ns, chunk.samples, chunk.seq, chunk.boot_id)
        self._since_anchor += len(chunk.samples)
        self._frontier_ns = self._anchor_ns + chunk.stream.duration_ns(self._since_anchor)
        self._seq = chunk.seq
        self._taken.add(chunk)
        return aligned

    def _frontier(self) -> int:
        assert self._frontier_ns is not None  # noqa: S101 (holds past the first chunk)
        return self._frontier_ns

    def _tolerance_ns(self) -> int:
        return round(SEAM_SAMPLES * NS_PER_S / self._rate_hz)
