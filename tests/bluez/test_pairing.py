"""Bonds over real BlueZ: made by the agent's own pairing agent, kept, lost, refused."""

from __future__ import annotations

import asyncio

import pytest
from agent_source import listening, wearable
from guest_bluetooth import Ward

pytestmark = pytest.mark.bluez

READINGS = 13
"""At least so many the glucose sensor of ward.py has stored."""
NEVER = "pair_min = 0"


def test_a_glucose_sensor_is_paired_read_and_known_again_without_pairing(ward: Ward) -> None:
    async def scenario() -> None:
        address = ward.wear("cgm")
        async with listening(wearable("cgm", address)) as agent:
            await agent.until(lambda: len(agent.chunks) >= READINGS)
            times = [chunk.t0_ns for chunk in agent.chunks]
            assert times == sorted(times)
            assert agent.status.state == "connected"
        async with listening(wearable("cgm", address, NEVER)) as agent:
            await agent.until(lambda: agent.status.state == "connected")

    asyncio.run(scenario())


@pytest.mark.timeout(900)
def test_a_lost_bond_is_told_of_and_made_anew_where_that_is_allowed(ward: Ward) -> None:
    async def scenario() -> None:
        address = ward.wear("cgm")
        async with listening(wearable("cgm", address)) as agent:
            await agent.until(lambda: agent.status.state == "connected")
        ward.call("cgm", "disconnect")
        ward.call("cgm", "forget_bonds")
        async with listening(wearable("cgm", address, NEVER)) as agent:
            await agent.until(lambda: agent.status.state == "refused", within_s=240)
            assert "paired" in agent.status.trouble
        async with listening(wearable("cgm", address)) as agent:
            await agent.until(lambda: agent.status.state == "connected", within_s=240)
            assert agent.status.counts["bond forgotten"] == 1

    asyncio.run(scenario())


def test_a_device_that_refuses_to_be_paired_is_told_of(ward: Ward) -> None:
    async def scenario() -> None:
        ward.set("cgm", "refuses_pairing", True)
        try:
            async with listening(wearable("cgm", ward.wear("cgm"))) as agent:
                await agent.until(lambda: agent.status.state == "refused")
                assert "pair" in agent.status.trouble
        finally:
            ward.set("cgm", "refuses_pairing", False)

    asyncio.run(scenario())


def test_a_protected_device_without_a_bond_hangs_nothing(ward: Ward) -> None:
    async def scenario() -> None:
        async with listening(wearable("heart-rate-strap", ward.wear("guarded"), NEVER)) as agent:
            # BlueZ waits for a pairing agent, and tells nobody that it does.
            await agent.until(lambda: agent.status.counts.get("connection failures", 0) >= 2)
            assert agent.status.words

    asyncio.run(scenario())
