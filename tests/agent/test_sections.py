"""Second-order sections have the bits of scipy's, whether its loop was loaded by itself or with its package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, firwin, iirnotch, sosfilt_zi, tf2sos
from scipy.signal import sosfilt as scipy_sosfilt

from agent.signal import sections
from agent.signal.filters import _LOW_PASS, _NOTCH
from agent.signal.sections import at_rest, first_order_high_pass, second_order_low_pass, sosfilt

ROOT = Path(__file__).resolve().parents[2]


@settings(max_examples=300)
@given(st.floats(10, 2000), st.floats(1e-4, 0.49))
def test_designs_are_scipy_s_to_the_bit(rate_hz: float, share: float) -> None:
    edge_hz = share * rate_hz
    high, low = first_order_high_pass(edge_hz, rate_hz), second_order_low_pass(edge_hz, rate_hz)
    assert np.array_equal(high, butter(1, edge_hz, "highpass", fs=rate_hz, output="sos"))
    assert np.array_equal(low, butter(2, edge_hz, fs=rate_hz, output="sos"))
    both = np.concatenate((low, high, low))
    assert np.array_equal(at_rest(both), sosfilt_zi(both))


def test_the_constants_of_the_ecg_filters_are_the_designs_they_are_named_after() -> None:
    assert list(_LOW_PASS) == firwin(25, 40, window=("kaiser", 4), fs=250).tolist()[:13]
    for mains_hz, notch in _NOTCH.items():
        assert list(notch) == tf2sos(*iirnotch(mains_hz, 25, fs=250))[0].tolist()


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_filtering_is_scipy_s_to_the_bit_and_leaves_its_inputs_alone(rows: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    both = np.concatenate((first_order_high_pass(0.5, 50), second_order_low_pass(6, 50)))
    x, memory = rng.normal(size=(rows, n)), rng.normal(size=(rows, 2, 2))
    x_before, memory_before = x.copy(), memory.copy()
    y, after = sosfilt(both, x, memory)
    expected, expected_after = scipy_sosfilt(both, x, axis=1, zi=memory.transpose(1, 0, 2))
    assert np.array_equal(y, expected)
    assert np.array_equal(after, expected_after.transpose(1, 0, 2))
    assert np.array_equal(x, x_before)
    assert np.array_equal(memory, memory_before)


def test_the_way_through_the_package_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    both = np.concatenate((first_order_high_pass(8, 250), second_order_low_pass(20, 250)))
    x, memory = rng.normal(size=(3, 250)), rng.normal(size=(3, 2, 2))
    y, after = sosfilt(both, x, memory)
    sections._from_the_package(both, x, memory)
    assert np.array_equal(x, y)
    assert np.array_equal(memory, after)


def test_what_does_not_go_together_is_refused_before_compiled_code_sees_it() -> None:
    high = first_order_high_pass(8, 250)
    for x, memory in (((2, 9), (1, 1, 2)), ((2, 9), (2, 2, 2)), ((9,), (1, 1, 2))):
        with pytest.raises(ValueError, match="do not go together"):
            sosfilt(high, np.zeros(x), np.zeros(memory))


@pytest.mark.parametrize("broken", ["raise ImportError", "def _sosfilt(sections, x, memory): pass", "other = 1"])
def test_a_loop_that_is_gone_or_changed_is_taken_from_the_package(broken: str) -> None:
    code = (
        "import sys, types; import numpy as np; from agent.signal import sections as s\n"
        "def loaded():\n module = types.ModuleType('m'); exec(sys.argv[1], module.__dict__); return module\n"
        "s._loaded_alone = loaded; high = s.first_order_high_pass(8, 250)\n"
        "print(s.sosfilt(high, np.ones((1, 3)), np.zeros((1, 1, 2)))[0].tolist(), 'scipy.signal' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code, broken]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == (
        f"{sosfilt(first_order_high_pass(8, 250), np.ones((1, 3)), np.zeros((1, 1, 2)))[0].tolist()} True"
    )


def test_the_loop_alone_and_scipy_signal_live_together_in_either_order() -> None:
    alone = "from agent.signal.sections import _loop, _from_the_package; assert _loop() is not _from_the_package"
    package = "from scipy.signal import sosfilt, butter; sosfilt(butter(2, 0.1, output='sos'), [1.0, 2.0])"
    for code in (f"{alone}; {package}", f"{package}; {alone}"):
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)
