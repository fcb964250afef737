"""What the tests in the guest stand on: wearables that may misbehave, an adapter that may be switched off, BlueZ."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STAGE = os.environ.get("VAGUS_BLUEZ", "")
"""Where the guest leaves what comes back; empty: this is no guest."""
PATIENCE_S = 60.0


class Ward:
    """The wearables; see ward.py."""

    addresses: Mapping[str, str] = {
        "strap": "C4:00:00:00:00:01",
        "guarded": "C4:00:00:00:00:02",
        "h10": "C4:00:00:00:00:03",
        "cgm": "C4:00:00:00:00:04",
    }

    def __init__(self) -> None:
        with Path(STAGE, "ward.txt").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).parent / "ward.py"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._worn: set[str] = set()
        assert self._answer() == "ready"

    def wear(self, name: str) -> str:
        """Bring a wearable into range; returns its address."""
        self.call(name, "come_back")
        self._worn.add(name)
        return self.addresses[name]

    def take_off(self) -> None:
        """Every wearable is out of range."""
        for name in self._worn:
            self.call(name, "go_away")
        self._worn.clear()

    def call(self, whose: str, method: str, *values: object) -> Any:
        return self._ask("call", whose, method, *values)

    def get(self, whose: str, attribute: str) -> Any:
        return self._ask("get", whose, attribute)

    def set(self, whose: str, attribute: str, value: object) -> None:
        self._ask("set", whose, attribute, value)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, *request: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline() or '{"error": "the wearables are gone, see ward.txt"}')
        assert "error" not in said, said["error"]
        return said["value"]


def kill_bluetoothd() -> None:
    """As by kill -9."""
    for name in Path("/proc").glob("[0-9]*/comm"):
        if name.read_text().strip() == "bluetoothd":
            os.kill(int(name.parent.name), signal.SIGKILL)


async def in_order() -> None:
    """BlueZ runs, its adapter is on, and it knows no device."""
    from agent.ingest import ble_bluez

    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with ble_bluez.system_bus() as bus:
                path = ble_bluez.adapter_path(known := await ble_bluez.objects(bus), "")
                await power(True)
                for device in (one for one in known if one.startswith(f"{path}/dev_") and one.count("/") == 4):
                    await ble_bluez.call(bus, path, ble_bluez.ADAPTER, "RemoveDevice", "o", [device])
                return
        except ble_bluez.RadioError:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.2)


async def power(on: bool) -> None:
    """Switch the adapter on or off, as a person does."""
    from dbus_fast import Variant

    from agent.ingest import ble_bluez

    async with ble_bluez.system_bus() as bus:
        path = ble_bluez.adapter_path(await ble_bluez.objects(bus), "")
        values = [ble_bluez.ADAPTER, "Powered", Variant("b", on)]
        await ble_bluez.call(bus, path, "org.freedesktop.DBus.Properties", "Set", "ssv", values)
