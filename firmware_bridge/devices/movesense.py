"""A Movesense sensor: one ECG lead. From vendor material, not verified against a sensor; see codecs/movesense.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from firmware_bridge.chunk import Stream
from firmware_bridge.clock import Arrival, DeviceClock
from firmware_bridge.codecs.movesense import (
    COMMANDS,
    DATA,
    ECG_LSB_MV,
    SERVICE,
    MovesenseAnswer,
    MovesenseData,
    MovesenseSubscribe,
    MovesenseUnsubscribe,
    notification_from_bytes,
)
from firmware_bridge.devices.continuity import Continuity
from firmware_bridge.devices.profile import Offer, Option, OptionValue, Profile, uuid16
from firmware_bridge.devices.session import DeviceRefusedError, Emit, Heard, Link, LinkError
from firmware_bridge.plausible import to_chunk

ECG = Offer("ecg", "ecg", rate_hz=125.0, rate_option="ecg_rate_hz")
RATES_HZ = (125.0, 128.0, 200.0, 250.0)
REFERENCE = 1
ANSWER_S = 5.0
MAX_ANSWERS = 8
_ADVERTISED = uuid16(0xFDF3)


class MovesenseSession:
    """One sensor, subscribed to on each connection."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        _options: Mapping[str, OptionValue],
        emit: Emit,
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._stream, self._emit, self._answer_s = streams[ECG.channel], emit, answer_s
        self._continuity = Continuity(self._stream.rate_hz, DeviceClock())
        self._answers: asyncio.Queue[MovesenseAnswer] = asyncio.Queue(MAX_ANSWERS)

    async def start(self, link: Link) -> None:
        self._answers = asyncio.Queue(MAX_ANSWERS)
        self._continuity.connected()
        await link.subscribe(DATA)
        path = f"Meas/ECG/{self._stream.rate_hz:.0f}"
        subscribe = bytes(MovesenseSubscribe(REFERENCE, path))
        answer = await self._ask(link, subscribe)
        if not answer.is_success:
            # Whoever had the link before may have left it subscribed.
            await self._ask(link, bytes(MovesenseUnsubscribe(REFERENCE)))
            answer = await self._ask(link, subscribe)
        if not answer.is_success:
            raise DeviceRefusedError(f"it does not give {path} (status {answer.status})")

    async def tend(self, link: Link) -> None:
        """Nothing to do."""

    def notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        if characteristic != DATA:
            return
        said = notification_from_bytes(data)
        if isinstance(said, MovesenseAnswer):
            if not self._answers.full():
                self._answers.put_nowait(said)
        elif said.reference == REFERENCE:
            self._emit(self._samples(said, arrival))
        else:
            self._emit(Heard(dropped=("unwanted",)))

    async def stop(self, link: Link) -> None:
        await link.write(COMMANDS, bytes(MovesenseUnsubscribe(REFERENCE)))

    async def _ask(self, link: Link, command: bytes) -> MovesenseAnswer:
        await link.write(COMMANDS, command)
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._answers.get()
        except TimeoutError:
            raise LinkError("timeout", f"no answer in {self._answer_s:g} s") from None

    def _samples(self, said: MovesenseData, arrival: Arrival) -> Heard:
        counts = said.ecg_counts()
        last_ns = said.first_ms * 1_000_000 + self._stream.duration_ns(len(counts) - 1)
        place = self._continuity.push(last_ns, len(counts), arrival)
        if isinstance(place, str):
            return Heard(dropped=(place,))
        chunk = to_chunk(
            self._stream, place.t0_ns, counts, unit="mV", scale=ECG_LSB_MV, seq=place.seq, boot_id=place.boot_id
        )
        return Heard((chunk,))


PROFILE = Profile(
    id="movesense",
    name="Movesense",
    words="A Movesense sensor with its sensor-data service: one ECG lead.",
    offers=(ECG,),
    open=MovesenseSession,
    services=frozenset({SERVICE, _ADVERTISED}),
    name_pattern=r"Movesense .*",
    characteristics=frozenset({COMMANDS, DATA}),
    min_mtu=73,
    options=(Option(ECG.rate_option, 125.0, "Samples a second of its ECG.", RATES_HZ),),
    verified="† vendor material: the layout, the unit of a sample, the time of a packet",
)
