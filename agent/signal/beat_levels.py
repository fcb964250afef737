"""What is usual for one person's heart beats, and how alike in shape a candidate is to them, for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.beat_candidates import SHAPE, Candidate
from agent.signal.resample import ANALYSIS_RATE_HZ

Signal = npt.NDArray[np.float64]

MEMORY = 8
"""Levels are medians over this many last beats (Hamilton & Tompkins)."""
NEGLIGIBLE = 0.1
"""Share of the usual amplitude below which a candidate is not even described."""
LIKENESSES = slice(21, 26)
"""Where `compare` writes in `beat_scorer.MEASUREMENTS`: how like a candidate's shape is to the template, to the last
beat's, to the likest of the last beats' and of the last things' that were none; how like a beat usually is."""

_RATE = ANALYSIS_RATE_HZ
_LEARN_FLOOR_MV_S = 2.0
"""Least first level: a stretch that begins with a still heart must not take its noise for beats. Of 164,000 beats of
MIT-BIH DS1 and SVDB, one in 2,000 is smaller."""
_TEMPLATE, _ACCEPTED, _DISMISSED = 0, 1, 1 + MEMORY
"""Rows of the shapes a person is known by: the template, then the last beats, then the last things that were none."""
_SHAPES = 1 + 2 * MEMORY
_BLOCK = 64
"""Candidates compared at once: as many as fit a processor's cache."""


@dataclass(slots=True, eq=False)
class Levels:
    """What is usual for this person, from the last `MEMORY` confirmed beats and what was passed over between them."""

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
        self.amplitude = _usual(self.amplitudes)
        self.slope = _usual(self.slopes)
        self.interval = _usual(self.rr)
        self.spread = min((max(self.rr) - min(self.rr)) / self.interval, 2.0)

    def accept(self, beat: Candidate, last: Candidate | None) -> Lesson:
        """Learn all from a confirmed beat and the one before it but its shape; what is left to `learn`."""
        # A burst of artefact must not lift the levels beyond the next beats' reach.
        self.amplitudes.append(min(beat.amplitude, 3 * self.amplitude))
        self.slopes.append(min(beat.slope, 3 * self.slope))
        if last is not None and beat.peak - last.peak < 2 * _RATE:
            self.rr.append(beat.peak - last.peak)
        self.settle()
        self.accepted += 1
        return self, beat, _ACCEPTED + (self.accepted - 1) % MEMORY

    def dismiss(self, other: Candidate) -> None:
        """Learn from what was no beat."""
        self.noises.append(other.amplitude)
        self.noise = _usual(self.noises)
        if other.amplitude > NEGLIGIBLE * self.amplitude:
            self.shapes[_DISMISSED + self.dismissed % MEMORY] = other.shape
            self.dismissed += 1

    def faded(self, last: Candidate | None, c: Candidate) -> float:
        """The usual amplitude, less after a long silence: the electrode may have moved."""
        silence_s = (c.peak - last.peak) / _RATE - 2.0 if last is not None else 0.0
        return self.amplitude * max(0.1, 0.85**silence_s) if silence_s > 0 else self.amplitude


Lesson = tuple[Levels, Candidate, int]
"""A confirmed beat whose shape is not learnt yet, and the row of `Levels.shapes` it belongs in."""


def first_levels(first: Sequence[Candidate]) -> Levels:
    """From the largest candidate of each of the first two seconds."""
    seconds = [[c for c in first if c.peak // _RATE == s] for s in (0, 1)]
    largest = [max(group, key=lambda c: c.amplitude) for group in seconds if group] or first[:1]
    amplitude = max(sum(c.amplitude for c in largest) / len(largest), _LEARN_FLOOR_MV_S)
    slope = sum(c.slope for c in largest) / len(largest)
    shapes = np.zeros((_SHAPES, SHAPE))
    shapes[_TEMPLATE] = max(largest, key=lambda c: c.amplitude).shape
    levels = Levels(
        amplitudes=[amplitude] * 3,
        slopes=[slope] * 3,
        rr=[round(0.8 * _RATE)] * 3,
        fits=[0.8] * 3,
        noises=[0.1 * amplitude] * 3,
        shapes=shapes,
        fit=0.8,
        noise=0.1 * amplitude,
    )
    levels.settle()
    return levels


def learn(lessons: list[Lesson]) -> None:
    """Take in the shapes of confirmed beats, of each person in the order they were confirmed; none are left."""
    while lessons:
        first = {id(lesson[0]): lesson for lesson in reversed(lessons)}
        _learn(list(first.values()))
        lessons[:] = [lesson for lesson in lessons if first[id(lesson[0])] is not lesson]


def _learn(lessons: Sequence[Lesson]) -> None:
    """One beat of each of several persons."""
    templates = np.concatenate([levels.shapes[_TEMPLATE] for levels, _, _ in lessons]).reshape(-1, SHAPE)
    shapes = np.concatenate([beat.shape for _, beat, _ in lessons]).reshape(-1, SHAPE)
    fits = (templates * shapes).sum(axis=1).tolist()
    blend = 0.875 * templates + 0.125 * shapes
    blend /= np.maximum(np.sqrt((blend * blend).sum(axis=1)), 1e-9)[:, None]
    for (levels, beat, row), fit, template in zip(lessons, fits, blend, strict=True):
        levels.shapes[_TEMPLATE] = template
        levels.shapes[row] = beat.shape
        levels.fits.append(fit)
        levels.fit = _usual(levels.fits)


def compare(candidates: Sequence[Candidate], levels: Sequence[Levels], measurements: Signal) -> None:
    """Write each candidate's LIKENESSES, by its person's `levels`, into its row of `measurements`, and keep its fit."""
    for start in range(0, len(candidates), _BLOCK):
        block = slice(start, start + _BLOCK)
        known = np.concatenate([one.shapes for one in levels[block]]).reshape(-1, _SHAPES, SHAPE)
        known *= np.concatenate([c.shape for c in candidates[block]]).reshape(-1, 1, SHAPE)
        fits = known.sum(axis=2)
        accepted = np.array([one.accepted for one in levels[block]])
        last = fits[np.arange(len(fits)), _ACCEPTED + (accepted - 1) % MEMORY]
        out = measurements[block, LIKENESSES]
        out[:, 0] = fits[:, _TEMPLATE]
        out[:, 1] = np.where(accepted > 0, last, 0.5)
        out[:, 2] = fits[:, _ACCEPTED:_DISMISSED].max(axis=1)
        out[:, 3] = fits[:, _DISMISSED:].max(axis=1)
        out[:, 4] = [one.fit for one in levels[block]]
        for c, fit in zip(candidates[block], fits[:, _TEMPLATE].tolist(), strict=True):
            c.fit = fit


def _usual(values: list[float] | list[int]) -> float:
    """Forget all but the last MEMORY of them; their median."""
    count = len(values)
    if count > MEMORY:
        del values[:-MEMORY]
        count = MEMORY
    ordered, half = sorted(values), count // 2
    return ordered[half] if count % 2 else 0.5 * (ordered[half - 1] + ordered[half])
