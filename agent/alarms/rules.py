"""All the rules of one person: the table of what is watched."""

from __future__ import annotations

from agent.alarms.atrial_fibrillation import AtrialFibrillation
from agent.alarms.ectopy import Bigeminy, ProbableRun, PvcBurden, VentricularRun
from agent.alarms.fibrillation import Fibrillation
from agent.alarms.glucose_change import RapidChange
from agent.alarms.glucose_doubt import SensorDoubted
from agent.alarms.glucose_high import HighGlucose
from agent.alarms.glucose_low import LowGlucose
from agent.alarms.leads import EitherLead
from agent.alarms.limits import Limits
from agent.alarms.rate import NoBeats, RateOutside
from agent.alarms.rule import EcgRule, Rule
from agent.alarms.technical import LEAD_OFF_REASONS, PoorSeconds

TACHYCARDIA_AGREEMENT = 0.8
"""Below this, two detectors count too differently for a fast rate to be believed at once. Of the given Challenge 2015
alarms, our eight true tachycardias were raised at 1.00, our one false at 0.65. Nothing else is gated: fibrillation and
ventricular tachycardia have no beats to agree on, and some true asystoles follow on disagreement."""

LONGEST_INTERVAL_S = 10.0


def rhythm_rules(limits: Limits) -> list[EcgRule]:
    """The rules of one person, most urgent first; those that the person's limits disable are left out."""
    rules: list[EcgRule] = [
        NoBeats("asystole", limits.asystole_longer_than_s, "Asystole"),
        Fibrillation("ventricular_fibrillation"),
        VentricularRun(
            "ventricular_tachycardia", limits.ventricular_tachycardia_beats, limits.ventricular_tachycardia_above_bpm
        ),
        RateOutside(
            "bradycardia", limits.bradycardia_below_bpm, beats=5, above=False, longest_s=limits.asystole_longer_than_s
        ),
        RateOutside("tachycardia", limits.tachycardia_above_bpm, beats=17, above=True, agreement=TACHYCARDIA_AGREEMENT),
        NoBeats("pause", limits.pause_longer_than_s, "Pause", momentary_s=30.0),
        AtrialFibrillation("atrial_fibrillation", limits.atrial_fibrillation_longer_than_s),
        Bigeminy("ventricular_bigeminy"),
        PvcBurden("pvc_burden", limits.pvc_burden_above_percent),
    ]
    return [rule for rule in rules if limits.enabled(rule.name)]


def rules_of_two_leads(limits: Limits) -> list[EcgRule]:
    """The rules of a person with a second lead: a run or a rate is found on whichever lead shows it.

    The second lead raises a rate only where the first does not deny it (`agent.alarms.corroboration`): one that misses
    beats, or counts T waves, would raise more than it finds. An interval of four to ten seconds counts as slow here,
    for others can be asked whether there was a beat in it.
    """
    run, other_run = (
        ProbableRun(
            "ventricular_tachycardia", limits.ventricular_tachycardia_beats, limits.ventricular_tachycardia_above_bpm
        )
        for _ in range(2)
    )
    slow, other_slow = (
        RateOutside("bradycardia", limits.bradycardia_below_bpm, beats=5, above=False, longest_s=LONGEST_INTERVAL_S)
        for _ in range(2)
    )
    fast, other_fast = (
        RateOutside("tachycardia", limits.tachycardia_above_bpm, beats=17, above=True, agreement=TACHYCARDIA_AGREEMENT)
        for _ in range(2)
    )
    either = (EitherLead(run, other_run), EitherLead(slow, other_slow), EitherLead(fast, other_fast))
    instead: dict[str, EcgRule] = {rule.name: rule for rule in either}
    return [instead.get(rule.name, rule) for rule in rhythm_rules(limits)]


def signal_rules() -> list[EcgRule]:
    """Technical rules over an ECG's observations."""
    return [
        PoorSeconds("lead_off", 3, LEAD_OFF_REASONS, "Electrode off"),
        PoorSeconds("poor_signal", 30, (), "Poor signal"),
    ]


def glucose_rules(limits: Limits, interval_s: float, device: str, channel: str) -> list[Rule]:
    """Rules over the readings of one glucose sensor, due every `interval_s`, and over what is expected after each.

    Each looks up by itself which limits hold, and whether it is enabled, at the time of a reading.
    """
    return [
        LowGlucose(limits, interval_s),
        HighGlucose(limits, interval_s),
        RapidChange("rapid_fall", limits, interval_s),
        RapidChange("rapid_rise", limits, interval_s),
        SensorDoubted(f"cgm_doubt:{device}/{channel}", f"CGM {device}/{channel}", interval_s),
    ]
