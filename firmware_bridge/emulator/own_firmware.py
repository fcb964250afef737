"""A virtual device with our own firmware: frames as FRAME.md has them, which it sends again when it is asked to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bumble import gatt

from firmware_bridge.chunk import DecodeError
from firmware_bridge.description import DescribedStream, Description
from firmware_bridge.devices.own_firmware import CONTROL, DESCRIPTION, FRAMES, SERVICE
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import NS_PER_S
from firmware_bridge.emulator.peripheral import About, Peripheral
from firmware_bridge.emulator.signal import Signal
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from firmware_bridge.resend import ResendRequest

KEPT_S = 2.0
FRAME_S = 0.2


@dataclass(slots=True)
class Sensor:
    """One stream: what it is, what it measures, and the physical value of one count."""

    stream: DescribedStream
    signal: Signal
    scale: float = 1.0
    kept: deque[bytes] = field(default_factory=deque)
    sequence: int = 0
    at: int = 0
    """Samples taken since the device was first switched on."""


class OwnFirmware(Peripheral):
    """Measures from when it is switched on; what nobody hears is lost once it is older than 2 s."""

    advertised: tuple[int | str, ...] = (SERVICE,)

    def __init__(self, air: Air, address: str, sensors: Sequence[Sensor], *, boot_id: int = 1, **more: Any) -> None:
        super().__init__(air, address, About("vagus 01", "Example", "Own board", "0.9"), **more)
        self.boot_id = boot_id
        self.resent = 0
        """Frames that it sent again."""
        self._sensors = sensors
        self._booted_ns = self.time.now_ns()
        self._frames = self.source(FRAMES)
        self._service = self.service(
            SERVICE, self._frames, self.sink(CONTROL, self._asked), self.value(DESCRIPTION, self._description)
        )

    def services(self) -> Sequence[gatt.Service]:
        return [self._service]

    async def live(self) -> None:
        for sensor in self._sensors[1:]:
            self.spawn(self._measure(sensor))
        await self._measure(self._sensors[0])

    async def reboot(self) -> None:
        """It starts anew: another boot id, time and counts from 0."""
        self.boot_id = (self.boot_id + 1) & 0xFFFF
        self._booted_ns = self.time.now_ns()
        for sensor in self._sensors:
            sensor.kept.clear()
            sensor.sequence = 0
        await self.disconnect()

    async def _measure(self, sensor: Sensor) -> None:
        period_ns = NS_PER_S / sensor.stream.rate_hz if sensor.stream.rate_mhz else sensor.stream.interval_s * NS_PER_S
        count = max(1, round(FRAME_S * sensor.stream.rate_hz))
        began_ns = self._booted_ns
        while len(counts := sensor.signal.between(sensor.at, sensor.at + count)):
            first_ns = began_ns + round(sensor.at * period_ns)
            sensor.at += len(counts)
            await self.time.until(began_ns + round((sensor.at - 1) * period_ns))
            frame = self._frame(sensor, max(0, first_ns - self._booted_ns), counts.astype("<i2").tobytes())
            sensor.kept.append(frame)
            if len(sensor.kept) > KEPT_S / FRAME_S:
                sensor.kept.popleft()
            sensor.sequence += 1
            await self.notify(self._frames, frame)

    def _frame(self, sensor: Sensor, first_ns: int, samples: bytes) -> bytes:
        stream = sensor.stream
        return bytes(
            Frame(
                stream.stream_id, FrameFlag.NONE, SampleFormat.INT16, len(stream.channels), stream.unit, self.boot_id,
                first_ns // 1000, sensor.sequence, stream.rate_mhz, sensor.scale, samples,
            )
        )  # fmt: skip

    def _description(self) -> bytes:
        return bytes(Description(self.boot_id, tuple(sensor.stream for sensor in self._sensors)))

    def _asked(self, data: bytes) -> None:
        try:
            request = ResendRequest.from_bytes(data)
        except DecodeError:
            return
        if request.boot_id != self.boot_id:
            return
        wanted = range(request.first, request.first + request.count)
        for sensor in self._sensors:
            if sensor.stream.stream_id == request.stream_id:
                again = [frame for frame in sensor.kept if Frame.from_bytes(frame).sequence in wanted]
                self.while_connected(self._send_again(again))

    async def _send_again(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.resent += 1
            await self.notify(self._frames, frame)


def at_rate(stream_id: int, kind: str, unit: str, rate_hz: float, channels: tuple[str, ...] = ("",)) -> DescribedStream:
    """A sampled stream."""
    return DescribedStream(stream_id, kind, unit, round(rate_hz * 1000), 0, channels)
