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

The beats of many people are taken at once: what is measured over samples (beat_measures) in numpy, a row each, and the
formulas on single numbers (beat_context) in floats for a few people, in columns for a ward. No row depends on the
others, so that a person's features have the same bits in any company.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.signal import beat_measures as at
from agent.signal.beat_arithmetic import Columns, Floats
from agent.signal.beat_context import LIMIT, Learnt, Seen, amplitude_of, context_of
from agent.signal.beat_intervals import Interval, log_intervals, measured, take_intervals
from agent.signal.beat_memory import (
    BEATS,
    FULL_BEATS,
    LATE,
    RR_RATIO,
    SIZE,
    SLOPE,
    WEIGHT,
    WIDTH,
    WINDOW,
    FeatureState,
    known,
)
from agent.signal.beat_surroundings import PLearnt, following
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.likeness import Float32, Float64, at_125_hz, row_maxima, row_sums, similarity
from agent.signal.pending import DECIDE_SAMPLES, DueBeat
from models.vocabulary import BEAT_CONTEXT

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

FEW = 12
"""Up to so many people, floats are quicker than columns."""
_SAME_CLUSTER = 0.80


@dataclass(slots=True)
class _Places:
    """Where each beat belongs among the clusters of its person."""

    cluster: list[int]
    """Its own."""
    shift: list[int]
    """The shift at which it fits that best."""
    normal: list[int]
    """The normal one."""
    normal_shift: list[int]
    likeness: list[tuple[float, float]]
    """Of its QRS to the normal one and to its own cluster's."""


class BeatFeatures:
    """Turns confirmed beats, in order, into classifier inputs. Holds nothing itself: memory is in FeatureState."""

    def new_state(self) -> FeatureState:
        return FeatureState()

    def gap(self, state: FeatureState) -> None:
        """Forget when the last beat was: samples are missing, so the next RR interval is not known."""
        state.last_r = None

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
        _check(states, windows, dues)
        past = known(states)
        apart = [
            None if state.last_r is None else due.r_index - state.last_r
            for state, due in zip(states, dues, strict=True)
        ]
        log_rr = log_intervals(apart)
        take_intervals(past.numbers, log_rr)
        x = at_125_hz(windows[:, :WINDOW_SAMPLES])
        cores = x.take(at.SHIFTED_CORES, axis=1)
        core = cores[:, at.UNSHIFTED]
        before = at.without_t(states, x, apart)
        shapes = at.qrs_shapes(core)
        places = _placed(states, past.numbers, x, core, shapes, similarity(cores, past.cores))
        reference = np.array([state.full[normal] for state, normal in zip(states, places.normal, strict=True)])
        aligned = at.shifted(x, places.normal_shift)
        next_beats = at.next_beats(windows, dues)
        p_waves = at.p_regions(aligned, reference, before, next_beats)
        measures = at.measures(past, core, aligned, reference, before, next_beats, p_waves, shapes)
        sizes = [row[SIZE.start + normal] for row, normal in zip(past.numbers, places.normal, strict=True)]
        images = at.images(aligned, reference, amplitude_of(np.array(sizes), Columns))
        take = _in_floats if len(states) <= FEW else _in_columns
        context, numbers, learnt = take(past.numbers, log_rr, measures, places, dues)
        for row, (state, due, lesson) in enumerate(zip(states, dues, learnt, strict=True)):
            _learn(state, x[row], cores[row], p_waves[row, at.UNDER_T], places.cluster[row], places.shift[row], lesson)
            state.numbers[:] = numbers[row]
            state.last_core[:] = core[row]
            state.last_cluster, state.last_r = places.cluster[row], due.r_index
        return images, np.minimum(np.maximum(context, -LIMIT), LIMIT).astype(np.float32, order="C")


def _check(states: Sequence[FeatureState], windows: Float32, dues: Sequence[DueBeat]) -> None:
    if windows.shape != (expected := (len(states), BEFORE_SAMPLES + AFTER_SAMPLES)):
        raise ValueError(f"beat windows have shape {windows.shape}, expected {expected}")
    if not all(map(math.isfinite, row_sums(windows, axis=1).tolist())):
        raise ValueError("beat window holds a value that is not a finite number")
    for state, due in zip(states, dues, strict=True):
        if state.last_r is not None and due.r_index <= state.last_r:
            raise ValueError(f"beat at sample {due.r_index} is not later than the one before, at {state.last_r}")


