"""The recording holds what came, as it came, whatever happens to it; the ring stays inside its bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine import Engine
from agent.inference import Models
from agent.ingest.simulate import DEMO_SCRIPT, SimulatedPatient
from agent.patient import Person
from agent.recorder import recorder as recorder_module
from agent.recorder import ring as ring_module
from agent.recorder.recorder import Recorder
from agent.recorder.ring import KEEP_FREE_BYTES, Ring, segment_files
from agent.recorder.segment import Head, Mark, Record, SegmentError, Tick, read_head, read_segment
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

NOON_NS = 1_763_985_600 * NS_PER_S
HOUR_NS = 3600 * NS_PER_S
GLUCOSE = Stream("demo", "cgm", "cgm", "cgm", "mg/dL", 0.0, interval_s=300.0, sent_unit="mmol/L")
MARK = Mark("id1", NOON_NS, "start", "asystole", "high", False, "No heart beat for 4 s")


def head(patient: str = "demo", state: bytes = b"state") -> Head:
    return Head(patient, NOON_NS, "0.1.0", {"beat": ("beat", "ab" * 32)}, {"beat": "cpu"}, 50, 30.0, b"person", state)


def ring_at(folder: Path, *, step_s: float = 1.0, days: float = 7, max_bytes: int = 1 << 30) -> Ring:
    """A ring by whose clock every look is `step_s` later than the one before."""
    ticks = count(NOON_NS, round(step_s * NS_PER_S))
    return Ring(folder, days=days, max_bytes=max_bytes, clock_ns=lambda: next(ticks))


def same(one: Record, other: Record) -> bool:
    if isinstance(one, Mark) or isinstance(other, Mark):
        return one == other
    return one.now_ns == other.now_ns and [as_fields(c) for c in one.chunks] == [as_fields(c) for c in other.chunks]


def as_fields(chunk: Chunk) -> tuple[object, ...]:
    return (astuple(chunk.stream), chunk.t0_ns, chunk.seq, chunk.boot_id, chunk.samples.shape, chunk.samples.tobytes())


def only_file(folder: Path) -> Path:
    (path,) = segment_files(folder)
    return path


def ticks_of(chunks: Sequence[Chunk]) -> list[Record]:
    return [Tick(NOON_NS + k, (chunk,)) for k, chunk in enumerate(chunks)]


def a_recording(folder: Path) -> list[Record]:
    """Several blocks of ECG, glucose, ticks without data, a mark."""
    records: list[Record] = ticks_of(list(SimulatedPatient(3, script=DEMO_SCRIPT[:2]).chunks(chunk_s=0.5)))
    glucose = Chunk(GLUCOSE, NOON_NS, np.array([[64.5]], np.float32))
    records[5:5] = [Tick(None, (glucose,)), Tick(NOON_NS, ()), MARK]
    ring = ring_at(folder, step_s=2)
    ring.begin(head())
    for record in records:
        ring.take("demo", record)
        ring.flush_due()
    ring.close()
    return records


def test_what_came_reads_back_as_it_came(tmp_path: Path) -> None:
    records = a_recording(tmp_path)
    read = read_segment(only_file(tmp_path))
    assert read.head == head() == read_head(only_file(tmp_path))
    assert read.is_whole
    assert len(read.records) == len(records)
    assert all(map(same, read.records, records))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 900), max_size=30), flush_every=st.integers(1, 9))
def test_any_chunking_reads_back(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], flush_every: int) -> None:
    folder = tmp_path_factory.mktemp("ring")
    records = ticks_of(list(SimulatedPatient(3, script=DEMO_SCRIPT[:1]).chunks(sizes=sizes)))
    ring = ring_at(folder, step_s=10 / flush_every)
    ring.begin(head())
    for record in records:
        ring.take("demo", record)
        ring.flush_due()
    ring.close()
    read = read_segment(only_file(folder)).records
    assert len(read) == len(records)
    assert all(map(same, read, records))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Record]]:
    folder = tmp_path_factory.mktemp("whole")
    records = a_recording(folder)
    return only_file(folder).read_bytes(), records


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_torn_at_any_byte_what_was_before_reads_back(
    tmp_path_factory: pytest.TempPathFactory, recorded: tuple[bytes, list[Record]], data: st.DataObject
) -> None:
    whole, records = recorded
    path = tmp_path_factory.getbasetemp() / "00000000000000000001.rec"
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    begins_with(path, records)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_costs_what_follows_and_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, recorded: tuple[bytes, list[Record]], data: st.DataObject
) -> None:
    whole, records = recorded
    path = tmp_path_factory.getbasetemp() / "00000000000000000002.rec"
    at, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    begins_with(path, records)


def begins_with(path: Path, records: Sequence[Record]) -> None:
    """What is read is the beginning of what was written, and known not to be all."""
    try:
        read = read_segment(path)
    except SegmentError:
        return
    assert len(read.records) < len(records) or not read.is_whole
    assert all(same(one, other) for one, other in zip(read.records, records, strict=False))


def test_a_start_over_torn_files_records_on(tmp_path: Path) -> None:
    a_recording(tmp_path)
    torn = only_file(tmp_path)
    torn.write_bytes(torn.read_bytes()[:-7])
    (torn.parent / f"{NOON_NS:020d}.rec").write_bytes(b"")
    before = set(segment_files(tmp_path))
    ring = ring_at(tmp_path)
    ring.begin(head())
    ring.take("demo", MARK)
    ring.close()
    (new,) = set(segment_files(tmp_path)) - before
    assert read_segment(new).records == (MARK,)
    assert new.name > torn.name


def test_a_mark_is_on_disk_at_once(tmp_path: Path) -> None:
    ring = ring_at(tmp_path, step_s=0)
    ring.begin(head())
    ring.take("demo", Tick(NOON_NS, ()))
    ring.flush_due()
    assert read_segment(only_file(tmp_path)).records == ()
    ring.take("demo", MARK)
    ring.flush_due()
    assert read_segment(only_file(tmp_path)).records[-1] == MARK


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40_000)), max_size=40),
    max_bytes=st.integers(100_000, 300_000),
)
def test_the_ring_stays_inside_its_bound_and_gives_up_the_oldest(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("ring")
    ring = ring_at(folder, max_bytes=max_bytes)
    newest: dict[str, str] = {}
    before: set[str] = set()
    for patient, size in steps:
        ring.begin(head(patient, np.random.default_rng(size).bytes(size)))
        assert not ring.trouble
        sizes = {path.stem: path.stat().st_size for path in segment_files(folder)}
        newest[patient] = max(sizes)
        assert sum(sizes.values()) == ring.size
        assert ring.size <= max_bytes + 3 * 41_000  # what is being written is never given up
        given_way, closed = before - set(sizes), set(sizes) - set(newest.values())
        assert not given_way or not closed or max(given_way) < min(closed)
        before = set(sizes)
    ring.close()


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    ring = ring_at(tmp_path, step_s=HOUR_NS / NS_PER_S, days=1)
    for _ in range(100):
        ring.begin(head())
    ring.close()
    ages = [int(path.stem) for path in segment_files(tmp_path)]
    assert len(ages) < 30
    assert max(ages) - min(ages) <= 26 * HOUR_NS


def test_a_disk_that_fills_up_takes_the_oldest_then_stops_the_recording_and_says_so(tmp_path: Path) -> None:
    free = [1 << 30]
    ring = Ring(tmp_path, days=7, max_bytes=1 << 30, free_bytes=lambda _folder: free[0])
    for patient in ("a", "a", "b"):
        ring.begin(head(patient))
    free[0] = KEEP_FREE_BYTES - 1
    ring.begin(head("c"))
    assert "disk is nearly full" in ring.trouble
    assert ring.counters["recorder_given_way"] == 1
    assert {path.parent.name for path in segment_files(tmp_path)} == {"a", "b"}
    free[0] = 1 << 30
    ring.begin(head("c"))
    assert not ring.trouble
    assert ring.recorded == {"a", "b", "c"}
    ring.close()


def test_a_write_that_fails_half_way_leaves_a_file_that_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = ring_at(tmp_path)
    ring.begin(head())
    ring.take("demo", MARK)
    ring.flush_due()

    def half(fd: int, data: bytes, at: int) -> int:
        return real(fd, data[: len(data) // 2], at)

    real: Callable[[int, bytes, int], int] = ring_module.os.pwrite
    with monkeypatch.context() as broken:
        broken.setattr(ring_module.os, "pwrite", half)
        ring.take("demo", MARK)
        ring.flush_due()
    assert "disk is full" in ring.trouble
    read = read_segment(only_file(tmp_path))
    assert read.is_whole
    assert read.records == (MARK,)
    ring.take("demo", MARK)
    assert ring.counters["recorder_lost"] == 1
    ring.close()


def test_a_folder_that_cannot_be_made_costs_the_recording_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ring = ring_at(tmp_path / "file")
    ring.begin(head())
    ring.take("demo", MARK)
    ring.close()
    assert ring.trouble


@pytest.fixture(autouse=True)
def _no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is synced is the same file; on a busy disk these tests would mostly wait."""
    monkeypatch.setattr(ring_module.os, "fdatasync", lambda _fd: None)


