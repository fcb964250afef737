"""What a beat looks like beside the same person's normal beat: the inputs of the beat classifier.

For each confirmed beat, one window of the morphology path (250 Hz, mV) and the R times known when it is classified
become a small image (the beat, and its difference to the person's running normal beat) and a vector of rhythm and shape
scalars. Live detection and training call this same code.

The running normal is built so that an ectopic majority does not capture it: QRS shapes are kept in a few clusters with
a memory of about ten minutes, only beats that come late (no earlier than the slow median RR) shape a cluster's full
template, and the normal cluster is the one that holds most late beats. A premature rhythm, however frequent, is by
definition not late; the beat after each of its pauses is.

Everything is causal: a beat's features depend on samples that have arrived, and on beats that are known, at the instant
at which it is classified (see agent.signal.pending).

The beats of many people are taken at once. No row's arithmetic depends on the others, so that a person's features have
the same bits in any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.beat_intervals import Q90, SLOW, Intervals, intervals
from agent.signal.beat_memory import (
    CORE,
    FADE,
    FULL_BEATS,
    LATE,
    NO_BEAT,
    P_WAVE,
    QRS_SHAPE,
    RR_RATIO,
    SIZE,
    TEMPLATE_BEATS,
    WEIGHT,
    WINDOW,
    FeatureState,
    Stack,
    put_back,
    stack,
)
from agent.signal.beat_surroundings import irregularity, p_clusters, waits
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.likeness import Float32, Float64, at_125_hz, compare, dots, logarithms, row_sums, similarity
from agent.signal.pending import DECIDE_SAMPLES, DueBeat
from models.vocabulary import BEAT_CONTEXT

Places = npt.NDArray[np.int64]

RATE_HZ = 250.0
"""Rate of the morphology path."""
BEFORE_S = 0.5
AFTER_S = 0.5
"""The network is shown [R - BEFORE_S, R + AFTER_S)."""
BEFORE_SAMPLES = 125
AFTER_SAMPLES = DECIDE_SAMPLES - MORPHOLOGY_DELAY
"""The morphology path that has arrived when a beat is classified: followers are looked at in it."""
WINDOW_SAMPLES = 250
"""Of these, the network is shown so many."""

PREPARE = ("median_baseline", "decimate_2", "scale_normal_qrs", "difference_to_normal", "asinh_compress")
"""What is done to a window, in order: a pack's manifest must name the same."""
CONTEXT = BEAT_CONTEXT
SIGNAL_SHAPE = (2, WINDOW)
"""Channels (beat, difference to normal) and samples at 125 Hz of the signal input."""

_R = BEFORE_SAMPLES // 2  # index of R at 125 Hz
_CORE = slice(_R - 14, _R - 14 + CORE)  # QRS: 112 ms before R to 176 ms after
_P = slice(_R - 32, _R - 32 + P_WAVE)  # 256 to 64 ms before R
_T = slice(_R + 22, _R + 60)  # 176 to 480 ms after R
_T_WAVE = _T.stop - _T.start
_BEFORE = np.arange(_P.stop)
_SHIFTS = (-2, -1, 0, 1, 2)  # ± 16 ms of detection jitter is aligned away
_UNSHIFTED = 2
_SHIFTED_CORES = np.array([np.arange(_CORE.start + s, _CORE.stop + s) for s in _SHIFTS])
_SHIFTED_WINDOWS = np.array([np.clip(np.arange(WINDOW) + s, 0, WINDOW - 1) for s in _SHIFTS])

_FOLLOWER = np.arange(2 * (_CORE.stop + _SHIFTS[-1]))
"""Samples at 250 Hz of a follower, from BEFORE_SAMPLES before its R peak, that hold its P wave and its QRS."""
_BEAT, _NORMAL, _UNDER_T, _NEXT = range(4)
"""Whose P regions are compared: the beat's, the normal one's, the beat's without the T wave before it, the next's."""

_SAME_CLUSTER = 0.80
_MIN_AMPLITUDE_MV = 0.05
_LEAST = np.array([1e-3, 1e-3, 1e-4])  # of amplitude, width and slope, where their ratio is taken
_LATE_MARGIN = 0.35
_LIMIT = 4.0
_P_DIFFERENCE = CONTEXT.index("p_difference")
_REMEMBERED = [CONTEXT.index(name) for name in CONTEXT if f"{name}_prev1" in CONTEXT]


