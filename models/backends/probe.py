"""Which runtime a pack really runs on: every candidate is tried in another process before this one depends on it.

A provider can be absent with no more than a warning, fail to compile, hang, crash the process or answer wrongly. Each
is survived, told by a typed reason, and kept from being tried again for a day: by the network's hash, the runtime and
the versions of what runs it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.backends import ACCELERATORS, CPU, RUNTIMES, Backend, Runtime, open_runtime
from models.manifest import PackError
from models.pack import ModelPack, difference, expected, verify

log = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]

QUARANTINE_NS = 24 * 3600 * 1_000_000_000
"""How long a runtime that failed is not tried again."""
QUARANTINE_FILE = "runtimes.json"
CACHE_FOLDER = "runtime-cache"
_DETAIL = 300
_DYING_S = 2.0
"""A process that hangs in a driver does not even die: the agent starts without it."""
_AUTO = "auto"


class Reason(StrEnum):
    """Why a runtime does not run a pack."""

    ABSENT = "absent"
    """It is not on this machine."""
    NO_WEIGHTS = "no weights"
    """The pack has no file for it."""
    FAILED = "failed"
    """It said that it cannot."""
    CRASHED = "crashed"
    """Its process was killed by a signal, such as a segmentation fault."""
    TIMED_OUT = "timed out"
    """It gave no answer in time."""
    WRONG = "wrong answers"
    """Its probabilities differ from those that the same file gave where it was made."""
    GARBAGE = "garbage"
    """What it gave is not an answer at all."""
    QUARANTINED = "quarantined"
    """It failed not long ago."""


LASTING = frozenset({Reason.FAILED, Reason.CRASHED, Reason.TIMED_OUT, Reason.WRONG, Reason.GARBAGE})
"""Reasons for which a runtime is not tried again for a while."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A runtime that does not run the pack."""

    runtime: str
    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.runtime}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What runs a pack."""

    pack: ModelPack
    backend: Backend | None
    """None where not even the CPU gives the pack's golden answers: it must not be used."""
    refused: tuple[Refusal, ...]

    @property
    def runtime(self) -> str | None:
        """The name of what really runs it."""
        return None if self.backend is None else self.backend.name


@dataclass(frozen=True, slots=True)
class _Failure:
    """One line of the quarantine."""

    sha256: str
    runtime: str
    version: str
    reason: str
    detail: str
    at_ns: int


def choose(
    packs: Sequence[ModelPack],
    preferred: str,
    state_dir: Path | None,
    now_ns: int,
    runtimes: Mapping[str, Runtime] = RUNTIMES,
) -> list[Choice]:
    """For each pack the first runtime that passes: the one named `preferred`, else an accelerator, else the CPU.

    `preferred`: a name in `runtimes`, or "auto" for whatever accelerator is there. `state_dir` holds what failed and
    compiled networks; without one, neither is kept. `now_ns` is the wall clock. The CPU is not tried elsewhere first,
    and is always checked on the golden vectors. Raises ValueError on an unknown name.
    """
    if preferred != _AUTO and preferred not in runtimes:
        raise ValueError(f"no runtime is called {preferred!r} (there are: {', '.join(runtimes)})")
    candidates = [name for name in ACCELERATORS if name in runtimes] if preferred == _AUTO else [preferred]
    failures = _Quarantine(state_dir, now_ns)
    cache = None if state_dir is None else state_dir / CACHE_FOLDER
    choices = []
    for pack in packs:
        refused: list[Refusal] = []
        backend = _first(pack, [runtimes[name] for name in candidates if name != CPU.name], failures, cache, refused)
        if preferred == _AUTO:
            refused = [one for one in refused if one.reason not in {Reason.ABSENT, Reason.NO_WEIGHTS}]
        if backend is None:
            backend = _on_cpu(pack, refused)
        choices.append(Choice(pack, backend, tuple(refused)))
    return choices


def quarantine(pack: ModelPack, runtime: Runtime, detail: str, state_dir: Path | None, now_ns: int) -> Refusal:
    """Note that a runtime which had passed failed while it ran: it is not tried again for a while."""
    refusal = Refusal(runtime.name, Reason.FAILED, f"while running: {detail}"[:_DETAIL])
    _Quarantine(state_dir, now_ns).add(pack, runtime, refusal)
    return refusal


def probe(pack: ModelPack, runtime: Runtime, cache: Path | None = None) -> Refusal | None:
    """Try `runtime` on the pack's golden vectors in a process of its own; None when it passed.

    The process sees the code of this one, has no terminal, and is killed with all it started when time is up.
    """
    if reason := _absent(pack, runtime):
        return reason
    with tempfile.TemporaryDirectory(prefix="vagus-probe-") as scratch:
        result, said = Path(scratch) / "result.npz", Path(scratch) / "stderr"
        command = [sys.executable, "-P", "-m", "models.backends.child", str(pack.path.resolve())]
        command += [pack.manifest.weights[runtime.weights].sha256, runtime.name, runtime.module, runtime.weights]
        command += [str(result), *([str(cache)] if cache else [])]
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)},
                start_new_session=True,
            )
            try:
                code = process.wait(runtime.timeout_s)
            except subprocess.TimeoutExpired:
                return Refusal(runtime.name, Reason.TIMED_OUT, f"no answer within {runtime.timeout_s:g} s")
            finally:
                _end(process)
        if code < 0:
            return Refusal(runtime.name, Reason.CRASHED, signal.Signals(-code).name)
        if code:
            return Refusal(runtime.name, Reason.FAILED, _last_line(said))
        return _judge(pack, runtime, result)


