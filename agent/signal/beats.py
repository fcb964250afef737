"""Streaming QRS detection for a batch of patients: provisional within 0.3 s of the R peak, confirmed 0.6 s after it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.signal import beat_scorer
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]
Status = Literal["provisional", "confirmed", "withdrawn"]

CONFIRM_S = 0.6
"""Every beat is confirmed or withdrawn exactly this long after its R peak, unless search-back finds it later."""

_RATE = ANALYSIS_RATE_HZ
_CONFIRM = round(CONFIRM_S * _RATE)
_LEARN = 2 * _RATE
"""The first two seconds only set the levels; their beats come out together at the end of it."""
_ISOLATION = 25
"""A candidate is the envelope's maximum over ± 100 ms."""
_ENVELOPE = 28
"""Width of the envelope's moving average: 112 ms, about a wide QRS (16 + 8 + 4 samples)."""
_FLOOR_MV_S = 0.35
"""Mean |slope| in the detection band below which nothing is a beat: what a QRS of about 0.05 mV gives. A flat line, the
residual noise of a lead that is off, or an asystole's baseline must not become beats however long they last."""
_REFRACTORY = 45
"""180 ms: no two beats are nearer."""
_SEARCHBACK_RR = 1.5
"""A pause longer than this many usual RR intervals is searched for the likeliest candidate passed over."""
_MEMORY = 8
"""Levels are medians over this many last beats (Hamilton & Tompkins)."""
_SEGMENT = 48
"""Samples of the detection path compared with the template: 192 ms ending 4 samples after the envelope's maximum."""
_SEGMENT_END = 4
_R_SEARCH = (-34, 2)
"""Where the R peak lies relative to the envelope's maximum, in samples of the input's time."""
_R_MARGIN = (16, 10)
"""Samples on either side that also take part in the local baseline."""
_HISTORY = 112
_LOGIT_CAP = 12.0


@dataclass(frozen=True, slots=True)
class BeatMark:
    """One statement about one heart beat."""

    r_index: int
    """Sample of the R peak at 250 Hz since the stretch began, in the input's time: filter delays are taken off."""
    decided_index: int
    """The sample whose arrival made the decision possible; the same for any chunking."""
    status: Status


@dataclass(slots=True, eq=False)
class Candidate:
    """A local maximum of the slope envelope, with all that deciding about it needs."""

    peak: int
    r_index: int
    amplitude: float
    slope: float
    rise: float
    fall: float
    deflection: float
    ambient: float
    shape: Signal
    """(48,): the detection path around it, unit energy."""
    logit: float = -_LOGIT_CAP
    provisional: bool = False


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
    amplitudes: list[float] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)
    noises: list[float] = field(default_factory=list)
    rr: list[int] = field(default_factory=list)
    fits: list[float] = field(default_factory=list)
    template: Signal | None = None
    last: Candidate | None = None
    """The last confirmed beat."""
    passed_over: list[Candidate] = field(default_factory=list)
    """Candidates rejected since `last`."""
    last_provisional: int = -(10**9)
    """Envelope peak of the last provisional beat."""


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
        return QrsState(np.zeros((2, _HISTORY)))

    def push(self, states: Sequence[QrsState], detection: Signal, morphology: Signal) -> list[list[BeatMark]]:
        """Take the paths' next samples, each [rows, n]; return each row's statements in the order they were decided.

        Row i continues `states[i]`. Confirmed beats come in strictly ascending `r_index`. Raises ValueError when
        shapes disagree.
        """
        if detection.shape != morphology.shape or detection.ndim != 2 or len(detection) != len(states):
            raise ValueError(f"paths have shapes {detection.shape} and {morphology.shape}, expected ({len(states)}, n)")
        if not detection.size:
            return [[] for _ in states]
        candidates = _find_candidates(states, detection, morphology)
        marks: list[list[BeatMark]] = [[] for _ in states]
        n = detection.shape[1]
        waiting: list[tuple[Generator[list[float], float, None], list[float]]] = []
        for state, found, out in zip(states, candidates, marks, strict=True):
            state.seen += n
            if not found and not state.undecided:
                continue
            decisions = _decide(state, found, out)
            description = next(decisions, None)
            if description is not None:
                waiting.append((decisions, description))
        while waiting:
            logits = beat_scorer.logits(np.array([description for _, description in waiting])).tolist()
            still: list[tuple[Generator[list[float], float, None], list[float]]] = []
            for (decisions, _), logit in zip(waiting, logits, strict=True):
                try:
                    still.append((decisions, decisions.send(logit)))
                except StopIteration:
                    continue
            waiting = still
        return marks


