"""What a chart is drawn with: a frame with two scales, paths that break where nothing is known, and its description."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from agent.report.markup import Markup, tag

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """The area in which values are drawn, in the chart's own units, y downwards."""

    left: float
    top: float
    width: float
    height: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def x(self, value: float) -> float:
        return self.left + self.width * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        """Of a value, held inside the frame."""
        held = min(max(value, self.y_low), self.y_high)
        return self.bottom - self.height * (held - self.y_low) / (self.y_high - self.y_low)

    def line(self, x: Values, y: Values, class_: str) -> Markup | None:
        """A line through the points, broken where one is NaN."""
        runs = [" ".join(_point(self.x(a), self.y(b)) for a, b in run) for run in _runs(zip(x, y, strict=True))]
        return tag("path", d="".join(f"M{run}" for run in runs), class_=class_) if runs else None

    def band(self, x: Values, low: Values, high: Values, class_: str) -> Markup | None:
        """The area between two lines, broken where either is NaN."""
        pieces = []
        for run in _runs(zip(x, low, high, strict=True)):
            above = [_point(self.x(a), self.y(c)) for a, _, c in run]
            below = [_point(self.x(a), self.y(b)) for a, b, _ in reversed(run)]
            pieces.append(f"M{' '.join([*above, *below])}Z")
        return tag("path", d="".join(pieces), class_=class_) if pieces else None

    def level(self, value: float, class_: str) -> Markup:
        """A line across at a value."""
        return tag("line", x1=self.left, x2=self.right, y1=self.y(value), y2=self.y(value), class_=class_)

    def area(self, low: float, high: float, class_: str) -> Markup:
        """All between two values."""
        return tag(
            "rect", x=self.left, y=self.y(high), width=self.width, height=self.y(low) - self.y(high), class_=class_
        )

    def y_label(self, value: float, text: str, class_: str = "axis") -> Markup:
        return label(self.left - 8, self.y(value) + 4, text, class_, anchor="end")

    def hours(self, every: int) -> list[Markup]:
        """Hour lines and names along the bottom, where x is minutes of a day."""
        out = []
        for hour in range(0, 25, every):
            x = self.x(60.0 * hour)
            out.append(tag("line", x1=x, x2=x, y1=self.top, y2=self.bottom, class_="hour"))
            anchor = "start" if hour == 0 else "end" if hour == 24 else "middle"
            out.append(label(x, self.bottom + 18, f"{hour:02d}:00", "axis", anchor=anchor))
        return out


def label(x: float, y: float, text: str, class_: str, anchor: str = "start") -> Markup:
    return tag("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def chart(
    name: str, title: str, description: str, width: float, height: float, *children: Iterable[str | None] | str | None
) -> Markup:
    """An SVG that says what it shows to those who cannot see it. `name` is the page's only one of that name."""
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", description, id=f"{name}-desc"),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _point(x: float, y: float) -> str:
    return f"{x:.1f},{y:.1f}"


def _runs(points: Iterable[tuple[float, ...]]) -> list[Sequence[tuple[float, ...]]]:
    """Stretches of points in which nothing is NaN."""
    groups = groupby(points, key=lambda point: not any(np.isnan(value) for value in point))
    return [run for known, group in groups if known and len(run := list(group)) > 0]
