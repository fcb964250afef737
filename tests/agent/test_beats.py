"""QRS detection: every beat once, on time, at its peak; nothing where there is none; the same however it arrives."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.scoring import AAMI_CLASS, BeatScore, match_beats, score_beats
from agent.signal.beats import CONFIRM_S, BeatMark, QrsDetector
from agent.signal.filters import EcgFilters
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler

RATE = ANALYSIS_RATE_HZ
CONFIRM = round(CONFIRM_S * RATE)


def found(x: np.ndarray, chunk: int = 500, cuts: list[int] | None = None) -> list[list[BeatMark]]:
    """Statements about signals [rows, n] in mV, pushed in chunks."""
    filters, detector = EcgFilters(), QrsDetector()
    filter_states = [filters.new_state() for _ in x]
    states = [detector.new_state() for _ in x]
    marks: list[list[BeatMark]] = [[] for _ in x]
    edges = sorted(cuts) if cuts is not None else list(range(chunk, x.shape[1], chunk))
    for part in np.split(x, edges, axis=1):
        for row, new in zip(marks, detector.push(states, *filters.push(filter_states, part)), strict=True):
            row.extend(new)
    return marks


def peaks_s(marks: list[BeatMark], status: str = "confirmed") -> np.ndarray:
    return np.array([mark.r_index for mark in marks if mark.status == status]) / RATE


def ecg(r_s: np.ndarray, seconds: float, height_mv: float = 1.0, noise_mv: float = 0.01, seed: int = 0) -> np.ndarray:
    """Gaussian P, QRS and T around each R over noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    x = np.random.default_rng(seed).normal(0, noise_mv, len(t))
    for r in r_s:
        for at, width, share in (
            (-0.17, 0.025, 0.12),
            (-0.03, 0.009, -0.12),
            (0, 0.011, 1),
            (0.03, 0.01, -0.2),
            (0.28, 0.05, 0.3),
        ):
            x += height_mv * share * np.exp(-0.5 * ((t - r - at) / width) ** 2)
    return x


def steady(bpm: float, seconds: float) -> np.ndarray:
    return np.arange(0.6, seconds - 0.8, 60 / bpm)


@pytest.mark.parametrize("bpm", [35, 50, 72, 100, 140, 180])
def test_every_beat_of_a_steady_rhythm_is_found_once_at_its_peak(bpm: float) -> None:
    r_s = steady(bpm, 60)

    beats_s = peaks_s(found(ecg(r_s, 60)[None])[0])

    match = match_beats(r_s, beats_s)
    assert (len(match.missed), len(match.extra)) == (0, 0)
    assert np.max(np.abs(r_s[match.pairs[:, 0]] - beats_s[match.pairs[:, 1]])) <= 0.008


@pytest.mark.parametrize("height_mv", [-1.0, 0.25, 3.0])
def test_neither_polarity_nor_size_matters(height_mv: float) -> None:
    r_s = steady(75, 40)

    match = match_beats(r_s, peaks_s(found(ecg(r_s, 40, height_mv, 0.005)[None])[0]))

    assert (len(match.missed), len(match.extra)) == (0, 0)


def test_a_beat_is_announced_within_300_ms_and_settled_600_ms_after_its_peak() -> None:
    marks = found(ecg(steady(70, 60), 60)[None])[0]

    late = [m for m in marks if m.r_index > 3 * RATE]
    assert {m.status for m in late} == {"provisional", "confirmed"}
    assert all(m.decided_index - m.r_index <= 0.3 * RATE for m in late if m.status == "provisional")
    assert all(m.decided_index - m.r_index == CONFIRM for m in late if m.status == "confirmed")


