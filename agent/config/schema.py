"""What may be written in a config, table by table: keys, types, bounds, and what each key means.

The titles and descriptions here are the only ones: docs/config.md and the suggestions in error messages come from them.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

Format = Literal["auto", "frame", "cbor", "json", "senml", "nightscout"]
"""Names of the payload formats, as firmware_bridge.codecs has them."""

Kind = Literal["ecg", "ppg", "abp", "acc", "cgm", "hr", "spo2", "temperature"]
"""The keys of firmware_bridge.chunk.CANONICAL_UNIT."""

RuntimeName = Literal[
    "auto", "cpu", "tensorrt", "cuda", "qnn", "openvino-npu", "openvino-gpu", "openvino", "edgetpu", "tflite"
]
"""Names of the runtimes, as models.backends has them."""

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _slug(value: str) -> str:
    if not _SLUG.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or a digit")
    return value


def _agent_slug(value: str) -> str:
    if value == "in":
        raise ValueError('"in" is the topic level sensors write to, so no agent can be called so')
    if value == "fleet":
        raise ValueError('"fleet" is the topic level of roll-outs, so no agent can be called so')
    return _slug(value)


def _workers(value: object) -> object:
    if value != "auto" and not (type(value) is int and 1 <= value <= 10):
        raise ValueError('must be "auto" or from 1 to 10')
    return value


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        raise ValueError("must be a host name or address alone, without mqtt:// or a path")
    if value.count(":") == 1:
        raise ValueError("must be a host name or address alone; the port has a key of its own, port")
    if not value or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError("must be a host name or address")
    return value


Slug = Annotated[str, AfterValidator(_slug)]
FileName = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """A table of the config: no unknown keys, no silent conversion of one type to another."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Every key as it is written in a config, and what it means."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}


class AgentTable(Table):
    """The agent itself. One per config; `id` is required."""

    id: Annotated[str, AfterValidator(_agent_slug)] = Field(
        title="Name of this agent",
        description="The level of every topic the agent publishes under, so unique at the broker: `vagus/v1/<id>/…`",
    )
    state_dir: FileName | None = Field(
        None,
        title="Where state is kept",
        description="Folder for the outbox, the journal and what a restart needs. "
        "Without it: $STATE_DIRECTORY (set by systemd), else ~/.local/state/vagus.",
    )
    time: Literal["wall", "stream"] = Field(
        "wall",
        title="What counts as now",
        description='"wall": the machine\'s clock. "stream": the newest sample, for replays of old recordings.',
    )
    mains_hz: Literal[0, 50, 60] = Field(
        50, title="Mains frequency", description="Hum removed from the ECG: 50 or 60 Hz; 0 for none."
    )
    late_after_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        title="Late after, in seconds",
        description="Samples older than this on arrival count as late: recorded and reported, never an alarm for now.",
    )
    runtime: RuntimeName = Field(
        "auto",
        title="What runs the models",
        description='"auto": an accelerator that is there and passes its self-test, else the CPU. '
        'A name: that one if it passes, else the CPU; "openvino" and "tflite" run on the CPU too. '
        "The status says what really runs.",
    )
    timezone: str = Field(
        "UTC",
        min_length=1,
        max_length=64,
        title="Time zone",
        description='Name of the zone that times of day in limits are meant in, such as "Europe/London"; '
        "summer time is minded.",
    )
    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers)] = Field(
        1,
        title="Processes",
        description="How many share the patients among them, for more than one core can bear: docs/workers.md. "
        '"auto": one a core, but no more than one for every 100 patients.',
    )
    log: Literal["text", "json"] = Field(
        "text", title="Log format", description='"text" for people, "json" for a log collector.'
    )


class MqttTable(Table):
    """The broker sensors write to and alerts go to. Without this table: localhost, port 1883, no password."""

    host: Annotated[str, AfterValidator(_host)] = Field(
        "localhost", title="Broker", description="Host name or address of the MQTT broker."
    )
    port: int | None = Field(
        None, ge=1, le=65535, title="Port", description="TCP port. Without it: 8883 with TLS, 1883 without."
    )
    tls: bool | None = Field(
        None,
        title="TLS",
        description="Whether to encrypt. Without it: yes if ca_file or cert_file is given, otherwise no.",
    )
    username: str | None = Field(None, min_length=1, title="User name", description="User name at the broker.")
    password_file: FileName | None = Field(
        None,
        title="File with the password",
        description="File whose first line is the password. "
        "Without it the environment variable VAGUS_MQTT_PASSWORD is used where it is set.",
    )
    ca_file: FileName | None = Field(
        None,
        title="Certificate authority",
        description="PEM file of the authority that signed the broker's certificate; without it, the system's list.",
    )
    cert_file: FileName | None = Field(
        None, title="Client certificate", description="PEM certificate with which this agent proves who it is."
    )
    key_file: FileName | None = Field(
        None,
        title="Client key",
        description="PEM private key of cert_file; may be left out where cert_file holds both.",
    )
    client_id: Slug | None = Field(
        None,
        title="Client id",
        description="Name of the session at the broker, the same across restarts. Without it: vagus-<agent id>.",
    )


