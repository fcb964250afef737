"""What may be written in a [[patient.limit]], rule by rule."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from agent.alarms.limits import BOUNDS, DEFAULTS
from agent.config.schema import Table


def _time_of_day(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII):
        raise ValueError('must be a local time of day from "00:00" to "23:59"')
    return value


TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]


def _limit(field: str, title: str, description: str) -> Any:
    """A numeric limit whose default and bounds are those of `field` in Limits."""
    bounds = BOUNDS[field]
    return Field(DEFAULTS[field], ge=bounds.low, le=bounds.high, title=title, description=description)


class LimitTable(Table):
    """What every limit has."""

    enabled: bool = Field(
        True, title="Enabled", description="false switches the rule off; refused for rules of high priority."
    )


class AsystoleLimit(LimitTable):
    """No heart beat. High priority: cannot be switched off."""

    rule: Literal["asystole"]
    longer_than_s: float = _limit("asystole_longer_than_s", "Longer than", "Seconds without a QRS complex.")


class BradycardiaLimit(LimitTable):
    """Extreme bradycardia, over 5 beats."""

    rule: Literal["bradycardia"]
    below_bpm: float = _limit("bradycardia_below_bpm", "Below", "Heart rate under which the alarm is raised.")


class TachycardiaLimit(LimitTable):
    """Extreme tachycardia, over 17 beats."""

    rule: Literal["tachycardia"]
    above_bpm: float = _limit("tachycardia_above_bpm", "Above", "Heart rate over which the alarm is raised.")


class PauseLimit(LimitTable):
    """A long interval between two beats."""

    rule: Literal["pause"]
    longer_than_s: float = _limit("pause_longer_than_s", "Longer than", "Seconds from one beat to the next.")


class VentricularFibrillationLimit(LimitTable):
    """Fibrillation, flutter or very fast tachycardia of the ventricles. High priority: cannot be switched off."""

    rule: Literal["ventricular_fibrillation"]


class VentricularTachycardiaLimit(LimitTable):
    """A run of fast ventricular beats. High priority: cannot be switched off."""

    rule: Literal["ventricular_tachycardia"]
    beats: int = _limit("ventricular_tachycardia_beats", "Beats", "Ventricular beats in a row.")
    above_bpm: float = _limit("ventricular_tachycardia_above_bpm", "Above", "Rate of the run over which it counts.")


class AtrialFibrillationLimit(LimitTable):
    """An irregular rhythm that holds, suggestive of atrial fibrillation."""

    rule: Literal["atrial_fibrillation"]
    longer_than_s: float = _limit("atrial_fibrillation_longer_than_s", "Longer than", "Seconds for which it must hold.")


class VentricularBigeminyLimit(LimitTable):
    """Every second beat ventricular. Has no number to set."""

    rule: Literal["ventricular_bigeminy"]


class PvcBurdenLimit(LimitTable):
    """Many premature ventricular beats."""

    rule: Literal["pvc_burden"]
    above_percent: float = _limit("pvc_burden_above_percent", "Above", "Share of beats that are ventricular.")


class GlucoseLimit(LimitTable):
    """What every limit on glucose has. Several of one rule may hold at different hours."""

    from_time: TimeOfDay | None = Field(
        None,
        alias="from",
        title="From",
        description='Local time of day from which this table holds, such as "22:00". '
        "A table with hours changes what it names; the rest is as in the rule's table without hours.",
    )
    to_time: TimeOfDay | None = Field(
        None,
        alias="to",
        title="To",
        description="Local time of day up to which it holds; where it is earlier than from, that of the next day.",
    )


def _again(rule: str) -> Any:
    return _limit(f"{rule}_again_after_min", "Again after", "Snooze: minutes until an alarm that is on is said again.")


class UrgentLowLimit(GlucoseLimit):
    """Glucose urgently low. High priority: cannot be switched off."""

    rule: Literal["urgent_low"]
    at_most_mg_dl: float = _limit("urgent_low_at_most_mg_dl", "At most", "Glucose at or below which it is raised.")
    again_after_min: float = _again("urgent_low")


class LowLimit(GlucoseLimit):
    """Glucose low."""

    rule: Literal["low"]
    below_mg_dl: float = _limit("low_below_mg_dl", "Below", "Glucose under which the alarm is raised.")
    again_after_min: float = _again("low")


class UrgentLowSoonLimit(GlucoseLimit):
    """Glucose likely to be 54 mg/dL or less within 20 min. How likely is set by urgent_low_alerts_per_day."""

    rule: Literal["urgent_low_soon"]
    again_after_min: float = _again("urgent_low_soon")


class PredictedLowLimit(GlucoseLimit):
    """Glucose likely to be below 70 mg/dL within 30 min. How likely is set by low_alerts_per_day."""

    rule: Literal["predicted_low"]
    again_after_min: float = _again("predicted_low")


class HighLimit(GlucoseLimit):
    """Glucose high."""

    rule: Literal["high"]
    above_mg_dl: float = _limit("high_above_mg_dl", "Above", "Glucose over which the alarm is raised.")
    again_after_min: float = _again("high")


class PersistentHighLimit(GlucoseLimit):
    """Glucose high for long."""

    rule: Literal["persistent_high"]
    above_mg_dl: float = _limit("persistent_high_above_mg_dl", "Above", "Glucose over which the time counts.")
    for_min: float = _limit("persistent_high_for_min", "For", "Minutes for which it must have been so.")
    again_after_min: float = _again("persistent_high")


class PredictedHighLimit(GlucoseLimit):
    """Glucose likely to be above 250 mg/dL within 30 min."""

    rule: Literal["predicted_high"]
    again_after_min: float = _again("predicted_high")


class RapidFallLimit(GlucoseLimit):
    """Glucose falling fast."""

    rule: Literal["rapid_fall"]
    at_least_mg_dl_min: float = _limit("rapid_fall_at_least_mg_dl_min", "At least", "Fall in mg/dL a minute.")
    again_after_min: float = _again("rapid_fall")


class RapidRiseLimit(GlucoseLimit):
    """Glucose rising fast."""

    rule: Literal["rapid_rise"]
    at_least_mg_dl_min: float = _limit("rapid_rise_at_least_mg_dl_min", "At least", "Rise in mg/dL a minute.")
    again_after_min: float = _again("rapid_rise")


LIMITS: dict[str, type[LimitTable]] = {
    "asystole": AsystoleLimit,
    "bradycardia": BradycardiaLimit,
    "tachycardia": TachycardiaLimit,
    "pause": PauseLimit,
    "ventricular_fibrillation": VentricularFibrillationLimit,
    "ventricular_tachycardia": VentricularTachycardiaLimit,
    "atrial_fibrillation": AtrialFibrillationLimit,
    "ventricular_bigeminy": VentricularBigeminyLimit,
    "pvc_burden": PvcBurdenLimit,
    "urgent_low": UrgentLowLimit,
    "low": LowLimit,
    "urgent_low_soon": UrgentLowSoonLimit,
    "predicted_low": PredictedLowLimit,
    "high": HighLimit,
    "persistent_high": PersistentHighLimit,
    "predicted_high": PredictedHighLimit,
    "rapid_fall": RapidFallLimit,
    "rapid_rise": RapidRiseLimit,
}
"""Tables of [[patient.limit]] by their `rule`."""
