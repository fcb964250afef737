"""How it stands with a wearable that the agent itself keeps in touch with, over Bluetooth or a cable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

DeviceState = Literal["connected", "connecting", "searching", "refused", "stopped"]


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One wearable, at this moment."""

    patient: str
    device: str
    state: DeviceState
    """It sends; it is being reached; it is not to be found; it was reached and will not; its source does not run."""
    words: str
    """What that means here, for a person: why it was refused, since when it is not found."""
    model: str = ""
    """Maker, model and firmware, as the device has them."""
    rssi_dbm: int | None = None
    """How strongly it was last heard."""
    battery_percent: int | None = None
    trouble: str = ""
    """What somebody has to see to: a bond to be renewed, a battery to be changed, a broken sensor; empty: nothing."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was out of the ordinary since the start, by what it was: connections, dropped, malformed, …"""


class DeviceSource(Protocol):
    """A source that keeps in touch with wearables. Both may be called at any time, on the event loop."""

    def devices(self) -> Sequence[DeviceStatus]:
        """Every one that the configuration names."""

    def troubles(self) -> Mapping[str, str]:
        """Alarms on the agent that are true now, by rule, with their texts: "bluetooth", "serial_port"."""

    def counters(self) -> Mapping[str, int]:
        """Gauges and counts of the source as a whole, for the status, by names that no other source has."""
