"""Marks counted eight at a time are counted as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.signal.row_counts import count, marks


@given(st.integers(1, 2040), st.integers(0, 6), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_rows_are_counted_as_one_by_one(width: int, rows: int, share: float) -> None:
    marked = marks(2, rows, width)
    marked[..., :width] = np.random.default_rng(width).random((2, rows, width)) < share
    assert np.array_equal(count(marked), marked.sum(axis=-1))


def test_what_a_byte_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="2048 marks"):
        count(marks(1, 2041))
    with pytest.raises(ValueError, match="whole words"):
        count(np.ones((2, 12), dtype=np.bool_))
