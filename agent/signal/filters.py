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


_TAIL = _TAPS - 1
"""Samples that the low-pass still needs of those before."""
_BLOCK = 64
"""Patients filtered at once: as many as fit a processor's cache."""


@dataclass(slots=True, eq=False)
class FilterState:
    """One patient's filter memory; mutated by `EcgFilters.push`."""

    memory: Signal
    """Delay elements of the detection path's sections, two each; those of the morphology path; its last 24 samples
    before the low-pass."""
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
        rest = (at_rest(self._detection).ravel(), at_rest(self._morphology).ravel(), np.zeros(_TAIL))
        self._rest = np.concatenate(rest)
        self._parts = len(rest[0]), len(rest[0]) + len(rest[1])

    def new_state(self) -> FilterState:
        """Memory for a stretch that has not begun."""
        return FilterState(np.zeros_like(self._rest))

    def push(self, states: Sequence[FilterState], x: Signal) -> tuple[Signal, Signal]:
        """Filter `x` [rows, n] in mV at 250 Hz, row i with `states[i]`; return (detection, morphology), each [rows, n].

        A stretch's first sample sets its filters to rest there: an electrode's offset is no step. Sample j of the
        morphology path is input sample j - MORPHOLOGY_DELAY. Raises ValueError when shapes disagree.
        """
        if x.ndim != 2 or len(x) != len(states):
            raise ValueError(f"samples have shape {x.shape}, expected ({len(states)}, n)")
        detection, morphology = np.empty(x.shape), np.empty(x.shape)
        if not x.size:
            return detection, morphology
        for start in range(0, len(states), _BLOCK):
            block = slice(start, start + _BLOCK)
            self._push(states[block], x[block], detection[block], morphology[block])
        return detection, morphology

    def _push(self, states: Sequence[FilterState], x: Signal, detection: Signal, morphology: Signal) -> None:
        """Fill the two paths of a few rows."""
        for state, first in zip(states, x[:, 0].tolist(), strict=True):
            if not state.primed:
                state.memory = self._rest * first
                state.primed = True
        memory = np.concatenate([state.memory for state in states]).reshape(len(states), -1)
        of_one, of_both = self._parts
        detection[:], ends = _filtered(self._detection, x, memory[:, :of_one])
        high_passed, high_ends = _filtered(self._morphology, x, memory[:, of_one:of_both])
        padded = np.concatenate((memory[:, of_both:], high_passed), axis=1)
        _low_pass(padded, morphology)
        after = np.concatenate((ends, high_ends, padded[:, x.shape[1] :]), axis=1)
        for state, own in zip(states, after, strict=True):
            state.memory[:] = own


def _filtered(sections: Signal, x: Signal, memory: Signal) -> tuple[Signal, Signal]:
    """`sosfilt` with the delay elements (rows, 2 a section) in one line a row."""
    y, after = sosfilt(sections, x, memory.reshape(len(x), -1, 2))
    return y, after.reshape(len(x), -1)


def _low_pass(padded: Signal, out: Signal) -> None:
    """The linear-phase low-pass over (rows, _TAIL + n) samples into `out` (rows, n): a sum in a fixed order."""
    n = out.shape[1]
    both = np.empty(out.shape)
    np.multiply(padded[:, MORPHOLOGY_DELAY : MORPHOLOGY_DELAY + n], _LOW_PASS[MORPHOLOGY_DELAY], out=out)
    for k in range(MORPHOLOGY_DELAY):
        last = _TAIL - k
        np.add(padded[:, k : k + n], padded[:, last : last + n], out=both)
        both *= _LOW_PASS[k]
        out += both
