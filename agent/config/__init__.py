"""The config: a TOML file in, frozen dataclasses out, or every fault in it at once with line and key."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agent.alarms.alert import Priority
from agent.alarms.attention import Manners
from agent.alarms.glucose_settings import GlucoseSettings
from agent.alarms.limits import Limits
from agent.alarms.local_time import UTC, LocalTime
from agent.config.ble import BleConfig
from agent.config.faults import ConfigError, Fault, did_you_mean, shown, unknown_key
from agent.config.limits import read_limits
from agent.config.lines import Path as KeyPath
from agent.config.reader import TableReader, parse_toml
from agent.config.schema import (
    AgentTable,
    AlarmsTable,
    Format,
    HistoryTable,
    MqttTable,
    OutboxTable,
    PatientTable,
    PowerTable,
    RecorderTable,
)
from agent.config.serial import SerialConfig
from agent.config.sources import MqttSource, NightscoutConfig, SourceConfig, SourceReader, WfdbSource
from agent.config.update import UpdateConfig, read_update
from agent.config.uplink import HomeAssistantConfig, WebhookConfig, read_home_assistant, read_webhook
from agent.config.web import WebConfig, read_web
from agent.time_zone import TimeZoneError, known_zones, local_time
from agent.tls import TlsFileError, client_context
from firmware_bridge.chunk import Stream

__all__ = [
    "AgentConfig",
    "BleConfig",
    "Config",
    "ConfigError",
    "Fault",
    "Format",
    "HistoryConfig",
    "HomeAssistantConfig",
    "Limits",
    "MqttConfig",
    "MqttSource",
    "NightscoutConfig",
    "OutboxConfig",
    "PatientConfig",
    "PowerConfig",
    "RecorderConfig",
    "SerialConfig",
    "UpdateConfig",
    "WebhookConfig",
    "WfdbSource",
    "check_command",
    "default_state_dir",
    "load_config",
    "parse_config",
    "streams",
]

PASSWORD_VARIABLE = "VAGUS_MQTT_PASSWORD"  # noqa: S105 - the name of a variable
_TLS_FILES = ("ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """[agent]"""

    id: str
    state_dir: Path
    time: Literal["wall", "stream"] = "wall"
    mains_hz: Literal[0, 50, 60] = 50
    late_after_s: float = 30.0
    runtime: str = "auto"
    log: Literal["text", "json"] = "text"
    timezone: str = "UTC"
    workers: int | Literal["auto"] = 1


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """[mqtt]"""

    client_id: str
    host: str = "localhost"
    port: int = 1883
    tls: bool = False
    username: str | None = None
    password: str | None = None
    password_file: Path | None = None
    """Where `password` came from, if from a file."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """A fresh TLS context, None without TLS; raises TlsFileError or OSError if files changed since the start."""
        return client_context(self.ca_file, self.cert_file, self.key_file) if self.tls else None

    def __repr__(self) -> str:
        return f"MqttConfig({self.client_id!r}, {self.host!r}, {self.port}, tls={self.tls}, username={self.username!r})"


@dataclass(frozen=True, slots=True)
class PatientConfig:
    """[[patient]]"""

    id: str
    sources: tuple[SourceConfig, ...] = ()
    limits: Limits = field(default_factory=Limits)
    glucose: GlucoseSettings = field(default_factory=GlucoseSettings)
    alarms_per_day: float = 24.0
    context_file: Path | None = None


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """[outbox]"""

    max_mb: int = 256


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """[history]"""

    days: int = 90
    max_mb: int = 1024


@dataclass(frozen=True, slots=True)
class PowerConfig:
    """[power]"""

    enabled: bool = True
    warm_c: float = 75.0
    hot_c: float = 82.0


@dataclass(frozen=True, slots=True)
class RecorderConfig:
    """[recorder]"""

    enabled: bool = True
    days: int = 7
    max_mb: int = 1024


@dataclass(frozen=True, slots=True)
class Config:
    """A config that can be run."""

    agent: AgentConfig
    mqtt: MqttConfig
    patients: tuple[PatientConfig, ...]
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    home_assistant: HomeAssistantConfig = field(default_factory=HomeAssistantConfig)
    manners: Manners = field(default_factory=Manners)
    """[alarms]"""
    webhook: WebhookConfig | None = None
    web: WebConfig | None = None
    recorder: RecorderConfig = field(default_factory=RecorderConfig)
    power: PowerConfig = field(default_factory=PowerConfig)
    update: UpdateConfig | None = None


TABLES = (
    *("agent", "mqtt", "patient", "alarms", "outbox", "history", "recorder", "power"),
    *("home_assistant", "webhook", "web", "update"),
)
"""What may stand at the top of a config."""
MAX_BYTES = 8 << 20
"""Of a config: ten thousand people have room."""


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The config in the file at `path`, relative file names taken from its folder.

    Raises ConfigError with every fault found. The only error: a file that cannot be read is a fault too.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ConfigError([Fault(str(path), 1, "", f"is larger than {MAX_BYTES >> 20} MB: is this a config?")])
        return parse_config(text, path, environ)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise ConfigError([Fault(str(path), 1, "", f"cannot be read: {reason}")]) from error


def parse_config(text: str | bytes, path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The config in `text`, which stands (or could stand) in the file `path`; raises ConfigError with every fault."""
    data, lines = parse_toml(text, str(path))
    return _Reader(TableReader(path, lines), environ).config(data)


