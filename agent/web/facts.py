"""What a scrape shows of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.ingest.device_status import DeviceStatus
from agent.live_models import PackState
from agent.patient import PatientState
from agent.uplink.messages import StatusMessage


@dataclass(frozen=True, slots=True)
class Facts:
    """What a scrape shows, read on the worker's thread at one moment."""

    status: StatusMessage
    patients: tuple[PatientState, ...] = ()
    devices: tuple[DeviceStatus, ...] = ()
    packs: tuple[PackState, ...] = ()
    shed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(what, why) → how many."""
    rejected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Device → reason → messages that could not be read."""
    connected: Mapping[str, bool] = field(default_factory=dict)
    """Which connection to the broker → whether it stands."""
