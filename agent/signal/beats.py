"""Streaming QRS detection for a batch of patients: provisional within 0.3 s of the R peak, confirmed 0.6 s after it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.signal import beat_scorer
from agent.signal.beat_candidates import HISTORY, ISOLATION, REJECTED, Candidate, find_candidates
from agent.signal.beat_levels import MEMORY, NEGLIGIBLE, Lesson, Levels, compare, first_levels, learn
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]
Status = Literal["provisional", "confirmed", "withdrawn"]

CONFIRM_S = 0.6
"""Every beat is confirmed or withdrawn exactly this long after its R peak, unless search-back finds it later."""

_RATE = ANALYSIS_RATE_HZ
_CONFIRM = round(CONFIRM_S * _RATE)
_LEARN = 2 * _RATE
"""The first two seconds only set the levels; their beats come out together at the end of it."""
_REFRACTORY = 45
"""180 ms: no two beats are nearer."""
_SEARCHBACK_RR = 1.5
"""A pause longer than this many usual RR intervals is searched for the likeliest candidate passed over."""
_SEARCHBACK_SHARE = 0.25
"""Least share of the usual amplitude for search-back: P waves that are not conducted must stay a pause."""
_SEARCHBACK_LIMIT = 3 * _RATE
"""Nothing older than this is found by search-back: by then a pause is news of its own."""
_BLOCK = 64
"""Patients looked through at once: as many as fit a processor's cache."""
_UNLIKELY = 0.2
"""Share of the usual amplitude below which nothing is proposed as a beat; of its confirmation see NEGLIGIBLE."""
_BEFORE, _AFTER = 100, 110
"""Samples before and after within which the largest neighbour counts."""


class BeatMark(NamedTuple):
    """One statement about one heart beat."""

    r_index: int
    """Sample of the R peak at 250 Hz since the stretch began, in the input's time: filter delays are taken off."""
    decided_index: int
    """The sample whose arrival made the decision possible; the same for any chunking."""
    status: Status


@dataclass(slots=True, eq=False)
class QrsState:
    """One patient's detector memory; mutated by `QrsDetector.push`."""

    history: Signal
    """(2, 78): the last samples of the detection and the morphology path."""
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


Asked = tuple[Candidate, Levels, tuple[float, ...]]
"""A candidate, what is usual for its person, and its measurements but for the likeness of shapes."""
Decisions = Generator[Asked, float, None]
"""Yields what is asked about, is sent its log odds of being a beat."""


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
        lessons: list[Lesson] = []
        waiting: list[tuple[int, Decisions, Asked]] = []
        for row, (state, found) in enumerate(zip(states, self._candidates(states, detection, morphology), strict=True)):
            if not found and not _is_due(state, state.seen):
                continue
            decisions = _decide(state, found, marks[row], lessons)
            asked = next(decisions, None)
            if asked is not None:
                waiting.append((row, decisions, asked))
        while waiting:
            still: list[tuple[int, Decisions, Asked]] = []
            for (row, decisions, _), logit in zip(waiting, self._answers(waiting, lessons), strict=True):
                try:
                    still.append((row, decisions, decisions.send(logit)))
                except StopIteration:
                    continue
            waiting = still
        learn(lessons)
        return marks

    def _answers(self, waiting: Sequence[tuple[int, Decisions, Asked]], lessons: list[Lesson]) -> list[float]:
        """Log odds of what is waited for, once all that was accepted before is learnt."""
        learn(lessons)
        numbers = chain.from_iterable(asked[2] for _, _, asked in waiting)
        measurements = np.fromiter(numbers, np.float64).reshape(len(waiting), -1)
        compare([asked[0] for _, _, asked in waiting], [asked[1] for _, _, asked in waiting], measurements)
        logits: list[float] = self.score([row for row, _, _ in waiting], measurements).tolist()
        return logits

    def score(self, _rows: Sequence[int], measurements: Signal) -> Signal:
        """Log odds (n,) of candidates (n, MEASUREMENTS), the k-th being of row `_rows[k]`; training overrides this."""
        return beat_scorer.logits(measurements)

    def _candidates(self, states: Sequence[QrsState], detection: Signal, morphology: Signal) -> list[list[Candidate]]:
        """New candidates of every row; the paths' ends are remembered."""
        found: list[list[Candidate]] = []
        for start in range(0, len(states), _BLOCK):
            block = slice(start, start + _BLOCK)
            history = np.concatenate([state.history for state in states[block]]).reshape(-1, 2, HISTORY)
            paths = [
                np.concatenate((history[:, k], new[block]), axis=1) for k, new in enumerate((detection, morphology))
            ]
            found += find_candidates([state.seen for state in states[block]], *paths)
            ends = np.stack([path[:, -HISTORY:] for path in paths], axis=1)
            for state, end in zip(states[block], ends, strict=True):
                state.history[:] = end
                state.seen += detection.shape[1]
        return found


