"""What `vagus doctor` finds out about Bluetooth, on machines laid out for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.doctor import Check
from agent.doctor.bluetooth import Objects, bluetooth_checks
from agent.ingest.ble_errors import RadioError

GOOD: Objects = {
    "/org/bluez/hci0": {
        "org.bluez.Adapter1": {"Powered": True, "Address": "B8:27:EB:00:00:01", "Roles": ["central", "peripheral"]}
    }
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a Bluetooth adapter and D-Bus."""
    monkeypatch.delenv("VAGUS_BLUETOOTH", raising=False)
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    (tmp_path / "sys/class/bluetooth/hci0").mkdir(parents=True)
    (tmp_path / "run/dbus").mkdir(parents=True)
    (tmp_path / "run/dbus/system_bus_socket").touch()
    return tmp_path


def checked(
    root: Path, known: Objects | Exception = GOOD, version: str = "bluetoothctl: 5.66\n", *, wanted: bool = True
) -> dict[str, Check]:
    def ask() -> Objects:
        if isinstance(known, Exception):
            raise known
        return known

    checks = bluetooth_checks(root, wanted=wanted, ask_bluez=ask, ask_version=lambda: version)
    return {check.name: check for check in checks}


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_good_machine_is_good(machine: Path) -> None:
    found = checked(machine)
    assert {name: check.ok for name, check in found.items()} == {
        "bluetooth": True,
        "bluetooth service": True,
        "adapter hci0": True,
    }
    assert found["bluetooth service"].detail == "BlueZ 5.66"


@pytest.mark.parametrize(("wanted", "ok"), [(True, False), (False, None)])
def test_no_adapter_is_bad_only_where_one_is_wanted(tmp_path: Path, wanted: bool, ok: bool | None) -> None:
    (check,) = checked(tmp_path, wanted=wanted).values()
    assert check.ok is ok
    assert bool(check.remedy) is wanted


@pytest.mark.parametrize(("which", "remedy"), [("soft", "sudo rfkill unblock bluetooth"), ("hard", "turn it on there")])
def test_a_switch_that_is_off_is_found(machine: Path, which: str, remedy: str) -> None:
    put(machine, "sys/class/rfkill/rfkill0/type", "bluetooth\n")
    put(machine, "sys/class/rfkill/rfkill0/soft", "1\n" if which == "soft" else "0\n")
    put(machine, "sys/class/rfkill/rfkill0/hard", "1\n" if which == "hard" else "0\n")
    put(machine, "sys/class/rfkill/rfkill1/type", "wlan\n")
    put(machine, "sys/class/rfkill/rfkill1/soft", "1\n")
    check = checked(machine)["bluetooth switch"]
    assert (check.ok, check.remedy) == (False, remedy)


@pytest.mark.parametrize(
    ("prepare", "error", "detail", "remedy"),
    [
        (
            lambda root: (root / "run/dbus/system_bus_socket").unlink(),
            FileNotFoundError(),
            "there is no D-Bus",
            "apt-get install dbus",
        ),
        (lambda _: None, RadioError("denied", "org.freedesktop.DBus.Error.AccessDenied"), "may not", "usermod -aG"),
        (
            lambda _: None,
            RadioError("failed", "org.freedesktop.DBus.Error.ServiceUnknown"),
            "does not run",
            "systemctl",
        ),
        (lambda _: None, TimeoutError(), "hangs", "restart bluetooth"),
        (lambda _: None, OSError("odd"), "cannot be asked: odd", "systemctl status"),
    ],
)
def test_a_service_that_cannot_be_asked_is_told_with_what_helps(
    machine: Path, prepare: Callable[[Path], object], error: Exception, detail: str, remedy: str
) -> None:
    prepare(machine)
    check = checked(machine, error)["bluetooth service"]
    assert check.ok is False
    assert detail in check.detail
    assert remedy in check.remedy


@pytest.mark.parametrize(
    ("version", "ok"), [("5.50", False), ("5.55", None), ("5.61", None), ("5.62", True), ("", True)]
)
def test_an_old_bluez_is_told(machine: Path, version: str, ok: bool | None) -> None:
    assert checked(machine, version=version)["bluetooth service"].ok is ok


@pytest.mark.parametrize(
    ("held", "detail"),
    [
        ({"Powered": False, "Roles": ["central"]}, "switched off"),
        ({"Powered": True, "Roles": ["peripheral"]}, "knows no Bluetooth LE"),
        (None, "BlueZ does not know it"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_told(machine: Path, held: dict[str, object] | None, detail: str) -> None:
    known: Objects = {} if held is None else {"/org/bluez/hci0": {"org.bluez.Adapter1": held}}
    check = checked(machine, known)["adapter hci0"]
    assert check.ok is False
    assert detail in check.detail
    assert check.remedy


def test_an_adapter_on_usb_beside_usb_3_is_noted(machine: Path) -> None:
    (machine / "sys/class/bluetooth/hci0").rmdir()
    (machine / "sys/devices/usb1/1-1/bluetooth/hci0").mkdir(parents=True)
    (machine / "sys/class/bluetooth/hci0").symlink_to(machine / "sys/devices/usb1/1-1/bluetooth/hci0")
    assert "bluetooth neighbours" not in checked(machine)
    put(machine, "sys/bus/usb/devices/2-1/speed", "5000\n")
    assert checked(machine)["bluetooth neighbours"].ok is None


def test_too_little_power_is_noted(machine: Path) -> None:
    put(machine, "sys/devices/platform/soc/soc:firmware/get_throttled", "50000")
    assert "power supply" in checked(machine)["bluetooth power"].remedy


def test_another_bluetooth_than_the_machines_is_noted(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAGUS_BLUETOOTH", "bumble:usb:0")
    (check,) = checked(machine).values()
    assert (check.ok, "bumble:usb:0" in check.detail) == (None, True)
