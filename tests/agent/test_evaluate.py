"""`vagus evaluate rhythm` and `vf` on recordings of a simulated person, whose rhythm was scripted."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import wfdb

from agent.cli import main
from agent.evaluate.reference import Span, rhythm_spans
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.wfdb import Annotations, read_annotations, write_annotations
from models.pack import available_packs

AUX = {
    Rhythm.SINUS: "(N",
    Rhythm.ATRIAL_FIBRILLATION: "(AFIB",
    Rhythm.VENTRICULAR_FIBRILLATION: "(VF",
}
PACKS = {path.name for path in available_packs()}


def record(folder: Path, name: str, seed: int, script: Sequence[Episode]) -> Path:
    """A scripted person's recording with its rhythms as WFDB annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    patient = SimulatedPatient(seed, script=script)
    wfdb.wrsamp(
        name, 250, ["mV"], ["II"], patient.samples.astype(np.float64), fmt=["16"], adc_gain=[1000.0], baseline=[0],
        write_dir=str(folder),
    )  # fmt: skip
    write_annotations(
        folder / f"{name}.atr",
        [round(episode.start_s * 250) for episode in patient.episodes],
        ["+"] * len(patient.episodes),
        aux=[AUX[episode.rhythm] for episode in patient.episodes],
    )
    return folder / name


def notes(*rows: tuple[float, str, str]) -> Annotations:
    at = np.array([round(250 * t_s) for t_s, _, _ in rows], dtype=np.int64)
    nothing = np.zeros(len(rows), np.int8)
    return Annotations(
        at, tuple(r[1] for r in rows), tuple(r[2] for r in rows), nothing, nothing.astype(np.uint8), nothing
    )


def test_rhythms_are_read_from_changes_and_from_brackets() -> None:
    assert rhythm_spans(notes((0, "+", "(N"), (10, "+", "(VFIB"), (20, "+", "(N\0")), 250.0, 30.0) == [
        Span(0, 10, "N"),
        Span(10, 20, "VF"),
        Span(20, 30, "N"),
    ]
    assert rhythm_spans(notes((5, "[", ""), (9, "!", ""), (12, "]", "")), 250.0, 20.0) == [
        Span(0, 5, "OTHER"),
        Span(5, 12, "VF"),
        Span(12, 20, "OTHER"),
    ]


def test_before_the_first_named_rhythm_nothing_is_known() -> None:
    assert rhythm_spans(notes((4, "+", "(AFIB")), 250.0, 9.0) == [Span(0, 4, ""), Span(4, 9, "AFIB")]


def test_a_tachycardia_whose_beats_are_slow_is_called_so() -> None:
    beats = [(2 + k * 0.5, "V", "") for k in range(10)]
    assert rhythm_spans(notes((2, "+", "(VT"), *beats), 250.0, 8.0)[1] == Span(2, 8, "SLOW_VT")
    fast = [(2 + k * 0.35, "V", "") for k in range(10)]
    assert rhythm_spans(notes((2, "+", "(VT"), *fast), 250.0, 8.0)[1] == Span(2, 8, "VT")


@pytest.mark.skipif("vf" not in PACKS, reason="no vf pack ships")
def test_fibrillation_of_the_ventricles_is_scored_by_window_and_by_alarm(tmp_path: Path) -> None:
    script = [Episode(Rhythm.SINUS, 40), Episode(Rhythm.VENTRICULAR_FIBRILLATION, 30), Episode(Rhythm.SINUS, 30)]
    record(tmp_path / "cudb", "cu99", 5, script)
    out, predictions = tmp_path / "vf.json", tmp_path / "vf.csv"
    assert main(["evaluate", "vf", "--data", str(tmp_path), "--json", str(out), "--predictions", str(predictions)]) == 0
    figures = json.loads(out.read_text())["cudb"]["figures"]
    assert figures["records_with_vf"] == 1
    assert figures["fresh_episodes"] == 1
    assert figures["by_rhythm"]["VF"][1] == 28  # windows whose last three seconds lie in it
    assert figures["by_rhythm"]["N"][0] == figures["by_rhythm"]["N"][1]
    with predictions.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["record", "start_s", "end_s", "p_shockable", "label"]
    assert [float(row["end_s"]) - float(row["start_s"]) for row in rows] == [8.0] * len(rows)
    assert {row["label"] for row in rows} == {"N", "VF", ""}


@pytest.mark.skipif("rhythm" not in PACKS, reason="no rhythm pack ships")
def test_rhythm_is_scored_by_recording_and_by_time(tmp_path: Path) -> None:
    short = tmp_path / "cinc2017"
    for name, seed, rhythm in (("A00001", 1, Rhythm.SINUS), ("A00002", 2, Rhythm.ATRIAL_FIBRILLATION)):
        record(short / "training2017", name, seed, [Episode(rhythm, 30)])
    (short / "REFERENCE-v3.csv").write_text("A00001,N\nA00002,A\n")
    record(tmp_path / "afdb", "r1", 3, [Episode(Rhythm.SINUS, 60), Episode(Rhythm.ATRIAL_FIBRILLATION, 120)])
    out, predictions = tmp_path / "rhythm.json", tmp_path / "rhythm.csv"
    options = ["--data", str(tmp_path), "--json", str(out), "--predictions", str(predictions)]
    assert main(["evaluate", "rhythm", *options]) == 0
    with predictions.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["record", "label", "p_N", "p_A", "p_O", "p_noise"]
    assert [(row["record"], row["label"]) for row in rows] == [("A00001", "N"), ("A00002", "A")]
    assert all(sum(float(row[f"p_{name}"]) for name in ("N", "A", "O", "noise")) == pytest.approx(1) for row in rows)
    report = json.loads(out.read_text())
    assert report["cinc2017"]["figures"]["recordings"] == 2
    assert report["afdb"]["figures"]["specificity"] > 0.5


def test_nothing_to_score_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task in ("beats", "rhythm", "vf"):
        assert main(["evaluate", task, "--data", str(tmp_path)]) == 2
        assert "no annotated records" in capsys.readouterr().err


def test_the_reference_of_a_simulated_recording_reads_back(tmp_path: Path) -> None:
    path = record(tmp_path, "x", 1, [Episode(Rhythm.SINUS, 5), Episode(Rhythm.ATRIAL_FIBRILLATION, 5)])
    assert rhythm_spans(read_annotations(f"{path}.atr"), 250.0, 10.0) == [Span(0, 5, "N"), Span(5, 10, "AFIB")]
