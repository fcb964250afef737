"""Intervals of a strip are measured in a child process, and whatever goes wrong there is one sentence here."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent import intervals
from agent.alarms.alert import Evidence, EvidenceBeat
from agent.ingest.simulate import EPOCH_NS, Episode, Rhythm, SimulatedPatient
from agent.intervals import Intervals, IntervalsError, intervals_of, is_installed, measure
from agent.uplink.evidence import EvidenceModel, evidence_model
from firmware_bridge.chunk import NS_PER_S

PATIENT = SimulatedPatient(5, script=(Episode(Rhythm.SINUS, 12.0),))
BEATS = tuple(EvidenceBeat(EPOCH_NS + round(beat.t_s * NS_PER_S), "N", 1.0) for beat in PATIENT.beats if beat.t_s < 9.5)
EVIDENCE = Evidence(EPOCH_NS, 250.0, "mV", ("II",), PATIENT.samples[:2500], BEATS, 1.0, 0.0)
STRIP = evidence_model(EVIDENCE)


def child(folder: Path, program: str) -> tuple[str, ...]:
    """A measuring process of our own."""
    path = folder / "child.py"
    path.write_text(f"import json, sys\nasked = json.load(sys.stdin)\n{program}\n")
    return (sys.executable, str(path))


AT_BY_RULE = """
r = asked["r_peaks"]
told = {"p_onset": [k - 50 for k in r], "r_onset": [k - 10 for k in r], "r_offset": [k + 12 for k in r],
        "t_offset": [k + 90 for k in r]}
print(json.dumps(told))
"""


def test_medians_of_what_the_child_found(tmp_path: Path) -> None:
    found = measure(STRIP, child(tmp_path, AT_BY_RULE))
    assert found.values() == {
        "pr_ms": 160,
        "qrs_ms": 88,
        "qt_ms": 400,
        "qtc_fridericia_ms": round(400 / (found.rr_ms / 1000) ** (1 / 3)),
    }
    assert found.words().startswith("PR 160 ms, QRS 88 ms, QT 400 ms, QTc (Fridericia) ")


def test_only_normal_beats_after_normal_ones_and_plausible_waves_count() -> None:
    beats = [(k * 250, label) for k, label in enumerate("NNNVNNN", start=1)]
    n = len(beats)
    waves: dict[str, list[float | None]] = {
        "p_onset": [peak - 40 for peak, _ in beats],
        "r_onset": [peak - 10 for peak, _ in beats],
        "r_offset": [peak + 15 for peak, _ in beats],
        "t_offset": [None] * n,
    }
    waves["r_offset"][4] = waves["r_offset"][3] = beats[4][0] + 9999.0
    waves["p_onset"][2] = beats[2][0] - 240.0
    found = intervals_of(beats, waves, 250.0)
    assert found == Intervals(beats=4, rr_ms=1000.0, pr_ms=120.0, qrs_ms=100.0, qt_ms=None)
    assert found.qtc_ms is None


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("sys.exit('no wavelets here')", "the measuring process failed: no wavelets here"),
        ("print('well')", "told nothing of use"),
        ("print(json.dumps({'p_onset': []}))", "told something else"),
        ("print(json.dumps([1, 2]))", "told nothing of use"),
        ("import os; os.kill(os.getpid(), 9)", "the measuring process failed"),
    ],
)
def test_a_child_that_fails_is_one_sentence(tmp_path: Path, program: str, words: str) -> None:
    with pytest.raises(IntervalsError, match=words):
        measure(STRIP, child(tmp_path, program))


def test_a_child_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "LIMIT_S", 0.2)
    with pytest.raises(IntervalsError, match=r"took more than 0\.2 s"):
        measure(STRIP, child(tmp_path, "import time; time.sleep(60)"))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(IntervalsError, match="told nothing of use"):
        measure(STRIP, ("/no/such/program",))


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (evidence_model(replace(EVIDENCE, strip_unit="mg/dL", strip_rate_hz=0.0)), "this is no ECG"),
        (evidence_model(replace(EVIDENCE, beats=BEATS[:2])), "too few normal beats"),
        (evidence_model(replace(EVIDENCE, beats=tuple(replace(b, label="V") for b in BEATS))), "too few normal"),
        (evidence_model(replace(EVIDENCE, strip=np.full((2500, 1), np.nan, np.float32))), "samples are missing"),
    ],
)
def test_what_cannot_be_measured_asks_no_child(evidence: EvidenceModel, words: str) -> None:
    with pytest.raises(IntervalsError, match=words):
        measure(evidence, ("/no/such/program",))


@pytest.mark.skipif(not is_installed(), reason="neurokit2 is not installed: pip install 'vagus[analysis]'")
def test_neurokit2_measures_the_simulated_heart() -> None:
    """P begins some 200 ms before R in it, QRS takes 90 to 120, T ends some 360 ms after R."""
    found = measure(STRIP)
    assert found.pr_ms == pytest.approx(150, abs=25)
    assert found.qrs_ms == pytest.approx(105, abs=25)
    assert found.qt_ms == pytest.approx(415, abs=35)
