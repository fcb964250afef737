"""Frames over a link that loses, repeats, delays and reorders: each once, in its place, or not at all."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.signal.align import Aligner
from firmware_bridge.chunk import Chunk, Gap, Stream
from firmware_bridge.clock import Arrival, SteadyUtc
from firmware_bridge.frame import Frame, FrameFlag, SampleFormat
from firmware_bridge.frame_receiver import FrameReceiver, Received
from firmware_bridge.resend import ResendRequest

MS = 1_000_000
NOON_US = 1_795_000_000_000_000
ECG = Stream("p1", "own", "ecg", "ecg", "mV", 250.0)
ACC = Stream("p1", "own", "acc", "acc", "g", 50.0, ("x", "y", "z"))
STREAMS = {3: ECG, 4: ACC}
FRAME_MS, SAMPLES = 200, 50


def frame(k: int, *, boot_id: int = 7, utc: bool = True, stream_id: int = 3) -> Frame:
    """The k-th 200 ms of a stream; its samples say which."""
    rate, channels, unit = (250, 1, "mV") if stream_id == 3 else (50, 3, "g")
    counts = np.full((FRAME_MS * rate // 1000, channels), k % 1000, "<i2")
    return Frame(
        stream_id, FrameFlag.UTC if utc else FrameFlag.NONE, SampleFormat.INT16, channels, unit, boot_id,
        NOON_US * utc + k * FRAME_MS * 1000, k, rate * 1000, 0.01, counts.tobytes(),
    )  # fmt: skip


def at(ms: float) -> Arrival:
    return Arrival(round(ms * MS), NOON_US * 1000)


def came(receiver: FrameReceiver, frames: Iterable[tuple[int, Frame]]) -> list[Received]:
    """`frames`: with the time in ms at which each comes."""
    return [receiver.push(one, at(ms)) for ms, one in frames]


def due(k: int) -> int:
    """When the k-th frame is there at the earliest, in ms."""
    return (k + 1) * FRAME_MS


def in_turn(*numbers: int, boot_id: int = 7, utc: bool = True) -> list[tuple[int, Frame]]:
    return [(due(k), frame(k, boot_id=boot_id, utc=utc)) for k in numbers]


def test_a_frame_becomes_the_chunk_it_says() -> None:
    (received,) = came(FrameReceiver(STREAMS), in_turn(5))
    (chunk,) = received.chunks
    assert (chunk.stream, chunk.t0_ns, chunk.seq, chunk.boot_id) == (ECG, (NOON_US + 1_000_000) * 1000, 5, 7)
    np.testing.assert_allclose(chunk.samples, np.full((SAMPLES, 1), 0.05), rtol=1e-6)
    assert received == Received((chunk,))


def test_a_hole_is_asked_for_at_once_and_once_more_and_then_let_be() -> None:
    asked = [
        received.requests for received in came(FrameReceiver(STREAMS), in_turn(0, 1, 4, 5, 6, 7, 8, *range(9, 30)))
    ]
    wanted = (ResendRequest(3, 7, 2, 2),)
    assert asked[2] == wanted
    assert asked[5] == wanted  # 600 ms later
    assert not any(asked[index] for index in range(len(asked)) if index not in {2, 5})


def test_what_came_meanwhile_is_not_asked_for_again() -> None:
    receiver = FrameReceiver(STREAMS)
    came(receiver, in_turn(0, 1, 5, 6))
    (resent,) = came(receiver, [(due(6) + 20, frame(3))])
    assert resent.chunks[0].seq == 3
    asked = [one.requests for one in came(receiver, in_turn(7, 8))]
    assert asked == [(), (ResendRequest(3, 7, 2, 1), ResendRequest(3, 7, 4, 1))]


def test_a_frame_sent_again_takes_its_place_in_the_signal() -> None:
    receiver, aligner = FrameReceiver(STREAMS), Aligner()
    out: list[Chunk | Gap] = []
    for received in came(
        receiver, [*in_turn(0, 1, 4, 5), (due(5) + 50, frame(2)), (due(5) + 60, frame(3)), *in_turn(6)]
    ):
        out += [piece for chunk in received.chunks for piece in aligner.push(chunk)]
    assert [piece.seq for piece in out if isinstance(piece, Chunk)] == list(range(7))
    assert not any(isinstance(piece, Gap) for piece in out)


def test_a_frame_that_comes_too_late_is_left_out_however_often_it_comes() -> None:
    receiver = FrameReceiver(STREAMS)
    came(receiver, in_turn(0, *range(4, 20)))
    late = came(receiver, [(due(19) + 10 * k, frame(k % 4 or 1)) for k in range(9)])
    assert not any(received.chunks for received in late)
    assert {word for received in late for word in received.dropped} == {"late", "duplicate"}
    (on,) = came(receiver, in_turn(20))
    assert on.chunks[0].seq == 20


def test_a_hole_longer_than_two_seconds_is_not_asked_for() -> None:
    asked = [received.requests for received in came(FrameReceiver(STREAMS), in_turn(0, 1, 13, 14, 15, 16, 17))]
    assert not any(asked)
    asked = [received.requests for received in came(FrameReceiver(STREAMS), in_turn(0, 1, 11, 12))]
    assert asked[2] == (ResendRequest(3, 7, 2, 9),)


def test_frames_of_another_stream_carry_on_the_asking() -> None:
    receiver = FrameReceiver(STREAMS)
    came(receiver, in_turn(0, 2))
    (received,) = came(receiver, [(due(2) + 700, frame(0, stream_id=4))])
    assert received.chunks[0].stream == ACC
    assert received.chunks[0].samples.shape == (10, 3)
    assert received.requests == (ResendRequest(3, 7, 1, 1),)


def test_a_new_boot_id_is_a_new_count_and_stragglers_of_the_old_one_are_left_out() -> None:
    receiver = FrameReceiver(STREAMS)
    came(receiver, in_turn(0, 1, 2, 90, 91))
    first, straggler, second = came(
        receiver, [(20_000, frame(0, boot_id=8)), (20_010, frame(92)), (20_200, frame(1, boot_id=8))]
    )
    assert [(one.chunks[0].boot_id, one.chunks[0].seq, one.requests) for one in (first, second)] == [
        (8, 0, ()),
        (8, 1, ()),
    ]
    assert straggler == Received(dropped=("old boot",))
    (back,) = came(receiver, [(26_000, frame(0))])
    assert back.chunks[0].boot_id == 7


def test_a_device_that_counts_anew_under_its_old_boot_id_is_believed_after_eight_frames() -> None:
    receiver = FrameReceiver(STREAMS)
    came(receiver, in_turn(*range(1000, 1020)))
    again = came(receiver, [(300_000 + due(k), frame(k, utc=False)) for k in range(10)])
    assert [bool(received.chunks) for received in again] == [False] * 7 + [True] * 3
    assert again[7].dropped == ("device restart",)
    assert [received.chunks[0].seq for received in again[7:]] == [7, 8, 9]


def test_a_stream_nobody_wants_is_left_out_and_a_frame_that_cannot_be_is_refused() -> None:
    receiver = FrameReceiver({3: ECG})
    assert came(receiver, [(0, frame(0, stream_id=9))]) == [Received(dropped=("unknown stream",))]
    (received,) = came(receiver, [(0, replace(frame(0), unit="g"))])
    assert "unit 'g' cannot be converted" in str(received.refused[0])
    (after,) = came(receiver, in_turn(1))
    assert after.chunks[0].seq == 1
    assert not after.requests


def test_a_frame_on_the_devices_own_clock_has_the_time_of_its_samples() -> None:
    receiver, jitter = FrameReceiver(STREAMS), [13, 40, 2, 31, 0, 22, 17]
    chunks = [
        received.chunks[0]
        for received in came(receiver, [(due(k) + jitter[k % 7], frame(k, utc=False)) for k in range(1, 1000)])
    ]
    errors_ms = [(chunk.t0_ns / 1000 - NOON_US) / 1000 - chunk.seq * FRAME_MS for chunk in chunks if chunk.seq]
    # A frame is sent once its last sample is there, which is 4 ms before the next one is due.
    assert max(abs(error) for error in errors_ms[10:]) <= 4.1


@given(st.integers(0, 1 << 32), st.integers(2, 60), st.booleans())
def test_whatever_the_link_does_each_frame_comes_out_at_most_once_and_the_asking_is_bounded(
    seed: int, sent: int, utc: bool
) -> None:
    rng = random.Random(seed)
    loss = rng.random()
    events = [(due(k) + rng.randrange(900), k) for k in range(sent) if rng.random() > loss]
    events += [(due(k) + rng.randrange(4000), k) for k in rng.choices(range(sent), k=rng.randrange(20))]
    receiver, out, asked = FrameReceiver(STREAMS), Counter[int | None](), Counter[int]()
    for ms, k in sorted(events):
        received = receiver.push(frame(k, utc=utc), at(ms))
        assert len(received.chunks) + len(received.dropped) == 1
        out.update(chunk.seq for chunk in received.chunks)
        asked.update(n for one in received.requests for n in range(one.first, one.first + one.count))
    assert max(out.values(), default=0) <= 1
    assert max(asked.values(), default=0) <= 2


@pytest.mark.parametrize("utc", [True, False])
def test_the_aligner_makes_of_any_loss_and_resending_a_signal_in_order(utc: bool) -> None:
    rng = np.random.default_rng(4)
    receiver, aligner, waiting = FrameReceiver(STREAMS), Aligner(), list[tuple[int, int]]()
    out: list[Chunk | Gap] = []
    for k in range(600):
        now = due(k) + int(rng.integers(0, 45))
        again = [(ms, n) for ms, n in waiting if ms <= now]
        waiting = [one for one in waiting if one not in again]
        pushed = [*again, *([] if rng.random() < 0.15 else [(now, k)])]
        for ms, n in pushed:
            received = receiver.push(frame(n, utc=utc), at(ms))
            out += [piece for chunk in received.chunks for piece in aligner.push(chunk)]
            waiting += [
                (now + int(rng.integers(30, 400)), n)
                for one in received.requests
                for n in range(one.first, one.first + one.count)
                if rng.random() < 0.9
            ]
    out += aligner.flush()
    numbers = [piece.seq for piece in out if isinstance(piece, Chunk) and piece.seq is not None]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 590
    ends = [piece.end_ns for piece in out]
    assert ends == sorted(ends)


@example(3_559_665_812, [-1.5, -1.5, -7200.0])
@given(
    st.integers(0, 1 << 32), st.lists(st.sampled_from([-7200.0, -3600.0, -1.5, -0.2, 0.05, 0.4, 3600.0]), max_size=4)
)
def test_steps_of_the_wall_clock_neither_reorder_nor_repeat_nor_lose_a_frame(seed: int, steps_s: list[float]) -> None:
    rng = random.Random(seed)
    set_at = sorted(rng.randrange(400) for _ in steps_s)
    receiver, aligner, steady, wall_ns, now_ms = FrameReceiver(STREAMS), Aligner(), SteadyUtc(), NOON_US * 1000, 0
    out: list[Chunk | Gap] = []
    for k in range(400):
        wall_ns += sum(round(step * 1e9) for at_k, step in zip(set_at, steps_s, strict=True) if at_k == k)
        now_ms = max(now_ms, due(k) + rng.randrange(45))
        arrival = steady.arrival(now_ms * MS, wall_ns + now_ms * MS)
        for chunk in receiver.push(frame(k, utc=False), arrival).chunks:
            assert chunk.end_ns <= arrival.utc_ns + 4 * MS
            out += aligner.push(chunk)
    out += aligner.flush()
    assert [piece.seq for piece in out if isinstance(piece, Chunk)] == list(range(400))
    assert sum(isinstance(piece, Gap) for piece in out) <= len(steps_s)
