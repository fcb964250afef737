"""An exported stretch is read by the wfdb package as it was recorded, sample for sample, with its holes as holes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.ingest.glucose_csv import read_glucose_csv
from agent.ingest.replay import record_chunks
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient, cgm_chunks, cgm_readings
from agent.ingest.wfdb import read_record
from agent.recorder.ring import Ring
from agent.recorder.segment import Head, Mark, Tick
from agent.recorder.wfdb_export import Stretch, export, runs_of, stretch
from firmware_bridge.chunk import NS_PER_S, Chunk, Stream

NOON_NS = 1_763_985_600 * NS_PER_S
SCRIPT = (Episode(Rhythm.SINUS, 6.0), Episode(Rhythm.SILENCE, 3.0), Episode(Rhythm.SINUS, 4.0))
PATIENT = SimulatedPatient(5, script=SCRIPT)
CHUNKS = tuple(PATIENT.chunks(t0_ns=NOON_NS, chunk_s=0.5))
MARK = Mark("0a1b", NOON_NS + 4 * NS_PER_S, "start", "asystole", "high", False, "No heart beat for 4 s – 25 mm")


def test_samples_holes_times_and_alerts(tmp_path: Path) -> None:
    (header,) = export(Stretch(CHUNKS, (MARK,)), tmp_path)
    record = wfdb.rdrecord(str(header.with_suffix("")))
    expected = PATIENT.samples.copy()
    expected[~PATIENT.present] = np.nan
    np.testing.assert_array_equal(record.p_signal.astype(np.float32), expected)
    assert record.fs == PATIENT.rate_hz
    assert record.sig_name == ["II"]
    assert record.units == ["mV"]
    assert str(record.base_datetime) == "2025-11-24 12:00:00"
    assert "samples: exactly as they came" in record.comments
    notes = wfdb.rdann(str(header.with_suffix("")), "vagus")
    assert notes.sample.tolist() == [1000]
    assert notes.aux_note == ["start asystole high 0a1b: No heart beat for 4 s ? 25 mm"]
    ours = read_record(header.with_suffix(""))
    np.testing.assert_array_equal(ours.signals, expected)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(-32_767, 32_767), min_size=1, max_size=200),
    adc_step=st.sampled_from([0.0025, 0.005, 0.001, 1 / 300, 0.00286, 1.0, 1 / 256]),
)
@example(steps=[298], adc_step=1 / 300)  # the finest gain, rounded up, would not fit
def test_what_an_adc_made_is_exact(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[int], adc_step: float
) -> None:
    samples = (np.array(steps) * adc_step).astype(np.float32)[:, None]
    chunk = Chunk(replace(CHUNKS[0].stream, rate_hz=250.0), NOON_NS, samples, 0)
    folder = tmp_path_factory.mktemp("export")
    (header,) = export(Stretch((chunk,), ()), folder)
    record = wfdb.rdrecord(str(header.with_suffix("")))
    off = [comment for comment in record.comments if comment.startswith("samples: at most")]
    largest = np.abs(record.p_signal - samples).max()
    if off:
        assert largest <= float(off[0].split()[3]) * 1.01
        assert largest <= np.abs(samples).max() / 30_000
    else:
        np.testing.assert_array_equal(record.p_signal.astype(np.float32), samples)


def test_a_clock_that_is_set_begins_a_record_of_its_own(tmp_path: Path) -> None:
    later = [replace(c, t0_ns=c.t0_ns + 7200 * NS_PER_S, boot_id=1) for c in CHUNKS]
    first, second = export(Stretch((*CHUNKS, *later), ()), tmp_path)
    assert (first.stem, second.stem) == ("demo_simulator_ecg", "demo_simulator_ecg_2")
    began = [wfdb.rdheader(str(header.with_suffix(""))).base_datetime for header in (first, second)]
    assert (began[1] - began[0]).total_seconds() == 7200


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 800), max_size=30), twice=st.booleans())
def test_any_chunking_and_any_repetition_give_the_same_run(sizes: list[int], twice: bool) -> None:
    cut = list(PATIENT.chunks(t0_ns=NOON_NS, sizes=sizes))
    (run,) = runs_of([chunk for chunk in cut for _ in range(1 + twice)])
    (whole,) = runs_of(CHUNKS)
    assert run.t0_ns == whole.t0_ns
    np.testing.assert_array_equal(run.samples, whole.samples)


def test_a_chunk_that_was_lost_shortly_before_the_end_is_a_hole() -> None:
    chunks = list(PATIENT.chunks(t0_ns=NOON_NS, chunk_s=0.5))
    (run,) = runs_of([*chunks[:-3], *chunks[-2:]])
    (whole,) = runs_of(chunks)
    lost = slice(-375, -250)
    assert len(run.samples) == len(whole.samples)
    assert np.isnan(run.samples[lost]).all()
    np.testing.assert_array_equal(run.samples[-250:], whole.samples[-250:])


def test_readings_are_a_file_that_replay_reads(tmp_path: Path) -> None:
    chunks = tuple(cgm_chunks(cgm_readings(1)[:20], t0_ns=NOON_NS))
    (path,) = export(Stretch(chunks, ()), tmp_path)
    file = read_glucose_csv(path)
    assert not file.faults
    assert file.t_ns.tolist() == [chunk.t0_ns for chunk in chunks]
    assert file.mg_dl.tolist() == [float(chunk.samples[0, 0]) for chunk in chunks]


def test_a_stretch_of_the_ring(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", days=7, max_bytes=1 << 30)
    for part in (CHUNKS[:9], CHUNKS[9:]):
        ring.begin(Head("demo", NOON_NS, "0", {}, {}, 0, 30, b"", b""))
        for chunk in part:
            ring.take("demo", Tick(None, (chunk,)))
        ring.take("demo", MARK)
    ring.close()
    found = stretch(tmp_path / "ring", "demo", NOON_NS + 2 * NS_PER_S, NOON_NS + 5 * NS_PER_S)
    assert [chunk.t0_ns for chunk in found.chunks] == [chunk.t0_ns for chunk in CHUNKS[4:10]]
    assert found.marks == (MARK, MARK)
    assert stretch(tmp_path / "ring", "nobody", 0, 1 << 62) == Stretch((), ())


@pytest.mark.recordings
def test_a_real_record_is_exact(tmp_path: Path, recordings_dir: Callable[[str], Path]) -> None:
    record = recordings_dir("mitdb") / "208"
    chunks = tuple(record_chunks(record, stop_s=60.0))
    (header,) = export(Stretch(chunks, ()), tmp_path)
    there = wfdb.rdrecord(str(header.with_suffix("")))
    np.testing.assert_array_equal(there.p_signal.astype(np.float32), np.concatenate([c.samples for c in chunks]))
    np.testing.assert_array_equal(
        there.p_signal.astype(np.float32), wfdb.rdrecord(str(record), sampto=21_600).p_signal.astype(np.float32)
    )


def test_two_streams_are_two_records(tmp_path: Path) -> None:
    ppg = Stream("demo", "clip", "ppg", "ppg", "1", 100.0)
    pulse = Chunk(ppg, NOON_NS, np.linspace(0, 1, 300, dtype=np.float32)[:, None], 0)
    headers = export(Stretch((*CHUNKS, pulse), ()), tmp_path)
    assert [header.stem for header in headers] == ["demo_simulator_ecg", "demo_clip_ppg"]
