"""The forecasts, corrected for one person: what the model gets wrong of this person again and again.

Every forecast is followed by the truth, half an hour and an hour later. Of these, a linear correction is learned by
ridge regression with slow forgetting (recursive least squares in information form), from the last changes, the
forecasts themselves, the distance from the person's mean, and the time of day; it is zero while there is little history
and never larger than MOST_MG_DL. The width of the interval follows how often the truth falls out on either side
(adaptive conformal inference, Gibbs & Candès 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

FEATURES = 11
MOST_MG_DL = (15.0, 25.0)
"""The correction at 30 and 60 min stays inside these."""
WIDEN_MOST = 0.4
"""Either side of the interval is changed by at most e to this power."""
WIDEN_STEP = 0.003
MISSED = 0.05
"""Share of outcomes meant to fall out on either side."""

_RIDGE = (1.0, 3.0)
"""Prior variance of a coefficient, (mg/dL)², at 30 and 60 min ..."""
_NOISE = (22.0**2 * 6.0, 35.0**2 * 6.0)
"""... and of an outcome: that of the forecast error, times six, for outcomes five minutes apart hardly differ."""
_OUTLIER_MG_DL = 60.0
_HALF_LIFE_DAYS = 180.0
_SOLVE_EVERY = 48
"""Outcomes between two solutions: four hours of a five-minute sensor."""
_MEAN_OF = 4000
"""Readings in the person's mean: two weeks of a five-minute sensor."""
_DAY_NS = 86_400_000_000_000


@dataclass(slots=True)
class ForecastFit:
    """What has been learned of one person's forecasts. All numbers are of single precision."""

    gram: Float32 = field(default_factory=lambda: np.zeros((FEATURES, FEATURES), np.float32))
    """Sum over outcomes of the features' products."""
    moment: Float32 = field(default_factory=lambda: np.zeros((2, FEATURES), np.float32))
    """Sum of features times what the model was off by, mg/dL, at 30 and 60 min."""
    coefficients: Float32 = field(default_factory=lambda: np.zeros((2, FEATURES), np.float32))
    widen: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """Logarithm of the change of width: below and above at 30 min, below and above at 60 min."""
    mean_mg_dl: float = 140.0
    readings: int = 0
    outcomes: int = 0
    """Since the last solution."""

    def met(self, mg_dl: float) -> None:
        """One more reading, for the person's mean."""
        self.readings = min(self.readings + 1, _MEAN_OF)
        self.mean_mg_dl += (mg_dl - self.mean_mg_dl) / min(200 + self.readings, _MEAN_OF)

    def features(
        self, t_ns: int, steps: tuple[float, float, float], mg_dl: float, mean: tuple[float, float]
    ) -> Float32:
        """(FEATURES,) of one forecast: `steps` are the last changes over five minutes, newest first, mg/dL; `mean`
        what the model expects at 30 and 60 min, mg/dL."""
        day = 2.0 * math.pi * (t_ns % _DAY_NS) / _DAY_NS
        return np.array(
            (
                1.0,
                steps[0] / 10.0,
                steps[1] / 10.0,
                steps[2] / 10.0,
                (mean[0] - mg_dl) / 20.0,
                (mean[1] - mg_dl) / 20.0,
                (mg_dl - self.mean_mg_dl) / 50.0,
                math.sin(day),
                math.cos(day),
                math.sin(2.0 * day),
                math.cos(2.0 * day),
            ),
            np.float32,
        )

    def correction(self, features: Float32) -> tuple[float, float]:
        """To be added to the mean at 30 and 60 min, mg/dL."""
        at_30, at_60 = (self.coefficients @ features).tolist()
        return _within(at_30, MOST_MG_DL[0]), _within(at_60, MOST_MG_DL[1])

    def width(self, horizon: int, below: float, above: float) -> tuple[float, float]:
        """The interval's two sides, mg/dL, at 30 (`horizon` 0) or 60 min (1)."""
        return below * math.exp(self.widen[2 * horizon]), above * math.exp(self.widen[2 * horizon + 1])

    def learn(self, features: Float32, off: tuple[float, float]) -> None:
        """`off`: truth less the model's mean at 30 and 60 min, mg/dL."""
        bounded = np.array([_within(each, _OUTLIER_MG_DL) for each in off], np.float32)
        self.gram += np.outer(features, features)
        self.moment += np.outer(bounded, features)
        self.outcomes += 1
        if self.outcomes >= _SOLVE_EVERY:
            self._solve()

    def learn_width(self, horizon: int, off: float, below: float, above: float) -> None:
        """`off`: truth less the corrected mean, mg/dL; `below`, `above`: the model's own sides."""
        down, up = self.width(horizon, below, above)
        for side, missed in ((2 * horizon, off < -down), (2 * horizon + 1, off > up)):
            self.widen[side] = _within(self.widen[side] + WIDEN_STEP * (missed - MISSED), WIDEN_MOST)

    def _solve(self) -> None:
        for horizon in range(2):
            information = self.gram.astype(np.float64) / _NOISE[horizon]
            information[np.diag_indices(FEATURES)] += 1.0 / _RIDGE[horizon]
            moment = self.moment[horizon].astype(np.float64) / _NOISE[horizon]
            self.coefficients[horizon] = np.linalg.solve(information, moment)
        keep = np.float32(0.5 ** (self.outcomes / 288.0 / _HALF_LIFE_DAYS))
        self.gram *= keep
        self.moment *= keep
        self.outcomes = 0


def _within(value: float, most: float) -> float:
    return min(max(value, -most), most)
