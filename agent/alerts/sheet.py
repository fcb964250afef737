"""A sheet of paper to draw on, in millimetres; drawn at twice its size so that lines come out smooth."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

PX_PER_MM = 6
_FINER = 2
MARGIN_MM = 10.0

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Sheet:
    """White; (0, 0) is the upper left corner."""

    BLACK: Colour = (20, 20, 20)
    GREY: Colour = (90, 90, 90)

    def __init__(self, width_mm: float, height_mm: float) -> None:
        self.width_mm, self.height_mm = width_mm, height_mm
        self._scale = PX_PER_MM * _FINER
        size = round(width_mm * self._scale), round(height_mm * self._scale)
        self._image = Image.new("RGB", size, "white")
        self._draw = ImageDraw.Draw(self._image)

    def image(self) -> Image.Image:
        return self._image.reduce(_FINER)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        low, high = self._at((left, top)), self._at((max(left, right), max(top, bottom)))
        self._draw.rectangle((*low, *high), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour = BLACK, width_mm: float = 0.25) -> None:
        pixels = [self._at(point) for point in points]
        if len(pixels) == 1:
            pixels *= 2
        self._draw.line(pixels, fill=colour, width=max(1, round(width_mm * self._scale)), joint="curve")

    def dot(self, x: float, y: float, colour: Colour = BLACK, radius_mm: float = 0.7) -> None:
        low, high = self._at((x - radius_mm, y - radius_mm)), self._at((x + radius_mm, y + radius_mm))
        self._draw.ellipse((*low, *high), fill=colour)

    def text(self, x: float, y: float, text: str, *, size_mm: float = 3.0, colour: Colour = BLACK) -> None:
        """`(x, y)` is the upper left of the text; what is too long for the sheet is cut."""
        font = ImageFont.load_default(size_mm * self._scale)
        room = (self.width_mm - x - 2.0) * self._scale
        while len(text) > 1 and self._draw.textlength(text, font) > room:
            text = f"{text[: int(len(text) * 0.95) - 1]}…"
        self._draw.text(self._at((x, y)), text, fill=colour, font=font)

    def _at(self, point: Point) -> Point:
        return (point[0] * self._scale, point[1] * self._scale)
