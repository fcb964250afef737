"""All frames of one device, as they come over a link that loses, repeats and delays: each once, with a time in UTC.

Sans-io. A hole is asked for while what fills it would still be taken: `agent.signal.align` waits for two seconds of
signal. Frames are not put in order here; their sequence says where they belong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from firmware_bridge.chunk import NS_PER_S, Chunk, DecodeError, Stream
from firmware_bridge.clock import Arrival, DeviceClock
from firmware_bridge.frame import Frame, FrameFlag
from firmware_bridge.plausible import to_chunk
from firmware_bridge.resend import ResendRequest

ASK_WITHIN_NS = 2 * NS_PER_S
"""A hole longer than this is let be: the link was away, and there is more to do than to mend."""
ASK_AGAIN_NS = NS_PER_S // 2
TIMES_ASKED = 2
LET_BE_NS = 3 * NS_PER_S // 2
"""What has not come so long after it was missed is no longer taken."""
OLD_BOOT_NS = 5 * NS_PER_S
"""So long after a restart, frames from before it are stragglers."""
RESTART_FRAMES = 8
"""So many old numbers in a row, and none of them seen or missed: the device counts anew under its old boot id."""
REMEMBERED = 256
"""Frames of a stream, seen or missed; no more than a ResendRequest can name."""


@dataclass(frozen=True, slots=True)
class Received:
    """What follows from one frame."""

    chunks: tuple[Chunk, ...] = ()
    requests: tuple[ResendRequest, ...] = ()
    """To be sent to the device, soon or not at all."""
    refused: tuple[DecodeError, ...] = ()
    dropped: tuple[str, ...] = ()
    """Why it was left out: "unknown stream", "duplicate", "late", "old boot"; "device restart" where that was seen."""


class FrameReceiver:
    """The streams of one device, by the ids that it gives them."""

    def __init__(self, streams: Mapping[int, Stream]) -> None:
        self._streams = streams
        self._clock = DeviceClock()
        self._boot_id: int | None = None
        self._boot_before: int | None = None
        self._booted_ns = 0
        self._counts: dict[int, _Count] = {}

    def push(self, frame: Frame, arrival: Arrival) -> Received:
        """Take the next frame; arrivals come in their order."""
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            return Received(dropped=("unknown stream",))
        now_ns = arrival.monotonic_ns
        if frame.boot_id != self._boot_id:
            if frame.boot_id == self._boot_before and now_ns - self._booted_ns < OLD_BOOT_NS:
                return Received(dropped=("old boot",))
            self._boot_before, self._boot_id, self._booted_ns = self._boot_id, frame.boot_id, now_ns
            self._begin()
        count = self._counts.setdefault(frame.stream_id, _Count(frame.stream_id, frame.boot_id))
        why = count.leaves_out(frame, now_ns)
        if why:
            return Received(requests=self._requests(now_ns), dropped=(why,))
        restarted = count.restarted
        if restarted:
            self._begin()
            self._counts[frame.stream_id] = count.anew(frame)
        requests, dropped = self._requests(now_ns), ("device restart",) * restarted
        try:
            return Received((self._chunk(frame, stream, arrival),), requests, dropped=dropped)
        except DecodeError as error:
            return Received(requests=requests, refused=(error,), dropped=dropped)

    def _begin(self) -> None:
        """The device has started: its clock and its counters with it."""
        self._clock.reset()
        self._counts.clear()

    def _requests(self, now_ns: int) -> tuple[ResendRequest, ...]:
        return tuple(request for count in self._counts.values() for request in count.requests(now_ns))

    def _chunk(self, frame: Frame, stream: Stream, arrival: Arrival) -> Chunk:
        t0_ns, boot_id = frame.time_us * 1000, frame.boot_id
        if not frame.flags & FrameFlag.UTC:
            # A frame can be sent once its last sample is there: that one's time is what the arrival bears on.
            lasts_ns = _lasts_ns(frame, frame.count - 1)
            t0_ns = self._clock.push(t0_ns + lasts_ns, arrival) - lasts_ns
            boot_id |= (arrival.era & 0xFFFF) << 16  # what comes after a clock set back may be of a time that there was
        return to_chunk(
            stream, t0_ns, frame.counts(), unit=frame.unit, rate_hz=frame.rate_hz, scale=frame.scale,
            seq=frame.sequence, boot_id=boot_id,
        )  # fmt: skip


@dataclass(slots=True)
class _Missing:
    until_ns: int
    asked_ns: int = -(1 << 63)
    times: int = 0


@dataclass(slots=True)
class _Count:
    """Which frames of one stream have come since the device's start, and which are missed."""

    stream_id: int
    boot_id: int
    restarted: bool = False
    _newest: Frame | None = None
    _seen: dict[int, int] = field(default_factory=dict)
    """What the last ones held, by sequence, the newest last."""
    _missing: dict[int, _Missing] = field(default_factory=dict)
    _old: int = 0
    """Old numbers in a row, up to `_old_next`."""
    _old_next: int = -1

    def anew(self, frame: Frame) -> _Count:
        """The count of a device that has begun again with this frame."""
        fresh = _Count(self.stream_id, self.boot_id)
        fresh.leaves_out(frame, 0)
        return fresh

    def leaves_out(self, frame: Frame, now_ns: int) -> str:
        """Take note of a frame; why it is not to be taken, if it is not."""
        sequence, held = frame.sequence, hash(frame)
        if self._newest is None or sequence > self._newest.sequence:
            if self._newest is not None and sequence > self._newest.sequence + 1:
                self._miss(self._newest, frame, now_ns)
            self._newest = frame
        elif self._seen.get(sequence) == held:
            return "duplicate"
        elif sequence in self._missing:
            if now_ns > self._missing.pop(sequence).until_ns:
                self._remember(sequence, held)
                return "late"
        else:
            self._old = self._old + 1 if sequence == self._old_next else 1
            self._old_next = sequence + 1
            self.restarted = self._old >= RESTART_FRAMES
            return "" if self.restarted else "late"
        self._old = 0
        self._remember(sequence, held)
        return ""

    def _remember(self, sequence: int, held: int) -> None:
        self._seen[sequence] = held
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _miss(self, before: Frame, after: Frame, now_ns: int) -> None:
        first = max(before.sequence + 1, after.sequence - REMEMBERED)
        hole_ns = (after.time_us - before.time_us) * 1000 - _lasts_ns(before, before.count)
        worth_asking = before.flags == after.flags and 0 < hole_ns <= ASK_WITHIN_NS and before.rate_mhz > 0
        for sequence in range(first, after.sequence):
            self._missing[sequence] = _Missing(now_ns + LET_BE_NS, times=0 if worth_asking else TIMES_ASKED)
        while len(self._missing) > REMEMBERED:
            del self._missing[next(iter(self._missing))]

    def requests(self, now_ns: int) -> Iterator[ResendRequest]:
        """What to ask for now; what is asked for is not asked for again at once."""
        wanted = {
            sequence
            for sequence, one in self._missing.items()
            if one.times < TIMES_ASKED and one.asked_ns + ASK_AGAIN_NS <= now_ns <= one.until_ns
        }
        for sequence in wanted:
            self._missing[sequence].times += 1
            self._missing[sequence].asked_ns = now_ns
        for first, count in _runs(wanted):
            yield ResendRequest(self.stream_id, self.boot_id, first, count)


def _runs(numbers: Set[int]) -> Iterator[tuple[int, int]]:
    """(first, how many) of each run of consecutive numbers."""
    for number in sorted(numbers):
        if number - 1 not in numbers:
            yield number, next(count for count in range(1, len(numbers) + 1) if number + count not in numbers)


def _lasts_ns(frame: Frame, samples: int) -> int:
    return samples * 1_000_000_000_000 // frame.rate_mhz if frame.rate_mhz else 0
