"""`vagus evaluate glucose`: its files, what is said at each row of them, and its tables."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from agent.cli import main
from agent.evaluate.glucose import CSV_HEADER, balanced, score_person
from agent.evaluate.glucose_stream import FIGURES, Said
from agent.evaluate.glucose_tables import AR2, LAST, NIGHTSCOUT, TUNED, VAGUS, group_table, tuned
from agent.ingest.glucose_csv import GlucoseFile, glucose_files, read_glucose_csv
from agent.ingest.wfdb import RecordError
from agent.scoring_glucose_events import LE54_20, LT70_30

MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)


def write(folder: Path, name: str, rows: Sequence[tuple[str, object]]) -> Path:
    path = folder / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("timestamp,glucose_mg_dl\n" + "".join(f"{at},{mg_dl}\n" for at, mg_dl in rows))
    return path


def at(minutes: float) -> str:
    return f"{MIDNIGHT + timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S}"


def person(seed: int, readings: int, interval_min: int = 5) -> list[tuple[str, float]]:
    """Somebody whose glucose swings down to lows every few hours."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(readings) * interval_min
    swing = 110 + 60 * np.sin(2 * np.pi * minutes / 240 + seed) + rng.normal(0, 2, readings)
    return [(at(float(t)), round(float(mg_dl), 1)) for t, mg_dl in zip(minutes, swing, strict=True)]


def silence(file: GlucoseFile) -> Said:
    """Nothing was said of a file."""
    n = len(file.texts)
    nothing = {name: np.full(n, np.nan) for name in FIGURES}
    return Said(nothing, np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_), Counter({"nothing said": n}))


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = write(tmp_path, "SetA/p1", [(at(5), 120), (at(0), "118.5"), ("2024-03-01T01:05:00+01:00", 119)])
    file = read_glucose_csv(path)
    assert file.subject == "SetA/p1"
    assert file.timestamps[2] == "2024-03-01T01:05:00+01:00"
    assert file.texts == ("120", "118.5", "119")
    assert (file.t_ns - file.t_ns[1]).tolist() == [300_000_000_000, 0, 300_000_000_000]
    assert file.t_ns[1] == MIDNIGHT.timestamp() * 1e9
    assert not file.faults


def test_bad_rows_are_told_with_their_line_and_cost_no_other(tmp_path: Path) -> None:
    bad = [("yesterday", 100), (at(5), "high"), (at(10), "nan"), (at(15), ""), ("0001-01-01 00:00:00", 90)]
    path = write(tmp_path, "SetA/p1", [(at(0), 100), *bad, (at(20), "1,2"), (at(25), 101)])
    file = read_glucose_csv(path)
    assert file.readings.tolist() == [0, 7]
    assert len(file.texts) == 8
    assert [fault.partition(": ")[0] for fault in file.faults] == [f"{path}:{line}" for line in (3, 4, 5, 6, 7, 8)]
    for fault, said in zip(file.faults, ("yesterday", "high", "nan", "''", "1970", "3 columns"), strict=True):
        assert said in fault


@pytest.mark.parametrize(
    "content", [b"", b"time,value\n1,2\n", b"\xff\xfe\x00\x01", b"timestamp,glucose_mg_dl\n\xff,1\n"]
)
def test_what_is_no_table_of_readings_is_a_precise_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p1.csv"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"p1\.csv"):
        read_glucose_csv(path)


def test_sets_are_found_in_the_folder_or_in_glucose_below_it(tmp_path: Path) -> None:
    for name in ("SetB/p2", "SetA/p9", "SetA/p1"):
        write(tmp_path / "glucose", name, [])
    assert glucose_files(tmp_path) == glucose_files(tmp_path / "glucose") == ["SetA/p1", "SetA/p9", "SetB/p2"]


# -- scores ----------------------------------------------------------------------------------------------------------


def test_silence_is_scored_as_the_last_value_and_never_warns(tmp_path: Path) -> None:
    file = read_glucose_csv(write(tmp_path, "SetA/p1", person(1, 600)))
    score = score_person(file, silence(file))
    for minutes in (30, 60):
        assert score.forecast(VAGUS, minutes).rmse == score.forecast(LAST, minutes).rmse
        assert score.forecast(VAGUS, minutes).n_interval == 0
    assert score.low(VAGUS, LT70_30).events > 5
    assert score.low(VAGUS, LT70_30).detected == 0
    assert score.silent == 600 - 8


def test_who_knows_the_future_is_scored_perfect(tmp_path: Path) -> None:
    """Also where a row is repeated, is bad or comes late."""
    rows: list[tuple[str, object]] = list(person(2, 600))
    rows.insert(100, rows[99])
    rows.insert(200, (at(-1), "nan"))
    rows.insert(300, rows.pop(299))
    file = read_glucose_csv(write(tmp_path, "SetA/p2", rows))
    known = dict(zip(file.t_ns.tolist(), file.mg_dl.tolist(), strict=True))
    after = {
        minutes: np.array([known.get(t + minutes * 60 * 10**9, math.nan) for t in file.t_ns.tolist()])
        for minutes in (30, 60)
    }
    figures = silence(file).figures | {"f30": after[30], "f30_lo": after[30] - 1, "f30_hi": after[30] + 1}
    figures |= {"f60": after[60]}
    soon = [
        any(known.get(t + k * 300 * 10**9, 100) < 70 for k in range(1, 7)) and known[t] >= 70
        for t in file.t_ns.tolist()
    ]
    score = score_person(file, Said(figures, np.array(soon), np.array(soon), Counter()))
    assert score.forecast(VAGUS, 30).rmse == 0
    assert score.forecast(VAGUS, 30).coverage == 1
    assert score.forecast(VAGUS, 60).zone("A") == 1
    low = score.low(VAGUS, LT70_30)
    assert low.sensitivity == low.early_share == low.precision == 1
    assert low.false == 0


