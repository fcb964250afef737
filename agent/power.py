"""Heat and supply of the machine as modes of the agent, with hysteresis: what to save, and what somebody has to see to.

The mode of heat rises when it has been too hot for a while, not at a spike, and falls when it has been cooler by some
degrees for longer. A machine that says nothing of itself is a cool one on the mains.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from agent import machine
from agent.spare import Economy, Spare

log = logging.getLogger(__name__)

LOOK_S = 5.0
RISE_S, FALL_S = 10.0, 60.0
"""For so long it is hotter, or cooler, before the mode changes."""
COOLER_C = 5.0
"""A mode is left so many degrees below where it is entered."""
LOW_PERCENT, FULL_AGAIN_PERCENT = 15, 20
"""A battery that wavers at the limit is one alarm."""
WHO: Final = "power"
"""As agent.spare has it."""


class Heat(IntEnum):
    """How hot the machine is."""

    NORMAL = 0
    WARM = 1
    HOT = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machine says of itself at one moment; None where it does not."""

    celsius: float | None = None
    """Of the processor."""
    slowed: bool = False
    """It is held back for its heat."""
    under_voltage: bool = False
    on_battery: bool | None = None
    battery_percent: int | None = None

    @classmethod
    def of(cls, root: Path) -> Reading:
        """Read it, `root` being where /sys is; a slow sensor keeps the caller waiting."""
        on_battery, percent = machine.battery(root)
        return cls(
            machine.cpu_temperature_c(root), machine.is_slowed(root), machine.under_voltage(root), on_battery, percent
        )


class Power:
    """The modes of one machine, from its readings in order of time."""

    def __init__(self, warm_c: float, hot_c: float) -> None:
        self._warm_c, self._hot_c = warm_c, hot_c
        self.reading = Reading()
        self.heat = Heat.NORMAL
        self.under_voltage = False
        self._low = False
        self._rising_s: float | None = None
        """Since when it has been hotter than the mode says; None where it is not."""
        self._falling_s: float | None = None
        self._dipped_s = 0.0
        """When the voltage was last too low."""

    def push(self, reading: Reading, now_s: float) -> None:
        """Take the next reading; `now_s`: of a clock that never turns back."""
        self.reading = reading
        hotter, cooler = self._heat_of(reading, 0.0), self._heat_of(reading, COOLER_C)
        self._rising_s = (now_s if self._rising_s is None else self._rising_s) if hotter > self.heat else None
        self._falling_s = (now_s if self._falling_s is None else self._falling_s) if cooler < self.heat else None
        if self._rising_s is not None and now_s - self._rising_s >= RISE_S:
            self.heat, self._rising_s = hotter, None
        elif self._falling_s is not None and now_s - self._falling_s >= FALL_S:
            self.heat, self._falling_s = cooler, None
        if reading.under_voltage:
            self.under_voltage, self._dipped_s = True, now_s
        elif now_s - self._dipped_s >= FALL_S:
            self.under_voltage = False
        self._low = self._is_low(reading)

    @property
    def spare(self) -> Spare:
        """How much is to be left undone."""
        if self.heat is Heat.HOT:
            return Spare.SECOND_OPINIONS
        if self.heat is Heat.WARM or self.under_voltage:
            return Spare.EXPLANATIONS
        return Spare.DISPLAY if self.reading.on_battery else Spare.NOTHING

    @property
    def alarms(self) -> dict[str, str]:
        """What somebody has to see to: the text of each alarm, by rule."""
        alarms: dict[str, str] = {}
        if self.heat is Heat.HOT:
            alarms["machine_hot"] = f"The machine is too hot ({self._hot_c:g} °C or held back): {_WITHOUT[Heat.HOT]}"
        if self.under_voltage:
            alarms["under_voltage"] = "The supply voltage is too low: the machine may stop at any moment"
        if self._low:
            text = f"The machine runs on its battery, of which {LOW_PERCENT} % or less is left: it will stop watching"
            alarms["machine_battery"] = text
        return alarms

    @property
    def reasons(self) -> list[str]:
        """The same for a status, where being warm is a reason too."""
        warm = [f"the machine is warm: {_WITHOUT[Heat.WARM]}"] if self.heat is Heat.WARM else []
        return warm + list(self.alarms.values())

    def _heat_of(self, reading: Reading, cooler_c: float) -> Heat:
        """The mode that a reading stands for, with the limits so much cooler."""
        celsius = -273.0 if reading.celsius is None else reading.celsius
        if reading.slowed or celsius >= self._hot_c - cooler_c:
            return Heat.HOT
        return Heat.WARM if celsius >= self._warm_c - cooler_c else Heat.NORMAL

    def _is_low(self, reading: Reading) -> bool:
        if not reading.on_battery or reading.battery_percent is None:
            return False
        return reading.battery_percent <= (FULL_AGAIN_PERCENT - 1 if self._low else LOW_PERCENT)


class PowerWatch:
    """Looks at the machine every so often, and asks for what its heat and supply ask for."""

    def __init__(self, power: Power, economy: Economy, root: Path = Path("/")) -> None:
        """`root`: where /sys is."""
        self.power, self._economy, self._root = power, economy, root

    async def run(self, changed: Callable[[], None]) -> None:
        """Look until cancelled; `changed` is called when there is something to say. A slow sensor holds up nobody."""
        loop = asyncio.get_running_loop()
        while True:
            reading = await asyncio.to_thread(Reading.of, self._root)
            before = self.power.reasons
            self.power.push(reading, loop.time())
            news = self._economy.ask(WHO, self.power.spare)
            if news:
                undone = ", ".join(self._economy.words) or "nothing"
                log.warning("heat %s, on battery: %s: left undone: %s", *self._words(), undone)
            if news or self.power.reasons != before:
                changed()
            await asyncio.sleep(LOOK_S)

    def _words(self) -> tuple[str, str]:
        return self.power.heat.name.lower(), str(self.power.reading.on_battery)


_WITHOUT = {
    Heat.WARM: "alerts come without their explanation, display data comes less often",
    Heat.HOT: "beats are found without a second opinion, alerts come without their explanation",
}
