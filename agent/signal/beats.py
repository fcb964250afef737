"""Streaming QRS detection for a batch of patients: provisional within 0.3 s of the R peak, confirmed 0.6 s after it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.signal import beat_scorer
from agent.signal.beat_candidates import HISTORY, ISOLATION, REJECTED, SHAPE, Candidate, find_candidates
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]
Status = Literal["provisional", "confirmed", "withdrawn"]

CONFIRM_S = 0.6
"""Every beat is confirmed or withdrawn exactly this long after its R peak, unless search-back finds it later."""

_RATE = ANALYSIS_RATE_HZ
_CONFIRM = round(CONFIRM_S * _RATE)
_LEARN = 2 * _RATE
"""The first two seconds only set the levels; their beats come out together at the end of it."""
_LEARN_FLOOR_MV_S = 2.0
"""Least first level: a stretch that begins with a still heart must not take its noise for beats. Of 164,000 beats of
MIT-BIH DS1 and SVDB, one in 2,000 is smaller."""
_REFRACTORY = 45
"""180 ms: no two beats are nearer."""
_SEARCHBACK_RR = 1.5
"""A pause longer than this many usual RR intervals is searched for the likeliest candidate passed over."""
_SEARCHBACK_SHARE = 0.25
"""Least share of the usual amplitude for search-back: P waves that are not conducted must stay a pause."""
_SEARCHBACK_LIMIT = 3 * _RATE
"""Nothing older than this is found by search-back: by then a pause is news of its own."""
_MEMORY = 8
"""Levels are medians over this many last beats (Hamilton & Tompkins)."""
_BLOCK = 64
"""Patients looked through at once: as many as fit a processor's cache."""
_NEGLIGIBLE = 0.1
"""Share of the usual amplitude below which a candidate is not even described."""
_UNLIKELY = 0.2
"""The same for a provisional beat."""
_BEFORE, _AFTER = 100, 110
"""Samples before and after within which the largest neighbour counts."""
_TEMPLATE, _ACCEPTED, _DISMISSED = 0, 1, 1 + _MEMORY
"""Rows of the shapes a person is known by: the template, then the last beats, then the last things that were none."""
_SHAPES = 1 + 2 * _MEMORY


@dataclass(frozen=True, slots=True)
class BeatMark:
    """One statement about one heart beat."""

    r_index: int
    """Sample of the R peak at 250 Hz since the stretch began, in the input's time: filter delays are taken off."""
    decided_index: int
    """The sample whose arrival made the decision possible; the same for any chunking."""
    status: Status


@dataclass(slots=True, eq=False)
class Levels:
    """What is usual for this person, from the last `_MEMORY` confirmed beats and what was passed over between them."""

    amplitudes: list[float]
    slopes: list[float]
    rr: list[int]
    fits: list[float]
    noises: list[float]
    shapes: Signal
    """(17, 24): see `_TEMPLATE`."""
    accepted: int = 0
    dismissed: int = 0
    """How many have been written into `shapes`' two rings."""
    amplitude: float = 0.0
    slope: float = 0.0
    interval: float = 0.0
    fit: float = 0.0
    noise: float = 0.0
    spread: float = 0.0
    """Medians of the lists above, and the range of `rr` as a share of its median."""

    def settle(self) -> None:
        """Forget beyond the memory, and take the medians anew."""
        for values in (self.amplitudes, self.slopes, self.rr, self.fits):
            del values[:-_MEMORY]
        self.amplitude = _median(self.amplitudes)
        self.slope = _median(self.slopes)
        self.interval = _median(self.rr)
        self.fit = _median(self.fits)
        self.spread = min((max(self.rr) - min(self.rr)) / self.interval, 2.0)

    def dismiss(self, other: Candidate) -> None:
        """Learn from what was no beat."""
        self.noises.append(other.amplitude)
        del self.noises[:-_MEMORY]
        self.noise = _median(self.noises)
        if other.amplitude > _NEGLIGIBLE * self.amplitude:
            self.shapes[_DISMISSED + self.dismissed % _MEMORY] = other.shape
            self.dismissed += 1


