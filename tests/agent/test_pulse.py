"""Pulses are found as they come, alike however the wave is cut; noise has none that may be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.pulse import LEAST_RATE_HZ, PulseDetector, PulseMark


def wave(rate_hz: float, onsets_s: Sequence[float], until_s: float, sizes: Sequence[float] = ()) -> np.ndarray:
    """A finger's wave: a steep rise, a slow fall, and a small second wave on it."""
    t = np.arange(round(until_s * rate_hz)) / rate_hz
    out = np.zeros(len(t))
    for k, onset in enumerate(onsets_s):
        size = sizes[k] if sizes else 1.0
        out += size * np.exp(-0.5 * ((t - onset - 0.12) / 0.07) ** 2)
        out += 0.3 * size * np.exp(-0.5 * ((t - onset - 0.40) / 0.09) ** 2)
    return 512.0 + 100.0 * out + np.random.default_rng(1).normal(0.0, 0.3, len(t))


def found(rate_hz: float, samples: np.ndarray, sizes: Sequence[int] = ()) -> list[PulseMark]:
    detector = PulseDetector(rate_hz)
    state, marks, at = detector.new_state(), [], 0
    for size in [*sizes, len(samples)]:
        marks += detector.push([state], [samples[at : at + size]])[0]
        at += size
    return marks


ONSETS = [0.5 + 0.8 * k for k in range(36)]
WAVE = wave(125.0, ONSETS, 30.0)


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 55.0, 100.0, 135.0, 176.0, 250.0, 500.0])
def test_every_pulse_is_found_once_whatever_the_rate(rate_hz: float) -> None:
    marks = found(rate_hz, wave(rate_hz, ONSETS, 30.0))
    t_s = np.array([mark.index / rate_hz for mark in marks])
    expected = [onset for onset in ONSETS if 6.0 < onset < 29.0]
    assert [np.count_nonzero(np.abs(t_s - onset - 0.15) < 0.15) for onset in expected] == [1] * len(expected)
    assert len(t_s[(t_s > 6.1) & (t_s < 29.0)]) in (len(expected), len(expected) + 1)
    assert all(mark.good for mark in marks if mark.index > 6.0 * rate_hz)


def test_a_pulse_is_known_within_a_third_of_a_second() -> None:
    assert all(0 < (mark.decided_index - mark.index) / 125.0 < 0.33 for mark in found(125.0, WAVE))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=60))
def test_any_chunking_gives_the_same_pulses(sizes: list[int]) -> None:
    assert found(125.0, WAVE, sizes) == found(125.0, WAVE)


def test_company_changes_nothing() -> None:
    detector = PulseDetector(125.0)
    states = [detector.new_state() for _ in range(3)]
    others = [wave(125.0, [0.3 + 0.6 * k for k in range(50)], 30.0), np.zeros(len(WAVE))]
    marks: list[PulseMark] = []
    for at in range(0, len(WAVE), 125):
        marks += detector.push(states, [samples[at : at + 125] for samples in (others[0], WAVE, others[1])])[1]
    assert marks == found(125.0, WAVE)


def test_the_wave_s_second_rise_is_no_pulse_and_a_weak_one_is_called_weak() -> None:
    sizes = [1.0] * 30 + [0.4] * 6
    marks = found(125.0, wave(125.0, ONSETS, 30.0, sizes))
    weak = [mark for mark in marks if mark.index / 125.0 > ONSETS[31]]
    assert [mark.good for mark in weak[:2]] == [False] * 2
    assert all(0.35 < mark.strength < 0.45 for mark in weak[:2])


@pytest.mark.parametrize("seed", range(5))
def test_of_noise_less_than_half_may_be_believed(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, 60 * 125)
    marks = found(125.0, noise)
    assert sum(mark.good and mark.fit >= 0.9 for mark in marks) < 0.5 * len(marks)


@pytest.mark.parametrize("samples", [np.zeros(4000), np.full(4000, 512.0)], ids=["nought", "a level"])
def test_nothing_is_found_where_nothing_is(samples: np.ndarray) -> None:
    assert found(125.0, samples) == []


def test_a_probe_put_on_late_is_learnt_then() -> None:
    late = np.concatenate((np.full(20 * 125, 512.0), WAVE))
    assert sum(mark.good for mark in found(125.0, late)) >= 28


def test_a_sensor_that_sits_better_is_believed_again_soon() -> None:
    sizes = [1.0] * 12 + [5.0] * 24
    marks = found(125.0, wave(125.0, ONSETS, 30.0, sizes))
    assert all(mark.good for mark in marks if mark.index / 125.0 > ONSETS[12] + 8.0)


@pytest.mark.parametrize("rate_hz", [0.0, LEAST_RATE_HZ - 0.1, float("nan"), float("inf")])
def test_too_slow_a_stream_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="pulses cannot be seen"):
        PulseDetector(rate_hz)
