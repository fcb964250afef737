"""The history keeps what a report shows: once each, over crashes, full disks and damage, at no cost to the watching."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import history as history_module
from agent.alarms.alert import AlertEvent, Category, Phase, Priority
from agent.alarms.observation import Beat, BeatStatus, Observation, Prediction, Quality
from agent.engine import Engine
from agent.history import History
from agent.history.ecg import BUCKET_NS, EcgBucket, EcgBuckets
from agent.history.file import FILE_NAME, HistoryError, open_for_reading
from agent.inference import Models
from agent.ingest.simulate import CGM_DAY, Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.signal.outlook import Expected, Glucose, Outlook, PastReading, Risk
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics, input_topic
from agent.worker import Worker
from firmware_bridge.chunk import NS_PER_S, Chunk
from firmware_bridge.codecs import cbor_chunk

ROOT = Path(__file__).parents[2]
NOON_NS = 1_763_985_600 * NS_PER_S
"""2025-11-24T12:00:00Z"""
DAY_NS = 86_400 * NS_PER_S
OPENED: list[History] = []


def history_at(path: Path, now_ns: int = NOON_NS + DAY_NS, step_s: int = 20, **how: int) -> History:
    """A history by whose clock every call is `step_s` later than the one before, so that each tick writes."""
    ticks = count(now_ns, step_s * NS_PER_S)
    OPENED.append(History(path, clock_ns=lambda: next(ticks), **how))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def _histories_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


def rows(path: Path, table: str, columns: str = "*") -> list[tuple[object, ...]]:
    db = open_for_reading(path)
    try:
        return db.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608
    finally:
        db.close()


def reading(k: int, mg_dl: float = 100.0) -> Glucose:
    return Glucose(NOON_NS + k * 300 * NS_PER_S, mg_dl)


def event(k: int = 0, phase: Phase = Phase.START, patient: str = "p1") -> AlertEvent:
    at_ns = NOON_NS + k * NS_PER_S
    return AlertEvent(
        f"id{k}", patient, "low", Category.PHYSIOLOGICAL, Priority.MEDIUM, phase, at_ns, at_ns, "Glucose 64 mg/dL"
    )


def test_what_was_noted_is_there_for_a_reader_while_the_writer_goes_on(path: Path) -> None:
    history = history_at(path)
    outlook = Outlook(
        NOON_NS,
        100.0,
        (Expected(30, 90.0, 70.0, 110.0), Expected(60, 85.0, 55.0, 120.0)),
        Risk(0.2),
        Risk(0.1),
        Risk(0),
    )
    history.watch("p1", reading(0))
    history.watch("p1", outlook)
    history.watch("p1", PastReading(NOON_NS - 300 * NS_PER_S, 104.0, "back-fill"))
    history.note_events([event()])
    assert history.flush()
    assert rows(path, "glucose", "t_ns, mg_dl, late") == [(NOON_NS - 300 * NS_PER_S, 104.0, 1), (NOON_NS, 100.0, 0)]
    assert rows(path, "outlook") == [("p1", NOON_NS, 90.0, 70.0, 110.0, 85.0, 55.0, 120.0, 0.2, 0.1, 0.0, 1)]
    assert rows(path, "alarm", "patient, rule, phase, priority, text") == [
        ("p1", "low", "start", "medium", "Glucose 64 mg/dL")
    ]


@pytest.mark.parametrize("apart_s", [-4, 0, 3])
@pytest.mark.parametrize("written_before", [True, False])
def test_a_revised_reading_replaces_the_value_and_stays_one_that_came_in_time(
    path: Path, apart_s: int, written_before: bool
) -> None:
    history = history_at(path)
    for k in range(3):
        history.watch("p1", reading(k, 100.0))
    if written_before:
        assert history.flush()
    history.watch("p1", PastReading(reading(1).t_ns + apart_s * NS_PER_S, 96.0, "revised"))
    assert history.flush()
    assert rows(path, "glucose", "mg_dl, late") == [(100.0, 0), (96.0, 0), (100.0, 0)]


@given(
    order=st.lists(st.integers(0, 11), min_size=1, max_size=60),
    writes=st.sets(st.integers(0, 60)),
)
@settings(max_examples=25, deadline=None)
def test_what_is_noted_again_in_any_order_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], writes: set[int]
) -> None:
    path = tmp_path_factory.mktemp("history") / FILE_NAME
    history = History(path)
    for step, k in enumerate(order):
        history.watch("p1", reading(k, 100.0 + k))
        history.note_events([event(k), event(k, Phase.END)])
        if step in writes:
            assert history.flush()
    history.close()
    known = sorted(set(order))
    assert rows(path, "glucose", "t_ns, mg_dl") == [(reading(k).t_ns, 100.0 + k) for k in known]
    assert rows(path, "alarm", "alert_id, phase") == [(f"id{k}", phase) for k in known for phase in ("end", "start")]


# -- five minutes of ECG ----------------------------------------------------------------------------------------------

SCRIPT = (
    Episode(Rhythm.SINUS, 200.0),
    Episode(Rhythm.ECTOPY, 200.0),
    Episode(Rhythm.LEAD_OFF, 20.0),
    Episode(Rhythm.SINUS, 30.0),
    Episode(Rhythm.SILENCE, 30.0),
    Episode(Rhythm.SINUS, 200.0),
)
SIMULATED = SimulatedPatient(3, script=SCRIPT)


def observed(chunk_s: float) -> tuple[list[Observation], list[EcgBucket]]:
    """What the engine showed, and the buckets made of it, the unfinished one included."""
    seen: list[Observation] = []
    buckets = EcgBuckets()
    done: list[EcgBucket] = []

    def watch(_patient: str, observation: Observation) -> None:
        seen.append(observation)
        buckets.push(observation)

    engine = Engine([Person("demo", (SIMULATED.stream(),))], Models(), watch=watch)
    for chunk in SIMULATED.chunks(t0_ns=NOON_NS, chunk_s=chunk_s):
        engine.step([chunk])
        done += buckets.take_complete()
    return seen, [*done, *buckets.open.values()]


def test_five_minutes_hold_what_was_seen_in_them() -> None:
    seen, buckets = observed(1.0)
    seconds = [one for one in seen if isinstance(one, Quality)]
    beats = [one for one in seen if isinstance(one, Beat) and one.status is BeatStatus.CONFIRMED and one.usable]
    assert [bucket.start_ns for bucket in buckets] == [NOON_NS, NOON_NS + BUCKET_NS, NOON_NS + 2 * BUCKET_NS]
    for bucket in buckets:
        own = [second for second in seconds if bucket.start_ns <= second.start_ns < bucket.end_ns]
        assert (bucket.seen_s, bucket.good_s) == (len(own), sum(second.good for second in own))
        assert bucket.beats == sum(bucket.start_ns <= beat.r_ns < bucket.end_ns for beat in beats)
        rate_per_min = 60 * bucket.intervals / bucket.intervals_s
        assert 68 < rate_per_min < 78, "the script's rate"
        assert bucket.longest_s is not None
        assert bucket.longest_s < 1.5, "no interval spans the electrode that was off"
    assert sum(bucket.seen_s for bucket in buckets) == pytest.approx(sum(SIMULATED.present) / 250, abs=4)
    assert sum(bucket.good_s for bucket in buckets) < sum(bucket.seen_s for bucket in buckets) - 15
    true_beats = sum(episode.rhythm is not Rhythm.SILENCE for episode in SIMULATED.episodes) and len(SIMULATED.beats)
    assert sum(bucket.beats for bucket in buckets) == pytest.approx(true_beats, abs=15)


@pytest.mark.parametrize("chunk_s", [0.2, 7.3, 400.0])
def test_five_minutes_are_the_same_however_the_signal_is_cut(chunk_s: float) -> None:
    assert observed(chunk_s)[1] == observed(1.0)[1]


def test_classes_and_fibrillation_are_counted_where_they_may_be() -> None:
    buckets = EcgBuckets()
    for k in range(300):
        at_ns = NOON_NS + k * NS_PER_S
        buckets.push(Quality(at_ns, at_ns + NS_PER_S, good=True))
        label = "V" if k % 10 == 0 else "S" if k % 10 == 5 else "N"
        buckets.push(Beat(at_ns, at_ns, BeatStatus.PROVISIONAL))
        buckets.push(Beat(at_ns, at_ns, BeatStatus.CONFIRMED, 1.0, label, 0.9))
        buckets.push(Beat(at_ns, at_ns, BeatStatus.CONFIRMED, 1.0, "V", 0.9, usable=False))
        if k % 4 == 0:
            label = "A" if k < 60 else "N"
            usable = k < 240
            buckets.push(Prediction("rhythm", at_ns, at_ns + 4 * NS_PER_S, label, 0.9, (0.9,), usable=usable))
    bucket = buckets.open[NOON_NS]
    assert (bucket.beats, bucket.ventricular, bucket.supraventricular) == (300, 30, 30)
    assert (bucket.fibrillation_s, bucket.rhythm_s) == (60.0, 240.0)


def test_a_clock_that_is_set_back_leaves_no_five_minutes_open_for_ever() -> None:
    buckets = EcgBuckets()
    for at_ns in (NOON_NS + DAY_NS, NOON_NS):
        buckets.push(Quality(at_ns, at_ns + NS_PER_S, good=True))
    assert [bucket.start_ns for bucket in buckets.take_complete()] == [NOON_NS + DAY_NS]
    assert list(buckets.open) == [NOON_NS]


def test_of_the_same_five_minutes_the_fuller_is_kept(path: Path) -> None:
    for seconds in (200, 300, 40):
        history = history_at(path)
        for k in range(seconds):
            at_ns = NOON_NS + k * NS_PER_S
            history.watch("p1", Quality(at_ns, at_ns + NS_PER_S, good=True))
        history.close()
    assert rows(path, "ecg", "start_ns, seen_s") == [(NOON_NS, 300.0)]


# -- over crashes -----------------------------------------------------------------------------------------------------

CRASHING = SimulatedPatient(5, script=(Episode(Rhythm.SINUS, 250.0), Episode(Rhythm.ECTOPY, 400.0)))
SIGNAL = [[chunk] for chunk in CRASHING.chunks(t0_ns=NOON_NS, chunk_s=10.0)]
SUGAR = list(cgm_chunks(cgm_readings(5, CGM_DAY), t0_ns=NOON_NS))
INPUT = [[*signal, sugar] for signal, sugar in zip(SIGNAL, SUGAR, strict=False)]
STREAMS = {chunk.stream.device: chunk.stream for chunk in INPUT[0]}


class Brittle(Engine):
    """An engine with a bug: the first step over a chunk of ECG of each of these times fails, when it is half done."""

    def __init__(self, fails_at: Collection[int], watch: Callable[[str, Observation], None]) -> None:
        super().__init__([Person("demo", tuple(STREAMS.values()))], Models(), watch=watch)
        self._fails_at = set(fails_at)

    def step(self, chunks: Iterable[Chunk], now_ns: int | None = None) -> list[AlertEvent]:
        known = list(chunks)
        events = super().step(known, now_ns)
        hit = self._fails_at & {chunk.t0_ns for chunk in known if chunk.stream.rate_hz}
        if hit:
            self._fails_at -= hit
            raise ZeroDivisionError
        return events


def worker_at(folder: Path, fails_at: Collection[int] = ()) -> Worker:
    history = history_at(folder / FILE_NAME)
    outbox = Outbox(folder / "outbox.sqlite")
    worker = Worker(Brittle(fails_at, history.watch), outbox, Topics("ward"), wall=False, history=history)
    worker.recover(lambda topic, _, payload: tuple(cbor_chunk.decode(payload, STREAMS[topic.split("/")[3]])))
    return worker


def tick(worker: Worker, chunks: Sequence[Chunk]) -> None:
    worker.tick([Delivery((chunk,), *_as_sent(chunk), 0, lambda: None) for chunk in chunks], None)


def _as_sent(chunk: Chunk) -> tuple[str, str, bytes]:
    return input_topic(chunk.stream.device, chunk.stream.channel), "application/cbor", cbor_chunk.encode(chunk)


def crash(worker: Worker) -> None:
    """Nothing is written any more, as when the process is killed."""
    assert worker.history is not None
    worker.history._let_go()
    worker.history._waiting.clear()
    worker.history._ecg.clear()
    worker.outbox.close()


def left_by(folder: Path, crashes: Collection[int], faults: Collection[int]) -> list[list[tuple[object, ...]]]:
    """What the history holds in the end, but for what is said of a restart or a fault itself."""
    folder.mkdir()
    fails_at = {INPUT[k][0].t0_ns for k in faults}
    worker = worker_at(folder, fails_at)
    for k, chunks in enumerate(INPUT):
        tick(worker, chunks)
        if k in crashes:
            crash(worker)
            worker = worker_at(folder, {at_ns for at_ns in fails_at if at_ns > chunks[0].t0_ns})
    assert worker.history is not None
    worker.history.close()
    worker.outbox.close()
    alarms = "at_ns, alert_id, phase, text"
    told = "alarm WHERE rule NOT IN ('agent_restarted', 'analysis_fault') AND phase != 'continue'"
    path = folder / FILE_NAME
    return [rows(path, "glucose"), rows(path, "ecg"), rows(path, told, alarms)]


@given(crashes=st.sets(st.integers(0, len(INPUT) - 1), max_size=6), faults=st.sets(st.integers(1, 60), max_size=2))
@settings(max_examples=5, deadline=None)
def test_crashes_and_faults_cost_no_row_and_add_none(
    tmp_path_factory: pytest.TempPathFactory, crashes: set[int], faults: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("worker")
    assert left_by(folder / "often", crashes, faults) == left_by(folder / "through", (), ())


WORKING_PROGRAM = """
import sys
from itertools import count
from pathlib import Path
from agent.engine import Engine
from agent.history import History
from agent.history.file import FILE_NAME
from agent.inference import Models
from agent.ingest.simulate import CGM_DAY, Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.source import Delivery
from agent.patient import Person
from agent.uplink.outbox import Outbox
from agent.uplink.topics import Topics, input_topic
from agent.worker import Worker
from firmware_bridge.codecs import cbor_chunk

