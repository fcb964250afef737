"""The heart's rate by hour of the day, with how much of each hour was seen."""

from __future__ import annotations

import math

import numpy as np

from agent.report.heart import Heart
from agent.report.markup import Markup, tag
from agent.report.plot import Frame, chart, label
from agent.report.words import number, percent


def rate_chart(heart: Heart) -> Markup:
    """Percentiles of the five-minute mean rates by hour; below, how much of the hour was seen and usable."""
    known = [hour.bpm for hour in heart.by_hour if hour.bpm is not None]
    low = min((bpm[0] for bpm in known), default=50.0)
    high = max((bpm[4] for bpm in known), default=100.0)
    y_low, y_high = 10.0 * math.floor(min(low - 4, 50) / 10), 10.0 * math.ceil(max(high + 4, 100) / 10)
    frame = Frame(54, 14, 812, 190, 0, 1440, y_low, y_high)
    below = Frame(54, 236, 812, 34, 0, 1440, 0, 100)
    x = np.array([60.0 * hour.hour + 30 for hour in heart.by_hour])
    rows = np.array([hour.bpm if hour.bpm is not None else (np.nan,) * 5 for hour in heart.by_hour], np.float64).T
    step = 20 if y_high - y_low <= 120 else 40
    levels = np.arange(step * math.ceil(y_low / step), y_high + 1, step).tolist()
    width = below.width / 24
    return chart(
        "rate",
        "Heart rate by hour of the day",
        _described(heart),
        920,
        296,
        frame.hours(3),
        [frame.level(value, "grid") for value in levels],
        [frame.y_label(value, f"{value:.0f}") for value in levels],
        frame.band(x, rows[0], rows[4], "outer heart"),
        frame.band(x, rows[1], rows[3], "inner heart"),
        frame.line(x, rows[2], "median heart"),
        [_dot(frame, a, b) for k, (a, b) in enumerate(zip(x, rows[2], strict=True)) if _alone(rows[2], k)],
        [
            tag("rect", x=below.x(60.0 * h.hour) + 1, y=below.y(share), width=width - 2,
                height=below.bottom - below.y(share), class_=name)
            for h in heart.by_hour
            for name, share in (("seen", h.seen_percent), ("usable", h.usable_percent))
        ],
        below.level(0, "grid"),
        label(below.left - 8, below.top + 12, "seen,", "axis small", anchor="end"),
        label(below.left - 8, below.top + 25, "usable", "axis small", anchor="end"),
        label(frame.right + 6, frame.top + 6, "bpm", "axis small"),
        label(below.right + 6, below.top + 8, "100 %", "axis small"),
    )  # fmt: skip


def _alone(values: np.ndarray[tuple[int], np.dtype[np.float64]], k: int) -> bool:
    """Whether an hour has no neighbour to draw a line to."""
    beside = [values[i] for i in (k - 1, k + 1) if 0 <= i < len(values)]
    return bool(np.isfinite(values[k]) and not np.isfinite(beside).any())


def _dot(frame: Frame, x: float, y: float) -> Markup:
    return tag("circle", cx=frame.x(x), cy=frame.y(y), r=3, class_="heart-dot")


def _described(heart: Heart) -> str:
    return (
        f"Mean {number(heart.mean_bpm)} beats a minute, five-minute means from {number(heart.lowest_bpm)} to"
        f" {number(heart.highest_bpm)}. Signal came for {percent(heart.seen_percent)} of the time,"
        f" {percent(heart.usable_percent)} of it usable."
    )
