"""The agent's source of wearables over real BlueZ, through what goes wrong with it on a small computer in a home."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from agent_source import listening, wearable
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from guest_bluetooth import Ward, kill_bluetoothd, power

from agent.ingest import ble_adapter, ble_device
from agent.ingest.ble import open_descriptors

pytestmark = pytest.mark.bluez

KILLED_AGENT = """
import asyncio, os, sys
from bleak import BleakClient, BleakScanner

async def main():
    await BleakClient(await BleakScanner.find_device_by_address(sys.argv[1], timeout=60)).connect()
    os._exit(7)

asyncio.run(main())
"""


SEARCH = """
import asyncio
from bleak import BleakScanner

async def main():
    async with BleakScanner():
        print("searching", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_a_strap_is_listened_to(ward: Ward) -> None:
    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
            assert {chunk.stream.kind for chunk in await agent.more(3)} == {"hr"}
            await agent.until(lambda: agent.status.battery_percent == 90 and agent.status.model)
            assert agent.status.state == "connected"
            assert agent.status.model == "Example HRM 1.0"
            assert agent.status.rssi_dbm == -50
        # BlueZ lingers for two seconds.
        await agent.until(lambda: ward.get("strap", "connection") is None)

    asyncio.run(scenario())


def test_the_ecg_of_an_h10_comes_whole(ward: Ward) -> None:
    async def scenario() -> None:
        async with listening(wearable("polar-h10", ward.wear("h10"))) as agent:
            await agent.until(lambda: len([one for one in agent.chunks if one.stream.kind == "ecg"]) >= 8)
            ecg = [one for one in agent.chunks if one.stream.kind == "ecg"]
            assert ecg[0].stream.rate_hz == 130
            counted_uv = np.rint(np.concatenate([one.samples[:, 0] for one in ecg]) * 1000)
            assert set(np.diff(counted_uv)) == {1}, "the ECG counts its samples"
            assert "malformed" not in agent.status.counts

    asyncio.run(scenario())


def test_twenty_disconnections_by_the_device_leak_no_descriptor(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ble_adapter, "EVERY_S", 0.1)
    monkeypatch.setattr(ble_device, "LONGEST_WAIT_S", 0.1)

    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
            for disconnections in range(1, 22):
                await agent.more(1)
                ward.call("strap", "disconnect")
                await agent.until(lambda so_far=disconnections: agent.status.counts.get("links lost") == so_far)
                await agent.until(lambda: agent.status.state == "connected")
                if disconnections == 1:
                    before = open_descriptors()  # by now everything is open that shall be
            assert open_descriptors() <= before

    asyncio.run(scenario())


def test_a_bluetoothd_that_is_killed_and_started_anew(ward: Ward) -> None:
    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
            await agent.more()
            kill_bluetoothd()
            await agent.until(lambda: agent.status.state != "connected")
            await agent.more()
            assert agent.status.state == "connected"
            assert not agent.source.troubles()

    asyncio.run(scenario())


def test_an_adapter_that_somebody_switches_off_is_switched_on_again(ward: Ward) -> None:
    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
            await agent.more()
            await power(False)
            await agent.until(lambda: agent.status.state == "searching")
            await agent.more()
            assert agent.status.state == "connected"
            assert not agent.source.troubles()

    asyncio.run(scenario())


def test_an_adapter_that_is_unplugged_is_told_of_until_it_is_back(ward: Ward) -> None:
    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
            await agent.more()
            ward.call("adapter", "unplug")
            try:
                await agent.until(agent.source.troubles, within_s=200)
            finally:
                ward.call("adapter", "plug_in")
            await agent.more()
            assert not agent.source.troubles()

    asyncio.run(scenario())


def test_a_search_that_is_stuck_is_mended(ward: Ward) -> None:
    async def scenario() -> None:
        stuck = BleakScanner()
        await stuck.start()  # of this very program: BlueZ answers the agent's own search with InProgress
        try:
            async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
                await agent.more()
                assert agent.source.counters()["bluetooth power cycles"] == 1
                assert not agent.source.troubles()
        finally:
            with suppress(BleakError):  # the power cycle has ended it
                await stuck.stop()

    asyncio.run(scenario())


def test_a_search_of_another_program_hinders_nobody(ward: Ward) -> None:
    async def scenario() -> None:
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", SEARCH, stdout=subprocess.PIPE)
        assert other.stdout is not None
        assert await other.stdout.readline() == b"searching\n"
        async with listening(wearable("heart-rate-strap", ward.wear("strap"))) as agent:
            await agent.more()
            assert agent.source.counters()["bluetooth power cycles"] == 0
        other.kill()
        await other.communicate()

    asyncio.run(scenario())


def test_a_second_client_on_the_same_device_costs_a_reconnection_at_most(ward: Ward) -> None:
    async def scenario() -> None:
        address = ward.wear("strap")
        async with listening(wearable("heart-rate-strap", address)) as agent:
            await agent.more()
            path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
            async with BleakClient(BLEDevice(address, None, {"path": path, "props": {}})):
                pass  # with which BlueZ ends the link for both
            await agent.until(lambda: agent.status.counts.get("links lost"))
            await agent.more()

    asyncio.run(scenario())


def test_a_link_that_a_killed_agent_left_is_ended_and_taken_over(ward: Ward) -> None:
    address = ward.wear("strap")
    assert subprocess.run([sys.executable, "-c", KILLED_AGENT, address], check=False).returncode == 7

    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", address)) as agent:
            await agent.more()

    asyncio.run(scenario())
