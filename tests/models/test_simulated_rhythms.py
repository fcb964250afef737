"""Invented rhythms: a person's own beats, labelled by construction; one becomes fast at once, another by and by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("wfdb", reason="training needs the [train] extra: wfdb is absent")

from models.training.datasets import Record, Recording
from models.training.examples import LABELS, examples_of, variant
from models.training.simulated_rhythms import (
    SECONDS,
    _atrial_tachycardia,
    _Sinus,
    _sinus_tachycardia,
    seeded,
    simulate,
)

RATE_HZ = 128.0
NOISE = {"bw": np.random.default_rng(0).normal(size=(20_000, 2))}


@pytest.fixture(scope="module")
def person() -> Recording:
    """Four minutes of sinus rhythm, narrow and upright, with every ninth beat wide, early and upside down."""
    rng = np.random.default_rng(0)
    t = np.arange(int(240 * RATE_HZ)) / RATE_HZ
    signal = 0.01 * rng.normal(size=len(t))
    at, times, classes = 1.0, [], []
    while at < 237:
        wide = len(times) % 9 == 8
        signal += (-1.2 if wide else 1.0) * np.exp(-(((t - at) / (0.04 if wide else 0.014)) ** 2))
        signal += (0.0 if wide else 0.15) * np.exp(-(((t - at + 0.16) / 0.025) ** 2))
        signal += 0.25 * np.exp(-(((t - at - 0.26) / 0.05) ** 2))
        times.append(round(at * RATE_HZ))
        classes.append("V" if wide else "N")
        at += 1.1 if wide else 0.55 if len(times) % 9 == 8 else 0.82
    leads = np.stack((signal, 0.5 * signal), axis=1)
    return Recording(Record("svdb", "801"), RATE_HZ, leads, 0, np.array(times), np.array(classes), ())


def played(person: Recording, seed: int) -> Recording:
    out = simulate(person, np.random.default_rng(seed))
    assert out is not None
    return out


def test_a_rhythm_is_as_long_as_asked_and_the_same_each_time(person: Recording) -> None:
    one, again = (simulate(person, seeded(person, 5)) for _ in range(2))
    assert one is not None
    assert again is not None
    assert one.signals.tobytes() == again.signals.tobytes()
    assert SECONDS <= len(one.signals) / RATE_HZ < 2 * SECONDS


@pytest.mark.parametrize("seed", range(4))
def test_a_beat_lies_where_its_label_says(person: Recording, seed: int) -> None:
    out = played(replace(person, signals=person.signals[:, :1]), seed)
    around = np.stack([out.signals[out.beat_samples + offset, 0] for offset in (-9, 0, 9)])
    high = np.abs(around[1] - 0.5 * (around[0] + around[2]))
    assert (high > 0.4 * np.percentile(high, 90)).mean() > 0.98


def test_ventricular_beats_are_the_persons_own(person: Recording) -> None:
    polarity = {"V": [], "S": [], "N": []}
    for seed in range(6):
        out = played(replace(person, signals=person.signals[:, :1]), seed)
        for name, at in zip(out.beat_classes.tolist(), out.signals[out.beat_samples, 0].tolist(), strict=True):
            polarity[name].append(at)
    assert np.median(polarity["V"]) < 0 < np.median(polarity["S"])
    assert len(polarity["S"]) > 100


def test_an_atrial_tachycardia_begins_at_once_and_a_sinus_tachycardia_by_and_by() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sinus = _Sinus(rng)
        atrial, slope = list(_atrial_tachycardia(rng, sinus)), list(_sinus_tachycardia(rng, sinus))
        assert {beat.aami for beat in atrial[:-1]} == {"S"}
        assert atrial[0].rr_s < 0.85 * sinus.mean_s
        assert {beat.aami for beat in slope} == {"N"}
        assert max(abs(np.diff(np.log([beat.rr_s for beat in slope])))) < 0.12
        assert min(beat.rr_s for beat in slope) < 0.95 * sinus.mean_s


def test_a_person_without_enough_normal_beats_gives_another_mix_of_leads(person: Recording) -> None:
    few = replace(person, beat_classes=np.full(len(person.beat_samples), "S"))
    assert simulate(few, np.random.default_rng(0)) is None
    assert len(variant(few, 5, NOISE).signal) == len(person.signals)


def test_what_is_played_becomes_examples_of_the_same_person(person: Recording) -> None:
    examples = examples_of(person, 5, NOISE)
    assert set(examples.patient.tolist()) == {"svdb/801"}
    labels = [LABELS[k] for k in examples.label.tolist() if k >= 0]
    assert labels.count("N") > 100
    assert labels.count("Q") < 0.02 * len(labels)
