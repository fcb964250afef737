"""A pulse oximeter of the Bluetooth PLX profile: oxygen saturation and pulse rate, all the time or when asked for.

Continuous measurements are verified against worked bytes; spot checks are laid out as the profile has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs.bluetooth_oximeter import (
    OximeterDeviceStatus,
    OximeterMeasurementStatus,
    Oximetry,
    Saturation,
    SpotCheck,
)
from firmware_bridge.devices.assigned_numbers import PLX_CONTINUOUS, PLX_SPOT_CHECK, PULSE_OXIMETER_SERVICE
from firmware_bridge.devices.heart_rate_strap import CONTACT, NO_CONTACT
from firmware_bridge.devices.notice_board import NoticeBoard
from firmware_bridge.devices.profile import Offer, Option, OptionValue, Profile
from firmware_bridge.devices.session import Emit, Heard, Link, LinkError, Notice
from firmware_bridge.devices.wall_clock import ZONE, WallClock
from firmware_bridge.plausible import to_chunk

INTERVALS_S = (1.0, 2.0, 5.0, 10.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0)
SPO2 = Offer("spo2", "spo2", interval_s=1.0, interval_option="interval_s")
PULSE = Offer("hr", "hr", interval_s=1.0, interval_option="interval_s")

_IS = OximeterMeasurementStatus
_NOT_MEANT = _IS.DEMONSTRATION | _IS.TESTING | _IS.CALIBRATING | _IS.UNAVAILABLE | _IS.INVALID
_HAS = OximeterDeviceStatus
_NOT_WORN = _HAS.NOT_ON_USER | _HAS.DISPLACED
_BROKEN = _HAS.EQUIPMENT_MALFUNCTION | _HAS.UNKNOWN_SENSOR | _HAS.SENSOR_MALFUNCTION | _HAS.SENSOR_DISCONNECTED
_NO_SIGNAL = _HAS.INADEQUATE_SIGNAL | _HAS.NON_PULSATILE
_POOR = _HAS.POOR_SIGNAL | _HAS.LOW_PERFUSION | _HAS.ERRATIC_SIGNAL | _HAS.QUESTIONABLE_PULSE | _HAS.INTERFERENCE
_BLIND = _NOT_WORN | _BROKEN | _NO_SIGNAL
"""With these no number is one."""


class OximeterSession:
    """An oximeter that sends as soon as it is subscribed to."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        options: Mapping[str, OptionValue],
        emit: Emit,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._streams, self._emit = streams, emit
        self._clock = WallClock(str(options[ZONE.name]), now_s)
        self._board = NoticeBoard()

    async def start(self, link: Link) -> None:
        await self._clock.meet(link)
        offered = [one for one in (PLX_CONTINUOUS, PLX_SPOT_CHECK) if one in link.characteristics]
        if not offered:
            raise LinkError("missing", "it has neither continuous nor spot-check measurements")
        for characteristic in offered:
            await link.subscribe(characteristic)

    async def tend(self, link: Link) -> None:
        """Nothing to do."""

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic == PLX_CONTINUOUS:
            said = Oximetry.from_bytes(data)
            values = [one for one in (said.normal, said.fast, said.slow) if one is not None]
            self._heard(values, said.measurement_status, said.device_status, arrival.utc_ns)
        elif characteristic == PLX_SPOT_CHECK:
            spot = SpotCheck.from_bytes(data)
            self._heard([spot.normal], spot.measurement_status, spot.device_status, self._taken_ns(spot, arrival))

    async def stop(self, link: Link) -> None:
        """Nothing to do: it ends with the link."""

    def _taken_ns(self, spot: SpotCheck, arrival: Arrival) -> int:
        """When a spot check was taken; raises DecodeError where nobody knows."""
        stored = bool((spot.measurement_status or _IS(0)) & _IS.FROM_STORAGE)
        if spot.time is None or not spot.time.known or spot.clock_not_set:
            if stored:
                raise DecodeError("a stored reading without a time")
            return arrival.utc_ns
        return min(arrival.utc_ns, self._clock.utc_ns(spot.time.since_epoch_s()))

    def _heard(
        self,
        values: list[Saturation],
        measured: OximeterMeasurementStatus | None,
        device: OximeterDeviceStatus | None,
        t_ns: int,
    ) -> None:
        measured, device = measured or _IS(0), device or _HAS(0)
        notices = self._board.put(*in_words(measured, device))
        if measured & _NOT_MEANT or device & _BLIND:
            self._emit(Heard(notices=notices, dropped=("untrusted",)))
            return
        chunks: list[Chunk] = []
        refused: list[DecodeError] = []
        # 0 stands where there is nothing to count.
        spo2 = next((one.spo2.value for one in values if one.spo2.value), None)
        pulse = next((one.pulse_rate.value for one in values if one.pulse_rate.value), None)
        for offer, value in ((SPO2, spo2), (PULSE, pulse)):
            if value is None or offer.channel not in self._streams:
                continue
            try:
                chunks.append(to_chunk(self._streams[offer.channel], t_ns, np.array([[value]])))
            except DecodeError as error:
                refused.append(error)
        self._emit(Heard(tuple(chunks), notices, tuple(refused), () if spo2 or pulse else ("no reading",)))


def in_words(measured: OximeterMeasurementStatus, device: OximeterDeviceStatus) -> tuple[Notice, Notice, Notice]:
    """What an oximeter says of itself, for a person: about contact, the sensor, its signal."""
    broken = "the sensor is broken, unplugged or not one for this device" if device & _BROKEN else ""
    signal = {
        "no pulse to be seen": device & _NO_SIGNAL,
        "the signal is poor": device & _POOR,
        "it doubts its reading": measured & _IS.QUESTIONABLE,
        "it shows a demonstration": measured & _IS.DEMONSTRATION,
    }
    return (
        NO_CONTACT if device & _NOT_WORN else CONTACT,
        Notice("sensor", broken, trouble=bool(broken)),
        Notice("signal", "; ".join(words for words, true in signal.items() if true)),
    )


PROFILE = Profile(
    id="pulse-oximeter",
    name="Pulse oximeter",
    words="An oximeter of the Bluetooth PLX profile: oxygen saturation and pulse rate, all the time or when taken.",
    offers=(SPO2, PULSE),
    open=OximeterSession,
    services=frozenset({PULSE_OXIMETER_SERVICE}),
    options=(Option(SPO2.interval_option, 1.0, "Seconds between two readings.", INTERVALS_S), ZONE),
    verified="continuous measurements: worked bytes; spot checks: † the profile",
)
