"""Recordings through the same engine that runs live: what `vagus replay`, `annotate` and `evaluate` are made of."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import numpy as np

from agent.alarms.alert import AlertEvent
from agent.alarms.limits import Limits
from agent.alarms.observation import Beat, BeatStatus, Observation, Prediction, Quality
from agent.engine import Engine
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import Models, shipped_models
from agent.ingest.glucose_csv import RECORDED, read_glucose_csv
from agent.ingest.replay import EPOCH_NS, RecordStream, record_chunks, record_streams
from agent.ingest.wfdb import Header, RecordError, read_header
from agent.patient import Person
from agent.signal.beats import CONFIRM_S
from firmware_bridge.chunk import NS_PER_S, Chunk

HELD_S = 1.5
"""Longer than any beat waits to be classified and gated."""


def replay(
    records: Sequence[Path],
    models: Models,
    *,
    chunk_s: float = 1.0,
    speed: float | None = None,
    mains_hz: float = 0.0,
    limits: Limits | None = None,
    watch: Callable[[str, Observation], None] | None = None,
    chunks_of: Callable[[Path, RecordStream], Iterator[Chunk]] | None = None,
) -> Iterator[AlertEvent]:
    """The alert events of one or more recordings, each a patient of its own, side by side in the same ticks.

    A recording is a WFDB record, whose ECG and pulse (PPG, arterial pressure) are streams side by side, or a `.csv`
    file of glucose readings (agent.ingest.glucose_csv), of which a tick takes one. `speed` None is as fast as it can,
    1 real time. `watch` is shown all that is observed. `chunks_of` cuts each stream of a record in its own way. Raises
    agent.ingest.wfdb.RecordError or OSError on one that cannot be read, ValueError where readings minutes apart are to
    be played at a speed.
    """
    if speed and any(is_glucose(path) for path in records):
        raise ValueError("readings minutes apart are played as fast as can be: leave --speed out")
    persons: list[Person] = []
    cut: list[Iterator[Chunk]] = []
    for path in records:
        if is_glucose(path):
            file = read_glucose_csv(path)
            sensor = file.stream(path.stem)
            persons.append(Person(path.stem, (sensor,), limits or Limits(local=RECORDED)))
            cut.append(file.chunks(sensor))
            continue
        streams = streams_of(read_header(path), path.name)
        persons.append(Person(path.name, tuple(one.stream for one in streams), limits or Limits()))
        # The pulse comes before the ECG that may ask for it: then long chunks say the same as short ones.
        streams = sorted(streams, key=lambda one: one.stream.kind == "ecg")
        cut += [chunks_of(path, one) if chunks_of else record_chunks(path, one, chunk_s=chunk_s) for one in streams]
    engine = Engine(persons, models, mains_hz=mains_hz, watch=watch)
    began_s = time.monotonic()
    for tick, chunks in enumerate(zip_longest(*cut)):
        if speed:
            time.sleep(max(0.0, began_s + (tick + 1) * chunk_s / speed - time.monotonic()))
        yield from engine.step([chunk for chunk in chunks if chunk is not None])


def is_glucose(path: Path) -> bool:
    """Whether a recording is a file of glucose readings."""
    return path.suffix == ".csv"


def streams_of(header: Header, patient: str) -> list[RecordStream]:
    """A record's ECG and what it holds of the pulse; raises RecordError where it has no ECG."""
    ecg = ecg_of(header, patient)
    return [ecg, *(stream for kind, stream in record_streams(header, patient).items() if kind != "ecg")]


def ecg_of(header: Header, patient: str, device: str = "replay") -> RecordStream:
    """A record's ECG as the stream of `patient`; raises RecordError where it has none."""
    stream = record_streams(header, patient, device).get("ecg")
    if stream is None:
        raise RecordError(header.path, "none of its signals is in volts: no ECG to replay")
    return stream


@dataclass(slots=True)
class Observed:
    """What the engine saw in one recording."""

    beats: list[Beat] = field(default_factory=list)
    """Confirmed beats in the order of their R peaks."""
    provisional_latency_s: list[float] = field(default_factory=list)
    """From R peak to the provisional beat; one first heard of when it was confirmed, or by search-back, is none."""
    seconds: list[Quality] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    events: list[AlertEvent] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of the time that passed the quality gate."""
        return sum(second.good for second in self.seconds) / len(self.seconds) if self.seconds else 0.0


def observe(record: Path, models: Models, *, mains_hz: float = 0.0) -> Observed:
    """Stream one record through the engine in chunks of 10 s and keep all that it saw.

    At the end its last sample is held for HELD_S: the last beats are then decided as they would be in a longer record.
    """
    seen = Observed()

    def watch(_patient: str, observation: Observation) -> None:
        match observation:
            case Beat(status=BeatStatus.CONFIRMED):
                seen.beats.append(observation)
            case Beat(status=BeatStatus.PROVISIONAL) if observation.at_ns - observation.r_ns < CONFIRM_S * NS_PER_S:
                seen.provisional_latency_s.append((observation.at_ns - observation.r_ns) / NS_PER_S)
            case Quality():
                seen.seconds.append(observation)
            case Prediction():
                seen.predictions.append(replace(observation, inputs=None))
            case _:
                pass

    seen.events = list(replay([record], models, mains_hz=mains_hz, watch=watch, chunks_of=_with_held_end))
    return seen


def _with_held_end(record: Path, stream: RecordStream) -> Iterator[Chunk]:
    chunk: Chunk | None = None
    for chunk in record_chunks(record, stream, chunk_s=10.0):
        yield chunk
    if chunk is not None and chunk.seq is not None:
        held = np.repeat(chunk.samples[-1:], round(HELD_S * chunk.stream.rate_hz), axis=0)
        yield replace(chunk, t0_ns=chunk.end_ns, seq=chunk.seq + 1, samples=held)


def replay_command(args: argparse.Namespace) -> int:
    """`vagus replay`: the alerts of recordings, as sentences or as canonical JSON lines."""
    from agent.uplink.messages import canonical_json  # noqa: PLC0415

    history = None
    dated = {path.stem for path in args.records if is_glucose(path)}
    try:
        history = _history_in(args.state) if args.state else None
        for event in replay(
            args.records,
            shipped_models(),
            chunk_s=args.chunk,
            speed=args.speed,
            mains_hz=args.mains,
            watch=history.watch if history else None,
        ):
            if history:
                history.note_events([event])
            if args.json:
                sys.stdout.buffer.write(canonical_json(event) + b"\n")
            else:
                stamp = _date(event.at_ns) if event.patient in dated else _since_start(event.at_ns)
                sys.stdout.write(
                    f"{event.patient}  {stamp}  {event.priority.value:6}  {event.phase.value:8}  {event.text}\n"
                )
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read this, `head` perhaps, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (RecordError, OSError, ValueError) as error:
        sys.stderr.write(f"vagus replay: {error}\n")
        return 2
    finally:
        if history:
            history.close()
    if history and history.trouble:
        sys.stderr.write(f"vagus replay: {history.trouble}\n")
        return 1
    return 0


def _since_start(at_ns: int) -> str:
    minutes, seconds = divmod((at_ns - EPOCH_NS) / NS_PER_S, 60)
    return f"{minutes:4.0f}:{seconds:06.3f}"


def _date(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M}"


def _history_in(folder: Path) -> History:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return History(folder / FILE_NAME)
