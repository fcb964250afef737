"""The Bluetooth source against virtual wearables, over real ATT, GATT and pairing."""

from __future__ import annotations

import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from firmware_bridge.emulator import Air, HeartRateStrap
from tests.peers.ble_house import LoopTime, fly, house, wearable

STRAP = "F0:11:22:33:44:01"


def test_a_strap_is_found_connected_and_listened_to() -> None:
    async def scenario() -> None:
        air = Air()
        async with (
            HeartRateStrap(air, STRAP, time=LoopTime()),
            house(air, wearable("heart-rate-strap", STRAP)) as inside,
        ):
            await inside.until(lambda one: len(one.chunks("hr")) == 600, 700)
            status = inside.status()
        assert {float(chunk.samples[0, 0]) for chunk in inside.chunks()} == {72.0}
        assert (status.state, status.words, status.battery_percent) == ("connected", "it sends", 90)
        assert (status.model, status.rssi_dbm, status.trouble) == ("Example HRM 1.0", -50, "")
        assert status.counts == {"connections": 1}

    fly(scenario())
