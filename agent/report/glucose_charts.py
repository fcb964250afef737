"""Glucose in pictures: the usual day, each day small, and the shares of the ranges."""

from __future__ import annotations

import numpy as np

from agent.report.markup import Markup, tag
from agent.report.period import Period
from agent.report.plot import Frame, Values, chart, label
from agent.report.summary import LEAST_DAYS_OF_PROFILE, GlucoseDay, GlucoseSummary
from agent.report.words import GlucoseUnit, clock, counted, day_name, percent, short_day, weekday
from agent.signal.glycaemia import Measures, Profile
from firmware_bridge.chunk import NS_PER_S

TARGET_LOW, TARGET_HIGH = 70.0, 180.0
VERY_LOW, VERY_HIGH = 54.0, 250.0
Y_LOW = 40.0
GAP_INTERVALS = 2.5
"""Readings further apart than so many intervals are not joined by a line."""


def profile_chart(period: Period, summary: GlucoseSummary, unit: GlucoseUnit) -> Markup:
    """The ambulatory glucose profile; with too few days for one, every day's own line."""
    profile = summary.profile
    few = summary.days_with_readings < LEAST_DAYS_OF_PROFILE
    top = summary.highest_mg_dl if few else float(np.nanmax(profile.mg_dl, initial=TARGET_HIGH))
    frame = Frame(54, 14, 812, 300, 0, 1440, Y_LOW, min(400.0, max(300.0, 50.0 * np.ceil(top / 50))))
    drawn = _day_lines(period, frame) if few else _bands(profile, frame)
    return chart(
        "profile",
        "Glucose by time of day",
        _described(profile, summary, unit) if not few else _few_described(summary, unit),
        920,
        350,
        frame.area(TARGET_LOW, TARGET_HIGH, "target"),
        frame.hours(3),
        [frame.level(value, "grid") for value in (VERY_LOW, VERY_HIGH, frame.y_high)],
        drawn,
        [frame.level(value, "limit") for value in (TARGET_LOW, TARGET_HIGH)],
        [frame.y_label(value, unit.show(value)) for value in (VERY_LOW, VERY_HIGH, frame.y_high) if value],
        [frame.y_label(value, unit.show(value), "axis strong") for value in (TARGET_LOW, TARGET_HIGH)],
        label(frame.left - 8, frame.top - 3, unit.name, "axis small", anchor="end") if frame.y_high > 320 else None,
    )


def _bands(profile: Profile, frame: Frame) -> list[Markup | None]:
    """The percentiles, joined over midnight."""
    x = np.append(profile.minute_of_day, 1440).astype(np.float64)
    p5, p25, p50, p75, p95 = (np.append(row, row[0]) for row in profile.mg_dl)
    names = zip(("95 %", "75 %", "median", "25 %", "5 %"), (p95, p75, p50, p25, p5), strict=True)
    return [
        frame.band(x, p5, p95, "outer"),
        frame.band(x, p25, p75, "inner"),
        frame.line(x, p50, "median"),
        *_beside(frame, [(name, float(row[-1])) for name, row in names if np.isfinite(row[-1])]),
    ]


def _beside(frame: Frame, names: list[tuple[str, float]]) -> list[Markup]:
    """Names at the right edge, from the top down, none on top of another."""
    out = []
    free = frame.top
    for name, value in names:
        y = max(frame.y(value) + 4, free)
        out.append(label(frame.right + 6, y, name, "axis small"))
        free = y + 12
    return out


def _day_lines(period: Period, frame: Frame) -> list[Markup | None]:
    return [frame.line(minutes, mg_dl, "day-line") for minutes, mg_dl in _day_curves(period)]


def _day_curves(period: Period) -> list[tuple[Values, Values]]:
    """Of each local day the minutes and the readings; a NaN stands where too long there was none."""
    inside = period.inside
    local = period.local_minutes(inside.t_ns)
    curves = []
    for day in range(period.days):
        own = local // 1440 == day
        holes = np.flatnonzero(np.diff(inside.t_ns[own]) > GAP_INTERVALS * period.interval_s * NS_PER_S) + 1
        curves.append((np.insert(local[own] % 1440, holes, np.nan), np.insert(inside.mg_dl[own], holes, np.nan)))
    return curves


