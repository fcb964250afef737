"""How WFDB signal formats pack samples into bytes: signal(5) of https://physionet.org/physiotools/wag/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Digital = npt.NDArray[np.int64]
"""Samples as the ADC gave them."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a signal format packs samples: `samples` of them in every `size` bytes."""

    samples: int
    size: int
    invalid: int
    """The ADC value that means "no valid sample here"."""
    unpack: Callable[[npt.NDArray[np.uint8]], Digital]


def _words(dtype: str, offset: int = 0) -> Callable[[npt.NDArray[np.uint8]], Digital]:
    def unpack(raw: npt.NDArray[np.uint8]) -> Digital:
        return raw.view(dtype).astype(np.int64) - offset

    return unpack


def _sign(values: Digital, bits: int) -> Digital:
    half = 1 << (bits - 1)
    return (values ^ half) - half


def _unpack_212(raw: npt.NDArray[np.uint8]) -> Digital:
    low, middle, high = raw.reshape(-1, 3).T.astype(np.int64)
    return _sign(np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], axis=1).ravel(), 12)


def _unpack_310(raw: npt.NDArray[np.uint8]) -> Digital:
    first, second = raw.view("<u2").reshape(-1, 2).T.astype(np.int64)
    third = first >> 11 | (second >> 11) << 5
    return _sign(np.stack([first >> 1 & 0x3FF, second >> 1 & 0x3FF, third], axis=1).ravel(), 10)


def _unpack_311(raw: npt.NDArray[np.uint8]) -> Digital:
    word = raw.view("<u4").astype(np.int64)
    return _sign(np.stack([word & 0x3FF, word >> 10 & 0x3FF, word >> 20 & 0x3FF], axis=1).ravel(), 10)


def _unpack_24(raw: npt.NDArray[np.uint8]) -> Digital:
    low, middle, high = raw.reshape(-1, 3).T.astype(np.int64)
    return _sign(low | middle << 8 | high << 16, 24)


PACKINGS = {
    "16": Packing(1, 2, -(1 << 15), _words("<i2")),
    "24": Packing(1, 3, -(1 << 23), _unpack_24),
    "32": Packing(1, 4, -(1 << 31), _words("<i4")),
    "61": Packing(1, 2, -(1 << 15), _words(">i2")),
    "80": Packing(1, 1, -(1 << 7), _words("u1", 1 << 7)),
    "160": Packing(1, 2, -(1 << 15), _words("<u2", 1 << 15)),
    "212": Packing(2, 3, -(1 << 11), _unpack_212),
    "310": Packing(3, 4, -(1 << 9), _unpack_310),
    "311": Packing(3, 4, -(1 << 9), _unpack_311),
}
