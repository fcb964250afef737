"""A glucose meter of the Bluetooth Glucose profile: the finger-sticks it has stored, on each connection those not had.

Verified against worked bytes: measurement and record requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import numpy as np

from firmware_bridge.chunk import NS_PER_S, DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs.bluetooth_glucose import GlucoseMeasurement, MeterStatus
from firmware_bridge.codecs.bluetooth_glucose_sample import SampleLocation, SampleType
from firmware_bridge.codecs.bluetooth_medfloat import Special
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)
from firmware_bridge.devices.assigned_numbers import GLUCOSE_MEASUREMENT, GLUCOSE_SERVICE, RECORD_ACCESS_CONTROL_POINT
from firmware_bridge.devices.notice_board import NoticeBoard
from firmware_bridge.devices.profile import Offer, Option, OptionValue, Profile
from firmware_bridge.devices.session import DeviceRefusedError, Emit, Heard, Link, LinkError, Notice
from firmware_bridge.devices.wall_clock import ZONE, WallClock
from firmware_bridge.plausible import CGM_ABOVE_MG_DL, CGM_BELOW_MG_DL, to_chunk

SILENCE_S = 10.0
AGAIN_S = 60.0
"""Somebody may measure while the link stands."""
FIRST_FILL_NS = 24 * 3600 * NS_PER_S
INTERVALS_S = (3600.0, 7200.0, 14_400.0, 21_600.0, 28_800.0, 43_200.0, 86_400.0)
GLUCOSE = Offer("glucose", "cgm", interval_s=21_600.0, interval_option="interval_s")

LAST_NUMBER = 0xFFFF
_NO_RANGES = (RacpResult.OPERATOR_NOT_SUPPORTED, RacpResult.OPERATOR_INVALID, RacpResult.OPERAND_NOT_SUPPORTED)

_IS = MeterStatus
_SPOILT = (
    _IS.MALFUNCTION
    | _IS.SAMPLE_TOO_SMALL
    | _IS.STRIP_INSERTION_ERROR
    | _IS.STRIP_TYPE_WRONG
    | _IS.TEMPERATURE_TOO_HIGH
    | _IS.TEMPERATURE_TOO_LOW
    | _IS.STRIP_PULLED_EARLY
    | _IS.DEVICE_FAULT
)


class GlucoseMeterSession:
    """One meter. Each record is handed out once, by its number; of the first time, those of the last day."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        options: Mapping[str, OptionValue],
        emit: Emit,
        *,
        now_s: Callable[[], float] = time.time,
        silence_s: float = SILENCE_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._stream = streams[GLUCOSE.channel]
        self._clock = WallClock(str(options[ZONE.name]), now_s)
        self._emit, self._now_s, self._silence_s, self._again_s = emit, now_s, silence_s, again_s
        self._board = NoticeBoard()
        self._last: int | None = None
        """All records up to this number were had."""
        self._handed: set[int] = set()
        """Numbers of later ones that were had."""
        self._asked = RacpOperator.NONE
        self._came: int | None = None
        """Number of the record that came last."""
        self._answer: RacpResult | None = None
        self._news = asyncio.Event()

    async def start(self, link: Link) -> None:
        self._news = asyncio.Event()
        await self._clock.meet(link)
        if not self._clock.is_known:
            raise DeviceRefusedError(
                f'it does not say in which time zone its clock is: the option "{ZONE.name}" says it'
            )
        await link.subscribe(GLUCOSE_MEASUREMENT)
        await link.subscribe(RECORD_ACCESS_CONTROL_POINT)

    async def tend(self, link: Link) -> None:
        """Have the records that are new, again and again. Raises LinkError, DeviceRefusedError."""
        while True:
            if self._last is None:
                await self._have(link, RacpOperator.ALL)
            else:
                await self._have_later(link, self._last)
            await asyncio.sleep(self._again_s)

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic == GLUCOSE_MEASUREMENT:
            self._news.set()
            self._record(GlucoseMeasurement.from_bytes(data), arrival)
        elif characteristic == RECORD_ACCESS_CONTROL_POINT:
            said = racp_from_bytes(data)
            if isinstance(said, RacpAnswer) and said.request in (RacpOp.REPORT, None):
                self._answer = said.result
                self._news.set()

    async def stop(self, link: Link) -> None:
        """Nothing to do: it stores what nobody hears."""

    async def _have_later(self, link: Link, last: int) -> None:
        """The records after number `last`; all, where the meter counts anew, as with a new battery."""
        if last < LAST_NUMBER:
            await self._have(link, RacpOperator.AT_LEAST, last + 1)
        if self._last == last:
            self._came = None
            await self._report(link, RacpOperator.LAST)
            if self._came is not None and self._came < last:
                self._last = None
                await self._have(link, RacpOperator.ALL)

    async def _have(self, link: Link, operator: RacpOperator, *bounds: int) -> None:
        """The records asked for, and that these were all."""
        result = await self._report(link, operator, *bounds)
        if result in _NO_RANGES and bounds:
            result = await self._report(link, RacpOperator.ALL)
        if result not in (RacpResult.SUCCESS, RacpResult.NO_RECORDS):
            raise DeviceRefusedError(f"it does not give its records: {result.name.lower().replace('_', ' ')}")
        if self._handed:
            self._last = max(self._handed)
            self._handed.clear()

    async def _report(self, link: Link, operator: RacpOperator, *bounds: int) -> RacpResult:
        """Ask, and wait until the meter says how it ended; raises LinkError where it stops in between."""
        self._answer, self._asked = None, operator
        await link.write(RECORD_ACCESS_CONTROL_POINT, bytes(RacpRequest(RacpOp.REPORT, operator, bounds)))
        while self._answer is None:
            try:
                async with asyncio.timeout(self._silence_s):
                    await self._news.wait()
            except TimeoutError:
                raise LinkError("timeout", "its records stopped coming") from None
            self._news.clear()
        return self._answer

    def _record(self, said: GlucoseMeasurement, arrival: Arrival) -> None:
        self._came = said.sequence
        if said.sequence in self._handed or (self._last is not None and said.sequence <= self._last):
            if self._asked is not RacpOperator.LAST:
                self._emit(Heard(dropped=("duplicate",)))
            return
        t_ns = min(arrival.utc_ns, self._clock.utc_ns(said.local_since_epoch_s()))
        self._handed.add(said.sequence)
        why = _why_left_out(said)
        if not why and self._last is None and t_ns < arrival.utc_ns - FIRST_FILL_NS:
            why = "old"
        notices = self._board.put(*in_words(said.status or _IS(0)))
        if why:
            self._emit(Heard(notices=notices, dropped=(why,)))
            return
        try:
            self._emit(Heard((to_chunk(self._stream, t_ns, np.array([[_mg_dl(said)]]), unit="mg/dL"),), notices))
        except DecodeError as error:
            self._emit(Heard(notices=notices, refused=(error,)))