def _moving(x: Signal, width: int, *, maximum: bool) -> Signal:
    """Sum or maximum of x[:, i - width + 1 … i] along axis 1, by doubling; the first width - 1 columns are dropped."""
    combine = np.maximum if maximum else np.add
    powers = {1: x}
    size = 1
    while size * 2 <= width:
        powers[size * 2] = combine(powers[size][:, size:], powers[size][:, :-size])
        size *= 2
    out, covered = powers[size], size
    while covered < width:
        if maximum:
            # Overlap costs a maximum nothing.
            size = width - covered if width - covered in powers else size
            out = combine(out[:, width - covered :], out[:, : out.shape[1] - (width - covered)])
            break
        size = 1 << ((width - covered).bit_length() - 1)
        part = powers[size]
        out = combine(out[:, size:], part[:, : part.shape[1] - covered])
        covered += size
    return out


def _find_candidates(states: Sequence[QrsState], detection: Signal, morphology: Signal) -> list[list[Candidate]]:
    """Envelope maxima that became certain within these samples, per row."""
    rows, n = detection.shape
    history = np.stack([state.history for state in states])
    d = np.concatenate((history[:, 0], detection), axis=1)
    m = np.concatenate((history[:, 1], morphology), axis=1)
    for i, state in enumerate(states):
        state.history = np.stack((d[i, -_HISTORY:], m[i, -_HISTORY:]))

    slope = np.abs(d[:, 1:] - d[:, :-1])  # slope[:, i] belongs to d[:, i + 1]
    envelope = _moving(slope, _ENVELOPE, maximum=False) * (_RATE / _ENVELOPE)
    lead = _ENVELOPE  # envelope[:, i] belongs to d[:, i + lead]
    side = _moving(envelope, _ISOLATION, maximum=True)  # side[:, i]: envelope[:, i … i + 24]
    start = _HISTORY - lead - _ISOLATION  # the first maximum these samples can make certain
    centre = envelope[:, start : start + n]
    left = side[:, start - _ISOLATION : start - _ISOLATION + n]
    right = side[:, start + 1 : start + 1 + n]
    row, column = np.nonzero((centre > left) & (centre >= right) & (centre > _FLOOR_MV_S))
    found: list[list[Candidate]] = [[] for _ in range(rows)]
    if not len(row):
        return found

    at = column + start + lead  # column in d and m
    in_envelope = at - lead
    amplitude = envelope[row, in_envelope]
    segment_columns = at[:, None] + np.arange(_SEGMENT_END - _SEGMENT, _SEGMENT_END)
    segments = d[row[:, None], segment_columns]
    energy = np.sqrt(_moving(segments * segments, _SEGMENT, maximum=False))
    shapes = segments / np.maximum(energy, 1e-9)
    steepest = _RATE * np.max(np.abs(segments[:, 1:] - segments[:, :-1]), axis=1)
    rise = envelope[row, in_envelope - 20] / amplitude
    fall = envelope[row, in_envelope + 20] / amplitude

    before, after = _R_MARGIN
    offsets = np.arange(_R_SEARCH[0] - before, _R_SEARCH[1] + after) + MORPHOLOGY_DELAY
    around = m[row[:, None], at[:, None] + offsets]
    baseline = np.median(around, axis=1)
    deviation = np.abs(around - baseline[:, None])
    inner = deviation[:, before:-after]
    r_offset = np.argmax(inner, axis=1) + _R_SEARCH[0]
    deflection = np.max(inner, axis=1)
    ambient = np.min(envelope[row[:, None], in_envelope[:, None] + np.arange(-_ISOLATION, _ISOLATION + 1)], axis=1)

    first = np.array([state.seen for state in states])[row] - _HISTORY
    peak = (at + first).tolist()
    r_index = (at + first + r_offset).tolist()
    columns = (x.tolist() for x in (row, amplitude, steepest, rise, fall, deflection, ambient))
    for k, (i, a, s, up, down, v, quiet) in enumerate(zip(*columns, strict=True)):
        if r_index[k] >= 0:
            found[i].append(Candidate(peak[k], r_index[k], a, s, up, down, v, quiet, shapes[k]))
    return found


