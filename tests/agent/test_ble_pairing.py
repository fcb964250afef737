"""Who is let in: only a device of the config, only while its window is open, and what BlueZ is answered."""

from __future__ import annotations

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakCharacteristicNotFoundError,
    BleakDBusError,
    BleakError,
    BleakGATTProtocolError,
)
from dbus_fast import Message, MessageType
from hypothesis import given
from hypothesis import strategies as st

from agent.ingest.ble_errors import DAEMON_DIED, RadioError, link_error, radio_error
from agent.ingest.ble_pairing import (
    AGENT,
    PATH,
    BondDoubt,
    PairingAgent,
    PairingRules,
    PairingWindow,
    PerhapsUnpairedError,
)
from firmware_bridge.devices import LinkError

OURS, SHOWS = "F0:11:22:33:44:01", "F0:11:22:33:44:02"
RULES = PairingRules({SHOWS: 12_345}.get, {OURS, SHOWS}.__contains__)
MEMBERS = (
    "RequestPasskey", "RequestPinCode", "RequestConfirmation", "RequestAuthorization", "AuthorizeService",
    "DisplayPasskey", "DisplayPinCode", "Cancel", "Release",
)  # fmt: skip


def called(member: str, address: str) -> Message:
    """What BlueZ is answered."""
    agent = PairingAgent(RULES, PairingWindow(0.0, 600.0), has_passkeys=True)
    path = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
    message = Message(path=PATH, interface=AGENT, member=member, signature="o", body=[path], serial=7, sender=":1.2")
    answer = agent.answer(message)
    assert isinstance(answer, Message)
    return answer


def test_a_device_that_shows_nothing_is_confirmed() -> None:
    assert called("RequestConfirmation", OURS).message_type is MessageType.METHOD_RETURN
    assert called("RequestPasskey", OURS).message_type is MessageType.ERROR


def test_a_device_that_shows_a_number_gets_the_one_of_the_config() -> None:
    assert called("RequestPasskey", SHOWS).body == [12_345]
    assert called("RequestPinCode", SHOWS).body == ["012345"]


@pytest.mark.parametrize(
    "member", ["RequestPasskey", "RequestConfirmation", "RequestAuthorization", "AuthorizeService"]
)
def test_a_stranger_is_rejected(member: str) -> None:
    assert called(member, "66:66:66:66:66:66").error_name == "org.bluez.Error.Rejected"


@given(st.sampled_from(MEMBERS), st.text(max_size=40))
def test_nobody_gets_in_by_any_name(member: str, address: str) -> None:
    closed = PairingRules({SHOWS: 12_345}.get, lambda _: False)
    answer = closed.answer(member, address)
    assert answer is None or (answer == ("", []) and member.startswith(("Display", "Cancel", "Release")))


def test_calls_for_others_are_left_alone() -> None:
    agent = PairingAgent(RULES, PairingWindow(0.0, 600.0), has_passkeys=False)
    assert agent.answer(Message(path="/else", interface=AGENT, member="Release", serial=1, sender=":1.2")) is None


def test_a_window_closes() -> None:
    window = PairingWindow(100.0, 60.0)
    assert [window.is_open(at) for at in (100.0, 159.9, 160.0)] == [True, True, False]
    assert "within 1 min" in window.words(110.0)
    assert "restart the agent, which then may pair for 1 min" in window.words(160.0)
    assert "not allowed here" in PairingWindow(0.0, 0.0).words(0.0)


def test_a_known_device_that_cannot_be_connected_to_may_have_lost_its_bond() -> None:
    doubt = BondDoubt()
    lost = LinkError("lost", "the connection: [org.bluez.Error.Failed] le-connection-abort-by-local")
    faults = [doubt.failed(lost, True, may_pair=True, connected=False) for _ in range(4)]
    assert [isinstance(fault, PerhapsUnpairedError) for fault in faults] == [False, False, False, True]
    assert isinstance(faults[-1], PerhapsUnpairedError)
    assert "perhaps it has forgotten that it is paired" in faults[-1].words("")
    doubt.worked()
    assert doubt.failed(lost, True, may_pair=True, connected=False) is lost


@pytest.mark.parametrize("error", ["[org.bluez.Error.Failed] le-connection-unknown", DAEMON_DIED])
def test_where_the_error_points_to_it_a_bond_is_lost_for_certain(error: str) -> None:
    doubt = BondDoubt()
    denied = LinkError("lost", f"the connection: {error}")
    assert doubt.failed(denied, True, may_pair=True, connected=False) is denied
    again = doubt.failed(denied, True, may_pair=True, connected=False)
    assert (again.fault, isinstance(again, PerhapsUnpairedError)) == ("bond", False)


@pytest.mark.parametrize(
    ("bonded", "may_pair", "connected"), [(None, False, True), (False, True, True), (False, False, False)]
)
def test_silence_says_nothing_of_a_bond_where_it_may_have_other_reasons(
    bonded: bool | None, may_pair: bool, connected: bool
) -> None:
    doubt, silent = BondDoubt(), LinkError("timeout", "no answer in 10 s")
    assert {doubt.failed(silent, bonded, may_pair=may_pair, connected=connected) for _ in range(9)} == {silent}


def test_silence_once_connected_may_be_a_device_that_wants_to_be_paired() -> None:
    doubt, silent = BondDoubt(), LinkError("timeout", "no answer in 10 s")
    assert doubt.failed(silent, False, may_pair=False, connected=True) is silent
    assert isinstance(doubt.failed(silent, False, may_pair=False, connected=True), PerhapsUnpairedError)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (TimeoutError(), "timeout"),
        (BleakCharacteristicNotFoundError("2a37"), "missing"),
        (BleakGATTProtocolError(0x05), "bond"),
        (BleakGATTProtocolError(0x0F), "bond"),
        (BleakGATTProtocolError(0x80), "refused"),
        (BleakDBusError("org.bluez.Error.AuthenticationFailed", ["Authentication Failed"]), "bond"),
        (BleakDBusError("org.bluez.Error.NotAuthorized", []), "bond"),
        (BleakDBusError("org.bluez.Error.Failed", ["Operation failed with ATT error: 0x0f"]), "bond"),
        (BleakDBusError("org.bluez.Error.NotConnected", ["Not Connected"]), "lost"),
        (BleakDBusError("org.freedesktop.DBus.Error.UnknownObject", []), "lost"),
        (BleakDBusError("org.bluez.Error.Failed", ["le-connection-abort-by-local"]), "refused"),
        (BleakError("Not connected"), "lost"),
        (EOFError(), "lost"),
        (AttributeError("odd"), "lost"),
    ],
)
def test_what_bleak_says_of_a_link_is_one_of_five_faults(error: Exception, fault: str) -> None:
    assert link_error(error, "reading").fault == fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF), "off"),
        (BleakBluetoothNotAvailableError("none", BleakBluetoothNotAvailableReason.NO_BLUETOOTH), "absent"),
        (BleakDBusError("org.bluez.Error.InProgress", []), "busy"),
        (BleakDBusError("org.bluez.Error.NotReady", []), "off"),
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", []), "denied"),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", []), "absent"),
        (BleakDBusError("org.freedesktop.systemd1.NoSuchUnit", []), "absent"),
        (BleakDBusError("org.freedesktop.DBus.Error.Spawn.ChildExited", []), "absent"),
        (FileNotFoundError(), "absent"),
        (BleakError("odd"), "failed"),
        (RadioError("busy", "as it was"), "busy"),
    ],
)
def test_what_bleak_says_of_an_adapter_is_one_of_five_faults(error: Exception, fault: str) -> None:
    assert radio_error(error, "the search").fault == fault
