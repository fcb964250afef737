"""Comparison of rhythms: one answer a short recording (CinC 2017), and fibrillation by time and by episode (EC57)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.vocabulary import RHYTHM_LABELS

Float64 = npt.NDArray[np.float64]
Interval = tuple[float, float]
"""[from, to) in seconds."""

SCORED_LABELS = ("N", "A", "O")
"""CinC 2017's figure is the mean F1 of these; noise is a class, but not scored (Clifford et al. 2017)."""


MOST = 0.9
"""Share of the longest window's signal that another must have seen to count for the recording's answer."""


def recording_answer(probabilities: npt.ArrayLike, seconds_known: npt.ArrayLike) -> Float64:
    """Probabilities (labels,) of a whole recording from those (windows, labels) of its windows.

    `seconds_known`: how much signal stood behind each window. Those count, all alike, that saw at least MOST of what
    the longest saw: the first ones of a run see little, and the later ones contain them. The mean is geometric.
    Without any window the answer is noise. Raises ValueError when the two differ in length.
    """
    shares, known = np.asarray(probabilities, dtype=np.float64), np.asarray(seconds_known, dtype=np.float64)
    if len(shares) != len(known):
        raise ValueError(f"{len(shares)} windows but {len(known)} lengths")
    if not len(shares):
        return np.array([float(label == "~") for label in RHYTHM_LABELS])
    logs = np.log(np.maximum(shares, 1e-6))
    mean = logs[known >= MOST * known.max()].mean(axis=0)
    unscaled = np.exp(mean - mean.max())
    answer: Float64 = unscaled / unscaled.sum()
    return answer


def f1_by_class(truth: Sequence[str], answer: Sequence[str]) -> dict[str, float]:
    """F1 of each label: 2 · both / (as many truly are + as many were called); nan where neither happens.

    Raises ValueError when the two differ in length.
    """
    if len(truth) != len(answer):
        raise ValueError(f"{len(truth)} recordings but {len(answer)} answers")
    true, called = np.asarray(truth), np.asarray(answer)
    return {label: _f1(true == label, called == label) for label in RHYTHM_LABELS}


def mean_f1(truth: Sequence[str], answer: Sequence[str]) -> float:
    """The challenge's figure: the mean F1 of normal, fibrillation and other."""
    by_class = f1_by_class(truth, answer)
    return float(np.mean([by_class[label] for label in SCORED_LABELS]))


def mean_f1_interval(truth: Sequence[str], answer: Sequence[str], draws: int = 2000, seed: int = 0) -> Interval:
    """95 % interval of `mean_f1` by bootstrap over recordings."""
    true = np.array([RHYTHM_LABELS.index(label) for label in truth])
    called = np.array([RHYTHM_LABELS.index(label) for label in answer])
    size = len(RHYTHM_LABELS)
    rng = np.random.default_rng(seed)
    figures = []
    for _ in range(draws):
        drawn = rng.integers(len(true), size=len(true))
        table = np.bincount(true[drawn] * size + called[drawn], minlength=size * size).reshape(size, size)
        both = table.sum(axis=0) + table.sum(axis=1)
        figures.append(np.mean([2 * table[k, k] / max(1, both[k]) for k in map(RHYTHM_LABELS.index, SCORED_LABELS)]))
    low, high = np.percentile(figures, [2.5, 97.5])
    return float(low), float(high)


def _f1(true: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> float:
    both = int(true.sum() + called.sum())
    return 2 * int((true & called).sum()) / both if both else float("nan")


@dataclass(frozen=True, slots=True)
class AfTimeScore:
    """Fibrillation said and true, in seconds, and in episodes."""

    true_s: float = 0.0
    """Fibrillation, and said."""
    missed_s: float = 0.0
    false_s: float = 0.0
    rest_s: float = 0.0
    """None, and none said."""
    episodes: int = 0
    """True ones of at least `shortest_s`."""
    episodes_found: int = 0
    """Those touched by something said."""
    said: int = 0
    said_true: int = 0
    """Those said that touch a true one of any length."""

    @property
    def sensitivity(self) -> float:
        """By time; nan where there is no fibrillation."""
        return _share(self.true_s, self.true_s + self.missed_s)

    @property
    def specificity(self) -> float:
        """By time; nan where there is nothing else."""
        return _share(self.rest_s, self.rest_s + self.false_s)

    @property
    def positive_predictivity(self) -> float:
        """By time; nan where none was said."""
        return _share(self.true_s, self.true_s + self.false_s)

    @property
    def episode_sensitivity(self) -> float:
        return _share(self.episodes_found, self.episodes)

    @property
    def episode_positive_predictivity(self) -> float:
        return _share(self.said_true, self.said)

    def __add__(self, other: AfTimeScore) -> AfTimeScore:
        """Gross: both as if they were one recording's."""
        return AfTimeScore(*(getattr(self, name) + getattr(other, name) for name in AfTimeScore.__slots__))


def af_time_score(
    reference: Iterable[Interval],
    said: Iterable[Interval],
    scored: Interval,
    *,
    unscored: Iterable[Interval] = (),
    shortest_s: float = 30.0,
) -> AfTimeScore:
    """Score the stretches `said` to be fibrillation against those that are, both disjoint, within `scored`.

    Time in `unscored` (atrial flutter, ventricular flutter, noise) counts for neither; an episode that lies in it by
    more than half is none. True episodes shorter than `shortest_s` are not asked for, as the alarm does not look for
    them, but one said there is right.
    """
    left_out = list(unscored)
    true = _within(reference, scored)
    given = _within(said, scored)
    edges = sorted({*scored, *(edge for part in (*true, *given, *_within(left_out, scored)) for edge in part)})
    seconds = {(a, b): 0.0 for a in (False, True) for b in (False, True)}
    for start, end in itertools.pairwise(edges):
        middle = (start + end) / 2
        if not _holds(left_out, middle):
            seconds[_holds(true, middle), _holds(given, middle)] += end - start
    asked = [part for part in true if part[1] - part[0] >= shortest_s]
    judged = [part for part in given if 2 * sum(_overlap(part, gap) for gap in left_out) <= part[1] - part[0]]
    return AfTimeScore(
        true_s=seconds[True, True],
        missed_s=seconds[True, False],
        false_s=seconds[False, True],
        rest_s=seconds[False, False],
        episodes=len(asked),
        episodes_found=sum(any(_overlap(part, other) > 0 for other in given) for part in asked),
        said=len(judged),
        said_true=sum(any(_overlap(part, other) > 0 for other in true) for part in judged),
    )


def _within(parts: Iterable[Interval], whole: Interval) -> list[Interval]:
    cut = ((max(start, whole[0]), min(end, whole[1])) for start, end in parts)
    return [(start, end) for start, end in cut if end > start]


def _holds(parts: Iterable[Interval], at: float) -> bool:
    return any(start <= at < end for start, end in parts)


def _overlap(one: Interval, other: Interval) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
