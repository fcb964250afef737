"""What `vagus bench` prints and keeps. How fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import wfdb

from agent.bench import figures
from agent.bench.against import one_lead
from agent.cli import main
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient

HEART = SimulatedPatient(3, 250.0, [Episode(Rhythm.SINUS, 40.0)])


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Two leads, the first of which is nearly flat, with the beats marked."""
    signals = np.concatenate((0.05 * HEART.samples, HEART.samples), axis=1, dtype=np.float64)
    at = np.array([round(250 * beat.t_s) for beat in HEART.beats])
    wfdb.wrsamp("heart", 250, ["mV", "mV"], ["V9", "II"], signals, fmt=["16", "16"], write_dir=str(tmp_path))
    wfdb.wrann("heart", "atr", at, [beat.label for beat in HEART.beats], write_dir=str(tmp_path))
    return tmp_path / "heart"


def test_others_are_given_the_lead_that_vagus_analyses(record: Path) -> None:
    signal, rate_hz = one_lead(record)
    assert rate_hz == 250
    np.testing.assert_allclose(signal, HEART.samples[:, 0], atol=1e-3)


def test_all_programs_hear_the_same_record_and_are_scored_alike(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--against", str(record), "--json", str(tmp_path / "out.json")]) == 0
    said = json.loads((tmp_path / "out.json").read_text())["figures"]
    for name in ("vagus alone", "vagus, one of 100", "vagus without models, one of 100", "wfdb xqrs", "wfdb gqrs"):
        assert said[name]["qrs_sensitivity"] > 0.9, name
        assert said[name]["cpu_s_per_hour"] > 0
    assert said["vagus alone"]["qrs_positive_predictivity"] > 0.95


def test_a_record_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--against", "nowhere/100"]) == 2
    assert "nowhere/100" in capsys.readouterr().err


def test_figures_are_set_beside_the_last_ones_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "KEPT", tmp_path / "last.json")
    assert main(["bench", "--clock", "--keep"]) == 0
    assert "last kept" not in capsys.readouterr().out
    kept = json.loads((tmp_path / "last.json").read_text())
    kept["clock"]["figures"]["clock_error_ms"]["0"]["estimate"]["p95"] *= 2
    (tmp_path / "last.json").write_text(json.dumps(kept))
    assert main(["bench", "--clock"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("last kept (here): 44 as before" in line for line in lines)
    assert [line.split()[0] for line in lines if "→" in line] == ["clock_error_ms.0.estimate.p95"]
    assert next(line for line in lines if "→" in line).endswith("-50 %")
