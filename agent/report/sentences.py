"""What a report says in plain sentences: what was measured, how much of it, nothing about what to do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agent.report.forecast import Forecasts
from agent.report.heart import Heart
from agent.report.summary import GlucoseSummary, Summary
from agent.report.words import GlucoseUnit, clock, counted, number, percent, span
from agent.signal.glycaemia import SUFFICIENT_COVERAGE


def in_short(summary: Summary, unit: GlucoseUnit) -> list[str]:
    """The report in a few sentences."""
    out: list[str] = []
    if summary.glucose is not None:
        out += _glucose(summary.glucose, unit)
    if summary.forecasts is not None:
        out += _forecasts(summary.forecasts, unit)
    if summary.heart is not None:
        out += _heart(summary.heart)
    return [*out, *_alarms(summary)]


def insufficient(glucose: GlucoseSummary) -> str:
    """Why there are no measures."""
    return (
        f"Insufficient data: readings came for {percent(100 * glucose.over.coverage)} of the time, and below"
        f" {percent(100 * SUFFICIENT_COVERAGE)} the measures of a period say little of it."
    )


def _glucose(glucose: GlucoseSummary, unit: GlucoseUnit) -> Iterator[str]:
    measures = glucose.over.measures
    if measures is None:
        yield insufficient(glucose)
    else:
        yield (
            f"Glucose was between {unit.show(70)} and {unit.measure(180)} for {percent(measures.in_range_percent)} of"
            f" the readings, below {unit.show(70)} for {percent(measures.below_70_percent, 1)} and above"
            f" {unit.show(180)} for {percent(measures.above_180_percent)}. Readings came for"
            f" {percent(100 * glucose.over.coverage)} of the time."
        )
    median = glucose.profile.mg_dl[2]
    if np.isfinite(median).sum() > len(median) // 2:
        low, high = int(np.nanargmin(median)), int(np.nanargmax(median))
        yield (
            f"The median was lowest around {clock(glucose.profile.minute_of_day[low])} ({unit.measure(median[low])})"
            f" and highest around {clock(glucose.profile.minute_of_day[high])} ({unit.measure(median[high])})."
        )


def _forecasts(forecasts: Forecasts, unit: GlucoseUnit) -> Iterator[str]:
    near = forecasts.horizons[0]
    if near.pairs:
        yield (
            f"The forecast 30 minutes ahead was off by {unit.fine(near.rmse_mg_dl)} {unit.name} (root mean square over"
            f" {counted(near.pairs, 'reading')}); the last reading taken for it would have been off by"
            f" {unit.fine(near.last_value_rmse_mg_dl)}. Its nine-in-ten interval held"
            f" {percent(near.interval_percent)} of what came."
        )
    lows = forecasts.lows
    if lows.came or lows.warnings:
        a_day = "" if lows.false_per_day is None else f", {lows.false_per_day:.2f} a day"
        came = "No low came."
        if lows.came:
            came = (
                f"Of {counted(lows.came, 'low')}, {lows.warned} had a warning in the half hour before, {lows.early} of"
                " them a quarter of an hour ahead or more."
            )
        warned = "None was warned of."
        if lows.warnings:
            warned = (
                f"Of {counted(lows.warnings, 'warning')} of a low, {lows.false} came to nothing within half an"
                f" hour{a_day}."
            )
        yield f"{came} {warned}"


def _heart(heart: Heart) -> Iterator[str]:
    yield (
        f"An ECG was seen for {span(3600 * heart.seen_h)} ({percent(heart.seen_percent)} of the time),"
        f" {percent(heart.usable_percent)} of it usable; the mean heart rate was {number(heart.mean_bpm)} beats a"
        " minute."
    )
    if heart.beats:
        rhythm = ""
        if heart.rhythm_h:
            rhythm = (
                f" The rhythm was suggestive of atrial fibrillation for {percent(heart.fibrillation_percent, 1)} of"
                f" the {span(3600 * heart.rhythm_h)} for which it was judged."
            )
        yield f"{percent(heart.ventricular_percent, 1)} of the beats were taken for ventricular ones.{rhythm}"


def _alarms(summary: Summary) -> Iterator[str]:
    table = summary.alarms
    if not table.rules:
        yield "There was no alarm."
        return
    yield (
        f"There {'was' if table.physiological == 1 else 'were'} {counted(table.physiological, 'alarm')} about the"
        f" person and {table.technical} about the watching itself."
    )
