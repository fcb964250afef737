"""What becomes of frames on command and by chance."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.emulator import Faults, FrameFault

FRAMES = st.lists(st.binary(min_size=1, max_size=30), max_size=60)


def sent(faults: Faults, frames: list[bytes]) -> list[bytes]:
    return [one for frame in frames for one in faults.frames(frame)]


@given(FRAMES)
def test_without_a_fault_everything_is_sent_as_it_is(frames: list[bytes]) -> None:
    assert sent(Faults(), frames) == frames


@given(FRAMES, st.integers(0, 99))
def test_reordering_and_doubling_lose_nothing_and_invent_nothing(frames: list[bytes], seed: int) -> None:
    faults = Faults(seed)
    faults.by_chance({FrameFault.REORDER: 0.2, FrameFault.DUPLICATE: 0.2})
    came = sent(faults, frames)
    faults.by_chance({})
    came += faults.frames(b"the end")  # behind which what was held back comes
    assert set(came) == {*frames, b"the end"}
    assert Counter(came).total() == len(frames) + 1 + faults.counts[FrameFault.DUPLICATE]


@given(FRAMES, st.integers(0, 99))
def test_chance_is_the_same_each_time(frames: list[bytes], seed: int) -> None:
    runs = []
    for _ in range(2):
        faults = Faults(seed)
        faults.by_chance({FrameFault.CORRUPT: 0.3, FrameFault.LOSE: 0.3})
        runs.append(sent(faults, frames))
    assert runs[0] == runs[1]


@given(st.binary(min_size=1, max_size=300), st.integers(0, 99))
def test_a_corrupt_frame_is_never_the_one_that_was_to_be_sent(frame: bytes, seed: int) -> None:
    faults = Faults(seed)
    faults.once(FrameFault.CORRUPT)
    assert faults.frames(frame) != [frame]


def test_silence_swallows_all_and_keeps_the_commands() -> None:
    faults = Faults()
    faults.once(FrameFault.LOSE)
    faults.silent = True
    assert sent(faults, [b"a", b"b"]) == []
    faults.silent = False
    assert sent(faults, [b"a", b"b"]) == [b"b"]