def in_words(said: MeterStatus) -> tuple[Notice, Notice]:
    """What a meter says of itself with a record, for a person: about the meter, its battery."""
    broken = "the meter is broken" if said & (_IS.MALFUNCTION | _IS.DEVICE_FAULT) else ""
    low = "its battery is low" if said & _IS.BATTERY_LOW else ""
    return Notice("sensor", broken, trouble=bool(broken)), Notice("battery", low, trouble=bool(low))


def _why_left_out(said: GlucoseMeasurement) -> str:
    sample = said.sample
    if sample is None or _mg_dl(said) is None:
        return "no reading"
    if sample.kind == SampleType.CONTROL_SOLUTION or sample.location == SampleLocation.CONTROL_SOLUTION:
        return "control solution"
    return "untrusted" if (said.status or _IS(0)) & _SPOILT else ""


def _mg_dl(said: GlucoseMeasurement) -> float | None:
    """The reading; beyond the meter's range, what stands for that."""
    status, mg_dl = said.status or _IS(0), said.mg_dl
    special = said.sample.concentration.special if said.sample is not None else None
    if status & _IS.BELOW_DEVICE_RANGE or special is Special.NEGATIVE_INFINITY:
        return min(CGM_BELOW_MG_DL, CGM_BELOW_MG_DL if mg_dl is None else mg_dl)
    if status & _IS.ABOVE_DEVICE_RANGE or special is Special.POSITIVE_INFINITY:
        return max(CGM_ABOVE_MG_DL, CGM_ABOVE_MG_DL if mg_dl is None else mg_dl)
    return mg_dl


PROFILE = Profile(
    id="glucose-meter",
    name="Glucose meter",
    words="A meter of the Bluetooth Glucose profile: its finger-sticks, each when the meter is in reach.",
    offers=(GLUCOSE,),
    open=GlucoseMeterSession,
    services=frozenset({GLUCOSE_SERVICE}),
    characteristics=frozenset({GLUCOSE_MEASUREMENT, RECORD_ACCESS_CONTROL_POINT}),
    bonds=True,
    options=(Option(GLUCOSE.interval_option, 21_600.0, "Seconds between two readings.", INTERVALS_S), ZONE),
    verified="measurements and record requests: worked bytes",
)