def test_statements_come_in_the_order_they_were_decided_and_confirmed_beats_ascend() -> None:
    rng = np.random.default_rng(11)
    r_s = np.cumsum(rng.uniform(0.35, 1.6, 80))
    marks = found(ecg(r_s, r_s[-1] + 1, noise_mv=0.08)[None])[0]

    decided = [m.decided_index for m in marks]
    confirmed = [m.r_index for m in marks if m.status == "confirmed"]
    assert decided == sorted(decided)
    assert all(a < b for a, b in itertools.pairwise(confirmed))


def test_every_provisional_beat_is_confirmed_or_withdrawn() -> None:
    rng = np.random.default_rng(12)
    x = ecg(steady(80, 60), 60) + np.cumsum(rng.normal(0, 0.03, 60 * RATE))
    marks = found(x[None])[0]

    due = {m.r_index for m in marks if m.status == "provisional" and m.r_index + CONFIRM < 60 * RATE}
    settled = {m.r_index for m in marks if m.status != "provisional"}
    assert due <= settled


@pytest.mark.parametrize("level_mv", [0.0, 0.001, 0.01])
def test_a_still_heart_has_no_beats(level_mv: float) -> None:
    t = np.arange(120 * RATE) / RATE
    x = np.random.default_rng(1).normal(0, 1, len(t)) * level_mv + 0.2 * np.sin(2 * np.pi * 0.2 * t)

    assert found(x[None])[0] == []


def test_beats_stop_when_the_heart_does() -> None:
    r_s = steady(75, 60)
    x = ecg(r_s[r_s < 30], 60)

    beats_s = peaks_s(found(x[None])[0])

    assert beats_s[-1] < 30
    assert len(beats_s) == np.sum(r_s < 30)


def test_beats_come_back_after_a_pause() -> None:
    r_s = np.concatenate((np.arange(0.6, 30, 0.8), np.arange(37, 60, 0.8)))

    match = match_beats(r_s, peaks_s(found(ecg(r_s, 62)[None])[0]))

    assert (len(match.missed), len(match.extra)) == (0, 0)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_change_of_size_is_followed(factor: float) -> None:
    r_s = steady(75, 60)
    x = ecg(r_s, 60, noise_mv=0.005)
    x[30 * RATE :] *= factor

    beats_s = peaks_s(found(x[None])[0])

    match = match_beats(r_s, beats_s)
    lost = r_s[match.missed]
    assert np.all((lost > 29) & (lost < 36))
    assert len(match.extra) <= 1


def test_an_electrode_step_costs_no_more_than_the_beats_around_it() -> None:
    r_s = steady(75, 60)
    x = ecg(r_s, 60)
    x[30 * RATE + 100 :] += 5

    beats_s = peaks_s(found(x[None])[0])

    match = match_beats(r_s, beats_s)
    assert np.all(np.abs(r_s[match.missed] - 30.4) < 2.5)
    assert len(match.extra) <= 2


def test_p_waves_without_conduction_are_no_beats() -> None:
    t = np.arange(60 * RATE) / RATE
    r_s = np.arange(1.0, 59, 1.6)
    x = ecg(r_s, 60)
    for at in r_s + 0.8 - 0.17:
        x += 0.12 * np.exp(-0.5 * ((t - at) / 0.025) ** 2)

    match = match_beats(r_s, peaks_s(found(x[None])[0]))

    assert (len(match.missed), len(match.extra)) == (0, 0)


def test_a_ventricular_standstill_with_p_waves_is_a_pause() -> None:
    t = np.arange(60 * RATE) / RATE
    before_s = np.arange(0.6, 30, 0.8)
    x = ecg(before_s, 60)
    for at in np.arange(30.6, 45, 0.8) - 0.17:
        x += 0.15 * np.exp(-0.5 * ((t - at) / 0.025) ** 2)

    beats_s = peaks_s(found(x[None])[0])

    assert len(beats_s) == len(before_s)
    assert beats_s[-1] < 30


