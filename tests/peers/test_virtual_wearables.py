"""The virtual glucose sensor, oximeter, thermometer and own firmware: alone, and with the agent's source."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from bleak import BleakClient, BleakScanner
from bleak.exc import BleakGATTProtocolError

from agent.ingest.ble_bumble import bumble_backend, controller_of
from firmware_bridge.chunk import NS_PER_S
from firmware_bridge.codecs.bluetooth_cgm_control import CgmAnswer, CgmControl, CgmOp, CgmResult
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_oximeter import Oximetry
from firmware_bridge.codecs.bluetooth_racp import RacpOperator
from firmware_bridge.codecs.bluetooth_thermometer import Temperature
from firmware_bridge.devices import uuid16
from firmware_bridge.emulator import (
    Air,
    FrameFault,
    GlucoseSensor,
    OwnFirmware,
    Oximeter,
    Peripheral,
    Played,
    Sensor,
    Thermometer,
    at_rate,
)
from firmware_bridge.emulator.__main__ import KINDS
from firmware_bridge.emulator.commands import COMMANDS, obey
from tests.peers.ble_house import EPOCH_NS, LoopTime, fly, house, wearable

ADDRESS = "F0:11:22:33:44:01"
MEASUREMENT, RACP, SOCP = uuid16(0x2AA7), uuid16(0x2A52), uuid16(0x2AAC)
MG_DL = [100.0 + index % 50 for index in range(288)]
BACKFILL_MIN = 3 * 60


class Ears:
    """A client, and what it hears of each characteristic."""

    def __init__(self, client: BleakClient) -> None:
        self.client = client
        self._came: dict[str, asyncio.Queue[bytes]] = {}

    async def listen(self, uuid: str) -> None:
        queue = self._came[uuid] = asyncio.Queue()
        await self.client.start_notify(uuid, lambda _, data: queue.put_nowait(bytes(data)))

    async def ask(self, uuid: str, request: str) -> str:
        await self.client.write_gatt_char(uuid, bytes.fromhex(request), response=True)
        return (await self.next(uuid)).hex()

    async def next(self, uuid: str) -> bytes:
        return await self._came[uuid].get()

    def heard(self, uuid: str) -> list[bytes]:
        queue = self._came[uuid]
        return [queue.get_nowait() for _ in range(queue.qsize())]


@asynccontextmanager
async def paired(air: Air, device: Peripheral) -> AsyncIterator[Ears]:
    backend = bumble_backend(air.adapter)
    async with device, BleakClient(device.address, backend=backend.client) as client:
        if device.bonds:
            await client.pair()
        yield Ears(client)
    await backend.close()


def sensor(air: Air, *, began_min: int, **more: Any) -> GlucoseSensor:
    start_ns = EPOCH_NS - began_min * 60 * NS_PER_S
    return GlucoseSensor(air, ADDRESS, time=LoopTime(EPOCH_NS), mg_dl=MG_DL, session_start_ns=start_ns, **more)


def test_a_glucose_sensor_says_what_it_is_and_answers_for_what_it_stored() -> None:
    async def scenario() -> None:
        air = Air()
        async with paired(air, sensor(air, began_min=60)) as ears:
            feature = CgmFeature.from_bytes(await ears.client.read_gatt_char(uuid16(0x2AA8)))
            start = CgmSessionStart.from_bytes(await ears.client.read_gatt_char(uuid16(0x2AAA)))
            status = CgmStatus.from_bytes(await ears.client.read_gatt_char(uuid16(0x2AA9)))
            assert feature.secured
            assert start.utc_ns() == EPOCH_NS - 3600 * NS_PER_S
            assert status.offset_min == 60
            for uuid in (MEASUREMENT, RACP, SOCP):
                await ears.listen(uuid)
            assert await ears.ask(RACP, "0401") == "05000d00"  # 13 records: minutes 0 to 60
            assert await ears.ask(RACP, "0104011e002800") == "06000101"
            records = [CgmMeasurement.from_bytes(one) for one in ears.heard(MEASUREMENT)]
            assert [(one.offset_min, one.mg_dl) for one in records] == [(30, 106.0), (35, 107.0), (40, 108.0)]
            assert await ears.ask(RACP, "010301ff00") == "06000106"  # nothing from minute 255 on
            assert await ears.ask(RACP, "0300") == "06000301"
            assert await ears.ask(RACP, "0201") == "06000202"
            interval = CgmControl.from_bytes(
                bytes.fromhex(await ears.ask(SOCP, bytes(CgmControl(CgmOp.GET_INTERVAL, secured=True)).hex()))
            )
            assert (interval.op, interval.operand) == (CgmOp.INTERVAL, 5)
            stopped = await ears.ask(SOCP, bytes(CgmControl(CgmOp.STOP_SESSION, secured=True)).hex())
            assert CgmControl.from_bytes(bytes.fromhex(stopped)).operand == CgmAnswer(
                CgmOp.STOP_SESSION, CgmResult.SUCCESS
            )
            with pytest.raises(BleakGATTProtocolError):
                await ears.ask(SOCP, "02")  # without its CRC

    fly(scenario())


def test_a_glucose_sensor_out_of_range_for_three_hours_fills_in_what_it_measured() -> None:
    async def scenario() -> None:
        air = Air()
        async with (
            sensor(air, began_min=30) as glucose,
            house(air, wearable("cgm", ADDRESS)) as inside,
        ):
            await inside.until(lambda one: len(one.chunks()) == 7 + 2, 11 * 60)
            await glucose.go_away()
            await asyncio.sleep(BACKFILL_MIN * 60)
            assert len(inside.chunks()) == 9
            await glucose.come_back()
            await inside.until(lambda one: len(one.chunks()) == 9 + BACKFILL_MIN // 5 + 1, 6 * 60)
            assert glucose.reported == 7 + BACKFILL_MIN // 5
        times_ns = [chunk.t0_ns for chunk in inside.chunks()]
        values = [round(float(chunk.samples[0, 0]), 3) for chunk in inside.chunks()]
        start_ns = EPOCH_NS - 30 * 60 * NS_PER_S
        assert times_ns == [start_ns + index * 300 * NS_PER_S for index in range(len(times_ns))]
        assert values == MG_DL[: len(values)]

    fly(scenario())


@pytest.mark.parametrize(
    "operators", [set(RacpOperator), {RacpOperator.ALL, RacpOperator.AT_LEAST}], ids=["all", "no ranges"]
)
def test_a_glucose_sensor_without_ranges_or_crc_or_time_is_understood_too(operators: set[RacpOperator]) -> None:
    async def scenario() -> None:
        air = Air()
        glucose = sensor(air, began_min=60, secured=False, operators=operators)
        glucose.knows_time = False
        async with glucose, house(air, wearable("cgm", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) == 14, 6 * 60)
            assert glucose.knows_time
        assert [round(float(chunk.samples[0, 0]), 3) for chunk in inside.chunks()] == MG_DL[:14]

    fly(scenario())


def test_an_oximeter_and_a_thermometer_say_what_they_play() -> None:
    async def scenario() -> None:
        air = Air()
        async with paired(air, Oximeter(air, ADDRESS, readings=[(98, 65), (91.5, 110)], time=LoopTime())) as ears:
            await ears.listen(uuid16(0x2A5F))
            heard = [Oximetry.from_bytes(await ears.next(uuid16(0x2A5F))).normal for _ in range(2)]
            assert {(one.spo2.value, one.pulse_rate.value) for one in heard} == {(98.0, 65.0), (91.5, 110.0)}
        async with paired(air, Thermometer(air, ADDRESS, celsius=[38.2], time=LoopTime())) as ears:
            await ears.listen(uuid16(0x2A1C))
            assert Temperature.from_bytes(await ears.next(uuid16(0x2A1C))).celsius == pytest.approx(38.2)

    fly(scenario())


ECG = np.random.default_rng(3).integers(-2000, 2000, 250 * 60)


def own(air: Air) -> OwnFirmware:
    return OwnFirmware(air, ADDRESS, [Sensor(at_rate(3, "ecg", "uV", 250), Played(ECG), scale=5.0)], time=LoopTime())


def test_what_our_own_firmware_loses_on_the_way_it_sends_again() -> None:
    async def scenario() -> None:
        air = Air()
        async with own(air) as device, house(air, wearable("vagus-firmware", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) >= 5)
            device.faults.once(FrameFault.LOSE, FrameFault.LOSE)
            await inside.until(lambda one: len(one.chunks()) >= 30)
            assert device.resent == 2
        chunks = sorted(inside.chunks(), key=lambda chunk: chunk.seq or 0)
        assert [chunk.seq for chunk in chunks] == list(range(chunks[0].seq or 0, (chunks[0].seq or 0) + len(chunks)))
        heard = np.concatenate([chunk.samples[:, 0] for chunk in chunks])
        first = (chunks[0].seq or 0) * 50
        np.testing.assert_allclose(heard, ECG[first : first + len(heard)] * 0.005, rtol=1e-6)

    fly(scenario())


def test_our_own_firmware_has_another_boot_id_after_a_restart() -> None:
    async def scenario() -> None:
        air = Air()
        async with own(air) as device, house(air, wearable("vagus-firmware", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) >= 20)
            before = len(inside.chunks())
            await device.reboot()
            await inside.until(lambda one: len(one.chunks()) >= before + 5)
        boots = [chunk.boot_id for chunk in inside.chunks()]
        assert boots == sorted(boots)
        assert len(set(boots)) == 2

    fly(scenario())


@pytest.mark.parametrize("command", [*COMMANDS, "battery 12"])
def test_whatever_is_done_to_a_wearable_and_undone_it_sends_again(command: str) -> None:
    async def scenario() -> None:
        air = Air()
        async with own(air) as device, house(air, wearable("vagus-firmware", ADDRESS)) as inside:
            await inside.until(lambda one: len(one.chunks()) > 5)
            assert await obey(device, command)
            await asyncio.sleep(3)
            await obey(device, "well")
            await obey(device, "back")
            count = len(inside.chunks())
            await inside.until(lambda one: len(one.chunks()) > count + 5)
            if command == "battery 12":
                assert inside.status().battery_percent == 12
            with pytest.raises(ValueError, match="one of away"):
                await obey(device, f"{command} at once")

    fly(scenario())


def test_virtual_wearables_can_be_worn_without_the_demo() -> None:
    command = [sys.executable, "-m", "firmware_bridge.emulator", *KINDS, "--port", "0"]

    async def scenario() -> None:
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            assert program.stdout is not None
            assert program.stdin is not None
            lines = [(await program.stdout.readline()).decode() for _ in range(len(KINDS) + 3)]
            controller = controller_of(lines[-2].strip().partition("=")[2])
            backend = bumble_backend(controller)
            found = await BleakScanner.discover(1.0, backend=backend.scanner)
            program.stdin.write(b"cgm away\ncgm dance\nflute away\n")
            said = [(await program.stdout.readline()).decode() for _ in range(3)]
            assert said[0] == "cgm: out of range\n"
            assert said[1].startswith("cgm: one of away, back")
            assert said[2].startswith("flute: one of polar-h10")
            left = await BleakScanner.discover(1.0, backend=backend.scanner)
            await backend.close()
        finally:
            program.terminate()
            await program.wait()
        assert {device.address for device in found} == {line.split('"')[3] for line in lines[: len(KINDS)]}
        assert {device.name for device in found} - {device.name for device in left} == {"CGM 0815"}

    asyncio.run(asyncio.wait_for(scenario(), 30))
