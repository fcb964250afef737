"""What the many errors of bleak, BlueZ and D-Bus say: of an adapter, or of one link."""

from __future__ import annotations

from typing import Literal

from firmware_bridge.devices import LinkError
from firmware_bridge.devices.session import LinkFault

RadioFault = Literal["absent", "off", "denied", "busy", "failed"]


class RadioError(Exception):
    """An adapter did not do what it was asked; `fault` says in what way, the message in words."""

    def __init__(self, fault: RadioFault, message: str) -> None:
        self.fault = fault
        super().__init__(message)


DAEMON_DIED = "bluetoothd died over it"
"""Linux 6.1.192 kills it, over a list of its own, when a device has forgotten that it was paired."""

_NO_SERVICE = "its service bluetoothd does not run"
_OFF = "it is switched off"
_NOT_AVAILABLE: dict[str, tuple[RadioFault, str]] = {
    "POWERED_OFF": ("off", _OFF),
    "NO_BLE_CENTRAL_ROLE": ("absent", "it knows no Bluetooth LE"),
}
"""By bleak's reasons."""
_BY_DBUS_ERROR: dict[str, tuple[RadioFault, str]] = {
    "InProgress": ("busy", "it is busy with a search that somebody began"),
    "NotReady": ("off", _OFF),
    "AccessDenied": ("denied", "this user may not use it: see vagus doctor"),
    "ServiceUnknown": ("absent", _NO_SERVICE),
    "NoSuchUnit": ("absent", _NO_SERVICE),
    "ChildExited": ("absent", _NO_SERVICE),
    "NoReply": ("absent", "its service bluetoothd does not answer"),
}
"""By the last part of the name of a D-Bus error."""


def radio_error(error: Exception, what: str) -> RadioError:
    """What an error of bleak says of the adapter."""
    from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError  # noqa: PLC0415

    if isinstance(error, RadioError):
        return error
    known: tuple[RadioFault, str] | None = None
    if isinstance(error, BleakBluetoothNotAvailableError):
        known = _NOT_AVAILABLE.get(error.reason.name, ("absent", f"there is none that can be used: {error.args[0]}"))
    elif isinstance(error, BleakDBusError):
        known = _BY_DBUS_ERROR.get(error.dbus_error.rpartition(".")[2])
    elif isinstance(error, FileNotFoundError):
        known = ("absent", "there is no D-Bus on this machine")
    return RadioError(*known) if known else RadioError("failed", f"{what}: {str(error) or type(error).__name__}")


_AUTHENTICATION = frozenset({0x05, 0x08, 0x0C, 0x0F})
"""ATT errors: insufficient authentication, authorisation, key size, encryption."""
_ABOUT_BONDS = (
    "authentication", "notauthorized", "not paired", "bond", "pin or key",
    *(f"att error: 0x{code:02x}" for code in _AUTHENTICATION),
)  # fmt: skip
_ABOUT_LOSS = ("not connected", "notconnected", "disconnect", "unknownobject", "unknownmethod", "was not found")
"""In what bleak and BlueZ say, in lower case."""


def link_error(error: Exception, what: str) -> LinkError:
    """What an error of bleak says of one link."""
    if isinstance(error, LinkError):
        return error
    if isinstance(error, TimeoutError):
        return LinkError("timeout", f"{what}: no answer in time")
    text = str(error) or type(error).__name__
    return LinkError(_link_fault(error, text.lower()), f"{what}: {_bare(error, text)}")


def _bare(error: Exception, text: str) -> str:
    """Of an error of the protocol its words alone, without the number before them."""
    from bleak.exc import BleakGATTProtocolError  # noqa: PLC0415

    return str(error.args[-1]) if isinstance(error, BleakGATTProtocolError) else text


def _link_fault(error: Exception, text: str) -> LinkFault:
    from bleak.exc import BleakCharacteristicNotFoundError, BleakError, BleakGATTProtocolError  # noqa: PLC0415

    match error:
        case BleakCharacteristicNotFoundError():
            return "missing"
        case BleakGATTProtocolError():
            return "bond" if error.args[0] in _AUTHENTICATION else "refused"
        case BleakError() if any(words in text for words in _ABOUT_BONDS):
            return "bond"
        case BleakError() if not any(words in text for words in _ABOUT_LOSS):
            return "refused"
    return "lost"  # that, a dead D-Bus socket, or what bleak did not foresee: connect anew