@dataclass(frozen=True, slots=True)
class _Beats:
    """What is seen of each beat, beside what is known of its person. Samples at 125 Hz, mV; shapes as in `counts`."""

    x: Float32
    """(n, 125): the beat without its baseline."""
    cores: Float32
    """(n, shifts, 36): its QRS, cut at each shift."""
    cluster: Places
    """The cluster its QRS belongs to."""
    shift: Places
    """The shift at which it fits that cluster best."""
    similarity: Float64
    """(n, 2): of its QRS to those of the normal cluster and its own."""
    own: Float64
    """(n, 7): what is counted of its cluster."""
    usual: Float64
    """(n, 7): what is counted of the normal cluster."""
    shape: Float64
    """(n, 3): its amplitude, width and slope."""
    amplitude: Float64
    """That of the normal QRS, against which all is measured."""
    is_normal: npt.NDArray[np.bool_]
    """Whether it belongs to the normal cluster."""
    aligned: Float32
    """(n, 125): the beat, shifted onto the normal one."""
    reference: Float32
    """(n, 125): the normal beat."""
    without_t: Float32
    """(n, 54): from the window's start to the QRS, without the T wave of the beat before."""


class BeatFeatures:
    """Turns confirmed beats, in order, into classifier inputs. Holds nothing itself: memory is in FeatureState."""

    def new_state(self) -> FeatureState:
        return FeatureState()

    def gap(self, state: FeatureState) -> None:
        """Forget when the last beat was: samples are missing, so the next RR interval is not known."""
        state.record["last_r"] = NO_BEAT

    def push(
        self, states: Sequence[FeatureState], windows: Float32, dues: Sequence[DueBeat]
    ) -> tuple[Float32, Float32]:
        """Features of the next confirmed beat of each of several people, at least one; updates their `states`.

        `states`: no two the same; `windows` (n, BEFORE_SAMPLES + AFTER_SAMPLES) float32, mV: the morphology path around
        each R, which is at index BEFORE_SAMPLES; `dues`: the beats, each later than the one before, and what is known
        to follow it.
        Returns signal (n, 2, 125) float32 at 125 Hz, and context (n, len(CONTEXT)) float32, within ± 4.
        Raises ValueError on windows of another shape or with non-finite values, and on a beat out of order; no state
        has changed then.
        """
        if windows.shape != (expected := (len(states), BEFORE_SAMPLES + AFTER_SAMPLES)):
            raise ValueError(f"beat windows have shape {windows.shape}, expected {expected}")
        if not np.isfinite(row_sums(windows, axis=1)).all():
            raise ValueError("beat window holds a value that is not a finite number")
        people = stack(states)
        r = np.array([due.r_index for due in dues])
        apart = r - people["last_r"]
        rhythm = intervals(people, r)
        beats = _seen(people, windows, apart)
        following = _following(windows, r, dues)
        p_waves, p = _p_waves(beats, following)
        context = np.concatenate(
            (
                rhythm.features,
                _shape_context(people, beats, p),
                _around_context(people, beats, p_waves, p),
                _followers_context(people, dues, beats, following, p, rhythm.median8),
                people["history"].reshape(len(states), -1),
            ),
            axis=1,
        )
        _remember(people, beats, rhythm)
        _remember_answers(people, context)
        people["last_r"] = r
        people["last_core"] = beats.cores[:, _UNSHIFTED]
        people["last_cluster"] = beats.cluster
        people["beats"] += 1
        put_back(people, states)
        return _image(beats), np.minimum(np.maximum(context, -_LIMIT), _LIMIT).astype(np.float32)


