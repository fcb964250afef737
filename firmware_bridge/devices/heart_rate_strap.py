"""Any strap or wristband of the Heart Rate profile: a rate about once a second. Its time is that of arrival."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_bridge.chunk import DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs.bluetooth_heart_rate import HeartRate
from firmware_bridge.devices.assigned_numbers import HEART_RATE_MEASUREMENT, HEART_RATE_SERVICE
from firmware_bridge.devices.profile import Offer, OptionValue, Profile
from firmware_bridge.devices.session import Emit, Heard, Link, Notice
from firmware_bridge.plausible import to_chunk

HR = Offer("hr", "hr", interval_s=1.0)
NO_CONTACT = Notice("contact", "it does not touch the skin", trouble=True)
CONTACT = Notice("contact", "")


class HeartRateReader:
    """What Heart Rate Measurement says, as readings of `stream` and notices of contact lost and found again.

    Without contact there is no reading, whatever number stands there, and 0 is none either: a sensor says so where it
    finds no beat.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._contact = True

    def read(self, data: bytes, arrival: Arrival) -> Heard:
        """Raises DecodeError."""
        said = HeartRate.from_bytes(data)
        touches = said.contact is not False
        notices = () if touches == self._contact else (CONTACT if touches else NO_CONTACT,)
        self._contact = touches
        if not touches or said.bpm == 0:
            return Heard(notices=notices)
        try:
            chunk = to_chunk(self._stream, arrival.utc_ns, np.array([[said.bpm]]))
        except DecodeError as error:
            return Heard(notices=notices, refused=(error,))
        return Heard((chunk,), notices)


class HeartRateSession:
    """A strap that sends as soon as it is subscribed to."""

    def __init__(self, streams: Mapping[str, Stream], _options: Mapping[str, OptionValue], emit: Emit) -> None:
        self._reader = HeartRateReader(streams[HR.channel]) if HR.channel in streams else None
        self._emit = emit

    async def start(self, link: Link) -> None:
        if self._reader is not None:
            await link.subscribe(HEART_RATE_MEASUREMENT)

    async def tend(self, link: Link) -> None:
        """Nothing to do."""

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic == HEART_RATE_MEASUREMENT and self._reader is not None:
            self._emit(self._reader.read(data, arrival))

    async def stop(self, link: Link) -> None:
        """Nothing to do: it ends with the link."""


PROFILE = Profile(
    id="heart-rate-strap",
    name="Heart rate strap",
    words="A chest strap or wristband of the Bluetooth Heart Rate profile: the heart rate about once a second.",
    offers=(HR,),
    open=HeartRateSession,
    services=frozenset({HEART_RATE_SERVICE}),
    characteristics=frozenset({HEART_RATE_MEASUREMENT}),
    verified="worked bytes",
)
