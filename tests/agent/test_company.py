"""Whoever else is on the ward, however the signals are cut and in whatever ticks they come: the same bytes.

Here everybody comes in pieces of their own, some of them late by several ticks, in another order every tick.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, repeat

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agent.alarms.alert import AlertEvent
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.replay import EPOCH_NS
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.uplink.messages import canonical_json
from firmware_bridge.chunk import NS_PER_S, Chunk, Samples, Stream

RHYTHMS = (
    Episode(Rhythm.SINUS, 9.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 5.0, beats=10),
    Episode(Rhythm.ECTOPY, 8.0),
    Episode(Rhythm.ASYSTOLE, 6.0),
    Episode(Rhythm.ATRIAL_FIBRILLATION, 8.0),
    Episode(Rhythm.LEAD_OFF, 5.0),
    Episode(Rhythm.BIGEMINY, 9.0),
    Episode(Rhythm.SILENCE, 4.0),
    Episode(Rhythm.VENTRICULAR_FIBRILLATION, 8.0),
)
RATES_HZ = (250.0, 130.0, 360.0, 128.0, 500.0)
PULSE_HZ = 100.0
DIFFERENT = 30
"""Hearts; further people have the same ones."""
WARD_S = 10.0
"""As long as the thousand are watched."""


def script(k: int) -> tuple[Episode, ...]:
    """The rhythms, begun elsewhere."""
    return RHYTHMS[k % len(RHYTHMS) :] + RHYTHMS[: k % len(RHYTHMS)]


def cut(stream: Stream, samples: Samples, sizes: Iterable[int]) -> Iterator[Chunk]:
    at = seq = 0
    for size in chain(sizes, repeat(round(stream.rate_hz))):
        stop = min(at + size, len(samples))
        yield Chunk(stream, EPOCH_NS + stream.duration_ns(at), samples[at:stop], seq)
        at, seq = stop, seq + 1
        if at == len(samples):
            return


def heart(k: int) -> SimulatedPatient:
    return _heart(k % DIFFERENT)


@cache
def _heart(k: int) -> SimulatedPatient:
    return SimulatedPatient(100 + k, RATES_HZ[k % len(RATES_HZ)], script(k))


@cache
def pulse_wave(k: int) -> Samples:
    """What a finger shows of the heart."""
    t = np.arange(round(heart(k).duration_s * PULSE_HZ)) / PULSE_HZ
    out = np.random.default_rng(k).normal(0.0, 0.01, len(t))
    for beat in heart(k).beats:
        out += np.exp(-0.5 * ((t - beat.t_s - 0.32) / 0.08) ** 2)
    return out.astype(np.float32)[:, np.newaxis]


def person(k: int) -> Person:
    """Every third has a second lead, every fourth a pulse wave, every fifth a glucose sensor."""
    ecg = heart(k).stream(f"p{k}", f"d{k}")
    streams = [replace(ecg, channels=("II", "V")) if k % 3 == 1 else ecg]
    if k % 4 == 1:
        streams.append(Stream(f"p{k}", f"watch-{k}", "ppg", kind="ppg", unit="1", rate_hz=PULSE_HZ))
    if k % 5 == 1:
        streams.append(Stream(f"p{k}", f"cgm-{k}", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0))
    return Person(f"p{k}", tuple(streams))


def chunks_of(who: Person, k: int, sizes: Sequence[int] = (), until_s: float = math.inf) -> list[Chunk]:
    """What the person's sensors send, in the order in which each chunk is complete."""
    ecg = who.streams[0]
    sent: list[Chunk] = []
    if len(ecg.channels) == 1:
        sent += heart(k).chunks(ecg, sizes=sizes, chunk_s=1.0)
    else:
        sent += cut(ecg, np.concatenate((heart(k).samples, -0.7 * heart(k).samples), axis=1), sizes)
    for stream in who.streams[1:]:
        if stream.kind == "ppg":
            sent += cut(stream, pulse_wave(k), sizes)
        else:
            sent.append(Chunk(stream, EPOCH_NS + (13 + k) * NS_PER_S, np.array([[49.0]], np.float32), 0))
    ended = [chunk for chunk in sent if chunk.end_ns - EPOCH_NS <= until_s * NS_PER_S]
    return sorted(ended, key=lambda chunk: chunk.end_ns)


def alone(who: Person, chunks: Iterable[Chunk]) -> list[bytes]:
    """The person's events with nobody else there, one chunk a tick."""
    engine = Engine([who], shipped_models())
    return as_bytes(event for chunk in chunks for event in engine.step([chunk]))


@cache
def whole(k: int) -> list[bytes]:
    """Those of pieces of a second."""
    return alone(person(k), chunks_of(person(k), k))


def as_bytes(events: Iterable[AlertEvent]) -> list[bytes]:
    return [canonical_json(event) for event in events]


def together(everybody: Mapping[int, Sequence[Chunk]], at_random: random.Random, most: int) -> dict[int, list[bytes]]:
    """Events by person, all of them in one engine: each tick takes up to `most` chunks of each, in a new order."""
    engine = Engine([person(k) for k in everybody], shipped_models())
    waiting = {k: deque(chunks) for k, chunks in everybody.items()}
    events: dict[str, list[AlertEvent]] = {f"p{k}": [] for k in everybody}
    while waiting:
        tick: list[Chunk] = []
        for k in at_random.sample(sorted(waiting), len(waiting)):
            tick += [waiting[k].popleft() for _ in range(min(at_random.randint(0, most), len(waiting[k])))]
        for event in engine.step(tick):
            events[event.patient].append(event)
        waiting = {k: chunks for k, chunks in waiting.items() if chunks}
    return {k: as_bytes(events[f"p{k}"]) for k in everybody}


@settings(max_examples=6, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(
    st.lists(st.integers(0, 29), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(1, 900), max_size=60),
    st.integers(0, 2**32),
    st.integers(1, 6),
)
def test_any_company_any_pieces_any_ticks(members: list[int], sizes: list[int], seed: int, most: int) -> None:
    at_random = random.Random(seed)
    everybody = {}
    for k in members:
        at_random.shuffle(sizes)
        everybody[k] = chunks_of(person(k), k, sizes)
    events = together(everybody, at_random, most)
    for k in members:
        assert events[k] == alone(person(k), everybody[k])
        if len(person(k).streams) == 1:  # of several sensors it matters what each has said by when
            assert events[k] == whole(k)


def test_among_a_thousand_others() -> None:
    at_random = random.Random(5)
    everybody = {k: chunks_of(person(k), k, until_s=WARD_S) for k in range(1001)}
    events = together(everybody, at_random, 2)
    alarmed = [k for k, own in events.items() if own]
    assert len(alarmed) > 200
    for k in at_random.sample(alarmed, 50) + at_random.sample(sorted(everybody), 20):
        assert events[k] == alone(person(k), everybody[k])
