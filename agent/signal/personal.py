"""Stand-in."""

from __future__ import annotations

from dataclasses import dataclass

from agent.signal.outlook import Forecast, Outlook, Risk


@dataclass(slots=True)
class PersonalCalibration:
    n: int = 0

    def push(self, t_ns: int, mg_dl: float, forecast: Forecast) -> Outlook:
        return Outlook(
            t_ns,
            mg_dl,
            forecast.expected,
            Risk(forecast.p_low, 0.3, 0.2),
            Risk(forecast.p_urgent_low, 0.15, 0.1),
            Risk(forecast.p_high, 0.3, 0.2),
            forecast.coverage,
            forecast.usable,
            forecast.inputs,
        )
