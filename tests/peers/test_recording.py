"""The recording of a real agent that is killed: what is on disk reads back, and alerts are made again from it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_agent import demo_signal, expected, heard_all, ward

from agent.alerts.kept import kept_alerts, said_of
from agent.cli import main
from agent.history.file import FILE_NAME, open_for_reading
from agent.inference import shipped_models
from agent.ingest.sensor import publish_chunks
from agent.recorder.recreate import recreate, segments_about
from agent.recorder.ring import RECORDINGS, segment_files
from agent.recorder.segment import SegmentError, Tick, read_segment

pytestmark = pytest.mark.broker
Run = Callable[[Coroutine[Any, Any, None]], None]


def test_kills_cost_the_last_moments_and_no_file(run: Run, tmp_path: Path) -> None:
    played = demo_signal()
    dice = random.Random(3)

    async def scenario() -> None:
        async with ward(tmp_path) as (_, agent, nurse, sensor):
            playing = asyncio.create_task(publish_chunks(sensor, played, speed=15.0))
            for _ in range(2):
                await asyncio.sleep(dice.uniform(0.5, 1.5))
                await agent.kill()
                await agent.start()
            await playing
            await nurse.until(heard_all(expected(played)), "all alerts")
            assert await agent.stop() == 0

    run(scenario())
    state = tmp_path / "state"
    sent = {chunk.t0_ns: chunk.samples.tobytes() for chunk in played}
    recorded: dict[int, bytes] = {}
    for path in segment_files(state / RECORDINGS):
        try:
            records = read_segment(path).records
        except SegmentError:  # killed before its head was written
            continue
        recorded |= {c.t0_ns: c.samples.tobytes() for r in records if isinstance(r, Tick) for c in r.chunks}
    assert recorded.items() <= sent.items()
    assert max(recorded) == max(sent)  # an orderly stop loses nothing

    with closing(open_for_reading(state / FILE_NAME)) as db:
        said = {alert: said_of(db, alert) for alert in kept_alerts(db) if alert.rule != "agent_restarted"}
    same = []
    for alert, events in said.items():
        segments = segments_about(state / RECORDINGS, "demo", alert.id, events)
        made = recreate(segments, alert.id, events, shipped_models(), None)
        assert made.is_same or "the recording is incomplete" in " ".join(made.reasons), (alert.rule, made)
        same += [alert.id] if made.is_same else []
    assert len(same) >= 3, f"of {len(said)}"
    assert main(["replay", "--alert", same[0], "--state", str(state)]) == 0
