"""What the agent says upstream. These models are the one source of the JSON Schemas and of the AsyncAPI document.

Alerts are CloudEvents 1.0 in structured JSON. Times are RFC 3339 in UTC with nine digits, since a JSON number cannot
hold nanoseconds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from agent.alarms.alert import AlertEvent, Category, Evidence, Phase, Priority
from agent.uplink.outbox import Outgoing
from agent.uplink.topics import Topics

RESEARCH_NOTE: Final = "research software, not a medical device"
CLOUD_EVENT_TYPE = "application/cloudevents+json"
JSON_TYPE = "application/json"
MAX_ALERT_BYTES = 65_536
OLDEST_SAMPLES = "the oldest samples"
VITAL_EXPIRY_S = 300
STATUS_PRIORITY = 4
VITAL_PRIORITY = 5
NS_PER_S = 1_000_000_000


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer agent may say more


class StripModel(_Model):
    """The stretch of signal that was looked at, sample for sample (float32, shortest digits that read back equal)."""

    t0: str = Field(description="time of the first sample")
    rate_hz: float
    unit: str
    channels: list[str]
    samples: list[list[float | None]] = Field(description="one list per channel; null where no sample came")
    left_out: str | None = Field(default=None, description="what did not fit into the message")

    def array(self) -> npt.NDArray[np.float32]:
        """Samples as (n, channels) float32, NaN where none came."""
        columns = [np.array(channel, dtype=np.float32) for channel in self.samples]
        return np.stack(columns, axis=1) if columns else np.empty((0, 0), np.float32)


class BeatModel(_Model):
    t: str
    label: str
    probability: float
    unsure: bool | None = Field(default=None, description="true where the model leaves more than one answer open")


class PredictionModel(_Model):
    task: str
    start: str = Field(description="start of the window of signal")
    decided_at: str
    label: str
    probability: float
    unsure: bool | None = Field(default=None, description="true where the model leaves more than one answer open")


class AttributionModel(_Model):
    """What of the signal spoke for an answer: by how much its log odds fall without each piece."""

    task: str
    label: str
    t0: str = Field(description="start of the first piece")
    piece_s: float
    falls: list[float]


class PackModel(_Model):
    id: str
    sha256: str


class EvidenceModel(_Model):
    strip: StripModel
    beats: list[BeatModel]
    quality: float = Field(description="share of the strip's time that passed the signal quality gate, 0 to 1")
    missing_s: float = Field(description="seconds of the strip's span for which no samples came")
    values: dict[str, float | str] = Field(description="measured values and the thresholds they crossed")
    packs: list[PackModel] = Field(description="models that took part")
    predictions: list[PredictionModel] | None = Field(default=None, description="last answers about windows of signal")
    attributions: list[AttributionModel] | None = None


class AlertData(_Model):
    alert_id: str
    patient: str
    rule: str
    category: Category
    priority: Priority
    phase: Phase
    onset: str = Field(description="when the condition began")
    until: str | None = Field(default=None, description="of one that ended: when, where earlier than when it was known")
    decided_at: str = Field(description="stream time at which this transition was decided")
    late: bool = Field(description="decided on late data: a report about the past, never an alarm for now")
    text: str
    note: Literal["research software, not a medical device"] = RESEARCH_NOTE
    evidence: EvidenceModel | None = None
    seq: int | None = Field(
        default=None, description="rises by one with every event of an agent: a hole is a missed event"
    )
    boot_id: int | None = Field(default=None, description="rises with every start of the agent")
    committed_at: str | None = Field(
        default=None, description="wall clock when the event was put on disk; none in a replay"
    )


class AlertMessage(_Model):
    """A CloudEvent about one transition of one alarm."""

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(description="the same for the same transition, however often it is sent")
    source: str
    type: Literal["vagus.alert.start", "vagus.alert.continue", "vagus.alert.update", "vagus.alert.end"]
    subject: str = Field(description="the patient's pseudonym")
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: AlertData


class StreamHealth(_Model):
    patient: str
    device: str
    channel: str
    kind: str
    state: Literal["ok", "waiting", "silent", "late", "poor"]
    last_sample_at: str | None = None
    detail: str = ""


class PackHealth(_Model):
    id: str
    version: str = ""
    origin: Literal["shipped", "installed"] = "shipped"
    runtime: str | None = Field(default=None, description="what really runs it; null where nothing does")
    fault: str = Field(default="", description="why it is not used, and what is not watched without it")
    refused: list[str] = Field(
        default_factory=list, description="runtimes and installed packs that were passed over, each with the reason"
    )


class StatusMessage(_Model):
    """Retained: what the agent is doing; the last will is one with `state` "offline"."""

    agent: str
    state: Literal["online", "degraded", "offline"]
    at: str | None = Field(default=None, description="wall clock; none in the last will, which is written in advance")
    version: str = ""
    boot_id: int | None = None
    started_at: str | None = None
    reasons: list[str] = Field(default_factory=list, description="why it is not simply online, in plain words")
    streams: list[StreamHealth] = Field(default_factory=list)
    backends: dict[str, str] = Field(default_factory=dict, description="model pack → what it runs on")
    packs: list[PackHealth] = Field(default_factory=list)
    counters: dict[str, int] = Field(default_factory=dict)
    note: Literal["research software, not a medical device"] = RESEARCH_NOTE

    def payload(self) -> bytes:
        return self.model_dump_json().encode()


class VitalMessage(_Model):
    patient: str
    code: str = Field(description='what was measured, e.g. "hr"')
    value: float
    unit: str
    at: str = Field(description="stream time of the measurement")
    late: bool
    quality: float | None = None
    note: Literal["research software, not a medical device"] = RESEARCH_NOTE


def alert_messages(
    event: AlertEvent, topics: Topics, *, seq: int, boot_id: int, committed_ns: int | None = None
) -> list[Outgoing]:
    """The event itself and what it makes of the alarm's retained state.

    What is late never enters the retained state; an end always clears it, since it names this very alarm.
    """
    message = _alert_message(event, topics.agent, seq=seq, boot_id=boot_id, committed_ns=committed_ns)
    payload = message.model_dump_json(exclude_none=True).encode()
    priority = outgoing_priority(event)
    said = Outgoing(
        topics.event(event.patient), payload, False, priority, None, CLOUD_EVENT_TYPE, "alert", event.alert_id
    )
    state_topic = topics.alarm(event.patient, event.alert_id)
    if event.phase is Phase.END:
        cleared = Outgoing(state_topic, b"", True, priority, None, None, "alert", event.alert_id)
        return [said, cleared]
    if event.late:
        return [said]
    return [said, Outgoing(state_topic, payload, True, priority, None, CLOUD_EVENT_TYPE, "alert", event.alert_id)]


def vital_message(vital: VitalMessage, topics: Topics) -> Outgoing:
    return Outgoing(
        topic=topics.vital(vital.patient, vital.code),
        payload=vital.model_dump_json(exclude_none=True).encode(),
        retain=False,
        priority=VITAL_PRIORITY,
        expiry_s=VITAL_EXPIRY_S,
        content_type=JSON_TYPE,
        kind="vital",
    )


def status_message(status: StatusMessage, topics: Topics) -> Outgoing:
    return Outgoing(topics.status, status.payload(), True, STATUS_PRIORITY, None, JSON_TYPE, "status")


def offline_payload(agent: str, reason: str = "the connection was lost without a word") -> bytes:
    """Payload of the last will, or of the goodbye."""
    return StatusMessage(agent=agent, state="offline", reasons=[reason]).payload()


def outgoing_priority(event: AlertEvent) -> int:
    """0 for a high physiological alarm; a technical one stands one behind a physiological one of its rank."""
    return event.priority.rank + (event.category is Category.TECHNICAL)


def canonical_json(event: AlertEvent, agent: str = "replay") -> bytes:
    """The event without anything that differs between two runs over the same data: equal bytes, equal decisions."""
    message = _alert_message(event, agent)
    return json.dumps(
        message.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def parse_event(payload: bytes) -> AlertMessage:
    """For subscribers. Raises pydantic.ValidationError (a ValueError) when it is not an alert of this version."""
    return AlertMessage.model_validate_json(payload)


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of every payload, by the kind of topic it is published on."""
    models: Mapping[str, type[BaseModel]] = {
        "event": AlertMessage,
        "alarm": AlertMessage,
        "status": StatusMessage,
        "vital": VitalMessage,
    }
    return {name: model.model_json_schema(mode="serialization") for name, model in models.items()}


