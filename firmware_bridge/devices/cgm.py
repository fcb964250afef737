"""A continuous glucose sensor of the Bluetooth CGM profile: readings as they come, and what it stored meanwhile.

Verified against worked bytes: measurement, feature, session run time, records. Status, session start and the control
point of the session are laid out as the profile has them. A session is never started or stopped from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from firmware_bridge.chunk import NS_PER_S, DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs.bluetooth_cgm_annunciation import AnnunciationOrder, SensorCalibration
from firmware_bridge.codecs.bluetooth_cgm_backfill import Phase
from firmware_bridge.codecs.bluetooth_cgm_collector import CgmCollector
from firmware_bridge.codecs.bluetooth_cgm_collector import Heard as Collected
from firmware_bridge.codecs.bluetooth_cgm_control import CgmControl, CgmOp
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature
from firmware_bridge.codecs.bluetooth_cgm_readings import SensorNotice
from firmware_bridge.codecs.bluetooth_cgm_session_run import CgmSessionRun
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.devices.assigned_numbers import (
    CGM_CONTROL_POINT,
    CGM_FEATURE,
    CGM_MEASUREMENT,
    CGM_SERVICE,
    CGM_SESSION_RUN,
    CGM_SESSION_START,
    CGM_STATUS,
    RECORD_ACCESS_CONTROL_POINT,
)
from firmware_bridge.devices.notice_board import NoticeBoard
from firmware_bridge.devices.profile import Offer, Option, OptionValue, Profile
from firmware_bridge.devices.session import DeviceRefusedError, Emit, Heard, Link, LinkError, Notice, NoticeAbout
from firmware_bridge.devices.wall_clock import ZONE, now_as_date_time, quarters_of

SILENCE_S = 10.0
"""Nothing for so long while something is being fetched: it does not come."""
ANSWER_S = 3.0
NO_PERIOD_MIN = (0, 255)
"""Intervals that stand for none, and for as fast as the sensor can."""
CLOCK_OFF_MIN = 10
"""Readings further from now than this are none of now."""
MAX_EARLY = 64
"""Notifications kept while a connection begins."""
INTERVALS_S = (60.0, 120.0, 180.0, 300.0, 600.0, 900.0)

GLUCOSE = Offer("glucose", "cgm", interval_s=300.0, interval_option="interval_s")


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say of a sensor."""

    words: str
    trouble: bool = False


