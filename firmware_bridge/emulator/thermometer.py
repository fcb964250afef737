"""A virtual thermometer: a body temperature, indicated every so often."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from bumble import gatt

from firmware_bridge.codecs.bluetooth_medfloat import Float
from firmware_bridge.codecs.bluetooth_thermometer import Temperature
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import NS_PER_S
from firmware_bridge.emulator.peripheral import About, Peripheral

HEALTH_THERMOMETER, MEASUREMENT = 0x1809, 0x2A1C
_ARMPIT = 1


class Thermometer(Peripheral):
    """Plays °C, one every `interval_s`, over and over."""

    advertised: tuple[int | str, ...] = (HEALTH_THERMOMETER,)

    def __init__(
        self, air: Air, address: str, *, celsius: Sequence[float] = (36.6,), interval_s: float = 60.0, **more: Any
    ) -> None:
        super().__init__(air, address, About("Thermometer 37", "Example", "Thermometer", "1.0"), **more)
        self._celsius, self._interval_s = celsius, interval_s
        self._measurement = self.source(MEASUREMENT, indicates=True)
        self._service = self.service(HEALTH_THERMOMETER, self._measurement)

    def services(self) -> Sequence[gatt.Service]:
        return [self._service]

    async def play(self) -> None:
        due_ns = self.time.now_ns()
        for celsius in cycle(self._celsius):
            due_ns += round(self._interval_s * NS_PER_S)
            await self.time.until(due_ns)
            self.answer(self._measurement, bytes(Temperature(Float.of(celsius), site=_ARMPIT)))
