"""What a config says of one person's glucose besides the limits: the sensors, and how many false alerts they bear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SensorLife:
    """When the readings of one glucose sensor are to be believed."""

    device: str
    channel: str
    started_ns: int | None = None
    """When it was put in (UTC); None where nobody said."""
    warm_up_min: float = 0.0
    """For so long after that its readings are in doubt ..."""
    lifetime_days: float | None = None
    """... and so long after that they are again; None: never."""


@dataclass(frozen=True, slots=True)
class GlucoseSettings:
    """How alarms on forecasts are fitted to one person."""

    low_alerts_per_day: float = 1.0
    """False ones of `predicted_low`."""
    urgent_low_alerts_per_day: float = 0.5
    """False ones of `urgent_low_soon`."""
    personal: Literal["on", "frozen", "off"] = "on"
    """ "on": fitted to the person's own history as it grows; "frozen": as far as it has come; "off": to nobody's."""
    sensors: tuple[SensorLife, ...] = ()
    """Those of which the config says something."""

    def sensor(self, device: str, channel: str) -> SensorLife:
        """The sensor behind one stream; where the config says nothing of it, one that is always to be believed."""
        found = (life for life in self.sensors if (life.device, life.channel) == (device, channel))
        return next(found, SensorLife(device, channel))
