"""Who watches whom: the same answer in every process and at every start, and few move when a worker is added."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.config import BleConfig, Config, MqttSource, NightscoutConfig, PatientConfig, SerialConfig, WfdbSource
from agent.uplink.topics import INPUT_FILTER, Topics, input_topic
from agent.workers.places import worker_folder

PATIENTS_A_WORKER = 100
"""With workers = "auto" no more processes than one for so many: each costs 150 MB and a start."""
MOST_WORKERS = 10
"""As the config's schema has it: SQLite reads no more histories at once."""
LOCAL_OWNER = 0
"""Radios, cables and recordings of this machine have one owner, and with them whoever wears what comes by them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the patients are shared out."""

    workers: int = 1
    local: frozenset[str] = frozenset()
    """Patients with a source of this machine."""
    made_s: int = 0
    """When it came to be, in seconds: sessions at the broker of one layout are not those of another."""

    def owner(self, patient: str) -> int:
        """The worker of anybody, also of who is not in the config any more. Rendezvous hashing."""
        if self.workers == 1 or patient in self.local:
            return LOCAL_OWNER
        return max(range(self.workers), key=lambda worker: _weight(worker, patient))

    def folder(self, state_dir: Path, patient: str) -> Path:
        """Where the state of anybody is kept."""
        return state_dir if self.workers == 1 else worker_folder(state_dir, self.owner(patient))

    def session(self, client_id: str, worker: int) -> str:
        """Client id under which a worker hears sensors and commands: the broker keeps for it what it has not heard."""
        return f"{client_id}-in" if self.workers == 1 else f"{client_id}-in-{self.made_s:x}-w{worker}"

    def as_json(self) -> dict[str, object]:
        return {"workers": self.workers, "local": sorted(self.local), "made_s": self.made_s}

    @classmethod
    def from_json(cls, kept: dict[str, object]) -> Layout:
        """Raises KeyError, TypeError or ValueError where that is none."""
        workers, local, made_s = kept["workers"], kept["local"], kept["made_s"]
        if not (isinstance(workers, int) and isinstance(local, list) and isinstance(made_s, int) and workers > 0):
            raise ValueError("is no layout")
        return cls(workers, frozenset(str(one) for one in local), made_s)


def wanted_layout(config: Config, now_s: int, cores: int | None = None) -> Layout:
    """What the config asks for. `cores`: those of this process, unless said otherwise."""
    asked = config.agent.workers
    at_most = min(cores or len(os.sched_getaffinity(0)), MOST_WORKERS)
    workers = max(1, min(at_most, -(-len(config.patients) // PATIENTS_A_WORKER))) if asked == "auto" else asked
    if workers == 1:
        return Layout()
    return Layout(workers, frozenset(one.id for one in config.patients if _is_local(one)), now_s)


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does of an agent."""

    config: Config
    """With the patients that are this process's, and its part of the room on the disk."""
    topics: Topics
    folder: Path
    """Where it keeps its state; models and the keys of radios are in the config's `state_dir`."""
    uplink_id: str
    session: str
    """Client ids of its connections."""
    filters: tuple[str, ...]
    """Topics of its sensors."""
    everybody: Config | None
    """The whole config, for what one process says for all: the devices of Home Assistant."""
    notes: tuple[str, ...] = ()
    """Why things are not as the config asks for, for the status."""

    def is_asked(self, payload: bytes) -> bool:
        """Whether a command is for this process: the alarms of one patient are one worker's."""
        if self.topics.worker is None:
            return True
        return asked_of(payload) in {*(patient.id for patient in self.config.patients), self.topics.itself}


def whole(config: Config, notes: tuple[str, ...] = ()) -> Share:
    """The share of the only process there is."""
    hears_mqtt = any(isinstance(source, MqttSource) for patient in config.patients for source in patient.sources)
    client_id, filters = config.mqtt.client_id, (INPUT_FILTER,) if hears_mqtt else ()
    topics = Topics(config.agent.id)
    session = Layout().session(client_id, LOCAL_OWNER)
    return Share(config, topics, config.agent.state_dir, client_id, session, filters, config, notes)


def share_of(config: Config, layout: Layout, worker: int) -> Share:
    """A worker's."""
    if layout.workers == 1:
        return whole(config)
    own = tuple(patient for patient in config.patients if layout.owner(patient.id) == worker)
    return Share(
        config=_with_own_pages(_with_part_of_the_room(replace(config, patients=own), layout.workers), worker),
        topics=Topics(config.agent.id, worker),
        folder=worker_folder(config.agent.state_dir, worker),
        uplink_id=f"{config.mqtt.client_id}-w{worker}",
        session=layout.session(config.mqtt.client_id, worker),
        filters=tuple(
            input_topic(source.stream.device, source.stream.channel)
            for patient in own
            for source in patient.sources
            if isinstance(source, MqttSource)
        ),
        everybody=config if worker == LOCAL_OWNER else None,
    )


def asked_of(payload: bytes) -> str | None:
    """Whom a command names; None where that cannot be read."""
    try:
        asked = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    named = asked.get("patient") if isinstance(asked, dict) else None
    return named if isinstance(named, str) else None


def names(patients: Iterable[str], at_most: int = 20) -> str:
    """Some patients in words, and how many more there are."""
    known = list(patients)
    more = len(known) - at_most
    return ", ".join(known[:at_most]) + (f" and {more} more" if more > 0 else "")


def _weight(worker: int, patient: str) -> bytes:
    return hashlib.blake2s(f"{worker}\x1f{patient}".encode(), digest_size=8).digest()


def _is_local(patient: PatientConfig) -> bool:
    return any(isinstance(one, BleConfig | SerialConfig | NightscoutConfig | WfdbSource) for one in patient.sources)


def _with_own_pages(config: Config, worker: int) -> Config:
    """Each worker has its `/metrics` and `/healthz` at a port of its own: the first at the config's, and so on up."""
    return config if config.web is None else replace(config, web=replace(config.web, port=config.web.port + worker))


def _with_part_of_the_room(config: Config, workers: int) -> Config:
    """What is bounded on the disk is bounded for the agent: each worker has its part."""
    webhook = config.webhook
    return replace(
        config,
        outbox=replace(config.outbox, max_mb=max(1, config.outbox.max_mb // workers)),
        history=replace(config.history, max_mb=max(16, config.history.max_mb // workers)),
        recorder=replace(config.recorder, max_mb=max(1, config.recorder.max_mb // workers)),
        webhook=webhook and replace(webhook, max_mb=max(1, webhook.max_mb // workers)),
    )
