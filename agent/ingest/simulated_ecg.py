"""What a simulated heart and its surroundings look like in one lead: waves of a beat, fibrillation, and noise.

Waves are asymmetric Gaussians on the time axis, after McSharry et al., "A dynamical model for generating synthetic
electrocardiogram signals", IEEE Trans Biomed Eng 50 (2003), without its differential equation. Amplitudes are in mV,
times in seconds from the R peak; whatever is drawn is drawn from the generator given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float64]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wave:
    """One bump: `mv` high at `at_s`, with the width (one sigma) of its two flanks."""

    at_s: float
    mv: float
    rise_s: float
    fall_s: float
    is_repolarization: bool = False
    """A T wave: its distance from R follows the square root of the RR interval (Bazett)."""


_NORMAL_QRS = (
    Wave(-0.027, -0.10, 0.008, 0.008),
    Wave(0.0, 1.15, 0.0105, 0.0105),
    Wave(0.030, -0.24, 0.010, 0.012),
)
_NORMAL_T = Wave(0.285, 0.30, 0.058, 0.036, is_repolarization=True)

SHAPES: dict[str, tuple[Wave, ...]] = {
    "N": (Wave(-0.155, 0.13, 0.022, 0.024), *_NORMAL_QRS, _NORMAL_T),
    # A focus elsewhere in the atria: the P wave is inverted and close to a QRS that is as narrow as ever.
    "S": (Wave(-0.115, -0.11, 0.016, 0.018), *_NORMAL_QRS, _NORMAL_T),
    # No P wave, a wide notched QRS, a T wave against it.
    "V": (
        Wave(-0.034, 0.40, 0.018, 0.016),
        Wave(0.0, 1.45, 0.020, 0.028),
        Wave(0.082, -0.55, 0.022, 0.036),
        Wave(0.310, -0.42, 0.070, 0.050, is_repolarization=True),
    ),
    "N without P": (*_NORMAL_QRS, _NORMAL_T),
}
"""By WFDB symbol of the beat; "N without P" is a normal beat in atrial fibrillation."""

LONGEST_S = 0.9
"""No wave reaches further from its R peak than this."""


def add_beat(signal: Signal, times_s: Times, r_s: float, rr_s: float, shape: str, rng: np.random.Generator) -> None:
    """Add one beat in place: its R peak at `r_s`, each wave a little different every time.

    `signal` and `times_s` have shape (n,), times rising evenly; `rr_s` is the interval before the beat.
    """
    begin, end = np.searchsorted(times_s, [r_s - LONGEST_S, r_s + LONGEST_S])
    near_s = times_s[begin:end] - r_s
    stretch = float(np.clip(np.sqrt(rr_s / 0.83), 0.62, 1.15))
    size = 1 + 0.03 * rng.standard_normal()
    for wave in SHAPES[shape]:
        is_r_peak = wave.at_s == 0.0
        scale, shift_s = (
            (size, 0.0) if is_r_peak else (size + 0.05 * rng.standard_normal(), 0.002 * rng.standard_normal())
        )
        longer = stretch if wave.is_repolarization else 1.0
        away_s = near_s - wave.at_s * longer - shift_s
        width_s = np.where(away_s < 0, wave.rise_s, wave.fall_s) * longer
        signal[begin:end] += wave.mv * scale * np.exp(-0.5 * (away_s / width_s) ** 2)


def fibrillatory_waves(times_s: Times, rng: np.random.Generator) -> Signal:
    """The f-waves of atrial fibrillation: 0.05 mV or so at 5 to 7 per second, never quite the same."""
    waves = 0.05 * _wandering_tone(times_s, 6.0, 0.7, rng) + 0.02 * _wandering_tone(times_s, 8.5, 0.9, rng)
    return _faded(waves, times_s)


def ventricular_fibrillation(times_s: Times, rng: np.random.Generator) -> Signal:
    """Coarse ventricular fibrillation: about 0.7 mV around 4.5 Hz, wandering in rate and size, no QRS anywhere."""
    tones = ((0.50, 4.5, 0.5), (0.22, 6.2, 0.8), (0.14, 3.1, 0.6))
    waves = np.zeros(len(times_s))
    for size_mv, frequency_hz, spread_hz in tones:
        waves += size_mv * _wandering_tone(times_s, frequency_hz, spread_hz, rng)
    return _faded(waves, times_s)


def surroundings(times_s: Times, rng: np.random.Generator, mains_hz: float, motion_per_min: float) -> Signal:
    """Everything that is not the heart: breathing and drift, muscle, mains, and an electrode that is knocked."""
    rate_hz = 1 / (times_s[1] - times_s[0]) if len(times_s) > 1 else 1.0
    wander = 0.06 * np.sin(2 * np.pi * (0.25 * times_s + rng.random()))
    for frequency_hz in rng.uniform(0.02, 0.45, 6):
        wander += 0.025 * np.sin(2 * np.pi * (frequency_hz * times_s + rng.random()))
    tension = 0.010 * (1 + 0.5 * np.sin(2 * np.pi * (0.037 * times_s + rng.random())))
    muscle = tension * rng.standard_normal(len(times_s))
    mains = 0.006 * np.sin(2 * np.pi * (mains_hz * times_s + rng.random())) if mains_hz < rate_hz / 2 else 0.0
    return wander + muscle + mains + _motion(times_s, rng, motion_per_min)


def _motion(times_s: Times, rng: np.random.Generator, per_min: float) -> Signal:
    signal = np.zeros(len(times_s))
    if not len(times_s):
        return signal
    duration_s = float(times_s[-1] - times_s[0])
    for at_s in np.sort(rng.uniform(0, duration_s, rng.poisson(per_min * duration_s / 60))):
        away_s = times_s - times_s[0] - at_s
        width_s = np.where(away_s < 0, rng.uniform(0.08, 0.2), rng.uniform(0.2, 0.5))
        signal += rng.choice((-1, 1)) * rng.uniform(0.15, 0.4) * np.exp(-0.5 * (away_s / width_s) ** 2)
    return signal


def _wandering_tone(times_s: Times, frequency_hz: float, spread_hz: float, rng: np.random.Generator) -> Signal:
    """A sine of about unit size whose frequency and amplitude drift smoothly."""
    phase = frequency_hz * times_s + rng.random()
    size = np.ones(len(times_s))
    for drift_hz in rng.uniform(0.1, 0.6, 4):
        phase += 0.5 * spread_hz / (2 * np.pi * drift_hz) * np.sin(2 * np.pi * (drift_hz * times_s + rng.random()))
        size += 0.18 * np.sin(2 * np.pi * (drift_hz * times_s + rng.random()))
    tone: Signal = size * np.sin(2 * np.pi * phase)
    return tone


def _faded(signal: Signal, times_s: Times) -> Signal:
    """In over the first 0.2 s and out over the last: a rhythm does not begin with a step."""
    if not len(times_s):
        return signal
    from_edge_s = np.minimum(times_s - times_s[0], times_s[-1] - times_s)
    faded: Signal = signal * np.minimum(1.0, from_edge_s / 0.2)
    return faded
