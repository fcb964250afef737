"""The two ECG paths: what passes, how late, and the same bits for any chunking and any company."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.signal.filters import MORPHOLOGY_DELAY, EcgFilters
from agent.signal.resample import ANALYSIS_RATE_HZ

RATE = ANALYSIS_RATE_HZ


def filtered(x: np.ndarray, mains_hz: float = 0) -> tuple[np.ndarray, np.ndarray]:
    filters = EcgFilters(mains_hz)
    detection, morphology = filters.push([filters.new_state()], x[None])
    return detection[0], morphology[0]


def gain(frequency_hz: float, path: int, mains_hz: float = 0) -> float:
    """Amplitude ratio of one path for a sine, once settled."""
    t = np.arange(40 * RATE) / RATE
    out = filtered(np.sin(2 * np.pi * frequency_hz * t), mains_hz)[path][20 * RATE :]
    return float(np.sqrt(2 * np.mean(out**2)))


def test_the_detection_path_prefers_qrs_to_t_waves_and_muscle() -> None:
    assert gain(12, 0) > 0.6
    assert gain(1, 0) < 0.2
    assert gain(0.3, 0) < 0.05
    assert gain(60, 0) < 0.12


def test_the_morphology_path_keeps_p_qrs_and_t() -> None:
    for frequency_hz in (0.5, 1, 5, 10, 20):
        assert gain(frequency_hz, 1) == pytest.approx(1, abs=0.04)
    assert gain(70, 1) < 0.05


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_the_notch_removes_mains_and_little_else(mains_hz: float) -> None:
    assert gain(mains_hz, 1, mains_hz) < 0.01
    assert gain(20, 1, mains_hz) == pytest.approx(gain(20, 1), abs=0.02)


def test_the_morphology_path_lags_by_its_stated_delay() -> None:
    x = np.exp(-0.5 * ((np.arange(1000) - 500) / 4) ** 2)

    assert int(np.argmax(filtered(x)[1])) == 500 + MORPHOLOGY_DELAY


def test_an_electrode_offset_is_no_step() -> None:
    detection, morphology = filtered(np.full(500, 137.0))

    np.testing.assert_allclose(detection, 0, atol=1e-9)
    np.testing.assert_allclose(morphology, 0, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(
    cuts=st.lists(st.integers(0, 600), max_size=20),
    seed=st.integers(0, 1000),
    mains_hz=st.sampled_from([0, 50, 60]),
)
def test_any_chunking_gives_the_same_bits(cuts: list[int], seed: int, mains_hz: float) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 600)) + 5
    filters = EcgFilters(mains_hz)
    whole = filters.push([filters.new_state() for _ in x], x)

    states = [filters.new_state() for _ in x]
    parts = [filters.push(states, part) for part in np.split(x, sorted(cuts), axis=1)]

    for k in (0, 1):
        np.testing.assert_array_equal(np.concatenate([part[k] for part in parts], axis=1), whole[k])


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(9)), cut=st.integers(1, 8))
def test_any_company_gives_the_same_bits(order: list[int], cut: int) -> None:
    x = np.random.default_rng(7).normal(size=(9, 300))
    filters = EcgFilters()
    together = filters.push([filters.new_state() for _ in x], x)

    for group in (order[:cut], order[cut:]):
        alone = filters.push([filters.new_state() for _ in group], x[group])
        for k in (0, 1):
            np.testing.assert_array_equal(alone[k], together[k][group])


def test_states_are_small_and_survive_pickling() -> None:
    x = np.random.default_rng(8).normal(size=(1, 400))
    filters = EcgFilters(50)
    states = [filters.new_state()]
    filters.push(states, x[:, :333])
    snapshot = pickle.dumps(states)

    assert len(snapshot) < 2000
    restored = pickle.loads(snapshot)  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(filters.push(restored, x[:, 333:])[1], filters.push(states, x[:, 333:])[1])


def test_no_samples_give_none() -> None:
    filters = EcgFilters()
    detection, morphology = filters.push([filters.new_state()], np.empty((1, 0)))

    assert detection.shape == morphology.shape == (1, 0)


def test_mains_that_no_country_has_is_refused() -> None:
    with pytest.raises(ValueError, match="mains"):
        EcgFilters(55)


def test_as_many_rows_as_states_are_expected() -> None:
    filters = EcgFilters()
    with pytest.raises(ValueError, match="shape"):
        filters.push([filters.new_state()], np.zeros((2, 10)))
