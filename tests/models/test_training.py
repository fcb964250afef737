"""Making a pack, on invented people: a network learns, is quantized, packed, checked; and what judges is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the [train] extra: torch is absent")
pytest.importorskip("onnxscript", reason="training needs the [train] extra: onnxscript is absent")

from agent.signal.beat_features import CONTEXT
from models.training import datasets, scores
from models.training.datasets import DS1, SVDB, Record, Recording, RefusedRecordError
from models.training.examples import (
    IGNORED,
    LABELS,
    Examples,
    concatenate,
    dense,
    examples_of,
    featurize,
    match,
    stream,
    variant,
)

DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"


@pytest.mark.parametrize("name", [*DS2.split(), "107", "217", "102", "104"])
def test_records_that_judge_cannot_even_be_named(name: str) -> None:
    with pytest.raises(RefusedRecordError, match=name):
        Record("mitdb", name)


def test_the_rest_of_svdb_and_other_databases_are_refused() -> None:
    for database, name in [("svdb", "800"), ("svdb", "894"), ("incartdb", "I01"), ("mitdb", "../mitdb/100")]:
        with pytest.raises(RefusedRecordError):
            Record(database, name)
    assert (len(DS1), len(SVDB)) == (22, 60)


def test_folds_hold_everybody_once() -> None:
    records = datasets.beat_records()
    folds = datasets.folds(records, 4, seed=3)
    assert sorted(p for fold in folds for p in fold) == sorted(r.patient for r in records)
    assert all(any(p.startswith("mitdb") for p in fold) for fold in folds)
    assert folds == datasets.folds(records, 4, seed=3)


def test_a_person_in_two_groups_is_an_error() -> None:
    with pytest.raises(RefusedRecordError, match="svdb/801"):
        datasets.assert_disjoint([{"svdb/801", "svdb/802"}, {"svdb/801"}])


def test_detections_take_the_label_of_the_nearest_reference_beat_once() -> None:
    beats = np.array([100, 110, 300, 500, 700, 900])
    reference = np.array([102, 305, 545, 701])
    labels = match(beats, reference, np.array(["N", "V", "S", "F"]), [(850.0, 1000.0)])
    q = LABELS.index("Q")
    assert labels.tolist() == [LABELS.index("N"), q, LABELS.index("V"), q, IGNORED, IGNORED]


def test_detections_without_any_reference_are_q() -> None:
    assert match(np.array([5]), np.array([], dtype=np.int64), np.array([]), []).tolist() == [LABELS.index("Q")]
    assert match(np.array([5, 90]), np.array([6]), np.array(["N"]), []).tolist() == [0, LABELS.index("Q")]
    assert match(np.array([], dtype=np.int64), np.array([6]), np.array(["N"]), []).tolist() == []


def invented(record: Record, seed: int, seconds: float = 90.0) -> Recording:
    """A person with wide early beats, at 128 Hz, in two leads."""
    rng = np.random.default_rng(seed)
    rate = 128.0
    t = np.arange(int(seconds * rate)) / rate
    signal = 0.02 * rng.normal(size=len(t))
    at, samples, classes = 1.0, [], []
    while at < seconds - 1.5:
        wide = rng.random() < 0.2
        width = 0.04 if wide else 0.014
        signal += (-1.3 if wide else 1.0) * np.exp(-(((t - at) / width) ** 2))
        signal += 0.25 * np.exp(-(((t - at - 0.26) / 0.05) ** 2))
        samples.append(round(at * rate))
        classes.append("V" if wide else "N")
        at += rng.normal(0.8, 0.02)
        if rng.random() < 0.1:
            at += 0.3
    leads = np.stack((signal, 0.5 * signal), axis=1)
    return Recording(record, rate, leads, 0, np.array(samples), np.array(classes), ())


@pytest.fixture(scope="module")
def people() -> list[Examples]:
    records = [Record("svdb", name) for name in SVDB[:4]]
    return [examples_of(invented(record, seed), 0, {}) for seed, record in enumerate(records)]


@pytest.mark.parametrize("chunk_s", [0.05, 0.7, 60.0])
def test_examples_do_not_depend_on_the_chunks_a_recording_came_in(people: list[Examples], chunk_s: float) -> None:
    signal = invented(Record("svdb", SVDB[0]), 0).signals[:, 0]
    beats, morphology = stream(signal, 128.0, chunk_s)
    again = featurize(beats, morphology, np.zeros(len(beats), dtype=np.int8), "somebody")
    assert again.signal.tobytes() == people[0].signal.tobytes()
    assert again.context.tobytes() == people[0].context.tobytes()


def test_a_dense_recording_keeps_its_ectopy_and_loses_its_normals() -> None:
    recording = invented(Record("svdb", "801"), 1, seconds=400.0)
    thinned = dense(recording, np.random.default_rng(0))
    kept, had = (np.sum(r.beat_classes == "V") for r in (thinned, recording))
    assert kept == had
    assert len(thinned.beat_samples) < 0.9 * len(recording.beat_samples)
    at_r = thinned.signals[thinned.beat_samples, 0]
    assert (np.abs(at_r) > 0.7).mean() > 0.98


def test_variants_are_the_same_each_time_and_differ_from_the_record() -> None:
    recording = invented(Record("svdb", "801"), 1)
    noise = {"bw": np.random.default_rng(0).normal(size=(20_000, 2))}
    for number in (1, 2, 3):
        one, again = variant(recording, number, noise), variant(recording, number, noise)
        assert one.signal.tobytes() == again.signal.tobytes()
        assert one.rate_hz == again.rate_hz != recording.rate_hz
        assert not np.array_equal(one.signal, recording.signals[:, 0])


def test_a_stretched_variant_keeps_its_labels(people: list[Examples]) -> None:
    recording = invented(Record("svdb", SVDB[0]), 0)
    stretched = examples_of(recording, 1, {})
    for label in ("N", "V"):
        numbers = [int((e.label == LABELS.index(label)).sum()) for e in (people[0], stretched)]
        assert abs(numbers[0] - numbers[1]) <= 0.1 * numbers[0] + 2


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own deprecations
def test_a_network_learns_wide_from_narrow_and_stays_so_in_8_bit(people: list[Examples], tmp_path: Path) -> None:
    from models.training import beat
    from models.training.network import Recipe, fit, logits_of, parameters

    train, test = concatenate(people[:3]), people[3]
    network = fit(train, Recipe(steps=60, batch=64), seed=1)
    assert parameters(network) <= 40_000
    quantized, _ = beat.convert(network, train, tmp_path)
    int8 = beat.run_onnx(quantized, test)
    known = test.label >= 0
    agreement = (int8.argmax(axis=1) == logits_of(network, test).argmax(axis=1)).mean()
    assert agreement > 0.97
    counts = scores.confusion(test.label[known], int8[known].argmax(axis=1))
    assert scores.score(counts, "V").f1 > 0.9


def test_the_network_is_the_same_for_the_same_seed(people: list[Examples]) -> None:
    from models.training.network import Recipe, fit, logits_of

    one, again = (fit(people[0], Recipe(steps=4, batch=32), seed=7) for _ in range(2))
    assert logits_of(one, people[1]).tobytes() == logits_of(again, people[1]).tobytes()


def test_operating_point_and_temperature_repair_a_bad_scale() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, size=3000).astype(np.int8)
    logits = rng.normal(size=(3000, 4)).astype(np.float32)
    logits[np.arange(3000), truth] += 2.0
    logits[:, LABELS.index("S")] -= 2.0
    bias = scores.operating_point(logits, truth)
    assert bias[LABELS.index("S")] >= 1.5
    assert scores.temperature((logits + bias) * 2, truth) == pytest.approx(
        2 * scores.temperature(logits + bias, truth), abs=0.2
    )


def test_score_counts_beats_that_were_never_detected() -> None:
    counts = scores.confusion(np.array([1, 1, 0, 2], dtype=np.int8), np.array([1, 0, 1, 2]))
    assert str(scores.score(counts, "S")) == "50.0 / 50.0"
    assert str(scores.score(counts, "S", missed=2)) == "25.0 / 50.0"


def test_the_past_of_a_beat_is_that_of_the_beats_before_it(people: list[Examples]) -> None:
    from models.training.compare import BEATS, SEEN, with_past

    wide = with_past(people[0])
    at = [CONTEXT.index(name) for name in SEEN]
    past = wide.context[:, len(CONTEXT) :].reshape(-1, BEATS, len(SEEN))
    assert wide.context[:, : len(CONTEXT)].tobytes() == people[0].context.tobytes()
    assert np.array_equal(past[40], people[0].context[40 - BEATS + 1 : 41][:, at])
    assert not past[0, :-1].any()


def test_every_kind_of_network_answers_a_beat(people: list[Examples]) -> None:
    from models.training.compare import KINDS, with_past
    from models.training.network import logits_of

    for kind, make in KINDS.items():
        examples = people[0] if kind == "convolution" else with_past(people[0])
        assert logits_of(make().eval(), examples).shape == (len(examples), len(LABELS))