def test_a_day_with_another_sensor_is_scored_with_its_kind(tmp_path: Path) -> None:
    rows = [*person(3, 288), *((at(1440 + 15 * k), 100 + k) for k in range(96))]
    file = read_glucose_csv(write(tmp_path, "SetA/p3", rows))
    score = score_person(file, silence(file))
    short, long = score.wearing(1), score.wearing(3)
    assert short is not None
    assert long is not None
    assert short.forecast(LAST, 30).n + long.forecast(LAST, 30).n == score.forecast(LAST, 30).n
    assert long.forecast(LAST, 30).mae == pytest.approx(2, rel=0.3)
    only = read_glucose_csv(write(tmp_path, "SetA/p4", person(4, 200)))
    assert score_person(only, silence(only)).wearing(3) is None


def test_nightscouts_loss_is_tuned_on_the_others_only(tmp_path: Path) -> None:
    files = [read_glucose_csv(write(tmp_path, f"SetA/p{k}", person(k, 1500))) for k in range(3)]
    people = [score_person(file, silence(file)) for file in files]
    apart = tuned(people)
    for k in range(3):
        others = [one for j, one in enumerate(people) if j != k]
        rates = {
            loss: float(
                sum(p.loss(LT70_30, loss).false for p in others) / sum(p.loss(LT70_30, loss).days for p in others)
            )
            for name, loss, _ in people[k].losses
            if name == LT70_30.name
        }
        kept = min((loss for loss, rate in rates.items() if rate <= 1.0), default=max(rates))
        assert apart[k].low(TUNED, LT70_30).false == people[k].loss(LT70_30, kept).false
    assert apart[0].low(NIGHTSCOUT, LE54_20).days == people[0].low(NIGHTSCOUT, LE54_20).days
    assert TUNED not in {key[0] for key in tuned(people[:1])[0].lows}


def test_tables_of_people_without_a_low_or_a_sample_hold_dashes_and_no_fault(tmp_path: Path) -> None:
    files = [
        read_glucose_csv(write(tmp_path, "SetA/p1", [(at(0), 100)])),
        read_glucose_csv(write(tmp_path, "SetA/p2", [])),
    ]
    scores = tuned([score_person(file, silence(file)) for file in files])
    text, figures = group_table("nobody", scores)
    assert "2 people, 1 readings" in text
    json.dumps(figures, allow_nan=False)


def test_work_is_shared_evenly() -> None:
    groups = balanced([("a", 5), ("b", 4), ("c", 3), ("d", 2), ("a", 5)], 2)
    assert sorted(map(sorted, groups)) == [["a", "d"], ["b", "c"]]
    assert balanced([("a", 5)], 2) == [["a"]]


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_tables_and_writes_a_row_for_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[tuple[str, object]] = list(person(5, 300))
    rows.insert(10, (at(47), "oops"))
    write(tmp_path / "data/glucose", "SetA/p1", rows)
    write(tmp_path / "data/glucose", "SetB/p2", person(6, 200, 15))
    out = tmp_path / "out.json", tmp_path / "out.csv"
    args = [
        "evaluate",
        "glucose",
        "--data",
        str(tmp_path / "data"),
        "--json",
        str(out[0]),
        "--predictions",
        str(out[1]),
    ]
    assert main(args) == 0
    said = capsys.readouterr()
    assert "p1.csv:12: could not convert string to float: 'oops'" in said.err
    assert "15-minute sensors: 1 people" in said.out
    figures = json.loads(out[0].read_text())
    assert set(figures) == {"all", "SetA", "SetB", "5-minute sensors", "15-minute sensors", "by person"}
    assert figures["SetA"]["figures"]["forecast_30"][AR2]["rmse"] > 0
    with out[1].open(newline="") as lines:
        written = list(csv.reader(lines))
    assert tuple(written[0]) == CSV_HEADER
    assert [row[:3] for row in written[1:302]] == [["SetA/p1", stamp, str(mg_dl)] for stamp, mg_dl in rows]
    assert len(written) == 1 + 301 + 200
    assert written[11][3:] == ["", "", "", "", "", "", "0", "0"]


def test_only_the_records_asked_for_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "SetA/p1", person(7, 50))
    (tmp_path / "SetA/p2.csv").write_text("nonsense")
    args = ["evaluate", "glucose", "--data", str(tmp_path)]
    assert main([*args, "--records", "SetA/p1"]) == 0
    assert main(args) == 2
    assert "p2.csv:1: the columns are 'nonsense'" in capsys.readouterr().err
    assert main([*args, "--records", "SetA/p3"]) == 2
    assert "p3.csv" in capsys.readouterr().err
