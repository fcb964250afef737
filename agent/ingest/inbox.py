"""Between the sources and the worker: a bounded queue for everybody, and a fair share for each in every tick.

Who sends more than is analysed holds up nobody else. What a tick takes of one patient is bounded by the time that has
passed, so a tick is about as long as the signal of the others asks for; what waits is bounded for all together, and
nobody may hold more than what is still free. Past that, the sources that can wait do. The broker's one connection
brings everybody's data and cannot: there the patient is set aside for a while, and what waits or comes of theirs
meanwhile is dropped unread and counted. That is a hole in the signal, which the time line shows, and an alarm says so.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agent.ingest.source import Delivery
from agent.shed import Shed

log = logging.getLogger(__name__)

ROOM_BYTES = 32 << 20
"""What waits of everybody, with its samples; a sensor that was out of reach may send hours at once."""
OVERHEAD_BYTES = 1024
"""Of a delivery, beside its payload and samples."""
WAITING_COMMANDS = 256
"""What people ask of the agent; past it they are told that it is busy."""
COMMANDS_A_TICK = 32
SHARE_S, SHARE_OF_TIME = 4.0, 2.0
"""In a tick, of each of a patient's streams: so much signal, and so much for each second since the tick before."""
TIGHT_S, TIGHT_OF_TIME = 1.0, 1.25
"""The same where there is more to do than there is time: nobody catches up at the cost of the others."""
LEAST_S = 0.1
"""A chunk counts as so much signal, however short it is."""
PATIENCE_S = 30.0
"""Live, what waits longer than this is not of now any more: its patient's newest data is worth more."""
ASIDE_S = 30.0
"""How long a patient who was set aside is not heard."""
ENOUGH_DELIVERIES = 128
"""That many make a tick worth its while at once."""
GATHER_S, GATHER_PER_PATIENT_S, GATHER_AT_MOST_S = 0.002, 0.0005, 0.05
"""A delivery waits this long for others, during the tick before or after it: one commit and one inference then serve
them all, for a tick costs some milliseconds however few it is of."""
IDLE_S = 0.25
"""With no data, time is let pass this often, so that silence is noticed."""
CALM_S, CALM_AFTER_S = 1.0, 30.0
"""And after so long without any only this often: a small machine that waits should sleep."""


@dataclass(slots=True)
class _Waiting:
    delivery: Delivery
    since_s: float
    size: int
    signal_s: float


@dataclass(slots=True)
class _Queue:
    """Of one patient."""

    streams: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    size: int = 0
    signal_s: float = 0.0
    """What waits."""
    credit_s: float = 0.0
    """Signal that may still be taken; below zero after a chunk that was longer than the share."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Somebody who is not heard."""

    since_s: float
    until_s: float | None
    """When they are let in again; None where somebody else decides on that."""
    why: str

    @property
    def words(self) -> str:
        """What that means, for a person."""
        return f"Not watched: {_WORDS.get(self.why, self.why)}"


_WORDS = {
    "flood": "more data comes than can be analysed, what came is dropped",
    "overload": "the agent has too much to do, others are watched meanwhile",
}