def rfc3339(t_ns: int) -> str:
    """UTC nanoseconds as "2026-01-31T08:00:00.000000000Z", exactly."""
    seconds, rest_ns = divmod(t_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def parse_rfc3339_ns(text: str) -> int:
    """UTC nanoseconds of what `rfc3339` wrote; raises ValueError on anything else."""
    whole, dot, fraction = text.partition(".")
    if not dot or len(fraction) != 10 or not fraction.endswith("Z") or not fraction[:9].isdigit():
        raise ValueError(f"{text!r} is not a UTC time with nine digits of fraction")
    seconds = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    return int(seconds) * NS_PER_S + int(fraction[:9])


def _alert_message(
    event: AlertEvent,
    agent: str,
    *,
    seq: int | None = None,
    boot_id: int | None = None,
    committed_ns: int | None = None,
) -> AlertMessage:
    """The message, with as much of the evidence's strip as keeps it under MAX_ALERT_BYTES."""
    message = AlertMessage(
        id=_event_id(event),
        source=f"/vagus/v1/{agent}",
        type=f"vagus.alert.{event.phase.value}",  # type: ignore[arg-type]  # checked by the model against Phase
        subject=event.patient,
        time=rfc3339(event.at_ns),
        data=AlertData(
            alert_id=event.alert_id,
            patient=event.patient,
            rule=event.rule,
            category=event.category,
            priority=event.priority,
            phase=event.phase,
            onset=rfc3339(event.onset_ns),
            until=None if event.until_ns is None else rfc3339(event.until_ns),
            decided_at=rfc3339(event.at_ns),
            late=event.late,
            text=event.text,
            evidence=None if event.evidence is None else _evidence_model(event.evidence),
            seq=seq,
            boot_id=boot_id,
            committed_at=None if committed_ns is None else rfc3339(committed_ns),
        ),
    )
    return message if event.evidence is None else _fitting(message)


def _event_id(event: AlertEvent) -> str:
    parts = (event.alert_id, event.phase.value, str(event.at_ns), event.priority.value, event.text)
    return hashlib.blake2s("\x1f".join(parts).encode(), digest_size=10).hexdigest()


def _evidence_model(evidence: Evidence) -> EvidenceModel:
    return EvidenceModel(
        strip=StripModel(
            t0=rfc3339(evidence.strip_t0_ns),
            rate_hz=evidence.strip_rate_hz,
            unit=evidence.strip_unit,
            channels=list(evidence.strip_channels),
            samples=[_shortest(evidence.strip[:, column]) for column in range(evidence.strip.shape[1])],
        ),
        beats=[
            BeatModel(t=rfc3339(beat.t_ns), label=beat.label, probability=beat.probability, unsure=beat.unsure or None)
            for beat in evidence.beats
        ],
        quality=evidence.quality,
        missing_s=evidence.missing_s,
        values=dict(evidence.values),
        packs=[PackModel(id=pack_id, sha256=sha256) for pack_id, sha256 in evidence.packs],
        predictions=[
            PredictionModel(
                task=said.task,
                start=rfc3339(said.start_ns),
                decided_at=rfc3339(said.at_ns),
                label=said.label,
                probability=round(said.probability, 4),
                unsure=said.unsure or None,
            )
            for said in evidence.predictions
        ]
        or None,
        attributions=[
            AttributionModel(
                task=made.task, label=made.label, t0=rfc3339(made.t0_ns), piece_s=made.piece_s, falls=list(made.falls)
            )
            for made in evidence.attributions
        ]
        or None,
    )


def _shortest(samples: npt.NDArray[np.float32]) -> list[float | None]:
    """Each sample as the number with the fewest digits that reads back as the same float32."""
    numbers = [float(text) for text in samples.astype(np.float32).astype(str)]
    return [number if math.isfinite(number) else None for number in numbers]


def _fitting(message: AlertMessage) -> AlertMessage:
    """The message with fewer channels, then a shorter strip, until it fits; and it says so."""
    evidence = message.data.evidence
    while evidence is not None and len(message.model_dump_json(exclude_none=True)) > MAX_ALERT_BYTES:
        strip = _smaller(evidence.strip)
        if strip is None:
            break
        evidence = evidence.model_copy(update={"strip": strip})
        message = message.model_copy(update={"data": message.data.model_copy(update={"evidence": evidence})})
    return message


def _smaller(strip: StripModel) -> StripModel | None:
    """Without the channels beyond the first, or without the oldest tenth; None when nothing is left to leave out."""
    reason = f"the message would exceed {MAX_ALERT_BYTES} bytes"
    if len(strip.channels) > 1:
        left_out = f"channels {', '.join(strip.channels[1:])}: {reason}"
        return strip.model_copy(
            update={"channels": strip.channels[:1], "samples": strip.samples[:1], "left_out": left_out}
        )
    if not strip.samples or not strip.samples[0]:
        return None
    # The oldest samples go: what was decided last rests on the newest.
    n_cut = -(-len(strip.samples[0]) // 10)
    t0_ns = parse_rfc3339_ns(strip.t0) + round(n_cut * NS_PER_S / strip.rate_hz)
    left_out = strip.left_out or ""
    if OLDEST_SAMPLES not in left_out:
        left_out = f"{left_out}; {OLDEST_SAMPLES}" if left_out else f"{OLDEST_SAMPLES}: {reason}"
    return strip.model_copy(update={"t0": rfc3339(t0_ns), "samples": [strip.samples[0][n_cut:]], "left_out": left_out})
