"""What one patient costs in memory, part by part, and what a process grows by for each further one.

The parts are counted object by object; the growth is the process's own, and has in it what the parts cannot say: holes
between objects, and what the allocator keeps.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from agent.bench.figures import finish, head, machine, row
from agent.bench.live import rss_mb
from agent.bench.ward import DIFFERENT_SIGNALS, chunk_of, close_worker, decoded, open_worker, signal_of, stream_of
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.worker import Worker
from firmware_bridge.chunk import Chunk, Stream
from firmware_bridge.codecs import cbor_chunk

PATIENTS = 300
GOAL_KB = 100.0
A_TICK = 64
"""Patients in one tick, as in life: a ward's sensors do not send at once."""
SECONDS = 300
"""Of signal before anything is counted: all buffers are as long as they become."""
LOOKED_AT = 5
"""Patients whose parts are counted: the parts are their mean."""
CALM, UNWELL = (Episode(Rhythm.SINUS, 22.0),), 10
"""What most patients play; every tenth has an alarm every few seconds, whose evidence waits for the history."""
_NOBODY_S = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""Code is there once, however many patients there are."""


def memory_command(args: argparse.Namespace) -> int:
    """Only what a patient takes of memory: print it part by part, and write JSON where asked; 1 past the goal."""
    figures = patient_memory(PATIENTS)
    sys.stdout.write(f"memory of a patient after some minutes of ECG, on {machine()}\n")
    head(("part", "kB"))
    for name, kb in figures["kb_by_part"].items():
        row((name, f"{kb:.1f}"))
    row(("all of these", f"{figures['kb_counted']:.1f}"))
    kept = figures["kb_resident"] <= GOAL_KB
    sys.stdout.write(f"the process grows by {figures['kb_resident']:.0f} kB for each of {PATIENTS} patients; ")
    sys.stdout.write(f"goal {GOAL_KB:.0f} kB: {'kept' if kept else 'MISSED'}\n")
    finish("memory", figures, args)
    return 0 if kept else 1


def patient_memory(patients: int) -> dict[str, Any]:
    """kB that a patient's state holds, by part, and kB of resident memory for each of `patients` further ones.

    As many as make a tick are there before: they bring the working memory of a tick with them.
    """
    streams = [stream_of(k) for k in range(patients)]
    signals = [_signal(k) for k in range(DIFFERENT_SIGNALS)]
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as folder:
        few = _after_minutes(Path(folder) / "few", streams[:A_TICK], signals)
        before_mb = _resident_mb()
        ward = _after_minutes(Path(folder) / "ward", streams, signals)
        grown_mb = _resident_mb() - before_mb
        looked_at = [stream.patient for stream in streams[-LOOKED_AT:]]
        parts = sum((patient_parts(ward, patient) for patient in looked_at), Counter[str]())
        close_worker(ward)
        close_worker(few)
    return {
        "kb_by_part": {name: size / 1000 / len(looked_at) for name, size in parts.most_common()},
        "kb_counted": parts.total() / 1000 / len(looked_at),
        "kb_resident": 1000 * grown_mb / patients,
    }


def patient_parts(worker: Worker, patient: str) -> Counter[str]:
    """Bytes that belong to one patient, and to no other, by the part of the state that holds them."""
    others = _seen(one for name, one in worker.engine.patients.items() if name != patient)
    sizes: Counter[str] = Counter()
    for name, part in _parts(worker.engine.patients[patient]):
        sizes[name] += sum(sys.getsizeof(one) for one in _objects([part], others))
    return sizes


def _parts(state: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a patient's state, and in place of its track the fields of that."""
    for field in fields(state):
        value = getattr(state, field.name)
        if field.name == "track" and is_dataclass(value):
            yield from ((f"track.{one.name}", getattr(value, one.name)) for one in fields(value))
        else:
            yield field.name, value


def _seen(roots: Iterable[Any]) -> set[int]:
    seen: set[int] = set()
    for _ in _objects(roots, seen):
        pass
    return seen


def _objects(roots: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    """All that hangs on the roots and was not `seen`, which from then on it is."""
    stack = list(roots)
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, _NOBODY_S):
            continue
        seen.add(id(one))
        yield one
        stack += gc.get_referents(one)
        if isinstance(one, np.ndarray) and one.base is not None:
            stack.append(one.base)


def _signal(k: int) -> list[Chunk]:
    return signal_of(k) if k % UNWELL == 0 else list(SimulatedPatient(k, script=CALM).chunks(chunk_s=1.0))


def _after_minutes(folder: Path, streams: Sequence[Stream], signals: Sequence[list[Chunk]]) -> Worker:
    """A worker that has heard its patients for SECONDS."""
    folder.mkdir()
    worker = open_worker(folder, streams)
    for second in range(SECONDS):
        for start in range(0, len(streams), A_TICK):
            heard = range(start, min(start + A_TICK, len(streams)))
            payloads = [cbor_chunk.encode(chunk_of(signals, streams, k, second)) for k in heard]
            worker.tick(decoded(payloads, [streams[k] for k in heard], defaultdict(float)), None)
    return worker


def _resident_mb() -> float:
    gc.collect()
    return rss_mb(os.getpid())
