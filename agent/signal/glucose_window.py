"""What the glucose network sees: the last three hours of readings, and measures of the last day.

Asked at a reading, it looks back at times that are whole multiples of five minutes before that reading. Between two
readings a straight line is drawn, so a sensor of one, five or fifteen minutes, and one that drifts against the grid,
give the same picture; what is older than the first reading is held at it. Nothing after the reading is ever used. The
signal says the path relative to the reading, fine near it and coarse far away, as 8-bit inputs want it; the measures
say the level, slopes, the second-order autoregression that Nightscout draws (AR2), how the last 24 hours went, and the
time of day, where the person's time zone is known.

Everything is a sum along one row, so a reading's answer does not depend on its company.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from models.vocabulary import GLUCOSE_CONTEXT

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
History = tuple[npt.ArrayLike, npt.ArrayLike]
"""Times, (n,) int64 ns UTC, strictly ascending, and readings, (n,) mg/dL: the last one is asked about."""

HISTORY_S = 24 * 3600
"""How far back a reading's history counts."""
STEP_S = 300
STEPS = 36
"""Places in the signal: three hours, oldest first; the last is the reading asked about."""
SIGNAL_SHAPE = (3, STEPS)
"""Row 0: readings less the last one; row 1: change from the place before; both compressed. Row 2: was there one."""
PREPARE = ("line_between_readings", "difference_to_last", "asinh_compress")
CONTEXT = GLUCOSE_CONTEXT
"""Names of the measures, in order."""
CLOCK = slice(len(CONTEXT) - 5, len(CONTEXT))
"""Those that say the time of day: all 0 where it is not known."""
UNIT_MG_DL = 20.0
"""The network's forecasts are changes from the reading in this unit."""

_NS = 1_000_000_000
_HISTORY_NS = HISTORY_S * _NS
_DAY_NS = 86_400 * _NS
_HOUR_PLACES = 12
_NEAR_NS = STEP_S * _NS // 2
_LONG_STEP_S = 900
_LONG = 97
"""Places of the last day, at a quarter of an hour, oldest first."""
_COVERED_NS = 40 * 60 * _NS
"""A place between readings further apart than this counts as unknown in the measures of the day."""
_LEAST_MG_DL = 30.0
_BLOCK = 2048
_AR2 = (1.716, -0.723)
"""Nightscout's model of ln(glucose / 140) in steps of five minutes (lib/plugins/ar2.js)."""
_CENTRE_MG_DL = 140.0

_AGO_NS: Int64 = np.concatenate(
    [
        np.arange(STEPS, -1, -1, dtype=np.int64) * (STEP_S * _NS),
        np.arange(_LONG - 1, -1, -1, dtype=np.int64) * (_LONG_STEP_S * _NS),
    ]
)


def prepare(histories: Sequence[History], offsets_s: Sequence[float | None] | None = None) -> tuple[Float32, Float32]:
    """Histories of any length above 0 to (signal (rows, 3, 36), context (rows, k)) float32, one row each.

    `offsets_s`: of each, the seconds that local time is ahead of UTC at its last reading; None where that is not known.
    What is older than HISTORY_S before a history's last reading is not looked at. Raises ValueError on a history that
    is empty, or whose times and readings differ in number, and where there is not one offset for each.
    """
    parts = [(np.asarray(times, dtype=np.int64), np.asarray(readings, np.float64)) for times, readings in histories]
    for times, readings in parts:
        if times.ndim != 1 or times.shape != readings.shape or not len(times):
            raise ValueError(f"a history has times {times.shape} and readings {readings.shape}, expected (n,) of each")
    if not parts:
        return _empty(0)
    lengths = np.array([len(times) for times, _ in parts], dtype=np.int64)
    ends = np.cumsum(lengths)
    apart = 2 * _HISTORY_NS
    # One ascending axis for all: each history is cut to a day and laid after the one before.
    key = np.concatenate([np.maximum(t - t[-1], -apart) + apart * (row + 1) for row, (t, _) in enumerate(parts)])
    first = ends - lengths
    first = np.maximum(first, np.searchsorted(key, key[ends - 1] - _HISTORY_NS))
    offsets = [None] * len(parts) if offsets_s is None else offsets_s
    asked = np.array([times[-1] for times, _ in parts], dtype=np.int64)
    ahead_s = np.array([math.nan if one is None else one for one in offsets], dtype=np.float64)
    if len(ahead_s) != len(parts):
        raise ValueError(f"{len(parts)} histories and {len(ahead_s)} offsets from UTC")
    clock = _clock(asked, ahead_s)
    return _rows(key, np.concatenate([readings for _, readings in parts]), first, ends - 1, clock)


def prepare_each(
    times_ns: npt.ArrayLike, mg_dl: npt.ArrayLike, offset_s: float | None = None
) -> tuple[Float32, Float32]:
    """Every reading of one record asked about in turn: the rows that `prepare` gives of each one's last 24 hours."""
    times, readings = np.asarray(times_ns, dtype=np.int64), np.asarray(mg_dl, dtype=np.float64)
    last = np.arange(len(times))
    clock = _clock(times, np.full(len(times), math.nan if offset_s is None else offset_s))
    return _rows(times, readings, np.searchsorted(times, times - _HISTORY_NS), last, clock)


