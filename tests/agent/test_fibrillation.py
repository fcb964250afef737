"""The alarm on fibrillation at its boundaries, on predictions written down by hand."""

from __future__ import annotations

import pytest

from agent.alarms.fibrillation import Fibrillation
from agent.alarms.observation import Condition, Observation, Prediction, Quality, SignalLost, SignalStart

NS = 1_000_000_000
WINDOW_S = 8.0
AVERAGED = Fibrillation.AVERAGED


def prediction(at_s: float, shockable: float, *, usable: bool = True, task: str = "vf") -> Prediction:
    label = "shockable" if shockable >= 0.5 else "other"
    return Prediction(
        task,
        round((at_s - WINDOW_S) * NS),
        round(at_s * NS),
        label,
        max(shockable, 1.0 - shockable),
        (1.0 - shockable, shockable),
        usable=usable,
    )


def every_second(shares: list[float], start_s: float = 100.0) -> list[Observation]:
    return [prediction(start_s + k, share) for k, share in enumerate(shares)]


def run(rule: Fibrillation, observations: list[Observation], until_s: float | None = None) -> list[Condition]:
    out: list[Condition] = []
    for seen in observations:
        out += rule.advance(seen.at_ns)
        out += rule.see(seen)
    if until_s is not None:
        out += rule.advance(round(until_s * NS))
    return out


def fibrillation() -> Fibrillation:
    return Fibrillation("ventricular_fibrillation", on_at=0.6)


def test_it_begins_with_the_last_of_the_averaged_predictions_and_not_before() -> None:
    rule = fibrillation()
    assert run(rule, every_second([0.9] * (AVERAGED - 1))) == []
    (raised,) = run(rule, [prediction(100.0 + AVERAGED - 1, 0.9)])
    assert raised.active
    assert raised.at_ns == round((100.0 + AVERAGED - 1) * NS)
    assert "suggestive of ventricular fibrillation or flutter" in raised.text


def test_the_onset_lies_the_deciding_seconds_before_the_first_likely_prediction() -> None:
    quiet, sure = [0.1] * 10, [0.95] * AVERAGED
    (raised,) = run(fibrillation(), every_second([*quiet, *sure]))
    assert raised.onset_ns == round((110.0 - Fibrillation.DECIDING_S) * NS)


def test_the_onset_is_never_before_the_window_that_first_showed_it() -> None:
    first = Prediction("vf", 99 * NS, 100 * NS, "shockable", 0.9, (0.1, 0.9))
    (raised,) = run(fibrillation(), [first, *every_second([0.9] * AVERAGED, start_s=101.0)])
    assert raised.onset_ns == 99 * NS


@pytest.mark.parametrize(("share", "raises"), [(0.6, True), (0.5999, False)])
def test_the_mean_must_reach_the_limit(share: float, raises: bool) -> None:
    assert bool(run(fibrillation(), every_second([share] * 30))) == raises


def test_one_doubtful_second_among_sure_ones_is_outvoted_and_one_sure_second_among_quiet_ones_too() -> None:
    rest = AVERAGED - 1
    assert run(fibrillation(), every_second([*[0.95] * rest, 0.3]))
    assert run(fibrillation(), every_second([*[0.1] * rest, 1.0, *[0.1] * rest])) == []


def test_it_ends_when_the_mean_falls_below_the_lower_limit() -> None:
    rule = fibrillation()
    (raised,) = run(rule, every_second([0.9] * AVERAGED))
    between = (Fibrillation.OFF_AT + 0.6) / 2
    assert run(rule, every_second([between] * 20, start_s=100.0 + AVERAGED)) == []
    (ended,) = run(rule, every_second([0.0] * AVERAGED, start_s=120.0 + AVERAGED))
    assert not ended.active
    assert ended.onset_ns == raised.onset_ns
    assert ended.rule == raised.rule


def test_after_its_end_it_takes_as_many_predictions_again() -> None:
    rule = fibrillation()
    run(rule, every_second([0.9] * AVERAGED))
    seconds = iter(every_second([0.0] * AVERAGED, start_s=100.0 + AVERAGED))
    (ended,) = next(found for seen in seconds if (found := run(rule, [seen])))
    assert not ended.active
    start_s = ended.at_ns / NS + 1
    assert run(rule, every_second([1.0] * (AVERAGED - 1), start_s=start_s)) == []
    assert run(rule, [prediction(start_s + AVERAGED - 1, 1.0)])


def test_predictions_on_poor_signal_neither_raise_nor_end_it() -> None:
    rule = fibrillation()
    assert run(rule, [prediction(100.0 + k, 1.0, usable=False) for k in range(30)]) == []
    run(rule, every_second([0.9] * AVERAGED, start_s=130.0))
    after_s = 130.0 + AVERAGED
    assert run(rule, [prediction(after_s + k, 0.0, usable=False) for k in range(10)]) == []


def test_it_ends_when_nothing_could_be_judged_for_long() -> None:
    rule = fibrillation()
    (raised,) = run(rule, every_second([0.9] * AVERAGED))
    over_s = raised.at_ns / NS + Fibrillation.QUIET_S
    assert rule.advance(round((over_s - 0.001) * NS)) == []
    (ended,) = rule.advance(round(over_s * NS))
    assert (ended.active, ended.at_ns) == (False, round(over_s * NS))


def test_predictions_on_both_sides_of_a_gap_are_not_averaged() -> None:
    for gap in (SignalLost(101 * NS, "missing"), SignalStart(101 * NS)):
        rule = fibrillation()
        assert run(rule, every_second([0.9] * (AVERAGED - 1), start_s=100.0 - AVERAGED)) == []
        assert run(rule, [gap, prediction(102.0, 0.9)]) == []


def test_predictions_far_apart_are_not_averaged() -> None:
    apart_s = Fibrillation.PASSED_OVER_S + 1.0
    assert run(fibrillation(), [prediction(100.0 + apart_s * k, 1.0) for k in range(20)]) == []


def test_answers_to_other_questions_and_other_observations_are_not_its_business() -> None:
    rule = fibrillation()
    strangers: list[Observation] = [prediction(100.0 + k, 1.0, task="rhythm") for k in range(20)]
    strangers += [Quality(t * NS, (t + 1) * NS, good=True) for t in range(120, 140)]
    assert run(rule, strangers, until_s=200.0) == []
