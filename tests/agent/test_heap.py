"""One heap for all threads where the C library can, and no fault where it cannot."""

from __future__ import annotations

import ctypes

import pytest

from agent.heap import one_heap


def test_asking_again_is_no_fault() -> None:
    assert one_heap() == one_heap()


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_a_c_library_that_knows_of_no_heaps_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def no_library(_name: object) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert not one_heap()
