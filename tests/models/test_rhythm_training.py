"""What the rhythm pack is made from: closed lists, people kept apart, and the very windows that the engine looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="making a pack needs the [train] extra: torch is absent")
pytest.importorskip("wfdb", reason="making a pack needs the [train] extra: wfdb is absent")

import torch

from agent.engine import Engine
from agent.inference import Answer, Models
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.patient import Person
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.rhythm_window import CONTEXT, RATE_HZ, SAMPLES
from models.training import rhythm_records as records
from models.training.datasets import RefusedRecordError
from models.training.rhythm_examples import (
    Streamed,
    Windows,
    cut,
    from_beats,
    label_between,
    live_spans,
    load,
    save,
    stream,
    stream_variant,
)
from models.training.rhythm_fit import RR_FEATURES, Pool, Recipe, bank, fit, hide_signal, logits_of, loss_of, together
from models.training.rhythm_records import LABELS, NOT_A, UNKNOWN, RhythmRecording

N, A, O = (LABELS.index(label) for label in "NAO")  # noqa: E741 (the challenge's names)


def simulated(seed: int, seconds: float = 50.0) -> Any:
    """One lead of an invented person in sinus rhythm, (n,) mV at 250 Hz."""
    patient = SimulatedPatient(seed, script=(Episode(Rhythm.SINUS, seconds),))
    return np.concatenate([chunk.samples[:, 0] for chunk in patient.chunks(chunk_s=1.0)]).astype(np.float64)


def recording(name: str, signal: Any, label: int = N) -> RhythmRecording:
    return RhythmRecording(name, 250.0, signal[:, None], 0, ((0.0, label),))


def streamed(name: str, seed: int, label: int = N, seconds: float = 50.0) -> Streamed:
    signal = simulated(seed, seconds)
    return stream(recording(name, signal, label), signal, 250.0)


# -- the lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (records.read_mitdb, "100"),
        (records.read_mitdb, "202"),
        (records.read_mitdb, "102"),
        (records.read_vfdb, "419"),
        (records.read_afdb, "04936"),
        (records.read_nsrdb, "19830"),
    ],
)
def test_a_record_that_judges_cannot_be_read(read: Callable[[Path, str], Any], name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedRecordError, match=name):
        read(tmp_path, name)


def test_a_recording_that_is_not_given_is_refused_though_the_table_lists_it(tmp_path: Path) -> None:
    given = records.cinc2017_names()
    other = next(name for number in range(1, 8529) if (name := f"A{number:05d}") not in set(given))
    (tmp_path / "cinc2017").mkdir()
    (tmp_path / "cinc2017" / "REFERENCE-v3.csv").write_text(f"{given[0]},N\n{other},A\n")
    assert records.cinc2017_table(tmp_path) == {given[0]: "N"}
    with pytest.raises(RefusedRecordError, match=other):
        records.read_cinc2017(tmp_path, other)


def test_values_are_read_whatever_the_header_says_of_the_first(recordings_dir: Callable[[str], Path]) -> None:
    data = recordings_dir("cinc2017").parent
    name = records.cinc2017_names()[0]
    read = records.read_cinc2017(data, name)
    assert read.rate_hz == 300.0
    assert 9 * 300 <= len(read.signals) <= 61 * 300
    assert np.abs(read.signals).max() < 20


def test_the_second_patient_of_a_rhythm_is_annotated(recordings_dir: Callable[[str], Path]) -> None:
    data = recordings_dir("mitdb").parent
    labels = {label for _, label in records.read_mitdb(data, "201").rhythms}
    assert {A, NOT_A} <= labels


def test_folds_hold_everybody_once_and_each_class_evenly() -> None:
    labels = {f"cinc2017/{k}": k % 3 for k in range(300)} | {f"mitdb/{k}": 0 for k in range(20)}
    folds = records.stratified_folds(labels, 5, 1)
    assert sorted(name for fold in folds for name in fold) == sorted(labels)
    for label in range(3):
        sizes = [sum(labels[name] == label and name.startswith("cinc") for name in fold) for fold in folds]
        assert max(sizes) - min(sizes) <= 1
    assert folds == records.stratified_folds(labels, 5, 1)


# -- the windows -------------------------------------------------------------------------------------------------------


class Listening:
    """In the place of the rhythm model: keeps what it is shown."""

    def __init__(self) -> None:
        self.pack = SimpleNamespace(id="rhythm", hash="0" * 64, labels=LABELS)
        self.runtime = "none"
        self.shown: list[tuple[bytes, bytes]] = []

    def answer(self, batch: Mapping[str, Any]) -> list[Answer]:
        rows = [(signal.tobytes(), context.tobytes()) for signal, context in zip(*batch.values(), strict=True)]
        self.shown += rows
        return [Answer("N", 1.0, (1.0, 0.0, 0.0, 0.0), False) for _ in rows]


@pytest.mark.parametrize("chunk_s", [0.7, 5.0])
def test_what_is_learnt_from_is_what_the_engine_shows_bit_for_bit(chunk_s: float) -> None:
    patient = SimulatedPatient(3, script=(Episode(Rhythm.SINUS, 50.0),))
    chunks = list(patient.chunks(chunk_s=chunk_s))
    listening = Listening()
    person = Person(chunks[0].stream.patient, (chunks[0].stream,))
    engine = Engine([person], Models(rhythm=listening))  # type: ignore[arg-type]
    for chunk in chunks:
        engine.step([chunk])
    learnt = streamed("x", 3)
    spans = live_spans(learnt.samples)
    assert len(spans) == 12
    windows = cut([learnt] * len(spans), spans)
    assert [context for _, context in listening.shown] == [row.tobytes() for row in windows.context]
    shown = [np.frombuffer(signal, np.float32).astype(np.float16).tobytes() for signal, _ in listening.shown]
    assert shown == [row.tobytes() for row in windows.signal]


def test_windows_grow_to_half_a_minute_and_no_further() -> None:
    assert live_spans(9 * 250) == [(0, 250), (0, 500)]
    assert live_spans(40 * 250)[-1] == (40 * 62.5 - SAMPLES, 2500)


def test_a_window_over_two_rhythms_has_no_label() -> None:
    rhythms = ((0.0, N), (100.0, A), (200.0, N))
    assert label_between(rhythms, 10.0, 40.0) == N
    assert label_between(rhythms, 100.0, 130.0) == A
    assert label_between(rhythms, 170.0, 200.0) == A
    assert label_between(rhythms, 90.0, 120.0) == UNKNOWN
    assert label_between((), 0.0, 30.0) == UNKNOWN


def test_a_stretched_variant_takes_its_rhythms_along() -> None:
    whole = recording("x", simulated(1))
    moved = replace(whole, rhythms=((0.0, N), (20.0, A)))
    noise = {"em": np.random.default_rng(0).normal(size=(20_000, 2))}
    seen = stream_variant(moved, 1, noise)
    assert seen.rhythms[1][0] / 20.0 == pytest.approx(seen.samples / len(whole.signals), abs=1e-3)
    assert seen.samples != len(whole.signals)
    assert stream_variant(moved, 1, noise).path.tobytes() == seen.path.tobytes()


def test_what_was_streamed_is_kept_as_it_was(tmp_path: Path) -> None:
    both = [streamed("x", 1), streamed("y", 2, A, 20.0)]
    save(tmp_path / "kept.npz", both)
    for one, other in zip(load(tmp_path / "kept.npz"), both, strict=True):
        assert (one.patient, one.samples, one.rhythms) == (other.patient, other.samples, other.rhythms)
        for name in ("path", "r_index", "decided_index"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_beat_times_alone_tell_only_of_beats() -> None:
    beats = records.BeatTimes("afdb/x", np.cumsum(np.full(200, 0.8)), ((0.0, A),))
    windows = hide_signal(bank([from_beats(beats)], 4, 0.5, np.random.default_rng(0)))
    assert (windows.label == A).all()
    assert not windows.signal[:, 0].any()
    assert not windows.context[:, RR_FEATURES:].any()
    assert windows.context[:, CONTEXT.index("rr_count")].all()
    assert all(name.startswith("rr_") for name in CONTEXT[2:RR_FEATURES])
    assert not any(name.startswith("rr_") for name in CONTEXT[RR_FEATURES:])


def test_windows_of_a_mixed_recording_are_of_one_rhythm_each_and_half_of_them_fibrillation() -> None:
    mixed = replace(streamed("x", 1, seconds=200.0), rhythms=((0.0, NOT_A), (150.0, A)))
    windows = bank([mixed], 20, 0.5, np.random.default_rng(0))
    assert sorted(set(windows.label.tolist())) == [A, NOT_A]
    assert (windows.label == A).sum() == 10


# -- the fit -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Sixteen people, half of whom have their beats shaken into irregularity and are called fibrillation."""
    rng = np.random.default_rng(0)
    people = []
    for k in range(16):
        one = streamed(f"cinc2017/{k}", k, A if k % 2 else N, 32.0)
        if k % 2:
            shaken = np.sort(one.r_index + rng.integers(-60, 60, len(one.r_index))).astype(np.int32)
            one = replace(one, r_index=shaken, decided_index=shaken + np.int32(150))
        people.append(one)
    windows = bank(people, 3, 0.3, rng)
    return Pool(windows, windows.take(np.zeros(len(windows), bool)), windows.take(np.zeros(len(windows), bool)))


