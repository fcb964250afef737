"""The inbox is fair, bounded, keeps the order of every stream, and loses nothing that it does not count."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest import inbox as inbox_module
from agent.ingest.inbox import (
    ASIDE_S,
    CALM_AFTER_S,
    COMMANDS_A_TICK,
    IDLE_S,
    OVERHEAD_BYTES,
    PATIENCE_S,
    SHARE_S,
    WAITING_COMMANDS,
    Inbox,
)
from agent.ingest.source import Delivery
from firmware_bridge.chunk import Chunk, Stream

RATE_HZ = 250.0


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Sender:
    """Numbers what it sends, and knows what was acknowledged."""

    def __init__(self) -> None:
        self.sent: defaultdict[str, int] = defaultdict(int)
        self.acknowledged: list[tuple[str, int]] = []

    def delivery(self, patient: str, seconds: float = 1.0) -> Delivery:
        number = self.sent[patient]
        self.sent[patient] += 1
        stream = Stream(patient, f"device of {patient}", "ecg", "ecg", "mV", RATE_HZ, ("II",))
        samples = np.zeros((max(1, round(seconds * RATE_HZ)), 1), np.float32)
        chunk = Chunk(stream, number * 1_000_000_000, samples, number)
        return Delivery((chunk,), "topic", None, b"", 0, lambda: self.acknowledged.append((patient, number)))


def numbers(drawn: list[Delivery], patient: str) -> list[int | None]:
    return [one.chunks[0].seq for one in drawn if one.chunks and one.chunks[0].stream.patient == patient]


def make(patients: int = 3, *, live: bool = True, room_bytes: int = 1 << 20) -> tuple[Inbox, Sender, Clock]:
    clock = Clock()
    inbox = Inbox({f"p{k}": 1 for k in range(patients)}, live=live, room_bytes=room_bytes, clock_s=clock)
    return inbox, Sender(), clock


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 3), st.sampled_from([0.004, 0.5, 1.0, 20.0])),
        st.tuples(st.just("burst"), st.integers(0, 3), st.integers(1, 60)),
        st.tuples(st.just("draw"), st.floats(0, 3), st.none()),
        st.tuples(st.just("aside"), st.integers(0, 3), st.none()),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([20_000, 200_000, 2_000_000]))
def test_nothing_is_lost_that_was_not_counted_and_each_stream_keeps_its_order(
    steps: list[tuple[str, float, float | None]], room_bytes: int
) -> None:
    async def scenario() -> None:
        inbox, sender, clock = make(4, room_bytes=room_bytes)
        drawn: list[Delivery] = []
        for what, number, size in steps:
            match what:
                case "offer":
                    await inbox.offer(sender.delivery(f"p{number}", size or 1.0))
                case "burst":
                    for _ in range(int(size or 1)):
                        await inbox.offer(sender.delivery(f"p{number}"))
                case "draw":
                    clock.now_s += number
                    some = bool(inbox.waiting)
                    batch = inbox.draw()
                    assert bool(batch) == some
                    drawn += batch
                case _:
                    inbox.set_aside(f"p{number}", "overload", 5.0)
            assert inbox.size <= room_bytes or inbox.waiting == 1
        while inbox.waiting:
            drawn += inbox.draw()
        assert inbox.size == 0
        for patient, sent in sender.sent.items():
            given_out = numbers(drawn, patient)
            assert given_out == sorted(given_out, key=lambda number: number or 0)
            dropped = [number for name, number in sender.acknowledged if name == patient]
            assert sorted([*given_out, *dropped]) == list(range(sent))
        assert sum(inbox.shed.counts.values()) == len(sender.acknowledged)

    asyncio.run(scenario())


@given(st.integers(0, 300), st.lists(st.sampled_from([0.004, 0.1, 1.0, 30.0]), min_size=1, max_size=5))
def test_somebody_who_sends_a_chunk_is_in_the_next_tick_whatever_the_others_send(
    flood: int, seconds: list[float]
) -> None:
    async def scenario() -> None:
        inbox, sender, _ = make(2, room_bytes=64 << 20)
        for k in range(flood):
            await inbox.offer(sender.delivery("p0", seconds[k % len(seconds)]))
        await inbox.offer(sender.delivery("p1"))
        drawn = inbox.draw()
        assert numbers(drawn, "p1") == [0]
        longest_s = max(seconds)
        assert sum(len(one.chunks[0].samples) for one in drawn) / RATE_HZ <= SHARE_S + longest_s + 1.0

    asyncio.run(scenario())


def test_the_share_grows_with_the_time_a_tick_has_taken() -> None:
    """With a slow disk ticks are long, and everybody's data of meanwhile must fit into the next."""

    async def scenario() -> None:
        inbox, sender, clock = make(1)
        for _ in range(30):
            await inbox.offer(sender.delivery("p0"))
        clock.now_s += 10.0
        assert len(inbox.draw()) == 24

    asyncio.run(scenario())


