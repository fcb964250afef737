"""Signal quality: loose electrodes and noise are named, a still heart is not blamed on the electrode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.filters import EcgFilters
from agent.signal.quality import SECOND, QualityMark, SignalQuality
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler

RATE = ANALYSIS_RATE_HZ


def judged(x: np.ndarray, chunk: int = 10**9) -> list[list[QualityMark]]:
    """Marks for signals [rows, n] mV, pushed `chunk` samples at a time."""
    filters, quality = EcgFilters(), SignalQuality()
    filter_states = [filters.new_state() for _ in x]
    states = [quality.new_state() for _ in x]
    marks: list[list[QualityMark]] = [[] for _ in x]
    for start in range(0, x.shape[1], chunk):
        part = x[:, start : start + chunk]
        detection, morphology = filters.push(filter_states, part)
        for row, new in zip(marks, quality.push(states, part, detection, morphology), strict=True):
            row.extend(new)
    return marks


def reasons(x: np.ndarray) -> set[str]:
    return {mark.reason for mark in judged(x[None])[0]}


def ecg(seconds: int = 10, noise_mv: float = 0.01, seed: int = 0) -> np.ndarray:
    """Gaussian P, QRS and T at 72 beats a minute over amplifier noise."""
    t = np.arange(seconds * RATE) / RATE
    x = np.random.default_rng(seed).normal(0, noise_mv, len(t))
    for r in np.arange(0.5, seconds, 60 / 72):
        for at, width, height in ((-0.17, 0.025, 0.12), (0.0, 0.011, 1.1), (0.28, 0.05, 0.3)):
            x += height * np.exp(-0.5 * ((t - r - at) / width) ** 2)
    return x


def test_a_clean_ecg_is_good_every_second() -> None:
    marks = judged(ecg()[None])[0]

    assert [(m.start_index, m.end_index) for m in marks] == [(k * SECOND, (k + 1) * SECOND) for k in range(10)]
    assert all(m.good and m.reason == "" and 0.5 < m.score <= 1 for m in marks)


def test_a_still_heart_is_not_an_electrode_fault() -> None:
    t = np.arange(20 * RATE) / RATE
    noise = np.random.default_rng(3).normal(0, 0.004, len(t))

    assert reasons(noise + 0.15 * np.sin(2 * np.pi * 0.25 * t)) == {""}


def test_p_waves_without_beats_are_not_an_electrode_fault() -> None:
    t = np.arange(20 * RATE) / RATE
    x = np.random.default_rng(4).normal(0, 0.004, len(t))
    for at in np.arange(0.5, 20, 0.7):
        x += 0.1 * np.exp(-0.5 * ((t - at) / 0.03) ** 2)

    assert reasons(x) == {""}


def test_coarse_fibrillation_is_not_noise() -> None:
    t = np.arange(20 * RATE) / RATE
    x = (0.7 + 0.3 * np.sin(2 * np.pi * 0.4 * t)) * np.sin(2 * np.pi * 4.5 * t + np.sin(2 * np.pi * 0.7 * t))

    assert reasons(x) == {""}


def test_samples_that_never_change_are_flat() -> None:
    assert reasons(np.full(5 * RATE, 0.3)) == {"flat"}


def test_clipping_is_saturated() -> None:
    x = np.clip(4 * np.sin(2 * np.pi * 1.0 * np.arange(5 * RATE) / RATE), -2, 2)

    assert reasons(x) == {"saturated"}


def test_mains_without_an_electrode_is_lead_off() -> None:
    assert reasons(2.0 * np.sin(2 * np.pi * 50 * np.arange(5 * RATE) / RATE)) == {"lead off"}


def test_drift_beyond_a_front_end_is_lead_off() -> None:
    x = 15 * np.sin(2 * np.pi * 0.9 * np.arange(10 * RATE) / RATE)

    assert reasons(x) == {"lead off"}


def test_muscle_noise_is_noise() -> None:
    assert reasons(ecg(noise_mv=0.3)) == {"noise"}


def test_motion_over_a_small_heart_is_noise() -> None:
    x = 0.1 * ecg() + 4 * np.sin(2 * np.pi * 0.7 * np.arange(10 * RATE) / RATE)

    assert "noise" in reasons(x)


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 900), max_size=8), seed=st.integers(0, 1000))
def test_any_chunking_gives_the_same_marks(cuts: list[int], seed: int) -> None:
    x = np.stack((ecg(4, 0.05, seed)[:900], np.random.default_rng(seed).normal(size=900)))
    whole = judged(x)

    filters, quality = EcgFilters(), SignalQuality()
    filter_states, states = [filters.new_state(), filters.new_state()], [quality.new_state(), quality.new_state()]
    marks: list[list[QualityMark]] = [[], []]
    for part in np.split(x, sorted(cuts), axis=1):
        paths = filters.push(filter_states, part)
        for row, new in zip(marks, quality.push(states, part, *paths), strict=True):
            row.extend(new)

    assert marks == whole


def test_a_row_is_judged_alike_alone_and_in_company() -> None:
    x = np.stack([ecg(3, 0.1, seed) for seed in range(7)])

    together = judged(x, chunk=100)

    assert together == [judged(row[None])[0] for row in x]


def test_shapes_that_disagree_are_refused() -> None:
    quality = SignalQuality()
    with pytest.raises(ValueError, match="shapes"):
        quality.push([quality.new_state()], np.zeros((1, 5)), np.zeros((1, 4)), np.zeros((1, 5)))


def lead(path: Path, start_s: float, end_s: float) -> np.ndarray:
    """First lead of a record between two times, at 250 Hz."""
    wfdb = pytest.importorskip("wfdb")
    rate = wfdb.rdheader(str(path)).fs
    record = wfdb.rdrecord(str(path), sampfrom=round(start_s * rate), sampto=round(end_s * rate), channels=[0])
    return Resampler(rate).push(np.nan_to_num(record.p_signal[:, 0]))


@pytest.mark.recordings
def test_true_asystole_of_the_challenge_is_not_gated_away(recordings_dir: Callable[[str], Path]) -> None:
    alarms = [line.split(",") for line in (recordings_dir("cinc2015") / "ALARMS").read_text().split()]
    true_asystoles = [name for name, alarm, true in alarms if alarm == "Asystole" and true == "1"]

    share = [
        np.mean([m.good for m in judged(lead(recordings_dir("cinc2015") / name, 270, 300)[None])[0]])
        for name in true_asystoles
    ]

    assert len(share) > 3
    assert min(share) == 1.0


@pytest.mark.recordings
@pytest.mark.parametrize("record", ["101", "108", "203", "208"])
def test_nearly_all_of_mit_bih_can_be_judged(record: str, recordings_dir: Callable[[str], Path]) -> None:
    marks = judged(lead(recordings_dir("mitdb") / record, 0, 900)[None])[0]

    assert np.mean([m.good for m in marks]) >= 0.97