def _decide(state: QrsState, found: list[Candidate], out: list[BeatMark]) -> Generator[list[float], float, None]:
    """Take one row through all its decisions in order of time: yields a description, is sent its log odds."""
    queue = state.recent
    for new in found:
        known_at = new.peak + _ISOLATION
        yield from _confirm_until(state, known_at - 1, out)
        queue.append(new)
        state.undecided += 1
        if known_at < _LEARN:
            continue
        if state.amplitudes:
            yield from _propose(state, new, known_at, out)
    yield from _confirm_until(state, state.seen - 1, out)
    oldest = state.seen - 4 * _RATE
    drop = bisect.bisect_left(queue, oldest, key=lambda c: c.peak)
    del queue[: min(drop, len(queue) - state.undecided)]


def _propose(
    state: QrsState, new: Candidate, known_at: int, out: list[BeatMark]
) -> Generator[list[float], float, None]:
    new.logit = yield _describe(state, new, known_at, final=False)
    if (
        new.logit > 0
        and new.peak - state.last_provisional >= _REFRACTORY
        and (state.last is None or new.r_index > state.last.r_index)
    ):
        new.provisional = True
        state.last_provisional = new.peak
        out.append(BeatMark(new.r_index, known_at, "provisional"))


def _confirm_until(state: QrsState, index: int, out: list[BeatMark]) -> Generator[list[float], float, None]:
    """Settle every candidate whose 0.6 s are over when sample `index` has arrived."""
    while state.undecided:
        candidate = state.recent[-state.undecided]
        due = max(candidate.r_index + _CONFIRM, candidate.peak + _ISOLATION, _LEARN)
        if due > index:
            return
        if not state.amplitudes:
            _learn(state)
        state.undecided -= 1
        candidate.logit = yield _describe(state, candidate, due, final=True)
        apart = state.last is None or (
            candidate.peak - state.last.peak >= _REFRACTORY and candidate.r_index > state.last.r_index
        )
        if candidate.logit > 0 and apart:
            _search_back(state, candidate.peak, due, out)
            _accept(state, candidate)
            out.append(BeatMark(candidate.r_index, due, "confirmed"))
            continue
        if candidate.provisional:
            out.append(BeatMark(candidate.r_index, due, "withdrawn"))
        if apart:
            state.noises.append(candidate.amplitude)
            del state.noises[:-_MEMORY]
            state.passed_over.append(candidate)
            del state.passed_over[:-16]
        _search_back(state, candidate.peak, due, out)


