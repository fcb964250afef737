"""Pairing without a screen: only in a window of time, only with devices of the config, by our own agent in BlueZ."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.ingest.ble_errors import DAEMON_DIED
from firmware_bridge.devices import LinkError

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

log = logging.getLogger(__name__)

PATH = "/org/vagus/pairing"
AGENT, MANAGER = "org.bluez.Agent1", "org.bluez.AgentManager1"
TRY_AGAIN_S = 5.0
REJECTED = "org.bluez.Error.Rejected"


@dataclass(frozen=True, slots=True)
class PairingWindow:
    """From the agent's start for so long, one device may be paired. Seconds on the event loop's clock."""

    opened_s: float
    length_s: float

    def is_open(self, now_s: float) -> bool:
        return now_s < self.opened_s + self.length_s

    def words(self, now_s: float) -> str:
        """What somebody has to do about a device that has to be paired."""
        if self.is_open(now_s):
            left_min = (self.opened_s + self.length_s - now_s) / 60
            return f"it has to be paired: put it into pairing mode within {left_min:.0f} min"
        if not self.length_s:
            return "it has to be paired, which is not allowed here (pair_min = 0)"
        return (
            "it has to be paired (anew): put it into pairing mode and restart the agent, "
            f"which then may pair for {self.length_s / 60:.0f} min"
        )


class PerhapsUnpairedError(LinkError):
    """It looks as if there were no bond with it, or no more. A guess: a bond is not thrown away for it."""

    def __init__(self, message: str, *, bonded: bool) -> None:
        """`bonded`: whether this side has a bond."""
        self.bonded = bonded
        super().__init__("bond", message)

    def words(self, window: str) -> str:
        """What somebody has to do; `window` is what would be said if it were certain."""
        if not self.bonded:
            return f"it does not answer; perhaps {window}"
        return (
            "it does not answer; perhaps it has forgotten that it is paired: then bluetoothctl remove it, "
            "put it into pairing mode and restart the agent"
        )


FRUITLESS, FRUITLESS_SAID = 4, 2
"""So often, and a device that is paired may have forgotten that; less often where the error points to it."""
_ACCESS_DENIED = ("le-connection-unknown", "permission denied", DAEMON_DIED)
"""What BlueZ makes of an encryption that the device refuses."""
UNANSWERED = 2
"""So often in a row no answer once connected, and a device that is not paired may want to be."""


class BondDoubt:
    """What failures of one device say of its bond, about which BlueZ is silent: it waits, or the link breaks."""

    def __init__(self) -> None:
        self._fruitless = 0
        self._unanswered = 0

    def worked(self) -> None:
        """It sends: there is no doubt."""
        self._fruitless = self._unanswered = 0

    def failed(self, error: LinkError, bonded: bool | None, *, may_pair: bool, connected: bool) -> LinkError:
        """What an error means. `bonded`: as BlueZ has it; `connected`: whether it came after the connection stood."""
        if bonded and error.fault in {"lost", "timeout"}:
            self._fruitless += 2 if error.fault == "timeout" else 1  # a device that is heard answers, mostly
            if any(words in str(error).lower() for words in _ACCESS_DENIED) and self._fruitless >= FRUITLESS_SAID:
                return LinkError("bond", str(error))
            return PerhapsUnpairedError(str(error), bonded=True) if self._fruitless >= FRUITLESS else error
        # With nobody there who may allow a pairing, BlueZ waits for it without a word.
        if bonded is False and connected and error.fault == "timeout" and not may_pair:
            self._unanswered += 1
            return PerhapsUnpairedError(str(error), bonded=False) if self._unanswered >= UNANSWERED else error
        return error


@dataclass(frozen=True, slots=True)
class PairingRules:
    """Who may be paired, and with which number."""

    passkey: Callable[[str], int | None]
    """By address in upper case; None: none is known."""
    may_pair: Callable[[str], bool]
    """Whether the device with this address may be paired now."""

    def answer(self, member: str, address: str) -> tuple[str, list[object]] | None:
        """The signature and values to answer a call of BlueZ's with; None: it is rejected."""
        if member in {"Release", "Cancel", "DisplayPasskey", "DisplayPinCode"}:
            return "", []
        if not self.may_pair(address):
            return None
        passkey = self.passkey(address)
        if member == "RequestPasskey":
            return None if passkey is None else ("u", [passkey])
        if member == "RequestPinCode":
            return None if passkey is None else ("s", [f"{passkey:06d}"])
        return ("", []) if member in {"RequestConfirmation", "RequestAuthorization", "AuthorizeService"} else None


class PairingAgent:
    """Our agent in BlueZ, registered while a window is open and no longer."""

    def __init__(self, rules: PairingRules, window: PairingWindow, *, has_passkeys: bool) -> None:
        self._rules, self._window = rules, window
        self._capability = "KeyboardDisplay" if has_passkeys else "DisplayYesNo"

    async def run(self) -> None:
        """Until the window closes; a BlueZ that is not there, or is started anew, is waited for."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._window.opened_s + self._window.length_s):
                while self._window.is_open(loop.time()):
                    try:
                        from agent.ingest.ble_bluez import system_bus  # noqa: PLC0415 - D-Bus, only where needed

                        async with system_bus() as bus:
                            await self._serve(bus)
                    except Exception as error:
                        log.debug("no pairing yet: %s", error)
                    await asyncio.sleep(TRY_AGAIN_S)
        log.info("pairing is no longer allowed")

    async def _serve(self, bus: MessageBus) -> None:
        """Register, and answer until BlueZ goes away, which forgets us with the connection."""
        from agent.ingest.ble_bluez import call  # noqa: PLC0415

        bus.add_message_handler(self.answer)
        await call(bus, "/org/bluez", MANAGER, "RegisterAgent", "os", [PATH, self._capability])
        log.info("devices of the config may be paired now")
        while True:
            # The default, for bleak pairs over a connection of its own. A bluetoothd that was started anew refuses.
            await call(bus, "/org/bluez", MANAGER, "RequestDefaultAgent", "o", [PATH])
            await asyncio.sleep(TRY_AGAIN_S)

    def answer(self, message: Message) -> Message | None:
        """What a message from BlueZ is answered with; None: it is not for us."""
        from dbus_fast import Message, MessageType  # noqa: PLC0415

        if message.message_type is not MessageType.METHOD_CALL or message.interface != AGENT or message.path != PATH:
            return None
        device = message.body[0] if message.body and isinstance(message.body[0], str) else ""
        address = device.rpartition("/dev_")[2].replace("_", ":").upper()
        answer = self._rules.answer(message.member or "", address)
        log.info("BlueZ asks %s: %s", message.member, "rejected" if answer is None else "answered")
        if answer is None:
            return Message.new_error(message, REJECTED, "not a device that may be paired now")
        return Message.new_method_return(message, *answer)
