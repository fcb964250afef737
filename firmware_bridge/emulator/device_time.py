"""The clock inside a virtual wearable: with an epoch of its own, and a drift."""

from __future__ import annotations

import asyncio
import time

NS_PER_S = 1_000_000_000


class DeviceTime:
    """Nanoseconds, `epoch_ns` of them at the beginning.

    `drift_ppm`: how much faster than true time the device believes it to pass.
    """

    def __init__(self, epoch_ns: int = 0, *, drift_ppm: float = 0.0) -> None:
        self._rate = 1 + drift_ppm * 1e-6
        self._epoch_ns = epoch_ns
        self._from_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """What the device believes the time to be."""
        return self._epoch_ns + round((time.monotonic_ns() - self._from_ns) * self._rate)

    def set(self, epoch_ns: int) -> None:
        """The device's clock begins anew, or is set by somebody."""
        self._epoch_ns, self._from_ns = epoch_ns, time.monotonic_ns()

    async def until(self, device_ns: int) -> None:
        """Wait for that moment; one that is past lets others on and returns."""
        left_s = (device_ns - self.now_ns()) / self._rate / NS_PER_S
        await asyncio.sleep(max(0.0, left_s))
