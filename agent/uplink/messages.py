"""What the agent says upstream. These models are the one source of the JSON Schemas and of the AsyncAPI document.

Alerts are CloudEvents 1.0 in structured JSON. Times are RFC 3339 in UTC with nine digits, since a JSON number cannot
hold nanoseconds.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

from pydantic import Field

from agent.alarms.alert import AlertEvent, Attended, Category, Phase, Priority, State
from agent.uplink.evidence import (
    EvidenceModel,
    ExpectedModel,
    Model,
    as_python_writes,
    evidence_model,
    rfc3339,
    smaller,
)
from agent.uplink.outbox import Outgoing
from agent.uplink.topics import Topics

RESEARCH_NOTE: Final = "research software, not a medical device"
CLOUD_EVENT_TYPE = "application/cloudevents+json"
JSON_TYPE = "application/json"
MAX_ALERT_BYTES = 65_536
VITAL_EXPIRY_S = 300
STATUS_PRIORITY = 4
VITAL_PRIORITY = 5
_SAMPLES: Any = {"data": {"evidence": {"strip": {"samples"}}}}
_SAMPLES_KEY, _NO_SAMPLES = b'"samples":', b'"samples":[]'


class MarkModel(Model):
    by: str
    at: str


class PausedModel(Model):
    by: str
    until: str


class VerdictModel(Model):
    word: Literal["true", "false", "not_actionable"]
    note: str = ""
    by: str
    at: str


class AlertData(Model):
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
    state: State | None = Field(
        default=None, description="after this event; latched: over, and not acknowledged; none in a replay"
    )
    acknowledged: MarkModel | None = Field(default=None, description="who has seen to it")
    paused: PausedModel | None = Field(default=None, description="who asked not to hear it: show it, sound nothing")
    escalation: int | None = Field(
        default=None, description="how often it was escalated because nobody acknowledged it"
    )
    verdict: VerdictModel | None = Field(default=None, description="what somebody says it was worth")
    drill: Literal[True] | None = Field(default=None, description="not real: somebody tries whether it is heard")
    seq: int | None = Field(
        default=None,
        description="rises by one with every event of an agent (of each `worker`): a hole is a missed event",
    )
    boot_id: int | None = Field(default=None, description="rises with every start of the agent")
    worker: int | None = Field(
        default=None, description="of an agent in several processes, the one that counts in `seq` and `boot_id`"
    )
    committed_at: str | None = Field(
        default=None, description="wall clock when the event was put on disk; none in a replay"
    )


class AlertMessage(Model):
    """A CloudEvent about one transition of one alarm."""

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(description="the same for the same transition, however often it is sent")
    source: str
    type: Literal[
        "vagus.alert.start",
        "vagus.alert.continue",
        "vagus.alert.update",
        "vagus.alert.escalate",
        "vagus.alert.de-escalate",
        "vagus.alert.end",
    ]
    subject: str = Field(description="the patient's pseudonym")
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: AlertData


class StreamHealth(Model):
    patient: str
    device: str
    channel: str
    kind: str
    state: Literal["ok", "waiting", "silent", "late", "poor"]
    last_sample_at: str | None = None
    detail: str = ""


class DeviceHealth(Model):
    """A wearable that the agent itself keeps in touch with, over Bluetooth or a cable."""

    patient: str
    device: str
    state: Literal["connected", "connecting", "searching", "refused", "stopped"]
    detail: str = ""
    model: str = Field(default="", description="maker, model and firmware, as the device has them")
    rssi_dbm: int | None = None
    battery_percent: int | None = None
    trouble: str = Field(default="", description="what somebody has to see to")
    counts: dict[str, int] = Field(default_factory=dict, description="what was out of the ordinary, by what it was")


class PauseHealth(Model):
    """What somebody asked not to hear."""

    patient: str
    what: str = Field(description="a rule, or priority:medium or priority:low")
    by: str
    until: str


class PackHealth(Model):
    id: str
    version: str = ""
    origin: Literal["shipped", "installed"] = "shipped"
    runtime: str | None = Field(default=None, description="what really runs it; null where nothing does")
    fault: str = Field(default="", description="why it is not used, and what is not watched without it")
    refused: list[str] = Field(
        default_factory=list, description="runtimes and installed packs that were passed over, each with the reason"
    )


class PowerHealth(Model):
    """Heat and supply of the machine, as far as it says."""

    heat: Literal["normal", "warm", "hot"]
    celsius: float | None = Field(default=None, description="of the processor")
    under_voltage: bool = False
    on_battery: bool | None = None
    battery_percent: int | None = None
    undone: list[str] = Field(
        default_factory=list, description="what is left undone for it, or for the load: never an alarm"
    )


class WorkerHealth(Model):
    """One of several processes that share the patients among them."""

    worker: int
    state: Literal["starting", "running", "down", "stopped"]
    patients: int = Field(description="how many it watches when it runs")
    deaths: int = Field(default=0, description="how often it died since the agent's start")
    detail: str = ""
    numbers: dict[str, float] = Field(default_factory=dict, description="what it measured of itself")


class UpdateHealth(Model):
    """Where the agent stands with the roll-out orders of its ring."""

    ring: str = ""
    version: str = Field(default="", description="that of the newest order; none where there was none")
    state: Literal["waiting", "installing", "done", "failed", "rolling_back", "rolled_back"] = "waiting"
    detail: str = Field(default="", description="in plain words, such as why the newest order was refused")


class StatusMessage(Model):
    """Retained: what the agent is doing; the last will is one with `state` "offline"."""

    agent: str
    state: Literal["online", "degraded", "offline"]
    at: str | None = Field(default=None, description="wall clock; none in the last will, which is written in advance")
    version: str = ""
    boot_id: int | None = None
    started_at: str | None = None
    reasons: list[str] = Field(default_factory=list, description="why it is not simply online, in plain words")
    streams: list[StreamHealth] = Field(default_factory=list)
    devices: list[DeviceHealth] = Field(default_factory=list)
    pauses: list[PauseHealth] = Field(default_factory=list)
    backends: dict[str, str] = Field(default_factory=dict, description="model pack → what it runs on")
    packs: list[PackHealth] = Field(default_factory=list)
    power: PowerHealth | None = Field(default=None, description="none where the config turns it off, or in a replay")
    counters: dict[str, int] = Field(default_factory=dict)
    every_s: float | None = Field(default=None, description="seconds to the next status, at most, if all is well")
    disk_free_mb: int | None = Field(default=None, description="where state is kept")
    last_alert_at: str | None = Field(default=None, description="of the newest alert since the start")
    update: UpdateHealth | None = Field(default=None, description="none where the config gives the agent no ring")
    workers: list[WorkerHealth] = Field(default_factory=list, description="of an agent in several processes")
    note: Literal["research software, not a medical device"] = RESEARCH_NOTE

    def payload(self) -> bytes:
        return self.model_dump_json().encode()


Trend = Literal[
    "rising_quickly", "rising", "rising_slightly", "steady", "falling_slightly", "falling", "falling_quickly"
]
"""More than 3, 2 and 1 mg/dL a minute, up or down."""


class VitalMessage(Model):
    """Display data: not promised. With `retained_s` in `vital_message` the newest is there for whoever comes later."""

    patient: str
    code: str = Field(description='what was measured, e.g. "hr"')
    value: float
    unit: str
    at: str = Field(description="stream time of the measurement")
    late: bool = Field(description="not of now: recorded later than it was measured")
    quality: float | None = Field(default=None, description="0 to 1; of a share over days, how much of them is known")
    rate_per_min: float | None = Field(default=None, description="rate of change, in `unit` a minute")
    trend: Trend | None = Field(default=None, description="the rate in a word: steady is less than 1 mg/dL a minute")
    expected: list[ExpectedModel] | None = Field(default=None, description="forecasts, in `unit`")
    doubt: str | None = Field(default=None, description="why the sensor's value is doubted")
    device: str | None = Field(default=None, description="of a number about a device itself")
    note: Literal["research software, not a medical device"] = RESEARCH_NOTE


def alert_messages(
    event: AlertEvent, topics: Topics, *, seq: int, boot_id: int, committed_ns: int | None = None
) -> list[Outgoing]:
    """The event itself and what it makes of the alarm's retained state.

    What is late never enters the retained state; an end clears it, since it names this very alarm, unless it latches.
    """
    message = _alert_message(event, topics, seq=seq, boot_id=boot_id, committed_ns=committed_ns)
    _, payload = _fitting(message)
    priority = outgoing_priority(event)
    said = Outgoing(
        topics.event(event.patient), payload, False, priority, None, CLOUD_EVENT_TYPE, "alert", event.alert_id
    )
    state_topic = topics.alarm(event.patient, event.alert_id)
    if _is_gone(event):
        cleared = Outgoing(state_topic, b"", True, priority, None, None, "alert", event.alert_id)
        return [said, cleared]
    if event.late:
        return [said]
    return [said, Outgoing(state_topic, payload, True, priority, None, CLOUD_EVENT_TYPE, "alert", event.alert_id)]


def vital_message(vital: VitalMessage, topics: Topics, retained_s: int | None = None) -> Outgoing:
    """`retained_s`: kept by the broker for so long, or until the next one; None where only who listens now needs it."""
    return Outgoing(
        topic=topics.vital(vital.patient, vital.code),
        payload=vital.model_dump_json(exclude_none=True).encode(),
        retain=retained_s is not None,
        priority=VITAL_PRIORITY,
        expiry_s=retained_s or VITAL_EXPIRY_S,
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
    message, payload = _fitting(_alert_message(event, Topics(agent)))
    fields = message.model_dump(mode="json", exclude_none=True, exclude=_SAMPLES)
    samples = b""
    if message.data.evidence is not None:
        # Of a strip's numbers Python makes a text slowly; they are in the payload already.
        samples = _samples_in(payload)
        fields["data"]["evidence"]["strip"]["samples"] = []
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return text.replace(_NO_SAMPLES, _SAMPLES_KEY + samples, 1) if samples else text


def parse_event(payload: bytes) -> AlertMessage:
    """For subscribers. Raises pydantic.ValidationError (a ValueError) when it is not an alert of this version."""
    return AlertMessage.model_validate_json(payload)


def _alert_message(
    event: AlertEvent,
    topics: Topics,
    *,
    seq: int | None = None,
    boot_id: int | None = None,
    committed_ns: int | None = None,
) -> AlertMessage:
    """The message, with all of the evidence's strip."""
    return AlertMessage(
        id=_event_id(event),
        source=f"/vagus/v1/{topics.agent}",
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
            evidence=None if event.evidence is None else evidence_model(event.evidence),
            **_attended(event.attended),
            drill=event.drill or None,
            seq=seq,
            boot_id=boot_id,
            worker=topics.worker,
            committed_at=None if committed_ns is None else rfc3339(committed_ns),
        ),
    )


