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
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.signal.beat_surroundings import SurroundingsState, irregularity, p_clusters, waits
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.likeness import centred, compare, similarity, upper_median
from agent.signal.pending import DECIDE_SAMPLES, FOLLOWER_SAMPLES, DueBeat
from models.vocabulary import BEAT_CONTEXT

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

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
SIGNAL_SHAPE = (2, WINDOW_SAMPLES // 2)
"""Channels (beat, difference to normal) and samples at 125 Hz of the signal input."""

CLUSTERS = 6
_R = BEFORE_SAMPLES // 2  # index of R at 125 Hz
_CORE = slice(_R - 14, _R + 22)  # QRS: 112 ms before R to 176 ms after
_P = slice(_R - 32, _R - 8)  # 256 to 64 ms before R
_T = slice(_R + 22, _R + 60)  # 176 to 480 ms after R
_SHIFTS = (-2, -1, 0, 1, 2)  # ± 16 ms of detection jitter is aligned away
_SHIFTED_CORES = np.array([np.arange(_CORE.start + s, _CORE.stop + s) for s in _SHIFTS])
_SHIFTED_WINDOWS = np.array([np.clip(np.arange(WINDOW_SAMPLES // 2) + s, 0, WINDOW_SAMPLES // 2 - 1) for s in _SHIFTS])

_FOLLOWER = 2 * (_CORE.stop + _SHIFTS[-1])
"""Samples at 250 Hz of a follower, from BEFORE_SAMPLES before its R peak, that hold its P wave and its QRS."""

_QUANTILES = np.array([0.10, 0.25, 0.50, 0.75, 0.90])
_SLOW_STEP = 0.006  # log RR a beat: a lasting change of rate is learnt in some minutes, a run of ectopy is not
_MEAN_BEATS = np.array([128.0, 512.0, 2048.0])  # the longest outlasts a supraventricular tachycardia of many minutes
_SAME_CLUSTER = 0.80
_MEMORY_BEATS = 600.0
_TEMPLATE_BEATS = 32.0
_MAX_RR_S = 3.0  # past this, a beat was missed or the heart stood still: it says nothing about prematurity
_MIN_AMPLITUDE_MV = 0.05
_RR_LENGTH = 33
_HISTORY_LENGTH = 4
_LIMIT = 4.0
_sum = np.add.reduce  # np.sum and np.mean cost more in calls than in additions on arrays this small
_P_DIFFERENCE = CONTEXT.index("p_difference")
_REMEMBERED = [CONTEXT.index(name) for name in CONTEXT if f"{name}_prev1" in CONTEXT]


def _float32(*shape: int) -> Float32:
    return np.zeros(shape, dtype=np.float32)


@dataclass(slots=True)
class FeatureState:
    """One person's memory: about 6 kB, plain arrays and numbers, so it can be pickled into a snapshot."""

    beats: int = 0
    last_r: int | None = None
    """R peak of the last beat, samples of the run."""
    last_core: Float32 = field(default_factory=lambda: _float32(_CORE.stop - _CORE.start))
    last_cluster: int = 0
    rr_known: int = 0
    """RR intervals seen so far."""
    rr_quantiles: Float64 = field(default_factory=lambda: np.zeros(len(_QUANTILES)))
    """Slow quantiles of log RR (s)."""
    rr_log: Float64 = field(default_factory=lambda: np.zeros(_RR_LENGTH))
    """Recent log RR, newest last."""
    rr_means: Float64 = field(default_factory=lambda: np.zeros(len(_MEAN_BEATS)))
    """Means of log RR that fade over minutes, a quarter of an hour, an hour."""
    fast_run: int = 0
    """Beats since the last one that was not early by the longest mean."""
    fast_run_onset: float = 0.0
    """Log of the run's first interval over the median before it: a leap begins a tachycardia, a slope does not."""
    p_unsteadiness: float = 0.0
    """Mean of the P region's difference to normal over some thirty beats: without P waves it never settles."""
    cores: Float32 = field(default_factory=lambda: _float32(CLUSTERS, _CORE.stop - _CORE.start))
    """Mean QRS of each cluster, mV."""
    full: Float32 = field(default_factory=lambda: _float32(CLUSTERS, WINDOW_SAMPLES // 2))
    """Mean window of each cluster's late beats, mV."""
    full_beats: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    weight: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    """Beats of each cluster, fading over ten minutes."""
    late: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    """Late beats of each cluster, fading likewise."""
    rr_ratio: Float64 = field(default_factory=lambda: np.zeros(CLUSTERS))
    """Mean log of RR over the slow median, per cluster."""
    shape: Float64 = field(default_factory=lambda: np.ones((CLUSTERS, 3)))
    """Per cluster, of its late beats: mean QRS amplitude (mV), equivalent width (samples), slope (mV/sample)."""
    around: SurroundingsState = field(default_factory=SurroundingsState)
    history: Float64 = field(default_factory=lambda: np.zeros((4, _HISTORY_LENGTH)))
    """QRS similarity to normal, P correlation, P and T difference of the last beats, newest first."""


class BeatFeatures:
    """Turns confirmed beats, in order, into classifier inputs. Holds nothing itself: memory is in FeatureState."""

    def new_state(self) -> FeatureState:
        return FeatureState()

    def gap(self, state: FeatureState) -> None:
        """Forget when the last beat was: samples are missing, so the next RR interval is not known."""
        state.last_r = None

    def push(self, state: FeatureState, window: Float32, due: DueBeat) -> tuple[Float32, Float32]:
        """Features of the next confirmed beat; updates `state`.

        `window`: (BEFORE_SAMPLES + AFTER_SAMPLES,) float32, mV: the morphology path around R, which is at index
        BEFORE_SAMPLES; `due`: the beat, later than the one before, and what is known to follow it.
        Returns signal (2, 125) float32 at 125 Hz, and context (len(CONTEXT),) float32, within ± 4.
        Raises ValueError on a window of another shape or with non-finite values, and on a beat out of order.
        """
        if window.shape != (BEFORE_SAMPLES + AFTER_SAMPLES,):
            raise ValueError(f"beat window has shape {window.shape}, expected ({BEFORE_SAMPLES + AFTER_SAMPLES},)")
        x = np.float32(0.5) * (window[0:WINDOW_SAMPLES:2] + window[1:WINDOW_SAMPLES:2])
        x -= np.partition(x, _R)[_R]
        if not math.isfinite(float(_sum(window))):
            raise ValueError("beat window holds a value that is not a finite number")
        last_r = state.last_r
        rr, log_rr = self._interval(state, due.r_index)

        cores = x[_SHIFTED_CORES]
        likeness = similarity(cores, state.cores)
        best_shift = likeness.argmax(axis=0)
        by_cluster = likeness.max(axis=0)
        cluster = self._assign(state, by_cluster, cores[2])
        if state.beats == 0:
            by_cluster[cluster], best_shift[cluster] = 1.0, 2
        normal = int(state.late.argmax())

        without_t = x.copy()
        if last_r is not None and (apart := (due.r_index - last_r) // 2) < len(x):
            without_t[: len(x) - apart] -= state.full[state.last_cluster, apart:]

        shape = _qrs_shape(x)
        if state.full_beats[cluster] == 0:
            state.full[cluster] = x[_SHIFTED_WINDOWS[best_shift[cluster]]]
            state.shape[cluster] = shape
        if state.full_beats[normal] == 0:
            normal = cluster  # nothing late has been seen yet
        aligned = x[_SHIFTED_WINDOWS[best_shift[normal]]]
        reference = state.full[normal]
        image = np.stack((aligned, aligned - reference))
        image *= 4.0 / _amplitude(state, normal)
        np.arcsinh(image, out=image)

        p_normal = centred(reference[_P])
        context = [
            *rr,
            *self._shape_context(state, aligned, shape, (cluster, normal), by_cluster, p_normal),
            *self._around_context(state, x, without_t, normal, p_normal),
            *self._followers_context(state, window, due, x, normal, p_normal),
            *state.history.ravel().tolist(),
        ]
        self._remember(state, x, shape, (cluster, int(best_shift[cluster])), log_rr)
        state.p_unsteadiness += max(1.0 / (state.beats + 1), 1.0 / 32.0) * (
            min(context[_P_DIFFERENCE], _LIMIT) - state.p_unsteadiness
        )
        state.history[:, 1:] = state.history[:, :-1]
        state.history[:, 0] = [context[at] for at in _REMEMBERED]
        state.last_r = due.r_index
        state.last_core = cores[2]
        state.last_cluster = cluster
        state.beats += 1
        return image, np.minimum(np.maximum(np.array(context, dtype=np.float32), -_LIMIT), _LIMIT)

    def _interval(self, state: FeatureState, r_index: int) -> tuple[list[float], float | None]:
        """RR features of this beat (as far as rhythm is known) and its log RR; updates the RR memory."""
        if state.last_r is not None and r_index <= state.last_r:
            raise ValueError(f"beat at sample {r_index} is not later than the one before, at {state.last_r}")
        rr_s = (r_index - state.last_r) / RATE_HZ if state.last_r is not None else 0.0
        if state.last_r is None or rr_s > _MAX_RR_S:
            return self._interval_features(state, None), None
        log_rr = math.log(rr_s)
        if state.rr_known == 0:
            state.rr_log[:] = log_rr
            state.rr_quantiles[:] = log_rr
            state.rr_means[:] = log_rr
        state.rr_log[:-1] = state.rr_log[1:]
        state.rr_log[-1] = log_rr
        state.rr_known += 1
        if log_rr >= state.rr_means[2] - 0.12:
            state.fast_run, state.fast_run_onset = 0, 0.0
        else:
            if state.fast_run == 0:
                state.fast_run_onset = log_rr - upper_median(state.rr_log[-9:-1])
            state.fast_run += 1
        features = self._interval_features(state, log_rr)
        step = max(_SLOW_STEP, 0.2 / state.rr_known)
        state.rr_quantiles += step * (_QUANTILES - (log_rr < state.rr_quantiles))
        state.rr_means += np.maximum(1.0 / state.rr_known, 1.0 / _MEAN_BEATS) * (log_rr - state.rr_means)
        return features, log_rr

    @staticmethod
    def _interval_features(state: FeatureState, log_rr: float | None) -> list[float]:
        ring = state.rr_log
        quantiles = state.rr_quantiles.tolist()
        slow = quantiles[2]
        median8, median32 = upper_median(ring[-9:-1]), upper_median(ring[:-1])
        steps = np.abs(ring[1:] - ring[:-1])
        last = ring[-7:].tolist()
        now = slow if log_rr is None else log_rr
        return [
            3.0 * (now + 0.22) if state.rr_known else 0.0,  # 0.8 s is nought
            4.0 * (now - median8),
            4.0 * (now - median32),
            *(4.0 * (now - q) for q in quantiles),
            *(4.0 * (previous - slow) for previous in last[-2::-1]),
            4.0 * (quantiles[4] - quantiles[0]),
            float(_sum(steps[-8:])),
            0.25 * float(_sum(steps)),
            4.0 * (median8 - slow),
            np.count_nonzero(ring[:-1] < slow - 0.12) / 16.0,
            *(4.0 * (now - mean) for mean in state.rr_means.tolist()),
            0.5 * math.log2(1.0 + state.fast_run),
            4.0 * state.fast_run_onset,
        ]

    @staticmethod
    def _assign(state: FeatureState, by_cluster: Float64, core: Float32) -> int:
        """The cluster this QRS belongs to; a new one in the least used place when it is like none."""
        cluster = int(by_cluster.argmax())
        if state.beats and by_cluster[cluster] >= _SAME_CLUSTER:
            return cluster
        claim = state.weight.copy()
        if state.beats:
            claim[int(state.late.argmax())] = math.inf  # the normal is never given up for one odd beat
        cluster = int(claim.argmin())
        state.cores[cluster] = core
        state.full_beats[cluster] = state.weight[cluster] = state.late[cluster] = state.rr_ratio[cluster] = 0.0
        return cluster

    @staticmethod
    def _shape_context(
        state: FeatureState,
        x: Float32,
        shape: tuple[float, float, float],
        clusters: tuple[int, int],
        by_cluster: Float64,
        p_normal: Float32,
    ) -> list[float]:
        cluster, normal = clusters
        reference = state.full[normal]
        amplitude = _amplitude(state, normal)
        total = float(state.weight.sum()) + 1e-9
        size, width, slope = shape
        normal_size, normal_width, normal_slope = state.shape[normal].tolist()
        t, t_normal = x[_T], reference[_T]
        p_correlation, p_difference, p_energy, p_energy_normal = compare(centred(x[_P]), p_normal)
        t_correlation, t_difference, _, _ = compare(t, t_normal)
        bends = x[2:] - 2.0 * x[1:-1] + x[:-2]
        own = float(state.weight[cluster])
        return [
            3.0 * float(by_cluster[normal]),
            3.0 * float(by_cluster[cluster]),
            3.0 * own / total,
            3.0 * float(state.late[cluster]) / own if own else 1.5,
            4.0 * float(state.rr_ratio[cluster]),
            2.0 if cluster == normal else -2.0,
            3.0 * float(state.weight[normal]) / total,
            2.0 * math.log(max(size, 1e-3) / max(normal_size, 1e-3)),
            4.0 * math.log(width / 8.0),
            4.0 * math.log(width / normal_width),
            3.0 * float(x[_CORE].max()) / max(size, 1e-3),
            2.0 * math.log(max(slope, 1e-4) / max(normal_slope, 1e-4)),
            2.0 * p_correlation,
            20.0 * p_difference / amplitude,
            20.0 * p_energy / amplitude,
            20.0 * p_energy_normal / amplitude,
            2.0 * state.p_unsteadiness,
            2.0 * t_correlation,
            10.0 * t_difference / amplitude,
            20.0 * math.sqrt(float(bends @ bends) / len(bends)) / amplitude,
            min(state.beats, 32) / 16.0,
        ]

    @staticmethod
    def _around_context(
        state: FeatureState, x: Float32, without_t: Float32, normal: int, p_normal: Float32
    ) -> list[float]:
        """Irregularity, and the P region without the T wave before it; updates the memory of P waves."""
        amplitude = _amplitude(state, normal)
        ring = state.rr_log
        p = centred(without_t[_P])
        correlation, difference, energy, _ = compare(p, p_normal)
        before = without_t[: _P.stop]
        core = x[_CORE]
        like_last = 2.0 * float(core @ state.last_core)
        like_last /= float(core @ core) + float(state.last_core @ state.last_core) + 1e-6
        slow, q90 = float(state.rr_quantiles[2]), float(state.rr_quantiles[4])
        log_ratio = float(ring[-1]) - slow
        return [
            *irregularity(state.around, ring),
            2.0 * correlation,
            20.0 * difference / amplitude,
            20.0 * energy / amplitude,
            10.0 * math.sqrt(float(before @ before) / len(before)) / amplitude,
            3.0 * like_last,
            4.0 * float(ring[-1] - ring[-3]),
            *p_clusters(state.around, p, p_normal, log_ratio, log_ratio >= max(0.0, q90 - slow - 0.35)),
        ]

    @staticmethod
    def _followers_context(
        state: FeatureState, window: Float32, due: DueBeat, x: Float32, normal: int, p_normal: Float32
    ) -> list[float]:
        """The intervals after this beat, and how the next one looks beside the normal and beside this one."""
        ring = state.rr_log
        logs = float(ring[-1]), float(state.rr_quantiles[2]), upper_median(ring[-9:-1])
        post_s = tuple(
            (later - earlier) / RATE_HZ
            for earlier, later in zip((due.r_index, *due.followers), due.followers, strict=False)
        )
        intervals = waits(post_s, (DECIDE_SAMPLES - FOLLOWER_SAMPLES) / RATE_HZ, logs)
        if not due.followers:
            return [*intervals, 0.0, 0.0, 0.0, 0.0]
        at = due.followers[0] - due.r_index
        y = np.float32(0.5) * (window[at : at + _FOLLOWER : 2] + window[at + 1 : at + _FOLLOWER : 2])
        y -= np.partition(y, len(y) // 2)[len(y) // 2]
        reference = state.full[normal]
        likeness = similarity(y[_SHIFTED_CORES], np.stack((reference[_CORE], x[_CORE])))
        correlation, difference, _, _ = compare(centred(y[_P]), p_normal)
        return [
            *intervals,
            3.0 * float(likeness[:, 0].max()),
            3.0 * float(likeness[:, 1].max()),
            2.0 * correlation,
            20.0 * difference / _amplitude(state, normal),
        ]

    @staticmethod
    def _remember(
        state: FeatureState, x: Float32, shape: tuple[float, float, float], place: tuple[int, int], log_rr: float | None
    ) -> None:
        """Let the beat shape its cluster, and, if it came late, its cluster's full template."""
        cluster, shift = place
        slow = float(state.rr_quantiles[2])
        late = log_rr is not None and log_rr >= max(slow, float(state.rr_quantiles[4]) - 0.35)
        fade = 1.0 - 1.0 / _MEMORY_BEATS
        state.weight *= fade
        state.late *= fade
        state.weight[cluster] += 1.0
        rate = max(1.0 / state.weight[cluster], 1.0 / _TEMPLATE_BEATS)
        state.cores[cluster] += np.float32(rate) * (x[_SHIFTED_CORES[shift]] - state.cores[cluster])
        if log_rr is not None:
            state.rr_ratio[cluster] += rate * (log_rr - slow - state.rr_ratio[cluster])
        if not late:
            return
        state.late[cluster] += 1.0
        state.full_beats[cluster] += 1.0
        rate = max(1.0 / float(state.full_beats[cluster]), 1.0 / _TEMPLATE_BEATS)
        state.full[cluster] += np.float32(rate) * (x[_SHIFTED_WINDOWS[shift]] - state.full[cluster])
        state.shape[cluster] += rate * (np.array(shape) - state.shape[cluster])


def _amplitude(state: FeatureState, normal: int) -> float:
    return max(float(state.shape[normal, 0]), _MIN_AMPLITUDE_MV)


def _qrs_shape(x: Float32) -> tuple[float, float, float]:
    """Amplitude (mV), equivalent width (samples at 125 Hz) and steepest slope (mV/sample) of the QRS."""
    core = x[_CORE]
    high, low = float(core.max()), float(core.min())
    peak = max(high, -low, 1e-3)
    width = float(_sum(np.abs(core))) / peak
    return high - low, max(width, 1.0), float(np.abs(core[1:] - core[:-1]).max())