folder = Path(sys.argv[1])
script = [Episode(Rhythm.SINUS, 240.0), Episode(Rhythm.ASYSTOLE, 8.0), Episode(Rhythm.ECTOPY, 80.0)] * 2
signal = list(SimulatedPatient(5, script=script).chunks(chunk_s=4.0))
sugar = list(cgm_chunks(cgm_readings(5, CGM_DAY), t0_ns=signal[0].t0_ns))
streams = {chunk.stream.device: chunk.stream for chunk in (signal[0], sugar[0])}
ticks = count(0, 20_000_000_000)
outbox = Outbox(folder / "outbox.sqlite")
history = History(folder / FILE_NAME, clock_ns=lambda: next(ticks))
engine = Engine([Person("demo", tuple(streams.values()))], Models(), watch=history.watch)
worker = Worker(engine, outbox, Topics("ward"), wall=False, history=history)
worker.recover(lambda topic, _, payload: tuple(cbor_chunk.decode(payload, streams[topic.split("/")[3]])))
last = engine.patients["demo"].streams[signal[0].stream.key].last
begin = 0 if last is None else max(0, round((last.end_ns - signal[0].t0_ns) / 4e9) - 3)
print("open", flush=True)
for k in range(begin, len(signal)):
    deliveries = []
    for chunk in (signal[k], *sugar[k : k + 1]):
        topic = input_topic(chunk.stream.device, chunk.stream.channel)
        deliveries.append(Delivery((chunk,), topic, "application/cbor", cbor_chunk.encode(chunk), 0, lambda: None))
    worker.tick(deliveries, None)
