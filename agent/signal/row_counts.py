"""How many are true in each row: whole numbers, eight bytes to a step, so that many rows are counted in a few calls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

_WORD = 8
_MOST = 255 * _WORD
"""Marks of a row at most: a byte of the sum of its words holds no more."""
_LOW = np.uint64(0x00FF00FF00FF00FF)
_ONES = np.uint64(0x0001000100010001)
_BYTE, _TOP = np.uint64(8), np.uint64(48)


def marks(*shape: int) -> Bools:
    """Room for the marks of rows, the last axis; beyond them, up to a whole number of words, nothing is marked."""
    wide = np.empty((*shape[:-1], -(-shape[-1] // _WORD) * _WORD), dtype=np.bool_)
    wide[..., shape[-1] :] = False
    return wide


def count(marked: Bools) -> Int64:
    """How many are true along the last axis of what `marks` made. Raises ValueError where that is too long to count."""
    if marked.shape[-1] % _WORD or marked.shape[-1] > _MOST or not marked.flags.c_contiguous:
        raise ValueError(f"rows of {marked.shape[-1]} marks are not whole words of at most {_MOST} marks")
    words = np.add.reduce(marked.view(np.uint64), axis=-1)
    pairs = (words & _LOW) + (words >> _BYTE & _LOW)
    total: Int64 = (pairs * _ONES >> _TOP).astype(np.int64)
    return total
