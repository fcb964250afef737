"""Wearables that have no place in the emulator, made of its parts: the conversation with each over real ATT."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from cobs import cobs

pytest.importorskip("bumble", reason="bumble is not installed")

from firmware_bridge.codecs import movesense, nordic_uart, polar_pmd
from firmware_bridge.codecs.bluetooth_glucose import GlucoseMeasurement, GlucoseSample
from firmware_bridge.codecs.bluetooth_glucose_sample import SampleLocation, SampleType
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat
from firmware_bridge.codecs.bluetooth_racp import (
    RacpAnswer,
    RacpOp,
    RacpOperator,
    RacpRequest,
    RacpResult,
    racp_from_bytes,
)
from firmware_bridge.codecs.movesense import (
    MovesenseAnswer,
    MovesenseData,
    MovesenseSubscribe,
    command_from_bytes,
)
from firmware_bridge.codecs.polar_pmd import PmdType
from firmware_bridge.codecs.polar_pmd_control import (
    PmdAnswer,
    PmdOffers,
    PmdOp,
    PmdRequest,
    PmdSetting,
    PmdSettingType,
    PmdStatus,
)
from firmware_bridge.codecs.polar_pmd_ppi import PulseInterval, ppi_frame
from firmware_bridge.codecs.polar_pmd_samples import frame_of
from firmware_bridge.devices.wall_clock import now_as_date_time
from firmware_bridge.emulator import Air
from firmware_bridge.emulator.peripheral import About, Peripheral
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from firmware_bridge.resend import ResendRequest
from firmware_bridge.serial_line import to_line
from tests.peers.ble_house import LoopTime, fly, house, wall_ns, wearable

ADDRESS = "F0:11:22:33:44:07"


class GlucoseMeter(Peripheral):
    """Gives the finger-sticks it has stored, to whoever is paired with it."""

    advertised = (0x1808,)

    def __init__(self, air: Air) -> None:
        super().__init__(air, ADDRESS, About("Meter", "Example", "GM", "1"), time=LoopTime(wall_ns()), bonds=True)
        self.records: list[GlucoseMeasurement] = []
        self._measurement = self.source(0x2A18)
        self._control = self.control_point(0x2A52, self._asked)
        self._service = self.service(0x1808, self._measurement, self._control)

    def services(self) -> list[Any]:
        return [self._service]

    def measure(self, mg_dl: float) -> None:
        sample = GlucoseSample(Sfloat.of(mg_dl / 1e5), SampleType.CAPILLARY_WHOLE_BLOOD, SampleLocation.FINGER)
        taken = now_as_date_time(self.time.now_ns() / 1e9 + 3600)
        self.records.append(GlucoseMeasurement(len(self.records) + 1, taken, 0, sample))

    def _asked(self, data: bytes) -> None:
        request = racp_from_bytes(data)
        assert isinstance(request, RacpRequest)
        found = [one for one in self.records if not request.bounds or one.sequence >= request.bounds[0]]
        self.while_connected(self._report(found[-1:] if request.operator is RacpOperator.LAST else found))

    async def _report(self, found: list[GlucoseMeasurement]) -> None:
        for one in found:
            await self.notify(self._measurement, bytes(one))
        result = RacpResult.SUCCESS if found else RacpResult.NO_RECORDS
        self.answer(self._control, bytes(RacpAnswer(RacpOp.REPORT, result)))


def test_a_glucose_meter_is_paired_with_and_gives_each_finger_stick_once() -> None:
    async def scenario() -> None:
        air = Air()
        config = wearable("glucose-meter", ADDRESS, more='options = { zone = "+01:00" }')
        async with GlucoseMeter(air) as meter, house(air, config) as inside:
            meter.measure(110)
            await asyncio.sleep(600)
            meter.measure(62)
            await inside.until(lambda one: len(one.chunks()) == 2, 120)
            await meter.disconnect()
            meter.measure(75)
            await inside.until(lambda one: len(one.chunks()) == 3, 120)
            taken = [chunk.t0_ns for chunk in inside.chunks()]
            assert inside.status().state == "connected"
        assert [float(chunk.samples[0, 0]) for chunk in inside.chunks()] == [110.0, 62.0, 75.0]
        assert taken[1] - taken[0] == 600 * 10**9
        assert inside.chunks()[0].stream.key == "p1/glucose-meter/glucose"

    fly(scenario())


class Movesense(Peripheral):
    """Sends ECG to whoever has subscribed, as a ramp that says which sample it is."""

    advertised = (0xFDF3,)
    PACKETS = 20

    def __init__(self, air: Air) -> None:
        super().__init__(air, ADDRESS, About("Movesense 1", "Example", "MD", "1"), time=LoopTime(5_000_000_000))
        self._data = self.source(movesense.DATA)
        commands = self.setting(movesense.COMMANDS, lambda: b"", self._asked)
        self._service = self.service(movesense.SERVICE, self._data, commands)

    def services(self) -> list[Any]:
        return [self._service]

    def _asked(self, data: bytes) -> None:
        command = command_from_bytes(data)
        assert command == MovesenseSubscribe(1, "Meas/ECG/125")
        self.while_connected(self._send())

    async def _send(self) -> None:
        await self.notify(self._data, bytes(MovesenseAnswer(1, 200)))
        first_ms = self.time.now_ns() // 1_000_000
        for packet in range(self.PACKETS):
            await self.time.until((first_ms + 128 * (packet + 1)) * 1_000_000)
            counts = np.arange(16 * packet, 16 * packet + 16).reshape(-1, 1) * 100
            await self.notify(self._data, bytes(MovesenseData.of_ecg(1, first_ms + 128 * packet, counts)))


def test_a_movesense_is_subscribed_to_and_its_ecg_follows_on() -> None:
    async def scenario() -> None:
        air = Air()
        async with Movesense(air), house(air, wearable("movesense", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) == Movesense.PACKETS)
            chunks = inside.chunks()
        samples = np.concatenate([chunk.samples for chunk in chunks])
        assert np.array_equal(samples[:, 0], (np.arange(320) * 100 * movesense.ECG_LSB_MV).astype(np.float32))
        assert [chunk.seq for chunk in chunks] == list(range(Movesense.PACKETS))

    fly(scenario())


class VeritySense(Peripheral):
    """An armband: light in differences, and pulse intervals."""

    advertised = (0xFEEE,)
    PACKETS = 150

    def __init__(self, air: Air) -> None:
        super().__init__(air, ADDRESS, About("Polar Sense A1", "Polar", "Sense", "1"), time=LoopTime(10**18))
        offers = PmdOffers(1 << PmdType.PPG | 1 << PmdType.PPI, bytes(15))
        self._control = self.control_point(polar_pmd.CONTROL_POINT, self._asked, bytes(offers))
        self._data = self.source(polar_pmd.DATA)
        self._pmd = self.service(polar_pmd.SERVICE, self._control, self._data)
        self._heart = self.service(0x180D, self.source(0x2A37))

    def services(self) -> list[Any]:
        return [self._pmd, self._heart]

    def _asked(self, data: bytes) -> None:
        request = PmdRequest.from_bytes(data)
        rate = (PmdSetting(PmdSettingType.RATE_HZ, (55,)), PmdSetting(PmdSettingType.CHANNELS, (4,)))
        settings = rate if request.op is PmdOp.SETTINGS else ()
        self.answer(self._control, bytes(PmdAnswer(request.op, request.measurement, PmdStatus.SUCCESS, settings)))
        if request.op is PmdOp.START:
            self.while_connected(self._light() if request.measurement is PmdType.PPG else self._pulse())

    async def _light(self) -> None:
        began_ns = self.time.now_ns()
        for packet in range(self.PACKETS):
            last_ns = began_ns + round((11 * (packet + 1) - 1) / 55 * 1e9)
            await self.time.until(last_ns)
            ramp = np.arange(11 * packet, 11 * packet + 11)[:, None] * np.array([1, -300, 3_000, 0])
            await self.notify(self._data, bytes(frame_of(PmdType.PPG, last_ns, ramp, 0, compressed=True)))

    async def _pulse(self) -> None:
        await asyncio.sleep(25)
        await self.notify(self._data, bytes(ppi_frame(0, (PulseInterval(0, 750, 5, 6), PulseInterval(0, 850, 5, 6)))))


def test_an_armband_gives_light_to_the_bit_and_the_rate_of_pulse_intervals() -> None:
    async def scenario() -> None:
        air = Air()
        config = wearable("polar-verity-sense", ADDRESS, more='streams = ["ppg", "pulse"]')
        async with VeritySense(air), house(air, config) as inside:
            await inside.until(lambda one: len(one.chunks("ppg")) == VeritySense.PACKETS)
            light, (pulse,) = inside.chunks("ppg"), inside.chunks("pulse")
        samples = np.concatenate([chunk.samples for chunk in light])
        assert np.array_equal(samples, np.arange(11 * VeritySense.PACKETS)[:, None] * np.array([1, -300, 3_000, 0]))
        assert [chunk.seq for chunk in light] == list(range(VeritySense.PACKETS))
        assert pulse.samples.tolist() == [[75.0]]

    fly(scenario())


class UartBoard(Peripheral):
    """Our own frames as lines over the Nordic UART service, in notifications of 20 bytes; one is lost at first."""

    advertised = (nordic_uart.SERVICE,)

    def __init__(self, air: Air) -> None:
        super().__init__(air, ADDRESS, About("Board", "Example", "B", "1"), time=LoopTime())
        self._tx = self.source(nordic_uart.TX)
        self._service = self.service(nordic_uart.SERVICE, self._tx, self.sink(nordic_uart.RX, self._received))
        self._sent: dict[int, Frame] = {}

    def services(self) -> list[Any]:
        return [self._service]

    def _received(self, data: bytes) -> None:
        request = ResendRequest.from_bytes(cobs.decode(data[:-1]))
        for sequence in range(request.first, request.first + request.count):
            self.while_connected(self._line(self._sent[sequence]))

    async def play(self) -> None:
        began_ns = self.time.now_ns()
        for sequence in range(40):
            samples = np.arange(25 * sequence, 25 * sequence + 25, dtype="<i2").tobytes()
            self._sent[sequence] = Frame(
                1, FrameFlag.NONE, SampleFormat.INT16, 1, "mV", 9, sequence * 100_000, sequence, 250_000, 0.001, samples
            )
            await self.time.until(began_ns + 100_000_000 * (sequence + 1))
            if sequence != 20:
                await self._line(self._sent[sequence])

    async def _line(self, frame: Frame) -> None:
        line = to_line(frame)
        for at in range(0, len(line), 20):
            await self.notify(self._tx, line[at : at + 20])


def test_frames_over_nordic_uart_come_whole_and_what_is_lost_is_asked_for() -> None:
    async def scenario() -> None:
        air = Air()
        async with UartBoard(air), house(air, wearable("vagus-firmware-uart", ADDRESS)) as inside:
            await inside.until(lambda one: any(chunk.seq == 39 for chunk in one.chunks()))
            sequences = [chunk.seq for chunk in inside.chunks()]
        first = min(sequence for sequence in sequences if sequence is not None)
        assert first < 20, "it had begun to listen before the loss"
        assert sequences != sorted(sequences, key=lambda one: one or 0), "the lost one came late"
        assert sorted(sequence for sequence in sequences if sequence is not None) == list(range(first, 40))

    fly(scenario())
