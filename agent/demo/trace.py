"""An ECG drawn with characters: Braille cells, two dots wide and four high, so that a terminal can show a waveform."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bit of each dot of a cell, by column and row (Unicode, Braille Patterns)."""
_BLANK = 0x2800


def trace(samples: npt.NDArray[np.floating], columns: int, rows: int, low: float, high: float) -> list[str]:
    """`rows` lines of `columns` characters showing the signal; values past `low`…`high` stick to the edge.

    `samples` has shape (n,), NaN where there is none. Each dot column spans the smallest to the largest of its samples,
    so that a narrow R peak is never lost between two dots.
    """
    cells = np.full((rows, columns), _BLANK)
    height = 4 * rows
    for at, part in enumerate(np.array_split(samples, 2 * columns)):
        known = part[np.isfinite(part)]
        if not len(known):
            continue
        level = np.clip((high - np.array([known.max(), known.min()])) / (high - low) * height, 0, height - 1)
        for dot in range(int(level[0]), int(level[1]) + 1):
            cells[dot // 4, at // 2] |= _DOTS[at % 2][dot % 4]
    return ["".join(map(chr, row)) for row in cells]
