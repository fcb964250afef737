"""How like stretches of beats are: small sums over the samples of each row, the same bits in any company.

Rows are people. A dot product is one BLAS call a row, a sum runs over a row's own contiguous samples, and logarithms
come from the C library one by one: numpy's own for float64 differ by machine.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

row_sums = np.add.reduce  # np.sum costs more in calls than in additions on arrays this small


def at_125_hz(x: Float32) -> Float32:
    """Rows at 250 Hz (n, 2 m), halved in rate and less their median: (n, m)."""
    y: Float32 = np.float32(0.5) * (x[:, ::2] + x[:, 1::2])
    middle = y.shape[1] // 2
    y -= np.partition(y, middle, axis=1)[:, middle, None]
    return y


def dots(a: Float32, b: Float32) -> Float64:
    """Scalar products over the last axis, of float32, as float64."""
    out: Float64 = (a[..., None, :] @ b[..., :, None])[..., 0, 0].astype(np.float64)
    return out


def similarity(cores: Float32, templates: Float32) -> Float64:
    """(n, shifts, clusters) of (n, shifts, m) and (n, clusters, m): 2 a·b / (a·a + b·b).

    It is 1 for equal shape and size, and falls with either.
    """
    energy = row_sums(cores * cores, axis=2)[:, :, None] + row_sums(templates * templates, axis=2)[:, None, :]
    out: Float64 = (2.0 * (cores @ templates.transpose(0, 2, 1)) / (energy + np.float32(1e-6))).astype(np.float64)
    return out


def compare(aa: Float64, bb: Float64, ab: Float64, samples: int) -> tuple[Float64, Float64]:
    """Correlation, and RMS of the difference, of stretches with these scalar products."""
    return ab / np.sqrt(aa * bb + 1e-12), np.sqrt(np.maximum(aa + bb - 2.0 * ab, 0.0) / samples)


def upper_medians(values: Float64) -> Float64:
    """The upper medians over the last axis."""
    middle = values.shape[-1] // 2
    out: Float64 = np.partition(values, middle, axis=-1)[..., middle]
    return out


def logarithms(values: Float64) -> Float64:
    """Natural logarithms, of any shape."""
    return np.array([math.log(value) for value in values.ravel().tolist()]).reshape(values.shape)
