"""A virtual strap that sends what every heart rate strap does: once a second the rate and the RR intervals since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from bumble import gatt

from firmware_bridge.codecs.bluetooth_heart_rate import RR_PER_S, HeartRate
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import NS_PER_S
from firmware_bridge.emulator.peripheral import About, Peripheral

HEART_RATE, MEASUREMENT, LOCATION = 0x180D, 0x2A37, 0x2A38
_CHEST = b"\x01"


class HeartRateStrap(Peripheral):
    """Plays RR intervals, in s; at rest and for ever where none are given."""

    advertised: tuple[int | str, ...] = (HEART_RATE,)

    def __init__(
        self, air: Air, address: str, about: About | None = None, *, rr_s: Iterable[float] | None = None, **more: Any
    ) -> None:
        super().__init__(air, address, about or About("HRM 4711", "Example", "HRM", "1.0"), **more)
        self._rr_s: Iterator[float] = iter(rr_s if rr_s is not None else repeat(60 / 72))
        self._last_rr_s: float | None = None
        self.contact = True
        self._measurement = self.source(MEASUREMENT)

    def services(self) -> Sequence[gatt.Service]:
        return [self.service(HEART_RATE, self._measurement, self.value(LOCATION, _CHEST))]

    async def play(self) -> None:
        await self.play_heart_rate()

    async def play_heart_rate(self) -> None:
        """Once a second what beat meanwhile; ends with the intervals."""
        second_ns = self.time.now_ns()
        beat_ns = float(second_ns)
        rr_s = None
        while True:
            second_ns += NS_PER_S
            fell: list[float] = []
            while beat_ns <= second_ns:
                if rr_s is not None:
                    fell.append(rr_s)
                rr_s = next(self._rr_s, None)
                if rr_s is None:
                    return
                beat_ns += rr_s * NS_PER_S
            await self.time.until(second_ns)
            await self.notify(self._measurement, bytes(self._said(fell)))

    def _said(self, rr_s: Sequence[float]) -> HeartRate:
        self._last_rr_s = rr_s[-1] if rr_s else self._last_rr_s
        rate = 0 if self._last_rr_s is None else round(60 / self._last_rr_s)
        intervals = tuple(round(one * RR_PER_S) for one in rr_s)
        return HeartRate(min(rate, 0xFF), 3 if self.contact else 2, rr_intervals=intervals or None)
