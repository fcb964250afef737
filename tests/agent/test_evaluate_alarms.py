"""`vagus evaluate alarms` on recordings of simulated people, whose bedside monitor alarmed rightly or not."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from agent.alarms.alert import AlertEvent, Category, Phase, Priority
from agent.cli import main
from agent.evaluate.alarms import AlarmResult, Bedside, Counts, bedside_alarms, counts, sounding
from agent.ingest.replay import EPOCH_NS
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.wfdb import RecordError
from firmware_bridge.chunk import NS_PER_S


def event(rule: str, phase: Phase, at_s: float, alert: str = "one") -> AlertEvent:
    at_ns = EPOCH_NS + round(at_s * NS_PER_S)
    text = f"{rule} at {at_s:g} s"
    return AlertEvent(alert, "a1", rule, Category.PHYSIOLOGICAL, Priority.HIGH, phase, at_ns, at_ns, text)


def record(folder: Path, name: str, seed: int, stops: bool, comments: list[str]) -> None:
    """Twenty seconds before an alarm, with a heart that stands still in the last six of them or does not."""
    folder.mkdir(parents=True, exist_ok=True)
    last = Episode(Rhythm.ASYSTOLE if stops else Rhythm.SINUS, 6.0)
    samples = SimulatedPatient(seed, script=[Episode(Rhythm.SINUS, 14.0), last]).samples.astype(np.float64)
    wfdb.wrsamp(
        name, 250, ["mV"], ["II"], samples, fmt=["16"], adc_gain=[1000.0], baseline=[0], comments=comments,
        write_dir=str(folder),
    )  # fmt: skip


def test_what_sounded_in_the_ten_seconds_before_counts() -> None:
    on = [event("asystole", Phase.START, 100.0)]
    over = [*on, event("asystole", Phase.END, 289.9)]
    just_over = [*on, event("asystole", Phase.END, 290.1)]
    assert sounding(on, ["asystole"], 300.0) == ("asystole at 100 s",)
    assert sounding(over, ["asystole"], 300.0) == ()
    assert sounding(just_over, ["asystole"], 300.0) == ("asystole at 100 s",)
    assert sounding(on, ["bradycardia"], 300.0) == ()


def test_nothing_that_was_not_recorded_makes_an_asystole() -> None:
    """The last sample is held for the sake of the last beats: that is no silence of the heart."""
    assert sounding([event("asystole", Phase.START, 300.34)], ["asystole"], 300.0)
    assert not sounding([event("asystole", Phase.START, 300.36)], ["asystole"], 300.0)
    assert sounding([event("tachycardia", Phase.START, 301.4)], ["tachycardia"], 300.0)


def test_a_miss_costs_five() -> None:
    assert Counts(tp=4, fp=1, tn=4, fn=1).score == pytest.approx(8 / 14)
    judged = [(True, True), (True, False), (False, True), (False, False), (None, True)]
    results = [AlarmResult(Bedside("x", "Asystole", true), ("",) if said else ()) for true, said in judged]
    assert counts(results) == Counts(1, 1, 1, 1)


def test_alarms_are_read_from_the_table_or_from_the_headers(tmp_path: Path) -> None:
    record(tmp_path, "a1", 1, stops=True, comments=["Asystole", "True alarm"])
    record(tmp_path, "a2", 2, stops=False, comments=["Asystole"])
    assert bedside_alarms(tmp_path) == [Bedside("a1", "Asystole", True), Bedside("a2", "Asystole", None)]
    (tmp_path / "ALARMS").write_text("a2,Asystole,0\na1,Bradycardia\n")
    assert bedside_alarms(tmp_path) == [Bedside("a2", "Asystole", False), Bedside("a1", "Bradycardia", None)]
    (tmp_path / "ALARMS").write_text("a2,Asystole,0\na1,Apnoea,1\n")
    with pytest.raises(RecordError, match="ALARMS:2: not a line"):
        bedside_alarms(tmp_path)


def test_true_and_false_alarms_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "cinc2015"
    for seed, (name, stops, true) in enumerate([("a1", True, 1), ("a2", False, 0), ("a3", False, 1)]):
        record(folder, name, seed, stops, [])
        with (folder / "ALARMS").open("a") as table:
            table.write(f"{name},Asystole,{true}\n")
    out, predictions = tmp_path / "alarms.json", tmp_path / "alarms.csv"
    options = ["--data", str(tmp_path), "--json", str(out), "--predictions", str(predictions)]
    assert main(["evaluate", "alarms", *options]) == 0
    figures = json.loads(out.read_text())["cinc2015"]["figures"]
    assert figures["by_alarm"] == {"Asystole": [1, 0, 1, 1]}
    assert figures["missed"] == ["a3"]
    assert figures["score"] == pytest.approx(2 / 7)
    with predictions.open() as file:
        rows = [(row["record"], row["alarm"], float(row["p"])) for row in csv.DictReader(file)]
    assert rows == [("a1", "Asystole", 1.0), ("a2", "Asystole", 0.0), ("a3", "Asystole", 0.0)]


def test_nothing_to_evaluate_and_what_cannot_be_read_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "alarms", "--data", str(tmp_path)]) == 2
    (tmp_path / "ALARMS").write_text("nonsense\n")
    assert main(["evaluate", "alarms", "--data", str(tmp_path)]) == 2
    assert "ALARMS:1" in capsys.readouterr().err


@pytest.mark.recordings
def test_a_true_asystole_of_the_challenge_sounds(recordings_dir: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "alarms.json"
    data = recordings_dir("cinc2015")
    assert main(["evaluate", "alarms", "--data", str(data), "--records", "a161l", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["cinc2015"]["figures"]["by_alarm"] == {"Asystole": [1, 0, 0, 0]}
