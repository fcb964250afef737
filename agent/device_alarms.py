"""What is wrong with wearables and with the radio or cable they come by, as alarms that stand until it is mended."""

from __future__ import annotations

from collections.abc import Iterable

from agent.ingest.device_status import DeviceSource, DeviceStatus
from agent.standing import Standing

LOW_BATTERY_PERCENT = 15
FULL_AGAIN_PERCENT = 20
"""A level that wavers at the limit is one alarm."""


class DeviceAlarms:
    """Those of all sources of one agent."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._low: set[tuple[str, str]] = set()

    def wanted(self, sources: Iterable[DeviceSource]) -> dict[Standing, str]:
        """What is on now, with its text."""
        alarms: dict[Standing, str] = {}
        for source in sources:
            alarms |= {(self._agent, rule): text for rule, text in source.troubles().items()}
            for status in source.devices():
                if status.trouble:
                    alarms[status.patient, f"device_trouble:{status.device}"] = f"{status.device}: {status.trouble}"
                if self._is_low(status):
                    text = f"{status.device}: its battery is low ({LOW_BATTERY_PERCENT} % or less)"
                    alarms[status.patient, f"device_battery:{status.device}"] = text
        return alarms

    def _is_low(self, status: DeviceStatus) -> bool:
        """The last level known counts: a device that is gone may be so because its battery is empty."""
        key, percent = (status.patient, status.device), status.battery_percent
        if percent is not None and percent <= LOW_BATTERY_PERCENT:
            self._low.add(key)
        elif percent is not None and percent >= FULL_AGAIN_PERCENT:
            self._low.discard(key)
        return key in self._low