def _learn(state: QrsState) -> None:
    """First levels: the median of the largest candidates of each of the first two seconds."""
    seconds = [[c for c in state.recent if c.peak // _RATE == s] for s in (0, 1)]
    largest = [max(group, key=lambda c: c.amplitude) for group in seconds if group] or state.recent[:1]
    amplitude = sum(c.amplitude for c in largest) / len(largest)
    state.amplitudes = [amplitude] * 3
    state.slopes = [sum(c.slope for c in largest) / len(largest)] * 3
    state.noises = [0.1 * amplitude] * 3
    state.rr = [round(0.8 * _RATE)] * 3
    state.fits = [0.8] * 3
    state.template = max(largest, key=lambda c: c.amplitude).shape


def _search_back(state: QrsState, until: int, due: int, out: list[BeatMark]) -> None:
    """Accept the likeliest candidates passed over while the pause up to `until` is too long for this rhythm."""
    while state.last is not None and state.passed_over:
        pause = until - state.last.peak
        if pause < _SEARCHBACK_RR * _median(state.rr):
            return
        choices = [
            c
            for c in state.passed_over
            if c.peak - state.last.peak >= _REFRACTORY * 1.5 and until - c.peak >= _REFRACTORY
        ]
        if not choices:
            return
        best = max(choices, key=lambda c: c.logit)
        if best.logit < beat_scorer.SEARCHBACK_LOGIT:
            return
        _accept(state, best)
        out.append(BeatMark(best.r_index, due, "confirmed"))


def _accept(state: QrsState, beat: Candidate) -> None:
    """Learn from a confirmed beat."""
    usual = _median(state.amplitudes)
    state.amplitudes.append(min(beat.amplitude, 3 * usual))
    state.slopes.append(min(beat.slope, 3 * _median(state.slopes)))
    template = beat.shape if state.template is None else state.template
    fit = _similarity(beat.shape, template)
    state.fits.append(fit)
    if state.last is not None:
        interval = beat.peak - state.last.peak
        if interval < 2 * _RATE:
            state.rr.append(interval)
    for levels in (state.amplitudes, state.slopes, state.rr, state.fits):
        del levels[:-_MEMORY]
    blend = 0.875 * template + 0.125 * beat.shape
    state.template = blend / max(math.sqrt(_similarity(blend, blend)), 1e-9)
    state.last = beat
    state.passed_over = [c for c in state.passed_over if c.peak > beat.peak]


def _similarity(a: Signal, b: Signal) -> float:
    return float((a * b).sum())


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def _log_ratio(a: float, b: float) -> float:
    return max(-4.0, min(4.0, math.log((a + 1e-3) / (b + 1e-3))))


def _describe(state: QrsState, c: Candidate, known_at: int, *, final: bool) -> list[float]:
    """The network's input: `beat_scorer.INPUTS` numbers that compare `c` with what is known at `known_at`."""
    usual = _median(state.amplitudes)
    noise = _median(state.noises)
    usual_rr = _median(state.rr)
    template = c.shape if state.template is None else state.template
    last = state.last
    if last is not None:
        gap = c.peak - last.peak
        to_last = (
            _log_ratio(c.amplitude, last.amplitude),
            _log_ratio(c.slope, last.slope),
            _similarity(c.shape, last.shape),
        )
    else:
        gap = round(usual_rr)
        to_last = (0.0, 0.0, 0.5)
    # A long silence lowers what counts as large: the electrode may have moved.
    silence_s = max(0.0, gap / _RATE - 2.0)
    faded = usual * max(0.1, 0.85**silence_s) if silence_s else usual

    before, before_at, before_fit = 0.0, 100.0, 0.0
    after, after_at, after_fit = 0.0, 110.0, 0.0
    crowd = 0
    for other in reversed(state.recent):
        offset = other.peak - c.peak
        if offset < -500:
            break
        if offset > 0:
            if other.peak + _ISOLATION <= known_at and offset <= 110 and other.amplitude > after:
                after, after_at = other.amplitude, offset
                after_fit = _similarity(other.shape, template)
            continue
        if offset == 0:
            continue
        if other.amplitude > 0.3 * usual:
            crowd += 1
        if offset >= -100 and other.amplitude > before:
            before, before_at = other.amplitude, -offset
            before_fit = _similarity(other.shape, template)
    rival = max((o.amplitude for o in state.passed_over if o.peak != c.peak), default=0.0)
    rr_spread = (max(state.rr) - min(state.rr)) / usual_rr
    return [
        1.0 if final else 0.0,
        _log_ratio(c.amplitude, usual),
        _log_ratio(c.amplitude, faded),
        _log_ratio(c.amplitude, noise),
        _log_ratio(c.slope, _median(state.slopes)),
        math.log(c.amplitude),
        min(gap / usual_rr, 3.0),
        min(gap / _RATE, 3.0),
        min(gap / _RATE, 0.5) * 4,
        _similarity(c.shape, template),
        *to_last,
        _median(state.fits),
        min(rr_spread, 2.0),
        _log_ratio(before, c.amplitude),
        before_at / 100,
        before_fit,
        _log_ratio(after, c.amplitude) if final else 0.0,
        after_at / 100 if final else 0.0,
        after_fit if final else 0.0,
        min((gap + after_at) / usual_rr, 3.0) if final else 0.0,
        _log_ratio(rival, c.amplitude),
        _log_ratio(noise, usual),
        c.rise,
        c.fall,
        _log_ratio(c.deflection * 10, c.amplitude),
        c.ambient / c.amplitude,
        crowd / 5,
        min(usual_rr / _RATE, 2.0),
    ]