@dataclass(slots=True, eq=False)
class QrsState:
    """One patient's detector memory; mutated by `QrsDetector.push`."""

    history: Signal
    """(2, 112): the last samples of the detection and the morphology path."""
    seen: int = 0
    """Samples since the stretch began."""
    recent: list[Candidate] = field(default_factory=list)
    """Candidates of the last seconds, oldest first."""
    undecided: int = 0
    """How many at the end of `recent` await their confirmation."""
    levels: Levels | None = None
    """None until the first two seconds have passed."""
    last: Candidate | None = None
    """The last confirmed beat."""
    passed_over: list[Candidate] = field(default_factory=list)
    """Candidates rejected since `last`."""
    last_provisional: int = -(10**9)
    """Envelope peak of the last provisional beat."""


Decisions = Generator[tuple[float, ...], float, None]
"""Yields measurements of a candidate, is sent its log odds of being a beat."""


class QrsDetector:
    """Finds heart beats in the two paths of `EcgFilters`.

    Candidates are local maxima of the mean absolute slope of the 8 to 20 Hz band. Each is described by how it
    compares with the last beats (amplitude, slope, shape, timing), with the noise, and with its neighbours, and a
    small fixed network, `beat_scorer`, turns that into log odds of being a beat: once 100 ms after the maximum
    without its future (provisional), once 0.6 s after R with it (confirmed or withdrawn). A pause of 1.5 usual RR
    intervals is searched back. Work per sample is numpy over the batch; Python runs per candidate.
    """

    def new_state(self) -> QrsState:
        """Memory for a stretch that has not begun."""
        return QrsState(np.zeros((2, HISTORY)))

    def push(self, states: Sequence[QrsState], detection: Signal, morphology: Signal) -> list[list[BeatMark]]:
        """Take the paths' next samples, each [rows, n]; return each row's statements in the order they were decided.

        Row i continues `states[i]`. Confirmed beats come in strictly ascending `r_index`. Raises ValueError when
        shapes disagree.
        """
        if detection.shape != morphology.shape or detection.ndim != 2 or len(detection) != len(states):
            raise ValueError(f"paths have shapes {detection.shape} and {morphology.shape}, expected ({len(states)}, n)")
        if not detection.size:
            return [[] for _ in states]
        marks: list[list[BeatMark]] = [[] for _ in states]
        waiting: list[tuple[int, Decisions, tuple[float, ...]]] = []
        for row, (state, found) in enumerate(zip(states, self._candidates(states, detection, morphology), strict=True)):
            if not found and not state.undecided:
                continue
            decisions = _decide(state, found, marks[row])
            measured = next(decisions, None)
            if measured is not None:
                waiting.append((row, decisions, measured))
        while waiting:
            flat = np.fromiter(chain.from_iterable(measured for _, _, measured in waiting), np.float64)
            scores = self.score([row for row, _, _ in waiting], flat.reshape(len(waiting), -1))
            still: list[tuple[int, Decisions, tuple[float, ...]]] = []
            for (row, decisions, _), logit in zip(waiting, scores.tolist(), strict=True):
                try:
                    still.append((row, decisions, decisions.send(logit)))
                except StopIteration:
                    continue
            waiting = still
        return marks

    def score(self, _rows: Sequence[int], measurements: Signal) -> Signal:
        """Log odds (n,) of candidates (n, MEASUREMENTS), the k-th being of row `_rows[k]`; training overrides this."""
        return beat_scorer.logits(measurements)

    def _candidates(self, states: Sequence[QrsState], detection: Signal, morphology: Signal) -> list[list[Candidate]]:
        """New candidates of every row; the paths' ends are remembered."""
        found: list[list[Candidate]] = []
        for start in range(0, len(states), _BLOCK):
            block = states[start : start + _BLOCK]
            new = detection[start : start + _BLOCK], morphology[start : start + _BLOCK]
            history = np.stack([state.history for state in block])
            found += find_candidates(history, [state.seen for state in block], *new)
            ends = np.concatenate((history, np.stack(new, axis=1)), axis=2)[:, :, -HISTORY:]
            for state, end in zip(block, ends, strict=True):
                state.history = end.copy()
                state.seen += detection.shape[1]
        return found


