"""A device with our own firmware over Bluetooth LE: it says what it sends, and sends the frames of FRAME.md."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from firmware_bridge.chunk import Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.description import DescribedStream, Description
from firmware_bridge.devices.profile import Offer, Option, OptionValue, Profile
from firmware_bridge.devices.session import DeviceRefusedError, Emit, Heard, Link, LinkError
from firmware_bridge.frame import Frame
from firmware_bridge.frame_receiver import FrameReceiver
from firmware_bridge.plausible import RATE_TOLERANCE
from firmware_bridge.resend import ResendRequest

SERVICE = "70e9a870-8168-40c6-97d5-e3726195a8a7"
FRAMES = "70e9a871-8168-40c6-97d5-e3726195a8a7"
"""Notifies, one frame each."""
CONTROL = "70e9a872-8168-40c6-97d5-e3726195a8a7"
"""Takes resend requests, written without response; a device that resends nothing does not have it."""
DESCRIPTION = "70e9a873-8168-40c6-97d5-e3726195a8a7"
"""Is read."""
MIN_MTU = 64
WAITING_REQUESTS = 16
"""Past it the oldest one is given up: its frames would come too late."""


def _sampled(kind: str, rate_hz: float, channels: tuple[str, ...] = ("",), *, default: bool = False) -> Offer:
    return Offer(
        kind, kind, rate_hz=rate_hz, channels=channels, default=default,
        rate_option=f"{kind}_rate_hz", channels_option=f"{kind}_columns",
    )  # fmt: skip


def _readings(kind: str, interval_s: float) -> Offer:
    return Offer(kind, kind, interval_s=interval_s, default=False, interval_option=f"{kind}_interval_s")


OFFERS = (
    _sampled("ecg", 250.0, default=True),
    _sampled("ppg", 100.0),
    _sampled("abp", 125.0),
    _sampled("acc", 50.0, ("x", "y", "z")),
    _readings("cgm", 300.0),
    _readings("hr", 1.0),
    _readings("spo2", 1.0),
    _readings("temperature", 60.0),
)
"""One stream of each kind, as it usually is; the options say where a device differs."""


def _options(offer: Offer) -> tuple[Option, ...]:
    if not offer.rate_hz:
        words = f"Seconds between readings of its {offer.channel}."
        return (Option(offer.interval_option, offer.interval_s, words),)
    words = f'Names of the columns of its {offer.channel} in their order, such as "I,II"; empty: one, without a name.'
    return (
        Option(offer.rate_option, offer.rate_hz, f"Samples a second of its {offer.channel}."),
        Option(offer.channels_option, ",".join(offer.channels), words),
    )


class OwnFirmwareSession:
    """One device: what was missed is asked for, what comes twice is taken once, its clock is brought to UTC."""

    def __init__(self, streams: Mapping[str, Stream], _options: Mapping[str, OptionValue], emit: Emit) -> None:
        self._streams, self._emit = streams, emit
        self._described: tuple[DescribedStream, ...] = ()
        self._receiver = FrameReceiver({})
        self._requests: deque[ResendRequest] = deque(maxlen=WAITING_REQUESTS)
        self._asked = asyncio.Event()

    async def start(self, link: Link) -> None:
        described = Description.from_bytes(await link.read(DESCRIPTION)).streams
        by_id = streams_by_id(self._streams, described)
        if described != self._described:
            self._described, self._receiver = described, FrameReceiver(by_id)
        self._requests.clear()
        await link.subscribe(FRAMES)

    async def tend(self, link: Link) -> None:
        """Write the requests as they arise; a device that takes none goes on without."""
        while CONTROL in link.characteristics:
            self._asked.clear()
            while self._requests:
                try:
                    await link.write(CONTROL, bytes(self._requests.popleft()), response=False)
                except LinkError as error:
                    if error.fault != "refused":
                        raise
            await self._asked.wait()

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic != FRAMES:
            return
        received = self._receiver.push(Frame.from_bytes(data), arrival)
        if received.requests:
            self._requests.extend(received.requests)
            self._asked.set()
        self._emit(Heard(received.chunks, refused=received.refused, dropped=received.dropped))

    async def stop(self, link: Link) -> None:
        """Nothing to do: it ends with the link."""


def streams_by_id(wanted: Mapping[str, Stream], described: tuple[DescribedStream, ...]) -> dict[int, Stream]:
    """The streams wanted, by the device's ids; raises DeviceRefusedError where it has none such, with what to write."""
    of_kind: dict[str, DescribedStream] = {}
    for one in described:
        of_kind.setdefault(one.kind, one)
    if missing := [channel for channel, stream in wanted.items() if stream.kind not in of_kind]:
        sends = ", ".join(f'"{kind}"' for kind in of_kind)
        raise DeviceRefusedError(f"it does not send {', '.join(missing)}: write streams = [{sends}], or some of them")
    differs = [words for channel, stream in wanted.items() for words in _differs(channel, stream, of_kind[stream.kind])]
    if differs:
        raise DeviceRefusedError(f"it sends otherwise than configured: write options = {{ {', '.join(differs)} }}")
    return {of_kind[stream.kind].stream_id: stream for stream in wanted.values()}


def _differs(channel: str, stream: Stream, described: DescribedStream) -> list[str]:
    """The options that would make the stream what the device says it is."""
    differs = []
    if bool(described.rate_mhz) != bool(stream.rate_hz):
        how = ("single readings", "a sampled signal")
        comes, expected = how[bool(described.rate_mhz)], how[bool(stream.rate_hz)]
        raise DeviceRefusedError(f"its {channel} comes as {comes}, where {expected} is expected")
    if described.interval_s > stream.interval_s:
        differs.append(f"{channel}_interval_s = {described.interval_s:.1f}")
    if abs(described.rate_hz - stream.rate_hz) > RATE_TOLERANCE * stream.rate_hz:
        differs.append(f"{channel}_rate_hz = {described.rate_hz:.1f}")
    if len(described.channels) != len(stream.channels) or (
        any(described.channels) and described.channels != stream.channels
    ):
        differs.append(f'{channel}_columns = "{",".join(described.channels)}"')
    return differs


PROFILE = Profile(
    id="vagus-firmware",
    name="vagus firmware",
    words="A device of your own with the frames of firmware_bridge/FRAME.md: any of our kinds of stream.",
    offers=OFFERS,
    open=OwnFirmwareSession,
    services=frozenset({SERVICE}),
    characteristics=frozenset({FRAMES, DESCRIPTION}),
    min_mtu=MIN_MTU,
    options=tuple(option for offer in OFFERS for option in _options(offer)),
    verified="worked bytes of FRAME.md",
)
