"""A strip on ECG paper: 25 mm a second, 10 mm a millivolt, beats with their class, attribution shaded beneath."""

from __future__ import annotations

from math import ceil

import numpy as np
import numpy.typing as npt

from agent.alerts.sheet import MARGIN_MM, Colour, Point, Sheet
from agent.uplink.evidence import BeatModel, EvidenceModel, StripModel, parse_rfc3339_ns
from firmware_bridge.chunk import NS_PER_S

MM_PER_S, MM_PER_UNIT = 25.0, 10.0
SCALE = "25 mm/s · 10 mm/mV"
LEAD_GAP_MM, BEATS_MM = 5.0, 7.0
LEAST_MM, MOST_MM = 30.0, 60.0
"""Of the height that one lead takes."""
_SHADE_STEP_S = 0.02
_PAPER: Colour = (255, 246, 244)
_MILLIMETRE: Colour = (250, 222, 216)
_FIVE: Colour = (238, 178, 168)
_SHADE: Colour = (255, 214, 92)
_OF_BEAT: dict[str, Colour] = {"V": (176, 0, 32), "S": (0, 90, 160)}


def strip_height_mm(evidence: EvidenceModel) -> float:
    """Of the drawing of a strip."""
    return BEATS_MM + sum(_lead_mm(lead) + LEAD_GAP_MM for lead in _leads(evidence.strip)) - LEAD_GAP_MM


def draw_strip(sheet: Sheet, evidence: EvidenceModel, top_mm: float) -> str:
    """Draw it from `top_mm` down; returns the scale in words. Samples beyond MOST_MM are cut off at the edge."""
    strip = evidence.strip
    t0_ns = parse_rfc3339_ns(strip.t0)
    width = MM_PER_S * len(strip.samples[0]) / strip.rate_hz
    left, bottom = MARGIN_MM, top_mm + strip_height_mm(evidence)
    _paper(sheet, left, top_mm + BEATS_MM, left + width, bottom)
    _shade(sheet, evidence, t0_ns, left, width, (top_mm + BEATS_MM, bottom))
    _grid(sheet, left, top_mm + BEATS_MM, left + width, bottom)
    top = top_mm + BEATS_MM
    for name, lead in zip(strip.channels, _leads(strip), strict=True):
        _trace(sheet, lead, strip.rate_hz, left, top)
        sheet.text(left + 1.0, top + 0.5, f"{name} ({strip.unit})" if name else strip.unit)
        top += _lead_mm(lead) + LEAD_GAP_MM
    for beat in evidence.beats:
        x = left + MM_PER_S * (parse_rfc3339_ns(beat.t) - t0_ns) / NS_PER_S
        if left <= x <= left + width:
            _beat(sheet, beat, x, top_mm)
    return SCALE if strip.unit == "mV" else f"25 mm/s · 10 mm/{strip.unit}"


def _leads(strip: StripModel) -> list[npt.NDArray[np.float64]]:
    return [np.array([np.nan if x is None else x for x in lead], np.float64) for lead in strip.samples]


def _span(lead: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Least and greatest value that are shown."""
    known = lead[np.isfinite(lead)]
    if not len(known):
        return -1.0, 1.0
    low, high = float(known.min()), float(known.max())
    missing = LEAST_MM / MM_PER_UNIT - (high - low)
    if missing > 0:
        return low - missing / 2, high + missing / 2
    if high - low > MOST_MM / MM_PER_UNIT:
        middle = float(np.median(known))
        half = MOST_MM / MM_PER_UNIT / 2
        return middle - half, middle + half
    return low, high


def _lead_mm(lead: npt.NDArray[np.float64]) -> float:
    """In whole squares of five."""
    low, high = _span(lead)
    return 5.0 * ceil((high - low) * MM_PER_UNIT / 5.0 - 1e-9)


def _trace(sheet: Sheet, lead: npt.NDArray[np.float64], rate_hz: float, left: float, top: float) -> None:
    """A line through the samples, broken where none came."""
    height = _lead_mm(lead)
    low, high = _span(lead)
    zero = top + height / 2 + MM_PER_UNIT * (low + high) / 2
    points: list[Point] = []
    for index, value in enumerate(lead.tolist()):
        if np.isfinite(value):
            y = min(max(zero - MM_PER_UNIT * value, top), top + height)
            points.append((left + MM_PER_S * index / rate_hz, y))
        elif points:
            sheet.line(points)
            points = []
    if points:
        sheet.line(points)


def _beat(sheet: Sheet, beat: BeatModel, x: float, top_mm: float) -> None:
    """Its class above the paper; a question mark where the model was not sure, or not asked."""
    label = (beat.label or "") + ("?" if beat.unsure or not beat.label else "")
    colour = _OF_BEAT.get(beat.label, sheet.GREY)
    sheet.text(x - 1.0, top_mm, label, size_mm=3.6, colour=colour)
    sheet.line([(x, top_mm + 4.6), (x, top_mm + BEATS_MM - 0.5)], colour, 0.3)


def _paper(sheet: Sheet, left: float, top: float, right: float, bottom: float) -> None:
    sheet.box(left, top, right, bottom, _PAPER)


def _grid(sheet: Sheet, left: float, top: float, right: float, bottom: float) -> None:
    """A thin line each millimetre, a thicker one every five."""
    for every, colour, width in ((1.0, _MILLIMETRE, 0.1), (5.0, _FIVE, 0.18)):
        for k in range(int((right - left + 1e-6) / every) + 1):
            sheet.line([(left + k * every, top), (left + k * every, bottom)], colour, width)
        for k in range(int((bottom - top + 1e-6) / every) + 1):
            sheet.line([(left, top + k * every), (right, top + k * every)], colour, width)


def _shade(
    sheet: Sheet, evidence: EvidenceModel, t0_ns: int, left: float, width: float, between: tuple[float, float]
) -> None:
    """The more a stretch spoke for the answer, the stronger: of attributions that overlap the strongest counts."""
    steps = np.zeros(max(1, int(width / MM_PER_S / _SHADE_STEP_S)))
    for made in evidence.attributions or ():
        greatest = max(made.falls, default=0.0)
        if greatest <= 0:
            continue
        begin_s = (parse_rfc3339_ns(made.t0) - t0_ns) / NS_PER_S
        for place, fall in enumerate(made.falls):
            first = round((begin_s + place * made.piece_s) / _SHADE_STEP_S)
            last = round((begin_s + (place + 1) * made.piece_s) / _SHADE_STEP_S)
            part = steps[max(0, first) : max(0, last)]
            np.maximum(part, max(0.0, fall / greatest), out=part)
    for place, strength in enumerate(steps.tolist()):
        if strength > 0.05:
            x = left + place * _SHADE_STEP_S * MM_PER_S
            sheet.box(x, between[0], x + _SHADE_STEP_S * MM_PER_S, between[1], _blend(strength))


def _blend(strength: float) -> Colour:
    red, green, blue = (round(p + strength * (s - p)) for p, s in zip(_PAPER, _SHADE, strict=True))
    return red, green, blue
