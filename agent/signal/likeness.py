"""How like two stretches of a beat are: small sums of one person's samples, the same bits in any company."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_sum = np.add.reduce  # np.sum and np.mean cost more in calls than in additions on arrays this small


def centred(x: Float32) -> Float32:
    """`x` without its mean."""
    level: Float32 = x - _sum(x) / np.float32(len(x))
    return level


def similarity(cores: Float32, templates: Float32) -> Float64:
    """(shifts, clusters): 2 a·b / (a·a + b·b), which is 1 for equal shape and size, and falls with either."""
    energy = _sum(cores * cores, axis=1)[:, None] + _sum(templates * templates, axis=1)
    out: Float64 = (2.0 * (cores @ templates.T) / (energy + np.float32(1e-6))).astype(np.float64)
    return out


def compare(a: Float32, b: Float32) -> tuple[float, float, float, float]:
    """Correlation, RMS of the difference, and RMS of each."""
    aa, bb, ab = float(a @ a), float(b @ b), float(a @ b)
    n = len(a)
    difference = math.sqrt(max(aa + bb - 2.0 * ab, 0.0) / n)
    return ab / math.sqrt(aa * bb + 1e-12), difference, math.sqrt(aa / n), math.sqrt(bb / n)


def upper_median(values: Float64) -> float:
    """The upper median."""
    ordered = values.copy()
    ordered.sort()
    return float(ordered[len(ordered) // 2])