def _clock(times_ns: Int64, ahead_s: Float64) -> Float64:
    """(rows, 5): a wave a day, two a day, and whether the time of day is known; where it is not, nothing."""
    known = np.isfinite(ahead_s)
    local_s = times_ns % _DAY_NS / _NS + np.where(known, ahead_s, 0.0)
    turn = local_s * (2.0 * math.pi / 86_400.0)
    waves = [np.sin(turn), np.cos(turn), np.sin(2.0 * turn), np.cos(2.0 * turn), np.ones(len(turn))]
    clock: Float64 = np.where(known[:, None], np.stack(waves, axis=1), 0.0)
    return clock


def _empty(rows: int) -> tuple[Float32, Float32]:
    return np.empty((rows, *SIGNAL_SHAPE), dtype=np.float32), np.empty((rows, len(CONTEXT)), dtype=np.float32)


def _rows(times: Int64, readings: Float64, first: Int64, last: Int64, clock: Float64) -> tuple[Float32, Float32]:
    """A row for each stretch of readings from index `first` to `last`, both in it."""
    signal, context = _empty(len(last))
    context[:, CLOCK] = clock
    values = np.maximum(readings, _LEAST_MG_DL)
    for start in range(0, len(last), _BLOCK):
        rows = slice(start, start + _BLOCK)
        signal[rows], context[rows, : CLOCK.start] = _block(times, values, first[rows], last[rows])
    return signal, context


def _block(times: Int64, values: Float64, first: Int64, last: Int64) -> tuple[Float32, Float32]:
    now = times[last]
    wanted = now[:, None] - _AGO_NS
    right = np.searchsorted(times, wanted)
    right = np.clip(right, first[:, None], last[:, None])
    left = np.maximum(right - 1, first[:, None])
    t_left, t_right = times[left], times[right]
    apart = t_right - t_left
    share = np.clip((wanted - t_left) / np.maximum(apart, 1), 0.0, 1.0)
    path = values[left] + share * (values[right] - values[left])
    before = wanted < times[first][:, None]
    nearest = np.minimum(np.abs(wanted - t_left), np.abs(wanted - t_right))
    known = nearest <= _NEAR_NS
    covered = (~before & (apart <= _COVERED_NS)) | known
    short, day = path[:, : STEPS + 1], path[:, STEPS + 1 :]
    signal = np.empty((len(last), *SIGNAL_SHAPE), dtype=np.float32)
    g = short[:, -1]
    signal[:, 0] = np.arcsinh((short[:, 1:] - g[:, None]) / 15.0)
    signal[:, 1] = np.arcsinh((short[:, 1:] - short[:, :-1]) / 4.0)
    signal[:, 2] = known[:, 1 : STEPS + 1]
    previous = np.maximum(last - 1, first)
    context = np.empty((len(last), CLOCK.start), dtype=np.float32)
    measures = [
        *_level(g),
        *_slopes(short),
        *_recent(short, known[:, : STEPS + 1], (now - times[previous]) / (STEP_S * _NS)),
        *_of_day(day, covered[:, STEPS + 1 :]),
    ]
    for column, measure in enumerate(measures):
        context[:, column] = measure
    np.clip(context, -4.0, 4.0, out=context)
    np.clip(signal, -4.0, 4.0, out=signal)
    return signal, context


def _level(g: Float64) -> Iterator[Float64]:
    yield 2.5 * np.log(g / _CENTRE_MG_DL)
    yield np.clip((g - 54.0) / 8.0, -3.0, 3.0)
    yield np.clip((g - 80.0) / 12.0, -3.0, 3.0)
    yield np.clip((g - 120.0) / 25.0, -3.0, 3.0)
    yield np.clip((g - 180.0) / 30.0, -3.0, 3.0)
    yield np.clip((g - 250.0) / 30.0, -3.0, 3.0)


def _slopes(short: Float64) -> Iterator[Float64]:
    g = short[:, -1]
    y, y_before = np.log(g / _CENTRE_MG_DL), np.log(short[:, -2] / _CENTRE_MG_DL)
    for step in range(1, 13):
        y, y_before = _AR2[0] * y + _AR2[1] * y_before, y
        if step in {3, 6, 12}:
            yield np.arcsinh((_CENTRE_MG_DL * np.exp(np.clip(y, -3.0, 3.0)) - g) / 20.0)
    for ago in (1, 2, 3, 4, 6, 9, 12, 18, 24):
        yield np.arcsinh((g - short[:, -1 - ago]) / (3.0 * ago**0.75))
    for places in (4, 7, 13):
        at = np.arange(places) - (places - 1) / 2
        slope = (short[:, -places:] * at).sum(axis=1) / float((at * at).sum())
        yield np.arcsinh(slope / 2.5)
        bend = at * at - float((at * at).mean())
        yield np.arcsinh((short[:, -places:] * bend).sum(axis=1) / float((bend * bend).sum()) * places / 1.5)
    for ago in (3, 6):
        yield np.arcsinh((g - 2.0 * short[:, -1 - ago] + short[:, -1 - 2 * ago]) / (4.0 * ago**0.75))