def _seen(people: Stack, windows: Float32, apart: Places) -> _Beats:
    """`apart`: samples at 250 Hz since the beat before. Opens clusters for beats that are like none."""
    rows = np.arange(len(people))
    x = at_125_hz(windows[:, :WINDOW_SAMPLES])
    cores = x.take(_SHIFTED_CORES, axis=1)
    by_shift = similarity(cores, people["cores"])
    shifts, likeness = by_shift.argmax(axis=1), by_shift.max(axis=1)
    cluster = _assign(people, likeness, shifts, cores[:, _UNSHIFTED])
    shift = shifts[rows, cluster]
    without_t = _without_t(people, x, apart // 2)
    shape = _qrs_shape(cores[:, _UNSHIFTED])
    counts, full = people["counts"], people["full"]
    own = counts[rows, cluster]
    if (first := own[:, FULL_BEATS] == 0.0).any():
        full[first, cluster[first]] = x[first][np.arange(first.sum())[:, None], _SHIFTED_WINDOWS[shift[first]]]
        own[first, QRS_SHAPE] = shape[first]
        counts[rows, cluster] = own
    normal = counts[:, :, LATE].argmax(axis=1)
    usual = counts[rows, normal]
    if (nothing_late := usual[:, FULL_BEATS] == 0.0).any():
        normal = np.where(nothing_late, cluster, normal)
        usual = counts[rows, normal]
    return _Beats(
        x=x,
        cores=cores,
        cluster=cluster,
        shift=shift,
        similarity=np.stack((likeness[rows, normal], likeness[rows, cluster]), axis=1),
        own=own,
        usual=usual,
        shape=shape,
        amplitude=np.maximum(usual[:, SIZE], _MIN_AMPLITUDE_MV),
        is_normal=cluster == normal,
        aligned=x[rows[:, None], _SHIFTED_WINDOWS[shifts[rows, normal]]],
        reference=full[rows, normal],
        without_t=without_t,
    )


def _assign(people: Stack, likeness: Float64, shifts: Places, core: Float32) -> Places:
    """The cluster each QRS belongs to; a new one in the least used place when it is like none.

    A person's very first beat is given `likeness` and the shift of a perfect fit.
    """
    cluster: Places = likeness.argmax(axis=1)
    begun = people["beats"] > 0
    known = begun & (likeness.max(axis=1) >= _SAME_CLUSTER)
    for row in np.flatnonzero(~known).tolist():
        counts = people["counts"][row]
        claim = counts[:, WEIGHT].copy()
        if begun[row]:
            claim[counts[:, LATE].argmax()] = np.inf  # the normal is never given up for one odd beat
        place = claim.argmin()
        people["cores"][row, place] = core[row]
        counts[place, : FULL_BEATS + 1] = 0.0
        cluster[row] = place
        if not begun[row]:
            likeness[row, place], shifts[row, place] = 1.0, _UNSHIFTED
    return cluster


def _without_t(people: Stack, x: Float32, apart: Places) -> Float32:
    """What comes before the QRS, less the mean beat of the cluster before, `apart` samples at 125 Hz earlier."""
    rows = np.arange(len(people))
    last = people["full"][rows, people["last_cluster"]]
    at = apart[:, None] + _BEFORE
    out: Float32 = x[:, : len(_BEFORE)] - np.where(at < WINDOW, last[rows[:, None], np.minimum(at, WINDOW - 1)], 0.0)
    return out


def _qrs_shape(core: Float32) -> Float64:
    """Amplitude (mV), equivalent width (samples at 125 Hz) and steepest slope (mV/sample) of each QRS."""
    high, low = core.max(axis=1).astype(np.float64), core.min(axis=1).astype(np.float64)
    out = np.empty((len(core), 3))
    out[:, 0] = high - low
    out[:, 1] = row_sums(np.abs(core), axis=1)
    out[:, 1] /= np.maximum(np.maximum(high, -low), 1e-3)
    np.maximum(out[:, 1], 1.0, out=out[:, 1])
    out[:, 2] = np.abs(core[:, 1:] - core[:, :-1]).max(axis=1)
    return out


def _image(beats: _Beats) -> Float32:
    """(n, 2, 125): the beat, and its difference to the normal one, in units of the normal QRS, compressed."""
    image = np.stack((beats.aligned, beats.aligned - beats.reference), axis=1)
    image *= (4.0 / beats.amplitude).astype(np.float32)[:, None, None]
    out: Float32 = np.arcsinh(image, out=image)
    return out


def _following(windows: Float32, r: Places, dues: Sequence[DueBeat]) -> Float32:
    """(n, 86): the next beat at 125 Hz, as far as its QRS; something else where none is known."""
    at = np.array([due.followers[0] if due.followers else due.r_index for due in dues]) - r
    at += np.arange(len(windows)) * windows.shape[1]
    return at_125_hz(windows.reshape(-1).take(at[:, None] + _FOLLOWER))


@dataclass(frozen=True, slots=True)
class _PWaves:
    """The P regions of _BEAT, _NORMAL, _UNDER_T and _NEXT, each (n, 4)."""

    energy: Float64
    """Product with itself, mV²."""
    product: Float64
    """Product with the normal one, mV²."""
    correlation: Float64
    """Twice the correlation with the normal one."""
    difference: Float64
    """RMS of the difference to the normal one, 20 times, as a share of the normal QRS."""
    size: Float64
    """RMS, likewise."""


def _p_waves(beats: _Beats, following: Float32) -> tuple[Float32, _PWaves]:
    """The P regions (n, 4, 24) without their means, and what they are like."""
    waves = np.stack((beats.aligned[:, _P], beats.reference[:, _P], beats.without_t[:, _P], following[:, _P]), axis=1)
    waves -= row_sums(waves, axis=2)[:, :, None] / np.float32(P_WAVE)
    energy, product = dots(waves, waves), dots(waves, waves[:, _NORMAL : _NORMAL + 1])
    correlation, difference = compare(energy, energy[:, _NORMAL : _NORMAL + 1], product, P_WAVE)
    amplitude = beats.amplitude[:, None]
    size = 20.0 * np.sqrt(energy / P_WAVE) / amplitude
    return waves, _PWaves(energy, product, 2.0 * correlation, 20.0 * difference / amplitude, size)


def _shape_context(people: Stack, beats: _Beats, p: _PWaves) -> Float64:
    """(n, 21): QRS, P and T of each beat beside the normal ones, and how common its cluster is."""
    own, usual, amplitude, shape = beats.own, beats.usual, beats.amplitude, beats.shape
    total = row_sums(people["counts"][:, :, WEIGHT], axis=1) + 1e-9
    ratios = np.empty((len(people), 4))
    np.divide(np.maximum(shape, _LEAST), np.maximum(usual[:, QRS_SHAPE], _LEAST), out=ratios[:, :3])
    np.divide(shape[:, 1], 8.0, out=ratios[:, 3])
    logs = logarithms(ratios)
    aligned, t, t_normal = beats.aligned, beats.aligned[:, _T], beats.reference[:, _T]
    t_correlation, t_difference = compare(dots(t, t), dots(t_normal, t_normal), dots(t, t_normal), _T_WAVE)
    bends = aligned[:, 2:] - 2.0 * aligned[:, 1:-1] + aligned[:, :-2]
    out = np.empty((len(people), 21))
    out[:, :2] = 3.0 * beats.similarity
    out[:, 2] = 3.0 * own[:, WEIGHT] / total
    out[:, 3] = 1.5
    np.divide(3.0 * own[:, LATE], own[:, WEIGHT], out=out[:, 3], where=own[:, WEIGHT] > 0.0)
    out[:, 4] = 4.0 * own[:, RR_RATIO]
    out[:, 5] = np.where(beats.is_normal, 2.0, -2.0)
    out[:, 6] = 3.0 * usual[:, WEIGHT] / total
    out[:, 7] = 2.0 * logs[:, 0]
    out[:, 8] = 4.0 * logs[:, 3]
    out[:, 9] = 4.0 * logs[:, 1]
    out[:, 10] = 3.0 * aligned[:, _CORE].max(axis=1).astype(np.float64) / np.maximum(shape[:, 0], 1e-3)
    out[:, 11] = 2.0 * logs[:, 2]
    out[:, 12] = p.correlation[:, _BEAT]
    out[:, 13] = p.difference[:, _BEAT]
    out[:, 14:16] = p.size[:, : _NORMAL + 1]
    out[:, 16] = 2.0 * people["p_unsteadiness"]
    out[:, 17] = 2.0 * t_correlation
    out[:, 18] = 10.0 * t_difference / amplitude
    out[:, 19] = 20.0 * np.sqrt(dots(bends, bends) / bends.shape[1]) / amplitude
    out[:, 20] = np.minimum(people["beats"], 32) / 16.0
    return out


def _around_context(people: Stack, beats: _Beats, p_waves: Float32, p: _PWaves) -> Float64:
    """(n, 20): irregularity, and the P region without the T wave before it; updates the memory of P waves."""
    ring, quantiles = people["rr_log"], people["rr_quantiles"]
    core, last, before = beats.cores[:, _UNSHIFTED], people["last_core"], beats.without_t
    like_last = 2.0 * dots(core, last) / (dots(core, core) + dots(last, last) + 1e-6)
    energy, product = p.energy[:, _UNDER_T], p.product[:, _UNDER_T]
    log_ratio = ring[:, -1] - quantiles[:, SLOW]
    late = log_ratio >= np.maximum(0.0, quantiles[:, Q90] - quantiles[:, SLOW] - _LATE_MARGIN)
    out = np.empty((len(people), 20))
    out[:, :8] = irregularity(people)
    out[:, 8] = p.correlation[:, _UNDER_T]
    out[:, 9] = p.difference[:, _UNDER_T]
    out[:, 10] = p.size[:, _UNDER_T]
    out[:, 11] = 10.0 * np.sqrt(dots(before, before) / len(_BEFORE)) / beats.amplitude
    out[:, 12] = 3.0 * like_last
    out[:, 13] = 4.0 * (ring[:, -1] - ring[:, -3])
    out[:, 14:19] = p_clusters(people, p_waves[:, _UNDER_T], energy, log_ratio, late)
    out[:, 19] = 2.0 * (2.0 * product / (energy + p.energy[:, _NORMAL] + 1e-6))
    return out


def _followers_context(
    people: Stack, dues: Sequence[DueBeat], beats: _Beats, following: Float32, p: _PWaves, median8: Float64
) -> Float64:
    """(n, 11): the intervals after each beat, and how the next looks beside the normal and beside this one."""
    out = np.empty((len(people), 11))
    out[:, :7] = waits(dues, people["rr_log"][:, -1], people["rr_quantiles"][:, SLOW], median8)
    templates = np.stack((beats.reference[:, _CORE], beats.cores[:, _UNSHIFTED]), axis=1)
    out[:, 7:9] = 3.0 * similarity(following.take(_SHIFTED_CORES, axis=1), templates).max(axis=1)
    out[:, 9] = p.correlation[:, _NEXT]
    out[:, 10] = p.difference[:, _NEXT]
    out[[not due.followers for due in dues], 7:] = 0.0
    return out


def _remember(people: Stack, beats: _Beats, rhythm: Intervals) -> None:
    """Let each beat shape its cluster, and, if it came late, its cluster's full template."""
    rows, cluster, shift, own = np.arange(len(people)), beats.cluster, beats.shift, beats.own
    slow, q90 = people["rr_quantiles"][:, SLOW], people["rr_quantiles"][:, Q90]
    late = rhythm.known & (rhythm.log_rr >= np.maximum(slow, q90 - _LATE_MARGIN))
    counts, cores, full = people["counts"], people["cores"], people["full"]
    counts[:, :, : LATE + 1] *= FADE
    own[:, : LATE + 1] *= FADE
    own[:, WEIGHT] += 1.0
    rate = np.maximum(1.0 / own[:, WEIGHT], 1.0 / TEMPLATE_BEATS)
    mean = cores[rows, cluster]
    cores[rows, cluster] = mean + rate.astype(np.float32)[:, None] * (beats.cores[rows, shift] - mean)
    ratio = own[:, RR_RATIO]
    np.add(ratio, rate * (rhythm.log_rr - slow - ratio), out=ratio, where=rhythm.known)
    if late.any():
        own[:, LATE] += late
        own[:, FULL_BEATS] += late
        which = np.flatnonzero(late)
        place, counted = cluster[which], own[which]
        rate = np.maximum(1.0 / counted[:, FULL_BEATS], 1.0 / TEMPLATE_BEATS)[:, None]
        mean = full[which, place]
        seen = beats.x[which[:, None], _SHIFTED_WINDOWS[shift[which]]]
        full[which, place] = mean + rate.astype(np.float32) * (seen - mean)
        counted[:, QRS_SHAPE] += rate * (beats.shape[which] - counted[:, QRS_SHAPE])
        own[which] = counted
    counts[rows, cluster] = own


def _remember_answers(people: Stack, context: Float64) -> None:
    """What later beats are shown of this one."""
    unsteadiness, history = people["p_unsteadiness"], people["history"]
    rate = np.maximum(1.0 / (people["beats"] + 1), 1.0 / 32.0)
    unsteadiness += rate * (np.minimum(context[:, _P_DIFFERENCE], _LIMIT) - unsteadiness)
    history[:, :, 1:] = history[:, :, :-1]
    history[:, :, 0] = context.take(_REMEMBERED, axis=1)
