"""With more to do than there is time, display goes first, then people take turns: played through on a clock of its own.

The ward here is made of an inbox, what decides about it, and a worker that needs so much time for each second of
signal. What is asserted is counted on that clock: nothing waits for a real one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest

from agent.ingest.inbox import GATHER_AT_MOST_S, Inbox
from agent.ingest.source import Delivery
from agent.overload import TURN_S, Overload
from agent.shed import Level
from agent.spare import OPINION, Economy
from firmware_bridge.chunk import Chunk, Stream

QUIET = logging.getLogger("agent.ingest.inbox")


@dataclass
class Ward:
    """`cost_s`: of a second of signal; `disk_s`: of a tick, waiting for the disk; `alarmed`: who has an alarm on."""

    patients: int
    cost_s: float
    disk_s: float = 0.0
    alarmed: frozenset[str] = frozenset()
    now_s: float = 0.0
    waits_s: list[tuple[float, float]] = field(default_factory=list)
    """(when, how long it had waited) of every chunk stepped over."""
    flood: int = 0
    """So many more chunks than the others the first patient sends."""
    watched: Counter[str] = field(default_factory=Counter)
    levels: list[Level] = field(default_factory=list)
    left_out: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        names = [f"p{k}" for k in range(self.patients)]
        self.inbox = Inbox(dict.fromkeys(names, 1), live=True, clock_s=lambda: self.now_s)
        self.economy = Economy()
        self.overload = Overload(self.inbox, names, self.economy, 0.0)
        self.streams = [Stream(name, name, "ecg", "ecg", "mV", 1.0) for name in names]
        self._sent = 0
        self._idle_s = self._until_s = 0.0

    async def run(self, seconds: float) -> None:
        """Everybody sends a chunk of a second each second, spread over it; the worker takes its time."""
        self._until_s += seconds
        while self.now_s < self._until_s:
            while self._due_s <= self.now_s:
                stream = self.streams[self._sent % self.patients]
                for _ in range(1 + (self.flood if stream.patient == "p0" else 0)):
                    await self._send(stream, self._due_s)
                self._sent += 1
            if self.inbox.waiting:
                self._tick()
            else:
                idle_s = self._due_s + GATHER_AT_MOST_S - self.now_s
                self._idle_s += idle_s
                self.now_s += idle_s

    @property
    def _due_s(self) -> float:
        return self._sent / self.patients

    async def _send(self, stream: Stream, at_s: float) -> None:
        chunk = Chunk(stream, round(at_s * 1e9), np.zeros((1, 1), np.float32))
        now_s, self.now_s = self.now_s, at_s  # it came then, while the worker was busy
        if self.inbox.refuses(stream.patient):
            self.left_out[stream.patient] += 1
        else:
            await self.inbox.offer(Delivery((chunk,), "", None, b"", 0, lambda: None))
        self.now_s = now_s

    def _tick(self) -> None:
        drawn = self.inbox.draw()
        self.overload.note(self.now_s, idle_s=self._idle_s, alarmed=lambda: self.alarmed)
        self.levels.append(self.overload.level)
        for one in drawn:
            self.watched[one.chunks[0].stream.patient] += 1
        spared = (1.0, 1.0, 0.95, 0.9, 0.9)[self.overload.level]
        self.now_s += len(drawn) * self.cost_s * spared + 0.004 + self.disk_s
        self._idle_s += self.disk_s
        self.waits_s += [
            (self.now_s, self.now_s - one.chunks[0].t0_ns / 1e9)
            for one in drawn
            if not (self.flood and one.chunks[0].stream.patient == "p0")
        ]

    def p99_s(self, since_s: float) -> float:
        waits = sorted(wait for at, wait in self.waits_s if at >= since_s)
        return waits[round(0.99 * (len(waits) - 1))]


@pytest.fixture(autouse=True)
def _few_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def test_a_ward_that_fits_is_watched_in_full() -> None:
    ward = Ward(100, cost_s=0.008)
    asyncio.run(ward.run(120))
    assert set(ward.levels) == {Level.NOTHING}
    assert not ward.inbox.shed.counts
    assert ward.p99_s(0) < 0.3


def test_at_twice_what_can_be_carried_those_who_are_watched_are_in_time_and_all_take_turns() -> None:
    ward = Ward(100, cost_s=0.020)
    asyncio.run(ward.run(600))
    assert ward.levels[-1] is Level.PEOPLE
    assert OPINION in ward.economy.undone
    assert ward.p99_s(60) < 2.0
    heard = [ward.watched[stream.patient] for stream in ward.streams]
    assert sum(heard) > 100 * 600 * 0.35  # of the half that can be
    assert min(heard) > 0.6 * max(heard)
    assert sum(heard) + ward.inbox.shed.counts["input", "overload"] + ward.inbox.waiting >= 100 * 599


def test_display_goes_before_extras_and_extras_before_anybody() -> None:
    ward = Ward(100, cost_s=0.0111)
    asyncio.run(ward.run(300))
    levels = list(dict.fromkeys(ward.levels))
    assert levels[:4] == [Level.NOTHING, Level.SHARES, Level.DISPLAY, Level.EXTRAS]


def test_a_little_too_much_is_had_by_leaving_display_and_extras_undone() -> None:
    ward = Ward(100, cost_s=0.0104)
    asyncio.run(ward.run(600))
    assert Level.DISPLAY in ward.levels
    assert Level.PEOPLE not in ward.levels
    assert not ward.inbox.shed.counts


def test_who_has_an_alarm_on_is_never_left_out_while_others_can_be() -> None:
    ward = Ward(40, cost_s=0.05, alarmed=frozenset({"p3", "p17"}))
    asyncio.run(ward.run(300))
    assert ward.levels[-1] is Level.PEOPLE
    assert ward.left_out["p3"] == ward.left_out["p17"] == 0
    assert all(ward.left_out[stream.patient] for stream in ward.streams if stream.patient not in ward.alarmed)


def test_where_all_who_are_watched_have_an_alarm_on_the_others_get_their_turn_too() -> None:
    ward = Ward(20, cost_s=0.1, alarmed=frozenset(f"p{k}" for k in range(20)))
    asyncio.run(ward.run(600))
    assert min(ward.watched[stream.patient] for stream in ward.streams) > 60


def test_nobody_is_left_out_for_longer_than_a_turn_or_two() -> None:
    ward = Ward(60, cost_s=0.03)
    asyncio.run(ward.run(60))
    missing_since: dict[str, float] = {}
    longest_s = 0.0
    for _ in range(300):
        asyncio.run(ward.run(1))
        aside = ward.inbox.asides()
        for patient in list(missing_since):
            if patient not in aside:
                del missing_since[patient]
        for patient in aside:
            longest_s = max(longest_s, ward.now_s - missing_since.setdefault(patient, ward.now_s))
    assert longest_s <= 2.5 * TURN_S


def test_one_who_floods_a_ward_that_is_nearly_full_costs_nobody_else_anything() -> None:
    ward = Ward(50, cost_s=0.014, flood=99)
    asyncio.run(ward.run(100))
    assert Level.PEOPLE not in ward.levels
    assert set(ward.left_out) <= {"p0"}
    assert ward.p99_s(20) < 2.0
    assert all(ward.watched[stream.patient] >= 98 for stream in ward.streams[1:])


def test_when_it_is_over_all_is_done_again() -> None:
    ward = Ward(100, cost_s=0.020)
    asyncio.run(ward.run(120))
    ward.cost_s = 0.004
    asyncio.run(ward.run(180))
    assert ward.levels[-1] is Level.NOTHING
    assert not ward.inbox.asides()
    assert not ward.economy.undone


def test_a_slow_disk_makes_ticks_long_and_leaves_nobody_out() -> None:
    ward = Ward(100, cost_s=0.004, disk_s=2.0)
    asyncio.run(ward.run(300))
    assert set(ward.levels) == {Level.NOTHING}
    assert not ward.inbox.shed.counts
    assert ward.p99_s(30) < 7  # it comes during one commit, and waits for its own


def test_one_patient_alone_who_is_too_much_is_left_out_for_seconds_not_for_good() -> None:
    ward = Ward(1, cost_s=1.5)
    asyncio.run(ward.run(300))
    assert ward.watched["p0"] > 100
    assert ward.inbox.shed.counts["input", "overload"]
    assert ward.p99_s(60) < 40