class Inbox:
    """What has come and not been stepped over. Every method belongs to the event loop."""

    def __init__(
        self,
        streams: Mapping[str, int],
        *,
        live: bool,
        shed: Shed | None = None,
        room_bytes: int = ROOM_BYTES,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`streams`: per patient, how many there are. `live`: whether the clock counts; else nobody is set aside."""
        self._queues = {patient: _Queue(count) for patient, count in streams.items()}
        self._busy: dict[str, _Queue] = {}
        """Those in which something waits."""
        self._live, self._room_bytes, self._clock_s = live, room_bytes, clock_s
        self.shed = shed or Shed()
        self._commands: deque[Delivery] = deque()
        self._aside: dict[str, Aside] = {}
        self.size = 0
        """Bytes that wait."""
        self.waiting = 0
        """Deliveries that wait."""
        self.drawn_s = self._heard_s = clock_s()
        """When the last tick began."""
        self.idle_s = 0.0
        """Time spent waiting for data."""
        self.tight = False
        """Whether there is more to do than there is time."""
        self.most_s = math.inf
        """Signal that a tick takes at most, of everybody together; of each at least a chunk now and then."""
        self.arrived_s = self.taken_s = 0.0
        """Signal that has come so far, and that the last tick took."""
        self.waited_s = 0.0
        """How long the oldest delivery had waited at the last tick, of those who send no more than their signal."""
        self._came = asyncio.Event()
        self._enough = asyncio.Event()
        self._has_room = asyncio.Event()

    # -- from the sources ---------------------------------------------------------------------------------------------

    async def put(self, delivery: Delivery) -> None:
        """Take it in; wait while there is no room for it. For a source that serves nobody else meanwhile."""
        while not self._takes(delivery):
            self._has_room.clear()
            await self._has_room.wait()
        self._take_in(delivery)

    async def offer(self, delivery: Delivery) -> None:
        """Take it in at once, live: who has more waiting than there is room for is set aside."""
        if not self._live:
            await self.put(delivery)
            return
        if not self._takes(delivery):
            self.set_aside(_patient(delivery), "flood", ASIDE_S)
        self._take_in(delivery)

    def refuses(self, patient: str) -> bool:
        """Whether a message of theirs is to be dropped unread; if so it is counted as that."""
        if not self.is_aside(patient):
            return False
        self.shed.note("input", self._aside[patient].why)
        return True

    def _take_in(self, delivery: Delivery) -> None:
        if delivery.command:
            self._take_command(delivery)
            return
        patient = _patient(delivery)
        if self.refuses(patient):
            delivery.ack()
            return
        queue, size = self._queue(patient), _size(delivery)
        one = _Waiting(delivery, self._clock_s(), size, _signal_s(delivery))
        queue.waiting.append(one)
        self._busy[patient] = queue
        self.arrived_s += one.signal_s
        self._account(queue, one, 1)
        self._came.set()

    def _take_command(self, delivery: Delivery) -> None:
        if len(self._commands) >= WAITING_COMMANDS:
            self.shed.note("command", "flood")
            delivery.ack()
            if delivery.answer is not None:
                delivery.answer(False, "too much is asked at once: try again")
            return
        self._commands.append(delivery)
        self.waiting += 1
        self._came.set()

    def _takes(self, delivery: Delivery) -> bool:
        """Nobody may hold more than what is free then; what is larger than all the room goes alone."""
        if delivery.command or not self.size:
            return True
        patient, size = _patient(delivery), _size(delivery)
        return self._queue(patient).size + size <= self._room_bytes - self.size - size or self.is_aside(patient)

    def _queue(self, patient: str) -> _Queue:
        return self._queues.setdefault(patient, _Queue(1))

    def _account(self, queue: _Queue, one: _Waiting, sign: int) -> None:
        queue.size += sign * one.size
        queue.signal_s += sign * one.signal_s
        self.size += sign * one.size
        self.waiting += sign
        if self.waiting >= ENOUGH_DELIVERIES:
            self._enough.set()

    # -- who is not heard ---------------------------------------------------------------------------------------------

    def is_aside(self, patient: str) -> bool:
        aside = self._aside.get(patient)
        if aside is None:
            return False
        if aside.until_s is not None and self._clock_s() >= aside.until_s:
            self.let_in(patient)
            return False
        return True

    def asides(self) -> dict[str, Aside]:
        """Who is not heard now."""
        return {patient: aside for patient, aside in list(self._aside.items()) if self.is_aside(patient)}

    def troubles(self) -> list[str]:
        """Who is not heard and why, in words for a status."""
        by_words: dict[str, list[str]] = {}
        for patient, aside in self.asides().items():
            by_words.setdefault(aside.words, []).append(patient)
        return [f"{words}: {', '.join(patients)}" for words, patients in by_words.items()]

    def floods(self) -> list[str]:
        """Of whom the last tick could not take all, for more comes than a signal has."""
        return [patient for patient, queue in self._busy.items() if self._is_flood(queue)]

    def _is_flood(self, queue: _Queue) -> bool:
        """Whether what waits came faster than signal is made."""
        if not queue.waiting:
            return False
        took_s = self.drawn_s - queue.waiting[0].since_s
        return queue.signal_s > queue.streams * (SHARE_S + TIGHT_OF_TIME * max(took_s, 0.0))

    def counters(self) -> dict[str, int]:
        """Gauges of what waits, and counts of what was dropped, for a status."""
        gauges = {"inbox_waiting": self.waiting, "inbox_bytes": self.size, "not_watched": len(self._aside)}
        return gauges | self.shed.counters()

    def set_aside(self, patient: str, why: str, for_s: float | None = None) -> None:
        """Drop what waits of a patient, and what comes of them for so long, or until they are let in again."""
        now_s, queue = self._clock_s(), self._queue(patient)
        self._aside[patient] = Aside(now_s, None if for_s is None else now_s + for_s, why)
        dropped = list(queue.waiting)
        queue.waiting.clear()
        self._busy.pop(patient, None)
        for one in dropped:
            self._account(queue, one, -1)
        self.shed.note("input", why, len(dropped))
        self._has_room.set()
        log.info("%s is not heard for now (%s): %d messages that waited are dropped", patient, why, len(dropped))
        for one in dropped:
            one.delivery.ack()

    def let_in(self, patient: str) -> None:
        if self._aside.pop(patient, None) is not None:
            log.info("%s is heard again", patient)

    # -- to the worker ------------------------------------------------------------------------------------------------

    async def take(self) -> Sequence[Delivery]:
        """What makes the next tick; nothing where nothing has come for a while."""
        began_s = self._clock_s()
        if not self.waiting:
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._came.wait()
        if 0 < self.waiting < ENOUGH_DELIVERIES:
            await self._gather()
        self.idle_s += self._clock_s() - began_s
        return self.draw()

    async def _gather(self) -> None:
        """Wait for others, as long as the oldest of those that wait may."""
        most_s = min(GATHER_S + GATHER_PER_PATIENT_S * len(self._queues), GATHER_AT_MOST_S)
        oldest = next(iter(self._busy.values()), None)
        waited_s = 0.0 if oldest is None else self._clock_s() - oldest.waiting[0].since_s
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s - waited_s):
                await self._enough.wait()

    def draw(self) -> list[Delivery]:
        """Commands, and of everybody their share, oldest first; something, if anything waits."""
        now_s = self._clock_s()
        share_s = SHARE_S + SHARE_OF_TIME * (now_s - self.drawn_s)
        if self.tight:
            share_s = TIGHT_S + TIGHT_OF_TIME * (now_s - self.drawn_s)
        share_s = min(share_s, self.most_s / max(1, len(self._busy)))
        self.drawn_s, self.waited_s, self.taken_s = now_s, 0.0, 0.0
        commands = [self._commands.popleft() for _ in range(min(COMMANDS_A_TICK, len(self._commands)))]
        self.waiting -= len(commands)
        drawn: list[Delivery] = []
        while self._busy and not drawn:
            for patient, queue in list(self._busy.items()):
                since_s = queue.waiting[0].since_s
                drawn += self._share_of(queue, share_s)
                if not queue.waiting:
                    del self._busy[patient]
                if not self._is_flood(queue):
                    self.waited_s = max(self.waited_s, now_s - since_s)
        if commands or drawn:
            self._heard_s = now_s
        if self._live:
            self._lose_patience(now_s)
        self._has_room.set()
        return commands + drawn

    def _wait_s(self) -> float:
        return CALM_S if self._clock_s() - self._heard_s >= CALM_AFTER_S else IDLE_S

    def _share_of(self, queue: _Queue, share_s: float) -> list[Delivery]:
        """Each round robin gives a share; one whose last chunk was longer pays that off first."""
        queue.credit_s = min(queue.credit_s, 0.0) + share_s * queue.streams
        drawn: list[Delivery] = []
        while queue.waiting and queue.credit_s > 0:
            one = queue.waiting.popleft()
            queue.credit_s -= one.signal_s
            self.taken_s += one.signal_s
            self._account(queue, one, -1)
            drawn.append(one.delivery)
        return drawn

    def _lose_patience(self, now_s: float) -> None:
        for patient, queue in list(self._busy.items()):
            if now_s - queue.waiting[0].since_s > PATIENCE_S:
                self.set_aside(patient, "flood" if self._is_flood(queue) else "overload", ASIDE_S)


def _patient(delivery: Delivery) -> str:
    return delivery.chunks[0].stream.patient


def _size(delivery: Delivery) -> int:
    return OVERHEAD_BYTES + len(delivery.payload) + sum(chunk.samples.nbytes for chunk in delivery.chunks)


def _signal_s(delivery: Delivery) -> float:
    """Seconds of signal, as far as they cost."""
    return sum(
        max(LEAST_S, len(chunk.samples) / chunk.stream.rate_hz if chunk.stream.rate_hz else 0.0)
        for chunk in delivery.chunks
    )
