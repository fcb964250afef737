"""From what is kept of a person to the resources of a FHIR R4B bundle, as plain documents.

The same rows give the same bundle: ids are hashes of what a resource is about.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from agent import __version__
from agent.fhir import codes
from agent.fhir.kept import Alarm, HeartRate, Kept, Reading
from agent.history.ecg import BUCKET_NS
from agent.uplink.evidence import StripModel, parse_rfc3339_ns
from agent.uplink.messages import RESEARCH_NOTE
from firmware_bridge.chunk import NS_PER_S

Resource = dict[str, Any]

_SPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:vagus")


def bundle(kept: Kept, now_ns: int) -> Resource:
    """Everything, as a collection. `now_ns`: the wall clock, when it was put together."""
    patient = _Patient(kept.patient)
    resources: list[tuple[str, Resource]] = [patient.patient(), patient.device()]
    resources += [patient.glucose(reading) for reading in kept.readings]
    resources += [patient.heart_rate(one) for one in kept.heart_rates]
    for alarm in kept.alarms:
        resources += patient.alarm(alarm)
    resources.append(patient.provenance([url for url, _ in resources], now_ns))
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": instant(now_ns),
        "entry": [{"fullUrl": url, "resource": resource} for url, resource in resources],
    }


def instant(t_ns: int) -> str:
    """UTC to the millisecond, which is what FHIR programs keep."""
    seconds, rest_ns = divmod(t_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"


class _Patient:
    """Builds the resources of one person; each comes with its address in the bundle."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._subject = {"reference": self._url("patient")}
        self._device = {"reference": self._url("device")}

    def _url(self, *about: object) -> str:
        return f"urn:uuid:{uuid.uuid5(_SPACE, '|'.join(map(str, (self._name, *about))))}"

    def patient(self) -> tuple[str, Resource]:
        """The pseudonym, and nothing else of the person."""
        identifier = [{"system": codes.PSEUDONYMS, "value": self._name}]
        return self._url("patient"), {"resourceType": "Patient", "identifier": identifier}

    def device(self) -> tuple[str, Resource]:
        """The agent: it has derived all of this from what sensors sent."""
        return self._url("device"), {
            "resourceType": "Device",
            "status": "active",
            "deviceName": [{"name": "vagus", "type": "model-name"}],
            "version": [{"value": __version__}],
            "type": {"text": RESEARCH_NOTE},
        }

    def glucose(self, reading: Reading) -> tuple[str, Resource]:
        value = codes.quantity(round(reading.mg_dl, 1), "mg/dL", "mg/dL")
        if reading.beyond:
            value["comparator"] = "<=" if reading.beyond == "low" else ">="
        notes = [f"in doubt: {reading.doubt}"] if reading.doubt else []
        notes += ["came later than it was measured"] if reading.late else []
        return self._url("glucose", reading.t_ns), {
            "resourceType": "Observation",
            "status": "preliminary" if reading.doubt else "final",
            "code": codes.GLUCOSE,
            "subject": self._subject,
            "device": self._device,
            "effectiveDateTime": instant(reading.t_ns),
            "valueQuantity": value,
            **_notes(notes),
        }

    def heart_rate(self, one: HeartRate) -> tuple[str, Resource]:
        return self._url("heart rate", one.start_ns), {
            "resourceType": "Observation",
            "status": "final",
            "category": [codes.VITAL_SIGNS],
            "code": codes.HEART_RATE,
            "subject": self._subject,
            "device": self._device,
            "effectivePeriod": {"start": instant(one.start_ns), "end": instant(one.start_ns + BUCKET_NS)},
            "valueQuantity": codes.quantity(round(one.bpm, 1), "beats/minute", "/min"),
            **_notes([f"{one.good_s:.0f} s of {one.seen_s:.0f} s of signal could be judged"]),
        }

    def alarm(self, alarm: Alarm) -> Iterator[tuple[str, Resource]]:
        """The strip that it rests on, a flag for as long as it was on, and what was told."""
        about = []
        evidence = alarm.alert.data.evidence if alarm.alert is not None else None
        if evidence is not None and evidence.strip.rate_hz and evidence.strip.unit == "mV":
            strip = self._strip(alarm, evidence.strip)
            about.append({"reference": strip[0]})
            yield strip
        flag = self._flag(alarm)
        yield flag
        yield self._communication(alarm, [{"reference": flag[0]}, *about])

    def _strip(self, alarm: Alarm, strip: StripModel) -> tuple[str, Resource]:
        start_ns = parse_rfc3339_ns(strip.t0)
        end_ns = start_ns + round(len(strip.samples[0]) * NS_PER_S / strip.rate_hz) if strip.samples else start_ns
        return self._url("strip", alarm.alert_id), {
            "resourceType": "Observation",
            "status": "final",
            "category": [codes.PROCEDURE],
            "code": codes.ECG,
            "subject": self._subject,
            "device": self._device,
            "effectivePeriod": {"start": instant(start_ns), "end": instant(end_ns)},
            "component": [
                {
                    "code": codes.lead(name),
                    "valueSampledData": {
                        "origin": codes.quantity(0, "mV", "mV"),
                        "period": round(1000.0 / strip.rate_hz, 6),
                        "dimensions": 1,
                        "data": " ".join("E" if one is None else f"{one:.10g}" for one in samples),
                    },
                }
                for name, samples in zip(strip.channels, strip.samples, strict=True)
            ],
            **_notes([strip.left_out] if strip.left_out else []),
        }

    def _flag(self, alarm: Alarm) -> tuple[str, Resource]:
        period = {"start": instant(alarm.onset_ns)}
        if alarm.until_ns is not None:
            period["end"] = instant(max(alarm.until_ns, alarm.onset_ns))
        return self._url("flag", alarm.alert_id), {
            "resourceType": "Flag",
            **_drill(alarm),
            "identifier": [{"system": codes.ALERTS, "value": alarm.alert_id}],
            "status": "active" if alarm.until_ns is None else "inactive",
            "category": [{"text": f"{alarm.category}, {alarm.priority} priority"}],
            "code": {"coding": [{"system": codes.RULES, "code": alarm.rule}], "text": alarm.text},
            "subject": self._subject,
            "period": period,
            "author": self._device,
        }

    def _communication(self, alarm: Alarm, about: list[Resource]) -> tuple[str, Resource]:
        notes = ["a report about the past, decided on late data"] if alarm.late else []
        if alarm.acknowledged_by is not None:
            notes.append(f"acknowledged by {alarm.acknowledged_by}")
        if alarm.verdict is not None:
            notes.append(f"judged {alarm.verdict.replace('_', ' ')}: {alarm.note}".rstrip(": "))
        seen = {} if alarm.acknowledged_ns is None else {"received": instant(alarm.acknowledged_ns)}
        return self._url("communication", alarm.alert_id), {
            "resourceType": "Communication",
            **_drill(alarm),
            "identifier": [{"system": codes.ALERTS, "value": alarm.alert_id}],
            "status": "completed",
            "priority": codes.PRIORITY[alarm.priority],
            "subject": self._subject,
            "about": about,
            "sent": instant(alarm.decided_ns),
            **seen,
            "sender": self._device,
            "payload": [{"contentString": alarm.text}],
            **_notes(notes),
        }

    def provenance(self, targets: list[str], now_ns: int) -> tuple[str, Resource]:
        return self._url("provenance", now_ns), {
            "resourceType": "Provenance",
            "target": [{"reference": url} for url in targets],
            "recorded": instant(now_ns),
            "activity": {"text": f"put together from the history of vagus {__version__}; {RESEARCH_NOTE}"},
            "agent": [{"type": {"text": "assembler"}, "who": self._device}],
        }


def _notes(texts: list[str]) -> Resource:
    return {"note": [{"text": text} for text in texts]} if texts else {}


def _drill(alarm: Alarm) -> Resource:
    return {"meta": {"tag": [codes.DRILL]}} if alarm.alert is not None and alarm.alert.data.drill else {}
