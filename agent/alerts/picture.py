"""An alert as a picture: the strip on ECG paper, or readings of glucose as a curve. Needs Pillow."""

from __future__ import annotations

from datetime import UTC, datetime

from PIL import Image

from agent.alerts.ecg_paper import draw_strip, strip_height_mm
from agent.alerts.glucose_chart import CHART_HEIGHT_MM, draw_readings
from agent.alerts.kept import KeptAlert
from agent.alerts.sheet import MARGIN_MM, Sheet
from agent.uplink.evidence import EvidenceModel
from agent.uplink.messages import RESEARCH_NOTE
from firmware_bridge.chunk import NS_PER_S

WIDTH_MM = 270.0
HEAD_MM, FOOT_MM = 20.0, 13.0


def picture(alert: KeptAlert, evidence: EvidenceModel) -> Image.Image:
    """What was raised, the signal that it rests on, and which models had a say. Raises ValueError on a strip without
    samples."""
    strip = evidence.strip
    if not strip.samples or not strip.samples[0]:
        raise ValueError("the strip holds no samples")
    body_mm = strip_height_mm(evidence) if strip.rate_hz else CHART_HEIGHT_MM
    sheet = Sheet(WIDTH_MM, HEAD_MM + body_mm + FOOT_MM)
    _head(sheet, alert)
    scale = draw_strip(sheet, evidence, HEAD_MM) if strip.rate_hz else draw_readings(sheet, evidence, HEAD_MM)
    _foot(sheet, alert, evidence, scale, HEAD_MM + body_mm)
    return sheet.image()


def _head(sheet: Sheet, alert: KeptAlert) -> None:
    at = alert.first.at_ns
    began = datetime.fromtimestamp(at // NS_PER_S, UTC)
    sheet.text(MARGIN_MM, 4.0, alert.first.text, size_mm=4.6)
    facts = f"{alert.patient} · {alert.rule} · {alert.priority} · decided {began:%Y-%m-%d %H:%M:%S} UTC · id {alert.id}"
    sheet.text(MARGIN_MM, 11.5, facts + (" · late" if alert.is_late else ""), size_mm=3.2, colour=sheet.GREY)


def _foot(sheet: Sheet, alert: KeptAlert, evidence: EvidenceModel, scale: str, top_mm: float) -> None:
    missing = f" · {evidence.missing_s:.1f} s missing" if evidence.missing_s else ""
    packs = "".join(f" · pack {pack.id} {pack.sha256[:12]}" for pack in evidence.packs)
    quality = f" · signal good for {100 * evidence.quality:.0f} %" if evidence.strip.rate_hz else ""
    shaded = " · shaded: what spoke for it" if evidence.attributions and evidence.strip.rate_hz else ""
    sheet.text(MARGIN_MM, top_mm + 1.5, f"{scale}{shaded}{quality}{missing}{packs}", size_mm=3.0, colour=sheet.GREY)
    sheet.text(MARGIN_MM, top_mm + 6.5, RESEARCH_NOTE, size_mm=3.2)
