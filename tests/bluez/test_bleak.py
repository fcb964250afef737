"""What bleak and BlueZ do by themselves: whether the guest's Bluetooth is what the other tests take it for."""

from __future__ import annotations

import asyncio

import pytest
from bleak import BleakClient, BleakScanner
from guest_bluetooth import Ward

HEART_RATE = "00002a37-0000-1000-8000-00805f9b34fb"
PATIENCE_S = 60.0

pytestmark = pytest.mark.bluez


def test_a_strap_is_found_listened_to_and_hangs_up(ward: Ward) -> None:
    async def scenario() -> None:
        device = await BleakScanner.find_device_by_address(ward.wear("strap"), timeout=PATIENCE_S)
        assert device is not None
        lost, came = asyncio.Event(), asyncio.Queue[bytes]()
        async with asyncio.timeout(PATIENCE_S), BleakClient(device, lambda _: lost.set()) as client:
            await client.start_notify(HEART_RATE, lambda _, data: came.put_nowait(bytes(data)))
            said = [await came.get() for _ in range(3)]
            assert all(one[0] & 0x10 for one in said), "every measurement tells RR intervals"
            ward.call("strap", "disconnect")
            await lost.wait()

    asyncio.run(scenario())
