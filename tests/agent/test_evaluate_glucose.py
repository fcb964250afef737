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

from agent.alarms.alert import AlertEvent, Category, Phase, Priority
from agent.cli import main
from agent.evaluate.glucose import CSV_HEADER, balanced, score_person
from agent.evaluate.glucose_stream import FIGURES, Heard, Said, stream
from agent.evaluate.glucose_tables import AR2, LAST, NIGHTSCOUT, TUNED, VAGUS, group_table, tuned
from agent.inference import Models, shipped_models
from agent.ingest.glucose_csv import GlucoseFile, glucose_files, read_glucose_csv
from agent.ingest.wfdb import RecordError
from agent.scoring.glucose_events import LE54_20, LT70_30
from agent.signal import glucose_window
from agent.signal.outlook import Expected, Outlook, Risk
from firmware_bridge.chunk import NS_PER_S
from models.backends import open_backend
from models.pack import available_packs, load, shipped

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


@pytest.mark.parametrize(
    ("minutes", "interval_s"),
    [
        ([5 * k for k in range(40) if k % 5], 300),  # a fifth is missing
        ([15 * k for k in range(20)], 900),
        ([5, 20, 20.1, 21, 35, 36, 50, 62, 65, 66, 67, 80, 95, 97, 110], 900),  # scanned between
        ([5 * k for k in range(10)] + [1000, 2000, 3000], 300),  # long gaps
        ([7], 300),
        ([], 300),
    ],
)
def test_the_interval_of_a_sensor_is_told_by_its_file(tmp_path: Path, minutes: list[float], interval_s: float) -> None:
    file = read_glucose_csv(write(tmp_path, "SetA/p1", [(at(t), 100) for t in minutes]))
    assert file.stream().interval_s == interval_s


# -- what is said at each row ------------------------------------------------------------------------------------------


def outlook(minutes: float, mg_dl: float) -> Outlook:
    """One that tells in all its figures at which reading it was made."""
    expected = tuple(Expected(ahead, mg_dl + ahead, mg_dl, mg_dl + 2 * ahead) for ahead in (30, 60))
    return Outlook(ns(minutes), mg_dl, expected, Risk(mg_dl / 1000), Risk(mg_dl / 2000), Risk(0.0))


def alert(rule: str, phase: Phase, minutes: float) -> AlertEvent:
    return AlertEvent("id", "SetA/p1", rule, Category.PHYSIOLOGICAL, Priority.LOW, phase, ns(minutes), ns(minutes), "")


def ns(minutes: float) -> int:
    return round((MIDNIGHT.timestamp() + 60 * minutes) * NS_PER_S)


def test_a_row_has_the_outlook_in_force_at_its_own_time_and_none_that_knows_more(tmp_path: Path) -> None:
    rows = [
        (at(0), 100),  # nothing said yet
        (at(5), 101),
        (at(5), 101),  # again
        (at(10), 999),  # refused: the outlook before it is in force
        (at(15), 103),
        (at(12), 102),  # late: told nothing of 103
        (at(30), 104),
        (at(46), 105),  # refused, and the outlook before it is too old
        ("never", 106),
    ]
    file = read_glucose_csv(write(tmp_path, "SetA/p1", rows))
    heard = Heard()
    for minutes, mg_dl in ((5, 101), (15, 103), (30, 104)):
        heard.take(outlook(minutes, mg_dl))
    said = heard.at_rows(file)
    np.testing.assert_array_equal(said.figures["f30"], [math.nan, 131, 131, 131, 133, 131, 134, math.nan, math.nan])
    np.testing.assert_array_equal(said.figures["f60_hi"], said.figures["f30"] + 90)
    np.testing.assert_array_equal(said.figures["p_lt70_30"], (said.figures["f30"] - 30) / 1000)
    assert said.counts == {"said": 3, "in force": 3, "nothing said": 2, "no reading": 1}


def test_an_alarm_is_on_at_a_row_by_what_was_decided_up_to_then(tmp_path: Path) -> None:
    file = read_glucose_csv(write(tmp_path, "SetA/p1", [(at(5 * k), 100) for k in (0, 1, 2, 3, 4, 5, 2)]))
    heard = Heard()
    for event in (
        alert("predicted_low", Phase.START, 5),
        alert("urgent_low_soon", Phase.START, 10),
        alert("low", Phase.START, 11),
        alert("predicted_low", Phase.UPDATE, 12),
        alert("predicted_low", Phase.END, 15),
        alert("predicted_low", Phase.START, 15),
        alert("predicted_low", Phase.END, 25),
    ):
        heard.alert(event)
    said = heard.at_rows(file)
    assert said.alarm_low.tolist() == [False, True, True, True, True, False, True]
    assert said.alarm_urgent.tolist() == [False, False, True, True, True, True, True]


@pytest.fixture(scope="module")
def models() -> Models:
    if "glucose" not in {path.name for path in available_packs()}:
        pytest.skip("no glucose pack ships")
    return shipped_models()


def company(folder: Path) -> list[GlucoseFile]:
    """People of both kinds of sensor, with rows that came twice, late and broken."""
    rng = np.random.default_rng(11)
    files = []
    for k in range(4):
        rows: list[tuple[str, object]] = [*person(k, 220 + 40 * k, 15 if k == 2 else 5)]
        for place in rng.integers(5, 200, 8).tolist():
            rows.insert(place, rows[place - 1])
        for place in rng.integers(5, 200, 4).tolist():
            rows.insert(place, rows.pop(place + 3))
        rows.insert(int(rng.integers(5, 200)), (at(3), 999))
        files.append(read_glucose_csv(write(folder, f"SetA/p{k}", rows)))
    return files


