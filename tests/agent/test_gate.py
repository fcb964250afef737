"""The gate between rules and alarms, and what a witness says, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.alarms.corroboration import objection, support
from agent.alarms.ectopy import ProbableRun
from agent.alarms.gate import HOLD_S, Gate
from agent.alarms.leads import EitherLead
from agent.alarms.observation import Beat, BeatStatus, Condition, OtherLead, Pulse, Quality
from agent.alarms.precedence import FIBRILLATION, RUN, OneVentricular
from agent.alarms.rule import NS, seconds
from agent.alarms.witnesses import LeadWitness, PulseWitness, Witnesses

T0 = 1_000 * NS


def at(t_s: float) -> int:
    return T0 + seconds(t_s)


def pulses(times_s: Sequence[float], strength: float = 1.0, fit: float = 0.99) -> list[Pulse]:
    return [Pulse(at(t), at(t + 0.2), strength, fit) for t in times_s]


def every(step_s: float, start_s: float, stop_s: float) -> list[float]:
    return [start_s + step_s * k for k in range(int((stop_s - start_s) / step_s) + 1)]


def beats(times_s: Sequence[float], label: str = "N", probability: float = 0.98) -> list[Beat]:
    ventricular = probability if label == "V" else 0.01
    return [
        Beat(at(t), at(t + 1.0), BeatStatus.CONFIRMED, 0.8, label, probability, ventricular=ventricular)
        for t in times_s
    ]


def witnesses(
    wave: Sequence[Pulse] = (), first: Sequence[Beat] = (), second: Sequence[Beat] | None = None, known_s: float = 60.0
) -> Witnesses:
    leads = (LeadWitness("II"), LeadWitness("V")) if second is not None else ()
    found = Witnesses(leads, {"ppg": PulseWitness("PPG")} if wave else {})
    for beat in first if leads else ():
        found.see(beat)
    for beat in second or ():
        found.see(OtherLead(beat))
    for one in found.pulses.values():
        one.take(wave, at(known_s), at(0))
    return found


def found(rule: str, onset_s: float, at_s: float, **values: float) -> Condition:
    return Condition(rule, True, at(onset_s), at(at_s), "It was seen", tuple(values.items()))


ASYSTOLE = found("asystole", 30.0, 34.35)
SLOW = found("bradycardia", 22.0, 31.0, limit_bpm=40.0, heart_rate_bpm=32.0)
FAST = found("tachycardia", 22.0, 30.0, limit_bpm=140.0, heart_rate_bpm=180.0)
RUNS = found("ventricular_tachycardia", 30.0, 34.0, limit_beats=5.0, limit_bpm=100.0, rate_bpm=150.0)
SHOCKABLE = found("ventricular_fibrillation", 30.0, 36.0)
STEADY = pulses(every(0.8, 0.0, 40.0))
"""Seventy-five a minute, on and on."""


def doubled(condition: Condition, seen: Witnesses) -> str:
    return objection(seen, condition, condition.at_ns)


# -- the pulse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [ASYSTOLE, SLOW, FAST, RUNS, SHOCKABLE], ids=lambda c: c.rule)
def test_a_good_pulse_that_goes_on_speaks_against_each_of_them(condition: Condition) -> None:
    assert doubled(condition, witnesses(STEADY)) == "the pulse goes on at 75/min (PPG)"


@pytest.mark.parametrize("condition", [ASYSTOLE, SLOW, FAST, RUNS, SHOCKABLE], ids=lambda c: c.rule)
@pytest.mark.parametrize(
    "wave",
    [
        [],
        pulses(every(0.8, 0.0, 27.0)),
        pulses(every(0.8, 0.0, 40.0), fit=0.7),
        [*pulses(every(0.8, 0.0, 21.0)), *pulses(every(0.8, 21.5, 40.0), strength=0.3)],
        pulses(every(0.8, 26.0, 40.0)),
        pulses([0.8 * k + 0.3 * (k % 3) for k in range(50)], fit=0.8),
    ],
    ids=["none", "stopped", "unlike", "faint", "only just begun", "irregular and unlike"],
)
def test_without_a_pulse_that_can_be_believed_nothing_is_held_back(condition: Condition, wave: list[Pulse]) -> None:
    assert doubled(condition, witnesses(wave)) == ""


def test_what_became_known_later_does_not_count() -> None:
    early = [*pulses(every(0.8, 0.0, 30.4)), *pulses([31.2, 32.0, 34.2])]
    assert doubled(ASYSTOLE, witnesses(early)) == ""


def test_a_wave_that_is_not_known_up_to_the_instant_says_nothing() -> None:
    assert doubled(ASYSTOLE, witnesses(STEADY, known_s=34.3)) == ""
    assert doubled(ASYSTOLE, witnesses(STEADY, known_s=34.35))


def test_the_last_beat_s_own_pulse_is_not_a_pulse_that_goes_on() -> None:
    assert doubled(ASYSTOLE, witnesses(pulses([*every(0.8, 0.0, 30.5)]))) == ""


def test_a_slow_pulse_bears_a_slow_heart_out() -> None:
    assert doubled(SLOW, witnesses(pulses([*every(0.8, 0.0, 22.0), *every(1.9, 23.9, 40.0)]))) == ""


def test_every_second_beat_felt_is_not_against_a_fast_heart_but_other_beats_seen_are() -> None:
    half = found("tachycardia", 22.0, 30.0, limit_bpm=140.0, heart_rate_bpm=150.0)
    slow = pulses(every(0.8, 0.0, 40.0))
    wave = witnesses(slow, second=beats(every(0.4, 0.0, 40.0)))
    assert doubled(half, wave) == ""
    assert doubled(half, witnesses(slow, second=beats(every(0.8, 0.0, 40.0))))


def test_a_run_whose_pulses_weaken_or_race_is_a_run() -> None:
    weaker = [*pulses(every(0.8, 0.0, 30.0)), *pulses(every(0.8, 30.4, 40.0), strength=0.65)]
    faster = [*pulses(every(0.8, 0.0, 30.0)), *pulses(every(0.45, 30.4, 40.0))]
    assert doubled(RUNS, witnesses(weaker)) == ""
    assert doubled(RUNS, witnesses(faster)) == ""


def test_what_bears_it_out_is_said() -> None:
    assert support(witnesses(pulses(every(0.8, 0.0, 30.4))), ASYSTOLE, ASYSTOLE.at_ns) == "no pulse in the PPG either"
    assert support(witnesses(), ASYSTOLE, ASYSTOLE.at_ns) == ""
    assert support(witnesses(STEADY), ASYSTOLE, ASYSTOLE.at_ns) == ""


# -- the other lead ----------------------------------------------------------------------------------------------------


def test_beats_on_the_other_lead_speak_against_asystole_unless_they_are_unsure_or_the_signal_is_poor() -> None:
    seen = beats(every(0.8, 20.0, 33.0))
    assert doubled(ASYSTOLE, witnesses(second=seen)) == "lead V shows 3 beats meanwhile"
    assert doubled(ASYSTOLE, witnesses(second=beats(every(0.8, 20.0, 33.0), "Q"))) == ""
    assert doubled(ASYSTOLE, witnesses(second=beats(every(0.8, 20.0, 33.0), "N", 0.5))) == ""
    noisy = witnesses(second=seen)
    noisy.see(OtherLead(Quality(at(32.0), at(33.0), good=False, reason="noise")))
    assert doubled(ASYSTOLE, noisy) == ""


def test_what_only_the_second_lead_shows_of_a_rate_the_first_may_deny() -> None:
    slow, fast = (replace(condition, lead=1) for condition in (SLOW, FAST))
    usual = beats(every(0.8, 0.0, 33.0))
    assert doubled(slow, witnesses(first=usual, second=[])) == "lead II shows 75 bpm"
    assert doubled(fast, witnesses(first=usual, second=[])) == "lead II shows 75 bpm"
    assert doubled(fast, witnesses(pulses(every(0.4, 0.0, 33.0)), first=usual, second=[])) == ""
    poor = witnesses(first=usual, second=[])
    poor.see(Quality(at(27.0), at(28.0), good=False, reason="noise"))
    assert doubled(slow, poor) == doubled(fast, poor) == ""


def test_a_normal_beat_among_those_of_a_run_speaks_against_it() -> None:
    times = [30.0, 30.5, 31.0, 31.5, 32.0]
    run = beats(times, "V", 0.9)
    mixed = [*beats(times[:2], "V", 0.7), *beats(times[2:3], "N", 0.99), *beats(times[3:], "V", 0.7)]
    weak = [*beats(times[:2], "V", 0.9), *beats(times[2:3], "V", 0.3), *beats(times[3:], "V", 0.9)]
    assert doubled(RUNS, witnesses(first=run, second=run)) == ""
    assert doubled(RUNS, witnesses(first=run, second=[])) == ""
    assert doubled(RUNS, witnesses(first=weak, second=mixed)) == "with lead V one of its beats is a normal one"
    assert doubled(RUNS, witnesses(first=run, second=beats(times))) == "lead V shows 5 normal beats meanwhile"


def test_a_run_whose_lead_missed_the_normal_beats_between_is_none() -> None:
    run = beats([30.0, 30.5, 31.0, 31.5, 32.0], "V", 0.9)
    second = [*run[:3], *beats([31.25]), *run[3:]]
    assert doubled(RUNS, witnesses(first=run, second=second)) == "lead V shows a normal beat between"


def test_a_run_that_was_held_back_and_is_over_does_not_sound_later() -> None:
    slow = beats(every(0.9, 30.0, 34.0), "V", 0.9)
    assert doubled(found(RUN, 30.0, 40.0, **dict(RUNS.values)), witnesses(first=slow, second=[])) == "the run is over"


def test_normal_beats_on_the_other_lead_speak_against_fibrillation() -> None:
    assert doubled(SHOCKABLE, witnesses(second=beats(every(0.8, 20.0, 34.6))))
    assert doubled(SHOCKABLE, witnesses(second=beats(every(0.8, 20.0, 31.0)))) == ""


# -- the gate ----------------------------------------------------------------------------------------------------------


def nothing(_: Condition) -> None:
    return None


def end(condition: Condition, at_s: float) -> Condition:
    return Condition(condition.rule, False, condition.onset_ns, at(at_s), "Over")


def test_what_cannot_be_corroborated_is_none_of_the_gates_business() -> None:
    assert not Gate(witnesses()).offer(found("atrial_fibrillation", 1, 2), nothing, None)


def test_an_alarm_waits_for_a_wave_that_is_behind_and_no_longer_than_the_hold() -> None:
    gate = Gate(witnesses(pulses(every(0.8, 0.0, 33.0)), known_s=33.5))
    gate.offer(ASYSTOLE, nothing, None)
    assert gate.settle(at(34.35), None) == []
    assert gate.settle(at(34.35 + HOLD_S - 0.01), None) == []
    ((raised, _),) = gate.settle(at(34.35 + HOLD_S), None)
    assert raised.at_ns == ASYSTOLE.at_ns


def test_a_wave_long_silent_is_not_waited_for() -> None:
    gate = Gate(witnesses(pulses(every(0.8, 0.0, 28.0)), known_s=29.0))
    gate.offer(ASYSTOLE, nothing, None)
    assert len(gate.settle(at(34.35), None)) == 1


def test_live_the_clock_ends_the_wait() -> None:
    gate = Gate(witnesses(pulses(every(0.8, 0.0, 33.0)), known_s=33.5))
    gate.offer(ASYSTOLE, nothing, 77 * NS)
    assert gate.settle(at(34.35), 78 * NS) == []
    assert len(gate.settle(at(34.35), 77 * NS + seconds(HOLD_S))) == 1


def test_held_back_is_counted_once_and_over_with_the_condition() -> None:
    gate = Gate(witnesses(STEADY, known_s=40.0))
    gate.offer(ASYSTOLE, nothing, None)
    for t_s in (34.35, 35.4, 36.4, 37.4):
        gate.time(at(t_s), nothing, None)
        assert gate.settle(at(t_s), None) == []
    gate.offer(end(ASYSTOLE, 38.0), nothing, None)
    assert gate.settle(at(39.0), None) == []
    assert gate.held_back == {"asystole": 1}
    (held,) = gate.suppressed
    assert (held.t_ns, held.rule) == (ASYSTOLE.at_ns, "asystole")
    assert held.reason == "It was seen, but the pulse goes on at 75/min (PPG)"
    gate.time(at(60.0), nothing, None)
    assert gate.settle(at(60.0), None) == []


def test_what_ended_while_it_waited_is_said_and_over_in_that_order() -> None:
    gate = Gate(witnesses(pulses(every(0.8, 0.0, 30.4)), known_s=33.5))
    gate.offer(ASYSTOLE, nothing, None)
    gate.offer(end(ASYSTOLE, 35.0), nothing, None)
    assert gate.settle(at(35.0), None) == []
    gate.witnesses.pulses["ppg"].take([], at(36.0), at(35.0))
    assert [(one.active, one.at_ns) for one, _ in gate.settle(at(35.0), None)] == [(True, at(34.35)), (False, at(35.0))]


def test_after_a_gap_of_an_hour_it_is_weighed_once() -> None:
    gate = Gate(witnesses(STEADY, known_s=40.0))
    gate.offer(ASYSTOLE, nothing, None)
    assert gate.settle(at(34.35), None) == []
    gate.time(at(3600.0), nothing, None)
    ((raised, _),) = gate.settle(at(3600.0), None) or gate.settle(at(3602.0), None)
    assert raised.at_ns == at(3600.0)


# -- two leads, and one alarm for one episode --------------------------------------------------------------------------


def run_rule() -> EitherLead:
    first, second = (ProbableRun("ventricular_tachycardia", 5, 100.0) for _ in range(2))
    return EitherLead(first, second)


def ventricular(times_s: Sequence[float], p: float = 0.8) -> list[Beat]:
    return [
        Beat(at(t), at(t + 1.0), BeatStatus.CONFIRMED, 0.5, "V" if p >= 0.4 else "N", p, ventricular=p) for t in times_s
    ]


def test_a_run_begins_on_either_lead_and_is_over_on_both() -> None:
    rule, times = run_rule(), every(0.5, 0.0, 4.0)
    said = [one for beat in ventricular(times[:6]) for one in rule.see(OtherLead(beat))]
    said += [one for beat in ventricular(times) for one in rule.see(beat)]
    assert [(one.active, one.lead, one.onset_ns) for one in said] == [(True, 1, at(0.0))]
    assert rule.advance(at(9.0)) == []  # over on the second lead, not on the first
    (over,) = rule.advance(at(12.0))
    assert (over.active, over.onset_ns) == (False, at(0.0))


@pytest.mark.parametrize(("share", "is_run"), [(0.39, False), (0.41, True)])
def test_a_run_is_one_when_its_beats_taken_together_are_ventricular(share: float, is_run: bool) -> None:
    rule = ProbableRun("ventricular_tachycardia", 5, 100.0)
    said = [one for beat in ventricular(every(0.5, 0.0, 3.0), share) for one in rule.see(beat)]
    assert bool(said) is is_run


def test_one_beat_that_is_plainly_another_is_no_part_of_a_run() -> None:
    rule = ProbableRun("ventricular_tachycardia", 5, 100.0)
    mixed = [*ventricular([0.0, 0.5, 1.0], 0.95), *ventricular([1.5], 0.1), *ventricular([2.0, 2.5, 3.0], 0.95)]
    assert [one for beat in mixed for one in rule.see(beat)] == []


def test_fibrillation_stands_for_the_run_it_came_from_and_the_run_for_itself_afterwards() -> None:
    one = OneVentricular()
    run, shockable = found(RUN, 1, 4), found(FIBRILLATION, 3, 8)
    assert one.take(run, fibrillates=False) == [run]
    said = one.take(shockable, fibrillates=False)
    assert [(c.rule, c.active, c.at_ns) for c in said] == [(FIBRILLATION, True, at(8)), (RUN, False, at(8))]
    over = end(shockable, 20)
    assert [(c.rule, c.active, c.at_ns) for c in one.take(over, fibrillates=True)] == [
        (FIBRILLATION, False, at(20)),
        (RUN, True, at(20)),
    ]


def test_a_run_within_fibrillation_is_not_said() -> None:
    one = OneVentricular()
    run, shockable = found(RUN, 9, 12), found(FIBRILLATION, 3, 8)
    assert one.take(shockable, fibrillates=False) == [shockable]
    assert one.take(run, fibrillates=True) == []
    assert one.take(end(run, 14), fibrillates=True) == [end(run, 14)]  # which ends nothing: it never was on
    assert one.take(end(shockable, 20), fibrillates=True) == [end(shockable, 20)]
