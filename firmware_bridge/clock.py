"""From a device's own clock to UTC, however wrong its epoch, while the wall clock is set and the radio dawdles.

Two steps, and neither reads a clock. `SteadyUtc` makes of the two clocks of this machine one that never turns back.
`DeviceClock` learns how a device's clock lies to the monotonic one: from each minute it keeps the frame that was least
delayed, and through half an hour of those goes a line of least squares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SLEW_PPM = 500
"""How fast the offset follows the wall clock: as fast as the kernel itself turns one towards another."""
FORWARD_STEP_NS = 100_000_000
"""The wall clock this far ahead of us has been set; we follow at once."""
BACKWARD_STEP_NS = 2_000_000_000
"""This far behind us, likewise; a smaller step back is slewed."""

BLOCK_NS = 60_000_000_000
WINDOW_NS = 30 * BLOCK_NS
LEAP_NS = 100_000_000
"""A frame that came this long before it could have been taken: the device's clock leapt ahead, and all starts anew."""
LEAP_FRAMES = 20
"""So many frames in a block, as fast as time passes and each of them LEAP_NS late or more: the clock was set back."""
UNKNOWN_DRIFT, DRIFT_BLOCKS = 0.02, 5
"""No clock is worse; until so many blocks tell the drift, it is no leap."""
STORED_NS = 1_000_000_000
"""A frame so late that comes after a long silence was stored meanwhile, and tells nothing of the clock."""
FAR_BACK_NS = 60_000_000_000
"""Frames that late, coming as fast as time passes for STALE_RUN_NS with none on time between: it was set far back."""
STALE_RUN_NS = 10_000_000_000
_SHRINK_NS2 = 40e9**2
"""Pulls the drift towards 0 while only few blocks are known: 2 ms of noise in a block over 50 ppm of usual drift."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a notification came, read in its callback."""

    monotonic_ns: int
    offset_ns: int
    """Add it to a monotonic time to have UTC. It changes so slowly that time never turns back, except with `era`."""
    era: int = 0
    """Counts how often the offset had to be set anew: what comes after is on another time line."""

    @property
    def utc_ns(self) -> int:
        return self.monotonic_ns + self.offset_ns


class SteadyUtc:
    """UTC on the monotonic clock. The wall clock is followed slowly; set ahead at once; set back in a new era."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._monotonic_ns = 0
        self._era = 0

    def arrival(self, monotonic_ns: int, wall_ns: int) -> Arrival:
        """What came just now; both clocks in ns, read one right after the other, and the first one never turns back."""
        stated_ns = wall_ns - monotonic_ns
        if self._offset_ns is None:
            self._offset_ns, self._monotonic_ns = stated_ns, monotonic_ns
        passed_ns = max(0, monotonic_ns - self._monotonic_ns)
        self._monotonic_ns = max(monotonic_ns, self._monotonic_ns)
        ahead_ns = stated_ns - self._offset_ns
        if ahead_ns > FORWARD_STEP_NS:
            self._offset_ns = stated_ns
        elif ahead_ns < -BACKWARD_STEP_NS:
            self._offset_ns = stated_ns
            self._era += 1
        else:
            slew_ns = passed_ns * SLEW_PPM // 1_000_000
            self._offset_ns += max(-slew_ns, min(ahead_ns, slew_ns))
        return Arrival(monotonic_ns, self._offset_ns, self._era)


@dataclass(frozen=True, slots=True)
class _Point:
    """One frame: the time it bears, and when it came."""

    device_ns: int
    monotonic_ns: int

    @property
    def delay_ns(self) -> int:
        return self.monotonic_ns - self.device_ns


@dataclass(frozen=True, slots=True)
class _Minimum:
    """The least delayed frame of a block of so many."""

    point: _Point
    frames: int


@dataclass(frozen=True, slots=True)
class _Line:
    """How far the monotonic clock is ahead of the device's, by the device's time."""

    origin_ns: int = 0
    intercept_ns: int = 0
    drift: float = 0.0

    @classmethod
    def through(cls, minima: Sequence[_Minimum]) -> _Line:
        """The line of least squares. The least of n delays is so much better than that of fewer, as n is larger."""
        first = minima[0].point
        most = max(minimum.frames for minimum in minima)
        weighed = [
            ((one.frames / most) ** 2, one.point.device_ns - first.device_ns, one.point.delay_ns - first.delay_ns)
            for one in minima
        ]
        total = sum(weight for weight, _, _ in weighed)
        middle = sum(weight * x for weight, x, _ in weighed) / total
        height = sum(weight * y for weight, _, y in weighed) / total
        along = sum(weight * (x - middle) * (y - height) for weight, x, y in weighed)
        across = sum(weight * (x - middle) ** 2 for weight, x, _ in weighed)
        return cls(first.device_ns + round(middle), first.delay_ns + round(height), along / (across + _SHRINK_NS2))

    def delay_ns(self, device_ns: int) -> int:
        return self.intercept_ns + round(self.drift * (device_ns - self.origin_ns))


@dataclass(slots=True)
class _Block:
    """A minute's frames, of which the least delayed is kept."""

    began_ns: int = 0
    frames: int = 0
    timely: int = 0
    """Of these, the ones that were not late by more than a radio makes them."""
    first: _Point | None = None
    last: _Point | None = None
    best: _Point | None = None
    late_ns: int = 0
    """Of the best frame, against the line that held then; below 0, the line was too late."""

    @property
    def in_step(self) -> bool:
        """Whether its frames came as fast as time passes."""
        return self.first is not None and self.last is not None and _in_step(self.first, self.last)

    def take(self, point: _Point, late_ns: int, leap_ns: int) -> None:
        if self.first is None:
            self.began_ns, self.first = point.monotonic_ns, point
        self.last = point
        self.frames += 1
        self.timely += late_ns <= leap_ns
        if self.best is None or late_ns < self.late_ns:
            self.best, self.late_ns = point, late_ns


