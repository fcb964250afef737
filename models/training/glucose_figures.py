"""Plots of the glucose pack's card, and the readings of nobody that its golden run is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.evaluate.incumbents import ar2, nightscout_low
from agent.ingest.simulate import cgm_readings
from agent.scoring.glucose import Grid, total
from agent.scoring.glucose_events import LT70_30, LowScore, low_score
from agent.signal.glucose_window import prepare
from agent.signal.outlook import HORIZONS_MIN
from firmware_bridge.chunk import NS_PER_S
from models.training import export
from models.training.export import Exported
from models.training.glucose_scores import Calibration, HeldOut, is_sparse_grid, trade_off
from models.training.plots import error_grid, fans, reliability
from models.training.plots import trade_off as plot_trade_off

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

PLOTS = {
    "error_grid.png": "Held-out people, 8-bit network: forecast for 30 minutes over what came, in Clarke's zones",
    "reliability.png": "Held-out people, 8-bit network: how often a low came within 30 minutes over how likely it was",
    "lows.png": "Held-out people: lows announced within 30 minutes before, over false alerts a day",
    "day.png": "An invented day: readings, and forecasts with their interval from some of them",
}
STARTS = (0.08, 0.12, 0.17, 0.22, 0.28, 0.35, 0.43, 0.52, 0.62, 0.75)


def golden_inputs() -> dict[str, Float32]:
    """64 readings of invented days, with sensors of one, five and fifteen minutes, gaps and short histories."""
    rng = np.random.default_rng(64)
    histories = []
    for number in range(64):
        interval_s = (300.0, 300.0, 900.0, 60.0)[number % 4]
        course = [(2.0 * step, float(level)) for step, level in enumerate(rng.uniform(45.0, 320.0, 13))]
        readings = cgm_readings(number, course, interval_s=interval_s)
        end = int(rng.integers(len(readings) // 4 if number % 8 else 1, len(readings)))
        kept = rng.random(end) < (1.0 if number % 3 else 0.7)
        kept[-1] = True
        t_ns = np.array([round(one.t_s * NS_PER_S) for one in readings[:end]])[kept]
        histories.append((t_ns, np.array([one.mg_dl for one in readings[:end]])[kept]))
    zones = [None if number % 4 == 0 else 3600.0 * (number % 24 - 11) for number in range(64)]
    signal, context = prepare(histories, zones)
    return {"signal": signal, "context": context}


def plots(
    held_out: HeldOut, other_site: HeldOut, calibration: Calibration, exported: Exported, folder: Path
) -> dict[str, Path]:
    """The plots of PLOTS, written into `folder`."""
    examples, outputs = held_out.examples, held_out.outputs
    judged = examples.judged
    said = calibration.changes(outputs[judged])[:, 0, 1] + examples.mg_dl[judged]
    came = examples.change[judged, 0] + examples.mg_dl[judged]
    asked = examples.usable & examples.counted[:, 0]
    p = calibration.probabilities(outputs[asked])[:, 0]
    drawn = (
        error_grid(folder / "error_grid.png", came, said),
        reliability(folder / "reliability.png", p, examples.event[asked, 0]),
        plot_trade_off(folder / "lows.png", _curves(held_out, other_site, calibration)),
        _invented_day(calibration, exported, folder / "day.png"),
    )
    return {path.name: path for path in drawn}


def _curves(held_out: HeldOut, other_site: HeldOut, calibration: Calibration) -> dict[str, tuple[Float64, Float64]]:
    curves = {}
    for name, one in (("folds", held_out), ("other site", other_site)):
        false, share, early = trade_off(one, calibration, "lt70_30", STARTS)
        curves[f"{name}: detected"] = (false, share)
        curves[f"{name}: 15 min ahead"] = (false, early)
    nightscout = total(list(nightscout_lows(held_out.grids, sparse=False).values()))
    curves["Nightscout: detected"] = (np.array([nightscout.false_per_day]), np.array([nightscout.sensitivity]))
    curves["Nightscout: 15 min ahead"] = (np.array([nightscout.false_per_day]), np.array([nightscout.early_share]))
    return curves


def _invented_day(calibration: Calibration, exported: Exported, path: Path) -> Path:
    readings = cgm_readings(7)
    t_ns = np.array([round(one.t_s * NS_PER_S) for one in readings])
    mg_dl = np.array([one.mg_dl for one in readings])
    asked = list(range(36, len(readings), 18))
    signal, context = prepare([(t_ns[: k + 1], mg_dl[: k + 1]) for k in asked])
    changes = calibration.changes(export.run(exported, "onnx", {"signal": signal, "context": context}))
    at = [
        (
            t_ns[k] / NS_PER_S / 3600,
            np.array([0.0, *HORIZONS_MIN]) / 60,
            *(mg_dl[k] + np.append(0.0, changes[row, :, column]) for column in range(3)),
        )
        for row, k in enumerate(asked)
    ]
    return fans(path, t_ns / NS_PER_S / 3600, mg_dl, at)


def nightscout_lows(grids: Mapping[str, Grid], sparse: bool | None = None) -> dict[str, LowScore]:
    """Nightscout's warning with its own settings, of each person; of those with one kind of sensor, or of all."""
    return {
        patient: low_score(grid, nightscout_low(ar2(grid)), LT70_30)
        for patient, grid in grids.items()
        if sparse in {None, is_sparse_grid(grid)}
    }
