"""Devices that send what nobody can read: what they may cost is bounded, each for itself.

A payload that cannot be read costs its device a token; tokens come back one a second. Without any, the device is muted
for a while: all it sends is dropped before it is parsed, and an alarm says so. Then it is heard again, of itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.ingest.device_status import DeviceStatus
from agent.shed import Shed
from firmware_bridge.chunk import Stream

log = logging.getLogger(__name__)

TOKENS = 50.0
"""So many unreadable payloads in a row are read one by one."""
TOKENS_A_S = 1.0
WELL_AGAIN = 40.0
"""A device that was muted is in order again with so many tokens: what comes and goes is one alarm."""
MUTED_S = 30.0


@dataclass(slots=True)
class _Device:
    tokens: float
    at_s: float
    muted_until_s: float = 0.0
    in_trouble: bool = False
    dropped: int = 0


class Babble:
    """Of all configured devices of a source; a `DeviceSource` of those that are in trouble."""

    def __init__(
        self, streams: Iterable[Stream], *, shed: Shed | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`streams`: those that are configured. Others cost a look into a table and are not bounded here."""
        self._patients: dict[str, list[str]] = {}
        """By device, who wears it."""
        for stream in streams:
            wearers = self._patients.setdefault(stream.device, [])
            if stream.patient not in wearers:
                wearers.append(stream.patient)
        self._shed, self._clock_s = shed or Shed(), clock_s
        self._devices: dict[str, _Device] = {}

    def mutes(self, device: str) -> bool:
        """Whether what a device has sent now is to be dropped unread; if so it is counted as that."""
        known = self._devices.get(device)
        if known is None or self._clock_s() >= known.muted_until_s:
            return False
        known.dropped += 1
        self._shed.note("input", "garbage")
        return True

    def unreadable(self, device: str) -> None:
        """A payload of a device could not be read."""
        if device not in self._patients:
            return
        now_s = self._clock_s()
        known = self._devices.setdefault(device, _Device(TOKENS, now_s))
        _refill(known, now_s)
        known.tokens -= 1.0
        if known.tokens < 1.0:
            known.muted_until_s, known.in_trouble = now_s + MUTED_S, True
            log.warning("device %r sends what cannot be read, again and again: not heard for %g s", device, MUTED_S)

    def devices(self) -> list[DeviceStatus]:
        """Those that are muted, or were a while ago."""
        now_s = self._clock_s()
        for device, known in list(self._devices.items()):
            _refill(known, now_s)
            if known.tokens >= (WELL_AGAIN if known.in_trouble else TOKENS):
                del self._devices[device]
        return [
            DeviceStatus(patient, device, "refused", words, trouble=words, counts={"dropped": known.dropped})
            for device, known in self._devices.items()
            if known.in_trouble
            for patient in self._patients[device]
            for words in ["it sends what cannot be read, again and again, and is not heard meanwhile"]
        ]

    def troubles(self) -> Mapping[str, str]:
        """None of the agent as a whole."""
        return {}

    def counters(self) -> Mapping[str, int]:
        return {"devices_muted": sum(self._clock_s() < known.muted_until_s for known in self._devices.values())}


def _refill(known: _Device, now_s: float) -> None:
    known.tokens = min(TOKENS, known.tokens + TOKENS_A_S * (now_s - known.at_s))
    known.at_s = now_s