class CgmSession:
    """One person's sensor, and after it the next one."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        options: Mapping[str, OptionValue],
        emit: Emit,
        *,
        now_s: Callable[[], float] = time.time,
        silence_s: float = SILENCE_S,
    ) -> None:
        """`now_s`: UTC seconds since 1970, told to a sensor that knows no time."""
        self._emit, self._now_s, self._silence_s = emit, now_s, silence_s
        self._order = AnnunciationOrder(options["annunciation_order"])
        self._zone_quarters = quarters_of(str(options[ZONE.name]))
        stream = streams[GLUCOSE.channel]
        self._collector = CgmCollector(
            stream,
            order=self._order,
            zone_quarters=self._zone_quarters,
            dst_quarters=None if self._zone_quarters is None else 0,
            interval_min=stream.interval_s / 60,
        )
        self._interval_s = stream.interval_s
        self._remarks: tuple[Remark, ...] = ()
        self._board = NoticeBoard()
        self._newest_ns = 0
        """The sensor's latest word on itself is of this time."""
        self._early: list[bytes] | None = None
        """Measurements that came before the session was known; None once it is."""
        self._write: bytes | None = None
        self._news = asyncio.Event()
        self.session_start_ns: int | None = None
        """UTC ns of minute 0, from when the sensor warms up; None until a sensor has said so."""
        self.session_end_ns: int | None = None
        """When the sensor's life ends, if it says."""

    async def start(self, link: Link) -> None:
        self._early, self._write, self._news = [], None, asyncio.Event()
        feature = await link.read(CGM_FEATURE)
        secured = CgmFeature.from_bytes(feature).secured
        await link.subscribe(CGM_MEASUREMENT)
        await link.subscribe(RECORD_ACCESS_CONTROL_POINT)
        session_start = await self._session_start(link, secured=secured)
        self.session_end_ns = None
        interval = await self._about_its_interval(link, secured=secured)
        status = await link.read(CGM_STATUS)
        collected = self._collector.connected(feature, session_start, status)
        self.session_start_ns = start_ns = self._collector.session_start_ns
        if start_ns is not None:
            self.session_end_ns = await self._session_end_ns(link, start_ns)
            self._newest_ns = start_ns + CgmStatus.from_bytes(status, self._order).offset_min * 60 * NS_PER_S
            self._remarks = (*interval, *self._about_its_clock())
        self._take(collected)
        early, self._early = self._early, None
        for data in early:
            try:
                self._take(self._collector.measurement(data))
            except DecodeError as error:
                self._emit(Heard(refused=(error,)))

    async def tend(self, link: Link) -> None:
        """Fetch what was stored, now and whenever records were lost."""
        while True:
            await self._fetch(link)
            await self._news.wait()
            self._news.clear()

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic == CGM_MEASUREMENT:
            if self._early is None:
                self._take(self._collector.measurement(data))
            elif len(self._early) < MAX_EARLY:
                self._early.append(data)
        elif characteristic == RECORD_ACCESS_CONTROL_POINT:
            self._take(self._collector.control_point(data))

    async def stop(self, link: Link) -> None:
        """Nothing to do: it stores what nobody hears."""

    async def _session_start(self, link: Link, *, secured: bool) -> bytes:
        """When the session began, as the sensor says it, once it has been told the time where it needs that."""
        sent = await link.read(CGM_SESSION_START)
        status = CgmStatus.from_bytes(await link.read(CGM_STATUS), self._order)
        if self._is_known(sent) and not status.calibration & SensorCalibration.TIME_SYNC_REQUIRED:
            return sent
        now = CgmSessionStart(now_as_date_time(self._now_s()), 0, 0, secured=secured)
        try:
            await link.write(CGM_SESSION_START, bytes(now))
        except LinkError as error:
            if error.fault != "refused":
                raise
        sent = await link.read(CGM_SESSION_START)
        if not self._is_known(sent):
            raise DeviceRefusedError(
                "it does not say when its session began, or in which time zone, and takes no time from here; "
                'for the zone there is the option "zone"'
            )
        return sent

    def _is_known(self, sent: bytes) -> bool:
        said = CgmSessionStart.from_bytes(sent)
        zone_known = said.zone_quarters is not None and said.dst_quarters is not None
        return said.local.known and (zone_known or self._zone_quarters is not None)

    async def _session_end_ns(self, link: Link, start_ns: int) -> int | None:
        """When the sensor's life ends; a sensor that does not say costs nothing."""
        if CGM_SESSION_RUN not in link.characteristics:
            return None
        try:
            run = CgmSessionRun.from_bytes(await link.read(CGM_SESSION_RUN))
        except LinkError as error:
            if error.fault not in {"refused", "missing"}:
                raise
            return None
        except DecodeError:
            return None
        return start_ns + run.hours * 3600 * NS_PER_S

    async def _about_its_interval(self, link: Link, *, secured: bool) -> tuple[Remark, ...]:
        """Whether it measures as often as is configured; a sensor that does not say costs nothing."""
        if CGM_CONTROL_POINT not in link.characteristics:
            return ()
        request = bytes(CgmControl(CgmOp.GET_INTERVAL, secured=secured))
        try:
            await link.subscribe(CGM_CONTROL_POINT)
            said = CgmControl.from_bytes(await link.ask(CGM_CONTROL_POINT, request, timeout_s=ANSWER_S))
        except LinkError as error:
            if error.fault not in {"refused", "timeout"}:
                raise
            return ()
        except DecodeError:
            return ()
        if said.op is not CgmOp.INTERVAL or not isinstance(said.operand, int) or said.operand in NO_PERIOD_MIN:
            return ()
        interval_s = 60 * said.operand
        if interval_s == self._interval_s:
            return ()
        return (Remark(f"it measures every {said.operand} min: write options = {{ interval_s = {interval_s} }}"),)

    def _about_its_clock(self) -> tuple[Remark, ...]:
        off_min = round((self._newest_ns / NS_PER_S - self._now_s()) / 60)
        if abs(off_min) <= CLOCK_OFF_MIN:
            return ()
        way = "ahead" if off_min > 0 else "behind"
        return (Remark(f"its clock is {abs(off_min)} min {way}, and so are its readings", trouble=True),)

    async def _fetch(self, link: Link) -> None:
        """Write what is to be written and wait for its answer, until nothing is left to be fetched."""
        asked = self._write is not None
        while self._write is not None:
            write, self._write = self._write, None
            try:
                await link.write(RECORD_ACCESS_CONTROL_POINT, write)
            except LinkError as error:
                if error.fault != "refused":
                    raise
                self._take(self._collector.timed_out())
            while self._write is None and self._collector.is_fetching:
                await self._wait()
        backfill = self._collector.backfill
        if asked and backfill is not None and backfill.phase is Phase.FAILED:
            self._emit(Heard(dropped=("unfetched",)))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                await self._news.wait()
        except TimeoutError:
            self._take(self._collector.timed_out())
        self._news.clear()

    def _take(self, collected: Collected) -> None:
        """Emit what came, and note what is to be written."""
        self._news.set()
        if collected.write is not None:
            self._write = collected.write
        said = [collected.notice] if collected.notice is not None else []
        newest = max(collected.readings, key=lambda reading: reading.t_ns, default=None)
        if newest is not None and newest.t_ns >= self._newest_ns:
            self._newest_ns = newest.t_ns
            said.append(newest.notice)
        notices = [notice for one in said for notice in self._board.put(*in_words(one, self._remarks))]
        chunks = [reading.chunk for reading in collected.readings if reading.chunk and reading.notice.trustworthy]
        dropped = [
            "no reading" if reading.chunk is None else "untrusted"
            for reading in collected.readings
            if reading.chunk is None or not reading.notice.trustworthy
        ]
        if chunks or notices or dropped or collected.refused:
            self._emit(Heard(tuple(chunks), tuple(notices), collected.refused, tuple(dropped)))


