"""Windows and alarms of shockable rhythm scored, on cases that can be counted by hand."""

from __future__ import annotations

import math

import pytest

from agent.scoring.episodes import (
    GRACE_S,
    JOINED_S,
    LEAST_EPISODE_S,
    AlarmScore,
    RhythmSpan,
    Share,
    Stretch,
    episodes,
    score_alarms,
    window_kinds,
    window_shares,
)

HOUR = [RhythmSpan(0.0, 1000.0, "OTHER"), RhythmSpan(1000.0, 1060.0, "VF"), RhythmSpan(1060.0, 3660.0, "OTHER")]


def test_a_window_over_a_change_of_rhythm_is_of_no_kind() -> None:
    assert window_kinds(HOUR, [990.0, 996.0, 1000.0, 1052.0, 1052.5], [998.0, 1004.0, 1008.0, 1060.0, 1060.5]) == [
        "OTHER",
        "",
        "VF",
        "VF",
        "",
    ]


def test_shares_are_sensitivity_of_shockable_kinds_and_specificity_of_the_others() -> None:
    shares = window_shares(
        ["VF", "VF", "VT", "OTHER", "ASYS", "NOISE", "", "OTHER"],
        [True, False, True, False, True, False, True, False],
    )
    assert shares == {
        "VF": Share(1, 2),
        "VT": Share(1, 1),
        "OTHER": Share(2, 2),
        "ASYS": Share(0, 1),
        "NOISE": Share(1, 1),
    }


def test_the_lower_bound_of_a_share_is_wilsons() -> None:
    assert Share(90, 100).lower_bound == pytest.approx(0.8548, abs=5e-4)
    assert Share(10, 10).lower_bound == pytest.approx(0.8589, abs=5e-4)
    assert math.isnan(Share(0, 0).lower_bound)


def test_episodes_nearly_touching_are_one() -> None:
    near = [
        RhythmSpan(0, 10, "VT"),
        RhythmSpan(10, 10 + JOINED_S, "OTHER"),
        RhythmSpan(10 + JOINED_S, 30, "VF"),
        RhythmSpan(30, 40, "OTHER"),
        RhythmSpan(40, 45, "VF"),
    ]
    assert episodes(near) == [Stretch(0, 30), Stretch(40, 45)]
    assert episodes(near, ("VT",)) == [Stretch(0, 10)]


def test_the_delay_is_from_onset_to_the_first_alarm_in_the_episode() -> None:
    score = score_alarms(HOUR, [Stretch(1006.5, 1020.0), Stretch(1030.0, 1062.0)])
    assert score.delays_s == (6.5,)
    assert (score.covered, score.false_alarms) == (0, 0)
    assert score.quiet_s == 3600.0


def test_a_missed_episode_is_announced_infinitely_late() -> None:
    score = score_alarms(HOUR, [])
    assert score.delays_s == (math.inf,)
    assert score.within(10.0) == Share(0, 1)


def test_an_episode_that_begins_under_an_alarm_is_not_fresh_and_the_alarm_was_false() -> None:
    score = score_alarms(HOUR, [Stretch(900.0, 1061.0)])
    assert (score.delays_s, score.covered, score.false_alarms) == ((), 1, 1)
    assert score.false_per_hour == pytest.approx(1.0)


def test_an_alarm_soon_after_the_episode_is_about_it_and_one_later_is_false() -> None:
    assert score_alarms(HOUR, [Stretch(1060.0 + GRACE_S, 1080.0)]).false_alarms == 0
    late = score_alarms(HOUR, [Stretch(1060.1 + GRACE_S, 1080.0)])
    assert (late.false_alarms, late.delays_s) == (1, (math.inf,))


def test_short_episodes_are_not_scored_but_an_alarm_in_them_is_not_false() -> None:
    spans = [
        RhythmSpan(0.0, 100.0, "OTHER"),
        RhythmSpan(100.0, 99.0 + LEAST_EPISODE_S, "VT"),
        RhythmSpan(99.0 + LEAST_EPISODE_S, 200.0, "OTHER"),
    ]
    score = score_alarms(spans, [Stretch(105.0, 112.0)])
    assert (score.delays_s, score.false_alarms) == ((), 0)


def test_in_a_stretch_of_unknown_kind_no_alarm_is_false_and_no_time_is_counted() -> None:
    spans = [RhythmSpan(0.0, 100.0, "OTHER"), RhythmSpan(100.0, 200.0, ""), RhythmSpan(200.0, 300.0, "ASYS")]
    score = score_alarms(spans, [Stretch(150.0, 160.0), Stretch(250.0, 260.0)])
    assert (score.delays_s, score.false_alarms, score.quiet_s) == ((), 1, 200.0)


def test_scores_add_up() -> None:
    total = score_alarms(HOUR, []).add(score_alarms(HOUR, [Stretch(1004.0, 1060.0), Stretch(2000.0, 2010.0)]))
    assert total == AlarmScore((math.inf, 4.0), 0, 1, 7200.0)
    assert total.within(10.0) == Share(1, 2)
    assert total.false_per_hour == pytest.approx(0.5)