def _placed(
    states: Sequence[FeatureState],
    numbers: Float64,
    x: Float32,
    core: Float32,
    shapes: Float64,
    similarities: Float32,
) -> _Places:
    """Where each beat belongs: a new cluster in the least used place when its QRS is like none."""
    out = _Places([], [], [], [], [])
    all_shifts, all_likeness = similarities.argmax(axis=1).tolist(), row_maxima(similarities, axis=1).tolist()
    all_weights, all_lates = numbers[:, WEIGHT].tolist(), numbers[:, LATE].tolist()
    for row, (state, shifts, likeness, weights, lates, full_beats) in enumerate(
        zip(states, all_shifts, all_likeness, all_weights, all_lates, numbers[:, FULL_BEATS].tolist(), strict=True)
    ):
        cluster = likeness.index(max(likeness))
        begun = bool(numbers[row, BEATS])
        if not begun or likeness[cluster] < _SAME_CLUSTER:
            if begun:
                weights[lates.index(max(lates))] = math.inf  # the normal is never given up for one odd beat
            cluster = weights.index(min(weights))
            state.core(cluster)[:] = core[row]
            full_beats[cluster] = lates[cluster] = 0.0
            for part in (WEIGHT, LATE, FULL_BEATS, RR_RATIO):
                numbers[row, part.start + cluster] = 0.0
            if not begun:
                likeness[cluster], shifts[cluster] = 1.0, at.UNSHIFTED
        if not full_beats[cluster]:
            state.full[cluster] = x[row].take(at.SHIFTED_WINDOWS[shifts[cluster]])
            for part, value in zip((SIZE, WIDTH, SLOPE), shapes[row], strict=True):
                numbers[row, part.start + cluster] = value
        normal = lates.index(max(lates))
        if not full_beats[normal]:
            normal = cluster  # nothing late has been seen yet
        out.cluster.append(cluster)
        out.shift.append(shifts[cluster])
        out.normal.append(normal)
        out.normal_shift.append(shifts[normal])
        out.likeness.append((likeness[normal], likeness[cluster]))
    return out


_Answers = tuple[Float64, Float64 | list[list[float]], list[Learnt]]
"""Contexts (n, len(CONTEXT)), the numbers to be remembered, and what else is learnt, of each."""


def _in_floats(
    numbers: Float64, log_rr: list[float | None], measures: Float64, places: _Places, dues: Sequence[DueBeat]
) -> _Answers:
    """One person after the other."""
    contexts, learnt, memory = [], [], numbers.tolist()
    rows = zip(memory, log_rr, measured(numbers).tolist(), measures.tolist(), dues, strict=True)
    for row, (m, log, rhythm, seen, due) in enumerate(rows):
        context, lesson = context_of(
            Floats,
            m,
            Seen(
                Interval(log is not None, log or 0.0),
                rhythm,
                seen,
                places.cluster[row],
                places.normal[row],
                places.likeness[row],
                following(due),
            ),
        )
        contexts.append(context)
        learnt.append(lesson)
    return np.array(contexts), memory, learnt


def _in_columns(
    numbers: Float64, log_rr: list[float | None], measures: Float64, places: _Places, dues: Sequence[DueBeat]
) -> _Answers:
    """All people at once."""
    m = _columns(numbers)
    to_normal, to_own = np.array(places.likeness).T
    seen = Seen(
        Interval(np.array([log is not None for log in log_rr]), np.array([log or 0.0 for log in log_rr])),
        _columns(measured(numbers)),
        _columns(measures),
        np.array(places.cluster),
        np.array(places.normal),
        (to_normal, to_own),
        _columns(np.array([following(due) for due in dues])),
    )
    context, lesson = context_of(Columns, m, seen)
    p = lesson.p
    parts = (lesson.rate, lesson.late, lesson.late_rate, p.place, p.known, p.rate)
    learnt = [
        Learnt(rate, late, late_rate, PLearnt(*of_p))
        for rate, late, late_rate, *of_p in zip(*[part.tolist() for part in parts], strict=True)
    ]
    return np.array(context).T, np.ascontiguousarray(np.array(m).T), learnt


def _columns(table: Float64) -> list[Float64]:
    return list(np.ascontiguousarray(table.T))


def _learn(
    state: FeatureState, x: Float32, cores: Float32, p_wave: Float32, cluster: int, shift: int, lesson: Learnt
) -> None:
    """Let the beat shape the stretches of signal that are kept."""
    mean = state.core(cluster)
    mean += np.float32(lesson.rate) * (cores[shift] - mean)
    if lesson.late:
        mean = state.full[cluster]
        mean += np.float32(lesson.late_rate) * (x.take(at.SHIFTED_WINDOWS[shift]) - mean)
    mean = state.p_wave(lesson.p.place)
    if not lesson.p.known:
        mean[:] = p_wave
    mean += np.float32(lesson.p.rate) * (p_wave - mean)
