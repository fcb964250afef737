"""The last chunks of a stream, and no others, are known again."""

from __future__ import annotations

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.signal.chunks_taken import REMEMBERED_CHUNKS, ChunksTaken
from firmware_bridge.chunk import Chunk, Stream

STREAM = Stream("p", "d", "ecg", kind="ecg", unit="mV", rate_hz=250.0, channels=("II",))
KEYS = st.tuples(st.integers(0, 2), st.integers(0, 40))


def chunk(boot_id: int, t0_ns: int) -> Chunk:
    return Chunk(STREAM, t0_ns, np.zeros((1, 1), np.float32), None, boot_id)


@given(st.lists(KEYS, max_size=2 * REMEMBERED_CHUNKS), st.lists(KEYS, max_size=40))
def test_it_knows_what_a_list_of_the_last_knows(added: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    taken, last = ChunksTaken(), deque[tuple[int, int]](maxlen=REMEMBERED_CHUNKS)
    for key in added:
        assert (chunk(*key) in taken) == (key in last)
        taken.add(chunk(*key))
        last.append(key)
    for key in asked:
        assert (chunk(*key) in taken) == (key in last)


def test_all_of_them_are_remembered_and_not_one_more() -> None:
    taken = ChunksTaken()
    for t0_ns in range(REMEMBERED_CHUNKS + 1):
        taken.add(chunk(0, t0_ns))
    assert [t0_ns for t0_ns in range(REMEMBERED_CHUNKS + 1) if chunk(0, t0_ns) not in taken] == [0]


def test_a_boot_id_of_any_size_is_no_fault() -> None:
    taken = ChunksTaken()
    taken.add(chunk(1 << 70, 5))
    assert chunk(1 << 70, 5) in taken
