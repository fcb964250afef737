"""CPU time of the way from payload to disk, by stage, for any number of patients in one tick a second."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import garbage
from agent.engine import Engine
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import shipped_models
from agent.ingest.simulate import DEMO_SCRIPT, CgmReading, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.recorder.recorder import Recorder
from agent.recorder.ring import RECORDINGS, Ring
from agent.uplink import outbox_file
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics, input_topic
from agent.worker import Worker
from firmware_bridge.chunk import Chunk, Stream
from firmware_bridge.codecs import cbor_chunk

DIFFERENT_SIGNALS = 20
"""Simulated people; further patients hear the same signals, begun elsewhere in the script."""
WARM_UP_S = 5


def engine_cost(patients: int, *, seconds: int) -> dict[str, Any]:
    """CPU µs a patient and second of signal (250 Hz, 1 s chunks, CBOR in, all packs and rules, outbox on disk)."""
    signals = [_signal(k) for k in range(min(patients, DIFFERENT_SIGNALS))]
    streams = [_stream(k) for k in range(patients)]
    ticks = [
        [cbor_chunk.encode(_chunk(signals, streams, k, second)) for k in range(patients)]
        for second in range(WARM_UP_S + seconds)
    ]
    spent: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="vagus-bench-") as folder:
        worker = _worker(Path(folder), streams)
        engine = worker.engine
        _time_stages(engine, worker, spent)
        began_s = 0.0
        for second, payloads in enumerate(ticks):
            if second == WARM_UP_S:
                spent.clear()
                began_s = time.process_time()
            deliveries = _decoded(payloads, streams, spent)
            worker.tick(deliveries, None)
        total_s = time.process_time() - began_s
        _close(worker)
    per_patient_second = total_s / (patients * seconds)
    inner = ("condition", "classify", "ask", "decide")
    stages = {name: 1e6 * spent[name] / (patients * seconds) for name in ("decode", *inner, "commit")}
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
        worker = _worker(Path(folder), streams)
        turns = [_payloads(courses, turn, patients) for turn in range(WARM_UP_S + readings)]
        began_s = 0.0
        for turn, payloads in enumerate(turns):
            if turn == WARM_UP_S:
                began_s = time.process_time()
            worker.tick(_decoded(payloads, streams, defaultdict(float)), None)
        total_s = time.process_time() - began_s
        _close(worker)
    return 1e6 * total_s / (patients * readings)


def _payloads(courses: Sequence[Sequence[CgmReading]], turn: int, patients: int) -> list[bytes]:
    own = [cbor_chunk.encode(replace(next(cgm_chunks([course[turn]])), seq=turn)) for course in courses]
    return [own[k % len(own)] for k in range(patients)]


def _worker(folder: Path, streams: Sequence[Stream]) -> Worker:
    """All that runs live but the connections to the broker."""
    history = History(folder / FILE_NAME)
    persons = [Person(stream.patient, (stream,)) for stream in streams]
    engine = Engine(persons, shipped_models(), watch=history.watch)
    ring = Ring(folder / RECORDINGS, days=7, max_bytes=1 << 30)
    recorder = Recorder(engine, shipped_models(), ring, mains_hz=0, late_after_s=30)
    recorder.start()
    outbox = Outbox(folder / outbox_file.FILE_NAME)
    garbage.settle()
    return Worker(engine, outbox, Topics("bench"), wall=False, history=history, recorder=recorder)


def _close(worker: Worker) -> None:
    worker.outbox.close()
    if worker.recorder is not None:
        worker.recorder.close()


def _signal(seed: int) -> list[Chunk]:
    return list(SimulatedPatient(seed, script=DEMO_SCRIPT[:6]).chunks(chunk_s=1.0))


def _stream(k: int) -> Stream:
    return Stream(f"p{k}", f"d{k}", "ecg", kind="ecg", unit="mV", rate_hz=250.0, channels=("II",))


def _chunk(signals: Sequence[list[Chunk]], streams: Sequence[Stream], k: int, second: int) -> Chunk:
    signal = signals[k % len(signals)]
    played = signal[(second + 7 * (k // len(signals))) % len(signal)]
    return replace(played, stream=streams[k], seq=second, t0_ns=signal[0].t0_ns + second * 1_000_000_000)


def _decoded(payloads: Sequence[bytes], streams: Sequence[Stream], spent: defaultdict[str, float]) -> list[Delivery]:
    began_s = time.thread_time()
    deliveries = [
        Delivery(
            chunks=tuple(cbor_chunk.decode(payload, stream)),
            topic=input_topic(stream.device, stream.channel),
            content_type="application/cbor",
            payload=payload,
            received_ns=0,
            ack=_nothing,
        )
        for payload, stream in zip(payloads, streams, strict=True)
    ]
    spent["decode"] += time.thread_time() - began_s
    return deliveries


def _nothing() -> None: ...


def _time_stages(engine: Engine, worker: Worker, spent: defaultdict[str, float]) -> None:
    """Wrap the stages with a CPU clock."""

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **keywords: Any) -> Any:
            began_s = time.thread_time()
            try:
                return call(*args, **keywords)
            finally:
                spent[name] += time.thread_time() - began_s

        return wrapped

    engine._condition = timed("condition", engine._condition)  # type: ignore[method-assign]
    engine._classify = timed("classify", engine._classify)  # type: ignore[method-assign]
    engine._judge = timed("ask", engine._judge)  # type: ignore[method-assign]
    engine._ask = timed("ask", engine._ask)  # type: ignore[method-assign]
    worker._commit = timed("commit", worker._commit)  # type: ignore[method-assign]
    engine._decide = timed("decide", engine._decide)  # type: ignore[method-assign]