def _first(
    pack: ModelPack, candidates: Sequence[Runtime], failures: _Quarantine, cache: Path | None, refused: list[Refusal]
) -> Backend | None:
    """The network on the first candidate that passes; what does not is added to `refused`."""
    for runtime in candidates:
        refusal = _absent(pack, runtime) or failures.holds(pack, runtime)
        if refusal is None:
            refusal = probe(pack, runtime, cache)
            if refusal is None:
                try:
                    return open_runtime(pack, runtime, cache)
                except Exception as error:  # what opened elsewhere a moment ago
                    refusal = Refusal(runtime.name, Reason.FAILED, str(error)[:_DETAIL])
            failures.add(pack, runtime, refusal)
        refused.append(refusal)
    return None


def _on_cpu(pack: ModelPack, refused: list[Refusal]) -> Backend | None:
    try:
        backend = open_runtime(pack, CPU)
        verify(pack, backend)
    except PackError as error:
        refused.append(Refusal(CPU.name, Reason.FAILED, error.reason))
        return None
    return backend


def _absent(pack: ModelPack, runtime: Runtime) -> Refusal | None:
    if reason := runtime.code.missing(runtime.name):
        return Refusal(runtime.name, Reason.ABSENT, reason)
    if runtime.weights not in pack.weights:
        return Refusal(runtime.name, Reason.NO_WEIGHTS, f"the pack has no {runtime.weights} weights")
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and all that it started: whatever it left behind has no business here."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_DYING_S)
    except subprocess.TimeoutExpired:
        log.warning("process %d hangs in a driver and cannot be ended", process.pid)


def _last_line(said: Path) -> str:
    lines = said.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
    return lines[-1][-_DETAIL:] if lines else "it gave no reason"


def _judge(pack: ModelPack, runtime: Runtime, result: Path) -> Refusal | None:
    try:
        with np.load(result, allow_pickle=False) as arrays:
            together, alone = arrays["together"], arrays["alone"]
    except Exception as error:  # whatever a file of any bytes can raise
        return Refusal(runtime.name, Reason.GARBAGE, f"its answer cannot be read: {type(error).__name__}")
    wanted = expected(pack, runtime.weights)
    if together.shape != wanted.shape or together.dtype != np.float32 or not np.isfinite(together).all():
        return Refusal(runtime.name, Reason.GARBAGE, f"gave {together.dtype} {together.shape} or non-finite logits")
    farthest = difference(pack, together, wanted)
    if farthest > runtime.tolerance:
        detail = f"probabilities differ by {farthest:.3f}, allowed {runtime.tolerance:g}"
        return Refusal(runtime.name, Reason.WRONG, detail)
    if alone.shape != (1, wanted.shape[1]) or alone.tobytes() != together[:1].tobytes():
        return Refusal(runtime.name, Reason.WRONG, "a row's answer depends on the batch it is in")
    return None


class _Quarantine:
    """What failed, in a small file that a damaged or missing state folder costs nothing but its memory."""

    def __init__(self, state_dir: Path | None, now_ns: int) -> None:
        self._path = None if state_dir is None else state_dir / QUARANTINE_FILE
        self._now_ns = now_ns
        self._failures = [one for one in self._read() if abs(now_ns - one.at_ns) < QUARANTINE_NS]

    def holds(self, pack: ModelPack, runtime: Runtime) -> Refusal | None:
        key = _key(pack, runtime)
        for failure in self._failures:
            if (failure.sha256, failure.runtime, failure.version) == key:
                hours = max(1, round((QUARANTINE_NS - abs(self._now_ns - failure.at_ns)) / 3.6e12))
                detail = f"{failure.reason}: {failure.detail}; tried again in about {hours} h"
                return Refusal(runtime.name, Reason.QUARANTINED, detail)
        return None

    def add(self, pack: ModelPack, runtime: Runtime, refusal: Refusal) -> None:
        if refusal.reason not in LASTING or self._path is None:
            return
        self._failures.append(_Failure(*_key(pack, runtime), refusal.reason.value, refusal.detail, self._now_ns))
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps([asdict(one) for one in self._failures], indent=1), encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written, %s is tried again at the next start: %s", self._path, refusal, error)

    def _read(self) -> list[_Failure]:
        if self._path is None:
            return []
        try:
            return [_Failure(**one) for one in json.loads(self._path.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s cannot be read, runtimes are tried afresh: %s", self._path, error)
            return []


def _key(pack: ModelPack, runtime: Runtime) -> tuple[str, str, str]:
    return pack.manifest.weights[runtime.weights].sha256, runtime.name, runtime.code.version(runtime.name)
