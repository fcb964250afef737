"""Whether samples follow one another, told by the device's own stamps where it does not count its packets.

Sans-io. What comes out is what firmware_bridge.chunk.Chunk carries: `seq` goes up by 1 where the samples continue and
by more across a hole, `boot_id` changes where the device's clock, or ours, began anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from firmware_bridge.chunk import NS_PER_S
from firmware_bridge.clock import Arrival, DeviceClock

AHEAD_NS = 2 * NS_PER_S
"""A stamp may run ahead of the arrivals by no more than this: samples cannot come before they were taken."""
BEHIND_NS = 10 * NS_PER_S
"""A stamp may fall behind the arrivals by this: a device keeps what it cannot send at once."""
DRIFT = 1e-3
"""Times the silence before, which a device's clock may go wrong besides."""
REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a packet's samples belong."""

    t0_ns: int
    """UTC ns of the first."""
    seq: int
    boot_id: int


@dataclass(slots=True)
class _Hole:
    """Samples that have not come, and may still: between the packets numbered `after_seq` and `before_seq`."""

    start_ns: int
    end_ns: int
    after_seq: int
    before_seq: int


class Continuity:
    """One stream of one device. Times within are the device's, in ns; `clock` makes them UTC.

    Two packets belong together where the first sample of the one is one period after the last of the other, to half a
    sample. A packet within a connection whose stamp leaps is believed when the next one continues it, and is itself
    given up: a damaged stamp costs a packet, not the time line.
    """

    def __init__(self, rate_hz: float, clock: DeviceClock) -> None:
        self._period_ns = NS_PER_S / rate_hz
        self._clock = clock
        self._boot_id = 0
        self._seq = -1
        self._end_ns: float | None = None
        """When the next sample is due; None before the first."""
        self._era = 0
        self._new_connection = True
        self._arrived_ns = 0
        self._leads: deque[int] = deque(maxlen=REMEMBERED)
        """How far each stamp was ahead of its arrival."""
        self._stamps: deque[int] = deque(maxlen=REMEMBERED)
        self._holes: deque[_Hole] = deque(maxlen=8)
        self._suspect_end_ns: float | None = None

    def connected(self) -> None:
        """A new connection: the device may have been switched off and on meanwhile."""
        self._new_connection = True

    def push(self, last_ns: int, count: int, arrival: Arrival) -> Place | str:
        """The place of `count` samples, the last of which was taken at `last_ns`; or why they are left out, in a word.

        "duplicate": seen before. "late": overlaps what was seen. "stray": the stamp leaps, and nothing confirms it yet.
        """
        start_ns = last_ns - (count - 1) * self._period_ns
        end_ns = last_ns + self._period_ns
        if self._end_ns is None or arrival.era != self._era:
            return self._restart(last_ns, count, arrival)
        # A device that was switched off counts from where it did before: only its last packet may come twice then.
        if last_ns == self._stamps[-1] or (last_ns in self._stamps and not self._new_connection):
            return "duplicate"
        if self._leaps(last_ns, arrival) or (self._new_connection and self._is_before(start_ns)):
            if self._new_connection or self._continues_suspect(start_ns):
                return self._restart(last_ns, count, arrival)
            self._suspect_end_ns = end_ns
            return "stray"
        if self._is_before(start_ns):
            return self._late(start_ns, end_ns, last_ns, count, arrival)
        missing = round((start_ns - self._end_ns) / self._period_ns)
        if missing:
            before_seq = self._seq + 1 + max(1, round(missing / count))
            self._holes.append(_Hole(round(self._end_ns), round(start_ns), self._seq, before_seq))
            self._seq = before_seq
        else:
            self._seq += 1
        self._end_ns = end_ns
        self._heard(last_ns, arrival)
        return self._place(self._seq, last_ns, count, arrival)

    def _restart(self, last_ns: int, count: int, arrival: Arrival) -> Place:
        if self._end_ns is not None:
            self._boot_id += 1
            self._clock.reset()
        self._seq, self._era = 0, arrival.era
        self._end_ns = last_ns + self._period_ns
        for remembered in (self._leads, self._stamps, self._holes):
            remembered.clear()
        self._heard(last_ns, arrival)
        return self._place(0, last_ns, count, arrival)

    def _heard(self, last_ns: int, arrival: Arrival) -> None:
        self._new_connection, self._suspect_end_ns = False, None
        self._arrived_ns = arrival.monotonic_ns
        self._leads.append(last_ns - arrival.monotonic_ns)
        self._stamps.append(last_ns)

    def _leaps(self, last_ns: int, arrival: Arrival) -> bool:
        lead_ns = last_ns - arrival.monotonic_ns - max(self._leads)
        drift_ns = DRIFT * (arrival.monotonic_ns - self._arrived_ns)
        return not -(BEHIND_NS + drift_ns) <= lead_ns <= AHEAD_NS + drift_ns

    def _is_before(self, start_ns: float) -> bool:
        """Whether the samples begin before the next one that is due."""
        return self._end_ns is not None and start_ns < self._end_ns - self._period_ns / 2

    def _continues_suspect(self, start_ns: float) -> bool:
        return self._suspect_end_ns is not None and abs(start_ns - self._suspect_end_ns) <= self._period_ns / 2

    def _late(self, start_ns: float, end_ns: float, last_ns: int, count: int, arrival: Arrival) -> Place | str:
        """Into the hole that it was missed from, if there is room."""
        for hole in self._holes:
            slack_ns = self._period_ns / 2
            if not (hole.start_ns - slack_ns <= start_ns and end_ns <= hole.end_ns + slack_ns):
                continue
            ahead = round((start_ns - hole.start_ns) / (self._period_ns * count))
            seq = hole.after_seq + 1 + ahead
            if seq >= hole.before_seq:
                return "late"
            self._holes.remove(hole)
            if seq > hole.after_seq + 1:
                self._holes.append(_Hole(hole.start_ns, round(start_ns), hole.after_seq, seq))
            if seq + 1 < hole.before_seq:
                self._holes.append(_Hole(round(end_ns), hole.end_ns, seq, hole.before_seq))
            self._stamps.append(last_ns)
            return self._place(seq, last_ns, count, arrival)
        return "late"

    def _place(self, seq: int, last_ns: int, count: int, arrival: Arrival) -> Place:
        utc_ns = self._clock.push(last_ns, arrival)
        return Place(utc_ns - round((count - 1) * self._period_ns), seq, self._boot_id)