SMALL = Recipe(epochs=2, batch=8, warm_steps=60)


def test_nothing_of_the_held_out_is_left(pool: Pool) -> None:
    held = frozenset({"cinc2017/3", "cinc2017/4"})
    assert pool.without(held).people == pool.people - held


def test_a_fit_tells_the_two_apart_and_comes_out_the_same_again(pool: Pool) -> None:
    torch.set_num_threads(1)
    network = fit(pool, SMALL, 1)
    said = logits_of(network, pool.short, SMALL)
    assert (said.argmax(axis=1) == pool.short.label).mean() > 0.9
    assert said.tobytes() == logits_of(fit(pool, SMALL, 1), pool.short, SMALL).tobytes()


def test_not_fibrillation_costs_only_what_is_called_fibrillation() -> None:
    called = torch.tensor([[0.0, 9.0, 0.0, 0.0]])
    others = torch.tensor([[9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0]])
    recipe = Recipe()
    assert loss_of(called, torch.tensor([NOT_A]), recipe) > 3.0
    assert loss_of(others, torch.tensor([NOT_A, NOT_A]), recipe) < 0.01
    assert loss_of(called, torch.tensor([UNKNOWN]), recipe) == 0.0


def test_windows_are_put_together_in_order(pool: Pool) -> None:
    halves: list[Windows] = [pool.short.take(np.arange(5)), pool.short.take(np.arange(5, len(pool.short)))]
    assert together(halves).context.tobytes() == pool.short.context.tobytes()


def test_a_second_of_the_run_is_so_many_kept_samples() -> None:
    assert streamed("x", 1).path.shape == (round(50.0 * RATE_HZ),)
    assert ANALYSIS_RATE_HZ / RATE_HZ == 4
