"""The rhythm that a beat comes in: its interval beside those of the last beats, of minutes and of an hour.

Rows are people, each with one beat; logs are of seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.signal.beat_memory import MEAN_BEATS, RR_QUANTILES, Stack
from agent.signal.likeness import Float64, row_sums, upper_medians
from agent.signal.resample import ANALYSIS_RATE_HZ

SLOW, Q90 = 2, 4
"""Of the slow quantiles of log RR, the median and the greatest."""
_SLOW_STEP = 0.006  # log RR a beat: a lasting change of rate is learnt in some minutes, a run of ectopy is not
_MAX_RR_S = 3.0  # past this, a beat was missed or the heart stood still: it says nothing about prematurity
_EARLY = 0.12
_SCALE = np.array([3.0, *[4.0] * 14, 1.0, 0.25, 4.0, 1.0 / 16.0, 4.0, 4.0, 4.0, 0.5, 4.0])


@dataclass(frozen=True, slots=True)
class Intervals:
    """The interval before each beat, once the memory holds it."""

    known: npt.NDArray[np.bool_]
    """Whether the beat before is known, and not too long ago."""
    log_rr: Float64
    """Log of the interval where it is known."""
    median8: Float64
    """Log of the median of the eight before."""
    features: Float64
    """(n, 24): the RR features, as far as the rhythm is known."""


def intervals(people: Stack, r: npt.NDArray[np.int64]) -> Intervals:
    """Intervals up to beats at samples `r`; updates the memory of the rhythm.

    Raises ValueError of a beat that is not later than the one before.
    """
    last_r = people["last_r"]
    if (r <= last_r).any():
        row = int((r <= last_r).argmax())
        raise ValueError(f"beat at sample {r[row]} is not later than the one before, at {last_r[row]}")
    rr_s = (r - last_r) / ANALYSIS_RATE_HZ
    known = rr_s <= _MAX_RR_S
    log_rr = np.array([math.log(s) for s in rr_s.tolist()])
    median8 = _take(people, known, log_rr)
    features = _features(people, np.where(known, log_rr, people["rr_quantiles"][:, SLOW]), median8)
    _learn(people, known[:, None], log_rr[:, None])
    return Intervals(known, log_rr, median8, features)


def _take(people: Stack, known: npt.NDArray[np.bool_], log_rr: Float64) -> Float64:
    """The new interval behind the others; the median of the eight before it."""
    ring, means, count = people["rr_log"], people["rr_means"], people["rr_known"]
    first = known & (count == 0)
    if first.any():
        for name in ("rr_log", "rr_quantiles", "rr_means"):
            people[name][first] = log_rr[first, None]
    count += known
    np.copyto(ring[:, :-1], ring[:, 1:], where=known[:, None])
    np.copyto(ring[:, -1], log_rr, where=known)
    median8 = upper_medians(ring[:, -9:-1])
    run, onset = people["fast_run"], people["fast_run_onset"]
    fast = log_rr < means[:, 2] - _EARLY
    np.copyto(onset, np.where(fast, log_rr - median8, 0.0), where=known & ~(fast & (run > 0)))
    np.copyto(run, (run + 1) * fast, where=known)
    return median8


def _features(people: Stack, now: Float64, median8: Float64) -> Float64:
    """(n, 24); `now`: log of the interval, or what stands for it."""
    ring, quantiles, run = people["rr_log"], people["rr_quantiles"], people["fast_run"]
    slow = quantiles[:, SLOW]
    steps = np.abs(ring[:, 1:] - ring[:, :-1])
    out = np.empty((len(people), len(_SCALE)))
    out[:, 0] = (now + 0.22) * (people["rr_known"] > 0)  # 0.8 s is nought
    out[:, 1] = now - median8
    out[:, 2] = now - upper_medians(ring[:, :-1])
    out[:, 3:8] = now[:, None] - quantiles
    out[:, 8:14] = ring[:, -2:-8:-1] - slow[:, None]
    out[:, 14] = quantiles[:, Q90] - quantiles[:, 0]
    out[:, 15] = row_sums(steps[:, -8:], axis=1)
    out[:, 16] = row_sums(steps, axis=1)
    out[:, 17] = median8 - slow
    out[:, 18] = (ring[:, :-1] < (slow - _EARLY)[:, None]).sum(axis=1)
    out[:, 19:22] = now[:, None] - people["rr_means"]
    out[:, 22] = [math.log2(1.0 + beats) for beats in run.tolist()]
    out[:, 23] = people["fast_run_onset"]
    out *= _SCALE
    return out


def _learn(people: Stack, known: npt.NDArray[np.bool_], log_rr: Float64) -> None:
    """The slow quantiles and means; `known`, `log_rr`: columns."""
    quantiles, means = people["rr_quantiles"], people["rr_means"]
    share = 1.0 / np.maximum(people["rr_known"], 1)[:, None]
    step = np.maximum(_SLOW_STEP, 0.2 / np.maximum(people["rr_known"], 1)[:, None])
    np.add(quantiles, step * (RR_QUANTILES - (log_rr < quantiles)), out=quantiles, where=known)
    np.add(means, np.maximum(share, 1.0 / MEAN_BEATS) * (log_rr - means), out=means, where=known)
