"""Runtimes that misbehave, as models.backends.RuntimeModule has it: each name is one way to do so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.backends import Backend, Runtime, open_backend
from models.pack import ModelPack

OPENED = "VAGUS_TEST_OPENED"
"""Environment variable: a file to which each opening adds a line, so that a test can count."""
VERSION = "VAGUS_TEST_VERSION"


def missing(name: str) -> str:
    return "there is no such board" if name == "absent" else ""


def version(name: str) -> str:
    return os.environ.get(VERSION, "driver 1")


def open_network(pack: ModelPack, runtime: Runtime, cache: Path | None) -> Backend:
    if OPENED in os.environ:
        with Path(os.environ[OPENED]).open("a", encoding="utf-8") as file:
            file.write(f"{runtime.name} {pack.id} {os.getpid()}\n")
    if runtime.name == "raises":
        raise RuntimeError("the compiler does not like this network")
    if runtime.name == "fails only here" and os.environ.get("VAGUS_TEST_PARENT") == str(os.getpid()):
        raise RuntimeError("not in this process")
    return Misbehaving(runtime.name, open_backend(pack))


class Misbehaving:
    def __init__(self, name: str, real: Backend) -> None:
        self.name = name
        self._real = real

    def run(self, inputs: dict[str, np.ndarray]) -> Any:
        return {**WAYS, "good": lambda logits: logits}.get(self.name, lambda logits: logits)(self._real.run(inputs))


def _segfault(_: np.ndarray) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(_: np.ndarray) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)


def _exit(_: np.ndarray) -> Any:
    os._exit(0)


def _memory(_: np.ndarray) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _crowd(logits: np.ndarray) -> Any:
    return logits + np.float32(1e-6) * len(logits)


WAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "segfaults": _segfault,
    "hangs": _hang,
    "killed": _memory,
    "answers nothing": _exit,
    "wrong": lambda logits: logits[:, ::-1].copy(),
    "nan": lambda logits: logits * np.float32("nan"),
    "too few": lambda logits: logits[:, :-1],
    "other type": lambda logits: logits.astype(np.float64),
    "objects": lambda logits: np.array([{"a": 1}] * len(logits), dtype=object),
    "minds its company": _crowd,
}
