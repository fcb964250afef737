"""A support archive of an agent that runs and has raised alarms: what it knows of people is not in it."""

from __future__ import annotations

import asyncio
import json
import sys
import tarfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from test_agent import demo_signal, expected, heard_all, ward

from agent.ingest.sensor import publish_chunks

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]


def test_the_archive_of_an_agent_with_alarms_has_none_of_them(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        played = demo_signal()
        async with ward(tmp_path) as (_, agent, nurse, sensor):
            await publish_chunks(sensor, played, speed=None)
            await nurse.until(heard_all(expected(played)), "all alerts")
            out = tmp_path / "out.tar.gz"
            words = ["doctor", "--config", tmp_path / "agent.toml", "--log", tmp_path / "agent.log", "--bundle", out]
            doctor = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent.cli", *map(str, words), stdout=asyncio.subprocess.DEVNULL
            )
            assert await doctor.wait() == 0
            with tarfile.open(out) as tar:
                tar.extractall(tmp_path / "out", filter="data")
            assert await agent.stop() == 0
        found = {path.name: path.read_text() for path in (tmp_path / "out" / "vagus-support").iterdir()}
        whole = "".join(found.values())
        for alert in nurse.alerts:
            assert alert.data.alert_id not in whole
            assert alert.data.text not in whole
        for name in ('"demo"', "of demo", "simulator", '"ward"', "127.0.0.1", str(tmp_path)):
            assert name not in whole
        state = json.loads(found["state.json"])["state"]
        assert state["rows"]["outbox.sqlite"]
        assert state["audit"]["sound"]
        assert state["audit"]["entries"] > 0
        assert "vagus" in found["log.txt"]

    run(scenario())
