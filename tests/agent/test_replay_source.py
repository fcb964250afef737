"""A recording as chunks: the same samples at the same times however it is cut; holes stay holes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.replay import EPOCH_NS, ReplaySource, paced, record_chunks, record_streams, sample_ns
from agent.ingest.source import Delivery
from agent.ingest.wfdb import RecordError, read_header, read_record
from agent.signal.lead import analysis_lead
from firmware_bridge.chunk import NS_PER_S, Chunk, check_samples
from firmware_bridge.codecs import cbor_chunk

INVALID = -32768


def write_record(
    folder: Path, digital: np.ndarray, *, rate: str = "360", leads: tuple[str, ...] = ("MLII", "V1")
) -> Path:
    digital = np.asarray(digital, "<i2").reshape(-1, len(leads))
    (folder / "rec.dat").write_bytes(digital.tobytes())
    lines = [f"rec {len(leads)} {rate} {len(digital)}"] + [f"rec.dat 16 200/mV 16 0 0 0 0 {lead}" for lead in leads]
    path = folder / "rec.hea"
    path.write_text("\n".join(lines) + "\n")
    return path


def noise(n_samples: int, n_leads: int = 2) -> np.ndarray:
    return np.random.default_rng(5).integers(-400, 400, (n_samples, n_leads))


@pytest.fixture(scope="module")
def long_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 s, longer than one block read ahead, with dropouts short and long."""
    digital = noise(36_000)
    for begin, length in ((0, 10), (500, 179), (2_000, 180), (3_000, 181), (22_900, 300), (23_100, 40), (35_990, 10)):
        digital[begin : begin + length] = INVALID
    return write_record(tmp_path_factory.mktemp("long"), digital)


