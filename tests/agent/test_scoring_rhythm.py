"""Rhythm scores on cases small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.scoring.rhythm import (
    AfTimeScore,
    af_time_score,
    f1_by_class,
    mean_f1,
    mean_f1_interval,
    recording_answer,
)


def test_one_window_answers_for_itself() -> None:
    np.testing.assert_allclose(recording_answer([[0.1, 0.7, 0.1, 0.1]], [30.0]), [0.1, 0.7, 0.1, 0.1])


def test_windows_that_saw_much_less_than_the_longest_do_not_count() -> None:
    answer = recording_answer([[0.9, 0.05, 0.03, 0.02], [0.1, 0.8, 0.06, 0.04]], [4.0, 28.0])
    assert answer.tolist() == pytest.approx([0.1, 0.8, 0.06, 0.04])


def test_no_window_is_noise_and_a_zero_is_no_veto() -> None:
    assert recording_answer([], []).tolist() == [0.0, 0.0, 0.0, 1.0]
    answer = recording_answer([[1.0, 0.0, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], [30.0] * 3)
    assert answer.argmax() == 1
    assert np.isfinite(answer).all()


def test_windows_and_lengths_belong_together() -> None:
    with pytest.raises(ValueError, match="1 windows but 2 lengths"):
        recording_answer([[0.25] * 4], [1.0, 2.0])


def test_f1_counts_by_hand() -> None:
    scores = f1_by_class(list("NNNAAO"), list("NNAAOO"))
    assert scores["N"] == pytest.approx(2 * 2 / (3 + 2))
    assert scores["A"] == pytest.approx(2 * 1 / (2 + 2))
    assert scores["O"] == pytest.approx(2 * 1 / (1 + 2))
    assert math.isnan(scores["~"])
    assert mean_f1(list("NNNAAO"), list("NNAAOO")) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_noise_called_normal_costs_normal() -> None:
    assert mean_f1(list("NAO~"), list("NAON")) < mean_f1(list("NAO~"), list("NAO~")) == 1.0


def test_the_interval_holds_the_figure_and_is_the_same_each_time() -> None:
    truth, answer = list("NNNNAAOO~~" * 30), list("NNNAAAOON~" * 30)
    low, high = mean_f1_interval(truth, answer)
    assert low < mean_f1(truth, answer) < high
    assert (low, high) == mean_f1_interval(truth, answer)


def test_time_is_counted_on_both_sides_of_every_edge() -> None:
    score = af_time_score([(100.0, 200.0)], [(120.0, 230.0)], (0.0, 1000.0))
    assert (score.true_s, score.missed_s, score.false_s, score.rest_s) == (80.0, 20.0, 30.0, 870.0)
    assert score.sensitivity == pytest.approx(0.8)
    assert score.specificity == pytest.approx(870 / 900)
    assert (score.episode_sensitivity, score.episode_positive_predictivity) == (1.0, 1.0)


def test_what_lies_outside_the_scored_part_or_in_flutter_counts_for_nothing() -> None:
    score = af_time_score(
        [(0.0, 50.0), (900.0, 2000.0)], [(500.0, 600.0)], (100.0, 1000.0), unscored=[(500.0, 600.0), (950.0, 1000.0)]
    )
    assert (score.true_s, score.missed_s, score.false_s, score.rest_s) == (0.0, 50.0, 0.0, 700.0)
    assert (score.said, score.episodes) == (0, 1)


def test_a_short_episode_is_not_asked_for_but_right_when_said() -> None:
    score = af_time_score([(10.0, 25.0)], [(12.0, 30.0)], (0.0, 100.0))
    assert (score.episodes, score.said, score.said_true) == (0, 1, 1)


def test_gross_is_the_sum_and_an_empty_one_has_no_shares() -> None:
    one = af_time_score([(0.0, 50.0)], [], (0.0, 100.0))
    other = af_time_score([], [(0.0, 50.0)], (0.0, 100.0))
    both = one + other
    assert both.sensitivity == 0.0
    assert both.specificity == pytest.approx(2 / 3)
    assert math.isnan(AfTimeScore().sensitivity)
