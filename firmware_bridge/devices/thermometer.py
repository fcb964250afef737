"""A thermometer of the Bluetooth Health Thermometer profile. Its measurement is verified against worked bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from firmware_bridge.chunk import Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs.bluetooth_thermometer import Temperature
from firmware_bridge.devices.assigned_numbers import HEALTH_THERMOMETER_SERVICE, TEMPERATURE_MEASUREMENT
from firmware_bridge.devices.profile import Offer, Option, OptionValue, Profile
from firmware_bridge.devices.session import Emit, Heard, Link
from firmware_bridge.devices.wall_clock import ZONE, WallClock
from firmware_bridge.plausible import to_chunk

INTERVALS_S = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
TEMPERATURE = Offer("temperature", "temperature", interval_s=3600.0, interval_option="interval_s")


class ThermometerSession:
    """A thermometer that sends each measurement. One with a time is taken to be of that time, else of its arrival."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        options: Mapping[str, OptionValue],
        emit: Emit,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._stream = streams[TEMPERATURE.channel]
        self._clock = WallClock(str(options[ZONE.name]), now_s)
        self._emit = emit

    async def start(self, link: Link) -> None:
        await self._clock.meet(link)
        await link.subscribe(TEMPERATURE_MEASUREMENT)

    async def tend(self, link: Link) -> None:
        """Nothing to do."""

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic != TEMPERATURE_MEASUREMENT:
            return
        said = Temperature.from_bytes(data)
        if said.celsius is None:
            self._emit(Heard(dropped=("no reading",)))
            return
        t_ns = arrival.utc_ns
        if said.time is not None and said.time.known:
            t_ns = min(t_ns, self._clock.utc_ns(said.time.since_epoch_s()))
        self._emit(Heard((to_chunk(self._stream, t_ns, np.array([[said.celsius]])),)))

    async def stop(self, link: Link) -> None:
        """Nothing to do: it ends with the link."""


PROFILE = Profile(
    id="thermometer",
    name="Thermometer",
    words="A thermometer of the Bluetooth Health Thermometer profile: body temperature when it is taken.",
    offers=(TEMPERATURE,),
    open=ThermometerSession,
    services=frozenset({HEALTH_THERMOMETER_SERVICE}),
    characteristics=frozenset({TEMPERATURE_MEASUREMENT}),
    options=(Option(TEMPERATURE.interval_option, 3600.0, "Seconds between two readings.", INTERVALS_S), ZONE),
    verified="worked bytes",
)
