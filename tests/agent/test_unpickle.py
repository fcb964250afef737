"""A snapshot is read back whole, and a pickle that somebody made up runs nothing, whatever it names."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms.limits import Limits
from agent.alarms.local_time import LocalTime
from agent.engine import Engine
from agent.inference import Models
from agent.patient import Person
from agent.unpickle import unpickle
from firmware_bridge.chunk import Stream

WHO = Person("anna", (Stream("anna", "strap", "ecg", "ecg", "mV", 250.0, ("II",)),))


class Bomb:
    """Pickled, it is a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def calling(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls the dotted `name` of a module, as a writer of pickles would who has no such module."""
    out = io.BytesIO()
    out.write(b"\x80\x04")
    for text in (module, name):
        out.write(b"\x8c" + bytes([len(text)]) + text.encode())
    out.write(b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R.")
    return out.getvalue()


def test_a_snapshot_comes_back() -> None:
    engine, other = Engine([WHO], Models()), Engine([WHO], Models())
    assert other.restore("anna", engine.snapshot("anna"))


@pytest.mark.parametrize(
    "value",
    [
        *(Counter("aab"), defaultdict(list, a=[1]), deque([1, 2], 5), {1, 2}, frozenset({3})),
        *(np.float64(1.5), np.int16(3), WHO, Limits(), LocalTime("Europe/London", ((0, 3600),))),
    ],
    ids=repr,
)
def test_what_a_state_is_made_of_comes_back(value: object) -> None:
    assert unpickle(pickle.dumps(value)) == value


def test_arrays_come_back() -> None:
    kept = np.zeros(3, np.dtype([("t_ns", "i8"), ("mv", "f4", (2,))]))
    np.testing.assert_array_equal(unpickle(pickle.dumps(kept)), kept)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (os.system, ("touch {}",)),
        (subprocess.Popen, (["touch", "{}"],)),
        (eval, ("open('{}', 'w')",)),
        (exec, ("open('{}', 'w')",)),
        (open, ("{}", "w")),
        (getattr, (os, "system")),
        (Path, ("{}",)),
        (np.load, ("{}",)),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_call_is_refused_and_not_made(tmp_path: Path, call: Any, arguments: tuple[Any, ...], protocol: int) -> None:
    mark = tmp_path / "mark"
    told = [
        one.format(mark) if isinstance(one, str) else [x.format(mark) for x in one] if isinstance(one, list) else "os"
        for one in arguments
    ]
    with pytest.raises(pickle.UnpicklingError, match="is no part of a state"):
        unpickle(pickle.dumps(Bomb(call, *told), protocol))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("agent.worker", "Worker"),
        ("agent.broker", "LocalBroker"),
        ("agent.alarms.local_time", "hashlib.blake2s"),
        ("agent.alarms.local_time", "bisect_right"),
        ("agent.alarms.local_time", "LocalTime.__init__.__globals__"),
        ("agent.patient", "math.floor"),
        ("agent.patient", "np"),
        ("agent.signal.filters", "np.load"),
        ("agent.alarms.observation", "Enum"),
        ("numpy", "load"),
        ("builtins", "eval"),
        ("agent.alarms.", "x"),
        ("agent.signal..evil", "x"),
    ],
)
def test_no_way_round_through_our_own_modules(module: str, name: str) -> None:
    with pytest.raises((pickle.UnpicklingError, ImportError, AttributeError, ValueError)):
        unpickle(calling(module, name, "x"))


def test_a_snapshot_that_is_a_program_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    engine = Engine([WHO], Models())
    before = engine.patients["anna"]
    assert not engine.restore("anna", pickle.dumps(Bomb(os.system, f"touch {tmp_path}/mark")))
    assert engine.patients["anna"] is before
    assert not (tmp_path / "mark").exists()


@given(st.binary(max_size=60))
def test_any_bytes_raise_or_are_a_value(content: bytes) -> None:
    with contextlib.suppress(Exception):  # as its callers do
        unpickle(content)
