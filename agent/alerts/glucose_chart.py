"""Readings of glucose as a curve, with the limits and what was expected to follow."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

from agent.alerts.sheet import MARGIN_MM, Colour, Sheet
from agent.uplink.evidence import EvidenceModel, parse_rfc3339_ns
from firmware_bridge.chunk import NS_PER_S

CHART_HEIGHT_MM = 90.0
_LEFT_MM, _BELOW_MM = 12.0, 7.0
_TARGET = (70.0, 180.0)
_URGENT_MG_DL = 54.0
_IN_TARGET: Colour = (228, 244, 228)
_LIMIT: Colour = (176, 0, 32)
_LINE: Colour = (200, 200, 200)
_EXPECTED: Colour = (200, 215, 240)
_MIDDLE: Colour = (40, 80, 160)


def draw_readings(sheet: Sheet, evidence: EvidenceModel, top_mm: float) -> str:
    """Draw them from `top_mm` down; returns the scale in words."""
    times = [parse_rfc3339_ns(text) for text in evidence.strip.times or ()]
    values = [float("nan") if x is None else x for x in evidence.strip.samples[0]]
    expected = list(evidence.expected or ())
    end_ns = times[-1] + max((60 * one.minutes for one in expected), default=0) * NS_PER_S
    limit = next((v for k, v in evidence.values.items() if k == "limit_mg_dl" and isinstance(v, float)), None)
    shown = (
        [value for value in values if isfinite(value)] + [one.low for one in expected] + [one.high for one in expected]
    )
    low, high = min(40.0, *shown), max(200.0, *shown)
    left, right = MARGIN_MM + _LEFT_MM, sheet.width_mm - MARGIN_MM
    bottom = top_mm + CHART_HEIGHT_MM - _BELOW_MM

    def x(t_ns: float) -> float:
        return left + (right - left) * (t_ns - times[0]) / max(1, end_ns - times[0])

    def y(mg_dl: float) -> float:
        return bottom - (bottom - top_mm) * (mg_dl - low) / (high - low)

    sheet.box(left, y(_TARGET[1]), right, y(_TARGET[0]), _IN_TARGET)
    for mg_dl in (_URGENT_MG_DL, *_TARGET, *(k for k in range(250, int(high) + 1, 50))):
        sheet.line([(left, y(mg_dl)), (right, y(mg_dl))], _LINE, 0.15)
        sheet.text(MARGIN_MM, y(mg_dl) - 1.8, f"{mg_dl:g}", colour=sheet.GREY)
    hour_ns = 3600 * NS_PER_S
    for t_ns in range(-(-times[0] // hour_ns) * hour_ns, end_ns + 1, hour_ns):
        sheet.line([(x(t_ns), top_mm), (x(t_ns), bottom)], _LINE, 0.15)
        at = datetime.fromtimestamp(t_ns // NS_PER_S, UTC)
        sheet.text(x(t_ns) - 4.0, bottom + 1.5, f"{at:%H:%M}", colour=sheet.GREY)
    if limit is not None:
        sheet.line([(left, y(limit)), (right, y(limit))], _LIMIT, 0.3)
        sheet.text(left + 1.5, y(limit) - 4.5, f"limit {limit:g} mg/dL", colour=_LIMIT)
    before = (x(times[-1]), y(values[-1]))
    for one in sorted(expected, key=lambda one: one.minutes):
        at_x = x(times[-1] + 60 * one.minutes * NS_PER_S)
        sheet.box(at_x - 1.5, y(one.high), at_x + 1.5, y(one.low), _EXPECTED)
        sheet.line([before, (at_x, y(one.value))], _MIDDLE, 0.2)
        sheet.dot(at_x, y(one.value), _MIDDLE)
        before = (at_x, y(one.value))
    points = [(x(t_ns), y(value)) for t_ns, value in zip(times, values, strict=True) if isfinite(value)]
    sheet.line(points, width_mm=0.2)
    for at_x, at_y in points:
        sheet.dot(at_x, at_y)
    return "glucose, mg/dL; times are UTC; bars: nine of ten forecasts hold"
