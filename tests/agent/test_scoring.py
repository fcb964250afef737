"""EC57 beat-by-beat comparison, by hand-made cases and against wfdb's comparator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.scoring import AAMI_CLASS, MATCH_WINDOW_S, format_table, gross, match_beats, score_beats, worst


def test_a_beat_pairs_within_150_ms_and_not_beyond() -> None:
    match = match_beats([1.0, 2.0, 3.0], [1.15, 2.151, 3.0])

    assert match.pairs.tolist() == [[0, 0], [2, 2]]
    assert match.missed.tolist() == [1]
    assert match.extra.tolist() == [1]


def test_of_two_detections_the_nearer_one_is_the_beat() -> None:
    match = match_beats([1.0], [0.9, 0.99])

    assert match.pairs.tolist() == [[0, 1]]
    assert match.extra.tolist() == [0]


def test_of_two_reference_beats_the_nearer_one_is_found() -> None:
    match = match_beats([1.0, 1.12], [1.11])

    assert match.pairs.tolist() == [[1, 0]]
    assert match.missed.tolist() == [0]


def test_nothing_against_nothing() -> None:
    score = score_beats("empty", [], [])

    assert math.isnan(score.sensitivity)
    assert math.isnan(score.positive_predictivity)
    assert math.isnan(score.jitter_s)


def test_unsorted_times_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        match_beats([2.0, 1.0], [1.0])


def test_the_first_five_minutes_are_not_scored() -> None:
    score = score_beats("r", [10.0, 299.9, 300.0, 301.0], [10.0, 20.0, 300.0])

    assert (score.reference_beats, score.detected, score.missed, score.extra) == (2, 1, 1, 0)


def test_flutter_is_not_scored() -> None:
    reference = [400.0, 450.0, 500.0]
    found = [400.0, 420.0, 430.0, 440.1, 500.0, 510.0]

    score = score_beats("r", reference, found, exclude_s=[(410.0, 460.0)])

    assert (score.reference_beats, score.detected, score.missed, score.extra) == (2, 2, 0, 1)


def test_sensitivity_and_predictivity_are_the_shares_they_are_called() -> None:
    score = score_beats("r", [1.0, 2.0, 3.0, 4.0], [1.01, 2.01, 3.01, 3.5, 6.0], start_s=0)

    assert score.sensitivity == pytest.approx(0.75)
    assert score.positive_predictivity == pytest.approx(0.6)
    assert score.error_rate == pytest.approx(0.75)
    np.testing.assert_allclose(score.timing_error_s, 0.01)
    assert score.jitter_s == pytest.approx(0, abs=1e-12)


def test_classes_are_counted_as_ec57_says() -> None:
    truth = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    labels = ["N", "V", "V", "F", "S", "V"]
    found = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0]
    called = ["V", "V", "N", "V", "S", "V"]

    score = score_beats("r", truth, found, reference_class=labels, test_class=called, start_s=0)
    veb, sveb = score.class_score("V"), score.class_score("S")

    assert (veb.true_positive, veb.false_negative, veb.false_positive) == (1, 2, 2)
    assert (sveb.true_positive, sveb.false_negative, sveb.false_positive) == (1, 0, 0)
    assert veb.sensitivity == pytest.approx(1 / 3)
    assert veb.positive_predictivity == pytest.approx(1 / 3)


def test_one_class_per_beat() -> None:
    with pytest.raises(ValueError, match="class"):
        score_beats("r", [1.0, 2.0], [1.0], reference_class=["N"])


def test_the_mapping_covers_every_beat_code_once() -> None:
    assert AAMI_CLASS["j"] == "N"
    assert AAMI_CLASS["/"] == "Q"
    assert {AAMI_CLASS[code] for code in "NLRej"} == {"N"}
    assert {AAMI_CLASS[code] for code in "AaJS"} == {"S"}
    assert {AAMI_CLASS[code] for code in "VE"} == {"V"}


def test_gross_counts_every_beat_of_every_record() -> None:
    good = score_beats("good", [1.0, 2.0, 3.0], [1.02, 2.02, 3.02], start_s=0)
    poor = score_beats("poor", [1.0], [0.5], start_s=0)

    total = gross([good, poor])

    assert (total.reference_beats, total.missed, total.extra) == (4, 1, 1)
    assert total.jitter_s == pytest.approx(0, abs=1e-12)
    assert [s.record for s in worst([good, poor], 1)] == ["poor"]
    assert "gross" in format_table([good, poor])


times = st.lists(st.integers(0, 4000), unique=True, max_size=60).map(lambda xs: np.sort(np.array(xs)) / 100)


@given(reference=times, test=times)
def test_every_beat_is_accounted_for_exactly_once(reference: np.ndarray, test: np.ndarray) -> None:
    match = match_beats(reference, test)

    assert sorted([*match.pairs[:, 0].tolist(), *match.missed.tolist()]) == list(range(len(reference)))
    assert sorted([*match.pairs[:, 1].tolist(), *match.extra.tolist()]) == list(range(len(test)))
    assert np.all(np.abs(reference[match.pairs[:, 0]] - test[match.pairs[:, 1]]) <= MATCH_WINDOW_S + 1e-6)


@given(reference=times)
def test_a_record_against_itself_is_perfect(reference: np.ndarray) -> None:
    score = score_beats("r", reference, reference, start_s=0)

    assert (score.missed, score.extra) == (0, 0)


def test_agrees_with_wfdb_comparator() -> None:
    processing = pytest.importorskip("wfdb.processing")
    rng = np.random.default_rng(5)
    reference = np.cumsum(rng.integers(250, 420, 800))
    kept = rng.random(800) > 0.05
    found = np.sort(np.concatenate((reference[kept] + rng.integers(-30, 30, kept.sum()), rng.integers(0, 250_000, 25))))
    found = np.unique(found)

    theirs = processing.Comparitor(reference, found, window_width=54)
    theirs.compare()
    ours = score_beats("r", reference / 360, found / 360, start_s=0)

    assert (ours.detected, ours.missed, ours.extra) == (theirs.tp, theirs.fn, theirs.fp)
