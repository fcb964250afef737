"""Glucose readings on their way through a tick: onto the time line, one forecast for all patients, fitted, decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.alarms.alert import AlertEvent
from agent.alarms.observation import Observation
from agent.inference import PackModel
from agent.patient import PatientState
from agent.signal import glucose_window
from agent.signal.outlook import Forecast, Glucose, PastReading
from firmware_bridge.chunk import NS_PER_S, Chunk

FUTURE_NS = 300 * NS_PER_S
"""A reading from further ahead than this is refused: a clock is wrong, and all that follows would look old."""
USABLE_COVERAGE = 0.75
"""Of the readings of the last hour: with fewer, no alarm rests on a forecast."""


@dataclass(frozen=True, slots=True)
class _Fresh:
    """One patient's newest reading in this round, and the day that led up to it."""

    patient: PatientState
    glucose: Glucose
    times_ns: npt.NDArray[np.int64]
    mg_dl: npt.NDArray[np.float32]


class GlucoseFlow:
    """The way of every reading. `model`: without one, limits and rates still stand; `watch`: as the engine's."""

    def __init__(self, model: PackModel | None, watch: Callable[[str, Observation], None] | None) -> None:
        self._model = model
        self._watch = watch

    def step(self, queues: Mapping[str, Sequence[tuple[PatientState, Chunk]]], now_ns: int | None) -> list[AlertEvent]:
        """Each patient's readings in the order in which they came: one batch over all patients a round.

        `now_ns`: the wall clock, or None in a replay.
        """
        events: list[AlertEvent] = []
        for turn in range(max((len(queue) for queue in queues.values()), default=0)):
            due = [queue[turn] for queue in queues.values() if turn < len(queue)]
            taken = [self._take(patient, chunk, events, now_ns) for patient, chunk in due]
            fresh = [one for one in taken if one is not None]
            for one, forecast in zip(fresh, self._forecasts(fresh), strict=True):
                events += self._decide(one, forecast, now_ns)
        return events

    def _take(self, patient: PatientState, chunk: Chunk, events: list[AlertEvent], now_ns: int | None) -> _Fresh | None:
        """Put a reading in its place; only one newer than all before it is news."""
        track, t_ns, mg_dl = patient.glucose_state.track, chunk.t0_ns, float(chunk.samples[-1, 0])
        if now_ns is not None and t_ns > now_ns + FUTURE_NS:
            track.counts["from the future"] += 1
            return None
        pushed = track.push(t_ns, mg_dl)
        if pushed.kind in {"back-fill", "revised"}:
            self._show(patient, PastReading(t_ns, mg_dl, pushed.kind))
        patient.glucose_state.count(t_ns, mg_dl, pushed)
        if pushed.glucose is None and pushed.questioned is None:
            return None
        events += patient.account(chunk, now_ns)
        if pushed.questioned is not None:
            events += patient.observe_glucose(pushed.questioned, None, now_ns)
        if pushed.glucose is None:
            return None
        return _Fresh(patient, pushed.glucose, *track.history(t_ns - round(glucose_window.HISTORY_S * NS_PER_S)))

    def _forecasts(self, fresh: Sequence[_Fresh]) -> list[Forecast | None]:
        if self._model is None or not fresh:
            return [None] * len(fresh)
        signal, context = glucose_window.prepare(
            [(one.times_ns, one.mg_dl) for one in fresh],
            [one.patient.glucose_state.offset_s(one.glucose.t_ns) for one in fresh],
        )
        said = self._model.forecasts({"signal": signal, "context": context}, [one.glucose.mg_dl for one in fresh])
        coverage = [one.patient.glucose_state.track.coverage(1.0) for one in fresh]
        return [
            replace(
                forecast,
                coverage=coverage[row],
                usable=coverage[row] >= USABLE_COVERAGE and not one.glucose.doubt,
                inputs={"signal": signal[row].astype(np.float16), "context": context[row].astype(np.float16)},
            )
            for row, (one, forecast) in enumerate(zip(fresh, said, strict=True))
        ]

    def _decide(self, one: _Fresh, forecast: Forecast | None, now_ns: int | None) -> list[AlertEvent]:
        outlook = one.patient.glucose_state.expect(one.glucose, forecast) if forecast else None
        self._show(one.patient, one.glucose)
        if outlook is not None:
            self._show(one.patient, outlook)
        return one.patient.observe_glucose(one.glucose, outlook, now_ns)

    def _show(self, patient: PatientState, seen: Observation) -> None:
        if self._watch:
            self._watch(patient.person.id, seen)