def _in_step(before: _Point, after: _Point) -> bool:
    """Whether the one came after the other by as much as the device's clock says; what was stored comes faster."""
    passed_ns = after.monotonic_ns - before.monotonic_ns
    return abs(after.device_ns - before.device_ns - passed_ns) < passed_ns // 8


class DeviceClock:
    """The clock of one device: `push` the time it put on a frame, and have it in UTC.

    Within an era, a time beyond all that went before is never given an earlier UTC, whatever the device's clock does,
    and nothing is given a time after its arrival. The delay that even the fastest frame has stays in the result.
    """

    def __init__(self, *, wraps_at_ns: int = 0) -> None:
        """`wraps_at_ns`: where the device's counter starts over, such as 2**32 ms in ns; 0: never."""
        self._wraps_at_ns = wraps_at_ns
        self._era = 0
        self._last_utc_ns: int | None = None
        self.reset()

    def reset(self) -> None:
        """The device has started anew: what was learned of its clock no longer holds."""
        self._minima: deque[_Minimum] = deque()
        self._line = _Line()
        self._block = _Block()
        self._newest_ns: int | None = None
        self._stale_since: _Point | None = None
        self._began_ns = self._blocks = 0
        self._stored_ns = 1 << 80  # before the first frame nothing can be late

    def push(self, device_ns: int, arrival: Arrival) -> int:
        """UTC ns of `device_ns`, which is any count of ns on the device's clock; arrivals come in their order."""
        if self._wraps_at_ns and self._newest_ns is not None:
            device_ns += self._turns(device_ns, arrival.monotonic_ns) * self._wraps_at_ns
        self._learn(_Point(device_ns, arrival.monotonic_ns))
        if arrival.era != self._era:
            self._era, self._last_utc_ns = arrival.era, None
        utc_ns = min(device_ns + self._delay_ns(device_ns) + arrival.offset_ns, arrival.utc_ns)
        if self._newest_ns is not None and device_ns < self._newest_ns:
            return utc_ns if self._last_utc_ns is None else min(utc_ns, self._last_utc_ns)
        self._newest_ns = device_ns
        self._last_utc_ns = utc_ns if self._last_utc_ns is None else max(utc_ns, self._last_utc_ns)
        return self._last_utc_ns

    def _turns(self, device_ns: int, monotonic_ns: int) -> int:
        """How often the counter has started over: so that it comes nearest to what it must show now."""
        expected_ns = monotonic_ns - self._delay_ns(monotonic_ns - self._line.intercept_ns)
        return round((expected_ns - device_ns) / self._wraps_at_ns)

    def _delay_ns(self, device_ns: int) -> int:
        """How far the monotonic clock is ahead of the device's, a delay that no frame was free of included."""
        return self._line.delay_ns(device_ns) + min(0, self._block.late_ns)

    def _learn(self, point: _Point) -> None:
        if self._block.frames and point.monotonic_ns - self._block.began_ns >= BLOCK_NS:
            self._end_block(point.monotonic_ns)
        late_ns = point.delay_ns - self._line.delay_ns(point.device_ns)
        knows_nothing = not (self._minima or self._block.frames) and late_ns < self._stored_ns
        if knows_nothing or late_ns < -self._leap_ns(point) or self._is_set_far_back(point, late_ns):
            self.reset()
            self._line, late_ns = _Line(point.device_ns, point.delay_ns), 0
            self._began_ns, self._stored_ns = point.monotonic_ns, STORED_NS
        self._block.take(point, late_ns, self._leap_ns(point))

    def _leap_ns(self, point: _Point) -> int:
        """How much too early, or all frames of a block too late, they may come."""
        if self._blocks >= DRIFT_BLOCKS:
            return LEAP_NS
        return LEAP_NS + round(UNKNOWN_DRIFT * (point.monotonic_ns - self._began_ns))

    def _is_set_far_back(self, point: _Point, late_ns: int) -> bool:
        """Whether the device's clock must have been set: frames stored while out of reach come faster than time."""
        if late_ns < FAR_BACK_NS:
            self._stale_since = None
            return False
        since = self._stale_since
        if since is None:
            self._stale_since = point
            return False
        passed_ns = point.monotonic_ns - since.monotonic_ns
        if passed_ns < STALE_RUN_NS:
            return False
        self._stale_since = point
        return _in_step(since, point)

    def _end_block(self, monotonic_ns: int) -> None:
        best = self._block.best
        if best is not None and self._block.late_ns <= self._leap_ns(best):
            self._minima.append(_Minimum(best, max(1, self._block.timely)))
            self._blocks += 1
        elif best is not None and self._block.frames >= LEAP_FRAMES and self._block.in_step:
            self._minima.clear()
            self._minima.append(_Minimum(best, self._block.frames))
            self._began_ns, self._blocks = best.monotonic_ns, 1
        while self._minima and monotonic_ns - self._minima[0].point.monotonic_ns > WINDOW_NS:
            self._minima.popleft()
        self._block = _Block()
        if self._minima:
            self._line = _Line.through(self._minima)
