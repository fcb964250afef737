"""A virtual glucose sensor of the CGM profile: it measures and stores whether or not somebody listens.

Paired like a real one; its records are asked for over RACP; every value bears an E2E-CRC where it says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bumble import gatt

from firmware_bridge.chunk import NS_PER_S, DecodeError
from firmware_bridge.codecs.bluetooth_cgm_annunciation import SensorCalibration, SensorStatus, SensorWarning
from firmware_bridge.codecs.bluetooth_cgm_control import CgmAnswer, CgmControl, CgmOp, CgmResult
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature, CgmFeatures
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_cgm_session_run import CgmSessionRun
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat, Special
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpCount,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import DeviceTime
from firmware_bridge.emulator.peripheral import About, Peripheral, RefusedWriteError

CGM = 0x181F
MEASUREMENT, FEATURE, STATUS, SESSION_START, SESSION_RUN, SOCP = 0x2AA7, 0x2AA8, 0x2AA9, 0x2AAA, 0x2AAB, 0x2AAC
RACP = 0x2A52
MINUTE_NS = 60 * NS_PER_S
INTERSTITIAL_FLUID, SUBCUTANEOUS = 9, 5
PROCEDURE_IN_PROGRESS, MISSING_CRC = 0xFE, 0x80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPERATORS = frozenset(RacpOperator) - {RacpOperator.NONE}


class GlucoseSensor(Peripheral):
    """Plays `mg_dl`, one reading every `interval_min` from the session's start; None is a reading that failed.

    `time` is in UTC ns, and so is `session_start_ns`, of which a sensor knows the second; what lies before now is
    stored. `secured`: whether it uses E2E-CRCs. `operators`: those of RACP that it knows.
    """

    advertised: tuple[int | str, ...] = (CGM,)

    def __init__(
        self,
        air: Air,
        address: str,
        *,
        time: DeviceTime,
        mg_dl: Sequence[float | None],
        session_start_ns: int,
        interval_min: int = 5,
        run_hours: int = 240,
        secured: bool = True,
        operators: Iterable[RacpOperator] = _OPERATORS,
        **more: Any,
    ) -> None:
        more.setdefault("bonds", True)
        super().__init__(air, address, About("CGM 0815", "Example", "CGM", "2.1"), time=time, **more)
        self._mg_dl, self._interval_min, self._secured = mg_dl, interval_min, secured
        self._operators = frozenset(operators)
        self._start_ns = session_start_ns // NS_PER_S * NS_PER_S
        self.knows_time = True
        """Whether somebody has told it what time it is."""
        self.status = SensorStatus(0)
        self.calibration = SensorCalibration(0)
        self.records: dict[int, CgmMeasurement] = {}
        """All that it has stored, by minute of the session."""
        self.reported = 0
        """Records that it sent because somebody asked for them."""
        self.has_reported = asyncio.Event()
        """All that somebody asked for was sent."""
        self._reporting: asyncio.Task[None] | None = None
        self._measurement = self.source(MEASUREMENT)
        self._racp = self.control_point(RACP, self._records_asked)
        self._socp = self.control_point(SOCP, self._session_asked)
        self._store_until_now()
        feature = CgmFeature(CgmFeatures.TREND | CgmFeatures.E2E_CRC * secured, INTERSTITIAL_FLUID, SUBCUTANEOUS)
        self._service = self.service(
            CGM,
            self._measurement,
            self.value(FEATURE, bytes(feature)),
            self.value(STATUS, lambda: bytes(self._now())),
            self.setting(SESSION_START, lambda: bytes(self._session_start()), self._told_the_time),
            self.value(SESSION_RUN, bytes(CgmSessionRun(run_hours, secured))),
            self._racp,
            self._socp,
        )

    @property
    def offset_min(self) -> int:
        """Minutes since the session began."""
        return (self.time.now_ns() - self._start_ns) // MINUTE_NS

    def services(self) -> Sequence[gatt.Service]:
        return [self._service]

    async def live(self) -> None:
        """Measure, store, and send each reading to whoever listens; ends with the readings."""
        while (minute := len(self.records) * self._interval_min) < len(self._mg_dl) * self._interval_min:
            await self.time.until(self._start_ns + minute * MINUTE_NS)
            self._store_until_now()
            if minute in self.records:
                await self.notify(self._measurement, bytes(self.records[minute]))

    def _store_until_now(self) -> None:
        for index in range(len(self.records), min(self.offset_min // self._interval_min + 1, len(self._mg_dl))):
            mg_dl, before = self._mg_dl[index], self._mg_dl[index - 1] if index else None
            trend = None
            if mg_dl is not None and before is not None:
                trend = Sfloat.of(round((mg_dl - before) / self._interval_min, 1))
            minute = index * self._interval_min
            concentration = Sfloat.of(Special.NAN if mg_dl is None else mg_dl)
            self.records[minute] = CgmMeasurement(concentration, minute, trend, secured=self._secured)

    def _now(self) -> CgmStatus:
        calibration = self.calibration
        if not self.knows_time:
            calibration |= SensorCalibration.TIME_SYNC_REQUIRED
        return CgmStatus(self.offset_min, self.status, calibration, SensorWarning(0), self._secured)

    def _session_start(self) -> CgmSessionStart:
        if not self.knows_time:
            return CgmSessionStart(DateTime(0, 0, 0, 0, 0, 0), None, None, self._secured)
        at = _EPOCH + timedelta(seconds=self._start_ns // NS_PER_S)
        return CgmSessionStart(DateTime(at.year, at.month, at.day, at.hour, at.minute, at.second), 0, 0, self._secured)

    def _told_the_time(self, data: bytes) -> None:
        """Whoever writes the session's start writes the time that it is now."""
        try:
            CgmSessionStart.from_bytes(data)
        except DecodeError:
            raise RefusedWriteError(MISSING_CRC) from None
        self.knows_time = True

    def _records_asked(self, data: bytes) -> None:
        try:
            request = racp_from_bytes(data)
        except DecodeError:
            self.answer(self._racp, bytes(RacpAnswer(None, RacpResult.OPERAND_INVALID)))
            return
        if not isinstance(request, RacpRequest):
            self.answer(self._racp, bytes(RacpAnswer(None, RacpResult.OP_NOT_SUPPORTED)))
        elif request.op is RacpOp.ABORT:
            self._abort()
        elif self._reporting is not None and not self._reporting.done():
            raise RefusedWriteError(PROCEDURE_IN_PROGRESS)
        elif request.operator not in self._operators:
            self.answer(self._racp, bytes(RacpAnswer(request.op, RacpResult.OPERATOR_NOT_SUPPORTED)))
        elif request.op is RacpOp.COUNT:
            self.answer(self._racp, bytes(RacpCount(len(self._chosen(request)))))
        elif request.op is RacpOp.REPORT:
            self._reporting = self.while_connected(self._report(self._chosen(request)))
        else:
            self.answer(self._racp, bytes(RacpAnswer(request.op, RacpResult.OP_NOT_SUPPORTED)))

    def _chosen(self, request: RacpRequest) -> list[CgmMeasurement]:
        bounds = {
            RacpOperator.AT_LEAST: (*request.bounds, 0xFFFF),
            RacpOperator.AT_MOST: (0, *request.bounds),
            RacpOperator.WITHIN: request.bounds,
        }
        lowest, highest = bounds.get(request.operator, (0, 0xFFFF))[:2]
        found = [record for minute, record in self.records.items() if lowest <= minute <= highest]
        if request.operator in {RacpOperator.FIRST, RacpOperator.LAST}:
            return found[:1] if request.operator is RacpOperator.FIRST else found[-1:]
        return found

    async def _report(self, records: Sequence[CgmMeasurement]) -> None:
        for record in records:
            self.reported += 1
            await self.notify(self._measurement, bytes(record))
            await asyncio.sleep(0)
        self.has_reported.set()
        result = RacpResult.SUCCESS if records else RacpResult.NO_RECORDS
        self.answer(self._racp, bytes(RacpAnswer(RacpOp.REPORT, result)))

    def _abort(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
        self.answer(self._racp, bytes(RacpAnswer(RacpOp.ABORT, RacpResult.SUCCESS)))

    def _session_asked(self, data: bytes) -> None:
        try:
            request = CgmControl.from_bytes(data)
        except DecodeError:
            self._answer_session(CgmOp.ANSWER, CgmAnswer(data[0] if data else 0, CgmResult.OP_NOT_SUPPORTED))
            return
        if request.secured != self._secured:
            raise RefusedWriteError(MISSING_CRC)
        result = CgmResult.SUCCESS
        if request.op is CgmOp.GET_INTERVAL:
            self._answer_session(CgmOp.INTERVAL, self._interval_min)
            return
        if request.op is CgmOp.START_SESSION:
            self.status &= ~SensorStatus.SESSION_STOPPED
        elif request.op is CgmOp.STOP_SESSION:
            self.status |= SensorStatus.SESSION_STOPPED
        else:
            result = CgmResult.OP_NOT_SUPPORTED
        self._answer_session(CgmOp.ANSWER, CgmAnswer(request.op, result))

    def _answer_session(self, op: CgmOp, operand: int | CgmAnswer) -> None:
        self.answer(self._socp, bytes(CgmControl(op, operand, self._secured)))
