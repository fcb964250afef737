"""WFDB files: ours against the reference implementation, and against files that are broken on purpose."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.wfdb import (
    SYMBOLS,
    RecordError,
    iter_blocks,
    read_annotations,
    read_header,
    read_record,
    read_samples,
    write_annotations,
)

DATABASES = ("mitdb", "svdb", "vfdb", "cudb", "noise", "cinc2015", "cinc2017")
BITS = {"16": 16, "24": 24, "32": 32, "80": 8, "212": 12}


def write_header(folder: Path, *lines: str) -> Path:
    path = folder / "rec.hea"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_16(
    folder: Path, samples: np.ndarray, *, gain: str = "200", rest: str = "16 0 0 0 0 II", skip: int = 0
) -> Path:
    (folder / "rec.dat").write_bytes(bytes(skip) + np.asarray(samples, "<i2").tobytes())
    width = f"16+{skip}" if skip else "16"
    return write_header(folder, f"rec 1 250 {len(samples)}", f"rec.dat {width} {gain} {rest}")


@pytest.mark.recordings
@pytest.mark.parametrize("database", DATABASES)
def test_signals_are_what_the_reference_implementation_reads(
    database: str, recordings_dir: Callable[[str], Path]
) -> None:
    wfdb = pytest.importorskip("wfdb")
    headers = sorted(recordings_dir(database).rglob("*.hea"))
    for path in headers[:: max(1, len(headers) // 100)]:
        theirs = wfdb.rdrecord(str(path.with_suffix("")))
        ours = read_record(path)
        assert (ours.rate_hz, list(ours.units)) == (theirs.fs, theirs.units)
        assert list(ours.leads) == [name or "" for name in theirs.sig_name]
        np.testing.assert_allclose(ours.signals, theirs.p_signal.astype(np.float32), rtol=1e-6, atol=1e-7)


@pytest.mark.recordings
@pytest.mark.parametrize("database", ["mitdb", "svdb", "vfdb", "cudb"])
def test_annotations_are_what_the_reference_implementation_reads_and_survive_our_writer(
    database: str, recordings_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    wfdb = pytest.importorskip("wfdb")
    for path in sorted(recordings_dir(database).glob("*.atr")):
        ours = read_annotations(path)
        write_annotations(
            tmp_path / "copy.vagus",
            ours.sample,
            ours.symbol,
            aux=ours.aux,
            subtype=ours.subtype,
            channel=ours.channel,
            number=ours.number,
        )
        original = wfdb.rdann(str(path.with_suffix("")), "atr")
        copy = wfdb.rdann(str(tmp_path / "copy"), "vagus")
        for theirs in (original, copy):
            assert theirs.sample.tolist() == ours.sample.tolist()
            assert theirs.symbol == list(ours.symbol)
            assert [text.rstrip("\0") for text in theirs.aux_note] == list(ours.aux)
            assert theirs.subtype.tolist() == ours.subtype.tolist()
            assert theirs.chan.tolist() == ours.channel.tolist()
            assert theirs.num.tolist() == ours.number.tolist()


@pytest.mark.parametrize("width", ["16", "24", "32", "80", "212"])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 100, 101])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_every_format_is_unpacked_as_the_reference_implementation_packs_it(
    width: str, n_samples: int, n_channels: int, tmp_path: Path
) -> None:
    wfdb = pytest.importorskip("wfdb")
    half = 1 << (BITS[width] - 1)
    digital = np.random.default_rng(7).integers(-half + 1, half, (n_samples, n_channels))
    wfdb.wrsamp(
        "rec",
        fs=100,
        units=["mV"] * n_channels,
        sig_name=[f"lead {i}" for i in range(n_channels)],
        d_signal=digital,
        fmt=[width] * n_channels,
        adc_gain=[50.0] * n_channels,
        baseline=[3] * n_channels,
        write_dir=str(tmp_path),
    )
    record = read_record(tmp_path / "rec")
    assert record.leads == tuple(f"lead {i}" for i in range(n_channels))
    np.testing.assert_array_equal(record.signals, ((digital - 3) / 50).astype(np.float32))


@pytest.mark.parametrize("width", ["310", "311"])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_any_bytes_of_the_ten_bit_formats_are_read_as_the_reference_implementation_does(
    width: str, n_channels: int, tmp_path: Path
) -> None:
    wfdb = pytest.importorskip("wfdb")
    raw = np.random.default_rng(11).integers(0, 256, 4 * 200, dtype=np.uint8)
    if width == "311":
        raw[3::4] &= 0x3F  # the two bits that hold nothing
    (tmp_path / "rec.dat").write_bytes(raw.tobytes())
    path = write_header(
        tmp_path, f"rec {n_channels} 250 {600 // n_channels}", *[f"rec.dat {width} 100/mV"] * n_channels
    )
    theirs = wfdb.rdrecord(str(tmp_path / "rec")).p_signal
    np.testing.assert_array_equal(read_record(path).signals, theirs.astype(np.float32))


@pytest.mark.parametrize(("width", "dtype", "offset"), [("61", ">i2", 0), ("160", "<u2", 1 << 15), ("80", "u1", 128)])
def test_big_endian_and_offset_binary_samples(width: str, dtype: str, offset: int, tmp_path: Path) -> None:
    (tmp_path / "rec.dat").write_bytes((np.array([-100, 0, 99]) + offset).astype(dtype).tobytes())
    path = write_header(tmp_path, "rec 1 250 3", f"rec.dat {width} 100")
    assert read_record(path).signals[:, 0].tolist() == pytest.approx([-1.0, 0.0, 0.99])


def test_a_block_is_the_same_stretch_of_the_whole_wherever_it_is_cut(tmp_path: Path) -> None:
    packed = np.random.default_rng(3).integers(0, 256, 3 * 500, dtype=np.uint8)
    (tmp_path / "rec.dat").write_bytes(packed.tobytes())
    path = write_header(tmp_path, "rec 1 100 1000", "rec.dat 212 200")
    whole = read_record(path).signals
    for seconds in (0.01, 0.07, 0.5, 3.33, 60.0):
        np.testing.assert_array_equal(np.concatenate(list(iter_blocks(path, seconds))), whole)
    header = read_header(path)
    np.testing.assert_array_equal(read_samples(header, 333, 778), whole[333:778])


def test_signals_of_one_record_may_lie_in_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(np.array([[1, 2], [3, 4]], "<i2").tobytes())
    (tmp_path / "b.dat").write_bytes(np.array([5, 6], "<i2").tobytes())
    path = write_header(tmp_path, "rec 3 250 2", "a.dat 16 1", "a.dat 16 1", "b.dat 16 1")
    assert read_record(path).signals.tolist() == [[1, 2, 5], [3, 4, 6]]


@pytest.mark.parametrize(
    ("gain", "rest", "expected"),
    [
        ("0", "16 0 0 0 0 II", 1.0),  # not calibrated: 200 per mV
        ("100", "16 0 0 0 0 II", 2.0),
        ("100", "16 50 0 0 0 II", 1.5),  # the ADC's zero stands in for a baseline
        ("100(150)", "16 50 0 0 0 II", 0.5),
        ("100(-100)/uV", "16 0 0 0 0 II", 3.0),
    ],
)
def test_gain_and_baseline(gain: str, rest: str, expected: float, tmp_path: Path) -> None:
    record = read_record(write_16(tmp_path, np.array([200]), gain=gain, rest=rest))
    assert record.signals.item() == expected
    assert record.units == (("uV",) if gain.endswith("uV") else ("mV",))


def test_a_matlab_file_is_read_past_its_own_header(tmp_path: Path) -> None:
    record = read_record(write_16(tmp_path, np.array([1000, -1000]), gain="1000/mV", skip=24))
    assert record.signals[:, 0].tolist() == [1.0, -1.0]


def test_a_sample_marked_invalid_is_not_a_number(tmp_path: Path) -> None:
    record = read_record(write_16(tmp_path, np.array([5, -32768, 7])))
    assert np.isnan(record.signals[:, 0]).tolist() == [False, True, False]


def test_the_length_is_found_where_the_header_does_not_say_it(tmp_path: Path) -> None:
    path = write_16(tmp_path, np.arange(10))
    path.write_text("rec 1 250\nrec.dat 16\n")
    assert read_header(path).n_samples == 10


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ([""], None, "empty"),
        (["rec"], 1, "record line"),
        (["rec two 250 10"], 1, "record line"),
        (["rec/3 1 250 10"], 1, "several segments"),
        (["rec 1 0 10", "rec.dat 16"], 1, "sampling rate"),
        (["rec 1 nan 10", "rec.dat 16"], 1, "sampling rate"),
        (["rec -1 250 10"], 1, "negative"),
        (["# by hand", "rec 2 250 10", "rec.dat 16"], 3, "2 signals announced, 1 described"),
        (["rec 1 250 10", "rec.dat"], 2, "signal line"),
        (["rec 1 250 10", "rec.dat 8"], 2, "format 8 is not read"),
        (["rec 1 250 10", "rec.dat 16x4"], 2, "16x4"),
        (["rec 1 250 10", "rec.dat 16 lots"], 2, "gain"),
        (["rec 1 250 10", "rec.dat 16 1e999"], 2, "finite"),
        (["rec 1 250 10", "rec.dat 16 200 16 zero"], 2, "ADC zero"),
    ],
)
def test_a_broken_header_is_named_with_its_line(lines: list[str], line: int | None, words: str, tmp_path: Path) -> None:
    path = write_header(tmp_path, *lines)
    with pytest.raises(RecordError, match=words) as error:
        read_header(path)
    assert (error.value.path, error.value.line) == (path, line)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write_16(tmp_path, np.arange(10))
    (tmp_path / "rec.dat").write_bytes(b"\0" * 19)
    with pytest.raises(RecordError, match=r"rec\.dat: the file ends 1 bytes before"):
        read_record(path)


def test_one_file_cannot_have_two_formats(tmp_path: Path) -> None:
    (tmp_path / "rec.dat").write_bytes(b"\0" * 100)
    with pytest.raises(RecordError, match="two formats"):
        read_record(write_header(tmp_path, "rec 2 250 10", "rec.dat 16", "rec.dat 212"))


def test_a_header_cannot_reach_outside_its_folder(tmp_path: Path) -> None:
    path = write_header(tmp_path, "rec 1 250 10", "../../etc/passwd 80")
    assert read_header(path).signals[0].file == tmp_path / "passwd"


BEAT_SYMBOLS = [symbol for symbol in SYMBOLS if symbol.strip()]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 1 << 20),
        st.sampled_from(BEAT_SYMBOLS),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
        st.integers(-128, 127),
        st.integers(0, 255),
        st.integers(-128, 127),
    ),
    max_size=20,
)


@given(ROWS)
def test_annotations_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str, int, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.vagus"
    sample = np.cumsum([row[0] for row in rows], dtype=np.int64) + 1
    symbol, aux, subtype, channel, number = (
        (list(column) for column in zip(*(row[1:] for row in rows), strict=True)) if rows else ([],) * 5
    )
    write_annotations(path, sample, symbol, aux=aux, subtype=subtype, channel=channel, number=number)
    read = read_annotations(path)
    assert read.sample.tolist() == sample.tolist()
    assert (list(read.symbol), list(read.aux)) == (symbol, aux)
    assert (read.subtype.tolist(), read.channel.tolist(), read.number.tolist()) == (subtype, channel, number)


@given(st.binary(max_size=200))
def test_any_bytes_are_annotations_or_a_record_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.atr"
    path.write_bytes(raw)
    with contextlib.suppress(RecordError):
        read = read_annotations(path)
        assert len(read.symbol) == len(read.aux) == len(read)


def test_a_file_may_say_what_its_samples_count(tmp_path: Path) -> None:
    path = tmp_path / "rec.atr"
    write_annotations(path, [0, 10], ['"', "N"], aux=["## time resolution: 128", ""])
    read = read_annotations(path)
    assert (read.time_resolution_hz, read.sample.tolist(), read.symbol) == (128.0, [10], ("N",))


@pytest.mark.parametrize(
    ("sample", "symbol", "aux", "words"),
    [
        ([5, 4], ["N", "N"], None, "time order"),
        ([-1], ["N"], None, "time order"),
        ([5], ["normal"], None, "not a WFDB annotation symbol"),
        ([5], [" "], None, "not a WFDB annotation symbol"),
        ([5], ["N"], ["x" * 256], "at most 255"),
        ([5], ["N", "N"], None, "zip"),
    ],
)
def test_what_cannot_be_written_is_refused(
    sample: list[int], symbol: list[str], aux: list[str] | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        write_annotations(tmp_path / "rec.vagus", sample, symbol, aux=aux)


def test_an_error_passes_from_one_process_to_another() -> None:
    error = RecordError(Path("rec.hea"), "no signals", 2)
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "rec.hea:2: no signals"  # noqa: S301
