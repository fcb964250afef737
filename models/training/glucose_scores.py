"""How well forecasts and alarms of held-out people do, by the protocol, and what is calibrated on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.evaluate.incumbents import ar2
from agent.scoring.glucose import ForecastScore, Grid, forecast_score, total
from agent.scoring.glucose_events import LE54_20, LT70_30, LowScore, Target, low_score, lows_of
from agent.signal.glucose_window import UNIT_MG_DL
from agent.signal.outlook import HIGH_MG_DL, HORIZONS_MIN
from models.manifest import AlarmAt, Platt
from models.pack import event_probabilities, forecast_changes
from models.training.glucose_examples import LABELS, Examples
from models.training.glucose_network import FORECASTS
from models.training.glucose_records import Person

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

COVERAGE = 0.9
TARGETS: tuple[Target, ...] = (LT70_30, LE54_20, Target("> 250 within 30 min", LT70_30.below_mg_dl, 30))
"""By label; the last on readings turned upside down, where 250 is 70."""
_UPSIDE_DOWN = HIGH_MG_DL + LT70_30.below_mg_dl
FALSE_A_DAY = {"lt70_30": 1.0, "le54_20": 0.5, "gt250_30": 1.0}
"""Per label, how many false notifications a day are allowed of somebody of whom nothing is known."""
ENDS_AT = 0.8
"""An alarm ends below this share of the probability at which it begins."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What networks said of people they had not met."""

    examples: Examples
    """All that stand for a slot, person by person, in the order of `grids`."""
    grids: Mapping[str, Grid]
    outputs: Float32
    """(n, OUTPUTS) of the 8-bit network."""
    float_outputs: Float32
    """(n, OUTPUTS)."""
    timeless: Float32
    """(n, OUTPUTS) of the 8-bit network that is not told the time of day."""

    def rows(self) -> dict[str, slice]:
        """Where each person's examples are."""
        rows, at = {}, 0
        for patient, grid in self.grids.items():
            rows[patient] = slice(at, at + len(grid.slot))
            at += len(grid.slot)
        return rows


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is found on held-out people and written into the manifest."""

    widen_mg_dl: tuple[float, ...]
    """Per horizon."""
    platt: Mapping[str, Platt]
    alarm: Mapping[str, AlarmAt]

    def probabilities(self, outputs: Float32) -> Float32:
        """(n, labels) calibrated."""
        return event_probabilities(outputs, [self.platt[label] for label in LABELS])

    def changes(self, outputs: Float32) -> Float32:
        """(n, horizons, 3) mg/dL: lower end, mean, upper end."""
        return forecast_changes(outputs, UNIT_MG_DL, self.widen_mg_dl)


def calibrate(held_out: HeldOut) -> Calibration:
    """From the 8-bit answers: the interval's widening, each event's probability, and where its alarm stands."""
    examples, outputs = held_out.examples, held_out.outputs
    found = Calibration(
        widening(outputs[examples.judged], examples.change[examples.judged]),
        {
            label: fit_platt(outputs[known, FORECASTS + k], examples.event[known, k])
            for k, label in enumerate(LABELS)
            if (known := examples.usable & examples.counted[:, k]).any()
        },
        {},
    )
    alarm = {}
    for label in LABELS:
        start_at = threshold(held_out, found, label, FALSE_A_DAY[label])
        alarm[label] = AlarmAt(start_at=start_at, end_below=round(ENDS_AT * start_at, 4))
    return replace(found, alarm=alarm)


def widening(outputs: Float32, change: Float32) -> tuple[float, ...]:
    """Per horizon, by how much the ends move outwards for COVERAGE of the outcomes (Romano 2019), in mg/dL."""
    widen = []
    for k in range(len(HORIZONS_MIN)):
        low, high = outputs[:, 3 * k] * UNIT_MG_DL, outputs[:, 3 * k + 2] * UNIT_MG_DL
        outside = np.sort(np.maximum(low - change[:, k], change[:, k] - high))
        rank = min(len(outside) - 1, int(np.ceil(COVERAGE * (len(outside) + 1))) - 1)
        widen.append(round(float(outside[rank]), 2))
    return tuple(widen)


def fit_platt(logits: Float32, came: Bools) -> Platt:
    """Scale and bias with the largest likelihood, by Newton's method (Platt 1999)."""
    x, y = logits.astype(np.float64), came.astype(np.float64)
    features = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(features @ weights, -30.0, 30.0)))
        curve = p * (1 - p) + 1e-9
        step = np.linalg.solve((features * curve[:, None]).T @ features, features.T @ (p - y))
        weights -= step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-7:
            break
    return Platt(scale=round(float(weights[0]), 4), bias=round(float(weights[1]), 4))


# -- forecasts ---------------------------------------------------------------------------------------------------------


Predict = Callable[[str, Grid, int], tuple[Float64, Float64 | None, Float64 | None]]
"""Of a person, the grid and the minutes: forecast, and the interval's ends where there is one; (n,) mg/dL each."""