SIGNALS = np.stack(
    [
        ecg(steady(80, 12), 12, noise_mv=0.05, seed=1),
        ecg(steady(150, 12), 12, height_mv=-0.6, seed=2),
        ecg(np.array([1.0, 1.8, 2.2, 3.4, 4.2, 7.5, 8.3, 8.7, 9.9]), 12, noise_mv=0.1, seed=3),
        np.cumsum(np.random.default_rng(4).normal(0, 0.05, 12 * RATE)),
        np.zeros(12 * RATE),
        np.random.default_rng(5).normal(0, 0.4, 12 * RATE),
    ]
)


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 12 * RATE), max_size=25))
def test_any_chunking_gives_the_same_statements(cuts: list[int]) -> None:
    assert found(SIGNALS, cuts=cuts) == found(SIGNALS, cuts=[])


def test_one_sample_at_a_time_gives_the_same_statements() -> None:
    assert found(SIGNALS[:, : 5 * RATE], chunk=1) == found(SIGNALS[:, : 5 * RATE], cuts=[])


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(len(SIGNALS))), cut=st.integers(1, len(SIGNALS) - 1))
def test_any_company_gives_the_same_statements(order: list[int], cut: int) -> None:
    together = found(SIGNALS)

    for group in (order[:cut], order[cut:]):
        assert found(SIGNALS[group]) == [together[i] for i in group]


def test_a_state_is_small_and_survives_pickling() -> None:
    filters, detector = EcgFilters(), QrsDetector()
    filter_states, states = [filters.new_state()], [detector.new_state()]
    x = SIGNALS[2:3]
    detector.push(states, *filters.push(filter_states, x[:, :2000]))

    snapshot = pickle.dumps(states)
    paths = filters.push(filter_states, x[:, 2000:])

    assert len(snapshot) < 20_000
    restored = pickle.loads(snapshot)  # noqa: S301 - our own bytes
    assert detector.push(restored, *paths) == detector.push(states, *paths)


def test_paths_that_disagree_are_refused() -> None:
    detector = QrsDetector()
    with pytest.raises(ValueError, match="shapes"):
        detector.push([detector.new_state()], np.zeros((1, 10)), np.zeros((1, 9)))


def scored(path: Path) -> BeatScore:
    """One annotated record, streamed on its analysis lead (MLII, else the first)."""
    wfdb = pytest.importorskip("wfdb")
    record = wfdb.rdrecord(str(path))
    annotation = wfdb.rdann(str(path), "atr")
    lead = record.sig_name.index("MLII") if "MLII" in record.sig_name else 0
    x = Resampler(record.fs).push(np.nan_to_num(record.p_signal[:, lead]))
    x = np.append(x, np.full(RATE, x[-1]))
    reference = [
        s / record.fs for s, code in zip(annotation.sample, annotation.symbol, strict=True) if code in AAMI_CLASS
    ]
    return score_beats(path.name, reference, peaks_s(found(x[None], chunk=RATE)[0]))


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("record", "sensitivity", "positive_predictivity"),
    [
        ("101", 0.999, 0.998),
        ("108", 0.98, 0.98),
        ("119", 0.999, 0.999),
        ("203", 0.985, 0.99),
        ("208", 0.99, 0.995),
        ("104", 0.995, 0.995),
    ],
)
def test_mit_bih_records_keep_their_floors(
    record: str, sensitivity: float, positive_predictivity: float, recordings_dir: Callable[[str], Path]
) -> None:
    score = scored(recordings_dir("mitdb") / record)

    assert score.sensitivity >= sensitivity
    assert score.positive_predictivity >= positive_predictivity
    assert score.jitter_s < 0.02


@pytest.mark.recordings
@pytest.mark.parametrize("record", ["801", "865", "886"])
def test_svdb_records_keep_their_floors(record: str, recordings_dir: Callable[[str], Path]) -> None:
    score = scored(recordings_dir("svdb") / record)

    assert score.sensitivity >= 0.99
    assert score.positive_predictivity >= 0.99
