"""How the glucose pack is made: whose readings it may learn from, what is asked, what held-out people tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("wfdb")
pytest.importorskip("matplotlib")

import torch

from agent.ingest.simulate import cgm_readings
from agent.scoring.glucose import total
from agent.signal.glucose_window import UNIT_MG_DL
from firmware_bridge.chunk import NS_PER_S
from models.manifest import AlarmAt, Platt
from models.training.datasets import CC_BY, RefusedRecordError
from models.training.glucose_card import output
from models.training.glucose_examples import (
    Examples,
    concatenate,
    examples_of,
    is_sparse,
)
from models.training.glucose_figures import golden_inputs
from models.training.glucose_network import (
    FORECASTS,
    LARGEST,
    MEANS,
    OUTPUTS,
    GlucoseNetwork,
    Recipe,
    fit,
    loss_of,
    outputs_of,
    parameters,
)
from models.training.glucose_records import (
    TRAINABLE,
    Person,
    accepted,
    folds,
    read_person,
    sites,
    subjects,
)
from models.training.glucose_scores import (
    Calibration,
    HeldOut,
    alarm_scores,
    calibrate,
    fit_platt,
    forecasts,
    grids_of,
    last_value,
    pooled,
    scores_of,
    standing,
    threshold,
    widening,
)
from models.training.packing import sources

T0_NS = 1_700_000_100 * NS_PER_S


def person(seed: int, name: str = "P03", interval_s: float = 300.0, days: int = 3) -> Person:
    """Somebody invented, whose glucose goes up and down, sometimes low and sometimes high."""
    levels = np.random.default_rng(seed).uniform(50.0, 290.0, 8 * days + 1)
    course = [(3.0 * step, float(level)) for step, level in enumerate(levels)]
    readings = cgm_readings(seed, course, interval_s=interval_s)
    times = np.array([T0_NS + round(one.t_s * NS_PER_S) for one in readings], dtype=np.int64)
    return Person("Bris-T1D_Open", name, times, np.array([one.mg_dl for one in readings]))


def knows_all(people: list[Person]) -> HeldOut:
    """As if a network had said what came, and been sure of every event."""
    examples = concatenate([examples_of(one) for one in people])
    outputs = np.zeros((len(examples), OUTPUTS), dtype=np.float32)
    for k, column in enumerate(MEANS):
        change = np.nan_to_num(examples.change[:, k]) / UNIT_MG_DL
        outputs[:, column - 1 : column + 2] = change[:, None] + np.array([-0.5, 0.0, 0.5])
    outputs[:, FORECASTS:] = np.where(examples.event, 4.0, -4.0)
    return HeldOut(examples, grids_of(people), outputs, outputs, outputs)


SURE = Calibration(
    (0.0, 0.0),
    {label: Platt(scale=1.0, bias=0.0) for label in ("lt70_30", "le54_20", "gt250_30")},
    {label: AlarmAt(start_at=0.5, end_below=0.4) for label in ("lt70_30", "le54_20", "gt250_30")},
)


# -- who may be learnt from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "name"), [("AZT1D", "Subject_4"), ("Bris-T1D_Open", "P02"), ("PhysioCGM", "c1s01"), ("T1D-UOM", "x")]
)
def test_somebody_who_judges_cannot_be_read(dataset: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedRecordError, match=f"{dataset}/{name}"):
        read_person(tmp_path, dataset, name)


def test_the_lists_are_those_that_were_given() -> None:
    assert {dataset: len(names) for dataset, names in TRAINABLE.items()} == {
        "AZT1D": 19,
        "Bris-T1D_Open": 16,
        "T1D-UOM": 13,
    }
    assert len(set(subjects())) == 48


def test_a_source_is_named_with_its_own_licence() -> None:
    assert {one.licence for one in sources(TRAINABLE)} == {CC_BY}
    assert sources({"mitdb": ["100"]})[0].licence != CC_BY


def test_readings_are_those_that_the_live_track_calls_new() -> None:
    minutes = np.array([0, 5, 5, 10, 11, 15, 20, 18, 25, 30])
    mg_dl = np.array([100.0, 101.0, 99.0, 102.0, 103.0, 1.8, 103.0, 90.0, 700.0, 104.0])
    times, values = accepted(T0_NS + minutes * 60 * NS_PER_S, mg_dl)
    assert ((times - T0_NS) // (60 * NS_PER_S)).tolist() == [0, 5, 10, 20, 30]
    assert values.tolist() == [100.0, 101.0, 102.0, 103.0, 104.0]


def test_a_file_is_read_from_the_folder_of_all_recordings_too(tmp_path: Path) -> None:
    folder = tmp_path / "glucose" / "AZT1D"
    folder.mkdir(parents=True)
    (folder / "Subject_1.csv").write_text("timestamp,glucose_mg_dl\n2024-01-01 00:00:00,100\n2024-01-01 00:05:00,90\n")
    assert read_person(tmp_path, "AZT1D", "Subject_1").mg_dl.tolist() == [100.0, 90.0]
    assert read_person(tmp_path / "glucose", "AZT1D", "Subject_1").patient == "AZT1D/Subject_1"


def test_folds_keep_people_apart_and_hold_some_of_every_set() -> None:
    people = [f"{dataset}/{name}" for dataset, name in subjects()]
    parts = folds(people, 6, 1)
    assert sorted(patient for part in parts for patient in part) == sorted(people)
    assert all({one.partition("/")[0] for one in part} == set(TRAINABLE) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [len(site) for site in sites(people)] == [19, 16, 13]


@pytest.mark.recordings
def test_a_real_persons_readings_ascend(recordings_dir: Callable[[str], Path]) -> None:
    read = read_person(recordings_dir("glucose").parent, "T1D-UOM", "UoMGlucose2301")
    assert (np.diff(read.times_ns) >= 100 * NS_PER_S).all()
    assert read.mg_dl.min() >= 20.0
    assert read.mg_dl.max() <= 600.0


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_a_target_is_the_reading_exactly_ahead_or_none() -> None:
    whole = person(1)
    kept = np.ones(len(whole.times_ns), dtype=np.bool_)
    kept[100] = False
    found = examples_of(Person(whole.dataset, whole.name, whole.times_ns[kept], whole.mg_dl[kept]))
    assert np.isnan(found.change[94, 0])
    assert np.isnan(found.change[88, 1])
    assert found.change[90, 0] == pytest.approx(whole.mg_dl[96] - whole.mg_dl[90])
    assert found.change[90, 1] == pytest.approx(whole.mg_dl[102] - whole.mg_dl[90])


def test_events_are_what_came_and_are_no_question_once_they_are_there() -> None:
    level = np.r_[np.full(20, 100.0), [71.0, 69.0, 60.0, 54.0, 54.0], np.full(20, 260.0)]
    times = T0_NS + np.arange(len(level)) * 300 * NS_PER_S
    found = examples_of(Person("AZT1D", "Subject_1", times, level))
    assert found.event[15].tolist() == [True, False, True] or found.event[15].tolist() == [True, False, False]
    assert found.event[19].tolist() == [True, True, True]
    assert found.event[14].tolist() == [False, False, False]
    assert found.counted[20].tolist() == [True, True, True]
    assert found.counted[21].tolist() == [False, True, True]
    assert found.counted[23].tolist() == [False, False, True]
    assert found.counted[30].tolist() == [True, True, False]
    assert not found.counted[-1].any()


def test_which_sensor_was_worn_is_told() -> None:
    assert not is_sparse(examples_of(person(4))).any()
    assert is_sparse(examples_of(person(4, interval_s=900.0))).all()
    assert examples_of(person(4, interval_s=900.0)).usable[4:].all()


# -- the network -------------------------------------------------------------------------------------------------------


def test_unknown_outcomes_cost_nothing_and_far_outputs_do() -> None:
    outputs = torch.zeros((4, OUTPUTS))
    change = torch.zeros((4, 2))
    event, counted = torch.zeros((4, 3)), torch.ones((4, 3))
    plain = loss_of(outputs, change, event, counted, Recipe())
    change[1:] = torch.nan
    assert torch.isclose(loss_of(outputs, change, event, counted, Recipe()), plain)
    counted[2:] = 0.0
    assert loss_of(outputs, change, event, counted, Recipe()) < plain
    outputs[0, 0] = LARGEST + 3.0
    assert loss_of(outputs, change, event, counted, Recipe()) > plain


def learnt() -> tuple[Examples, torch.nn.Module, torch.nn.Module]:
    recipe = Recipe(passes=12.0, batch=128, averaging=0.9, width=32, layers=2)
    examples = concatenate([examples_of(person(seed, f"P{seed}")) for seed in range(4)])
    return examples, fit(examples, recipe, 7), fit(examples, recipe, 7)


def test_a_network_learns_where_glucose_goes_and_is_the_same_again() -> None:
    plain, network, again = learnt()
    outputs = outputs_of(network, plain)
    assert outputs.shape == (len(plain), OUTPUTS)
    assert np.array_equal(outputs, outputs_of(again, plain))
    off = outputs[plain.judged][:, MEANS] * UNIT_MG_DL - plain.change[plain.judged]
    assert (np.sqrt((off**2).mean(0)) < 0.6 * np.sqrt((plain.change[plain.judged] ** 2).mean(0))).all()
    asked = plain.counted[:, 0]
    likely = outputs[asked, FORECASTS]
    assert likely[plain.event[asked, 0]].mean() > likely[~plain.event[asked, 0]].mean() + 2.0
    assert parameters(network) > 1000


def test_of_nobody_a_network_says_nothing() -> None:
    plain = examples_of(person(1)).take(np.zeros(0, dtype=np.int64))
    assert outputs_of(GlucoseNetwork(Recipe()), plain).shape == (0, OUTPUTS)


# -- what is found on held-out people ----------------------------------------------------------------------------------


def test_platt_finds_the_scale_and_bias_that_were_there() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(-1.0, 2.0, 40_000).astype(np.float32)
    came = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.7 * logits - 0.5)))
    found = fit_platt(logits, came)
    assert found.scale == pytest.approx(0.7, abs=0.03)
    assert found.bias == pytest.approx(-0.5, abs=0.05)


def test_the_interval_is_widened_or_narrowed_to_hold_nine_of_ten() -> None:
    rng = np.random.default_rng(2)
    change = rng.normal(0.0, 20.0, (10_000, 2)).astype(np.float32)
    for half in (0.5, 3.0):
        outputs = np.zeros((len(change), OUTPUTS), dtype=np.float32)
        outputs[:, [0, 3]], outputs[:, [2, 5]] = -half, half
        widen = widening(outputs, change)
        inside = np.abs(change) <= half * UNIT_MG_DL + np.array(widen)
        assert inside.mean(0) == pytest.approx([0.9, 0.9], abs=0.001)


def test_an_alarm_stands_until_its_probability_is_below_the_lower_mark() -> None:
    p = np.array([0.3, 0.6, 0.45, 0.39, 0.45, 0.5, 0.1], dtype=np.float32)
    assert standing(p, 0.5, 0.4).tolist() == [False, True, True, False, False, True, False]


def test_who_knows_all_has_no_error_and_no_false_alert() -> None:
    people = [person(seed, f"P{seed}") for seed in range(3)]
    held_out = knows_all(people)
    perfect = pooled(scores_of(held_out.grids, forecasts(held_out, SURE, held_out.outputs), 30))
    assert float(perfect.rmse) == pytest.approx(0.0, abs=1e-4)
    assert float(perfect.coverage) == 1.0
    assert float(pooled(scores_of(held_out.grids, last_value, 30)).rmse) > 10.0
    for label in ("lt70_30", "le54_20", "gt250_30"):
        score = total(list(alarm_scores(held_out, SURE, label, 0.5, 1.0).values()))
        assert float(score.events) > 0
        assert float(score.sensitivity) == 1.0
        assert float(score.false) == 0.0


def test_an_alarm_begins_where_the_budget_of_false_alerts_is_kept() -> None:
    people = [person(seed, f"P{seed}", days=8) for seed in range(3)]
    held_out = knows_all(people)
    noise = np.random.default_rng(4).normal(0.0, 2.0, len(held_out.examples)).astype(np.float32)
    held_out.outputs[:, FORECASTS] += noise
    starts = {budget: threshold(held_out, SURE, "lt70_30", budget) for budget in (0.5, 2.0)}
    assert starts[0.5] > starts[2.0]
    for budget, start_at in starts.items():
        score = total(list(alarm_scores(held_out, SURE, "lt70_30", start_at).values()))
        assert float(score.false_per_day) <= budget


def test_what_is_calibrated_fits_the_manifest() -> None:
    held_out = knows_all([person(seed, f"P{seed}") for seed in range(3)])
    rng = np.random.default_rng(5)
    held_out.outputs[:, FORECASTS:] += rng.normal(0.0, 4.0, (len(held_out.examples), 3)).astype(np.float32)
    said = output(calibrate(held_out))
    assert said.forecast is not None
    assert said.forecast.minutes == [30, 60]
    assert set(said.alarm) == set(said.platt) == set(said.labels)


def test_golden_readings_are_nobodys_and_the_same_again() -> None:
    first, again = golden_inputs(), golden_inputs()
    assert list(first) == ["signal", "context"]
    assert len(first["signal"]) == 64
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert (first["signal"][:, 2].mean(axis=1) < 0.5).any()
