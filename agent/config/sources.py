"""Where a person's data comes from, as the config says it: [[patient.source]]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.alarms.glucose_settings import SensorLife
from agent.alarms.local_time import LocalTime
from agent.config.ble import BleConfig, read_ble
from agent.config.faults import shown
from agent.config.lines import Path as KeyPath
from agent.config.reader import TableReader
from agent.config.schema import Format
from agent.config.serial import PortReader, SerialConfig
from agent.config.source_schema import (
    SOURCES,
    BleSourceTable,
    MqttSourceTable,
    NightscoutSourceTable,
    SerialSourceTable,
    WfdbSourceTable,
)
from agent.config.stream import read_stream
from agent.time_zone import instant_ns
from firmware_bridge.chunk import CANONICAL_UNIT, Stream

_SENSOR_KEYS = ("warm_up_min", "lifetime_days", "sensor_started")


@dataclass(frozen=True, slots=True)
class MqttSource:
    """[[patient.source]] type = "mqtt". `stream.unit` is canonical; a configured one that differs is in `sent_unit`."""

    stream: Stream
    format: Format = "auto"
    sensor: SensorLife | None = None
    """Of a glucose sensor."""


@dataclass(frozen=True, slots=True)
class WfdbSource:
    """[[patient.source]] type = "wfdb"."""

    path: Path
    """The record without extension."""
    speed: float = 1.0
    """1 is real time; 0 as fast as it goes."""


@dataclass(frozen=True, slots=True, repr=False)
class NightscoutConfig:
    """[[patient.source]] type = "nightscout"."""

    stream: Stream
    url: str
    secret: str | None = None
    token: str | None = None
    poll_s: float = 30.0
    format: Literal["nightscout"] = "nightscout"

    def __repr__(self) -> str:
        return f"NightscoutConfig({self.stream.key!r}, {self.url!r})"


SourceConfig = MqttSource | NightscoutConfig | WfdbSource | BleConfig | SerialConfig


class SourceReader:
    """All [[patient.source]] tables of a config: no two may claim the same device and channel."""

    def __init__(self, read: TableReader, local: LocalTime) -> None:
        self._read = read
        self._local = local
        self._taken: dict[tuple[str, str], KeyPath] = {}
        self._radios: dict[tuple[str, str], KeyPath] = {}
        self._ports = PortReader(read)

    def sources(self, patient: dict[str, Any], path: KeyPath, patient_id: str) -> tuple[SourceConfig, ...]:
        """Those of one [[patient]] table that have no fault."""
        raw = patient.get("source", [])
        if not raw:
            self._read.fault((*path, "source"), "nothing to listen to", "add a [[patient.source]] below this patient")
            return ()
        sources: list[SourceConfig | None] = []
        for place, item in self._read.tables(raw, (*path, "source"), "patient.source"):
            table = self._read.variant(SOURCES, "type", item, place)
            if isinstance(table, MqttSourceTable):
                sources.append(self._mqtt_source(table, place, patient_id))
                self._claim((table.device, table.channel), place)
            elif isinstance(table, NightscoutSourceTable):
                sources.append(self._nightscout(table, place, patient_id))
                self._claim((table.device, table.channel), place)
            elif isinstance(table, BleSourceTable):
                sources.append(self._ble(table, place, patient_id))
            elif isinstance(table, SerialSourceTable):
                sources.append(self._ports.source(table, place, patient_id))
                self._claim((table.device, table.channel or table.kind), place)
            elif isinstance(table, WfdbSourceTable):
                sources.append(self._wfdb_source(table, place))
        return tuple(source for source in sources if source is not None)

    def _claim(self, topic: tuple[str, str], path: KeyPath) -> None:
        if topic in self._taken:
            first = self._read.line((*self._taken[topic], "device"))
            message = f'device "{topic[0]}", channel "{topic[1]}" is already the source on line {first}'
            self._read.fault((*path, "device"), message, "one topic belongs to one patient, once")
        else:
            self._taken[topic] = path

    def _mqtt_source(self, table: MqttSourceTable, path: KeyPath, patient_id: str) -> MqttSource | None:
        noted = len(self._read.faults)
        stream = read_stream(self._read, table, table.channel, path, patient_id)
        if table.format == "nightscout" and table.kind != "cgm":
            self._read.fault(
                (*path, "format"), '"nightscout" carries glucose only', 'set kind = "cgm" or another format'
            )
        sensor = self._sensor(table, path)
        if stream is None or len(self._read.faults) > noted:
            return None
        return MqttSource(stream, table.format, sensor)

    def _sensor(self, table: MqttSourceTable, path: KeyPath) -> SensorLife | None:
        """What is said of a glucose sensor's life; a fault where it is said of another stream, or since when is not."""
        written = [key for key in _SENSOR_KEYS if getattr(table, key) is not None]
        if table.kind != "cgm":
            for key in written:
                self._read.fault(
                    (*path, key), f"is about glucose sensors, and this is {shown(table.kind)}", "remove it"
                )
            return None
        if table.sensor_started is None:
            for key in written:
                self._read.fault((*path, key), "counts from sensor_started, which is not given", "add sensor_started")
            return SensorLife(table.device, table.channel)
        try:
            started_ns = instant_ns(table.sensor_started, self._local)
        except ValueError as error:
            self._read.fault((*path, "sensor_started"), str(error), "write when this very sensor was put in")
            return None
        return SensorLife(table.device, table.channel, started_ns, table.warm_up_min or 0.0, table.lifetime_days)

    def _nightscout(self, table: NightscoutSourceTable, path: KeyPath, patient_id: str) -> NightscoutConfig | None:
        noted = len(self._read.faults)
        secret, token = (self._secret(getattr(table, key), (*path, key)) for key in ("secret_file", "token_file"))
        if secret and token:
            self._read.fault((*path, "token_file"), "stands beside secret_file", "one is enough: keep the token")
        if len(self._read.faults) > noted:
            return None
        stream = Stream(
            patient_id, table.device, table.channel, "cgm", CANONICAL_UNIT["cgm"], 0.0, interval_s=table.interval_s
        )
        return NightscoutConfig(stream, table.url, secret, token, table.poll_s)

    def _ble(self, table: BleSourceTable, path: KeyPath, patient_id: str) -> BleConfig | None:
        wearable = read_ble(self._read, table, path, patient_id)
        for stream in wearable.streams if wearable is not None else ():
            self._claim((stream.device, stream.channel), path)
        if wearable is not None:
            self._claim_radio(wearable, path)
        return wearable

    def _claim_radio(self, wearable: BleConfig, path: KeyPath) -> None:
        """One wearable is worn by one person: two connections to it would throw each other out."""
        key = "address" if wearable.address else "name"
        known_by = (key, wearable.address or wearable.name)
        if known_by in self._radios:
            first = self._read.line((*self._radios[known_by], key))
            message = f'the device with {key} "{known_by[1]}" is already the source on line {first}'
            self._read.fault((*path, key), message, "one device belongs to one patient, once")
        else:
            self._radios[known_by] = path

    def _secret(self, name: str | None, path: KeyPath) -> str | None:
        file = self._read.readable(name, path)
        return None if file is None else self._read.first_line(file, path, "secret")

    def _wfdb_source(self, table: WfdbSourceTable, path: KeyPath) -> WfdbSource | None:
        record = table.path.removesuffix(".hea").removesuffix(".dat")
        header = self._read.readable(f"{record}.hea", (*path, "path"))
        return WfdbSource(header.with_suffix(""), table.speed) if header is not None else None
