"""Time that passes without data, live: silence is judged by the clock, and alarms that were late become current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from agent.alarms.alert import AlertEvent
from agent.patient import PatientState


class WallTime:
    """For all patients of an engine. `late_after_ns`: the age past which data is a report about the past."""

    def __init__(self, late_after_ns: int) -> None:
        self._late_after_ns = late_after_ns
        self._quiet_until_ns: dict[str, int] = {}
        """Until when nothing becomes of it that nothing comes, as far as no alarm of theirs waits for data."""

    def heard(self, patient_id: str) -> None:
        """Something has come, or it stands otherwise with somebody than at the last step."""
        self._quiet_until_ns.pop(patient_id, None)

    def unheard(self, patient: PatientState, now_ns: int) -> None:
        """What comes of somebody is not stepped over: that nothing is heard says nothing of their sensors."""
        for state in patient.streams.values():
            state.silence.restart(now_ns)
        self.heard(patient.person.id)

    def step(self, patients: Mapping[str, PatientState], now_ns: int) -> Iterator[AlertEvent]:
        """It is `now_ns`. Most of a ward has nothing to say at a tick: it is passed over."""
        quiet_until_ns = self._quiet_until_ns
        for patient_id, patient in patients.items():
            if now_ns < quiet_until_ns.get(patient_id, 0) and not patient.states.waits_for_data:
                continue
            yield from self._pass(patient, now_ns)
            if patient.gate is None or not patient.gate.is_weighing:
                streams = patient.streams.values()
                quiet_until_ns[patient_id] = min((state.silent_from_ns for state in streams), default=0)

    def _pass(self, patient: PatientState, now_ns: int) -> Iterator[AlertEvent]:
        for state in patient.streams.values():
            state.silence.begin(now_ns)
            for found in state.silence.silent(now_ns - state.longest_chunk_ns):
                # Old data may have come meanwhile; that nothing of now comes is a fact of now.
                stale = now_ns - found.at_ns > self._late_after_ns
                yield from patient.apply([replace(found, at_ns=now_ns) if stale else found], now_ns)
        yield from patient.settle(now_ns)
        yield from patient.caught_up(now_ns)
