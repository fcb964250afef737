"""How the fibrillation pack is made: which records may be named, what a window is called, how variants are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("wfdb")

from agent.evaluate.reference import Span
from agent.scoring.episodes import Stretch
from agent.signal.vf_window import BEFORE_S, CONTEXT, SIGNAL_SHAPE
from models.training.datasets import RefusedRecordError
from models.training.vf_examples import (
    DECIDING_S,
    KINDS,
    LABELS,
    SLOWED_BPM,
    UNKNOWN,
    Examples,
    Streamed,
    kinds,
    plain_examples,
    standstill_examples,
    too_slow,
    varied_examples,
)
from models.training.vf_network import Recipe, draw_weights, fit, logits_of, shift
from models.training.vf_records import CUDB, TRAINABLE, VFDB, VfRecord, read_rhythm
from models.training.vf_trial import HeldOut, alarms, operating_point

LAG_S = 12 / 250
NOISE = [np.random.default_rng(1).normal(size=30_000).astype(np.float32)]
SPANS = (
    Span(0.0, 20.0, "N"),
    Span(20.0, 40.0, "VT"),
    Span(40.0, 60.0, "VF"),
    Span(60.0, 80.0, "SLOW_VT"),
    Span(80.0, 100.0, "ASYS"),
    Span(100.0, 120.0, "NOISE"),
)


def kind_at(end_s: float) -> str:
    found = int(kinds(SPANS, np.array([end_s]))[0])
    return "UNKNOWN" if found == UNKNOWN else KINDS[found]


def recording(hz: float, rhythm: str, seconds: int = 40, patient: str = "vfdb/418") -> Streamed:
    t = np.arange(seconds * 250) / 250.0
    wave = np.sin(2 * np.pi * hz * t).astype(np.float32)
    span = Span(0.0, float(seconds), rhythm)
    return Streamed(patient, wave[None], np.ones(seconds, dtype=np.bool_), (span,))


# -- who may be learnt from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "name"),
    [("vfdb", "419"), ("vfdb", "605"), ("cudb", "cu08"), ("cudb", "cu32"), ("mitdb", "100"), ("cinc2015", "a103l")],
)
def test_a_record_that_judges_cannot_be_named(database: str, name: str) -> None:
    with pytest.raises(RefusedRecordError, match=f"{database}/{name}"):
        VfRecord(database, name)


def test_the_lists_are_those_that_were_given() -> None:
    assert {database: len(names) for database, names in TRAINABLE.items()} == {"vfdb": 14, "cudb": 18, "cinc2015": 89}
    assert VfRecord("vfdb", VFDB[0]).patient == "vfdb/418"
    assert VfRecord("cudb", CUDB[-1]).patient == "cudb/cu35"


@pytest.mark.recordings
def test_a_records_rhythms_are_read_without_holes(recordings_dir: Callable[[str], Path]) -> None:
    read = read_rhythm(recordings_dir("cudb").parent, VfRecord("cudb", "cu01"))
    assert read.spans[0].start_s == 0.0
    assert read.spans[0].rhythm == "OTHER"
    assert [a.stop_s for a in read.spans[:-1]] == [b.start_s for b in read.spans[1:]]
    assert max(read.spans, key=lambda span: span.stop_s - span.start_s).rhythm == "VF"
    assert np.isfinite(read.signals).all()


# -- what a window is called -------------------------------------------------------------------------------------------


def test_a_window_is_what_its_last_seconds_are() -> None:
    assert kind_at(20.0 + LAG_S) == "OTHER"
    assert kind_at(20.0 + DECIDING_S + LAG_S) == "VT"
    assert kind_at(40.0 + DECIDING_S + LAG_S) == "VF"
    assert kind_at(80.0 + DECIDING_S + LAG_S) == "ASYS"


def test_while_shockable_and_other_rhythm_are_both_in_its_last_seconds_it_is_neither() -> None:
    assert kind_at(20.1 + LAG_S) == "UNKNOWN"
    assert kind_at(19.9 + DECIDING_S + LAG_S) == "UNKNOWN"


def test_tachycardia_turning_into_fibrillation_is_shockable_throughout() -> None:
    assert {kind_at(end_s) for end_s in np.arange(23.5, 60.0, 0.5).tolist()} == {"VT", "VF"}


def test_slow_tachycardia_is_neither() -> None:
    assert {kind_at(end_s) for end_s in np.arange(60.5, 82.9, 0.5).tolist()} == {"UNKNOWN"}


def test_windows_as_they_are_end_at_every_second_from_the_first_whole_one() -> None:
    found = plain_examples(recording(4.0, "VF", 20))
    assert found.end_s.tolist() == [float(end) for end in range(int(BEFORE_S), 21)]
    assert set(found.kind.tolist()) == {KINDS.index("VF")}
    assert set(found.label.tolist()) == {LABELS.index("shockable")}
    assert found.signal.shape[1:] == SIGNAL_SHAPE


def test_a_window_is_usable_where_its_last_seconds_passed_the_gate() -> None:
    one = recording(4.0, "VF", 20)
    good = one.good.copy()
    good[10] = False
    usable = dict(zip(range(8, 21), plain_examples(replace(one, good=good)).usable.tolist(), strict=True))
    assert [end for end, is_usable in usable.items() if not is_usable] == [11, 12, 13]


# -- variants ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_variants() -> None:
    a, b = (varied_examples(recording(4.0, "VF"), {"VF": 1.0}, NOISE, np.random.default_rng(7)) for _ in range(2))
    assert len(a) > 10
    assert a.signal.tobytes() == b.signal.tobytes()
    assert a.context.tobytes() == b.context.tobytes()


def test_a_slowed_tachycardia_is_none_and_has_the_rate_of_none() -> None:
    fast = recording(200 / 60, "VT")
    found = varied_examples(fast, {"SLOWED": 2.0}, NOISE, np.random.default_rng(7))
    assert len(found) > 20
    assert set(found.label.tolist()) == {LABELS.index("other")}
    # Noise adds crossings now and then: the middle of them tells the rate.
    crossings_bpm = float(np.median(found.context[:, CONTEXT.index("crossing_rate")])) * 10.0 / 2.0 * 60.0
    assert SLOWED_BPM[0] < crossings_bpm < SLOWED_BPM[1]


def test_variants_of_fibrillation_stay_taller_than_standstill() -> None:
    height = CONTEXT.index("height_median")
    tall = varied_examples(recording(4.0, "VF"), {"VF": 2.0}, NOISE, np.random.default_rng(7))
    still = standstill_examples([0.2 * noise for noise in NOISE], 100, np.random.default_rng(7), "standstill/learnt")
    assert tall.context[:, height].min() > np.median(still.context[:, height])
    assert set(still.kind.tolist()) == {KINDS.index("ASYS")}


def test_windows_that_failed_the_quality_gate_are_not_varied() -> None:
    one = recording(4.0, "VF")
    poor = replace(one, good=np.zeros_like(one.good))
    assert len(varied_examples(poor, {"VF": 2.0}, NOISE, np.random.default_rng(7))) == 0


def test_waves_of_a_compressed_chest_are_not_taught_to_be_fibrillation() -> None:
    assert too_slow(plain_examples(recording(1.4, "VF"))).all()
    assert not too_slow(plain_examples(recording(4.0, "VF"))).any()
    assert not too_slow(plain_examples(recording(1.4, "N"))).any()


# -- the network and its trial -----------------------------------------------------------------------------------------


def both() -> Examples:
    fast, slow = plain_examples(recording(4.0, "VF", 60)), plain_examples(recording(1.2, "N", 60, "vfdb/420"))
    return Examples(*(np.concatenate([getattr(fast, n), getattr(slow, n)]) for n in Examples.__slots__))


def test_nothing_unknown_or_unusable_is_drawn() -> None:
    examples = both()
    examples.kind[:5] = UNKNOWN
    examples.usable[5:9] = False
    weights = draw_weights(examples, Recipe())
    assert weights.sum() == pytest.approx(1.0)
    assert not weights[:9].any()
    assert weights[9:].all()


def test_a_network_learns_fast_from_slow_and_is_moved_by_its_operating_point() -> None:
    examples = both()
    network = fit(examples, Recipe(steps=40, batch=32), seed=1)
    before = logits_of(network, examples)
    assert (before.argmax(axis=1) == examples.label).all()
    shift(network, -100.0)
    assert (logits_of(network, examples).argmax(axis=1) == LABELS.index("other")).all()


def test_the_operating_point_is_the_mean_over_people_and_not_over_windows() -> None:
    examples = both()
    examples.kind[:] = KINDS.index("OTHER")
    person = examples.patient == "vfdb/418"
    logits = np.zeros((len(examples), 2), dtype=np.float32)
    logits[:, 1] = np.where(person, 0.0, -9.0)
    logits[np.flatnonzero(person)[0], 1] = 3.0  # one of 53 windows of one of two people: 0.94 % in the mean
    assert -0.1 <= operating_point(HeldOut(examples, logits, logits)) <= 0.0


def test_the_trials_alarms_are_those_of_the_live_rule() -> None:
    end_s = np.arange(8.0, 60.0)
    shockable = np.where((end_s >= 20) & (end_s < 40), 0.99, 0.01).astype(np.float32)
    (alarm,) = alarms(end_s, shockable, np.ones(len(end_s), dtype=np.bool_))
    assert 20.0 < alarm.start_s < 26.0
    assert 40.0 < alarm.stop_s < 48.0
    (lasting,) = alarms(end_s, np.where(end_s >= 50, 0.99, 0.01).astype(np.float32), np.ones(len(end_s), np.bool_))
    assert lasting == Stretch(lasting.start_s, 60.0)
