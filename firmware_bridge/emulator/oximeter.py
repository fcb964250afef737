"""A virtual pulse oximeter: oxygen saturation and pulse rate once a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bumble import gatt

from firmware_bridge.codecs.bluetooth_medfloat import Sfloat
from firmware_bridge.codecs.bluetooth_oximeter import Oximetry, Saturation
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import NS_PER_S
from firmware_bridge.emulator.peripheral import About, Peripheral

PULSE_OXIMETER, CONTINUOUS, FEATURES = 0x1822, 0x2A5F, 0x2A60


class Oximeter(Peripheral):
    """Plays (SpO2 in %, pulse rate in 1/min), one a second, over and over."""

    advertised: tuple[int | str, ...] = (PULSE_OXIMETER,)

    def __init__(
        self, air: Air, address: str, *, readings: Sequence[tuple[float, float]] = ((97.0, 65.0),), **more: Any
    ) -> None:
        super().__init__(air, address, About("Oximeter 42", "Example", "Oximeter", "1.3"), **more)
        self._readings = readings
        self._continuous = self.source(CONTINUOUS)
        self._service = self.service(PULSE_OXIMETER, self._continuous, self.value(FEATURES, bytes(2)))

    def services(self) -> Sequence[gatt.Service]:
        return [self._service]

    async def play(self) -> None:
        second_ns = self.time.now_ns()
        at = 0
        while True:
            await self.time.until(second_ns)
            spo2, pulse = self._readings[at % len(self._readings)]
            await self.notify(self._continuous, bytes(Oximetry(Saturation(Sfloat.of(spo2), Sfloat.of(pulse)))))
            at += 1
            second_ns += NS_PER_S
