"""A virtual Polar H10: the heart rate as any strap, ECG at 130 Hz and acceleration over Polar Measurement Data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bumble import gatt

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs import polar_pmd
from firmware_bridge.codecs.polar_pmd import EPOCH_NS, MIN_MTU, PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_control import (
    PmdAnswer,
    PmdOffers,
    PmdOp,
    PmdRequest,
    PmdSetting,
    PmdSettingType,
    PmdStatus,
    PmdStopped,
    values_of,
)
from firmware_bridge.codecs.polar_pmd_samples import ecg_frame, frame_of
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import NS_PER_S, DeviceTime
from firmware_bridge.emulator.heart_rate_strap import HEART_RATE, HeartRateStrap
from firmware_bridge.emulator.peripheral import About
from firmware_bridge.emulator.signal import Counts, Repeated, Signal

SWITCHED_ON_NS = 1_546_300_800 * NS_PER_S - EPOCH_NS
"""2019-01-01 since 2000-01-01: where its clock stands when it was switched on."""
ECG_HZ, ECG_SAMPLES = 130, 73
ACC_SAMPLES = 36
_POLAR = 0xFEEE
_ACC_RAW_16_BIT = 1
_ACC_RATES_HZ = (25, 50, 100, 200)


def _acc_frame(last_ns: int, mg: Counts) -> PmdFrame:
    return frame_of(PmdType.ACC, last_ns, mg, _ACC_RAW_16_BIT)


@dataclass(slots=True)
class _Measurement:
    """One thing that it measures. Sample number `at` was taken at `at_ns`, and measuring goes on whoever listens."""

    signal: Signal
    frame_samples: int
    frame: Callable[[int, Counts], PmdFrame]
    offers: tuple[PmdSetting, ...]
    at: int = 0
    at_ns: int | None = None
    rate_hz: int = 0
    sending: asyncio.Task[None] | None = None


class PolarH10(HeartRateStrap):
    """Plays `ecg_uv`, µV at 130 Hz with shape (n, 1), from its first start on; lies still where nothing is given.

    A strap that is out of reach goes on through the recording: what falls into a hole is not sent later.
    """

    advertised: tuple[int | str, ...] = (HEART_RATE, _POLAR)

    def __init__(self, air: Air, address: str, *, ecg_uv: Signal | None = None, **more: Any) -> None:
        name = f"Polar H10 {address.replace(':', '')[-8:]}"
        more.setdefault("time", DeviceTime(SWITCHED_ON_NS))
        super().__init__(air, address, About(name, "Polar Electro Oy", "H10", "5.0.0"), **more)
        self._measurements = {
            PmdType.ECG: _Measurement(
                ecg_uv or Repeated(np.zeros(ECG_HZ)), ECG_SAMPLES, ecg_frame, _offers([ECG_HZ], 14)
            ),
            PmdType.ACC: _Measurement(
                Repeated([[0, 0, 1000]]), ACC_SAMPLES, _acc_frame, (*_offers(_ACC_RATES_HZ, 16), _range(2, 4, 8))
            ),
        }
        self.in_charger = False
        self.frames = 0
        """Frames of samples made so far, whatever became of them."""
        self.started = asyncio.Event()
        """It has been told to measure something, for the first time."""
        self.ended = asyncio.Event()
        """A signal has come to its end."""
        offers = PmdOffers(sum(1 << kind for kind in self._measurements), bytes(15))
        self._control = self.control_point(polar_pmd.CONTROL_POINT, self._asked, bytes(offers))
        self._data = self.source(polar_pmd.DATA)

    @property
    def ecg_s(self) -> float:
        """Where it is in its recording of ECG, in s; 0 before the first start."""
        ecg = self._measurements[PmdType.ECG]
        return 0.0 if ecg.at_ns is None else ecg.at / ECG_HZ + (self.time.now_ns() - ecg.at_ns) / NS_PER_S

    def services(self) -> Sequence[gatt.Service]:
        return [*super().services(), self.service(polar_pmd.SERVICE, self._control, self._data)]

    async def switch_off_and_on(self) -> None:
        """Its clock begins anew; the heart that it listens to does not."""
        await self.disconnect()
        now_ns = self.time.now_ns()
        self.time.set(SWITCHED_ON_NS)
        for one in self._measurements.values():
            if one.at_ns is not None:
                one.at += round((now_ns - one.at_ns) * one.rate_hz / NS_PER_S)
                one.at_ns = SWITCHED_ON_NS

    async def stop_on_its_own(self, measurement: PmdType) -> None:
        """It ends a measurement without being asked to."""
        self._stop(self._measurements[measurement])
        self.answer(self._control, bytes(PmdStopped((measurement,))))

    def _asked(self, data: bytes) -> None:
        self.answer(self._control, self._answer(data))

    def _answer(self, data: bytes) -> bytes:
        op = data[0] if data else 0
        kind = data[1] & 0x3F if len(data) > 1 else 0
        if op not in set(PmdOp):
            return bytes([0xF0, op, kind, PmdStatus.INVALID_OP])
        if kind not in self._measurements:
            return bytes([0xF0, op, kind, PmdStatus.INVALID_MEASUREMENT])
        try:
            request = PmdRequest.from_bytes(data)
        except DecodeError:
            return bytes([0xF0, op, kind, PmdStatus.INVALID_PARAMETER])
        one = self._measurements[request.measurement]
        if request.op is PmdOp.SETTINGS:
            return bytes(PmdAnswer(request.op, request.measurement, PmdStatus.SUCCESS, one.offers))
        if request.op is PmdOp.START:
            return bytes(PmdAnswer(request.op, request.measurement, self._start(one, request)))
        status = PmdStatus.ALREADY_IN_STATE if one.sending is None else PmdStatus.SUCCESS
        self._stop(one)
        return bytes(PmdAnswer(request.op, request.measurement, status))

    def _start(self, one: _Measurement, request: PmdRequest) -> PmdStatus:
        rates = values_of(request.settings, PmdSettingType.RATE_HZ)
        if one.sending is not None and not one.sending.done():
            return PmdStatus.ALREADY_IN_STATE
        if self.in_charger:
            return PmdStatus.IN_CHARGER
        if self.connection is None or self.connection.att_mtu < MIN_MTU:
            return PmdStatus.INVALID_MTU
        if len(rates) != 1 or rates[0] not in values_of(one.offers, PmdSettingType.RATE_HZ):
            return PmdStatus.INVALID_RATE
        bits = PmdSettingType.RESOLUTION_BITS
        if values_of(request.settings, bits) != values_of(one.offers, bits):
            return PmdStatus.INVALID_RESOLUTION
        one.sending = self.while_connected(self._send(one, rates[0]))
        return PmdStatus.SUCCESS

    def _stop(self, one: _Measurement) -> None:
        if one.sending is not None:
            one.sending.cancel()
            one.sending = None

    async def _send(self, one: _Measurement, rate_hz: int) -> None:
        """Frame after frame, each at the moment of its last sample, until the signal ends."""
        now_ns = self.time.now_ns()
        if one.at_ns is None:
            one.at_ns = now_ns
            self.started.set()
        one.rate_hz = rate_hz
        origin, origin_ns = one.at, one.at_ns
        start = origin + -(-(now_ns - origin_ns) * rate_hz // NS_PER_S)
        while len(counts := one.signal.between(start, start + one.frame_samples)):
            start += len(counts)
            last_ns = origin_ns + (start - 1 - origin) * NS_PER_S // rate_hz
            await self.time.until(last_ns)
            self.frames += 1
            await self.notify(self._data, bytes(one.frame(last_ns, counts)))
        self.ended.set()


def _offers(rates_hz: Sequence[int], bits: int) -> tuple[PmdSetting, ...]:
    return (
        PmdSetting(PmdSettingType.RATE_HZ, tuple(rates_hz)),
        PmdSetting(PmdSettingType.RESOLUTION_BITS, (bits,)),
    )


def _range(*full_scales_g: int) -> PmdSetting:
    return PmdSetting(PmdSettingType.RANGE, full_scales_g)