def in_words(said: SensorNotice, remarks: tuple[Remark, ...] = ()) -> tuple[Notice, Notice, Notice]:
    """What a sensor says of itself, and what there is to remark, for a person: about it, its signal, its battery."""
    sensor = (
        *_true_of(
            (said.malfunction, Remark("the sensor is broken, or does not belong to its device", trouble=True)),
            (said.session_stopped, Remark("its session has stopped", trouble=True)),
            (said.device_alert, Remark("it gives an alert of its maker's own", trouble=True)),
            (said.calibration == "required", Remark("it needs a calibration", trouble=True)),
            (said.calibration == "recommended", Remark("a calibration would do it good")),
            (said.time_sync_required, Remark("its clock needs to be set")),
        ),
        *remarks,
    )
    signal = _true_of(
        (bool(said.beyond), Remark(f"glucose {said.beyond} what the sensor can measure")),
        (said.wrong_temperature, Remark("the sensor is too warm or too cold to measure", trouble=True)),
    )
    battery = _true_of((said.battery_low, Remark("its battery is low", trouble=True)))
    return _notice("sensor", sensor), _notice("signal", signal), _notice("battery", battery)


def _true_of(*facts: tuple[bool, Remark]) -> tuple[Remark, ...]:
    return tuple(remark for true, remark in facts if true)


def _notice(about: NoticeAbout, remarks: tuple[Remark, ...]) -> Notice:
    return Notice(about, "; ".join(one.words for one in remarks), trouble=any(one.trouble for one in remarks))


PROFILE = Profile(
    id="cgm",
    name="Continuous glucose sensor",
    words="A sensor of the Bluetooth CGM profile: glucose every few minutes, and what it stored while out of reach.",
    offers=(GLUCOSE,),
    open=CgmSession,
    services=frozenset({CGM_SERVICE}),
    characteristics=frozenset(
        {CGM_MEASUREMENT, CGM_FEATURE, CGM_STATUS, CGM_SESSION_START, RECORD_ACCESS_CONTROL_POINT}
    ),
    bonds=True,
    options=(
        Option("interval_s", 300.0, "Seconds between two readings of this sensor.", INTERVALS_S),
        Option(
            "annunciation_order",
            AnnunciationOrder.STATUS_FIRST.value,
            "In which order it sends the octets that say how it is; makers differ.",
            tuple(order.value for order in AnnunciationOrder),
        ),
        ZONE,
    ),
    verified="measurement, feature, run time, records, E2E-CRC: worked bytes; status, session start: † the profile",
)