def _decide(state: QrsState, found: list[Candidate], out: list[BeatMark], lessons: list[Lesson]) -> Decisions:
    """Take one row through all its decisions in order of time."""
    queue = state.recent
    for new in found:
        known_at = new.peak + ISOLATION
        if _is_due(state, known_at):
            yield from _confirm_before(state, known_at, out, lessons)
        queue.append(new)
        state.undecided += 1
        levels, last = state.levels, state.last
        if levels is None or known_at < _LEARN or new.amplitude < _UNLIKELY * levels.faded(last, new):
            continue
        new.logit = yield new, levels, _measure(state, levels, new, known_at, final=False)
        follows = new.peak - state.last_provisional >= _REFRACTORY and (last is None or new.r_index > last.r_index)
        if new.logit > 0 and follows:
            new.provisional = True
            state.last_provisional = new.peak
            out.append(BeatMark(new.r_index, known_at, "provisional"))
    if _is_due(state, state.seen):
        yield from _confirm_before(state, state.seen, out, lessons)
    drop, settled, oldest = 0, len(queue) - state.undecided, state.seen - 3 * _RATE
    while drop < settled and queue[drop].peak < oldest:
        drop += 1
    del queue[:drop]


def _due(candidate: Candidate) -> int:
    """The sample whose arrival ends a candidate's 0.6 s."""
    due = candidate.r_index + _CONFIRM
    return due if due > _LEARN else _LEARN


def _is_due(state: QrsState, seen: int) -> bool:
    """Whether the 0.6 s of some candidate are over when `seen` samples have arrived."""
    return state.undecided > 0 and _due(state.recent[-state.undecided]) < seen


def _confirm_before(state: QrsState, seen: int, out: list[BeatMark], lessons: list[Lesson]) -> Decisions:
    """Settle every candidate that is due when `seen` samples have arrived."""
    while state.undecided:
        candidate = state.recent[-state.undecided]
        due = _due(candidate)
        if due >= seen:
            return
        if state.levels is None:
            state.levels = first_levels(state.recent)
        levels, last = state.levels, state.last
        state.undecided -= 1
        apart = last is None or (candidate.peak - last.peak >= _REFRACTORY and candidate.r_index > last.r_index)
        if not apart or candidate.amplitude < NEGLIGIBLE * levels.faded(last, candidate):
            candidate.logit = REJECTED
        else:
            candidate.logit = yield candidate, levels, _measure(state, levels, candidate, due, final=True)
        if candidate.logit > 0:
            _search_back(state, levels, candidate.peak, due, out, lessons)
            _accept(state, levels, candidate, lessons)
            out.append(BeatMark(candidate.r_index, due, "confirmed"))
            continue
        if candidate.provisional:
            out.append(BeatMark(candidate.r_index, due, "withdrawn"))
        if apart:
            levels.dismiss(candidate)
            state.passed_over.append(candidate)
            del state.passed_over[: -2 * MEMORY]
        _search_back(state, levels, candidate.peak, due, out, lessons)


def _search_back(
    state: QrsState, levels: Levels, until: int, due: int, out: list[BeatMark], lessons: list[Lesson]
) -> None:
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
        _accept(state, levels, best, lessons)
        out.append(BeatMark(best.r_index, due, "confirmed"))


def _accept(state: QrsState, levels: Levels, beat: Candidate, lessons: list[Lesson]) -> None:
    """Learn from a confirmed beat."""
    lessons.append(levels.accept(beat, state.last))
    state.last = beat
    if state.passed_over:
        state.passed_over = [c for c in state.passed_over if c.peak > beat.peak]


def _measure(state: QrsState, levels: Levels, c: Candidate, known_at: int, *, final: bool) -> tuple[float, ...]:
    """`beat_scorer.MEASUREMENTS` numbers: the candidate, what is usual, and its neighbours known at `known_at`.

    `compare` puts the likeness of shapes in place of five noughts.
    """
    last, peak = state.last, c.peak
    if last is not None:
        gap = float(peak - last.peak)
        last_amplitude, last_slope = last.amplitude, last.slope
    else:
        gap = levels.interval
        last_amplitude, last_slope = c.amplitude, c.slope
    before, before_at, before_fit = 0.0, float(_BEFORE), 0.0
    after, after_at, after_fit = 0.0, float(_AFTER), 0.0
    for other in reversed(state.recent):
        offset = other.peak - peak
        if offset > 0:
            if final and offset <= _AFTER and other.peak + ISOLATION <= known_at and other.amplitude > after:
                after, after_at, after_fit = other.amplitude, float(offset), other.fit
        elif offset < -_BEFORE:
            break
        elif offset and other.amplitude > before:
            before, before_at, before_fit = other.amplitude, float(-offset), other.fit
    rival = 0.0
    for other in state.passed_over:
        if other.amplitude > rival and other is not c:
            rival = other.amplitude
    return (
        1.0 if final else 0.0,
        c.r_index,
        c.amplitude,
        levels.amplitude,
        levels.faded(last, c),
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
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        before_fit,
        after_fit,
        levels.spread,
        c.rise,
        c.fall,
    )
