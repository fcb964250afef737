"""A device with our own frames over the Nordic UART service, which says of itself only what its frames say."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from firmware_bridge.chunk import CANONICAL_UNIT, UNIT_FACTOR, DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs.nordic_uart import RX, SERVICE, TX, UartReader
from firmware_bridge.devices import own_firmware
from firmware_bridge.devices.profile import OptionValue, Profile
from firmware_bridge.devices.session import Emit, Heard, Link, LinkError
from firmware_bridge.frame import Frame
from firmware_bridge.frame_receiver import FrameReceiver
from firmware_bridge.resend import ResendRequest


class UartSession:
    """One device. A stream is known by the unit of its frames: the first stream id with a unit of its kind is it."""

    def __init__(self, streams: Mapping[str, Stream], _options: Mapping[str, OptionValue], emit: Emit) -> None:
        self._wanted, self._emit = list(streams.values()), emit
        self._by_id: dict[int, Stream] = {}
        self._receiver = FrameReceiver(self._by_id)
        self._reader = UartReader()
        self._requests: deque[ResendRequest] = deque(maxlen=own_firmware.WAITING_REQUESTS)
        self._asked = asyncio.Event()

    async def start(self, link: Link) -> None:
        self._reader, self._asked = UartReader(), asyncio.Event()
        self._requests.clear()
        await link.subscribe(TX)

    async def tend(self, link: Link) -> None:
        """Write the requests as they arise; a device that takes none goes on without."""
        while RX in link.characteristics:
            self._asked.clear()
            while self._requests:
                try:
                    await link.write(RX, self._reader.wrapped(bytes(self._requests.popleft())), response=False)
                except LinkError as error:
                    if error.fault != "refused":
                        raise
            await self._asked.wait()

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic != TX:
            return
        for one in self._reader.push(data):
            if isinstance(one, DecodeError):
                self._emit(Heard(refused=(one,)))
                continue
            self._learn(one)
            received = self._receiver.push(one, arrival)
            if received.requests:
                self._requests.extend(received.requests)
                self._asked.set()
            self._emit(Heard(received.chunks, refused=received.refused, dropped=received.dropped))

    async def stop(self, link: Link) -> None:
        """Nothing to do: it ends with the link."""

    def _learn(self, frame: Frame) -> None:
        """Which of the streams wanted a frame belongs to, the first time that its id is seen."""
        if frame.stream_id in self._by_id:
            return
        free = [stream for stream in self._wanted if stream not in self._by_id.values()]
        fitting = [stream for stream in free if _may_be(stream, frame)]
        if frame.unit is None and len(fitting) > 1:
            return
        if fitting:
            self._by_id[frame.stream_id] = fitting[0]


def _may_be(stream: Stream, frame: Frame) -> bool:
    canonical = CANONICAL_UNIT[stream.kind]
    unit_fits = frame.unit in (None, canonical) or (frame.unit, canonical) in UNIT_FACTOR
    return unit_fits and bool(frame.rate_mhz) == bool(stream.rate_hz)


PROFILE = Profile(
    id="vagus-firmware-uart",
    name="vagus firmware over Nordic UART",
    words="A device of your own with the frames of firmware_bridge/FRAME.md over the Nordic UART service.",
    offers=own_firmware.OFFERS,
    open=UartSession,
    services=frozenset({SERVICE}),
    characteristics=frozenset({TX}),
    options=own_firmware.PROFILE.options,
    verified="worked bytes of FRAME.md",
)