def _samples_in(payload: bytes) -> bytes:
    """The strip's samples as an event's payload has them, with each number as Python writes it."""
    start = payload.index(_SAMPLES_KEY) + len(_SAMPLES_KEY)
    if payload.startswith(b"[]", start):
        return b""
    return as_python_writes(payload[start : payload.index(b"]]", start) + 2])


def _is_gone(event: AlertEvent) -> bool:
    """Whether nothing is left of the alarm after this event."""
    return event.phase is Phase.END if event.attended is None else event.attended.state is State.INACTIVE


def _attended(attended: Attended | None) -> dict[str, Any]:
    if attended is None:
        return {}
    seen, paused, verdict = attended.acknowledged, attended.paused, attended.verdict
    return {
        "state": attended.state,
        "acknowledged": seen and MarkModel(by=seen.by, at=rfc3339(seen.at_ns)),
        "paused": paused and PausedModel(by=paused.by, until=rfc3339(paused.at_ns)),
        "escalation": attended.escalation or None,
        "verdict": verdict
        and VerdictModel(word=verdict.word, note=verdict.note, by=verdict.by, at=rfc3339(verdict.at_ns)),
    }


def _event_id(event: AlertEvent) -> str:
    parts = (event.alert_id, event.phase.value, str(event.at_ns), event.priority.value, event.text)
    return hashlib.blake2s("\x1f".join(parts).encode(), digest_size=10).hexdigest()


def _fitting(message: AlertMessage) -> tuple[AlertMessage, bytes]:
    """The message with fewer channels, then a shorter strip, until it fits, and it says so; and its payload."""
    payload = message.model_dump_json(exclude_none=True).encode()
    evidence = message.data.evidence
    while evidence is not None and len(payload) > MAX_ALERT_BYTES:
        strip = smaller(evidence.strip, MAX_ALERT_BYTES)
        if strip is None:
            break
        evidence = evidence.model_copy(update={"strip": strip})
        message = message.model_copy(update={"data": message.data.model_copy(update={"evidence": evidence})})
        payload = message.model_dump_json(exclude_none=True).encode()
    return message, payload