def _decide(state: QrsState, found: list[Candidate], out: list[BeatMark]) -> Decisions:
    """Take one row through all its decisions in order of time."""
    queue = state.recent
    for new in found:
        known_at = new.peak + ISOLATION
        yield from _confirm_until(state, known_at - 1, out)
        queue.append(new)
        state.undecided += 1
        if state.levels is not None and known_at >= _LEARN:
            yield from _propose(state, state.levels, new, known_at, out)
    yield from _confirm_until(state, state.seen - 1, out)
    drop = bisect.bisect_left(queue, state.seen - 3 * _RATE, key=lambda c: c.peak)
    del queue[: min(drop, len(queue) - state.undecided)]


def _propose(state: QrsState, levels: Levels, new: Candidate, known_at: int, out: list[BeatMark]) -> Decisions:
    """Say at once whether a new candidate looks like a beat."""
    last = state.last
    if new.amplitude < _UNLIKELY * _faded(levels, last, new):
        return
    new.logit = yield _measure(state, levels, new, known_at)
    follows = new.peak - state.last_provisional >= _REFRACTORY and (last is None or new.r_index > last.r_index)
    if new.logit > 0 and follows:
        new.provisional = True
        state.last_provisional = new.peak
        out.append(BeatMark(new.r_index, known_at, "provisional"))


def _confirm_until(state: QrsState, index: int, out: list[BeatMark]) -> Decisions:
    """Settle every candidate whose 0.6 s are over when sample `index` has arrived."""
    while state.undecided:
        candidate = state.recent[-state.undecided]
        due = max(candidate.r_index + _CONFIRM, candidate.peak + ISOLATION, _LEARN)
        if due > index:
            return
        if state.levels is None:
            state.levels = _learn(state.recent)
        levels, last = state.levels, state.last
        state.undecided -= 1
        apart = last is None or (candidate.peak - last.peak >= _REFRACTORY and candidate.r_index > last.r_index)
        if not apart or candidate.amplitude < _NEGLIGIBLE * _faded(levels, last, candidate):
            candidate.logit = REJECTED
        else:
            candidate.logit = yield _measure(state, levels, candidate, due, final=True)
        if candidate.logit > 0:
            _search_back(state, levels, candidate.peak, due, out)
            _accept(state, levels, candidate)
            out.append(BeatMark(candidate.r_index, due, "confirmed"))
            continue
        if candidate.provisional:
            out.append(BeatMark(candidate.r_index, due, "withdrawn"))
        if apart:
            levels.dismiss(candidate)
            state.passed_over.append(candidate)
            del state.passed_over[: -2 * _MEMORY]
        _search_back(state, levels, candidate.peak, due, out)


