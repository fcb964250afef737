"""What a virtual wearable measures: samples by their number, from a recording or from whatever made them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


class Signal(Protocol):
    """Samples in the device's own counts, shape (n, channels)."""

    def between(self, start: int, stop: int) -> Counts:
        """Samples number `start` up to `stop`; fewer where it ends."""


class Played:
    """A recording, once; `counts` has shape (n,) or (n, channels)."""

    def __init__(self, counts: npt.ArrayLike) -> None:
        samples = np.asarray(counts)
        self._samples: Counts = np.rint(samples.reshape(len(samples), -1)).astype(np.int64)

    def between(self, start: int, stop: int) -> Counts:
        found: Counts = self._samples[start:stop]
        return found


class Repeated(Played):
    """A recording over and over."""

    def between(self, start: int, stop: int) -> Counts:
        found: Counts = self._samples[np.arange(start, stop) % len(self._samples)]
        return found
