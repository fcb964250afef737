"""What the tests of real Bluetooth stand on: a bluetoothd that may be killed, and wearables that may misbehave.

They run in the guest that `make test-bluez` starts, and are skipped everywhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STAGE = os.environ.get("VAGUS_BLUEZ", "")
DAEMONS = ("/usr/libexec/bluetooth/bluetoothd", "/usr/lib/bluetooth/bluetoothd")
PATIENCE_S = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("bluez") and not STAGE:
            item.add_marker(pytest.mark.skip(reason="needs the guest of make test-bluez"))


class Ward:
    """The wearables; see ward.py."""

    def __init__(self) -> None:
        with Path(STAGE, "ward.txt").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).parent / "ward.py"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._answer() == "ready"

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


class Bluetoothd:
    """BlueZ's daemon."""

    def __init__(self) -> None:
        self._log = Path(STAGE, "bluetoothd.txt")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        daemon = next(one for one in DAEMONS if Path(one).exists())
        with self._log.open("a") as log:
            self._process = subprocess.Popen([daemon, "--nodetach", "--debug"], stdout=log, stderr=log)

    def kill(self) -> None:
        """As by kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None


class House:
    """All of it: the wearables, the daemon, and the one adapter between."""

    def __init__(self) -> None:
        self.ward, self.bluetoothd = Ward(), Bluetoothd()

    def in_order(self) -> None:
        """The daemon runs, its adapter is on and knows no device."""
        if not self.bluetoothd.runs:
            self.bluetoothd.start()
        asyncio.run(_in_order())

    def close(self) -> None:
        self.bluetoothd.kill()
        self.ward.close()


async def _in_order() -> None:
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


@pytest.fixture(scope="session")
def _house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


@pytest.fixture
def house(_house: House) -> House:
    """Everything in order, as after a start of the machine."""
    _house.in_order()
    return _house


@pytest.fixture
def ward(house: House) -> Ward:
    return house.ward
