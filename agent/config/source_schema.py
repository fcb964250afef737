"""What may be written in a [[patient.source]], by its type: keys, types, bounds, and what each key means."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent.config.schema import FileName, Format, Kind, Slug, Table
from firmware_bridge.chunk import CANONICAL_UNIT, MAX_CHANNELS, MAX_RATE_HZ


def web_address(value: str) -> str:
    """`value`, if it is an address of the web; raises ValueError otherwise."""
    if not re.fullmatch(r"https?://[^\s/?#@]+([/?][^\s#]*)?", value):
        raise ValueError("must begin with http:// or https:// and a host, without user name and password")
    return value


def _bluetooth_address(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", value):
        raise ValueError("must be six bytes in hexadecimal such as A0:9E:1A:12:34:56")
    return value.upper()


def _port(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be a device file such as /dev/ttyUSB0, or one of /dev/serial/by-id")
    return value


def _adapter(value: str) -> str:
    if not re.fullmatch(r"hci[0-9]{1,3}", value):
        raise ValueError("must be an adapter's name such as hci0")
    return value


_KINDS_OF_SOURCE = '"ble", "mqtt", "nightscout", "serial" or "wfdb".'


StreamKind = Annotated[
    Kind, Field(title="What is measured", description="Decides how the stream is checked and what becomes of it.")
]
Unit = Annotated[
    str | None,
    Field(
        title="Unit",
        description="Unit of the samples as sent, where the payload names none. Without it, the agent's own: "
        + ", ".join(f"{kind} {unit}" for kind, unit in CANONICAL_UNIT.items())
        + ".",
    ),
]
RateHz = Annotated[
    float | None,
    Field(
        ge=0.1,
        le=MAX_RATE_HZ,
        title="Sampling rate",
        description="Nominal samples a second. Leave out for single readings and give interval_s.",
    ),
]
IntervalS = Annotated[
    float | None,
    Field(
        gt=0,
        le=86400,
        title="Seconds between readings",
        description="Expected spacing of single readings (a glucose sensor: 300). Silence is judged against it.",
    ),
]
Columns = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=32)]] | None,
    Field(
        min_length=1,
        max_length=MAX_CHANNELS,
        title="Columns",
        description='Names of the columns, such as ECG leads ["MLII", "V1"]. Without it: one column, unnamed.',
    ),
]


class MqttSourceTable(Table):
    """A stream that a sensor publishes to `vagus/v1/in/<device>/<channel>`."""

    type: Literal["mqtt"] = Field(title="Kind of source", description=_KINDS_OF_SOURCE)
    device: Slug = Field(title="Device", description="The sensor's own id: the topic level before the last.")
    channel: Slug = Field(title="Channel", description="The stream within the device: the last topic level.")
    kind: StreamKind
    unit: Unit = None
    rate_hz: RateHz = None
    interval_s: IntervalS = None
    channels: Columns = None
    format: Format = Field(
        "auto",
        title="Payload format",
        description='"auto" goes by the message\'s content type, then by its first bytes. '
        "Sensors on MQTT 3.1.1 send no content type: name the format for those.",
    )
    sensor_started: datetime | None = Field(
        None,
        title="Sensor put in",
        description="Of a glucose sensor: date and time at which it was put in, such as 2026-01-31T08:00:00Z; "
        "without an offset, in the agent's time zone.",
    )
    warm_up_min: float | None = Field(
        None,
        ge=0,
        le=1440,
        title="Warm-up",
        description="Of a glucose sensor: minutes after sensor_started for which its readings are in doubt.",
    )
    lifetime_days: float | None = Field(
        None,
        ge=0.5,
        le=400,
        title="Lifetime",
        description="Of a glucose sensor: days after sensor_started from which on its readings are in doubt.",
    )


class NightscoutSourceTable(Table):
    """Glucose fetched from a Nightscout site, or from the web service of xDrip or Juggluco on a phone."""

    type: Literal["nightscout"] = Field(title="Kind of source", description=_KINDS_OF_SOURCE)
    url: Annotated[str, AfterValidator(web_address)] = Field(
        title="Address",
        description="Of the site, such as `https://my-site.example`, or of its entries where it has only those, "
        "such as `http://192.168.1.20:17580/sgv.json`. A redirection is not followed.",
    )
    device: Slug = Field("nightscout", title="Device", description="What its readings are called in status and alerts.")
    channel: Slug = Field("glucose", title="Channel", description="The stream within the device.")
    interval_s: float = Field(
        300.0,
        gt=0,
        le=3600,
        title="Seconds between readings",
        description="The sensor's own spacing (300; 900 for some; 60 for others). Silence is judged against it.",
    )
    secret_file: FileName | None = Field(
        None,
        title="File with the API secret",
        description="File whose first line is the site's API secret. It is sent as its SHA-1, as Nightscout wants it.",
    )
    token_file: FileName | None = Field(
        None,
        title="File with an access token",
        description="File whose first line is a token with the right to read, instead of the secret.",
    )
    poll_s: float = Field(
        30.0, ge=5, le=600, title="Ask every", description="Seconds from one question to the next; more after failures."
    )


class BleSourceTable(Table):
    """A wearable that the agent itself keeps in touch with over Bluetooth LE; `vagus scan` writes this for you."""

    type: Literal["ble"] = Field(title="Kind of source", description=_KINDS_OF_SOURCE)
    profile: str = Field(
        min_length=1,
        max_length=64,
        title="What it is",
        description='The kind of device, such as "polar-h10"; all of them: docs/devices.md.',
    )
    address: Annotated[str, AfterValidator(_bluetooth_address)] | None = Field(
        None,
        title="Address",
        description="Its Bluetooth address, such as `A0:9E:1A:12:34:56`. This or `name` is required.",
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=248,
        title="Name",
        description="The name it advertises, for a device whose address changes. With both, the address counts.",
    )
    device: Slug | None = Field(
        None,
        title="Device",
        description="What it is called in status and alerts, unique among all devices. Without it: as `profile`.",
    )
    streams: list[str] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHANNELS,
        title="Streams",
        description='Which of the streams that it offers are taken, such as ["ecg", "hr"]. Without it: its usual ones.',
    )
    adapter: Annotated[str, AfterValidator(_adapter)] | None = Field(
        None, title="Adapter", description='The adapter that reaches it, such as "hci1". Without it: the first one.'
    )
    pair_min: float = Field(
        10.0,
        ge=0,
        le=60,
        title="Pairing allowed for",
        description="Minutes after the agent's start in which a device that has to be paired may be; 0: never. "
        "After that only what is paired already is spoken with.",
    )
    passkey_file: FileName | None = Field(
        None,
        title="File with the passkey",
        description="File whose first line is the 6-digit passkey printed on the device, for one that asks for it.",
    )
    options: dict[str, str | int | float | bool] | None = Field(
        None, title="Options", description="What else its kind may be told; each is described in docs/devices.md."
    )


class SerialSourceTable(Table):
    """A stream of a device with our own firmware on a serial line or USB; see docs/serial.md. One table a stream."""

    type: Literal["serial"] = Field(title="Kind of source", description=_KINDS_OF_SOURCE)
    port: Annotated[str, AfterValidator(_port)] = Field(
        title="Port",
        description="The device file. `/dev/serial/by-id/…` stays the same when other devices are plugged in; "
        "it may have * and ? in it, as long as one port fits.",
    )
    baud: int = Field(
        115200,
        ge=1200,
        le=921_600,
        title="Bits a second",
        description="As the firmware has it; USB devices that are a serial port themselves do not mind.",
    )
    stream: int = Field(0, ge=0, le=255, title="Stream", description="The device's own number for the stream.")
    device: Slug = Field("serial", title="Device", description="What it is called in status and alerts.")
    channel: Slug | None = Field(
        None, title="Channel", description="What the stream is called within the device. Without it: as `kind`."
    )
    kind: StreamKind
    unit: Unit = None
    rate_hz: RateHz = None
    interval_s: IntervalS = None
    channels: Columns = None


class WfdbSourceTable(Table):
    """A WFDB recording (PhysioNet's format) played as if it were live."""

    type: Literal["wfdb"] = Field(title="Kind of source", description=_KINDS_OF_SOURCE)
    path: FileName = Field(
        title="Record", description="Path of the record without extension: the .hea file must be beside it."
    )
    speed: float = Field(
        1.0,
        ge=0,
        le=100_000,
        title="Speed",
        description="1 for real time, 10 for ten times as fast, 0 for as fast as the machine can.",
    )


SOURCES: dict[str, type[Table]] = {
    "ble": BleSourceTable,
    "mqtt": MqttSourceTable,
    "nightscout": NightscoutSourceTable,
    "serial": SerialSourceTable,
    "wfdb": WfdbSourceTable,
}
"""Tables of [[patient.source]] by their `type`."""