def laid_out(chunks: list[Chunk], rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Sample times and samples of chunks in a row."""
    first = [round(Fraction(chunk.t0_ns - EPOCH_NS) * Fraction(rate_hz) / NS_PER_S) for chunk in chunks]
    index = np.concatenate([at + np.arange(len(chunk.samples)) for at, chunk in zip(first, chunks, strict=True)])
    return index, np.concatenate([chunk.samples for chunk in chunks])


def test_one_second_of_a_record_is_one_chunk(tmp_path: Path) -> None:
    path = write_record(tmp_path, noise(3 * 360 + 90))
    chunks = list(record_chunks(path))
    assert [len(chunk.samples) for chunk in chunks] == [360, 360, 360, 90]
    assert [chunk.seq for chunk in chunks] == [0, 1, 2, 3]
    assert [chunk.t0_ns - EPOCH_NS for chunk in chunks] == [0, NS_PER_S, 2 * NS_PER_S, 3 * NS_PER_S]
    assert chunks[0].stream.channels == ("MLII", "V1")
    assert chunks[0].stream.key == "rec/replay/ecg"


@given(st.lists(st.integers(1, 5_000), max_size=60))
def test_any_cutting_gives_the_same_samples_at_the_same_times(long_record: Path, sizes: list[int]) -> None:
    whole_index, whole = laid_out(list(record_chunks(long_record)), 360)
    index, samples = laid_out(list(record_chunks(long_record, sizes=sizes, chunk_s=7.0)), 360)
    np.testing.assert_array_equal(index, whole_index)
    np.testing.assert_array_equal(samples, whole)


def test_a_long_dropout_is_a_hole_and_a_short_one_is_the_rail(long_record: Path) -> None:
    index, samples = laid_out(list(record_chunks(long_record)), 360)
    missing = np.setdiff1d(np.arange(36_000), index)
    assert missing.tolist() == [*range(3_000, 3_181), *range(22_900, 23_200)]
    at_rail = index[samples[:, 0] == np.float32(-32767 / 200)]
    assert at_rail.tolist() == [*range(10), *range(500, 679), *range(2_000, 2_180), *range(35_990, 36_000)]


def test_without_rails_every_invalid_sample_is_a_hole(long_record: Path) -> None:
    index, _ = laid_out(list(record_chunks(long_record, rail_s=0.0)), 360)
    invalid = np.isnan(read_record(long_record).signals).any(axis=1)
    np.testing.assert_array_equal(index, np.flatnonzero(~invalid))


def test_a_lead_that_is_off_does_not_silence_the_others(tmp_path: Path) -> None:
    digital = noise(4_000)
    digital[1_000:2_500, 1] = INVALID
    digital[2_000:3_000, 0] = INVALID
    index, samples = laid_out(list(record_chunks(write_record(tmp_path, digital))), 360)
    assert np.setdiff1d(np.arange(4_000), index).tolist() == [*range(2_000, 2_500)]
    both = samples[np.isin(index, np.arange(1_000, 2_000))]
    np.testing.assert_array_equal(both[:, 0], (digital[1_000:2_000, 0] / 200).astype(np.float32))
    assert not both[:, 1].any()


def test_a_stretch_has_the_times_it_has_in_the_whole(long_record: Path) -> None:
    index, samples = laid_out(list(record_chunks(long_record, start_s=4.0, stop_s=14.5)), 360)
    assert (index[0], index[-1]) == (1_440, 5_219)
    whole_index, whole = laid_out(list(record_chunks(long_record)), 360)
    np.testing.assert_array_equal(samples, whole[np.isin(whole_index, np.arange(1_440, 5_220))])


@pytest.mark.parametrize(("start_s", "stop_s"), [(100.0, None), (-1.0, None), (5.0, 5.0), (9.0, 3.0)])
def test_a_stretch_outside_the_record_is_refused(long_record: Path, start_s: float, stop_s: float | None) -> None:
    with pytest.raises(ValueError, match="100 s long"):
        list(record_chunks(long_record, start_s=start_s, stop_s=stop_s))


@given(st.integers(0, 10**12), st.sampled_from([128.0, 250.0, 300.0, 360.0, 333.3, 0.1]))
def test_sample_times_are_exact_however_long_the_recording(index: int, rate_hz: float) -> None:
    exact = Fraction(index) * NS_PER_S / Fraction(rate_hz)
    assert abs(sample_ns(index, rate_hz) - exact) <= Fraction(1, 2)


def test_streams_are_told_apart_by_unit_and_name(tmp_path: Path) -> None:
    (tmp_path / "rec.dat").write_bytes(np.ones((500, 5), "<i2").tobytes())
    (tmp_path / "rec.hea").write_text(
        "rec 5 250 500\n"
        + "rec.dat 16 1000/mV 16 0 0 0 0 II\n"
        + "rec.dat 16 1/uV 16 0 0 0 0 V\n"
        + "rec.dat 16 100/mmHg 16 0 0 0 0 ABP\n"
        + "rec.dat 16 10/NU 16 0 0 0 0 PLETH\n"
        + "rec.dat 16 10/NU 16 0 0 0 0 RESP\n"
    )
    streams = record_streams(read_header(tmp_path / "rec"), patient="p1")
    assert {kind: found.stream.channels for kind, found in streams.items()} == {
        "ecg": ("II", "V"),
        "abp": ("ABP",),
        "ppg": ("PLETH",),
    }
    ecg = next(iter(record_chunks(tmp_path / "rec", streams["ecg"])))
    assert ecg.samples[0].tolist() == [np.float32(0.001), np.float32(0.001)]
    pulse = next(iter(record_chunks(tmp_path / "rec", streams["ppg"])))
    assert pulse.samples[0].tolist() == [np.float32(0.1)]


def test_a_record_without_volts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rec.dat").write_bytes(bytes(200))
    (tmp_path / "rec.hea").write_text("rec 1 250 100\nrec.dat 16 10/mmHg 16 0 0 0 0 ABP\n")
    with pytest.raises(RecordError, match="no ECG"):
        list(record_chunks(tmp_path / "rec"))


def test_leads_can_be_chosen(tmp_path: Path) -> None:
    path = write_record(tmp_path, noise(720))
    header = read_header(path)
    only = record_streams(header, leads=[1])["ecg"]
    assert only.stream.channels == ("V1",)
    np.testing.assert_array_equal(
        next(iter(record_chunks(path, only))).samples, read_record(path, 0, 360).signals[:, 1:]
    )


@pytest.mark.parametrize(
    ("leads", "expected"),
    [
        (("V5", "MLII"), 1),
        (("V", "II"), 1),
        (("II", "MLII"), 1),
        (("ECG", "ECG"), 0),
        (("V5", "V2"), 0),
        (("", "mlii"), 1),
    ],
)
def test_the_lead_to_analyse_is_chosen_by_name(leads: tuple[str, ...], expected: int) -> None:
    assert analysis_lead(leads) == expected


def test_no_leads_no_choice() -> None:
    with pytest.raises(ValueError, match="no lead"):
        analysis_lead(())


@pytest.mark.recordings
@pytest.mark.parametrize(("database", "pattern"), [("mitdb", "10*.hea"), ("cudb", "cu0*.hea"), ("cinc2015", "v3*.hea")])
def test_recordings_come_out_sample_for_sample(
    database: str, pattern: str, recordings_dir: Callable[[str], Path]
) -> None:
    for path in sorted(recordings_dir(database).glob(pattern)):
        header = read_header(path)
        ecg = record_streams(header)["ecg"]
        chunks = list(record_chunks(path, ecg))
        for chunk in chunks:
            check_samples(chunk.samples, chunk.stream)
        index, samples = laid_out(chunks, header.rate_hz)
        expected = read_record(path).signals[:, list(ecg.columns)][index]
        known = np.isfinite(expected)
        np.testing.assert_array_equal(samples[known], expected[known])
        assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))


def test_the_live_source_delivers_what_a_sensor_would_send(tmp_path: Path) -> None:
    path = write_record(tmp_path, noise(720))
    deliveries: list[Delivery] = []

    async def deliver(delivery: Delivery) -> None:
        deliveries.append(delivery)

    asyncio.run(ReplaySource(record_chunks(path), speed=None).run(deliver))
    assert [delivery.topic for delivery in deliveries] == ["vagus/v1/in/replay/ecg"] * 2
    for delivery in deliveries:
        (chunk,) = delivery.chunks
        (decoded,) = cbor_chunk.decode(delivery.payload, chunk.stream)
        assert decoded.t0_ns == chunk.t0_ns
        np.testing.assert_array_equal(decoded.samples, chunk.samples)
        delivery.ack()


def test_a_replay_in_real_time_takes_the_time_it_stands_for(tmp_path: Path) -> None:
    path = write_record(tmp_path, noise(360))

    async def play() -> float:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        seen = [chunk.seq async for chunk in paced(record_chunks(path, chunk_s=0.25), speed=5.0)]
        assert seen == [0, 1, 2, 3]
        return loop.time() - began_s

    assert asyncio.run(play()) >= 0.2 - 1e-3
