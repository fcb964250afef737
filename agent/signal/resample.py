"""Any device rate to the one analysis rate, with phases kept as whole numbers so that nothing drifts."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

ANALYSIS_RATE_HZ = 250
"""The rate all ECG analysis runs at."""

Signal = npt.NDArray[np.float64]

_HALF_WIDTH = 4
"""Kernel half width, in samples of the slower of the two rates: 8 taps when interpolating."""
_KAISER_BETA = 5.0
_CUTOFF = 0.9
"""Cut-off as a share of the slower rate's Nyquist frequency; an 8-tap kernel has no use for more."""
_MAX_PHASES = 4096
"""Rates whose ratio to 250 Hz needs more phases share the nearest of these: an error below 1/4096 of a sample."""


class Resampler:
    """Streaming resampler of one channel to `ANALYSIS_RATE_HZ`.

    Output sample j is the signal exactly j × 4 ms after the first input sample: a Kaiser-windowed sinc (8 taps when
    interpolating, proportionally more when decimating) evaluated at the rational position j × rate / 250, which is
    kept in integers. Every output is one sum over its taps in a fixed order, so any chunking gives the same bits.
    Before the first sample the signal is taken as constant. At 250 Hz the samples pass through unchanged.
    """

    def __init__(self, rate_hz: float) -> None:
        """`rate_hz`: nominal input rate, 50 to 4000 Hz; raises ValueError outside."""
        if not (math.isfinite(rate_hz) and 50 <= rate_hz <= 4000):
            raise ValueError(f"ECG sampling rate {rate_hz} Hz, expected 50 to 4000 Hz")
        step = Fraction(rate_hz).limit_denominator(1000) / ANALYSIS_RATE_HZ
        self.rate_hz = rate_hz
        self._step_numerator = step.numerator
        self._step_denominator = step.denominator
        self._phases = min(step.denominator, _MAX_PHASES)
        self._kernel = _kernel(float(step), self._phases)
        self._reach = self._kernel.shape[1] // 2
        self.reset()

    @property
    def lookahead_s(self) -> float:
        """How long after its own time an output sample becomes available, at most."""
        return 0.0 if self._step_numerator == self._step_denominator else self._reach / self.rate_hz

    def reset(self) -> None:
        """Forget the past: the next sample pushed is time 0 of a new stretch."""
        self._history = np.empty(0)
        self._history_start = 0
        self._received = 0
        self._produced = 0

    def push(self, x: npt.ArrayLike) -> Signal:
        """Take input samples (n,) at `rate_hz`; return the output samples (m,) float64 they complete."""
        samples = np.array(x, dtype=np.float64)
        if samples.ndim != 1:
            raise ValueError(f"samples have shape {samples.shape}, expected (n,)")
        if self._step_numerator == self._step_denominator or not len(samples):
            return samples
        if not self._received:
            samples_before = np.full(self._reach, samples[0])
            self._history, self._history_start = samples_before, -self._reach
        buffer = np.concatenate((self._history, samples))
        self._received += len(samples)

        # Output j needs inputs floor(position) - reach + 1 … floor(position) + reach.
        last_base = self._received - 1 - self._reach
        end = max(self._produced, ((last_base + 1) * self._step_denominator - 1) // self._step_numerator + 1)
        positions = np.arange(self._produced, end, dtype=np.int64) * self._step_numerator
        base, remainder = np.divmod(positions, self._step_denominator)
        phase = remainder * self._phases // self._step_denominator
        first = base - self._reach + 1 - self._history_start
        taps = self._kernel[phase]
        out = np.zeros(len(base))
        for k in range(2 * self._reach):
            out += taps[:, k] * buffer[first + k]

        self._produced = end
        next_base = end * self._step_numerator // self._step_denominator
        keep_from = next_base - self._reach + 1
        self._history = buffer[keep_from - self._history_start :].copy()
        self._history_start = keep_from
        return out


def _kernel(step: float, phases: int) -> Signal:
    """Taps (phases, 2 × reach) for input positions -reach + 1 … reach around floor(position), each row summing to 1."""
    stretch = max(1.0, step)
    reach = math.ceil(_HALF_WIDTH * stretch)
    offsets = np.arange(-reach + 1, reach + 1) - np.arange(phases)[:, None] / phases
    scaled = offsets / stretch
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (scaled / _HALF_WIDTH) ** 2, 0, None)))
    taps: Signal = np.where(np.abs(scaled) <= _HALF_WIDTH, np.sinc(_CUTOFF * scaled) * window, 0.0)
    taps /= taps.sum(axis=1, keepdims=True)
    return taps
