"""Two causal ECG paths for a batch of patients: one to find beats in, one to look at beats in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.sections import at_rest, first_order_high_pass, second_order_low_pass, sosfilt

Signal = npt.NDArray[np.float64]

DETECTION_BAND_HZ = (8.0, 20.0)
"""Where QRS energy exceeds that of P, T and motion most (Hamilton & Tompkins 1986); low order, so it rings little."""
MORPHOLOGY_BAND_HZ = (0.05, 40.0)
"""ST and T survive 0.05 Hz of first order; consumers subtract their own isoelectric level."""
MORPHOLOGY_DELAY = 12
"""Samples by which the morphology path lags its input: a linear-phase low-pass, the same at all frequencies."""

_TAPS = 2 * MORPHOLOGY_DELAY + 1
_LOW_PASS = (
    -0.0011330026150255924,
    -0.004477090494094534,
    -0.004396711492141958,
    0.004250308177884461,
    0.016660845242427953,
    0.01651533474587488,
    -0.008374254398256401,
    -0.04443694769877798,
    -0.05048063408198286,
    0.011945058742697294,
    0.13750550197862388,
    0.2660936262359269,
    0.320655931313688,
)
"""Its taps up to the middle one, the others mirror them: scipy.signal.firwin(25, 40, window=("kaiser", 4), fs=250)."""
_NOTCH: dict[float, tuple[float, ...]] = {
    50: (0.975478390750534, -0.6028788007748811, 0.9754783907505337, 1.0, -0.6028788007748811, 0.950956781501068),
    60: (0.9707150444099013, -0.12190340390683671, 0.970715044409902, 1.0, -0.12190340390683668, 0.9414300888198024),
}
"""By mains frequency: scipy.signal.tf2sos(*iirnotch(mains_hz, 25, fs=250))."""


@dataclass(slots=True, eq=False)
class FilterState:
    """One patient's filter memory; mutated by `EcgFilters.push`."""

    detection: Signal
    """(sections, 2): delay elements of the detection path."""
    morphology: Signal
    """(sections, 2): delay elements of the morphology path before its low-pass."""
    tail: Signal
    """(24,): what the morphology low-pass still needs."""
    primed: bool = False
    """Whether a first sample has set the delay elements to its steady state."""


class EcgFilters:
    """Detection (8 to 20 Hz) and morphology (0.05 to 40 Hz, optional mains notch) paths at 250 Hz.

    Second-order sections carry their delay elements; the FIR is a sum in a fixed order. Both are exact per sample, so
    any chunking and any batch of patients gives the same bits.
    """

    def __init__(self, mains_hz: float = 0) -> None:
        """`mains_hz`: 50 or 60 to notch that frequency, 0 for none; raises ValueError on any other."""
        if mains_hz not in {0, 50, 60}:
            raise ValueError(f"mains frequency {mains_hz} Hz, expected 50, 60 or 0 for no notch")
        rate = ANALYSIS_RATE_HZ
        notch = np.array([_NOTCH[mains_hz]] if mains_hz else np.empty((0, 6)))
        low_edge, high_edge = DETECTION_BAND_HZ
        band = (first_order_high_pass(low_edge, rate), second_order_low_pass(high_edge, rate))
        self._detection = np.concatenate((notch, *band))
        self._morphology = np.concatenate((notch, first_order_high_pass(MORPHOLOGY_BAND_HZ[0], rate)))
        self._detection_rest = at_rest(self._detection)
        self._morphology_rest = at_rest(self._morphology)

    def new_state(self) -> FilterState:
        """Memory for a stretch that has not begun."""
        return FilterState(
            np.zeros_like(self._detection_rest), np.zeros_like(self._morphology_rest), np.zeros(2 * MORPHOLOGY_DELAY)
        )

    def push(self, states: Sequence[FilterState], x: Signal) -> tuple[Signal, Signal]:
        """Filter `x` [rows, n] in mV at 250 Hz, row i with `states[i]`; return (detection, morphology), each [rows, n].

        A stretch's first sample sets its filters to rest there: an electrode's offset is no step. Sample j of the
        morphology path is input sample j - MORPHOLOGY_DELAY. Raises ValueError when shapes disagree.
        """
        if x.ndim != 2 or len(x) != len(states):
            raise ValueError(f"samples have shape {x.shape}, expected ({len(states)}, n)")
        if not x.size:
            return np.empty(x.shape), np.empty(x.shape)
        for state, first in zip(states, x[:, 0], strict=True):
            if not state.primed:
                state.detection = self._detection_rest * first
                state.morphology = self._morphology_rest * first
                state.primed = True
        detection, detection_memory = sosfilt(self._detection, x, np.stack([state.detection for state in states]))
        high_passed, morphology_memory = sosfilt(self._morphology, x, np.stack([state.morphology for state in states]))
        padded = np.concatenate((np.stack([state.tail for state in states]), high_passed), axis=1)
        n = x.shape[1]
        morphology = _LOW_PASS[MORPHOLOGY_DELAY] * padded[:, MORPHOLOGY_DELAY : MORPHOLOGY_DELAY + n]
        for k in range(MORPHOLOGY_DELAY):
            last = _TAPS - 1 - k
            morphology += _LOW_PASS[k] * (padded[:, k : k + n] + padded[:, last : last + n])
        for i, state in enumerate(states):
            state.detection = detection_memory[i].copy()
            state.morphology = morphology_memory[i].copy()
            state.tail = padded[i, n:].copy()
        return detection, morphology
