"""The simulated patient: the same for the same seed, true to its script, and shaped like an ECG."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.simulate import (
    ADC_STEP_MV,
    CGM_DAY,
    EPOCH_NS,
    RAIL_MV,
    Episode,
    Rhythm,
    SimulatedPatient,
    TrueEpisode,
    cgm_chunks,
    cgm_readings,
)
from firmware_bridge.chunk import NS_PER_S, check_samples

PATIENT = SimulatedPatient(1)


def one_rhythm(rhythm: Rhythm, duration_s: float = 60.0, *, rate_hz: float = 250.0, seed: int = 4) -> SimulatedPatient:
    return SimulatedPatient(seed, rate_hz, [Episode(rhythm, duration_s)])


def during(patient: SimulatedPatient, rhythm: Rhythm, margin_s: float = 1.0) -> np.ndarray:
    episode = next(found for found in patient.episodes if found.rhythm == rhythm)
    start, stop = (round(at * patient.rate_hz) for at in (episode.start_s + margin_s, episode.end_s - margin_s))
    return patient.samples[start:stop, 0]


def intervals_s(patient: SimulatedPatient) -> np.ndarray:
    return np.diff([beat.t_s for beat in patient.beats])


def around(patient: SimulatedPatient, t_s: float, before_s: float, after_s: float) -> np.ndarray:
    at = round(t_s * patient.rate_hz)
    return patient.samples[at - round(before_s * patient.rate_hz) : at + round(after_s * patient.rate_hz) + 1, 0]


def test_the_same_seed_is_the_same_person() -> None:
    again = SimulatedPatient(1)
    np.testing.assert_array_equal(again.samples, PATIENT.samples)
    assert again.beats == PATIENT.beats


def test_another_seed_is_another_person() -> None:
    other = SimulatedPatient(2)
    assert other.beats != PATIENT.beats
    assert not np.array_equal(other.samples, PATIENT.samples)


@given(st.lists(st.integers(1, 3_000), max_size=40))
def test_any_chunking_sends_the_same_samples_at_the_same_times(sizes: list[int]) -> None:
    chunks = list(PATIENT.chunks(sizes=sizes, chunk_s=3.0))
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), PATIENT.samples[PATIENT.present])
    sent = np.flatnonzero(PATIENT.present)
    first = np.cumsum([0, *(len(chunk.samples) for chunk in chunks[:-1])])
    assert [chunk.t0_ns - EPOCH_NS for chunk in chunks] == [int(sent[index]) * 4_000_000 for index in first]
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))


def test_a_silent_sensor_sends_nothing_and_comes_back() -> None:
    chunks = list(PATIENT.chunks())
    silence = next(episode for episode in PATIENT.episodes if episode.rhythm == Rhythm.SILENCE)
    start_ns, end_ns = (EPOCH_NS + round(at * NS_PER_S) for at in (silence.start_s, silence.end_s))
    assert all(chunk.end_ns <= start_ns or chunk.t0_ns >= end_ns for chunk in chunks)
    assert any(chunk.t0_ns == end_ns for chunk in chunks)


def test_what_is_sent_is_what_a_sensor_may_send() -> None:
    for chunk in PATIENT.chunks():
        assert check_samples(chunk.samples, chunk.stream) is chunk.samples
    counts = PATIENT.samples.astype(np.float64) / ADC_STEP_MV
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)


def test_the_demo_goes_through_its_script() -> None:
    assert [episode.rhythm for episode in PATIENT.episodes].count(Rhythm.SINUS) == 5
    assert 60 <= PATIENT.duration_s <= 90
    tachycardia = next(found for found in PATIENT.episodes if found.rhythm == Rhythm.VENTRICULAR_TACHYCARDIA)
    run = [beat for beat in PATIENT.beats if tachycardia.start_s <= beat.t_s < tachycardia.end_s]
    assert [beat.label for beat in run] == ["V"] * 12
    np.testing.assert_allclose(60 / np.diff([beat.t_s for beat in run]), 170, rtol=0.04)


def test_no_beat_is_claimed_where_none_can_be_seen() -> None:
    unseen = {Rhythm.ASYSTOLE, Rhythm.LEAD_OFF, Rhythm.SILENCE}
    assert not [beat for beat in PATIENT.beats if PATIENT.episode_at(beat.t_s).rhythm in unseen]
    assert max(intervals_s(PATIENT)) > 7


@pytest.mark.parametrize("rate_hz", [128.0, 250.0, 360.0, 500.0])
def test_an_r_peak_is_where_the_truth_says(rate_hz: float) -> None:
    patient = one_rhythm(Rhythm.SINUS, rate_hz=rate_hz)
    for beat in patient.beats[1:-1]:
        near = around(patient, beat.t_s, 0.1, 0.1)
        peak_s = (round(beat.t_s * rate_hz) - round(0.1 * rate_hz) + int(np.argmax(near))) / rate_hz
        assert abs(peak_s - beat.t_s) <= 1 / rate_hz + 0.002
        assert 0.7 < near.max() < 1.8


def test_a_normal_beat_is_narrow_with_a_p_wave_and_a_ventricular_one_is_wide_without() -> None:
    patient = one_rhythm(Rhythm.ECTOPY, 120.0)
    shape = {
        label: np.mean([around(patient, b.t_s, 0.3, 0.5) for b in patient.beats[3:-1] if b.label == label], axis=0)
        for label in "NSV"
    }
    width_s = {label: float(np.mean(wave > 0.5 * wave.max()) * len(wave) / 250) for label, wave in shape.items()}
    assert width_s["N"] < 0.04
    assert width_s["S"] < 0.04
    assert width_s["V"] > 0.05
    p_wave = slice(round(0.10 * 250), round(0.19 * 250))
    baseline = np.median(shape["N"][: round(0.06 * 250)])
    assert shape["N"][p_wave].max() - baseline > 0.08
    t_wave = slice(round(0.50 * 250), round(0.65 * 250))
    assert shape["N"][t_wave].mean() > 0.05
    assert shape["V"][t_wave].mean() < -0.1


def test_premature_beats_come_early_and_only_ventricular_ones_are_compensated() -> None:
    patient = one_rhythm(Rhythm.ECTOPY, 300.0)
    labels = [beat.label for beat in patient.beats]
    rr_s = intervals_s(patient)
    normal_s = float(np.median(rr_s))
    for at, label in enumerate(labels[1:-1], start=1):
        if label != "N":
            assert rr_s[at - 1] < 0.75 * normal_s
            pair = (rr_s[at - 1] + rr_s[at]) / normal_s
            assert pair == pytest.approx(2.0 if label == "V" else 1.74, abs=0.25)


def test_rhythms_have_their_rate_and_their_irregularity() -> None:
    rate = {rhythm: 60 / np.median(intervals_s(one_rhythm(rhythm, 120.0))) for rhythm in Rhythm if _beats(rhythm)}
    assert 60 < rate[Rhythm.SINUS] < 80
    assert rate[Rhythm.BRADYCARDIA] < 40
    assert rate[Rhythm.TACHYCARDIA] > 140
    spread = {rhythm: np.std(np.log(intervals_s(one_rhythm(rhythm, 120.0)))) for rhythm in rate}
    assert spread[Rhythm.ATRIAL_FIBRILLATION] > 0.15
    assert 0.01 < spread[Rhythm.SINUS] < 0.08
    assert {beat.label for beat in one_rhythm(Rhythm.ATRIAL_FIBRILLATION).beats} == {"N"}


def _beats(rhythm: Rhythm) -> bool:
    return bool(one_rhythm(rhythm).beats)


def test_bigeminy_alternates() -> None:
    labels = "".join(beat.label for beat in one_rhythm(Rhythm.BIGEMINY).beats)
    assert "VV" not in labels
    assert "NN" not in labels


def test_fibrillation_oscillates_around_five_times_a_second() -> None:
    patient = one_rhythm(Rhythm.VENTRICULAR_FIBRILLATION)
    wave = during(patient, Rhythm.VENTRICULAR_FIBRILLATION)
    power = np.abs(np.fft.rfft(wave - wave.mean())) ** 2
    frequency_hz = np.fft.rfftfreq(len(wave), 1 / 250)
    assert 3 < frequency_hz[np.argmax(power)] < 7
    assert 0.5 < np.ptp(wave) < 4
    assert not patient.beats


def test_asystole_is_quiet_but_never_exactly_flat() -> None:
    wave = during(PATIENT, Rhythm.ASYSTOLE)
    seconds = wave[: len(wave) // 250 * 250].reshape(-1, 250)
    assert np.ptp(seconds, axis=1).max() < 0.3
    assert np.std(np.diff(seconds, axis=1), axis=1).min() > ADC_STEP_MV


def test_an_electrode_off_is_the_rail() -> None:
    assert set(during(PATIENT, Rhythm.LEAD_OFF, margin_s=0.0)) == {np.float32(RAIL_MV)}


def test_the_truth_says_when() -> None:
    patient = SimulatedPatient(1, script=[Episode(Rhythm.SINUS, 5.0), Episode(Rhythm.ASYSTOLE, 4.0)])
    assert patient.episodes == (TrueEpisode(Rhythm.SINUS, 0.0, 5.0), TrueEpisode(Rhythm.ASYSTOLE, 5.0, 9.0))
    assert patient.episode_at(5.0).rhythm == Rhythm.ASYSTOLE
    assert patient.episode_at(99.0).rhythm == Rhythm.ASYSTOLE


def test_glucose_follows_its_course_within_what_a_sensor_errs() -> None:
    readings = cgm_readings(1)
    assert readings == cgm_readings(1)
    assert [reading.t_s for reading in readings[:3]] == [0.0, 300.0, 600.0]
    at_points = dict(CGM_DAY)
    for reading in readings:
        if reading.t_s / 3600 in at_points:
            assert reading.mg_dl == pytest.approx(at_points[reading.t_s / 3600], abs=10)
    steps = np.abs(np.diff([reading.mg_dl for reading in readings]))
    assert steps.max() < 25


def test_a_day_of_glucose_fits_into_a_minute() -> None:
    readings = cgm_readings(1, interval_s=5.0, hour_s=60 / 24)
    assert len(readings) == 9
    chunks = list(cgm_chunks(readings, interval_s=5.0))
    assert [(chunk.t0_ns - EPOCH_NS) // NS_PER_S for chunk in chunks[:3]] == [0, 5, 10]
    assert check_samples(chunks[0].samples, chunks[0].stream).shape == (1, 1)
