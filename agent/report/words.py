"""How numbers, days and rules read in a report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from firmware_bridge.chunk import UNIT_FACTOR

NOTHING = "–"
MG_DL, MMOL_L = "mg/dL", "mmol/L"


@dataclass(frozen=True, slots=True)
class GlucoseUnit:
    """The unit that glucose is shown in."""

    name: str

    def show(self, mg_dl: float | None) -> str:
        """The number alone, as sensors show it."""
        if mg_dl is None:
            return NOTHING
        return f"{mg_dl:.0f}" if self.name == MG_DL else f"{mg_dl / UNIT_FACTOR[MMOL_L, MG_DL]:.1f}"

    def fine(self, mg_dl: float | None) -> str:
        """The number alone with a digit more: for errors and differences."""
        if mg_dl is None:
            return NOTHING
        text = f"{mg_dl:.1f}" if self.name == MG_DL else f"{mg_dl / UNIT_FACTOR[MMOL_L, MG_DL]:.2f}"
        return text.replace("-", "−")

    def measure(self, mg_dl: float | None) -> str:
        """The number with its unit."""
        return NOTHING if mg_dl is None else f"{self.show(mg_dl)} {self.name}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share; one that is there but would round to nothing says so."""
    if value is None:
        return NOTHING
    if 0 < value < 0.5 * 10**-digits:
        return f"< {10**-digits:g} %"
    return f"{value:.{digits}f} %"


def number(value: float | None, digits: int = 0) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def span(seconds: float) -> str:
    """A length of time in its largest sensible unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} days"


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 alarm", "3 alarms"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def day_name(iso: str) -> str:
    """ "Mon 24 Nov" """
    day = date.fromisoformat(iso)
    return f"{_WEEKDAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]}"


def short_day(iso: str) -> str:
    """ "24 Nov" """
    day = date.fromisoformat(iso)
    return f"{day.day} {_MONTHS[day.month - 1]}"


def long_day(iso: str) -> str:
    """ "24 Nov 2025" """
    return f"{short_day(iso)} {iso[:4]}"


def weekday(iso: str) -> int:
    """0 for Monday."""
    return date.fromisoformat(iso).weekday()


def rule_name(rule: str) -> str:
    """ "Predicted low", "Stream silent: dexcom/cgm"."""
    name, _, subject = rule.partition(":")
    words = name.replace("_", " ").replace("pvc", "PVC")
    return f"{words[:1].upper()}{words[1:]}" + (f": {subject}" if subject else "")


def clock(minute_of_day: float) -> str:
    hours, minutes = divmod(round(minute_of_day) % 1440, 60)
    return f"{hours:02d}:{minutes:02d}"


# Not strftime: its names follow the machine's language, and the page is in one.
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
