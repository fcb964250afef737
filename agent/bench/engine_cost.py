"""CPU time of the way from payload to disk, by stage, for any number of patients in one tick a second."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.bench.ward import DIFFERENT_SIGNALS, chunk_of, close_worker, decoded, open_worker, signal_of, stream_of
from agent.ingest.simulate import CgmReading, cgm_chunks, cgm_readings
from firmware_bridge.codecs import cbor_chunk

WARM_UP_S = 5


def engine_cost(patients: int, *, seconds: int) -> dict[str, Any]:
    """CPU µs a patient and second of signal (250 Hz, 1 s chunks, CBOR in, all packs and rules, outbox on disk)."""
    signals = [signal_of(k) for k in range(min(patients, DIFFERENT_SIGNALS))]
    streams = [stream_of(k) for k in range(patients)]
    ticks = [
        [cbor_chunk.encode(chunk_of(signals, streams, k, second)) for k in range(patients)]
        for second in range(WARM_UP_S + seconds)
    ]
    spent: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as folder:
        worker = open_worker(Path(folder), streams)
        worker.engine.stage = partial(_timed, spent)
        began_s = 0.0
        for second, payloads in enumerate(ticks):
            if second == WARM_UP_S:
                spent.clear()
                began_s = time.process_time()
            deliveries = decoded(payloads, streams, spent)
            worker.tick(deliveries, None)
        total_s = time.process_time() - began_s
        close_worker(worker)
    per_patient_second = total_s / (patients * seconds)
    spent["ask"] += spent["judge"]
    inner = ("align", "condition", "classify", "ask", "decide", "explain")
    stages = {name: 1e6 * spent[name] / (patients * seconds) for name in ("decode", *inner, "commit", "keep")}
    stages["other"] = 1e6 * per_patient_second - sum(stages.values())
    return {
        "us_per_patient_second": 1e6 * per_patient_second,
        "streams_per_core": 1 / per_patient_second,
        "stages_us": stages,
    }


def reading_cost(patients: int, *, readings: int = 48) -> float:
    """CPU µs for one glucose reading, from payload to disk, with `patients` of them in a tick."""
    courses = [cgm_readings(k) for k in range(min(patients, DIFFERENT_SIGNALS))]
    streams = [replace(next(cgm_chunks(courses[0])).stream, patient=f"p{k}", device=f"d{k}") for k in range(patients)]
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as folder:
        worker = open_worker(Path(folder), streams)
        turns = [_payloads(courses, turn, patients) for turn in range(WARM_UP_S + readings)]
        began_s = 0.0
        for turn, payloads in enumerate(turns):
            if turn == WARM_UP_S:
                began_s = time.process_time()
            worker.tick(decoded(payloads, streams, defaultdict(float)), None)
        total_s = time.process_time() - began_s
        close_worker(worker)
    return 1e6 * total_s / (patients * readings)


def _payloads(courses: Sequence[Sequence[CgmReading]], turn: int, patients: int) -> list[bytes]:
    own = [cbor_chunk.encode(replace(next(cgm_chunks([course[turn]])), seq=turn)) for course in courses]
    return [own[k % len(own)] for k in range(patients)]


@contextmanager
def _timed(spent: defaultdict[str, float], name: str) -> Iterator[None]:
    """CPU time of a part of a tick."""
    began_s = time.thread_time()
    try:
        yield
    finally:
        spent[name] += time.thread_time() - began_s
