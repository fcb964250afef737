"""What is known of one wearable besides its readings: its state, its battery, its maker, what went wrong."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress

from agent.ingest.ble_link import BleLink
from agent.ingest.device_status import DeviceState, DeviceStatus
from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_device import BatteryLevel, DeviceText
from firmware_bridge.devices import Heard, LinkError, Notice, uuid16

log = logging.getLogger(__name__)

BATTERY_LEVEL = uuid16(0x2A19)
MAKER, MODEL, FIRMWARE = uuid16(0x2A29), uuid16(0x2A24), uuid16(0x2A26)
LOG_EVERY = 1000


class Account:
    """One device's, for the life of the process. Times in seconds on the event loop's clock."""

    def __init__(self, patient: str, device: str) -> None:
        self._patient, self._device = patient, device
        self._state: DeviceState = "searching"
        self._words = ""
        self._since_s = 0.0
        self._trouble = ""
        self._notices: dict[str, Notice] = {}
        self._counts: Counter[str] = Counter()
        self._model = ""
        self._rssi_dbm: int | None = None
        self._battery_percent: int | None = None

    def status(self, now_s: float) -> DeviceStatus:
        """How it stands, for a person."""
        notices = [notice for notice in list(self._notices.values()) if notice.text]  # may be asked by another thread
        troubles = [self._trouble, *(notice.text for notice in notices if notice.trouble)]
        if self._state == "connected":
            words = "; ".join(("it sends", *(notice.text for notice in notices)))
        else:
            since = f" for {_span(now_s - self._since_s)}" if self._state == "searching" else ""
            words = {"searching": "not found", "connecting": "is being connected to"}.get(self._state, "") + since
            words = f"{words}; {self._words}" if words and self._words else words or self._words
        return DeviceStatus(
            self._patient,
            self._device,
            self._state,
            words,
            self._model,
            self._rssi_dbm,
            self._battery_percent,
            "; ".join(filter(None, troubles)),
            dict(self._counts),
        )

    def say(self, state: DeviceState, now_s: float, words: str = "") -> None:
        """It is in this state now; since when is kept while it stays the same."""
        if state != self._state or not self._since_s:
            self._since_s = now_s
        self._state, self._words = state, words

    def sends(self, now_s: float) -> None:
        """It is connected, and all is well."""
        self.say("connected", now_s)
        self._trouble = ""

    def refused(self, trouble: str, now_s: float) -> None:
        """It will not, and somebody has to see to it."""
        self.say("refused", now_s, trouble)
        self._trouble = trouble

    def sighted(self, rssi_dbm: int) -> None:
        """It was heard."""
        if -127 < rssi_dbm < 20:  # outside of that BlueZ and controllers say "unknown"
            self._rssi_dbm = rssi_dbm

    def count(self, what: str, by: int = 1) -> None:
        self._counts[what] += by

    def hear(self, heard: Heard) -> None:
        """What a session has to say beside its chunks."""
        for notice in heard.notices:
            if notice.about == "battery" and notice.value is not None:
                self._battery_percent = round(notice.value)
            self._notices[notice.about] = notice
        for error in heard.refused:
            self.malformed(error)
        self._counts.update(heard.dropped)

    def malformed(self, error: DecodeError) -> None:
        """Something came that cannot be read."""
        self._counts["malformed"] += 1
        if self._counts["malformed"] % LOG_EVERY == 1:
            log.warning("%s: %s (%d so far); dropped", self._device, error, self._counts["malformed"])

    def fault(self, error: Exception) -> None:
        """Something came over which our own code stumbled."""
        self._counts["faults"] += 1
        if self._counts["faults"] % LOG_EVERY == 1:
            log.error("%s: fault in what reads it", self._device, exc_info=error)

    def took(self, characteristic: str, data: bytes) -> bool:
        """Whether what came was a battery level, and so needs nobody else; raises DecodeError."""
        if characteristic != BATTERY_LEVEL:
            return False
        self._battery_percent = BatteryLevel.from_bytes(data).percent
        return True

    async def ask_about_itself(self, link: BleLink) -> None:
        """Who made it, and how full it is, as far as it says; raises LinkError where the link is lost."""
        texts = [await self._text(link, characteristic) for characteristic in (MAKER, MODEL, FIRMWARE)]
        self._model = " ".join(filter(None, texts)) or self._model
        if BATTERY_LEVEL not in link.characteristics:
            return
        try:
            with suppress(DecodeError):
                self.took(BATTERY_LEVEL, await link.read(BATTERY_LEVEL))
            await link.subscribe(BATTERY_LEVEL)
        except LinkError as error:
            if error.fault == "lost":
                raise

    async def _text(self, link: BleLink, characteristic: str) -> str:
        if characteristic not in link.characteristics:
            return ""
        try:
            return DeviceText.from_bytes(await link.read(characteristic)).text
        except DecodeError:
            return ""
        except LinkError as error:
            if error.fault == "lost":
                raise
            return ""


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
