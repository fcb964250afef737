"""The numbers an alarm rule compares with: defaults, and the bounds within which one person's may be set."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from agent.alarms.local_time import UTC, LocalTime


@dataclass(frozen=True, slots=True)
class Hours:
    """What is different about one rule in some hours of every day."""

    rule: str
    from_min: int
    """Minute of the local day from which this holds ..."""
    to_min: int
    """... and up to which, not included; at or before `from_min` it is that of the next day."""
    values: tuple[tuple[str, float], ...] = ()
    """Fields of Limits, and what they are in these hours."""
    enabled: bool = True

    def hold(self, minute: int) -> bool:
        """Whether `minute` of the day lies in these hours."""
        if self.from_min < self.to_min:
            return self.from_min <= minute < self.to_min
        return minute >= self.from_min or minute < self.to_min


@dataclass(frozen=True, slots=True, repr=False)
class Limits:
    """One person's limits.

    Defaults on the heart are the definitions of the PhysioNet/CinC 2015 Challenge where it has one. Those on glucose
    are the levels of the consensus on CGM (70, 54 and 250 mg/dL; Battelino et al., Diabetes Care 2019) and the rate
    that sensors show as their steepest arrow, 3 mg/dL/min. `..._again_after_min` is the snooze of a rule: how long
    after it was said an alarm that is still on is said again.
    """

    asystole_longer_than_s: float = 4.0
    """No QRS complex for longer than this."""
    bradycardia_below_bpm: float = 40.0
    tachycardia_above_bpm: float = 140.0
    pause_longer_than_s: float = 3.0
    ventricular_tachycardia_beats: int = 5
    """At least so many ventricular beats in a row."""
    ventricular_tachycardia_above_bpm: float = 100.0
    atrial_fibrillation_longer_than_s: float = 30.0
    pvc_burden_above_percent: float = 10.0
    urgent_low_at_most_mg_dl: float = 54.0
    urgent_low_again_after_min: float = 15.0
    """Carbohydrates take about a quarter of an hour to show: still as low by then, the person needs more, or help."""
    low_below_mg_dl: float = 70.0
    low_again_after_min: float = 30.0
    urgent_low_soon_again_after_min: float = 20.0
    """As far as it looks ahead."""
    predicted_low_again_after_min: float = 30.0
    """As far as it looks ahead."""
    high_above_mg_dl: float = 250.0
    high_again_after_min: float = 120.0
    """Insulin takes hours, and urging more of it sooner does harm."""
    persistent_high_above_mg_dl: float = 250.0
    persistent_high_for_min: float = 120.0
    persistent_high_again_after_min: float = 120.0
    predicted_high_again_after_min: float = 120.0
    rapid_fall_at_least_mg_dl_min: float = 3.0
    rapid_fall_again_after_min: float = 30.0
    rapid_rise_at_least_mg_dl_min: float = 3.0
    rapid_rise_again_after_min: float = 60.0
    disabled: frozenset[str] = frozenset()
    """Rules switched off for this person; never one of ALWAYS_ON."""
    hours: tuple[Hours, ...] = ()
    """What is different at some time of day; no two of one rule hold at once."""
    local: LocalTime = UTC
    """The zone that `hours` are meant in, and by which this person's days begin."""

    def enabled(self, rule: str) -> bool:
        """Whether `rule` may raise an alarm for this person, outside `hours`."""
        return rule in ALWAYS_ON or rule not in self.disabled

    def at(self, t_ns: int) -> Limits:
        """The limits that hold at one instant (UTC, ns), without any `hours`."""
        if not self.hours:
            return self
        minute = self.local.minute_of_day(t_ns)
        values: dict[str, Any] = {}
        disabled = set(self.disabled)
        for hours in self.hours:
            if hours.hold(minute):
                values.update(hours.values)
                (disabled.discard if hours.enabled else disabled.add)(hours.rule)
        return replace(self, **values, disabled=frozenset(disabled), hours=())

    def again_after_ns(self, rule: str) -> int:
        """The snooze of a rule about glucose: see the fields so named."""
        minutes: float = getattr(self, f"{rule}_again_after_min")
        return round(minutes * 60_000_000_000)

    def __repr__(self) -> str:
        """Alike in every process, for states are kept under it: a set has an order of its own in each."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)} | {"disabled": sorted(self.disabled)}
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range, both ends included, that a config cannot leave."""

    low: float
    high: float
    unit: str


BOUNDS: dict[str, Bounds] = {
    "asystole_longer_than_s": Bounds(3, 8, "s"),
    "bradycardia_below_bpm": Bounds(20, 60, "bpm"),
    "tachycardia_above_bpm": Bounds(90, 220, "bpm"),
    "pause_longer_than_s": Bounds(2, 6, "s"),
    "ventricular_tachycardia_beats": Bounds(3, 10, "beats"),
    "ventricular_tachycardia_above_bpm": Bounds(90, 150, "bpm"),
    "atrial_fibrillation_longer_than_s": Bounds(30, 600, "s"),
    "pvc_burden_above_percent": Bounds(1, 50, "%"),
    "urgent_low_at_most_mg_dl": Bounds(50, 60, "mg/dL"),
    "urgent_low_again_after_min": Bounds(5, 30, "min"),
    "low_below_mg_dl": Bounds(60, 100, "mg/dL"),
    "low_again_after_min": Bounds(10, 120, "min"),
    "urgent_low_soon_again_after_min": Bounds(10, 60, "min"),
    "predicted_low_again_after_min": Bounds(10, 120, "min"),
    "high_above_mg_dl": Bounds(150, 400, "mg/dL"),
    "high_again_after_min": Bounds(30, 480, "min"),
    "persistent_high_above_mg_dl": Bounds(140, 400, "mg/dL"),
    "persistent_high_for_min": Bounds(30, 720, "min"),
    "persistent_high_again_after_min": Bounds(30, 480, "min"),
    "predicted_high_again_after_min": Bounds(30, 480, "min"),
    "rapid_fall_at_least_mg_dl_min": Bounds(2, 5, "mg/dL/min"),
    "rapid_fall_again_after_min": Bounds(15, 120, "min"),
    "rapid_rise_at_least_mg_dl_min": Bounds(2, 5, "mg/dL/min"),
    "rapid_rise_again_after_min": Bounds(15, 480, "min"),
}
"""Bounds of every numeric field of Limits."""

GLUCOSE_RULES = (
    "urgent_low",
    "low",
    "urgent_low_soon",
    "predicted_low",
    "high",
    "persistent_high",
    "predicted_high",
    "rapid_fall",
    "rapid_rise",
)
"""Rules over a glucose sensor's readings, most urgent of each direction first."""

RULES = (
    "asystole",
    "bradycardia",
    "tachycardia",
    "pause",
    "ventricular_fibrillation",
    "ventricular_tachycardia",
    "atrial_fibrillation",
    "ventricular_bigeminy",
    "pvc_burden",
    *GLUCOSE_RULES,
)
"""Rules a config may name."""

ALWAYS_ON = frozenset({"asystole", "ventricular_fibrillation", "ventricular_tachycardia", "urgent_low"})
"""Rules of high priority: a config may set their limits within the bounds but never silence them."""

DEFAULTS: dict[str, float] = {
    field.name: field.default for field in fields(Limits) if isinstance(field.default, (int, float))
}
