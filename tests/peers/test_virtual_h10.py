"""The virtual Polar H10 as bleak's client sees it: its control point, its samples to the bit, and its faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from bleak import BleakClient
from bleak.exc import BleakGATTProtocolError

from agent.ingest.ble_bumble import bumble_backend
from firmware_bridge.chunk import NS_PER_S
from firmware_bridge.codecs import polar_pmd
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_control import PmdOffers
from firmware_bridge.codecs.polar_pmd_samples import counts
from firmware_bridge.emulator import Air, FrameFault, Played, PolarH10
from firmware_bridge.emulator.polar_h10 import SWITCHED_ON_NS
from tests.peers.ble_house import LoopTime, fly

ADDRESS = "D0:9E:1A:00:00:10"
RECORDING = np.random.default_rng(7).integers(-30_000, 30_000, 130 * 60)
START_ECG = bytes.fromhex("02000001820001010E00")


@dataclass
class Listener:
    """A client that has subscribed to the strap, and what came."""

    client: BleakClient
    answers: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    frames: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def ask(self, request: bytes) -> bytes:
        await self.client.write_gatt_char(polar_pmd.CONTROL_POINT, request, response=True)
        return await self.answers.get()

    async def next(self, count: int) -> list[bytes]:
        return [await self.frames.get() for _ in range(count)]


@asynccontextmanager
async def connected(strap: PolarH10, air: Air) -> AsyncIterator[Listener]:
    backend = bumble_backend(air.adapter)
    async with BleakClient(strap.address, backend=backend.client) as client:
        listener = Listener(client)
        await client.start_notify(polar_pmd.CONTROL_POINT, lambda _, data: listener.answers.put_nowait(bytes(data)))
        await client.start_notify(polar_pmd.DATA, lambda _, data: listener.frames.put_nowait(bytes(data)))
        yield listener
    await backend.close()


def strap_of(air: Air) -> PolarH10:
    """A strap that plays the recording."""
    return PolarH10(air, ADDRESS, ecg_uv=Played(RECORDING), time=LoopTime(SWITCHED_ON_NS))


def samples(frames: list[bytes]) -> list[int]:
    return [int(uv) for frame in frames for uv in counts(PmdFrame.from_bytes(frame))[:, 0]]


def test_it_offers_and_answers_as_the_worked_examples_do() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            offers = PmdOffers.from_bytes(await listener.client.read_gatt_char(polar_pmd.CONTROL_POINT))
            assert offers.measurements == {PmdType.ECG, PmdType.ACC}
            assert (await listener.ask(b"\x01\x00")).hex() == "f00100000000018200" + "01010e00"
            assert (await listener.ask(START_ECG)).hex() == "f002000000"
            assert (await listener.ask(START_ECG))[3] == 6
            assert (await listener.ask(b"\x03\x00")).hex() == "f003000000"
            assert (await listener.ask(b"\x02\x09"))[3] == 2
            assert (await listener.ask(b"\x02\x00\x00\x01\xfa\x00"))[3] == 8
            assert (await listener.ask(b"\x02\x00\x00"))[3] == 5
            assert (await listener.ask(b"\x07\x00"))[3] == 1
            strap.in_charger = True
            assert (await listener.ask(START_ECG))[3] == 13

    fly(scenario())


def test_it_does_not_start_over_packets_too_small_for_its_frames() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap:
            strap.device.gatt_server.max_mtu = 185
            async with connected(strap, air) as listener:
                assert listener.client.mtu_size == 185
                assert (await listener.ask(START_ECG))[3] == 10

    fly(scenario())


def test_every_sample_of_a_recording_comes_to_the_bit_with_the_time_of_the_last_in_each_frame() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            await listener.ask(START_ECG)
            frames = await listener.next(-(-len(RECORDING) // 73))
            await strap.ended.wait()
            assert samples(frames) == RECORDING.tolist()
            times_ns = np.array([PmdFrame.from_bytes(frame).last_ns for frame in frames])
            assert times_ns[0] >= SWITCHED_ON_NS + 72 * NS_PER_S // 130
            np.testing.assert_allclose(np.diff(times_ns[:-1]), 73 * NS_PER_S / 130, atol=1)

    fly(scenario())


def test_what_falls_into_a_hole_is_missing_and_nothing_else() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap:
            async with connected(strap, air) as listener:
                await listener.ask(START_ECG)
                before = await listener.next(3)
                await strap.go_away()
            await strap.come_back()
            async with connected(strap, air) as listener:
                await listener.ask(START_ECG)
                after = await listener.next(3)
            last_ns, next_ns = (PmdFrame.from_bytes(frame).last_ns for frame in (before[-1], after[0]))
            first = 3 * 73 + round((next_ns - last_ns) * 130 / NS_PER_S) - 73
            assert samples(after) == RECORDING[first : first + 3 * 73].tolist()

    fly(scenario())


def test_a_strap_that_is_switched_off_and_on_counts_time_anew() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap:
            async with connected(strap, air) as listener:
                await listener.ask(START_ECG)
                before = PmdFrame.from_bytes((await listener.next(12))[-1]).last_ns
                await strap.switch_off_and_on()
            async with connected(strap, air) as listener:
                await listener.ask(START_ECG)
                assert SWITCHED_ON_NS < PmdFrame.from_bytes((await listener.next(1))[0]).last_ns < before

    fly(scenario())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (FrameFault.LOSE, [1, 2]),
        (FrameFault.DUPLICATE, [0, 0, 1]),
        (FrameFault.REORDER, [1, 0, 2]),
    ],
)
def test_frames_go_wrong_on_command(fault: FrameFault, expected: list[int]) -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            strap.faults.once(fault)
            await listener.ask(START_ECG)
            got = samples(await listener.next(len(expected)))
            assert got == [uv for at in expected for uv in RECORDING[73 * at : 73 * (at + 1)].tolist()]

    fly(scenario())


def test_a_corrupt_frame_is_another_one() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            strap.faults.once(FrameFault.DUPLICATE, FrameFault.CORRUPT)
            await listener.ask(START_ECG)
            good, twice, corrupt = await listener.next(3)
            assert good == twice
            assert corrupt not in {good, bytes(PmdFrame.from_bytes(good))}
            assert strap.faults.counts[FrameFault.CORRUPT] == 1

    fly(scenario())


def test_a_frame_is_cut_and_the_link_with_it() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            strap.faults.once(FrameFault.CUT)
            await listener.ask(START_ECG)
            assert len((await listener.next(1))[0]) == (10 + 3 * 73) // 2
            while listener.client.is_connected:
                await asyncio.sleep(0.1)

    fly(scenario())


def test_a_zombie_stays_connected_and_says_nothing() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            await listener.ask(START_ECG)
            await listener.next(1)
            strap.faults.silent = True
            frames = strap.frames
            while strap.frames < frames + 5:
                await asyncio.sleep(0.1)
            assert listener.client.is_connected
            assert listener.frames.qsize() <= 1

    fly(scenario())


def test_control_point_writes_can_be_refused_and_measurements_end_on_their_own() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, connected(strap, air) as listener:
            strap.write_error = 0x80
            with pytest.raises(BleakGATTProtocolError):
                await listener.ask(START_ECG)
            strap.write_error = None
            await listener.ask(START_ECG)
            await strap.stop_on_its_own(PmdType.ECG)
            assert await listener.answers.get() == b"\x01\x00"
            assert (await listener.ask(START_ECG))[3] == 0

    fly(scenario())


def test_after_a_firmware_update_it_may_have_other_services() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap:
            strap.services = list  # type: ignore[method-assign]
            await strap.update_firmware()
            backend = bumble_backend(air.adapter)
            async with BleakClient(ADDRESS, backend=backend.client) as client:
                assert client.services.get_characteristic(polar_pmd.DATA) is None
            await backend.close()

    fly(scenario())
