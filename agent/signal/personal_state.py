"""A person's calibration as text, and back: JSON, versioned, some 4 kB; anything else is refused with the reason.

Arrays are base64 of little-endian numbers, so that what is read is what was written, to the last bit.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agent.signal.personal_alarm import AlarmBudget, Shift
from agent.signal.personal_drift import ALARM, REFERENCE_DAYS, Trend
from agent.signal.personal_forecast import FEATURES, WIDEN_MOST
from agent.signal.personal_outcomes import BEFORE, CLOSEST_NS, NUMBERS, SPAN_NS, numbers_of, said_of
from agent.signal.personal_population import CANDIDATES

if TYPE_CHECKING:
    from agent.signal.personal import PersonalCalibration

FORMAT = "vagus-personal"
VERSION = 1
MOST_CHARACTERS = 16_384

_UPPER = np.triu_indices(FEATURES)
_TIME_MOST = 2**61
_SAID_MOST = SPAN_NS // CLOSEST_NS + 1 + BEFORE
_COUNT_MOST = 1e9
_NUMBER_MOST = 1e12


def encode(personal: PersonalCalibration) -> str:
    """See `PersonalCalibration.state_json`."""
    fit, said, watch = personal.fit, personal.outcomes.said, personal.drift_watch
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "frozen": personal.frozen,
            "forecast": {
                "gram": _text(fit.gram[_UPPER], "<f4"),
                "moment": _text(fit.moment, "<f4"),
                "coefficients": _text(fit.coefficients, "<f4"),
                "widen": fit.widen,
                "mean_mg_dl": fit.mean_mg_dl,
                "readings": fit.readings,
                "outcomes": fit.outcomes,
            },
            "said": {
                "t_ns": _text(np.array([one.t_ns for one in said], np.int64), "<i8"),
                "numbers": _text(np.array([numbers_of(one) for one in said], np.float32), "<f4"),
            },
            "alarms": [
                {
                    **_budget(alarm.budget),
                    "shift": _shift(alarm.shift),
                    "on": alarm.on,
                    "times_ns": [alarm.said_ns, alarm.event_ns, alarm.onset_ns],
                    "onset_score": alarm.onset_score,
                }
                for alarm in (personal.low, personal.urgent_low)
            ],
            "high": _shift(personal.high_shift),
            "drift": {
                "errors": _trend(watch.errors),
                "lows": _trend(watch.lows),
                "today": [
                    watch.today_days, watch.today_error, watch.today_outcomes, watch.today_low, watch.today_readings,
                ],
            },
        },
        separators=(",", ":"),
    )  # fmt: skip


def decode(text: str, fresh: PersonalCalibration) -> None:
    """Fill a new calibration from `encode`. Raises ValueError with what is wrong, and may leave `fresh` half filled."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a calibration of {len(text)} characters, at most {MOST_CHARACTERS}")
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    state = _Fields(read, "calibration")
    if state.take("format") != FORMAT or state.take("version") != VERSION:
        raise ValueError(f"no {FORMAT} of version {VERSION}")
    fresh.frozen = state.flag("frozen")
    _forecast(state.inside("forecast"), fresh)
    _said(state.inside("said"), fresh)
    alarms = state.take("alarms")
    if not isinstance(alarms, list) or len(alarms) != 2:
        raise ValueError("alarms: expected two")
    for alarm, read_alarm in zip((fresh.low, fresh.urgent_low), alarms, strict=True):
        fields = _Fields(read_alarm, "alarm")
        _read_budget(fields, alarm.budget)
        _read_shift(fields.inside("shift"), alarm.shift)
        alarm.on = fields.flag("on")
        alarm.said_ns, alarm.event_ns, alarm.onset_ns = fields.list("times_ns", 3, fields.time)
        alarm.onset_score = fields.number("onset_score", -1e3, 1e3)
        fields.end()
    _read_shift(state.inside("high"), fresh.high_shift)
    drift = state.inside("drift")
    _read_trend(drift.inside("errors"), fresh.drift_watch.errors)
    _read_trend(drift.inside("lows"), fresh.drift_watch.lows)
    days, squares, outcomes, low, readings = drift.list("today", 5, drift.positive)
    watch = fresh.drift_watch
    watch.today_days, watch.today_error = days, squares
    watch.today_outcomes, watch.today_low, watch.today_readings = int(outcomes), int(low), int(readings)
    drift.end()
    state.end()


