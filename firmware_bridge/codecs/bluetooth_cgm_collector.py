"""A CGM over Bluetooth from connection to connection: what it stored meanwhile, then what it sends. No clock, no radio.

Whoever owns the link reads three characteristics on each connection, subscribes to two, hands in what comes, writes
what is to be written, and says when nothing has come for too long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from firmware_bridge.chunk import DecodeError, Stream
from firmware_bridge.codecs.bluetooth_cgm_annunciation import AnnunciationOrder
from firmware_bridge.codecs.bluetooth_cgm_backfill import CgmBackfill, Phase, Step
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement, measurements
from firmware_bridge.codecs.bluetooth_cgm_readings import CgmReading, SensorNotice, notice, readings
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus

FIRST_FILL_MIN = 24 * 60
SAME_START_NS = 120 * 10**9
"""A sensor whose clock is set anew reckons its session's start anew; one further off is another session."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What follows from what came."""

    readings: tuple[CgmReading, ...] = ()
    """In order; of a back-fill the times go back behind those of live readings."""
    write: bytes | None = None
    """To be written to the record access control point."""
    refused: tuple[DecodeError, ...] = ()
    """Why records that came are not among the readings; each costs nothing but itself."""
    notice: SensorNotice | None = None
    """What the sensor's status says of it; only on connecting."""


class CgmCollector:
    """One person's CGM.

    Every record is handed out once, and again only where the sensor says another value for its minute. `stream` is
    what the chunks belong to; `zone_quarters` and `dst_quarters` stand in where a sensor knows no zone;
    `first_fill_min` is how far back the first connection looks. A live record that comes more than one and a half times
    `interval_min` after the one before has what is missing between fetched; 0: only a new connection fetches.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        order: AnnunciationOrder = AnnunciationOrder.STATUS_FIRST,
        zone_quarters: int | None = None,
        dst_quarters: int | None = None,
        first_fill_min: int = FIRST_FILL_MIN,
        interval_min: float = 0.0,
    ) -> None:
        self._stream, self._order = stream, order
        self._zone_quarters, self._dst_quarters, self._first_fill_min = zone_quarters, dst_quarters, first_fill_min
        self._interval_min = interval_min
        self._feature: CgmFeature | None = None
        self._start: CgmSessionStart | None = None
        self._backfill: CgmBackfill | None = None
        self._next_min: int | None = None
        """The first minute not known to be complete; None before the first connection."""
        self._handed: dict[int, int] = {}
        """What was handed out from that minute on: time offset → bits of the concentration."""

    @property
    def session_start_ns(self) -> int | None:
        """UTC ns of the session's minute 0; None before the first connection."""
        return None if self._start is None else self._start.utc_ns()

    @property
    def is_fetching(self) -> bool:
        """Whether an answer of the record access control point is awaited."""
        return self._backfill is not None and self._backfill.phase not in (Phase.DONE, Phase.FAILED)

    @property
    def backfill(self) -> CgmBackfill | None:
        """The fetching of what was stored, running or over; None where there was nothing to fetch."""
        return self._backfill

    def connected(self, feature: bytes, session_start: bytes, status: bytes) -> Heard:
        """A connection stands, and these were read: start to fetch what was stored since the last one.

        Raises DecodeError; where the session's start is not known, the link's owner tells the sensor the time and reads
        again.
        """
        read_feature = CgmFeature.from_bytes(feature)
        start = self._with_zone(CgmSessionStart.from_bytes(session_start))
        now = CgmStatus.from_bytes(status, self._order)
        start_ns = start.utc_ns()
        if self._start is None or abs(start_ns - self._start.utc_ns()) > SAME_START_NS:
            self._next_min = None if self._start is None else 0
            self._handed.clear()
        self._feature, self._start = read_feature, start
        if self._next_min is None:
            self._next_min = max(0, now.offset_min - self._first_fill_min)
        self._backfill = None
        write = None
        if self._next_min <= now.offset_min:
            self._backfill = CgmBackfill(self._next_min, now.offset_min)
            write = self._backfill.start().write
        return Heard(write=write, notice=notice(now))

    def measurement(self, notification: bytes) -> Heard:
        """Records came. Those that were asked for wait until their page is complete. Raises DecodeError."""
        came = measurements(notification, self._order)
        live = [record for record in came if self._backfill is None or not self._backfill.measurement(record)]
        write = self._fetch_before(live)
        return replace(self._hand_out(live), write=write)

    def control_point(self, indication: bytes) -> Heard:
        """The record access control point answered. Raises DecodeError."""
        return self._after(self._backfill.control_point(indication)) if self._backfill is not None else Heard()

    def timed_out(self) -> Heard:
        """Nothing came for too long while something was being fetched."""
        return self._after(self._backfill.timed_out()) if self._backfill is not None else Heard()

    def _fetch_before(self, live: list[CgmMeasurement]) -> bytes | None:
        """What to write to have the records that must have been lost before these; None where none were."""
        if not live or not self._interval_min or self._next_min is None or self._start is None or self.is_fetching:
            return None
        first_min = min(record.offset_min for record in live)
        if first_min - (self._next_min - 1) <= 1.5 * self._interval_min or first_min <= self._next_min:
            return None
        self._backfill = CgmBackfill(self._next_min, first_min - 1)
        return self._backfill.start().write

    def _with_zone(self, start: CgmSessionStart) -> CgmSessionStart:
        if start.zone_quarters is None:
            start = replace(start, zone_quarters=self._zone_quarters)
        return replace(start, dst_quarters=self._dst_quarters) if start.dst_quarters is None else start

    def _after(self, step: Step) -> Heard:
        out = self._hand_out(step.records)
        if self._backfill is not None:
            self._complete_to(self._backfill.next_min)
        return replace(out, write=step.write)

    def _hand_out(self, records: Iterable[CgmMeasurement]) -> Heard:
        if self._start is None or self._next_min is None:
            return Heard()
        new = [r for r in records if self._handed.get(r.offset_min) != r.concentration.bits]
        self._handed |= {record.offset_min: record.concentration.bits for record in new}
        out: list[CgmReading] = []
        refused: list[DecodeError] = []
        for record in new:
            try:
                out += readings(self._stream, self._start, [record], self._feature)
            except DecodeError as error:
                refused.append(error)
        if new and (self._backfill is None or self._backfill.phase is Phase.DONE):
            self._complete_to(max(record.offset_min for record in new) + 1)
        return Heard(tuple(out), refused=tuple(refused))

    def _complete_to(self, minute: int) -> None:
        """All before `minute` is there; a last few are remembered, as a sensor may send them again."""
        self._next_min = max(minute, self._next_min or 0)
        self._handed = {m: bits for m, bits in self._handed.items() if m >= self._next_min - 60}