history.close()
outbox.close()
print("done", flush=True)
"""


def run_until_done(folder: Path, pick: random.Random | None) -> int:
    """Run the program, killed at random instants where `pick` is given, until it ends; how often it was killed."""
    folder.mkdir()
    for kills in count():
        with subprocess.Popen(
            [sys.executable, "-c", WORKING_PROGRAM, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"open\n"
            if pick is not None and kills < 8:
                time.sleep(pick.uniform(0.0, 0.3))
                os.kill(program.pid, signal.SIGKILL)
            if program.stdout.read() == b"done\n":
                return kills
    raise AssertionError


def test_kill_minus_nine_at_any_instant_costs_no_row_and_adds_none(tmp_path: Path) -> None:
    run_until_done(tmp_path / "through", None)
    assert run_until_done(tmp_path / "killed", random.Random(0)) >= 3
    for table in ("glucose", "ecg"):
        assert rows(tmp_path / "killed" / FILE_NAME, table) == rows(tmp_path / "through" / FILE_NAME, table)
    assert len(rows(tmp_path / "through" / FILE_NAME, "ecg")) == 3
    transitions = "alert_id, phase, rule, at_ns, onset_ns, until_ns, text"
    once = {row for row in rows(tmp_path / "through" / FILE_NAME, "alarm", transitions) if row[2] != "agent_restarted"}
    again = {row for row in rows(tmp_path / "killed" / FILE_NAME, "alarm", transitions) if row[2] != "agent_restarted"}
    assert {row for row in again if row[1] != "continue"} == once
    assert {row[2] for row in once} >= {"asystole"}


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from agent.history.file import open_for_writing
db, _ = open_for_writing(Path(sys.argv[1]), 1 << 20, 0)
db.execute("PRAGMA cache_size = 8")
db.execute("BEGIN IMMEDIATE")
for k in range(20_000):  # more than the cache holds: pages of it are in the file, their old content in the journal
    db.execute("INSERT OR REPLACE INTO glucose VALUES ('p1', ?, 55, 0, '', '')", (k,))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_report_does_not_see_what_a_killed_writer_had_half_done(path: Path) -> None:
    history = history_at(path)
    for k in range(2000):
        history.watch("p1", Glucose(k, 100.0))
    history.close()
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], cwd=ROOT, check=False)
    assert path.with_name(path.name + "-journal").stat().st_size > 0
    assert rows(path, "glucose", "COUNT(*), MIN(mg_dl)") == [(2000, 100.0)]


def test_what_had_not_been_written_goes_with_the_snapshot(path: Path, tmp_path: Path) -> None:
    first = history_at(tmp_path / "nowhere" / FILE_NAME)
    first.watch("p1", reading(0))
    first.watch("p2", reading(0))
    for k in range(200):
        at_ns = NOON_NS + k * NS_PER_S
        first.watch("p1", Quality(at_ns, at_ns + NS_PER_S, good=True))
    state = first.state("p1")

    second = history_at(path)
    second.resume("p1", state)
    for k in range(200, 300):
        at_ns = NOON_NS + k * NS_PER_S
        second.watch("p1", Quality(at_ns, at_ns + NS_PER_S, good=True))
    second.close()

    assert rows(path, "glucose", "patient, t_ns") == [("p1", NOON_NS)]
    assert rows(path, "ecg", "start_ns, seen_s") == [(NOON_NS, 300.0)]


@pytest.mark.parametrize("blob", [b"", b"garbage", b"\x80\x04K\x01."])
def test_a_state_that_does_not_fit_is_left(path: Path, blob: bytes) -> None:
    history = history_at(path)
    history.resume("p1", blob)
    history.watch("p1", reading(0))
    assert history.flush()


# -- what must cost the watching nothing ------------------------------------------------------------------------------


def test_a_report_in_the_middle_of_reading_delays_the_writer_and_loses_nothing(path: Path) -> None:
    history = history_at(path)
    history.watch("p1", reading(0))
    assert history.flush()
    reader = open_for_reading(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM glucose").fetchone() == (1,)
    history.watch("p1", reading(1))
    assert not history.flush()
    assert not history.trouble, "nothing to worry anybody with"
    assert reader.execute("SELECT COUNT(*) FROM glucose").fetchone() == (1,)
    reader.close()
    history.watch("p1", reading(2))
    assert history.flush()
    assert len(rows(path, "glucose")) == 3


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("not a database", "at the start"),
        ("overwritten", "at the start"),
        ("truncated", "at the start"),
        ("not a database", "while it runs"),
        ("truncated", "while it runs"),
    ],
)
def test_a_damaged_file_is_moved_aside_and_said(
    path: Path, damage: str, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    history = history_at(path)
    for k in range(3000):
        history.watch("p1", reading(k))
    assert history.flush()
    if found == "at the start":
        history.close()
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content[:] = b"garbage " * 1000
    elif damage == "overwritten":
        content[4096:-4096] = random.Random(1).randbytes(len(content) - 8192)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    if found == "at the start":
        history = history_at(path)

    for k in range(4000, 4600):  # onto pages that are damaged
        history.watch("p1", reading(k))
    history.watch("p1", reading(5))
    assert history.flush()

    assert history.moved_aside is not None
    assert history.moved_aside.read_bytes()[: 1 << 12] == content[: 1 << 12]
    assert "damaged" in caplog.text
    assert len(rows(path, "glucose")) == 601
    assert not history.trouble


def test_a_damaged_file_is_no_report(path: Path) -> None:
    path.write_bytes(b"garbage " * 1000)
    with pytest.raises(HistoryError, match="not a database"):
        open_for_reading(path)
    assert path.read_bytes() == b"garbage " * 1000


def test_a_file_of_another_version_is_left_alone(path: Path) -> None:
    history_at(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    history = history_at(path)
    history.watch("p1", reading(0))
    assert not history.flush()
    assert "schema version 99" in history.trouble
    assert not list(path.parent.glob("*damaged*"))
    with pytest.raises(HistoryError, match="schema version 99"):
        open_for_reading(path)


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    history = history_at(tmp_path / "later" / FILE_NAME)
    history.watch("p1", reading(0))
    assert not history.flush()
    assert "cannot be written" in history.trouble
    assert history.versions() is None
    (tmp_path / "later").mkdir()
    assert history.flush()
    assert not history.trouble
    assert len(rows(tmp_path / "later" / FILE_NAME, "glucose")) == 1


def test_what_waits_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "ROWS_IN_MEMORY", 100)
    history = history_at(tmp_path / "nowhere" / FILE_NAME)
    for k in range(1000):
        history.watch("p1", reading(k))
    (tmp_path / "nowhere").mkdir()
    assert history.flush()
    kept = [row[0] for row in rows(tmp_path / "nowhere" / FILE_NAME, "glucose", "t_ns")]
    assert kept == [reading(k).t_ns for k in range(1000 - len(kept), 1000)], "the newest"
    assert 80 < len(kept) <= 100
    assert history.given_up == 1000 - len(kept)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "vagus-test", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    while OPENED:
        OPENED.pop().close()
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    history = history_at(small_disk / FILE_NAME)
    k = 0
    while not history.trouble:
        assert k < 200_000
        for _ in range(1000):
            history.watch("p1", reading(k))
            k += 1
        history.flush()
    on_disk = rows(small_disk / FILE_NAME, "glucose", "COUNT(*)")[0][0]
    assert on_disk == k - 1000, "all of a write or nothing"
    small_disk.joinpath("ballast").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert history.flush()
    assert not history.trouble
    assert rows(small_disk / FILE_NAME, "glucose", "COUNT(*)") == [(k,)]


# -- no more than is to be kept ---------------------------------------------------------------------------------------


def test_old_rows_go_a_few_at_a_time(path: Path) -> None:
    history = history_at(path, now_ns=NOON_NS + 101 * DAY_NS, step_s=600, days=90)
    for k in range(100 * 288):
        history.watch("p1", reading(k))
        if k % 10_000 == 0:
            history.flush()
    history.note_events([event(0), event(99 * 86_400)])
    for k in range(40):
        history.watch("p1", reading(100 * 288 + k))
        assert history.flush()
    newest_ns = reading(100 * 288 + 39).t_ns
    times = [int(str(row[0])) for row in rows(path, "glucose", "t_ns")]
    assert min(times) >= newest_ns - 90 * DAY_NS - 40 * 300 * NS_PER_S
    assert len(times) >= 90 * 288
    assert rows(path, "alarm", "alert_id") == [(f"id{99 * 86_400}",)]


def test_a_clock_that_runs_ahead_deletes_nothing(path: Path) -> None:
    history = history_at(path, now_ns=NOON_NS + 10_000 * DAY_NS, days=90)
    for k in range(100):
        history.watch("p1", reading(k))
        assert history.flush()
    assert len(rows(path, "glucose")) == 100


def test_a_file_that_has_reached_its_bound_gives_up_its_oldest_rows(path: Path) -> None:
    history = history_at(path, max_mb=1)
    for k in range(100_000):
        history.watch("p1", reading(k))
        if k % 500 == 0:
            history.flush()
    while not history.flush():
        pass
    assert path.stat().st_size <= 1 << 20
    times = [int(str(row[0])) for row in rows(path, "glucose", "t_ns")]
    assert times[-1] == reading(99_999).t_ns
    assert 10_000 < len(times) < 60_000
    assert times == [reading(k).t_ns for k in range(100_000 - len(times), 100_000)], "only the oldest are gone"


# -- versions of what is adapted to a person --------------------------------------------------------------------------


def test_versions_of_a_persons_state_and_the_way_back(path: Path) -> None:
    versions = history_at(path).versions()
    assert versions is not None
    assert versions.load_latest("p1") is None
    for k in range(1, 4):
        assert versions.save("p1", f'{{"bias": {k}}}', "weekly") is not None
    versions.save("p2", "{}")
    back = versions.roll_back("p1", 1)
    assert back is not None
    assert (back.generation, back.state_json, back.note) == (4, '{"bias": 1}', "rolled back to generation 1")
    assert versions.load_latest("p1") == back
    assert [version.generation for version in versions.list("p1")] == [4, 3, 2, 1]
    assert versions.roll_back("p1", 17) is None


def test_the_same_state_is_no_new_version_and_old_ones_go(path: Path) -> None:
    versions = history_at(path).versions()
    assert versions is not None
    for k in range(40):
        saved = versions.save("p1", str(k))
        assert versions.save("p1", str(k)) == saved
    assert [version.generation for version in versions.list("p1")] == list(range(40, 10, -1))


def test_a_version_that_finds_no_room_is_told_by_none(path: Path) -> None:
    history = history_at(path)
    versions = history.versions()
    assert versions is not None
    reader = open_for_reading(path)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM personal").fetchone()
    assert versions.save("p1", "{}") is None
    reader.close()
    assert versions.save("p1", "{}") is not None


def test_events_and_readings_of_others_are_kept_apart(path: Path) -> None:
    history = history_at(path)
    for name in ("a", "b"):
        history.watch(name, replace(reading(0), mg_dl=100.0 if name == "a" else 200.0))
        history.note_events([event(patient=name)])
    history.flush()
    assert rows(path, "glucose", "patient, mg_dl") == [("a", 100.0), ("b", 200.0)]
    assert rows(path, "alarm", "patient") == [("a",), ("b",)]
