"""Pulses in a photoplethysmogram or an arterial pressure wave, each with how far it may be believed.

A pulse is the steepest rise of the wave (Zong et al., CinC 2003: the slope sum). How believable it is comes from its
likeness to the pulses before it and from its size among theirs (Orphanidou et al., IEEE JBHI 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import numpy as np
import numpy.typing as npt

from agent.signal.sections import at_rest, first_order_high_pass, second_order_low_pass, sosfilt

Signal = npt.NDArray[np.float64]

LEAST_RATE_HZ = 20.0
"""A slower stream does not show the shape of a pulse."""
_THINNED_HZ = 50.0
"""The wave is averaged down to this rate, or the next one above that a whole number of samples gives."""
_BAND_HZ = (0.5, 6.0)
_RISE_S = 0.24
"""What a pulse is judged by: by how much the wave has risen within this time."""
_ISOLATION_S = 0.16
"""A candidate is the greatest rise within this time on either side: known that much later."""
_SHAPE_S = 0.4
"""The shape of a pulse: this much of the wave up to `_ISOLATION_S` after its greatest rise."""
_REFRACTORY_S = 0.28
"""No two pulses are nearer: 214 a minute."""
_LEARN_S = 4.0
_LEAST_TO_LEARN = 2
"""The first seconds with so many pulses of a like size only set the levels."""
_MEMORY = 8
"""Levels are medians over this many last pulses."""
_LEAST_SHARE = 0.35
"""Of the usual rise: below lies the dicrotic wave."""
_ECHO = (0.6, 0.7)
"""Sooner than this share of the usual interval and smaller than this share of the last pulse: its dicrotic wave."""
_FADE_AFTER_S = 3.0
_FADE = 0.8
"""After a silence the sensor may sit differently: smaller pulses are found by and by, but are called weak."""
GOOD_FIT = 0.85
"""Least correlation with the usual shape of a pulse that may be believed."""
GOOD_STRENGTH = (0.45, 2.5)
"""Rise, as a share of the usual, of a pulse that may be believed."""


@dataclass(frozen=True, slots=True)
class PulseMark:
    """One pulse."""

    index: int
    """Sample of the stream, since the run began, at which the wave has just risen most."""
    decided_index: int
    """Samples whose arrival made the decision possible; the same for any chunking."""
    strength: float
    """Its rise as a share of what was usual before it."""
    fit: float
    """Correlation with the usual shape, -1 to 1."""

    @property
    def good(self) -> bool:
        """Whether it may be believed."""
        return self.fit >= GOOD_FIT and GOOD_STRENGTH[0] <= self.strength <= GOOD_STRENGTH[1]


@dataclass(slots=True, eq=False)
class PulseState:
    """One run of one stream; mutated by `PulseDetector.push`."""

    unthinned: Signal
    filters: Signal | None
    history: Signal
    seen: int = 0
    """Thinned samples since the run began."""
    first: list[tuple[int, float, Signal]] = field(default_factory=list)
    """Candidates of the last seconds while nothing has been learnt."""
    rises: list[float] = field(default_factory=list)
    intervals: list[int] = field(default_factory=list)
    template: Signal | None = None
    """None until the first seconds are over."""
    strong: list[float] = field(default_factory=list)
    """Rises of the last pulses in a row that were greater than may be believed."""
    last: int = 0
    last_rise: float = 0.0


class PulseDetector:
    """Finds pulses in any number of streams of one rate.

    Work per sample is numpy over the batch; Python runs per candidate. Any chunking and any company give the same bits.
    """

    def __init__(self, rate_hz: float) -> None:
        """Raises ValueError on a rate below LEAST_RATE_HZ."""
        if not (math.isfinite(rate_hz) and rate_hz >= LEAST_RATE_HZ):
            raise ValueError(f"pulses cannot be seen at {rate_hz} Hz, only from {LEAST_RATE_HZ:g} Hz on")
        self._group = max(1, int(rate_hz // _THINNED_HZ))
        self._rate = rate_hz / self._group
        low, high = _BAND_HZ
        self._sos = np.concatenate(
            (
                first_order_high_pass(low, self._rate),
                second_order_low_pass(min(high, 0.45 * self._rate), self._rate),
            )
        )
        self._rest = at_rest(self._sos)
        self._rise = round(_RISE_S * self._rate)
        self._side = round(_ISOLATION_S * self._rate)
        self._shape = round(_SHAPE_S * self._rate)
        self._history = self._rise + 2 * self._side + self._shape

    def new_state(self) -> PulseState:
        """Memory for a run that has not begun."""
        return PulseState(np.empty(0), None, np.zeros(self._history))

    def push(self, states: Sequence[PulseState], samples: Sequence[npt.NDArray[np.floating]]) -> list[list[PulseMark]]:
        """Take the next samples of each stream, (n,) in any unit; return each one's pulses in order of time."""
        marks: list[list[PulseMark]] = [[] for _ in states]
        by_length: dict[int, list[tuple[int, Signal]]] = {}
        for row, (state, x) in enumerate(zip(states, samples, strict=True)):
            thinned = self._thin(state, x)
            if len(thinned):
                by_length.setdefault(len(thinned), []).append((row, thinned))
        for group in by_length.values():
            rows = [row for row, _ in group]
            for row, found in zip(rows, self._candidates([states[row] for row in rows], group), strict=True):
                for index, rise, shape in found:
                    self._decide(states[row], index, rise, shape, marks[row])
        return marks

    def _thin(self, state: PulseState, x: npt.NDArray[np.floating]) -> Signal:
        samples = np.concatenate((state.unthinned, x.astype(np.float64)))
        whole = len(samples) // self._group * self._group
        state.unthinned = samples[whole:].copy()
        total = samples[: whole : self._group].copy()
        for k in range(1, self._group):
            total += samples[k : whole : self._group]
        return total / self._group

    def _candidates(
        self, states: Sequence[PulseState], group: Sequence[tuple[int, Signal]]
    ) -> list[list[tuple[int, float, Signal]]]:
        """(thinned index, rise, shape of unit energy) of what may be pulses, per row."""
        x = np.stack([thinned for _, thinned in group])
        for state, first in zip(states, x[:, 0].tolist(), strict=True):
            if state.filters is None:
                state.filters = self._rest * first
        memory = np.stack([state.filters for state in states if state.filters is not None])
        y, memory = sosfilt(self._sos, x, memory)
        wave = np.concatenate((np.stack([state.history for state in states]), y), axis=1)
        n, side = x.shape[1], self._side
        rise = wave[:, self._rise :] - wave[:, : -self._rise]  # rise[:, i] belongs to wave[:, i + self._rise]
        start = rise.shape[1] - n - side  # the first of which these samples make certain that it is greatest
        centre = rise[:, start : start + n]
        greatest = np.ones(centre.shape, bool)
        for k in range(1, side + 1):
            greatest &= (centre > rise[:, start - k : start - k + n]) & (centre >= rise[:, start + k : start + k + n])
        greatest &= centre > 0
        out: list[list[tuple[int, float, Signal]]] = [[] for _ in states]
        for row, column in zip(*(found.tolist() for found in np.nonzero(greatest)), strict=True):
            at = column + start + self._rise  # column in wave
            shape = wave[row, at + side - self._shape : at + side]
            shape = shape - shape.sum() / self._shape
            energy = math.sqrt(float((shape * shape).sum()))
            index = at - self._history + states[row].seen
            out[row].append((index, float(centre[row, column]), shape / max(energy, 1e-12)))
        for i, state in enumerate(states):
            state.filters = memory[i].copy()
            state.history = wave[i, -self._history :].copy()
            state.seen += n
        return out

    def _decide(self, state: PulseState, index: int, rise: float, shape: Signal, out: list[PulseMark]) -> None:
        if state.template is None:
            self._learn(state, index, rise, shape)
            return
        usual = median(state.rises)
        gap = index - state.last
        silence_s = gap / self._rate - _FADE_AFTER_S
        least = _LEAST_SHARE * usual * (max(0.05, _FADE**silence_s) if silence_s > 0 else 1.0)
        if rise < least or gap < _REFRACTORY_S * self._rate:
            return
        sooner, smaller = _ECHO
        if gap < sooner * median(state.intervals) and rise < smaller * state.last_rise:
            return
        fit = float((state.template * shape).sum())
        decided = (index + self._side + 1) * self._group
        out.append(PulseMark(index * self._group, decided, rise / usual if usual > 0 else 0.0, fit))
        self._accept(state, index, rise, shape)

    def _learn(self, state: PulseState, index: int, rise: float, shape: Signal) -> None:
        """Levels from the first seconds in which there are pulses; none of these is said."""
        if index < self._rate:  # the filters still settle
            return
        state.first = [one for one in state.first if index - one[0] <= _LEARN_S * self._rate]
        state.first.append((index, rise, shape))
        greatest = max(rise for _, rise, _ in state.first)
        pulses = [one for one in state.first if one[1] > 0.5 * greatest]
        if index < _LEARN_S * self._rate or len(pulses) < _LEAST_TO_LEARN:
            return
        state.rises = [median(rise for _, rise, _ in pulses)] * 3
        state.intervals = [round(median(b[0] - a[0] for a, b in pairwise(pulses)))] * 3
        template = np.sum([shape for _, _, shape in pulses], axis=0)
        state.template = template / max(math.sqrt(float((template * template).sum())), 1e-12)
        state.last, state.last_rise, _ = pulses[-1]
        state.first.clear()

    def _accept(self, state: PulseState, index: int, rise: float, shape: Signal) -> None:
        """Learn from a pulse; a burst of movement must not lift the level beyond the next pulses' reach."""
        assert state.template is not None  # noqa: S101 (learnt before anything is accepted)
        usual = median(state.rises)
        state.strong = [*state.strong, rise] if rise > GOOD_STRENGTH[1] * usual else []
        if len(state.strong) > _MEMORY // 2:  # no burst: the sensor sits better now
            state.rises, state.strong = state.strong, []
        state.rises.append(min(rise, 2.0 * median(state.rises)))
        del state.rises[:-_MEMORY]
        gap = index - state.last
        if gap < 2 * self._rate:
            state.intervals.append(gap)
            del state.intervals[:-_MEMORY]
        blend = 0.875 * state.template + 0.125 * shape
        state.template = blend / max(math.sqrt(float((blend * blend).sum())), 1e-12)
        state.last, state.last_rise = index, rise