class _Fields:
    """One JSON object, whose every key is taken once."""

    def __init__(self, read: Any, name: str) -> None:
        if not isinstance(read, dict):
            raise ValueError(f"{name}: expected an object")  # noqa: TRY004 (foreign text, not a caller's mistake)
        self._left = dict(read)
        self._name = name

    def take(self, key: str) -> Any:
        if key not in self._left:
            raise ValueError(f"{self._name}.{key} is missing")
        return self._left.pop(key)

    def end(self) -> None:
        if self._left:
            raise ValueError(f"{self._name}: unknown {', '.join(map(repr, sorted(self._left)[:3]))}")

    def inside(self, key: str) -> _Fields:
        return _Fields(self.take(key), key)

    def flag(self, key: str) -> bool:
        value = self.take(key)
        if not isinstance(value, bool):
            raise ValueError(f"{self._name}.{key}: expected true or false")  # noqa: TRY004
        return value

    def number(self, key: str, least: float, most: float) -> float:
        return self.within(key, self.take(key), least, most)

    def count(self, key: str, most: int) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise ValueError(f"{self._name}.{key}: expected 0 to {most}")
        return value

    def list(self, key: str, length: int, each: Callable[[str, Any], Any]) -> list[Any]:
        value = self.take(key)
        if not isinstance(value, list) or len(value) != length:
            raise ValueError(f"{self._name}.{key}: expected {length} of them")
        return [each(key, one) for one in value]

    def time(self, key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not -_TIME_MOST <= value <= _TIME_MOST:
            raise ValueError(f"{self._name}.{key}: expected a time in ns")
        return value

    def positive(self, key: str, value: Any) -> float:
        return self.within(key, value, 0.0, _COUNT_MOST)

    def array(self, key: str, dtype: str, least: float, most: float, count: int | None = None) -> npt.NDArray[Any]:
        """(count,) of base64; any length where `count` is None."""
        value = self.take(key)
        try:
            raw = base64.b64decode(value, validate=True) if isinstance(value, str) else None
        except (binascii.Error, ValueError):
            raw = None
        if raw is None or len(raw) % np.dtype(dtype).itemsize:
            raise ValueError(f"{self._name}.{key}: expected base64 of {dtype}")
        out = np.frombuffer(raw, dtype).astype(np.dtype(dtype).newbyteorder("="))
        if count is not None and len(out) != count:
            raise ValueError(f"{self._name}.{key}: {len(out)} numbers, expected {count}")
        if not np.all((out >= least) & (out <= most)):
            raise ValueError(f"{self._name}.{key}: a number is not within {least:g} to {most:g}")
        return out

    def within(self, key: str, value: Any, least: float, most: float) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{self._name}.{key}: expected {least:g} to {most:g}")
        return float(value)


def _text(values: npt.NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")


def _forecast(fields: _Fields, fresh: PersonalCalibration) -> None:
    fit = fresh.fit
    gram = np.zeros((FEATURES, FEATURES), np.float32)
    gram[_UPPER] = fields.array("gram", "<f4", -_NUMBER_MOST, _NUMBER_MOST, len(_UPPER[0]))
    fit.gram = np.triu(gram) + np.triu(gram, 1).T
    if np.linalg.eigvalsh(fit.gram.astype(np.float64))[0] < -1e-3 * max(1.0, float(np.trace(fit.gram))):
        raise ValueError("forecast.gram: no sum of squares")
    for name in ("moment", "coefficients"):
        values = fields.array(name, "<f4", -_NUMBER_MOST, _NUMBER_MOST, 2 * FEATURES)
        setattr(fit, name, values.reshape(2, FEATURES))
    fit.widen = fields.list("widen", 4, lambda key, value: fields.within(key, value, -WIDEN_MOST, WIDEN_MOST))
    fit.mean_mg_dl = fields.number("mean_mg_dl", 0.0, 1000.0)
    fit.readings = fields.count("readings", int(_COUNT_MOST))
    fit.outcomes = fields.count("outcomes", int(_COUNT_MOST))
    fields.end()


def _said(fields: _Fields, fresh: PersonalCalibration) -> None:
    times = fields.array("t_ns", "<i8", -_TIME_MOST, _TIME_MOST).tolist()
    if len(times) > _SAID_MOST or any(b - a < CLOSEST_NS for a, b in pairwise(times)):
        raise ValueError("said.t_ns: too many, or not ascending")
    numbers = fields.array("numbers", "<f4", -1e5, 2.0**CANDIDATES, NUMBERS * len(times)).reshape(-1, NUMBERS)
    if np.any(numbers[:, 14:] < 0):
        raise ValueError("said.numbers: negative")
    fresh.outcomes.said = [said_of(t_ns, row) for t_ns, row in zip(times, numbers.tolist(), strict=True)]
    fields.end()


def _budget(budget: AlarmBudget) -> dict[str, Any]:
    return {
        "threshold": budget.threshold,
        "false": _text(budget.false, "<f4"),
        "days": budget.days,
        "announced": _text(budget.announced, "<f4"),
        "events": budget.events,
        "notified_ns": _text(budget.said_ns, "<i8"),
        "due_days": budget.due_days,
    }


def _read_budget(fields: _Fields, budget: AlarmBudget) -> None:
    grid = budget.prior.candidates()
    budget.threshold = fields.number("threshold", float(grid[0]), float(grid[-1]))
    budget.false = fields.array("false", "<f4", 1e-9, _COUNT_MOST, CANDIDATES)
    budget.days = fields.number("days", 0.1, _COUNT_MOST)
    budget.announced = fields.array("announced", "<f4", 0.0, _COUNT_MOST, CANDIDATES)
    budget.events = fields.number("events", 0.1, _COUNT_MOST)
    budget.said_ns = fields.array("notified_ns", "<i8", -_TIME_MOST, _TIME_MOST, CANDIDATES)
    budget.due_days = fields.number("due_days", 0.0, _COUNT_MOST)


def _shift(shift: Shift) -> dict[str, float]:
    return {"learned": shift.learned, "information": shift.information, "used": shift.used}


def _read_shift(fields: _Fields, shift: Shift) -> None:
    shift.learned = fields.number("learned", Shift.LEAST, Shift.MOST)
    shift.information = fields.number("information", 0.1, _COUNT_MOST)
    shift.used = fields.number("used", Shift.LEAST, Shift.MOST)
    fields.end()


def _trend(trend: Trend) -> dict[str, float | bool]:
    return {"usual": trend.usual, "days": trend.days, "excess": trend.excess, "grown": trend.grown}


def _read_trend(fields: _Fields, trend: Trend) -> None:
    trend.usual = fields.number("usual", 0.0, 10.0)
    trend.days = fields.number("days", 0.0, REFERENCE_DAYS)
    trend.excess = fields.number("excess", 0.0, 2.0 * ALARM)
    trend.grown = fields.flag("grown")
    fields.end()
