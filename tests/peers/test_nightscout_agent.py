"""A Nightscout site, the real agent as its own process, a real broker: a low that is there is heard, and once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from nightscout_site import Web, serving
from test_agent import AgentProcess, listening

from agent.broker import LocalBroker
from agent.mqtt import MqttConnection

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]

CONFIG = """
[agent]
id = "ward"
state_dir = "{state}"
[mqtt]
host = "127.0.0.1"
port = {port}
[[patient]]
id = "p1"
[[patient.source]]
type = "nightscout"
url = "{url}"
poll_s = 5
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as site:
        yield site


class SiteAgent(AgentProcess):
    def __init__(self, folder: Path, port: int, url: str) -> None:
        super().__init__(folder, port)
        (folder / "agent.toml").write_text(CONFIG.format(state=folder / "state", port=port, url=url))


def falling_to(last_mg_dl: int, last_ms: int) -> list[dict[str, Any]]:
    """Three hours of entries, newest first as a site gives them, that end there and then."""
    return [{"type": "sgv", "sgv": last_mg_dl + 3 * k, "date": last_ms - k * 300_000} for k in range(36)]


def test_a_low_on_the_site_is_heard_and_not_again_after_a_crash(run: Run, tmp_path: Path, web: Web) -> None:
    async def scenario() -> None:
        web.answers(falling_to(62, time.time_ns() // 10**6 - 20_000))
        async with (
            LocalBroker(persistence_dir=tmp_path) as broker,
            listening(broker.port) as nurse,
            SiteAgent(tmp_path, broker.port, web.url) as agent,
        ):
            await nurse.until(lambda n: any(a.data.rule == "low" and not a.data.late for a in n.alerts), "the low")
            began, low = (a.data for a in nurse.alerts if a.data.rule == "low")
            # It began in what was fetched of the past, and is of now with the newest reading.
            assert (began.phase, began.late, low.phase, low.late) == ("start", True, "continue", False)
            assert began.alert_id == low.alert_id
            assert began.evidence is not None
            assert began.evidence.strip.array()[-1, 0] == 68.0
            retained = json.loads(nurse.retained[f"vagus/v1/ward/alarm/p1/{low.alert_id}"])
            assert retained["data"]["late"] is False
            await asyncio.sleep(3.0)  # display numbers follow alerts by up to two seconds
            late = MqttConnection("127.0.0.1", broker.port, "latecomer", clean_start=True, session_expiry_s=0)
            async with late:
                await late.subscribe("vagus/v1/ward/vital/p1/glucose")
                async for message in late.messages():
                    shown = json.loads(message.payload)
                    assert (message.retain, shown["value"], shown["late"]) == (True, 62.0, False)
                    break
            await agent.kill()
            asked = len(web.asked)
            await agent.start()
            await nurse.until(lambda n: any(a.data.rule == "agent_restarted" for a in n.alerts), "the restart")
            while len(web.asked) < asked + 2:
                await asyncio.sleep(0.05)
            about = [a.data for a in nurse.alerts if a.data.rule == "low"]
            assert {said.alert_id for said in about} == {low.alert_id}
            assert {said.phase.value for said in about[2:]} <= {"continue"}
            assert await agent.stop() == 0

    run(scenario())