def _recent(short: Float64, known: Bools, since_last: Float64) -> Iterator[Float64]:
    """Of the last hours: how rough, how complete, and how far from their extremes."""
    g = short[:, -1]
    bend = short[:, 2:] - 2.0 * short[:, 1:-1] + short[:, :-2]
    yield np.log(np.sqrt(_mean(bend[:, -12:] ** 2)) + 0.5) - 0.7
    yield np.log(np.sqrt(_mean(bend**2)) + 0.5) - 0.7
    step = short[:, 1:] - short[:, :-1]
    yield np.log(np.sqrt(_mean(step**2)) + 0.5) - 1.0
    for places in (12, 36):
        part = short[:, -places:]
        yield np.arcsinh((part.max(axis=1) - g) / 20.0)
        yield np.arcsinh((g - part.min(axis=1)) / 20.0)
        yield np.arcsinh((_mean(part) - g) / 20.0)
    yield 4.0 * known[:, -_HOUR_PLACES:].sum(axis=1) / _HOUR_PLACES - 2.0
    yield 4.0 * known.sum(axis=1) / known.shape[1] - 2.0
    yield np.log2(np.maximum(since_last, 0.1))


def _of_day(day: Float64, covered: Bools) -> Iterator[Float64]:
    """Of the last 24 hours, at places a quarter of an hour apart."""
    g = day[:, -1]
    number = np.maximum(covered.sum(axis=1), 1)

    def mean(values: Float64, part: slice = slice(None)) -> Float64:
        chosen = covered[:, part]
        total: Float64 = np.where(chosen, values[:, part], 0.0).sum(axis=1)
        share: Float64 = total / np.maximum(chosen.sum(axis=1), 1)
        return share

    whole = mean(day)
    spread = np.sqrt(mean((day - whole[:, None]) ** 2))
    yield (whole - 140.0) / 30.0
    yield np.log(spread + 5.0) - 3.5
    yield spread / np.maximum(whole, 1.0) * 6.0 - 1.8
    yield (np.where(covered, day, np.inf).min(axis=1) - 80.0) / 25.0
    yield (np.where(covered, day, -np.inf).max(axis=1) - 220.0) / 50.0
    yield np.arcsinh((g - whole) / 30.0)
    yield (g - whole) / (spread + 10.0)
    yield np.sqrt(mean((day < 70.0).astype(np.float64))) * 6.0 - 0.5
    yield np.sqrt(mean((day < 85.0).astype(np.float64))) * 4.0 - 1.0
    yield mean((day > 180.0).astype(np.float64)) * 4.0 - 1.0
    yield np.sqrt(mean((day > 250.0).astype(np.float64))) * 4.0 - 0.7
    for hours in (3, 6, 12):
        yield np.arcsinh((mean(day, slice(-4 * hours, None)) - g) / 25.0)
    quarter, half = day[:, 1:] - day[:, :-1], day[:, 2:] - day[:, :-2]
    yield np.log(np.sqrt(_mean(quarter**2)) + 1.0) - 2.2
    yield np.log(np.sqrt(_mean(half**2)) + 1.0) - 2.8
    yield np.log(np.sqrt(_mean(quarter[:, -24:] ** 2)) + 1.0) - 2.2
    yield np.log((half[:, -24:] ** 2).sum(axis=1) + 4.0) - np.log((quarter[:, -24:] ** 2).sum(axis=1) + 4.0) - 0.8
    rises, falls = np.maximum(quarter, 0.0), np.maximum(-quarter, 0.0)
    yield np.log((rises**2).sum(axis=1) + 25.0) - np.log((falls**2).sum(axis=1) + 25.0)
    yield np.arcsinh((day[:, 0] - g) / 30.0)
    yield np.arcsinh((day[:, 2] - day[:, 0]) / 20.0)
    yield np.arcsinh((day[:, 4] - day[:, 0]) / 20.0)
    yield np.arcsinh((day[:, 8] - day[:, 4]) / 20.0)
    places = np.arange(_LONG)
    for mark in (day < 70.0, day > 250.0, _rose(day)):
        latest = np.where(mark & covered, places, -1).max(axis=1)
        yield np.where(latest < 0, -2.0, 2.0 - np.log2(1.0 + (_LONG - 1 - latest)) * 0.6)
    yield 4.0 * number / _LONG - 2.0


def _rose(day: Float64) -> Bools:
    """Where a rise of more than 40 mg/dL within the hour before is seen: mostly a meal."""
    mark = np.zeros(day.shape, dtype=np.bool_)
    mark[:, 4:] = day[:, 4:] - day[:, :-4] > 40.0
    return mark


def _mean(values: Float64) -> Float64:
    """Along the rows."""
    mean: Float64 = values.sum(axis=1) / float(values.shape[1])
    return mean
