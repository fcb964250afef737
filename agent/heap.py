"""How the C library hands out memory: from one heap, so that what one thread has freed serves the others too.

Left alone, glibc opens a heap for each thread, and what the worker frees is of no use to the threads beside it. Under
the interpreter's lock no two of them ask at once anyway. Other C libraries have no such setting, and need none.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def one_heap() -> bool:
    """Ask for it; before threads are started. False where the C library does not know of it."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    except (AttributeError, OSError, TypeError):
        return False
