"""The agent as its own process, its radio a controller over TCP: killed, it finds its wearables again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from agent.broker import LocalBroker
from firmware_bridge.emulator import Air, DeviceTime, GlucoseSensor, PolarH10, Repeated
from tests.peers.test_agent import AgentProcess, Subscriber, listening

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

HOUR_NS = 3_600_000_000_000
H10, CGM = "A0:9E:1A:00:00:01", "F0:11:22:33:44:02"
CONFIG = f"""
[agent]
id = "ward"
state_dir = "{{state}}"
[mqtt]
host = "127.0.0.1"
port = {{port}}
[[patient]]
id = "p1"
[[patient.source]]
type = "ble"
profile = "polar-h10"
address = "{H10}"
[[patient.source]]
type = "ble"
profile = "cgm"
address = "{CGM}"
"""


@asynccontextmanager
async def worn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[AgentProcess, Subscriber]]:
    """A person with a strap and a glucose sensor, a broker, a nurse, and the agent."""
    air, now_ns = Air(), time.time_ns()
    beat = np.zeros(130)
    beat[60:66] = (100, 600, 1200, 500, -300, -100)
    async with (
        PolarH10(air, H10, ecg_uv=Repeated(beat)),
        GlucoseSensor(air, CGM, time=DeviceTime(now_ns), mg_dl=[100.0] * 50, session_start_ns=now_ns - HOUR_NS),
        air.serve() as hci_port,
        LocalBroker(persistence_dir=folder) as broker,
        listening(broker.port) as nurse,
    ):
        monkeypatch.setenv("VAGUS_BLUETOOTH", f"bumble:tcp-client:127.0.0.1:{hci_port}")
        agent = AgentProcess(folder, broker.port)
        (folder / "agent.toml").write_text(CONFIG.format(state=folder / "state", port=broker.port))
        async with agent:
            yield agent, nurse


async def connected(agent: AgentProcess, times: int) -> None:
    """Both wearables have been connected so often, whoever the agent was."""
    async with asyncio.timeout(90):
        while any(agent.log.count(f"{device}: connected") < times for device in ("polar-h10", "cgm")):
            await asyncio.sleep(0.05)


def all_is_well(nurse: Subscriber) -> bool:
    """Whether the last status says that every wearable sends, and its streams are well."""
    if not nurse.statuses or nurse.statuses[-1]["state"] == "offline":
        return False
    status = nurse.statuses[-1]
    devices = {one["device"]: one["state"] for one in status["devices"]}
    ecg = [one["state"] for one in status["streams"] if one["kind"] == "ecg"]
    return devices == {"polar-h10": "connected", "cgm": "connected"} and ecg == ["ok"]


def test_an_agent_that_is_killed_finds_its_wearables_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with worn(tmp_path, monkeypatch) as (agent, nurse):
            await connected(agent, times=1)
            await asyncio.sleep(1)
            await agent.kill()
            await agent.start()
            await connected(agent, times=2)
            nurse.statuses.clear()
            await nurse.until(all_is_well, "a status that all is well")
            assert "agent_restarted" in {alert.data.rule for alert in nurse.alerts}
            assert agent.log.count(" inputs again") == 1
            assert "unknown device" not in agent.log
            assert (tmp_path / "state" / "bonds.json").stat().st_mode & 0o077 == 0
            assert nurse.statuses[-1]["counters"]["bluetooth links"] == 2
            assert await agent.stop() == 0

    run(scenario())
