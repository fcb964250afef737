"""The numbers an alarm rule compares with: defaults, and the bounds within which one person's may be set."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """One person's limits; the defaults are the definitions of the PhysioNet/CinC 2015 Challenge where it has one."""

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
    disabled: frozenset[str] = frozenset()
    """Rules switched off for this person; never one of ALWAYS_ON."""

    def enabled(self, rule: str) -> bool:
        """Whether `rule` may raise an alarm for this person."""
        return rule in ALWAYS_ON or rule not in self.disabled


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
}
"""Bounds of every numeric field of Limits."""

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
)
"""Rules a config may name."""

ALWAYS_ON = frozenset({"asystole", "ventricular_fibrillation", "ventricular_tachycardia"})
"""Rules of high priority: a config may set their limits within the bounds but never silence them."""

DEFAULTS: dict[str, float] = {
    field.name: field.default for field in fields(Limits) if isinstance(field.default, (int, float))
}
