"""What people have today, beside which a forecast is scored: last value, a line, Nightscout's AR2, xDrip's low alert.

All see the readings on the 5-minute grid up to each one and nothing after. Nightscout's rule is that of its `ar2`
plugin with default settings (targets 80 to 180 mg/dL); xDrip's is its low prediction with default settings (down to 70
mg/dL, less than 40 minutes ahead). Figures (n,) or (n, steps) in mg/dL.
"""

from __future__ import annotations

import numpy as np

from agent.scoring.glucose import Bool, Float64, Grid

STEP_MIN = 5
AR2_REFERENCE_MG_DL = 140.0
AR2_NOW, AR2_BEFORE = 1.716, -0.723
AR2_RANGE_MG_DL = (36.0, 400.0)
"""Nightscout draws nothing outside, and forecasts from no reading below."""
AR2_STEPS = 12
LOSS_STEPS = 6
LOSS_CENTRE_MG_DL = 120.0
WARN_LOSS, URGENT_LOSS = 0.05, 0.10
TARGET_BOTTOM_MG_DL = 80.0
LINE_SLOTS = 3
"""A line over 15 minutes ..."""
XDRIP_SLOTS = 2
"""... and over xDrip's 12, which hold three readings."""
XDRIP_LOW_MG_DL = 70.0
XDRIP_SOON_MIN = 40.0
XDRIP_LOOK_MIN = 99.0
XDRIP_LOOK_STEP_MIN = 2.5
PREVIOUS_SLOTS = 3
"""Nightscout looks for the reading before in three more buckets of five minutes."""


def line(grid: Grid, slots: int = LINE_SLOTS) -> tuple[Float64, Float64]:
    """Least squares through the readings of the last so many slots: the value now and the slope per minute.

    With one reading alone it is flat.
    """
    lag = np.arange(slots + 1)
    seen = grid.at(grid.slot[:, None] - lag)
    known = np.isfinite(seen)
    minutes = np.broadcast_to(-STEP_MIN * lag.astype(np.float64), seen.shape)
    n = known.sum(axis=1)
    mean_t = np.where(known, minutes, 0.0).sum(axis=1) / np.maximum(n, 1)
    mean_y = np.where(known, seen, 0.0).sum(axis=1) / np.maximum(n, 1)
    from_t = np.where(known, minutes - mean_t[:, None], 0.0)
    spread = np.sum(from_t**2, axis=1)
    slope = np.sum(from_t * np.where(known, seen - mean_y[:, None], 0.0), axis=1) / np.where(spread > 0, spread, 1.0)
    return np.asarray(mean_y - slope * mean_t), np.asarray(slope)


def linear(grid: Grid, minutes: int) -> Float64:
    """(n,) the line of the last 15 minutes, drawn on."""
    now, slope = line(grid)
    return now + slope * minutes


def ar2(grid: Grid) -> Float64:
    """(n, AR2_STEPS) Nightscout's forecast every five minutes.

    The reading before may be up to 15 minutes old: the value of five minutes ago is then on the line between. Without
    one, or from readings below Nightscout's range, the last value stands.
    """
    now = grid.mg_dl
    before, since = np.full(len(now), np.nan), np.ones(len(now))
    for slots in range(PREVIOUS_SLOTS, 0, -1):
        there = grid.at(grid.slot - slots)
        before, since = np.where(np.isfinite(there), there, before), np.where(np.isfinite(there), slots, since)
    lowest, highest = AR2_RANGE_MG_DL
    said = np.isfinite(before) & (now >= lowest) & (before >= lowest)
    five_ago = np.where(said, now - (now - before) / since, now)
    # A steep rise out of a gap may put the value of five minutes ago at nothing or less.
    previous, current = (np.log(np.maximum(value, 1.0) / AR2_REFERENCE_MG_DL) for value in (five_ago, now))
    path = np.empty((len(now), AR2_STEPS))
    for step in range(AR2_STEPS):
        previous, current = current, AR2_BEFORE * previous + AR2_NOW * current
        path[:, step] = current
    forecast = np.clip(AR2_REFERENCE_MG_DL * np.exp(path), lowest, highest)
    return np.where(said[:, None], forecast, now[:, None])


def ar2_loss(path: Float64) -> Float64:
    """(n,) Nightscout's loss of a forecast: how far the six points of the next half hour lie from 120 mg/dL.

    It is their sum over five, as Nightscout has it.
    """
    points = np.round(path[:, :LOSS_STEPS])
    return np.asarray(np.sum(np.log10(points / LOSS_CENTRE_MG_DL) ** 2, axis=1) / (LOSS_STEPS - 1))


def nightscout_low(path: Float64, least_loss: float = WARN_LOSS) -> Bool:
    """(n,) where Nightscout warns of a low (or, above URGENT_LOSS, urgently): 20 minutes ahead it is below 80."""
    return np.asarray((np.round(path[:, 3]) < TARGET_BOTTOM_MG_DL) & (ar2_loss(path) > least_loss))


def xdrip_low(grid: Grid) -> Bool:
    """(n,) where xDrip predicts a low: its line comes to 70 within more than 1 and fewer than 40 minutes.

    xDrip tries a straight line and three curves, which over 12 minutes are the same, and looks at every two and a half
    minutes back from 99 ahead.
    """
    now, slope = line(grid, XDRIP_SLOTS)
    falls = slope < 0
    crosses_min = np.where(falls, (XDRIP_LOW_MG_DL - now) / np.where(falls, slope, -1.0), np.inf)
    looked = np.arange(XDRIP_LOOK_MIN, -XDRIP_LOOK_STEP_MIN, -XDRIP_LOOK_STEP_MIN)[::-1]
    place = np.searchsorted(looked, crosses_min)
    found = np.append(looked, np.inf)[place]
    return np.asarray((found > 1.0) & (found < XDRIP_SOON_MIN))
