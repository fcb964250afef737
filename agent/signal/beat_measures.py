"""What is measured over the samples of beats: 125 Hz, mV, rows are people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.signal.beat_memory import CORE, P_CLUSTERS, P_WAVE, WINDOW, FeatureState, Known
from agent.signal.beat_surroundings import p_similarities
from agent.signal.likeness import Float32, Float64, at_125_hz, dots, row_maxima, row_sums, similarity
from agent.signal.pending import DueBeat

R = WINDOW // 2
"""Where the R peak is."""
QRS = slice(R - 14, R - 14 + CORE)
"""112 ms before R to 176 ms after."""
P = slice(R - 32, R - 32 + P_WAVE)
"""256 to 64 ms before R."""
T = slice(R + 22, R + 60)
"""176 to 480 ms after R."""
_SHIFTS = (-2, -1, 0, 1, 2)  # ± 16 ms of detection jitter is aligned away
UNSHIFTED = 2
SHIFTED_CORES = np.array([np.arange(QRS.start + s, QRS.stop + s) for s in _SHIFTS])
SHIFTED_WINDOWS = np.array([np.clip(np.arange(WINDOW) + s, 0, WINDOW - 1) for s in _SHIFTS])
_FOLLOWER = np.arange(2 * (QRS.stop + _SHIFTS[-1]))
"""Samples at 250 Hz of a follower, from where its window begins, that hold its P wave and its QRS."""

BEAT, NORMAL, UNDER_T, NEXT = range(4)
"""Whose P regions are compared: the beat's, the normal one's, the beat's without the T wave before it, the next's."""

PEAK, BENDS, BEFORE = 0, 1, 2
"""Where in the measures: the greatest value of the QRS; products with themselves of the second difference, and of what
comes before the QRS, without the T wave before it."""
T_ENERGY, T_NORMAL, T_PRODUCT = 3, 4, 5
"""Products of the T waves, the beat's and the normal one's, with themselves and each other."""
CORE_ENERGY, CORE_LAST, CORE_PRODUCT = 6, 7, 8
"""Products of the QRS and the one before, likewise."""
P_ENERGY = slice(9, 13)
P_PRODUCT = slice(13, 17)
"""Products of the four P regions with themselves, and with the normal one."""
P_LIKENESS = slice(17, 17 + P_CLUSTERS)
"""Of the P region without the T wave before it to the person's clusters."""
NEXT_LIKENESS = slice(21, 23)
"""Of the next QRS to the normal one and to this one."""
SHAPE = slice(23, 26)
"""Amplitude (mV), equivalent width (samples at 125 Hz) and steepest slope (mV/sample) of the QRS."""
_MEASURES = 26


def qrs_shapes(core: Float32) -> Float64:
    """(n, 3): what stands at SHAPE."""
    out = np.empty((len(core), 3))
    high, low = row_maxima(core, axis=1), np.minimum.reduce(core, axis=1)
    area = row_sums(np.abs(core), axis=1)
    for row, (top, bottom, under) in enumerate(zip(high.tolist(), low.tolist(), area.tolist(), strict=True)):
        out[row, 0] = top - bottom
        out[row, 1] = max(under / max(top, -bottom, 1e-3), 1.0)
    row_maxima(np.abs(core[:, 1:] - core[:, :-1]), axis=1, out=out[:, 2])
    return out


def without_t(states: Sequence[FeatureState], x: Float32, apart: Sequence[int | None]) -> Float32:
    """(n, 54): what comes before each QRS, less the mean beat of the cluster of the beat before, where that was.

    `apart`: samples at 250 Hz since that beat.
    """
    out = x[:, : P.stop].copy()
    for before, state, samples in zip(out, states, apart, strict=True):
        if samples is not None and samples // 2 < WINDOW:
            rest = state.full[state.last_cluster, samples // 2 : samples // 2 + len(before)]
            before[: len(rest)] -= rest
    return out


def shifted(x: Float32, shifts: list[int]) -> Float32:
    """Each window at its shift."""
    return x.reshape(-1).take(SHIFTED_WINDOWS[shifts] + np.arange(0, x.size, WINDOW)[:, None])


def next_beats(windows: Float32, dues: Sequence[DueBeat]) -> Float32:
    """(n, 86): the next beat, as far as its QRS; something else where none is known. `windows`: at 250 Hz."""
    width = windows.shape[1]
    at = [row * width + (due.followers[0] - due.r_index if due.followers else 0) for row, due in enumerate(dues)]
    return at_125_hz(windows.reshape(-1).take(np.array(at)[:, None] + _FOLLOWER))


def p_regions(aligned: Float32, reference: Float32, before: Float32, following: Float32) -> Float32:
    """(n, 4, 24): BEAT, NORMAL, UNDER_T and NEXT without their means."""
    waves = np.empty((len(aligned), 4, P_WAVE), np.float32)
    waves[:, BEAT] = aligned[:, P]
    waves[:, NORMAL] = reference[:, P]
    waves[:, UNDER_T] = before[:, P]
    waves[:, NEXT] = following[:, P]
    waves -= row_sums(waves, axis=2)[:, :, None] / np.float32(P_WAVE)
    return waves


def measures(
    known: Known,
    core: Float32,
    aligned: Float32,
    reference: Float32,
    before: Float32,
    following: Float32,
    p_waves: Float32,
    shapes: Float64,
) -> Float64:
    """(n, 26): of each beat's QRS `core`, its window `aligned` to the normal beat `reference`, what comes `before` the
    QRS, the next beat, and the P regions."""
    t, t_normal, last = aligned[:, T], reference[:, T], known.last_core
    bends = aligned[:, 2:] - np.float32(2.0) * aligned[:, 1:-1] + aligned[:, :-2]
    templates = np.empty((len(core), 2, CORE), np.float32)
    templates[:, 0] = reference[:, QRS]
    templates[:, 1] = core
    out = np.empty((len(core), _MEASURES))
    out[:, PEAK] = row_maxima(aligned[:, QRS], axis=1)
    out[:, BENDS] = dots(bends, bends)
    out[:, BEFORE] = dots(before, before)
    out[:, T_ENERGY] = dots(t, t)
    out[:, T_NORMAL] = dots(t_normal, t_normal)
    out[:, T_PRODUCT] = dots(t, t_normal)
    out[:, CORE_ENERGY] = dots(core, core)
    out[:, CORE_LAST] = dots(last, last)
    out[:, CORE_PRODUCT] = dots(core, last)
    out[:, P_ENERGY] = dots(p_waves, p_waves)
    out[:, P_PRODUCT] = dots(p_waves, p_waves[:, NORMAL, None])
    out[:, P_LIKENESS] = p_similarities(known.p_waves, p_waves[:, UNDER_T], out[:, P_ENERGY.start + UNDER_T])
    out[:, NEXT_LIKENESS] = row_maxima(similarity(following.take(SHIFTED_CORES, axis=1), templates), axis=1)
    out[:, SHAPE] = shapes
    return out


def images(aligned: Float32, reference: Float32, amplitudes: Float64) -> Float32:
    """(n, 2, 125): the beat, and its difference to the normal one, in units of the normal QRS, compressed."""
    image = np.empty((len(aligned), 2, WINDOW), np.float32)
    image[:, 0] = aligned
    np.subtract(aligned, reference, out=image[:, 1])
    image *= (4.0 / amplitudes).astype(np.float32)[:, None, None]
    return np.arcsinh(image, out=image)