def forecasts(held_out: HeldOut, calibration: Calibration, outputs: Float32) -> Predict:
    """Those of networks, from their `outputs` on the held-out examples."""
    rows = held_out.rows()
    changes = calibration.changes(outputs)

    def predict(patient: str, grid: Grid, minutes: int) -> tuple[Float64, Float64, Float64]:
        said = changes[rows[patient], HORIZONS_MIN.index(minutes)] + grid.mg_dl[:, None]
        return said[:, 1], said[:, 0], said[:, 2]

    return predict


def last_value(patient: str, grid: Grid, minutes: int) -> tuple[Float64, None, None]:
    """Nothing changes."""
    return grid.mg_dl, None, None


def nightscout(patient: str, grid: Grid, minutes: int) -> tuple[Float64, None, None]:
    """AR2."""
    return ar2(grid)[:, minutes // 5 - 1], None, None


def scores_of(
    grids: Mapping[str, Grid],
    predict: Predict,
    minutes: int,
    chosen: Callable[[Grid], Bools] = lambda grid: grid.usable,
) -> dict[str, ForecastScore]:
    """Of each person; samples that are usable, `chosen`, and have a reading at every horizon."""
    found = {}
    for patient, grid in grids.items():
        known = np.all([np.isfinite(grid.ahead(each)) for each in HORIZONS_MIN], axis=0) & grid.usable & chosen(grid)
        said, low, high = predict(patient, grid, minutes)
        found[patient] = forecast_score(
            grid.ahead(minutes)[known],
            said[known],
            None if low is None else low[known],
            None if high is None else high[known],
        )
    return found


def pooled(scores: Mapping[str, ForecastScore]) -> ForecastScore:
    return total(list(scores.values()))


# -- alarms ------------------------------------------------------------------------------------------------------------


def standing(p: Float32, start_at: float, end_below: float) -> Bools:
    """(n,) where an alarm is on that begins at one probability and ends below another."""
    # What lies between the two leaves things as they are: the last one that decided is looked up.
    decided = np.where((p >= start_at) | (p < end_below), np.arange(len(p)), -1)
    last = np.maximum.accumulate(decided)
    on: Bools = np.where(last >= 0, p[np.maximum(last, 0)] >= start_at, False)
    return on


def alarm_scores(
    held_out: HeldOut,
    calibration: Calibration,
    label: str,
    start_at: float,
    ends_at: float = ENDS_AT,
    sparse: bool | None = None,
) -> dict[str, LowScore]:
    """Of each person, the alarm of a label; only of those with a sensor of 15 minutes, or only of the others."""
    column = LABELS.index(label)
    p = calibration.probabilities(held_out.outputs)[:, column]
    return {
        patient: low_score(
            _grid_of(label, held_out.grids[patient]), standing(p[rows], start_at, ends_at * start_at), TARGETS[column]
        )
        for patient, rows in held_out.rows().items()
        if sparse in {None, is_sparse_grid(held_out.grids[patient])}
    }


def _grid_of(label: str, grid: Grid) -> Grid:
    return replace(grid, mg_dl=_UPSIDE_DOWN - grid.mg_dl) if label == "gt250_30" else grid


def threshold(
    held_out: HeldOut, calibration: Calibration, label: str, false_a_day: float, ends_at: float = ENDS_AT
) -> float:
    """The least probability at which an alarm may begin for so many false ones a day in the pool.

    Of people with a sensor of 5 minutes: the alarms of others come as they may.
    """
    column = LABELS.index(label)
    p = calibration.probabilities(held_out.outputs)[:, column]
    known = [
        (p[rows], lows_of(_grid_of(label, held_out.grids[patient]), TARGETS[column]))
        for patient, rows in held_out.rows().items()
        if not is_sparse_grid(held_out.grids[patient])
    ]
    low, high = -9.0, 6.0  # log odds
    for _ in range(14):
        start = _share((low + high) / 2)
        scores = [lows.score(standing(mine, start, ends_at * start)) for mine, lows in known]
        too_many = sum(float(one.false) for one in scores) > false_a_day * sum(float(one.days) for one in scores)
        low, high = ((low + high) / 2, high) if too_many else (low, (low + high) / 2)
    return float(np.ceil(_share(high) * 1e4)) / 1e4


def is_sparse_grid(grid: Grid) -> bool:
    """Whether a person mostly wore a sensor of 15 minutes."""
    return bool(len(grid.slot)) and float(np.median(grid.interval_slots)) > 1.0


def _share(log_odds: float) -> float:
    return float(1.0 / (1.0 + np.exp(-log_odds)))


def trade_off(
    held_out: HeldOut, calibration: Calibration, label: str, starts: Sequence[float]
) -> tuple[Float64, Float64, Float64]:
    """(starts,) each: false notifications a day, share of events detected, share announced early.

    Of people with a sensor of 5 minutes.
    """
    all_of = [total(list(alarm_scores(held_out, calibration, label, start, sparse=False).values())) for start in starts]
    return (
        np.array([float(one.false_per_day) for one in all_of]),
        np.array([float(one.sensitivity) for one in all_of]),
        np.array([float(one.early_share) for one in all_of]),
    )


def grids_of(people: Sequence[Person]) -> dict[str, Grid]:
    return {person.patient: person.grid for person in people}