def test_a_chunk_longer_than_the_share_is_paid_off_while_others_are_served() -> None:
    async def scenario() -> None:
        inbox, sender, _ = make(2, room_bytes=64 << 20)
        for _ in range(3):
            await inbox.offer(sender.delivery("p0", 3 * SHARE_S))
        served = []
        for _ in range(7):
            await inbox.offer(sender.delivery("p1"))
            drawn = inbox.draw()
            assert len(numbers(drawn, "p1")) == 1
            served.append(len(numbers(drawn, "p0")))
        assert served == [1, 0, 0, 1, 0, 0, 1]

    asyncio.run(scenario())


def test_who_floods_is_set_aside_and_the_others_are_not() -> None:
    async def scenario() -> None:
        inbox, sender, clock = make(3, room_bytes=100_000)
        await inbox.offer(sender.delivery("p1"))
        while not inbox.refuses("p0"):
            await inbox.offer(sender.delivery("p0"))
        assert set(inbox.asides()) == {"p0"}
        assert "Not watched" in inbox.asides()["p0"].words
        await inbox.offer(sender.delivery("p2"))
        assert [one.chunks[0].stream.patient for one in inbox.draw()] == ["p1", "p2"]
        clock.now_s += ASIDE_S
        assert not inbox.asides()
        await inbox.offer(sender.delivery("p0"))
        assert numbers(inbox.draw(), "p0") == [sender.sent["p0"] - 1]

    asyncio.run(scenario())


def test_what_waits_until_it_is_of_the_past_makes_room_for_what_is_of_now() -> None:
    async def scenario() -> None:
        inbox, sender, clock = make(2)
        for _ in range(200):
            await inbox.offer(sender.delivery("p0"))
        clock.now_s += PATIENCE_S + 1  # a share of a third of it
        await inbox.offer(sender.delivery("p1"))
        drawn = inbox.draw()
        assert numbers(drawn, "p1") == [0]
        assert inbox.counters()["shed input: flood"] + len(numbers(drawn, "p0")) == 200
        assert set(inbox.asides()) == {"p0"}

    asyncio.run(scenario())


def test_in_a_replay_nobody_is_set_aside_who_sends_too_much_waits() -> None:
    async def scenario() -> None:
        inbox, sender, clock = make(1, live=False, room_bytes=10 * (OVERHEAD_BYTES + 1000))

        async def send() -> None:
            for _ in range(50):
                await inbox.offer(sender.delivery("p0"))

        sending = asyncio.create_task(send())
        drawn: list[Delivery] = []
        while not sending.done() or inbox.waiting:
            clock.now_s += 2 * PATIENCE_S
            await asyncio.sleep(0)
            drawn += inbox.draw()
        assert numbers(drawn, "p0") == list(range(50))
        assert not inbox.shed.counts

    asyncio.run(scenario())


def test_a_source_of_one_patient_waits_live_too() -> None:
    async def scenario() -> None:
        inbox, sender, _ = make(1, room_bytes=4 * (OVERHEAD_BYTES + 1000))
        for _ in range(2):
            await inbox.put(sender.delivery("p0"))
        putting = asyncio.create_task(inbox.put(sender.delivery("p0")))
        await asyncio.sleep(0)
        assert not putting.done()
        inbox.draw()
        await putting
        assert not inbox.shed.counts

    asyncio.run(scenario())


def test_what_is_larger_than_all_the_room_goes_alone() -> None:
    async def scenario() -> None:
        inbox, sender, _ = make(1, room_bytes=1000)
        await inbox.put(sender.delivery("p0", 100.0))
        assert len(inbox.draw()) == 1

    asyncio.run(scenario())


def test_too_many_commands_are_refused_in_words_and_the_others_keep_nobody_s_data_waiting() -> None:
    answers: list[tuple[bool, str]] = []

    def answer(accepted: bool, words: str) -> None:
        answers.append((accepted, words))

    async def scenario() -> None:
        inbox, sender, _ = make(1)
        await inbox.offer(sender.delivery("p0"))
        for _ in range(WAITING_COMMANDS + 3):
            await inbox.offer(Delivery((), "topic", None, b"", 0, lambda: None, "ack", answer))
        drawn = inbox.draw()
        assert [one.command for one in drawn] == ["ack"] * COMMANDS_A_TICK + [""]
        assert [accepted for accepted, _ in answers] == [False] * 3
        assert inbox.shed.counts["command", "flood"] == 3

    asyncio.run(scenario())


def test_without_data_a_tick_lets_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "IDLE_S", IDLE_S / 100)

    async def scenario() -> None:
        inbox, sender, _ = make(1)
        assert not await inbox.take()
        taking = asyncio.create_task(inbox.take())
        await inbox.offer(sender.delivery("p0"))
        assert len(await taking) <= 1

    asyncio.run(scenario())


def test_after_a_while_without_data_time_passes_in_longer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "CALM_S", 0.001)
    monkeypatch.setattr(inbox_module, "IDLE_S", 3600.0)

    async def scenario() -> None:
        inbox, sender, clock = make(1)
        await inbox.offer(sender.delivery("p0"))
        inbox.draw()
        clock.now_s += CALM_AFTER_S
        assert not await asyncio.wait_for(inbox.take(), 60)
        await inbox.offer(sender.delivery("p0"))
        inbox.draw()
        taking = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        await inbox.offer(sender.delivery("p0"))
        assert len(await asyncio.wait_for(taking, 60)) == 1

    asyncio.run(scenario())
