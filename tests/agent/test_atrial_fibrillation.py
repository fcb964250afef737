"""The rule about atrial fibrillation at its boundaries, on windows written down by hand."""

from __future__ import annotations

import itertools

import pytest

from agent.alarms.atrial_fibrillation import AtrialFibrillation
from agent.alarms.observation import Condition, Observation, Prediction, Quality, SignalLost, SignalStart

NS = 1_000_000_000
HOP_S, WINDOW_S = 4, 30


def window(
    at_s: float, af: float, *, begin_s: float = 0.0, noise: float = 0.0, usable: bool = True, unsure: bool = False
) -> Prediction:
    """What the model said at `at_s` of the half minute before, in a run that began at `begin_s`."""
    rest = (1.0 - af - noise) / 2
    start_s = max(begin_s, at_s - WINDOW_S)
    shares = (rest, af, rest, noise)
    label = "NAO~"[max(range(4), key=shares.__getitem__)]
    return Prediction("rhythm", round(start_s * NS), round(at_s * NS), label, max(shares), shares, unsure, usable)


def windows(*stretches: tuple[float, float, float]) -> list[Observation]:
    """(from s, to s, probability of fibrillation): a window every four seconds."""
    return [
        window(at_s, af)
        for start_s, end_s, af in stretches
        for at_s in range(round(start_s / HOP_S + 1) * HOP_S, round(end_s) + 1, HOP_S)
    ]


def run(rule: AtrialFibrillation, observations: list[Observation]) -> list[Condition]:
    out: list[Condition] = []
    for seen in observations:
        out += rule.advance(seen.at_ns)
        out += rule.see(seen)
    return out


def rule() -> AtrialFibrillation:
    return AtrialFibrillation("atrial_fibrillation")


def test_it_begins_once_and_is_not_repeated_while_it_lasts() -> None:
    (raised,) = run(rule(), windows((0, 120, 0.02), (120, 4000, 0.98)))
    assert raised.active
    assert "suggestive of atrial fibrillation" in raised.text


def test_the_onset_is_the_middle_of_the_first_window_that_was_fibrillation() -> None:
    (raised,) = run(rule(), windows((0, 120, 0.02), (120, 400, 0.98)))
    assert raised.onset_ns == (124 - 15) * NS


def test_after_sinus_rhythm_it_is_raised_when_it_has_held_for_half_a_minute_to_a_minute() -> None:
    sinus, af = windows((0, 120, 0.02)), windows((120, 200, 0.98))
    one = rule()
    assert run(one, [START, *sinus]) == []
    known = [(seen.at_ns, run(one, [seen])) for seen in af]
    at_ns, (raised,) = next((at_ns, found) for at_ns, found in known if found)
    assert 30 <= (at_ns - raised.onset_ns) / NS <= 60


START = SignalStart(0)


def test_a_recording_that_begins_in_fibrillation_dates_to_its_start() -> None:
    (raised,) = run(rule(), [START, *windows((0, 60, 0.95))])
    assert raised.onset_ns == 0
    assert raised.at_ns == 32 * NS


@pytest.mark.parametrize("length_s", [4, 12])
def test_a_few_windows_are_no_episode(length_s: int) -> None:
    assert run(rule(), windows((0, 120, 0.02), (120, 120 + length_s, 0.98), (120 + length_s, 300, 0.02))) == []


def test_it_ends_once_dated_to_the_first_window_without_it() -> None:
    raised, over = run(rule(), windows((0, 120, 0.02), (120, 400, 0.98), (400, 800, 0.02)))
    assert (raised.active, over.active) == (True, False)
    assert over.onset_ns == raised.onset_ns
    assert over.until_ns == (404 - 15) * NS
    assert over.at_ns < 430 * NS


def test_a_second_episode_is_another_alarm() -> None:
    found = run(rule(), windows((0, 100, 0.98), (100, 300, 0.02), (300, 500, 0.98)))
    assert [condition.active for condition in found] == [True, False, True]
    assert found[0].onset_ns != found[2].onset_ns


def test_probabilities_about_one_half_neither_begin_nor_end_it() -> None:
    wavering = [window(at_s, 0.45 if turn % 2 else 0.55) for turn, at_s in enumerate(range(4, 2000, HOP_S))]
    assert run(rule(), [START, *wavering]) == []
    one = rule()
    run(one, [START, *windows((0, 200, 0.98))])
    assert run(one, [window(200 + seen.at_ns / NS, seen.probabilities[1]) for seen in wavering]) == []


def test_poor_windows_and_noise_say_nothing() -> None:
    one = rule()
    run(one, [START, *windows((0, 200, 0.98))])
    noise = [window(at_s, 0.01, noise=0.9) for at_s in range(204, 400, HOP_S)]
    poor = [window(at_s, 0.01, usable=False) for at_s in range(400, 600, HOP_S)]
    seconds = [Quality(200 * NS, 201 * NS, good=False, reason="noise")]
    assert run(one, [*seconds, *noise, *poor]) == []
    assert run(rule(), [START, *[window(at_s, 0.98, usable=False) for at_s in range(4, 400, HOP_S)]]) == []


def test_noise_that_is_possible_does_not_count_against_fibrillation() -> None:
    noisy = [window(at_s, 0.5, noise=0.4) for at_s in range(4, 60, HOP_S)]
    assert [found.active for found in run(rule(), [START, *noisy])] == [True]


def test_what_the_model_is_unsure_of_does_not_begin_it() -> None:
    unsure = [window(at_s, 0.9, unsure=True) for at_s in range(4, 400, HOP_S)]
    assert run(rule(), [START, *unsure]) == []


def test_it_is_not_joined_over_a_gap() -> None:
    before = windows((0, 28, 0.98))
    after = [window(at_s, 0.98, begin_s=60.0) for at_s in range(64, 84, HOP_S)]
    assert run(rule(), [START, *before, SignalLost(30 * NS, "missing"), SignalStart(60 * NS), *after]) == []


def test_a_lead_that_comes_off_does_not_end_it() -> None:
    one = rule()
    assert run(one, [START, *windows((0, 60, 0.98))])
    again = [window(at_s, 0.02, begin_s=100.0) for at_s in range(104, 140, HOP_S)]
    (over,) = run(one, [SignalLost(62 * NS, "missing"), SignalStart(100 * NS), *again])
    assert (over.active, over.until_ns) == (False, 100 * NS)


def test_other_models_are_not_its_business() -> None:
    shockable = [Prediction("vf", 0, at_s * NS, "shockable", 0.9, (0.1, 0.9)) for at_s in range(4, 400, HOP_S)]
    assert run(rule(), [START, *shockable]) == []


def test_every_end_belongs_to_a_beginning_whatever_comes() -> None:
    pattern = [0.98, 0.02, 0.6, 0.5, 0.4]
    for order in itertools.permutations(pattern):
        stretches = [(100.0 * k, 100.0 * (k + 1), af) for k, af in enumerate(order)]
        found = run(rule(), windows(*stretches))
        assert [condition.active for condition in found] == [k % 2 == 0 for k in range(len(found))]
        for raised, over in itertools.pairwise(found):
            if raised.active:
                assert over.onset_ns == raised.onset_ns <= (over.until_ns or 0)
