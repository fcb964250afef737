"""Two causal ECG paths for a batch of patients: one to find beats in, one to look at beats in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, firwin, iirnotch, sosfilt, sosfilt_zi, tf2sos

from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]

DETECTION_BAND_HZ = (8.0, 20.0)
"""Where QRS energy exceeds that of P, T and motion most (Hamilton & Tompkins 1986); low order, so it rings little."""
MORPHOLOGY_BAND_HZ = (0.05, 40.0)
"""ST and T survive 0.05 Hz of first order; consumers subtract their own isoelectric level."""
MORPHOLOGY_DELAY = 12
"""Samples by which the morphology path lags its input: a linear-phase low-pass, the same at all frequencies."""

_TAPS = 2 * MORPHOLOGY_DELAY + 1
_NOTCH_Q = 25.0


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
        notch = tf2sos(*iirnotch(mains_hz, _NOTCH_Q, fs=rate)) if mains_hz else np.empty((0, 6))
        low_edge, high_edge = DETECTION_BAND_HZ
        band = (butter(1, low_edge, "highpass", fs=rate, output="sos"), butter(2, high_edge, fs=rate, output="sos"))
        high = butter(1, MORPHOLOGY_BAND_HZ[0], "highpass", fs=rate, output="sos")
        self._detection = np.concatenate((notch, *band))
        self._morphology = np.concatenate((notch, high))
        self._detection_rest = sosfilt_zi(self._detection)
        self._morphology_rest = sosfilt_zi(self._morphology)
        self._low_pass: Signal = firwin(_TAPS, MORPHOLOGY_BAND_HZ[1], window=("kaiser", 4.0), fs=rate)

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
        detection, detection_memory = sosfilt(
            self._detection, x, axis=1, zi=np.stack([state.detection for state in states], axis=1)
        )
        high_passed, morphology_memory = sosfilt(
            self._morphology, x, axis=1, zi=np.stack([state.morphology for state in states], axis=1)
        )
        padded = np.concatenate((np.stack([state.tail for state in states]), high_passed), axis=1)
        n = x.shape[1]
        morphology = self._low_pass[MORPHOLOGY_DELAY] * padded[:, MORPHOLOGY_DELAY : MORPHOLOGY_DELAY + n]
        for k in range(MORPHOLOGY_DELAY):
            last = _TAPS - 1 - k
            morphology += self._low_pass[k] * (padded[:, k : k + n] + padded[:, last : last + n])
        for i, state in enumerate(states):
            state.detection = detection_memory[:, i].copy()
            state.morphology = morphology_memory[:, i].copy()
            state.tail = padded[i, n:].copy()
        return detection, morphology
