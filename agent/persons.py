"""Everybody whom a config names, as the engine is to know them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from agent.config import Config, PatientConfig, WfdbSource
from agent.ingest.decoder import StreamConfig
from agent.ingest.replay import RecordStream
from agent.ingest.wfdb import read_header
from agent.patient import Person
from agent.patient_context import LastGood, context_of
from agent.replay import ecg_of
from agent.standing import Standing


def persons(
    config: Config, expected: Mapping[tuple[str, str], StreamConfig]
) -> tuple[list[Person], dict[Standing, str]]:
    """Everybody to be watched, with the streams that are theirs; and whose context file was refused, and why."""
    found: list[Person] = []
    refused: dict[Standing, str] = {}
    last_good, today = LastGood(config.agent.state_dir), datetime.now(UTC).date()
    for patient in config.patients:
        limits = patient.limits
        if patient.context_file is not None:
            context, why = context_of(patient.id, patient.context_file, limits.local, last_good, today)
            limits = context.applied(limits)
            if why:
                refused[patient.id, "context_refused"] = why
        streams = [one.stream for one in expected.values() if one.stream.patient == patient.id]
        streams += [record_of(patient.id, source).stream for source in _records(patient)]
        found.append(Person(patient.id, tuple(streams), limits, patient.glucose))
    return found, refused


def record_of(patient: str, source: WfdbSource) -> RecordStream:
    """The ECG of a recording; the config has made sure that the file is there."""
    return ecg_of(read_header(source.path), patient, device=source.path.name)


def _records(patient: PatientConfig) -> list[WfdbSource]:
    return [source for source in patient.sources if isinstance(source, WfdbSource)]
