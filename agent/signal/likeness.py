"""How like stretches of beats are: small sums over the samples of each row, the same bits in any company.

Rows are people. A scalar product is one BLAS call a row, and a sum runs over a row's own samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

row_sums = np.add.reduce  # np.sum and its kind cost more in calls than in additions on arrays this small
row_maxima = np.maximum.reduce
_SOME = np.float32(1e-6)
_HALF = np.float32(0.5)
_TWO = np.float32(2.0)


def at_125_hz(x: Float32) -> Float32:
    """Rows at 250 Hz (n, 2 m), halved in rate and less their median: (n, m)."""
    y: Float32 = x[:, ::2] + x[:, 1::2]
    y *= _HALF
    middle = y.shape[1] // 2
    ordered = y.copy()
    ordered.partition(middle, axis=1)
    y -= ordered[:, middle, None]
    return y


def _products(a: Float32, b: Float32) -> Float32:
    """What np.vecdot is, for numpy 1: the same BLAS call a row."""
    out: Float32 = (a[..., None, :] @ b[..., :, None])[..., 0, 0]
    return out


dots: Callable[[Float32, Float32], Float32] = getattr(np, "vecdot", _products)
"""Scalar products over the last axis."""


def similarity(cores: Float32, templates: Float32) -> Float32:
    """(n, shifts, clusters) of (n, shifts, m) and (n, clusters, m): 2 a·b / (a·a + b·b).

    It is 1 for equal shape and size, and falls with either.
    """
    energy = row_sums(cores * cores, axis=2)[:, :, None] + row_sums(templates * templates, axis=2)[:, None, :]
    energy += _SOME
    out: Float32 = cores @ templates.transpose(0, 2, 1)
    out *= _TWO
    out /= energy
    return out


def upper_medians(values: Float64) -> Float64:
    """The upper medians over the last axis."""
    middle = values.shape[-1] // 2
    ordered = values.copy()
    ordered.partition(middle, axis=-1)
    out: Float64 = ordered[..., middle]
    return out