def streams(config: Config) -> dict[tuple[str, str], tuple[Stream, Format]]:
    """Every stream whose payloads are decoded, with their format, by (device, channel)."""
    found: dict[tuple[str, str], tuple[Stream, Format]] = {}
    for source in (source for patient in config.patients for source in patient.sources):
        if isinstance(source, WfdbSource):
            continue
        for stream in source.streams if isinstance(source, BleConfig) else (source.stream,):
            found[stream.device, stream.channel] = (stream, source.format)
    return found


def default_state_dir(environ: Mapping[str, str] = os.environ) -> str:
    """Where state is kept without `state_dir`: the folder systemd gives, else one in the home folder (with its ~)."""
    return environ.get("STATE_DIRECTORY", "").split(":")[0] or "~/.local/state/vagus"


def check_command(args: argparse.Namespace) -> int:
    """`vagus check CONFIG [--json]`: says every fault of `args.config`; 0 when there is none, else 2."""
    try:
        config = load_config(Path(args.config))
    except ConfigError as error:
        if args.json:
            sys.stdout.write(json.dumps({"ok": False, "faults": [asdict(fault) for fault in error.faults]}) + "\n")
        else:
            sys.stdout.write("".join(f"{fault}\n" for fault in error.faults))
        return 2
    summary = {"ok": True, "agent": config.agent.id, "patients": len(config.patients), "streams": len(streams(config))}
    if args.json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        counts = f"{summary['patients']} patient(s), {summary['streams']} stream(s)"
        sys.stdout.write(f"{args.config}: good: agent {config.agent.id}, {counts}\n")
    return 0


def _manners(table: AlarmsTable) -> Manners:
    deadlines = {Priority.HIGH: table.escalate_high_s, Priority.MEDIUM: table.escalate_medium_s}
    return Manners(
        escalate_after_s={priority: after_s for priority, after_s in deadlines.items() if after_s},
        latched=frozenset({Priority.HIGH} if table.latch_high else ()),
    )