def _learn(first: list[Candidate]) -> Levels:
    """First levels, from the largest candidate of each of the first two seconds."""
    seconds = [[c for c in first if c.peak // _RATE == s] for s in (0, 1)]
    largest = [max(group, key=lambda c: c.amplitude) for group in seconds if group] or first[:1]
    amplitude = max(sum(c.amplitude for c in largest) / len(largest), _LEARN_FLOOR_MV_S)
    slope = sum(c.slope for c in largest) / len(largest)
    shapes = np.zeros((_SHAPES, SHAPE))
    shapes[_TEMPLATE] = max(largest, key=lambda c: c.amplitude).shape
    noises = [0.1 * amplitude] * 3
    levels = Levels([amplitude] * 3, [slope] * 3, [round(0.8 * _RATE)] * 3, [0.8] * 3, noises, shapes, noise=noises[0])
    levels.settle()
    return levels


def _faded(levels: Levels, last: Candidate | None, c: Candidate) -> float:
    """The usual amplitude, less after a long silence: the electrode may have moved."""
    silence_s = (c.peak - last.peak) / _RATE - 2.0 if last is not None else 0.0
    return levels.amplitude * max(0.1, 0.85**silence_s) if silence_s > 0 else levels.amplitude


def _search_back(state: QrsState, levels: Levels, until: int, due: int, out: list[BeatMark]) -> None:
    """Accept the likeliest candidates passed over while the pause up to `until` is too long for this rhythm."""
    while state.last is not None and state.passed_over:
        begin = state.last.peak
        if until - begin < _SEARCHBACK_RR * levels.interval:
            return
        choices = [
            c
            for c in state.passed_over
            if c.peak - begin >= 1.5 * _REFRACTORY
            and until - c.peak >= _REFRACTORY
            and due - c.r_index <= _SEARCHBACK_LIMIT
            and c.amplitude >= _SEARCHBACK_SHARE * levels.amplitude
        ]
        best = max(choices, key=lambda c: c.logit, default=None)
        if best is None or best.logit < beat_scorer.SEARCHBACK_LOGIT:
            return
        _accept(state, levels, best)
        out.append(BeatMark(best.r_index, due, "confirmed"))


def _accept(state: QrsState, levels: Levels, beat: Candidate) -> None:
    """Learn from a confirmed beat."""
    shapes = levels.shapes
    template = shapes[_TEMPLATE]
    levels.fits.append(float((template * beat.shape).sum()))
    blend = 0.875 * template + 0.125 * beat.shape
    shapes[_TEMPLATE] = blend / max(math.sqrt((blend * blend).sum()), 1e-9)
    shapes[_ACCEPTED + levels.accepted % _MEMORY] = beat.shape
    levels.accepted += 1
    # A burst of artefact must not lift the levels beyond the next beats' reach.
    levels.amplitudes.append(min(beat.amplitude, 3 * levels.amplitude))
    levels.slopes.append(min(beat.slope, 3 * levels.slope))
    if state.last is not None and beat.peak - state.last.peak < 2 * _RATE:
        levels.rr.append(beat.peak - state.last.peak)
    levels.settle()
    state.last = beat
    state.passed_over = [c for c in state.passed_over if c.peak > beat.peak]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def _measure(state: QrsState, levels: Levels, c: Candidate, known_at: int, *, final: bool = False) -> tuple[float, ...]:
    """`beat_scorer.MEASUREMENTS` numbers: the candidate, what is usual, and its neighbours known at `known_at`."""
    fits = (levels.shapes * c.shape).sum(axis=1).tolist()
    c.fit = fit = fits[_TEMPLATE]
    last = state.last
    if last is not None:
        gap = float(c.peak - last.peak)
        last_amplitude, last_slope = last.amplitude, last.slope
        fit_last = fits[_ACCEPTED + (levels.accepted - 1) % _MEMORY]
    else:
        gap = levels.interval
        last_amplitude, last_slope, fit_last = c.amplitude, c.slope, 0.5
    before, before_at, before_fit = 0.0, float(_BEFORE), 0.0
    after, after_at, after_fit = 0.0, float(_AFTER), 0.0
    for other in reversed(state.recent):
        offset = other.peak - c.peak
        if offset > 0:
            if final and offset <= _AFTER and other.peak + ISOLATION <= known_at and other.amplitude > after:
                after, after_at, after_fit = other.amplitude, float(offset), other.fit
        elif offset < -_BEFORE:
            break
        elif offset and other.amplitude > before:
            before, before_at, before_fit = other.amplitude, float(-offset), other.fit
    rival = max((o.amplitude for o in state.passed_over if o is not c), default=0.0)
    return (
        1.0 if final else 0.0,
        c.r_index,
        c.amplitude,
        levels.amplitude,
        _faded(levels, last, c),
        levels.noise,
        c.slope,
        levels.slope,
        last_amplitude,
        last_slope,
        before,
        after,
        rival,
        c.deflection,
        c.ambient,
        gap,
        levels.interval,
        levels.rr[-1],
        levels.rr[-2],
        before_at,
        after_at,
        fit,
        fit_last,
        max(fits[_ACCEPTED:_DISMISSED]),
        max(fits[_DISMISSED:]),
        levels.fit,
        before_fit,
        after_fit,
        levels.spread,
        c.rise,
        c.fall,
    )
