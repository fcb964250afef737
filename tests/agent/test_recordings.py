"""Recordings in, alerts out: a simulated one held to its golden alerts, real ones to the alerts that must come."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.alarms.alert import AlertEvent, Phase
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS, RecordStream, record_chunks
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.patient import Person
from agent.replay import replay
from agent.uplink.messages import canonical_json
from firmware_bridge.chunk import NS_PER_S, Chunk

GOLDEN = Path(__file__).parent.parent / "recordings" / "simulated-7.json"


def told(event: AlertEvent) -> dict[str, object]:
    """What a subscriber goes by, times in seconds of the recording."""
    return {
        "rule": event.rule,
        "phase": event.phase.value,
        "priority": event.priority.value,
        "onset_s": round((event.onset_ns - EPOCH_NS) / NS_PER_S, 3),
        "at_s": round((event.at_ns - EPOCH_NS) / NS_PER_S, 3),
        "text": event.text,
    }


def test_the_simulated_patient_gives_its_golden_alerts() -> None:
    """Set VAGUS_UPDATE=1 to write what is given now, and look at the difference before committing it."""
    patient = SimulatedPatient(7, script=DEMO_SCRIPT)
    engine = Engine([Person("demo", (patient.stream(),))], shipped_models())
    alerts = [told(event) for chunk in patient.chunks() for event in engine.step([chunk])]
    if os.environ.get("VAGUS_UPDATE"):
        GOLDEN.write_text(json.dumps(alerts, indent=1) + "\n")
    assert alerts == json.loads(GOLDEN.read_text())


@pytest.fixture
def mitdb(recordings_dir: Callable[[str], Path]) -> Path:
    return recordings_dir("mitdb")


def started(events: list[AlertEvent], rule: str) -> list[float]:
    """Onsets, in seconds of the record, of the alarms of one rule."""
    return [
        (event.onset_ns - EPOCH_NS) / NS_PER_S for event in events if event.rule == rule and event.phase is Phase.START
    ]


def spans(events: list[AlertEvent], rule: str) -> list[tuple[float, float]]:
    """(onset, end), in seconds of the record, of the alarms of one rule."""
    ends = {e.alert_id: (e.at_ns - EPOCH_NS) / NS_PER_S for e in events if e.phase is Phase.END}
    return [
        ((e.onset_ns - EPOCH_NS) / NS_PER_S, ends.get(e.alert_id, float("inf")))
        for e in events
        if e.rule == rule and e.phase is Phase.START
    ]


@pytest.mark.recordings
def test_record_208_has_a_heavy_burden_of_ventricular_beats(mitdb: Path) -> None:
    events = list(replay([mitdb / "208"], shipped_models()))
    assert len(started(events, "pvc_burden")) == 1
    assert started(events, "ventricular_tachycardia") == []  # its longest fast runs have three beats


@pytest.mark.recordings
def test_record_205_has_its_runs_of_ventricular_tachycardia(mitdb: Path) -> None:
    events = list(replay([mitdb / "205"], shipped_models()))
    for began_s, ended_s in ((299.0, 301.5), (303.5, 306.0), (1460.6, 1466.0)):  # 8, 9 and 12 beats, as annotated
        assert any(on <= ended_s + 1.0 and off >= began_s for on, off in spans(events, "ventricular_tachycardia"))


@pytest.mark.recordings
def test_record_101_of_normal_rhythm_raises_nothing(mitdb: Path) -> None:
    physiological = [e.rule for e in replay([mitdb / "101"], shipped_models()) if e.category == "physiological"]
    assert physiological == []


@pytest.mark.recordings
def test_a_real_recording_gives_the_same_bytes_in_any_chunks_and_beside_another(mitdb: Path) -> None:
    models = shipped_models()
    dice = random.Random(208)

    def ragged(path: Path, stream: RecordStream) -> Iterator[Chunk]:
        sizes = (dice.choice([17, 360, 1000, 5000]) for _ in range(100_000))
        return record_chunks(path, stream, sizes=sizes)

    def of(events: Iterator[AlertEvent], patient: str) -> list[bytes]:
        return [canonical_json(event) for event in events if event.patient == patient]

    once = of(replay([mitdb / "205"], models), "205")
    assert once
    assert of(replay([mitdb / "205"], models, chunks_of=ragged), "205") == once
    assert of(replay([mitdb / "201", mitdb / "205", mitdb / "208"], models, chunk_s=2.0), "205") == once
