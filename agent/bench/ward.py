"""A ward of simulated people at one worker, with all that runs live but the connections to the broker."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent import garbage, heap
from agent.engine import Engine
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import shipped_models
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
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


def open_worker(folder: Path, streams: Sequence[Stream]) -> Worker:
    """All that runs live but the connections to the broker."""
    heap.one_heap()
    history = History(folder / FILE_NAME)
    persons = [Person(stream.patient, (stream,)) for stream in streams]
    engine = Engine(persons, shipped_models(), watch=history.watch)
    ring = Ring(folder / RECORDINGS, days=7, max_bytes=1 << 30)
    recorder = Recorder(engine, shipped_models(), ring, mains_hz=0, late_after_s=30)
    recorder.start()
    outbox = Outbox(folder / outbox_file.FILE_NAME)
    garbage.settle()
    return Worker(engine, outbox, Topics("bench"), wall=False, history=history, recorder=recorder)


def close_worker(worker: Worker) -> None:
    worker.outbox.close()
    if worker.recorder is not None:
        worker.recorder.close()


def signal_of(seed: int) -> list[Chunk]:
    return list(SimulatedPatient(seed, script=DEMO_SCRIPT[:6]).chunks(chunk_s=1.0))


def stream_of(k: int) -> Stream:
    return Stream(f"p{k}", f"d{k}", "ecg", kind="ecg", unit="mV", rate_hz=250.0, channels=("II",))


def chunk_of(signals: Sequence[list[Chunk]], streams: Sequence[Stream], k: int, second: int) -> Chunk:
    signal = signals[k % len(signals)]
    played = signal[(second + 7 * (k // len(signals))) % len(signal)]
    return replace(played, stream=streams[k], seq=second, t0_ns=signal[0].t0_ns + second * 1_000_000_000)


def decoded(payloads: Sequence[bytes], streams: Sequence[Stream], spent: defaultdict[str, float]) -> list[Delivery]:
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