def test_a_disk_that_does_not_keep_up_costs_the_recording_and_never_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs in the first write; the worker goes on, what waits is bounded, and later it is recorded again."""
    monkeypatch.setattr(recorder_module, "WAITING_BYTES", 50_000)
    hangs, goes_on, drained = threading.Event(), threading.Event(), threading.Event()

    class Hanging(Ring):
        def begin(self, head: Head) -> None:
            hangs.set()
            goes_on.wait(30)
            super().begin(head)

        def end(self, patient: str) -> None:
            was_recorded = patient in self.recorded
            super().end(patient)
            if was_recorded:
                drained.set()

    chunks = list(SimulatedPatient(3, script=DEMO_SCRIPT).chunks(chunk_s=1.0))
    engine = Engine([Person("demo", (chunks[0].stream,))], Models())
    ring = Hanging(tmp_path, days=7, max_bytes=1 << 30)
    recorder = Recorder(engine, Models(), ring, mains_hz=0, late_after_s=30)
    recorder.start()
    hangs.wait(30)
    for k, chunk in enumerate(chunks):
        recorder.note(NOON_NS + k, [chunk], [])
    assert recorder.counters["recorder_lost"] == 1
    goes_on.set()
    assert drained.wait(30)
    recorder.begin_due()
    recorder.note(NOON_NS, chunks[-1:], [])
    recorder.close()
    first, second = (read_segment(path) for path in sorted(segment_files(tmp_path)))
    assert 0 < len(first.records) < len(chunks)
    assert [as_fields(c) for r in second.records if isinstance(r, Tick) for c in r.chunks] == [as_fields(chunks[-1])]


def test_a_fault_of_the_recorder_is_said_and_costs_the_recording_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = list(SimulatedPatient(3, script=DEMO_SCRIPT[:1]).chunks(chunk_s=1.0))
    engine = Engine([Person("demo", (chunks[0].stream,))], Models())
    ring = Ring(tmp_path, days=7, max_bytes=1 << 30)
    monkeypatch.setattr(ring, "take", lambda *_: 1 / 0)
    recorder = Recorder(engine, Models(), ring, mains_hz=0, late_after_s=30)
    recorder.start()
    recorder.note(NOON_NS, chunks[:1], [])
    recorder.close()
    recorder.note(NOON_NS, chunks[1:], [])
    assert recorder.trouble == "nothing is recorded until the next start: ZeroDivisionError"