def _described(profile: Profile, summary: GlucoseSummary, unit: GlucoseUnit) -> str:
    median = profile.mg_dl[2]
    if np.isnan(median).all():
        return "Too few readings at any time of day."
    low, high = int(np.nanargmin(median)), int(np.nanargmax(median))
    return (
        f"Percentiles 5, 25, 50, 75 and 95 of {counted(summary.over.readings, 'reading')} by time of day. The median is"
        f" lowest, {unit.measure(median[low])}, around {clock(profile.minute_of_day[low])}, and highest,"
        f" {unit.measure(median[high])}, around {clock(profile.minute_of_day[high])}."
    )


def _few_described(summary: GlucoseSummary, unit: GlucoseUnit) -> str:
    return (
        f"A line for each of {counted(summary.days_with_readings, 'day')} with readings, between"
        f" {unit.measure(summary.lowest_mg_dl)} and {unit.measure(summary.highest_mg_dl)}."
    )


def day_charts(period: Period, summary: GlucoseSummary, unit: GlucoseUnit) -> Markup:
    """Every day small, in weeks: a Monday begins a row."""
    first = weekday(summary.by_day[0].day) if period.days >= 7 else 0
    empty = [tag("li", class_="blank", aria_hidden="true")] * first
    days = [
        _day_chart(k, day, curve, unit)
        for k, (day, curve) in enumerate(zip(summary.by_day, _day_curves(period), strict=True))
    ]
    return tag("ol", empty, days, class_="days")


def _day_chart(k: int, day: GlucoseDay, curve: tuple[Values, Values], unit: GlucoseUnit) -> Markup:
    in_range = day.measures.in_range_percent if day.measures else None
    caption = [
        tag("span", day_name(day.day), class_="day-name"),
        tag("span", percent(in_range), class_="day-share") if day.readings else None,
    ]
    if not day.readings:
        return tag("li", caption, tag("div", "no readings", class_="nothing"))
    frame = Frame(0, 2, 128, 60, 0, 1440, Y_LOW, 320.0)
    minutes, mg_dl = curve
    above, below = f"above-{k}", f"below-{k}"
    low, high = frame.y(TARGET_LOW), frame.y(TARGET_HIGH)
    known = mg_dl[np.isfinite(mg_dl)]
    picture = chart(
        f"day-{k}",
        f"Glucose on {short_day(day.day)}",
        f"{percent(in_range)} of {counted(day.readings, 'reading')} in range, from"
        f" {unit.measure(float(known.min()))} to {unit.measure(float(known.max()))}.",
        128,
        64,
        tag("clipPath", tag("rect", x=0, y=0, width=128, height=high), id=above),
        tag("clipPath", tag("rect", x=0, y=low, width=128, height=64 - low), id=below),
        frame.area(TARGET_LOW, TARGET_HIGH, "target"),
        tag("line", x1=64, x2=64, y1=2, y2=62, class_="hour"),
        frame.line(minutes, mg_dl, "day-line"),
        tag(
            "g",
            frame.band(minutes, np.full(len(mg_dl), TARGET_HIGH) + 0 * mg_dl, mg_dl, "too-high"),
            frame.line(minutes, mg_dl, "day-line high"),
            clip_path=f"url(#{above})",
        ),
        tag(
            "g",
            frame.band(minutes, mg_dl, np.full(len(mg_dl), TARGET_LOW) + 0 * mg_dl, "too-low"),
            frame.line(minutes, mg_dl, "day-line low"),
            clip_path=f"url(#{below})",
        ),
    )
    return tag("li", caption, picture)


def range_shares(measures: Measures) -> tuple[tuple[str, str, float], ...]:
    """(class, name, percent) of the five ranges from the top; they add up to 100."""
    return (
        ("very-high", "Very high", measures.above_250_percent),
        ("high", "High", measures.above_180_percent - measures.above_250_percent),
        ("in-range", "In range", measures.in_range_percent),
        ("low", "Low", measures.below_70_percent - measures.below_54_percent),
        ("very-low", "Very low", measures.below_54_percent),
    )


def range_bar(measures: Measures) -> Markup:
    """The ranges stacked as they lie; what is there at all can be seen."""
    shares = range_shares(measures)
    height, gap = 236.0, 2.0
    shown = [(name, max(share, 1.2)) for name, _, share in shares if share > 0]
    room = height - gap * (len(shown) - 1)
    total = sum(share for _, share in shown)
    y, pieces = 0.0, []
    for name, share in shown:
        size = room * share / total
        pieces.append(tag("rect", x=0, y=y, width=64, height=size, rx=3, class_=name))
        y += size + gap
    said = ", ".join(f"{name.lower()} {percent(share)}" for _, name, share in shares)
    return chart("ranges", "Time in ranges", said + ".", 64, height, pieces)
