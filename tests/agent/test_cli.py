"""The commands a person types, as they type them: exit codes, what is printed, what is written."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.bench.engine_cost import engine_cost
from agent.cli import main
from agent.evaluate.beats import not_scored
from agent.ingest.simulate import cgm_readings
from agent.ingest.wfdb import read_annotations
from models.pack import available_packs, shipped


def test_the_version_says_what_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert "not a medical device" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["replay"], ["replay", "x", "--chunk", "-1"]])
def test_bad_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    assert code == 2
    assert "usage" in "".join(capsys.readouterr())


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_config_is_exit_2_with_the_line(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "vagus.toml"
    config.write_text('[agent]\nid = "a"\ncolour = "red"\n')
    assert main([command, str(config)]) == 2
    assert f"{config}:3: agent.colour" in "".join(capsys.readouterr())


def test_a_record_that_is_not_there_is_exit_2_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "nobody")]) == 2
    assert main(["annotate", str(tmp_path / "nobody"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("nobody.hea") == 2


def test_a_folder_without_records_cannot_be_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "beats", "--data", str(tmp_path)]) == 2
    assert "no annotated records" in capsys.readouterr().err


def test_every_shipped_pack_gives_here_what_it_gave_where_it_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["packs", "verify", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [path.name for path in available_packs()]
    assert all("error" not in line for line in lines)


def test_flutter_and_fibrillation_are_left_out_of_the_score() -> None:
    symbols = ["N", "[", "!", "]", "N", "+", "V", "+", "N", "+"]
    aux = ["", "", "", "", "", "(VFL", "", "(N", "", "(VF"]
    assert not_scored(symbols, aux, np.arange(10.0), 12.0) == [(1.0, 3.0), (5.0, 7.0), (9.0, 12.0)]


def test_the_bench_accounts_for_the_time_it_measures() -> None:
    cost = engine_cost(3, seconds=2)
    inner = {"align", "condition", "classify", "ask", "decide", "explain"}
    assert set(cost["stages_us"]) == {"decode", *inner, "commit", "keep", "other"}
    assert min(cost["stages_us"].values()) > 0
    assert sum(cost["stages_us"].values()) == pytest.approx(cost["us_per_patient_second"])
    assert cost["streams_per_core"] == pytest.approx(1e6 / cost["us_per_patient_second"])


@pytest.mark.recordings
def test_replay_prints_the_same_bytes_for_any_ticks(recordings_dir: Callable[[str], Path]) -> None:
    record = str(recordings_dir("mitdb") / "205")

    def printed(*options: str) -> bytes:
        command = [sys.executable, "-m", "agent.cli", "replay", record, "--json", *options]
        return subprocess.run(command, capture_output=True, check=True).stdout

    once = printed()
    assert [json.loads(line)["specversion"] for line in once.splitlines()]
    assert printed("--chunk", "7") == once


@pytest.mark.recordings
def test_annotations_hold_the_beats_that_evaluate_scores(
    recordings_dir: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = recordings_dir("mitdb").parent
    assert main(["annotate", str(data / "mitdb" / "208"), "--out", str(tmp_path)]) == 0
    scores, predictions = tmp_path / "scores.json", tmp_path / "beats.csv"
    options = ["--data", str(data), "--records", "mitdb/208", "--json", str(scores), "--predictions", str(predictions)]
    assert main(["evaluate", "beats", *options]) == 0
    assert "SEEN IN TRAINING" in capsys.readouterr().out
    written = read_annotations(tmp_path / "208.vagus")
    marks = list(zip(written.sample.tolist(), written.symbol, written.aux, strict=True))
    beats = [(sample, symbol) for sample, symbol, _ in marks if symbol not in {"~", "+"}]
    assert next(mark for mark in marks if mark[1] == "+") == (0, "+", "(N")
    with predictions.open() as file:
        rows = [(int(row["sample"]), row["class"]) for row in csv.DictReader(file)]
    assert beats == rows
    figures = json.loads(scores.read_text())["mitdb"]["figures"]
    assert figures["qrs_sensitivity"] > 0.99
    assert figures["qrs_positive_predictivity"] > 0.99
    assert figures["provisional_latency_max_s"] <= 0.3


def test_packs_are_installed_from_a_zip_and_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    given = shutil.make_archive(str(tmp_path / "beat"), "zip", shipped("beat"))
    assert main(["packs", "install", given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "beat"
    assert main(["packs", "list", "--json"]) == 0
    lines = {line["id"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["beat"]["origin"] == "installed"

    Path(given).write_bytes(Path(given).read_bytes()[:-100])
    assert main(["packs", "install", given]) == 1
    said = capsys.readouterr().out
    assert "refused, what was live stays so" in said
    assert "beat.zip" in said
    assert main(["packs", "verify", "--json"]) == 0

    (tmp_path / "state" / "packs" / "beat" / "golden.npz").write_bytes(b"")
    capsys.readouterr()
    assert main(["packs", "verify", "--json"]) == 1
    lines = {line["id"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["beat"]["origin"] == "shipped"
    assert "the installed pack is not used" in lines["beat"]["error"]


def test_a_runtime_that_is_not_here_is_told_and_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert main(["packs", "verify", "--runtime", "openvino-npu", "--json"]) == 1
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["error"].startswith("openvino-npu: absent")
    assert main(["packs", "verify", "--json"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (line["runtime"], line["largest_difference"], line["same_bits_in_any_batch"]) == ("cpu", 0.0, True)


@pytest.mark.parametrize(
    "arguments",
    [["verify", "--runtime", "abacus"], ["install"], ["list", "beat.zip"], ["list", "--config", "no-such-file.toml"]],
)
def test_packs_with_too_few_or_many_words_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["packs", *arguments]) == 2
    assert capsys.readouterr().err


def test_a_file_of_glucose_readings_is_replayed_by_its_own_dates(tmp_path: Path) -> None:
    course = ((0.0, 140.0), (3.0, 150.0), (4.5, 62.0), (5.2, 50.0), (6.5, 130.0))
    rows = [
        f"2026-03-01 {r.t_s // 3600:02.0f}:{r.t_s % 3600 // 60:02.0f}:00,{r.mg_dl}" for r in cgm_readings(3, course)
    ]
    (tmp_path / "p7.csv").write_text("\n".join(["timestamp,glucose_mg_dl", *rows]) + "\n")
    command = [sys.executable, "-m", "agent.cli", "replay", str(tmp_path / "p7.csv")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any(line.startswith("p7  2026-03-01 04:") and "likely to be below 70" in line for line in said)
    assert any("urgently low" in line for line in said)
    as_json = [subprocess.run([*command, "--json"], capture_output=True, check=True).stdout for _ in range(2)]
    assert as_json[0] == as_json[1]
    assert subprocess.run([*command, "--speed", "1"], capture_output=True, check=False).returncode == 2


def test_bench_of_the_clock_prints_and_saves_every_way_of_dating_a_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--clock", "--json", str(tmp_path / "clock.json")]) == 0
    nights = json.loads((tmp_path / "clock.json").read_text())["figures"]["clock_error_ms"]
    assert all(set(night) == {"arrival", "first frame", "estimate"} for night in nights.values())
    assert capsys.readouterr().out.count("estimate") == len(nights)
