"""What was learned of a person's glucose outlasts a restart and a change of the config, and can be taken back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.alarms.glucose_settings import GlucoseSettings
from agent.alarms.limits import Limits
from agent.engine import Engine
from agent.glucose_state import GlucoseState
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import shipped_models
from agent.ingest.simulate import CGM_DAY, cgm_chunks, cgm_readings
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.signal.personal import PersonalCalibration
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics
from agent.worker import Worker
from firmware_bridge.chunk import Chunk
from firmware_bridge.codecs import cbor_chunk

DAYS = 4
COURSE = tuple((24.0 * day + hour, mg_dl) for day in range(DAYS) for hour, mg_dl in CGM_DAY)


@pytest.fixture(scope="module")
def readings() -> list[Chunk]:
    return list(cgm_chunks(cgm_readings(1, COURSE)))


def delivery(chunk: Chunk) -> Delivery:
    return Delivery((chunk,), "vagus/v1/in/cgm/cgm", "application/cbor", cbor_chunk.encode(chunk), 0, lambda: None)


class Agent:
    """Engine, outbox and history of one process."""

    def __init__(self, folder: Path, chunks: list[Chunk], settings: GlucoseSettings, limits: Limits) -> None:
        self.history = History(folder / FILE_NAME)
        person = Person("demo", (chunks[0].stream,), limits, settings)
        engine = Engine([person], shipped_models(), watch=self.history.watch)
        outbox = Outbox(folder / "outbox.sqlite")
        self.worker = Worker(engine, outbox, Topics("a"), wall=False, history=self.history)
        stream = chunks[0].stream
        self.worker.recover(lambda _topic, _kind, payload: tuple(cbor_chunk.decode(payload, stream)))

    def hear(self, chunks: list[Chunk]) -> None:
        for at in range(0, len(chunks), 30):
            self.worker.tick([delivery(chunk) for chunk in chunks[at : at + 30]], None)

    @property
    def glucose(self) -> GlucoseState:
        return self.worker.engine.patients["demo"].glucose_state

    def stop(self) -> None:
        self.worker.save_all()
        self.kill()

    def kill(self) -> None:
        self.history.close()
        self.worker.outbox.close()


def started(
    folder: Path, chunks: list[Chunk], settings: GlucoseSettings | None = None, limits: Limits | None = None
) -> Agent:
    return Agent(folder, chunks, settings or GlucoseSettings(), limits or Limits())


def test_a_version_a_day_is_kept_and_the_state_goes_on(tmp_path: Path, readings: list[Chunk]) -> None:
    first = started(tmp_path, readings)
    first.hear(readings[:900])
    learned = first.glucose.personal.state_json()
    versions = first.history.versions()
    assert versions is not None
    assert len(versions.list("demo")) == 4  # one on each day that was begun
    first.stop()
    second = started(tmp_path, readings)
    assert second.glucose.personal.state_json() == learned
    second.kill()


def test_a_changed_config_costs_the_snapshot_and_not_what_was_learned(tmp_path: Path, readings: list[Chunk]) -> None:
    first = started(tmp_path, readings)
    first.hear(readings[:900])
    learned = first.glucose.personal.state_json()
    first.stop()
    second = started(tmp_path, readings, limits=Limits(low_below_mg_dl=80.0))
    assert second.glucose.last is None
    assert second.glucose.personal.state_json() == learned
    second.hear(readings[850:910])  # those that were learned from before are not learned from again
    assert second.glucose.personal.newest_ns == readings[909].t0_ns
    second.kill()


def test_a_version_that_is_taken_back_is_what_the_next_start_goes_on_from(
    tmp_path: Path, readings: list[Chunk]
) -> None:
    first = started(tmp_path, readings)
    first.hear(readings[:900])
    first.stop()
    history = History(tmp_path / FILE_NAME)
    versions = history.versions()
    assert versions is not None
    earlier = versions.list("demo")[-1]
    assert versions.roll_back("demo", earlier.generation) is not None
    history.close()
    second = started(tmp_path, readings)
    assert second.glucose.personal.state_json() == earlier.state_json
    second.hear(readings[900:905])
    second.kill()


def test_what_cannot_be_read_is_learned_anew(tmp_path: Path, readings: list[Chunk]) -> None:
    history = History(tmp_path / FILE_NAME)
    versions = history.versions()
    assert versions is not None
    assert versions.save("demo", '{"version": 99}') is not None
    history.close()
    agent = started(tmp_path, readings)
    agent.hear(readings[:20])
    assert agent.glucose.outlook is not None
    agent.kill()


def test_off_takes_and_learns_nothing_and_frozen_only_takes(tmp_path: Path, readings: list[Chunk]) -> None:
    first = started(tmp_path, readings)
    first.hear(readings[:900])
    threshold = first.glucose.personal.low.budget.threshold
    first.stop()
    frozen = started(tmp_path, readings, replace(GlucoseSettings(), personal="frozen"))
    assert frozen.glucose.personal.frozen
    assert frozen.glucose.personal.low.budget.threshold == threshold
    frozen.kill()
    off = started(tmp_path, readings, replace(GlucoseSettings(), personal="off"))
    off.hear(readings[900:905])
    assert off.glucose.personal.frozen
    assert off.glucose.personal.newest_ns == readings[904].t0_ns
    assert off.glucose.personal.low.budget.threshold == PersonalCalibration().low.budget.threshold != threshold
    off.stop()
    on_again = started(tmp_path, readings)
    assert on_again.glucose.personal.low.budget.threshold == threshold  # nothing was saved over what was learned
    on_again.kill()
