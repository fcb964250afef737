"""Each rule at its boundaries, on beats written down by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from agent.alarms.ectopy import Bigeminy, PvcBurden, VentricularRun
from agent.alarms.limits import Limits
from agent.alarms.observation import (
    Beat,
    BeatStatus,
    Condition,
    Observation,
    Prediction,
    Quality,
    SignalLost,
    SignalStart,
)
from agent.alarms.rate import NoBeats, RateOutside
from agent.alarms.rule import Rule
from agent.alarms.rules import rhythm_rules
from agent.alarms.technical import LEAD_OFF_REASONS, PoorSeconds, StreamSilent, silence_deadline_s

NS = 1_000_000_000
START = SignalStart(9 * NS)


def beats(rr_s: list[float], labels: str = "", start_s: float = 10.0, *, usable: bool = True) -> list[Beat]:
    """Confirmed beats `rr_s` apart, the first at `start_s`, each known 0.6 s after its R peak."""
    times = list(itertools.accumulate(rr_s, initial=start_s))
    names = labels or "N" * len(times)
    return [
        Beat(
            round(t * NS),
            round((t + 0.6) * NS),
            BeatStatus.CONFIRMED,
            None if k == 0 else rr_s[k - 1],
            names[k],
            0.9,
            usable,
        )
        for k, t in enumerate(times)
    ]


def run(rule: Rule, observations: list[Observation], until_s: float | None = None) -> list[Condition]:
    out: list[Condition] = []
    for seen in sorted(observations, key=lambda seen: seen.at_ns):
        out += rule.advance(seen.at_ns)
        out += rule.see(seen)
    if until_s is not None:
        out += rule.advance(round(until_s * NS))
    return out


def good(start_s: int, stop_s: int) -> list[Observation]:
    return [Quality(t * NS, (t + 1) * NS, good=True) for t in range(start_s, stop_s)]


def asystole() -> NoBeats:
    return NoBeats("asystole", 4.0, "Asystole")


# -- asystole and pause ----------------------------------------------------------------------------------------------


def test_asystole_is_decided_when_no_beat_can_have_come_any_more_and_not_before() -> None:
    rule = asystole()
    start: list[Observation] = [START, *beats([1.0] * 5)]
    assert run(rule, start, until_s=15 + 4.349) == []
    (raised,) = rule.advance(round((15 + 4.35) * NS))
    assert (raised.active, raised.onset_ns, raised.at_ns) == (True, 15 * NS, round(19.35 * NS))


def test_a_provisional_beat_keeps_asystole_away_and_its_withdrawal_brings_it_back_now_not_in_the_past() -> None:
    rule = asystole()
    seen: list[Observation] = [START, *beats([1.0] * 5)]
    seen.append(Beat(18 * NS, round(18.3 * NS), BeatStatus.PROVISIONAL))
    assert run(rule, seen, until_s=19.6) == []
    withdrawn = Beat(18 * NS, round(19.7 * NS), BeatStatus.WITHDRAWN)
    (raised,) = [*run(rule, [withdrawn]), *rule.advance(20 * NS)]
    assert raised.onset_ns == 15 * NS
    assert raised.at_ns == withdrawn.at_ns


def test_asystole_ends_at_the_second_beat() -> None:
    rule = asystole()
    run(rule, [START, *beats([1.0] * 5)], until_s=25)
    first, second = beats([1.0], start_s=26)
    assert rule.see(first) == []
    (over,) = rule.see(second)
    assert not over.active
    assert over.onset_ns == 15 * NS


def test_asystole_is_not_ended_by_a_lead_that_comes_off() -> None:
    rule = asystole()
    run(rule, [START, *beats([1.0] * 5)], until_s=25)
    assert run(rule, [SignalLost(26 * NS, "missing"), SignalStart(40 * NS)], until_s=60) == []


def test_a_poor_second_restarts_the_count_so_a_stopped_heart_is_found_once_it_can_be_seen() -> None:
    rule = asystole()
    seen: list[Observation] = [START, *beats([1.0] * 5), Quality(16 * NS, 17 * NS, good=False, reason="noise")]
    assert run(rule, seen, until_s=17 + 2 + 4.34) == []
    (raised,) = rule.advance(round((17 + 2 + 4.35) * NS))
    assert raised.active


def test_a_lead_that_stays_off_never_becomes_asystole() -> None:
    off = [Quality(t * NS, (t + 1) * NS, good=False, reason="lead off") for t in range(15, 100)]
    assert run(asystole(), [START, *beats([1.0] * 5), *off], until_s=100) == []


def test_silence_from_the_very_first_second_is_asystole_after_the_detector_has_learnt() -> None:
    (raised,) = run(asystole(), [SignalStart(0), *good(0, 10)], until_s=10)
    assert raised.at_ns == round((2 + 4 + 0.35) * NS)


def seconds_of(activity_mv: float, start_s: int, stop_s: int) -> list[Observation]:
    return [Quality(t * NS, (t + 1) * NS, good=True, activity_mv=activity_mv) for t in range(start_s, stop_s)]


@pytest.mark.parametrize(("activity_mv", "at_s"), [(0.2, 20 + 4.35), (0.5, 20 + 10.35)])
def test_an_active_signal_without_recognised_beats_waits_longer_and_says_so(activity_mv: float, at_s: float) -> None:
    signal = [*seconds_of(1.0, 9, 20), *seconds_of(activity_mv, 20, 40)]
    (raised,) = run(asystole(), [START, *signal, *beats([1.0] * 10)], until_s=40)
    assert raised.at_ns == round(at_s * NS)
    assert ("though the signal is active" in raised.text) == (activity_mv > 0.35)


def test_a_pause_is_not_said_of_an_active_signal() -> None:
    rule = NoBeats("pause", 3.0, "Pause", momentary_s=30.0)
    signal = [*seconds_of(1.0, 9, 20), *seconds_of(0.5, 20, 40)]
    assert run(rule, [START, *signal, *beats([1.0] * 10)], until_s=40) == []


def test_no_alarm_while_no_signal_comes() -> None:
    assert run(asystole(), [START, *beats([1.0] * 5), SignalLost(16 * NS, "missing")], until_s=500) == []


def test_a_pause_is_raised_on_the_clock_and_ends_after_half_a_minute_without_another() -> None:
    rule = NoBeats("pause", 3.0, "Pause", momentary_s=30.0)
    conditions = run(rule, [START, *beats([1.0, 1.0, 3.5, 1.0, 3.5, *[1.0] * 60])])
    assert [(c.active, c.at_ns) for c in conditions] == [
        (True, round((12 + 3.35) * NS)),
        (False, round((16.5 + 3.35 + 30) * NS)),
    ]


# -- rate ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rr_s", "raised"), [(60 / 39.9, True), (60 / 40.1, False)], ids=["just under 40 bpm", "just over 40 bpm"]
)
def test_bradycardia_over_five_beats(rr_s: float, raised: bool) -> None:
    rule = RateOutside("bradycardia", 40.0, beats=5, above=False)
    found = run(rule, [START, *beats([rr_s] * 4)])
    assert [c.active for c in found] == [True] * raised
    if raised:
        assert found[0].onset_ns == pytest.approx(10 * NS, abs=5)


def test_four_slow_beats_are_not_enough() -> None:
    rule = RateOutside("bradycardia", 40.0, beats=5, above=False)
    assert run(rule, [START, *beats([1.7] * 3)]) == []


@pytest.mark.parametrize(("n_beats", "raised"), [(17, True), (16, False)])
def test_tachycardia_needs_seventeen_beats(n_beats: int, raised: bool) -> None:
    rule = RateOutside("tachycardia", 140.0, beats=17, above=True)
    assert bool(run(rule, [START, *beats([60 / 141] * (n_beats - 1))])) == raised


def test_a_beat_in_a_poor_second_breaks_the_count() -> None:
    rule = RateOutside("tachycardia", 140.0, beats=17, above=True)
    fast = beats([0.4] * 20)
    fast[10] = Beat(fast[10].r_ns, fast[10].at_ns, fast[10].status, 0.4, "N", 0.9, usable=False)
    assert run(rule, [SignalStart(0), *fast]) == []


def test_tachycardia_ends_five_percent_inside_the_limit() -> None:
    rule = RateOutside("tachycardia", 140.0, beats=17, above=True)
    hovering = [0.4] * 20 + [60 / 138, 60 / 142] * 20
    assert [c.active for c in run(rule, [START, *beats(hovering)])] == [True]
    found = run(rule, beats([60 / 130] * 17, start_s=60.0))
    assert [c.active for c in found] == [False]


def test_no_rate_is_measured_across_a_gap() -> None:
    before, after = beats([1.0] * 3), beats([1.0] * 3, start_s=100)
    rule = RateOutside("bradycardia", 40.0, beats=5, above=False)
    assert run(rule, [START, *before, SignalLost(14 * NS, "missing"), SignalStart(98 * NS), *after]) == []


def judged(agreement: float | None, start_s: int, stop_s: int) -> list[Observation]:
    return [Quality(t * NS, (t + 1) * NS, good=True, agreement=agreement) for t in range(start_s, stop_s)]


def doubting() -> RateOutside:
    return RateOutside("tachycardia", 140.0, beats=17, above=True, agreement=0.7)


@pytest.mark.parametrize("agreement", [None, 0.7, 1.0])
def test_a_fast_rate_that_nobody_disputes_is_raised_at_the_seventeenth_beat(agreement: float | None) -> None:
    fast = beats([0.4] * 30)
    (raised,) = run(doubting(), [START, *judged(agreement, 9, 30), *fast])
    assert raised.at_ns == fast[16].at_ns
    assert "does not agree" not in raised.text


def test_a_fast_rate_that_a_second_detector_disputes_is_not_raised_at_once_and_not_at_all_if_it_passes() -> None:
    fast_then_usual = beats([0.4] * 40 + [0.8] * 40)
    assert run(doubting(), [START, *judged(0.69, 9, 70), *fast_then_usual]) == []


def test_a_disputed_fast_rate_is_raised_once_they_agree() -> None:
    fast = beats([0.4] * 60)
    (raised,) = run(doubting(), [START, *judged(0.5, 9, 20), *judged(0.9, 20, 40), *fast])
    assert 21 * NS <= raised.at_ns < 21.5 * NS
    assert "does not agree" not in raised.text


def test_a_fast_rate_disputed_for_long_is_raised_all_the_same_and_says_so() -> None:
    fast = beats([0.4] * 90)
    (raised,) = run(doubting(), [START, *judged(0.3, 9, 50), *fast])
    assert fast[16].at_ns + 20 * NS <= raised.at_ns < fast[16].at_ns + 20.5 * NS
    assert "does not agree" in raised.text


def test_a_slow_rate_is_never_disputed() -> None:
    rule = RateOutside("bradycardia", 40.0, beats=5, above=False)
    slow = beats([2.0] * 6)
    (raised,) = run(rule, [START, *judged(0.0, 9, 25), *slow])
    assert raised.at_ns == slow[4].at_ns


# -- ventricular ectopy ----------------------------------------------------------------------------------------------


def vt() -> VentricularRun:
    return VentricularRun("ventricular_tachycardia", beats=5, above_bpm=100.0)


def test_five_fast_ventricular_beats_are_a_run_that_began_at_the_first() -> None:
    sequence = beats([0.8, 0.4, 0.4, 0.4, 0.4, 0.4], "NNVVVVV")
    (raised,) = run(vt(), [START, *sequence])
    assert raised.onset_ns == sequence[2].r_ns
    assert raised.at_ns == sequence[6].at_ns
    assert dict(raised.values)["rate_bpm"] == 150.0


@pytest.mark.parametrize(
    ("rr_s", "labels"),
    [(0.4, "NVVVVN"), (0.61, "NVVVVVVV"), (0.4, "VVVNVVVNVV")],
    ids=["four beats", "slower than 100 bpm", "never five in a row"],
)
def test_less_than_the_definition_is_no_run(rr_s: float, labels: str) -> None:
    assert run(vt(), [START, *beats([rr_s] * (len(labels) - 1), labels)]) == []


def test_a_run_ends_at_the_third_other_beat_and_says_how_long_it_was() -> None:
    found = run(vt(), [START, *beats([0.4] * 14, "NVVVVVVVVNNNNNN")])
    assert [c.active for c in found] == [True, False]
    assert "8 beats" in found[1].text


def test_a_run_with_a_hole_in_it_is_two_runs() -> None:
    first, second = beats([0.4] * 2, "VVV"), beats([0.4] * 2, "VVV", start_s=30)
    assert run(vt(), [START, *first, SignalLost(12 * NS, "missing"), SignalStart(29 * NS), *second]) == []


def test_ventricular_beats_in_poor_signal_raise_nothing() -> None:
    assert run(vt(), [START, *beats([0.4] * 9, "V" * 10, usable=False)]) == []


@pytest.mark.parametrize(("labels", "raised"), [("NV" * 4, True), ("NV" * 3 + "NN", False), ("NVNNVNVN", False)])
def test_bigeminy_is_four_pairs(labels: str, raised: bool) -> None:
    assert bool(run(Bigeminy("b"), [START, *beats([0.7] * (len(labels) - 1), labels)])) == raised


def test_what_alternates_in_a_shockable_rhythm_is_no_bigeminy() -> None:
    sequence = beats([0.7] * 11, "NV" * 6)
    shockable = Prediction("vf", 0, sequence[5].at_ns + 1, "shockable", 0.9, (0.1, 0.9))
    other = replace(shockable, label="other", probabilities=(0.9, 0.1))
    assert run(Bigeminy("b"), [START, *sequence[:6], other, *sequence[6:]])
    assert run(Bigeminy("b"), [START, *sequence[:6], shockable, *sequence[6:]]) == []


def test_bigeminy_ends_when_it_has_not_been_seen_for_a_while() -> None:
    found = run(Bigeminy("b"), [START, *beats([0.7] * 50, "NV" * 5 + "N" * 41)])
    assert [c.active for c in found] == [True, False]


@pytest.mark.parametrize(("every", "raised"), [(9, True), (11, False)])
def test_pvc_burden_compares_with_its_limit(every: int, raised: bool) -> None:
    labels = "".join("V" if k % every == 0 else "N" for k in range(600))
    found = run(PvcBurden("pvc_burden", 10.0), [START, *beats([0.8] * 599, labels)])
    assert bool(found) == raised


def test_pvc_burden_is_silent_on_few_beats() -> None:
    assert run(PvcBurden("pvc_burden", 10.0), [START, *beats([0.8] * 98, "V" * 99)], until_s=600) == []


def test_disabled_rules_are_left_out_and_vital_ones_never_are() -> None:
    limits = Limits(disabled=frozenset({"pvc_burden", "asystole"}))
    names = {rule.name for rule in rhythm_rules(limits)}
    assert "pvc_burden" not in names
    assert "asystole" in names


# -- technical -------------------------------------------------------------------------------------------------------


def bad(start_s: int, stop_s: int, reason: str) -> list[Observation]:
    return [Quality(t * NS, (t + 1) * NS, good=False, reason=reason) for t in range(start_s, stop_s)]


def test_lead_off_takes_three_seconds_of_its_own_kind_and_three_good_ones_to_end() -> None:
    rule = PoorSeconds("lead_off", 3, LEAD_OFF_REASONS, "Electrode off")
    assert run(rule, [*good(0, 5), *bad(5, 7, "flat"), *bad(7, 8, "noise"), *bad(8, 10, "flat")]) == []
    found = run(rule, [*bad(10, 12, "lead off"), *good(12, 14), *bad(14, 15, "noise"), *good(15, 18)])
    assert [(c.active, c.onset_ns, c.at_ns) for c in found] == [
        (True, 8 * NS, 11 * NS),
        (False, 8 * NS, 18 * NS),
    ]


def test_poor_signal_counts_any_reason() -> None:
    rule = PoorSeconds("poor_signal", 30, (), "Poor signal")
    assert run(rule, bad(0, 29, "noise")) == []
    assert len(run(rule, bad(29, 40, "flat"))) == 1


def test_silence_is_judged_by_the_clock_while_it_lasts_and_ends_with_data() -> None:
    rule = StreamSilent("stream_silent:strap/ecg", "ECG strap/ecg", silence_deadline_s(250.0, 0.0))
    rule.data(0, 10 * NS)
    assert rule.silent(round(14.99 * NS)) == []
    (raised,) = rule.silent(15 * NS)
    assert (raised.onset_ns, raised.at_ns) == (10 * NS, 15 * NS)
    assert rule.silent(400 * NS) == []
    (over,) = rule.data(60 * NS, 61 * NS)
    assert (over.active, over.onset_ns, over.at_ns) == (False, 10 * NS, 60 * NS)


def test_a_hole_found_afterwards_gives_the_same_two_events() -> None:
    rule = StreamSilent("stream_silent:strap/ecg", "ECG strap/ecg", silence_deadline_s(250.0, 0.0))
    rule.data(0, 10 * NS)
    assert [(c.active, c.at_ns) for c in rule.data(60 * NS, 61 * NS)] == [(True, 15 * NS), (False, 60 * NS)]


@pytest.mark.parametrize(("rate_hz", "interval_s", "deadline_s"), [(250.0, 0.0, 5.0), (0.0, 300.0, 720.0)])
def test_the_deadline_comes_from_the_stream_itself(rate_hz: float, interval_s: float, deadline_s: float) -> None:
    assert silence_deadline_s(rate_hz, interval_s) == pytest.approx(deadline_s)


def test_a_stream_that_was_promised_and_never_came_is_silent_too() -> None:
    rule = StreamSilent("stream_silent:strap/ecg", "ECG strap/ecg", 5.0)
    rule.begin(100 * NS)
    assert rule.silent(104 * NS) == []
    assert len(rule.silent(105 * NS)) == 1
