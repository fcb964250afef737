"""One kind of measurement of a Polar sensor: what is asked for, and how its frames become chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from firmware_bridge.chunk import Stream
from firmware_bridge.clock import Arrival, DeviceClock
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_control import PmdSetting, PmdSettingType, values_of
from firmware_bridge.codecs.polar_pmd_ppi import pulse_intervals
from firmware_bridge.codecs.polar_pmd_samples import acceleration_unit, counts
from firmware_bridge.devices.continuity import Continuity
from firmware_bridge.devices.session import DeviceRefusedError, Heard
from firmware_bridge.plausible import to_chunk

MS_PER_MINUTE = 60_000
_CHOSEN = frozenset(PmdSettingType) - {PmdSettingType.FACTOR, PmdSettingType.SECURITY}


class PmdReader(Protocol):
    """One stream of one sensor, from connection to connection."""

    measurement: PmdType
    stream: Stream
    has_settings: bool
    """Whether the sensor is asked for settings to start with."""

    def chosen(self, offered: tuple[PmdSetting, ...]) -> tuple[PmdSetting, ...]:
        """The settings to start with, out of those offered; raises DeviceRefusedError where what is needed is not."""

    def begin(self, factor: float) -> None:
        """The sensor has started to send, on this connection, compressed samples to be multiplied by `factor`."""

    def read(self, frame: PmdFrame, arrival: Arrival) -> Heard:
        """The frame's chunk, or why it is left out; raises DecodeError."""


class PmdSamples:
    """A measurement at a rate. `unit`: of the samples as sent, by frame and factor."""

    has_settings = True

    def __init__(self, measurement: PmdType, stream: Stream, unit: Callable[[PmdFrame, float], str]) -> None:
        self.measurement, self.stream, self._unit = measurement, stream, unit
        self._factor = 1.0
        self._continuity = Continuity(stream.rate_hz, DeviceClock())

    def chosen(self, offered: tuple[PmdSetting, ...]) -> tuple[PmdSetting, ...]:
        """The stream's own rate; of all else the highest: range, resolution."""
        settings = []
        for kind in sorted(_CHOSEN):
            values = values_of(offered, kind)
            if not values:
                continue
            value = round(self.stream.rate_hz) if kind is PmdSettingType.RATE_HZ else max(values)
            if value not in values:
                raise DeviceRefusedError(
                    f"it offers {self.stream.channel} at {', '.join(map(str, values))} Hz, not {value} Hz"
                )
            settings.append(PmdSetting(kind, (value,)))
        return tuple(settings)

    def begin(self, factor: float) -> None:
        self._factor = factor
        self._continuity.connected()

    def read(self, frame: PmdFrame, arrival: Arrival) -> Heard:
        samples = counts(frame)
        place = self._continuity.push(frame.last_ns, len(samples), arrival)
        if isinstance(place, str):
            return Heard(dropped=(place,))
        chunk = to_chunk(
            self.stream, place.t0_ns, samples, unit=self._unit(frame, self._factor),
            scale=self._factor if frame.compressed else 1.0, seq=place.seq, boot_id=place.boot_id,
        )  # fmt: skip
        return Heard((chunk,))


class PmdPulse:
    """Times from pulse to pulse, as the heart rate of those that come in one frame. Their time is that of arrival."""

    measurement = PmdType.PPI
    has_settings = False

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def chosen(self, offered: tuple[PmdSetting, ...]) -> tuple[PmdSetting, ...]:
        return ()

    def begin(self, factor: float) -> None:
        """Nothing to do."""

    def read(self, frame: PmdFrame, arrival: Arrival) -> Heard:
        valid = [interval.interval_ms for interval in pulse_intervals(frame) if interval.valid]
        if not valid:
            return Heard(dropped=("unsteady",))
        return Heard((to_chunk(self.stream, arrival.utc_ns, np.array([[MS_PER_MINUTE / np.mean(valid)]])),))


def ecg(stream: Stream) -> PmdReader:
    """ECG."""
    return PmdSamples(PmdType.ECG, stream, lambda _frame, _factor: "uV")


def acceleration(stream: Stream) -> PmdReader:
    """Acceleration along three axes."""
    return PmdSamples(PmdType.ACC, stream, acceleration_unit)


def light(stream: Stream) -> PmdReader:
    """What three diodes bring back from the skin, and what there is without them."""
    return PmdSamples(PmdType.PPG, stream, lambda _frame, _factor: "1")
