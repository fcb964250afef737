"""The last samples of a run are those that came, wherever in their room they lie."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.signal.last_samples import LastSamples


@given(
    keep=st.integers(1, 40),
    steps=st.lists(st.lists(st.integers(0, 90), max_size=3), max_size=30),
    channels=st.sampled_from([None, 1, 2]),
)
def test_what_is_held_is_what_came(keep: int, steps: list[list[int]], channels: int | None) -> None:
    """Steps of pieces of any length, with a `trim` after each step."""
    held = LastSamples(keep)
    whole = np.empty((0,) if channels is None else (0, channels), np.float32)
    for pieces in steps:
        kept_from = held.first
        for n in pieces:
            piece = np.arange(len(whole), len(whole) + n, dtype=np.float32)
            piece = piece if channels is None else np.outer(piece, np.arange(1, channels + 1)).astype(np.float32)
            whole = np.concatenate((whole, piece))
            held.append(piece)
            assert held.count == len(whole)
            assert np.array_equal(held.read(kept_from, held.count).ravel(), whole[kept_from:].ravel())
        held.trim()
        assert held.first == max(kept_from, len(whole) - keep)
        assert np.array_equal(held.read(held.first, held.count).ravel(), whole[held.first :].ravel())


def test_a_long_piece_s_room_is_given_up() -> None:
    held = LastSamples(100)
    held.append(np.zeros(100_000, np.float32))
    held.trim()
    assert len(held.room) == 100


def test_no_room_is_made_for_pieces_of_a_size() -> None:
    held = LastSamples(100)
    for _ in range(5):
        held.append(np.zeros(50, np.float32))
        held.trim()
    room = held.room
    for _ in range(20):
        held.append(np.zeros(50, np.float32))
        held.trim()
    assert held.room is room


def test_it_survives_pickling() -> None:
    held = LastSamples(10)
    held.append(np.arange(25, dtype=np.float32))
    held.trim()
    restored = pickle.loads(pickle.dumps(held))  # noqa: S301 - our own bytes
    for one in (held, restored):
        one.append(np.arange(25, 32, dtype=np.float32))
    assert restored.read(22, 32).tolist() == held.read(22, 32).tolist() == list(range(22, 32))