def same(one: Said, other: Said) -> bool:
    return all(np.array_equal(one.figures[name], other.figures[name], equal_nan=True) for name in FIGURES) and bool(
        (one.alarm_low == other.alarm_low).all() and (one.alarm_urgent == other.alarm_urgent).all()
    )


def test_streamed_alone_in_company_and_in_other_pieces_the_same_is_said(tmp_path: Path, models: Models) -> None:
    files = company(tmp_path)
    together = stream(files, models)
    assert any(said.alarm_low.any() for said in together)
    for file, said in zip(files, together, strict=True):
        assert same(stream([file], models)[0], said)
        assert said.counts["said"] > 200
    for readings_a_step in (2, 7, 1000):
        for one, other in zip(stream(files, models, readings_a_step=readings_a_step), together, strict=True):
            assert same(one, other)


def test_nothing_said_at_a_row_depends_on_what_follows(tmp_path: Path, models: Models) -> None:
    file = company(tmp_path)[0]
    said = stream([file], models)[0]
    cut = 150
    path = write(tmp_path, "SetB/p0", list(zip(file.timestamps[:cut], file.texts[:cut], strict=True)))
    first = stream([read_glucose_csv(path)], models)[0]
    for name in FIGURES:
        np.testing.assert_array_equal(first.figures[name], said.figures[name][:cut])
    assert first.alarm_low.tolist() == said.alarm_low[:cut].tolist()


def test_the_stream_says_what_one_batch_over_the_same_histories_does(tmp_path: Path, models: Models) -> None:
    """The network asked directly, all at once: the first forecasts, before anything was fitted to the person.

    Of the interval and the events there are outcomes after half an hour; a correction of the mean needs four hours.
    """
    rows = person(8, 48)
    file = read_glucose_csv(write(tmp_path, "SetA/p8", rows))
    said = stream([file], models)[0]
    mg_dl = file.mg_dl.astype(np.float32)
    histories = [(file.t_ns[: k + 1], mg_dl[: k + 1]) for k in range(len(rows))]
    signal, context = glucose_window.prepare(histories, [0.0] * len(rows))
    pack = load(shipped("glucose"))
    outputs = open_backend(pack).run({"signal": signal, "context": context})
    changes, risks = pack.changes(outputs), pack.probabilities(outputs)
    for horizon, name in enumerate(("f30", "f60")):
        batch = mg_dl[:, None] + changes[:, horizon]
        np.testing.assert_allclose(said.figures[name], batch[:, 1], atol=1e-3)
        ends = np.stack([said.figures[f"{name}_lo"], said.figures[f"{name}_hi"]], axis=1)
        np.testing.assert_allclose(ends[:6], batch[:6, ::2], atol=1e-3)
    for name, label in (("p_lt70_30", "lt70_30"), ("p_le54_20", "le54_20")):
        np.testing.assert_allclose(said.figures[name][:6], risks[:6, pack.labels.index(label)], atol=1e-5)


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


@pytest.mark.usefixtures("models")
def test_what_is_printed_can_be_counted_from_the_rows_that_are_written(tmp_path: Path) -> None:
    """By somebody who has the CSV alone, and the protocol."""
    for k in range(3):
        write(tmp_path, f"SetA/p{k}", person(20 + k, 700))
    out = tmp_path / "out.json", tmp_path / "out.csv"
    assert (
        main(["evaluate", "glucose", "--data", str(tmp_path), "--json", str(out[0]), "--predictions", str(out[1])]) == 0
    )
    errors: list[float] = []
    inside = alarmed_false = alarmed_true = 0
    with out[1].open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for k in range(3):
        own = [row for row in rows if row["subject"] == f"SetA/p{k}"]
        glucose = [float(row["glucose"]) for row in own]
        heard = -6
        for place in range(8, len(own)):  # regular readings without a gap: one a slot
            row, soon = own[place], glucose[place + 1 : place + 7]
            if place + 6 < len(own):
                errors.append(float(row["f30"]) - glucose[place + 6])
                inside += float(row["f30_lo"]) <= glucose[place + 6] <= float(row["f30_hi"])
            if row["alarm_lt70"] == "1" and glucose[place] >= 70 and place - heard >= 6:
                heard = place
                alarmed_true += any(later < 70 for later in soon)
                alarmed_false += all(later >= 70 for later in soon)
    figures = json.loads(out[0].read_text())["all"]["figures"]
    assert math.sqrt(sum(e * e for e in errors) / len(errors)) == pytest.approx(
        figures["forecast_30"][VAGUS]["rmse"], abs=0.01
    )
    assert inside / len(errors) == pytest.approx(figures["forecast_30"][VAGUS]["interval_coverage"], abs=0.002)
    low = figures[LT70_30.name][VAGUS]
    assert alarmed_true / (alarmed_true + alarmed_false) == pytest.approx(low["precision"])
    assert alarmed_true > 0


def test_only_the_records_asked_for_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "SetA/p1", person(7, 50))
    (tmp_path / "SetA/p2.csv").write_text("nonsense")
    args = ["evaluate", "glucose", "--data", str(tmp_path)]
    assert main([*args, "--records", "SetA/p1"]) == 0
    assert main(args) == 2
    assert "p2.csv:1: the columns are 'nonsense'" in capsys.readouterr().err
    assert main([*args, "--records", "SetA/p3"]) == 2
    assert "p3.csv" in capsys.readouterr().err
