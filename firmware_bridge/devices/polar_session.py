"""The conversation with a Polar sensor: Polar Measurement Data (PMD), and the heart rate as any strap has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from firmware_bridge.chunk import DecodeError, Stream
from firmware_bridge.clock import Arrival
from firmware_bridge.codecs import polar_pmd
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_control import (
    PmdAnswer,
    PmdOffers,
    PmdOp,
    PmdRequest,
    PmdSetting,
    PmdStatus,
    PmdStopped,
    notification_from_bytes,
)
from firmware_bridge.devices.assigned_numbers import HEART_RATE_MEASUREMENT
from firmware_bridge.devices.heart_rate_strap import HeartRateReader
from firmware_bridge.devices.notice_board import NoticeBoard
from firmware_bridge.devices.polar_pmd_stream import PmdReader
from firmware_bridge.devices.session import DeviceRefusedError, Emit, Heard, Link, Notice

PAUSE_S = 1.0
"""Between two new starts: a sensor that stops each time must not keep the radio busy."""
_WORDS = {
    PmdStatus.INVALID_MTU: f"the packets agreed on are too small (it needs an MTU of {polar_pmd.MIN_MTU})",
    PmdStatus.INVALID_STATE: "it is not in a state to measure; wear it, or switch it off and on",
    PmdStatus.IN_CHARGER: "it is in its charger",
}


class PolarSession:
    """One Polar sensor. It is told to start on each connection, and again where it stops on its own."""

    def __init__(self, readers: Iterable[PmdReader], heart_rate: Stream | None, emit: Emit) -> None:
        self._emit = emit
        self._heart_rate = None if heart_rate is None else HeartRateReader(heart_rate)
        self._pmd = {reader.measurement: reader for reader in readers}
        self._board = NoticeBoard()
        self._stopped: set[PmdType] = set()
        self._has_stopped = asyncio.Event()

    async def start(self, link: Link) -> None:
        self._stopped.clear()
        self._has_stopped = asyncio.Event()
        if self._pmd:
            await self._start_pmd(link)
        if self._heart_rate is not None:
            await link.subscribe(HEART_RATE_MEASUREMENT)
        self._say("")

    async def tend(self, link: Link) -> None:
        """Start anew what the sensor stops on its own."""
        while self._pmd:
            await self._has_stopped.wait()
            self._has_stopped.clear()
            for measurement in sorted(self._stopped):
                self._stopped.discard(measurement)
                await self._start_one(link, self._pmd[measurement])
            self._say("")
            await asyncio.sleep(PAUSE_S)

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic == polar_pmd.DATA:
            self._samples(PmdFrame.from_bytes(data), arrival)
        elif characteristic == polar_pmd.CONTROL_POINT:
            self._told(notification_from_bytes(data))
        elif characteristic == HEART_RATE_MEASUREMENT and self._heart_rate is not None:
            self._emit(self._heart_rate.read(data, arrival))

    async def stop(self, link: Link) -> None:
        for measurement in self._pmd:
            await self._ask(link, PmdRequest(PmdOp.STOP, measurement))

    async def _start_pmd(self, link: Link) -> None:
        # Read before it is listened to: BlueZ tells whoever listens what somebody reads.
        offers = PmdOffers.from_bytes(await link.read(polar_pmd.CONTROL_POINT))
        await link.subscribe(polar_pmd.CONTROL_POINT)
        await link.subscribe(polar_pmd.DATA)
        for reader in self._pmd.values():
            if reader.measurement not in offers.measurements:
                raise DeviceRefusedError(f"it does not offer {reader.stream.channel}")
            await self._start_one(link, reader)

    async def _start_one(self, link: Link, reader: PmdReader) -> None:
        measurement, channel = reader.measurement, reader.stream.channel
        settings: tuple[PmdSetting, ...] = ()
        if reader.has_settings:
            answer = await self._ask(link, PmdRequest(PmdOp.SETTINGS, measurement))
            _must(answer, f"{channel}: settings")
            settings = reader.chosen(answer.settings)
        request = PmdRequest(PmdOp.START, measurement, settings)
        answer = await self._ask(link, request)
        if answer.status is PmdStatus.ALREADY_IN_STATE:
            # Whoever had the link before left it running; with which settings, nobody knows.
            await self._ask(link, PmdRequest(PmdOp.STOP, measurement))
            answer = await self._ask(link, request)
        _must(answer, f"{channel}: start")
        reader.begin(answer.factor)

    async def _ask(self, link: Link, request: PmdRequest) -> PmdAnswer:
        """The answer to this very request; raises DecodeError where another comes."""
        said = notification_from_bytes(await link.ask(polar_pmd.CONTROL_POINT, bytes(request)))
        if isinstance(said, PmdStopped):
            self._told(said)
            raise DecodeError("it stopped on its own instead of answering", 0)
        if (said.op, said.measurement) != (request.op, request.measurement):
            raise DecodeError(f"an answer to {said.op.name} {said.measurement.name}, which was not asked", 1)
        return said

    def _samples(self, frame: PmdFrame, arrival: Arrival) -> None:
        reader = self._pmd.get(frame.measurement)
        self._emit(Heard(dropped=("unwanted",)) if reader is None else reader.read(frame, arrival))

    def _told(self, said: PmdAnswer | PmdStopped) -> None:
        if isinstance(said, PmdAnswer):
            # Nobody waits for it any more.
            self._emit(Heard(dropped=("late answer",)))
            return
        ours = [measurement for measurement in said.measurements if measurement in self._pmd]
        if ours:
            channels = ", ".join(self._pmd[measurement].stream.channel for measurement in ours)
            self._stopped.update(ours)
            self._has_stopped.set()
            self._say(f"it stopped sending {channels} on its own")

    def _say(self, words: str) -> None:
        """Tell of the sensor, if that is news; no words: all is well."""
        if notices := self._board.put(Notice("sensor", words)):
            self._emit(Heard(notices=notices))


def _must(answer: PmdAnswer, what: str) -> None:
    if answer.status is not PmdStatus.SUCCESS:
        why = _WORDS.get(answer.status, answer.status.name.lower().replace("_", " "))
        raise DeviceRefusedError(f"{what}: {why}")
