"""One kind of measurement of a Polar sensor: what is asked for, and how its frames become chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_bridge.chunk import Stream
from firmware_bridge.clock import Arrival, DeviceClock
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_control import PmdSetting, PmdSettingType, values_of
from firmware_bridge.codecs.polar_pmd_samples import Counts, ecg_uv
from firmware_bridge.devices.continuity import Continuity
from firmware_bridge.devices.session import DeviceRefusedError, Heard
from firmware_bridge.plausible import to_chunk


@dataclass(frozen=True, slots=True)
class Reading:
    """How a measurement is read."""

    measurement: PmdType
    samples: Callable[[PmdFrame], Counts]
    unit: str
    """Of the samples as sent."""
    wanted: tuple[tuple[PmdSettingType, int], ...] = ()
    """Settings beside the rate that the samples' unit or range depends on."""


ECG = Reading(PmdType.ECG, ecg_uv, "uV")


@dataclass(slots=True)
class PmdStream:
    """One stream of one sensor, from connection to connection."""

    stream: Stream
    reading: Reading
    factor: float = 1.0
    """What the sensor says, on starting, its samples are to be multiplied by."""
    continuity: Continuity = field(init=False)

    def __post_init__(self) -> None:
        self.continuity = Continuity(self.stream.rate_hz, DeviceClock())

    def begin(self, factor: float) -> None:
        """The sensor has started to send, on this connection, samples to be multiplied by `factor`."""
        self.factor = factor
        self.continuity.connected()

    def chosen(self, offered: tuple[PmdSetting, ...]) -> tuple[PmdSetting, ...]:
        """The settings to start with, out of those offered; raises DeviceRefusedError where what is needed is not."""
        needed = dict(self.reading.wanted) | {PmdSettingType.RATE_HZ: round(self.stream.rate_hz)}
        chosen = []
        for kind in PmdSettingType:
            values = values_of(offered, kind)
            if not values:
                continue
            value = needed.get(kind, max(values))
            if value not in values:
                raise DeviceRefusedError(
                    f"{self.stream.channel} is offered with {kind.name.lower()} {', '.join(map(str, values))}, "
                    f"not {value}"
                )
            chosen.append(PmdSetting(kind, (value,)))
        return tuple(chosen)

    def read(self, frame: PmdFrame, arrival: Arrival) -> Heard:
        """The frame's chunk, or why it is left out; raises DecodeError."""
        counts = self.reading.samples(frame)
        place = self.continuity.push(frame.last_ns, len(counts), arrival)
        if isinstance(place, str):
            return Heard(dropped=(place,))
        chunk = to_chunk(
            self.stream, place.t0_ns, counts, unit=self.reading.unit, scale=self.factor, seq=place.seq,
            boot_id=place.boot_id,
        )  # fmt: skip
        return Heard((chunk,))