class _Reader:
    """One pass from parsed TOML to Config."""

    def __init__(self, read: TableReader, environ: Mapping[str, str]) -> None:
        self._read = read
        self._environ = environ
        self._local = UTC

    def config(self, data: dict[str, Any]) -> Config:
        for key in data:
            if key not in TABLES:
                self._read.fault((key,), *unknown_key(key, TABLES))
        agent = self._agent(data)
        self._local = self._zone(agent.timezone if agent else "UTC")
        mqtt = self._mqtt(data, agent.id if agent else "")
        patients = self._patients(data)
        alarms = self._read.table(AlarmsTable, data.get("alarms", {}), ("alarms",))
        outbox = self._read.table(OutboxTable, data.get("outbox", {}), ("outbox",))
        history = self._read.table(HistoryTable, data.get("history", {}), ("history",))
        home_assistant, webhook = HomeAssistantConfig(), None
        if "home_assistant" in data:
            home_assistant = read_home_assistant(self._read, data["home_assistant"])
        if "webhook" in data:
            webhook = read_webhook(self._read, data["webhook"])
        web = read_web(self._read, data["web"]) if "web" in data else None
        update = read_update(self._read, data["update"]) if "update" in data else None
        recorder, power = self._recorder(data), self._power(data)
        if self._read.faults or not (agent and mqtt and alarms and outbox and history):
            raise ConfigError(self._read.faults)
        kept = HistoryConfig(history.days, history.max_mb)
        manners = _manners(alarms)
        room = OutboxConfig(outbox.max_mb)
        return Config(agent, mqtt, patients, room, kept, home_assistant, manners, webhook, web, recorder, power, update)

    def _recorder(self, data: dict[str, Any]) -> RecorderConfig:
        table = self._read.table(RecorderTable, data.get("recorder", {}), ("recorder",))
        return RecorderConfig(table.enabled, table.days, table.max_mb) if table is not None else RecorderConfig()

    def _power(self, data: dict[str, Any]) -> PowerConfig:
        table = self._read.table(PowerTable, data.get("power", {}), ("power",))
        if table is None:
            return PowerConfig()
        if table.warm_c >= table.hot_c:
            self._read.fault(("power", "hot_c"), f"must be above warm_c, which is {table.warm_c:g}")
        return PowerConfig(table.enabled, table.warm_c, table.hot_c)

    def _agent(self, data: dict[str, Any]) -> AgentConfig | None:
        if "agent" not in data:
            self._read.fault(("agent",), "is required", 'write [agent] and, under it, id = "a-name"')
            return None
        table = self._read.table(AgentTable, data["agent"], ("agent",))
        if table is None:
            return None
        written = table.state_dir or default_state_dir(self._environ)
        state_dir = self._read.path(written, ("agent", "state_dir"))
        if state_dir is None:
            return None
        return AgentConfig(
            table.id,
            state_dir,
            table.time,
            table.mains_hz,
            table.late_after_s,
            table.runtime,
            table.log,
            table.timezone,
            table.workers,
        )

    def _zone(self, name: str) -> LocalTime:
        try:
            return local_time(name)
        except TimeZoneError as error:
            suggestion = error.suggestion or did_you_mean(name, known_zones())
            self._read.fault(("agent", "timezone"), f"{shown(name)} {error}", suggestion)
            return UTC

    def _mqtt(self, data: dict[str, Any], agent_id: str) -> MqttConfig | None:
        table = self._read.table(MqttTable, data.get("mqtt", {}), ("mqtt",))
        if table is None:
            return None
        files = {
            key: self._read.readable(getattr(table, key), ("mqtt", key)) for key in ("ca_file", "cert_file", "key_file")
        }
        password_file = self._read.readable(table.password_file, ("mqtt", "password_file"))
        password = self._password(table, password_file)
        if table.key_file and not table.cert_file:
            self._read.fault(("mqtt", "key_file"), "is given without cert_file", "a key alone proves nothing")
        try:
            if any(files.values()):
                client_context(**files)
        except TlsFileError as error:
            self._read.fault(("mqtt", error.key), error.message)
        by_files = bool(table.ca_file or table.cert_file)
        if table.tls is False and by_files:
            self._read.fault(("mqtt", "tls"), "is false, yet certificates are given", "remove tls or the certificates")
        tls = by_files if table.tls is None else table.tls
        return MqttConfig(
            client_id=table.client_id or f"vagus-{agent_id}",
            host=table.host,
            port=table.port or (8883 if tls else 1883),
            tls=tls,
            username=table.username,
            password=password,
            password_file=password_file,
            **files,
        )

    def _password(self, table: MqttTable, file: Path | None) -> str | None:
        path = ("mqtt", "password_file")
        if file is None:
            password = self._environ.get(PASSWORD_VARIABLE) if table.password_file is None else None
            return password if table.username else None
        if not table.username:
            self._read.fault(path, "is given without username", "MQTT knows a password only with a user name")
        return self._read.first_line(file, path, "password")

    def _patients(self, data: dict[str, Any]) -> tuple[PatientConfig, ...]:
        raw = data.get("patient", [])
        if not raw:
            self._read.fault(
                ("patient",), "nobody to watch over", "add a [[patient]] with an id and a [[patient.source]]"
            )
            return ()
        patients: list[PatientConfig] = []
        seen: dict[str, KeyPath] = {}
        reader = SourceReader(self._read, self._local)
        for path, item in self._read.tables(raw, ("patient",), "patient"):
            own = {key: value for key, value in item.items() if key not in ("source", "limit")}
            table = self._read.table(PatientTable, own, path)
            if table is not None and table.id in seen:
                first = self._read.line((*seen[table.id], "id"))
                self._read.fault((*path, "id"), f'patient "{table.id}" is already on line {first}', "ids must differ")
            elif table is not None:
                seen[table.id] = path
            sources = reader.sources(item, path, table.id if table else "")
            limits = read_limits(self._read, item.get("limit", []), (*path, "limit"), self._local)
            if table is not None:
                glucose = _glucose_settings(table, sources)
                file = self._read.path(table.context_file, (*path, "context_file")) if table.context_file else None
                patients.append(PatientConfig(table.id, sources, limits, glucose, table.alarms_per_day, file))
        return tuple(patients)


def _glucose_settings(table: PatientTable, sources: Sequence[SourceConfig]) -> GlucoseSettings:
    sensors = tuple(source.sensor for source in sources if isinstance(source, MqttSource) and source.sensor)
    return GlucoseSettings(table.low_alerts_per_day, table.urgent_low_alerts_per_day, table.personal, sensors)
