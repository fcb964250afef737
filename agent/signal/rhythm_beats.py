"""What the beats of half a minute look like: how well they follow their mean, and its P wave, QRS and T wave.

Everything is row by row: a row's bits do not depend on its company. Sums over the beats of a row run over a whole
number of eights of them, so that nothing added behind the last beat changes their order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.signal.rhythm_intervals import EARLY, Intervals

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BEFORE, _AFTER = 20, 30  # a beat, at 62.5 Hz: 320 ms before R to 480 ms after
_WIDTH = _BEFORE + _AFTER
_AT_ONCE = 10
"""Samples of each beat looked up together."""
_QRS = slice(_BEFORE - 5, _BEFORE + 8)
_P = slice(_BEFORE - 17, _BEFORE - 4)
_T = slice(_BEFORE + 9, _BEFORE + 28)


def beat_context(ecg: Float32, known: Int64, of: Intervals) -> list[Float64]:
    """How the beats follow their mean, and the P wave, T wave and QRS of the mean.

    `ecg`: (rows, samples) at 62.5 Hz; `known`: (rows,) how many of the samples, at the end, the run really holds.
    """
    samples = ecg.shape[1]
    wide = max(-(-int(of.beats.max()) // 8) * 8, 8)
    place, ok, ratio = of.place[:, :wide], of.ok[:, : wide - 1], of.ratio[:, : wide - 1]
    whole = (place >= (samples - known)[:, None] + _BEFORE) & (place + _AFTER <= samples)
    beats = _cut(ecg, place, whole)
    qrs = beats[_QRS]
    # What comes late is no ectopic beat: the mean is drawn from beats like those, also where ectopy is the majority.
    follows, early = np.zeros_like(whole), np.zeros_like(whole)
    _, _, q60, q75, _ = of.quantiles
    follows[:, 1:] = ok & (ratio >= q60[:, None])
    early[:, 1:] = ok & (ratio < q75[:, None] - EARLY)
    late = _or_else(whole & follows, whole)
    about = qrs - (qrs.sum(axis=0) / np.float32(len(qrs)))
    energy = (about * about).sum(axis=0)
    like = _or_else(whole & (_likeness(about, energy, _mean_beat(qrs, late)) > 0.7), late)
    mean = _mean_beat(beats, like)
    likeness = np.where(whole, _likeness(about, energy, mean[:, _QRS]), 1.0)
    number, chosen = np.maximum(whole.sum(axis=1), 1), np.maximum(like.sum(axis=1), 1)
    average = np.where(whole, likeness, 0.0).sum(axis=1) / number
    spread = np.where(whole, (likeness - average[:, None]) ** 2, 0.0).sum(axis=1) / number
    unlike = likeness < 0.8
    p_energy, p_beat = _energies(beats[_P], mean[:, _P], like, chosen)
    t_energy, t_beat = _energies(beats[_T], mean[:, _T], like, chosen)
    p, core = mean[:, _P], mean[:, _QRS].astype(np.float64)
    height = np.maximum(np.abs(core).max(axis=1), 1e-3)
    off = qrs - _over_beats(mean[:, _QRS])
    off_energy = np.where(like, (off * off).sum(axis=0), np.float32(0.0)).sum(axis=1)
    has_beats = whole.any(axis=1)
    return [
        3.0 * average,
        4.0 * np.sqrt(spread),
        4.0 * unlike.sum(axis=1) / number,
        6.0 * (unlike & early).sum(axis=1) / number,
        10.0 * np.sqrt(p_energy),
        3.0 * p_energy / np.maximum(p_beat, 1e-6),
        8.0 * (p.max(axis=1) - p.min(axis=1)).astype(np.float64),
        has_beats * p.argmax(axis=1) / 4.0,
        10.0 * np.sqrt(p_beat),
        5.0 * np.sqrt(t_energy),
        3.0 * t_energy / np.maximum(t_beat, 1e-6),
        has_beats * np.abs(core).sum(axis=1) / height / 3.0,
        2.0 * core.max(axis=1) / height,
        4.0 * np.sqrt(off_energy / chosen / core.shape[1]),
    ]


def _cut(ecg: Float32, place: Int64, whole: Bools) -> Float32:
    """(_WIDTH, rows, beats): the samples about each R peak; noughts for beats that are not wholly there."""
    rows, samples = ecg.shape
    start = np.clip(place - _BEFORE, 0, samples - _WIDTH)
    start += (np.arange(rows) * samples)[:, None]
    line = ecg.reshape(-1)
    beats = np.empty((_WIDTH, *place.shape), dtype=np.float32)
    at = start + np.arange(_AT_ONCE)[:, None, None]
    for first in range(0, _WIDTH, _AT_ONCE):
        np.take(line, at, out=beats[first : first + _AT_ONCE], mode="clip")
        at += _AT_ONCE
    beats *= whole.astype(np.float32)
    return beats


def _or_else(chosen: Bools, otherwise: Bools) -> Bools:
    """Per row `chosen`, or `otherwise` where that is none."""
    either: Bools = np.where(np.asarray(chosen.any(axis=1))[:, None], chosen, otherwise)
    return either


def _over_beats(mean: Float32) -> Float32:
    """(samples, rows, 1) of (rows, samples)."""
    return mean.T[:, :, None]


def _mean_beat(beats: Float32, chosen: Bools) -> Float32:
    """(rows, samples): mean of the chosen beats of (samples, rows, beats)."""
    total = (beats * chosen.astype(np.float32)).sum(axis=2).T
    return np.ascontiguousarray(total / np.maximum(chosen.sum(axis=1), 1).astype(np.float32)[:, None])


def _likeness(about: Float32, energy: Float32, mean: Float32) -> Float64:
    """(rows, beats): correlation of each QRS with the mean one (rows, samples), both about their own mean.

    `about`: (samples, rows, beats) the QRS complexes about their means; `energy`: (rows, beats) their sums of squares.
    """
    b = mean - (mean.sum(axis=1) / np.float32(mean.shape[1]))[:, None]
    size = energy.astype(np.float64) * (b * b).sum(axis=1)[:, None]
    like: Float64 = (about * _over_beats(b)).sum(axis=0) / np.sqrt(np.maximum(size, 1e-12))
    return like


def _energies(parts: Float32, mean: Float32, like: Bools, chosen: Int64) -> tuple[Float64, Float64]:
    """Mean square of the mean beat's part, and the mean of the single beats' own, each about its own mean."""
    width = np.float32(mean.shape[1])
    b = mean - (mean.sum(axis=1) / width)[:, None]
    a = parts - parts.sum(axis=0) / width
    a *= a
    single = np.where(like, a.sum(axis=0), np.float32(0.0)).sum(axis=1).astype(np.float64)
    return (b * b).sum(axis=1).astype(np.float64) / width, single / chosen / width
