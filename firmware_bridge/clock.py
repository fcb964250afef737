"""From a device's own clock to UTC, however wrong its epoch, while the wall clock is set and the radio dawdles.

Two steps, and neither reads a clock. `SteadyUtc` makes of the two clocks of this machine one that never turns back.
`DeviceClock` learns how a device's clock lies to the monotonic one: from each minute it keeps the frame that was least
delayed, and through half an hour of those goes a line of least squares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
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
"""So many frames in a block, and each of them LEAP_NS late or more: the device's clock was set back."""
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
class _Line:
    """How far the monotonic clock is ahead of the device's, by the device's time."""

    origin_ns: int = 0
    intercept_ns: int = 0
    drift: float = 0.0

    @classmethod
    def through(cls, points: Collection[_Point]) -> _Line:
        """The line of least squares."""
        origin_ns = sum(point.device_ns for point in points) // len(points)
        intercept_ns = sum(point.delay_ns for point in points) // len(points)
        along = [(point.device_ns - origin_ns, point.delay_ns - intercept_ns) for point in points]
        drift = sum(x * y for x, y in along) / (sum(x * x for x, _ in along) + _SHRINK_NS2)
        return cls(origin_ns, intercept_ns, drift)

    def delay_ns(self, device_ns: int) -> int:
        return self.intercept_ns + round(self.drift * (device_ns - self.origin_ns))


@dataclass(slots=True)
class _Block:
    """A minute's frames, of which the least delayed is kept."""

    began_ns: int = 0
    frames: int = 0
    best: _Point | None = None
    late_ns: int = 0
    """Of the best frame, against the line that held then; below 0, the line was too late."""

    def take(self, point: _Point, late_ns: int) -> None:
        if self.best is None:
            self.began_ns = point.monotonic_ns
        self.frames += 1
        if self.best is None or late_ns < self.late_ns:
            self.best, self.late_ns = point, late_ns


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
        self._points: deque[_Point] = deque()
        self._line = _Line()
        self._block = _Block()
        self._newest_ns: int | None = None
        self._stale_since: _Point | None = None

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
        if not (self._points or self._block.frames) or late_ns < -LEAP_NS or self._is_set_far_back(point, late_ns):
            self.reset()
            self._line, late_ns = _Line(point.device_ns, point.delay_ns), 0
        self._block.take(point, late_ns)

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
        return abs(point.device_ns - since.device_ns - passed_ns) < passed_ns // 8

    def _end_block(self, monotonic_ns: int) -> None:
        if self._block.late_ns > LEAP_NS and self._block.frames >= LEAP_FRAMES:
            self._points.clear()
        if self._block.best is not None:
            self._points.append(self._block.best)
        while self._points and monotonic_ns - self._points[0].monotonic_ns > WINDOW_NS:
            self._points.popleft()
        self._block = _Block()
        if self._points:
            self._line = _Line.through(self._points)
