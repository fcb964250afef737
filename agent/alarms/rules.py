"""All the rules of one person: the table of what is watched."""

from __future__ import annotations

from agent.alarms.atrial_fibrillation import AtrialFibrillation
from agent.alarms.ectopy import Bigeminy, PvcBurden, VentricularRun
from agent.alarms.fibrillation import Fibrillation
from agent.alarms.limits import Limits
from agent.alarms.rate import NoBeats, RateOutside
from agent.alarms.rule import Rule
from agent.alarms.technical import LEAD_OFF_REASONS, PoorSeconds

TACHYCARDIA_AGREEMENT = 0.7
"""Below this, two detectors count too differently for a fast rate to be believed at once: of the given Challenge 2015
alarms, no true tachycardia lies below 0.9, and the only false one that we raised at 0.68. Other rhythms are not gated:
fibrillation and fast ventricular rhythms have no beats to agree on, and a true asystole was delayed."""


def rhythm_rules(limits: Limits) -> list[Rule]:
    """The rules of one person, most urgent first; those that the person's limits disable are left out."""
    rules: list[Rule] = [
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


def signal_rules() -> list[Rule]:
    """Technical rules over an ECG's observations."""
    return [
        PoorSeconds("lead_off", 3, LEAD_OFF_REASONS, "Electrode off"),
        PoorSeconds("poor_signal", 30, (), "Poor signal"),
    ]