class PatientTable(Table):
    """One person, by pseudonym. Repeat for a ward."""

    id: Slug = Field(
        title="Pseudonym",
        description="Appears in topics, logs and alerts: nothing that identifies anybody.",
    )
    low_alerts_per_day: float = Field(
        1.0,
        ge=0.1,
        le=4,
        title="False alerts of a low ahead",
        description="How many false alerts of `predicted_low` a day this person bears; more of them find more lows.",
    )
    urgent_low_alerts_per_day: float = Field(
        0.5,
        ge=0.1,
        le=4,
        title="False alerts of an urgent low soon",
        description="How many false alerts of `urgent_low_soon` a day this person bears.",
    )
    context_file: FileName | None = Field(
        None,
        title="File about the person",
        description="TOML (see below) or a FHIR Bundle (`.json`) with age, what is known and a clinician's limits. "
        "Read at the start; one that is refused is told, and the last good one holds.",
    )
    alarms_per_day: float = Field(
        24.0,
        ge=0,
        le=1000,
        title="Alarm budget",
        description="Low and medium alarms a day to be kept to where that can be: those that may wait are held back "
        "for a while, and not sent if they are over by then. High ones never are. 0: nothing is held back.",
    )
    personal: Literal["on", "frozen", "off"] = Field(
        "on",
        title="Fitted to the person",
        description='"on": glucose forecasts and their thresholds are fitted to this person as readings come. '
        '"frozen": they stay as they are. "off": they are as for everybody.',
    )


class AlarmsTable(Table):
    """How alarms behave towards people. What each is about, and when, is set with limits."""

    escalate_high_s: float = Field(
        120.0,
        ge=0,
        le=3600,
        title="Escalate high ones after, in seconds",
        description="An alarm of high priority that nobody has acknowledged is escalated, three times at most, each "
        "after so long. 0: never.",
    )
    escalate_medium_s: float = Field(
        600.0,
        ge=0,
        le=14_400,
        title="Escalate medium ones after, in seconds",
        description="The same for medium priority.",
    )
    latch_high: bool = Field(
        True,
        title="Keep high ones",
        description="Whether a physiological alarm of high priority stays in the retained state, as `latched`, after "
        "its condition is over, until somebody acknowledges it. Without anybody who can acknowledge: false.",
    )


class OutboxTable(Table):
    """What is kept on disk until the broker has acknowledged it."""

    max_mb: int = Field(
        256,
        ge=1,
        le=100_000,
        title="Size",
        description="Megabytes; past it waveforms go first, oldest first, then vitals; alerts never.",
    )


class RecorderTable(Table):
    """What came from the sensors, as it came: kept on disk, so that an alert can be looked at and made again."""

    enabled: bool = Field(True, title="On", description="false: nothing is recorded; what was recorded stays.")
    days: int = Field(7, ge=1, le=3660, title="Days kept", description="Older recordings are deleted.")
    max_mb: int = Field(
        1024,
        ge=8,
        le=1_000_000,
        title="Size",
        description="Megabytes, of everybody together; past it the oldest hours go, and so they do while the disk has "
        "less than 64 MB left. One lead at 250 Hz takes about 40 MB a day.",
    )


class HistoryTable(Table):
    """What is kept for looking back with `vagus report`: readings, forecasts, five minutes of ECG a row, alarms."""

    days: int = Field(
        90, ge=1, le=3660, title="Days kept", description="Older rows are deleted. A report shows up to 90 days."
    )
    max_mb: int = Field(
        1024,
        ge=1,
        le=100_000,
        title="Size",
        description="Megabytes; past it the oldest rows go. "
        "A person with a glucose sensor and an ECG takes about 5 MB in 90 days.",
    )


class PowerTable(Table):
    """Heat and supply of the machine: what is left undone when it is hot or on its battery, never an alarm."""

    enabled: bool = Field(True, title="On", description="false: neither is looked at.")
    warm_c: float = Field(
        75.0,
        ge=30,
        le=110,
        title="Warm from, in °C",
        description="Of the processor. From there on, and while the supply voltage is too low, alerts come without "
        "their explanation, and display data comes less often.",
    )
    hot_c: float = Field(
        82.0,
        ge=30,
        le=115,
        title="Hot from, in °C",
        description="From there on, and while the processor is held back for its heat, there is no second opinion on "
        "beats either, and an alarm says so. It must be above warm_c.",
    )
