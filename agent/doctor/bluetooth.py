"""Is this machine fit for wearables over Bluetooth? What is missing between the radio and the agent, layer by layer."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.doctor.check import Check
from agent.machine import bluetooth_adapters, throttling

Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""What BlueZ has on D-Bus: path → interface → property → value."""
_ADAPTER = "org.bluez.Adapter1"
_OLDEST, _TELLS_PACKET_SIZE = (5, 55), (5, 62)
_TIMEOUT_S = 5.0
_USB_3_MBIT_S = 5000


def bluetooth_checks(
    root: Path,
    *,
    wanted: bool,
    ask_bluez: Callable[[], Objects] | None = None,
    ask_version: Callable[[], str] | None = None,
) -> list[Check]:
    """Each finding, from the radio up.

    `wanted`: whether the config has a wearable, so that what is missing stands in the way. `ask_bluez` may raise
    anything; it and `ask_version` ask this very machine where they are not given.
    """
    setting = os.environ.get("VAGUS_BLUETOOTH")
    if setting:
        return [Check("bluetooth", None, f"VAGUS_BLUETOOTH is {setting}: the machine's own Bluetooth is not used")]
    bad = False if wanted else None
    adapters = bluetooth_adapters(root)
    if not adapters:
        remedy = (
            "plug in a USB adapter; on a Raspberry Pi remove dtoverlay=disable-bt from /boot/firmware/config.txt"
            if wanted
            else ""
        )
        return [Check("bluetooth", bad, "no adapter; one is needed for wearables over Bluetooth only", remedy)]
    checks = [Check("bluetooth", True, ", ".join(adapters)), *_blocked(root, bad)]
    checks += _surroundings(root, adapters)
    try:
        known = (ask_bluez or _ask_bluez)()
    except Exception as error:
        return [*checks, Check("bluetooth service", bad, *_unreachable(root, error))]
    checks.append(_version(bad, (ask_version or _ask_version)()))
    return [*checks, *(_adapter(bad, name, known) for name in adapters)]


def _blocked(root: Path, bad: bool | None) -> list[Check]:
    """Switches that keep the radio off."""
    checks = []
    for switch in sorted((root / "sys/class/rfkill").glob("rfkill*")):
        if _read(switch / "type") != "bluetooth":
            continue
        if _read(switch / "hard") == "1":
            checks.append(Check("bluetooth switch", bad, "off by a switch or key of the machine", "turn it on there"))
        elif _read(switch / "soft") == "1":
            checks.append(Check("bluetooth switch", bad, "blocked by software", "sudo rfkill unblock bluetooth"))
    return checks


def _surroundings(root: Path, adapters: list[str]) -> list[Check]:
    """What makes a radio lose packets though nothing is broken."""
    checks = []
    if any("voltage" in reason for reason in throttling(root)):
        remedy = "a better power supply: a radio with too little power drops links and hangs"
        checks.append(Check("bluetooth power", None, "the supply voltage is or was too low", remedy))
    by_usb = [name for name in adapters if "/usb" in str((root / "sys/class/bluetooth" / name).resolve())]
    speeds = (_read(path) for path in (root / "sys/bus/usb/devices").glob("*-*/speed"))
    if by_usb and any(speed.isdigit() and int(speed) >= _USB_3_MBIT_S for speed in speeds):
        detail = f"{', '.join(by_usb)} hangs on USB beside a USB 3 device, which disturbs its band"
        checks.append(Check("bluetooth neighbours", None, detail, "put it on an extension cable, away from the other"))
    return checks


def _unreachable(root: Path, error: Exception) -> tuple[str, str]:
    """Why BlueZ could not be asked, and what helps."""
    text = str(error) or type(error).__name__
    if not (root / "run/dbus/system_bus_socket").exists() and "DBUS_SYSTEM_BUS_ADDRESS" not in os.environ:
        return "there is no D-Bus", "sudo apt-get install dbus bluez (in a container: mount /run/dbus)"
    if "AccessDenied" in text or isinstance(error, PermissionError):
        user = os.environ.get("USER", f"user {os.geteuid()}")
        return f"{user} may not speak to it", f"sudo usermod -aG bluetooth {user}, then log in anew"
    if "ServiceUnknown" in text or "NoReply" in text or "no answer" in text or isinstance(error, TimeoutError):
        return "bluetoothd does not run, or hangs", "sudo systemctl enable bluetooth; sudo systemctl restart bluetooth"
    return f"cannot be asked: {text}", "sudo apt-get install bluez; systemctl status bluetooth"


def _version(bad: bool | None, said: str) -> Check:
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        return Check("bluetooth service", True, "BlueZ answers; its version cannot be told")
    version = (int(found[1]), int(found[2]))
    detail = f"BlueZ {found[0]}"
    if version < _OLDEST:
        return Check("bluetooth service", bad, detail, "5.55 or newer is needed: a newer release of the system has it")
    if version < _TELLS_PACKET_SIZE:
        return Check("bluetooth service", None, f"{detail}: it does not tell the packet size", "better 5.62 or newer")
    return Check("bluetooth service", True, detail)


def _adapter(bad: bool | None, name: str, known: Objects) -> Check:
    held = next(
        (held[_ADAPTER] for path, held in known.items() if _ADAPTER in held and path.endswith(f"/{name}")), None
    )
    title = f"adapter {name}"
    if held is None:
        return Check(
            title, bad, "BlueZ does not know it", "sudo systemctl restart bluetooth; dmesg | grep -i bluetooth"
        )
    roles = held.get("Roles")
    if roles is not None and "central" not in roles:
        return Check(title, bad, "it knows no Bluetooth LE", "use an adapter of Bluetooth 4.0 or newer")
    if not held.get("Powered"):
        remedy = f"bluetoothctl power on, and AutoEnable=true in /etc/bluetooth/main.conf ({name})"
        return Check(title, bad, "switched off", remedy)
    return Check(title, True, f"{held.get('Address', '')}, switched on".removeprefix(", "))


def _ask_bluez() -> Objects:
    from agent.ingest.ble_bluez import objects, system_bus  # noqa: PLC0415 - D-Bus, only when it is asked

    async def ask() -> Objects:
        async with asyncio.timeout(_TIMEOUT_S), system_bus() as bus:
            return await objects(bus)

    return asyncio.run(ask())


def _ask_version() -> str:
    try:
        asked = subprocess.run(["bluetoothctl", "--version"], capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode(errors="replace")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
