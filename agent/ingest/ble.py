"""All wearables that the agent keeps in touch with over Bluetooth LE, on all adapters, as one source."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config.ble import BleConfig
from agent.ingest.ble_adapter import LINKS, Adapter
from agent.ingest.ble_device import BleDevice
from agent.ingest.ble_pairing import PairingAgent, PairingRules, PairingWindow
from agent.ingest.ble_radio import Backend, Radio
from agent.ingest.delivery import delivery_of
from agent.ingest.device_status import DeviceStatus
from agent.ingest.source import Delivery
from agent.machine import bluetooth_adapters
from firmware_bridge.chunk import Chunk
from firmware_bridge.clock import Arrival, SteadyUtc
from firmware_bridge.devices import profiles

BUFFER_CHUNKS = 4096
"""Chunks that may wait for a receiver that is busy: minutes of five wearables."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of this machine, in ns."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    wall_ns: Callable[[], int] = time.time_ns


class BleSource:
    """Wearables over Bluetooth LE. They are kept in touch with while `run` runs."""

    def __init__(
        self,
        wearables: Sequence[BleConfig],
        *,
        backend_of: Callable[[str], Backend | None] = lambda _adapter: None,
        clocks: Clocks | None = None,
        chance: Callable[[], float] = random.random,
        links: int = LINKS,
    ) -> None:
        """`backend_of`: by adapter, who carries bleak's calls; None: the platform's own Bluetooth.

        `links`: how many devices are connected to one adapter at once.
        """
        self._clocks = clocks or Clocks()
        self._steady = SteadyUtc()
        self._wearables, self._chance, self._links, self._backend_of = tuple(wearables), chance, links, backend_of
        self._adapters: dict[str, Adapter] = {}
        self._devices: list[BleDevice] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[Chunk, int]] = deque()
        self._came = asyncio.Event()
        self._overflows: Counter[str] = Counter()

    async def run(self, deliver: Callable[[Delivery], Awaitable[None]]) -> None:
        """Hand on what the wearables send until cancelled; every link is ended then."""
        self._set_up()
        async with asyncio.TaskGroup() as owners, asyncio.TaskGroup() as tasks:  # a device ends before its adapter
            for adapter in self._adapters.values():
                owners.create_task(adapter.run(self._is_ours))
            for device in self._devices:
                tasks.create_task(device.run(), name=f"ble {device.config.device}")
            agent = self._pairing_agent()
            if agent is not None:
                tasks.create_task(agent.run())
            while True:
                await self._came.wait()
                self._came.clear()
                while self._waiting:
                    await deliver(delivery_of(*self._waiting.popleft()))

    def devices(self) -> Sequence[DeviceStatus]:
        """Every wearable, at this moment."""
        if self._loop is None:
            return [
                DeviceStatus(one.patient, one.device, "stopped", "the agent has not started yet")
                for one in self._wearables
            ]
        now_s = self._loop.time()
        return [device.status(now_s) for device in self._devices]

    def troubles(self) -> Mapping[str, str]:
        """What is wrong with the adapters, once everything was tried."""
        troubles = [adapter.trouble for adapter in self._adapters.values() if adapter.trouble]
        return {"bluetooth": "; ".join(troubles)} if troubles else {}

    def counters(self) -> dict[str, int]:
        """Gauges and counts of Bluetooth as a whole."""
        return {
            "bluetooth links": sum(adapter.in_use for adapter in self._adapters.values()),
            "bluetooth power cycles": sum(adapter.power_cycles for adapter in self._adapters.values()),
            "bluetooth chunks waiting": len(self._waiting),
            "descriptors": open_descriptors(),
        }

    def _set_up(self) -> None:
        """Adapters, devices and windows: everything that belongs to the running event loop."""
        self._loop = asyncio.get_running_loop()
        now_s = self._loop.time()
        known = profiles()
        for one in self._wearables:
            backend = self._backend_of(one.adapter)
            name = one.adapter or (first_adapter() if backend is None else "")
            if name not in self._adapters:
                self._adapters[name] = Adapter(Radio(name, backend), links=self._links)
            window = PairingWindow(now_s, one.pair_s)
            device = BleDevice(
                one, known[one.profile], self._adapters[name], self._arrival, self._take, window, self._chance
            )
            self._devices.append(device)

    def _arrival(self) -> Arrival:
        return self._steady.arrival(self._clocks.monotonic_ns(), self._clocks.wall_ns())

    def _take(self, chunk: Chunk) -> None:
        """Called by the radio. What overflows is counted with its device, and the oldest goes."""
        if len(self._waiting) >= BUFFER_CHUNKS:
            oldest, _ = self._waiting.popleft()
            for device in self._devices:
                if device.config.device == oldest.stream.device:
                    device.account.count("overflow")
        self._waiting.append((chunk, self._clocks.wall_ns()))
        self._came.set()

    def _is_ours(self, address: str, name: str) -> bool:
        """Whether it is one of ours that is not connected, as far as we know."""
        return any(device.is_it(address, name) and not device.is_linked for device in self._devices)

    def _pairing_agent(self) -> PairingAgent | None:
        """BlueZ's, for as long as the longest window is open; None where nothing is to be paired through it."""
        over_bluez = [device for device in self._devices if device.adapter.radio.is_bluez]
        length_s = max((device.config.pair_s for device in over_bluez), default=0.0)
        if not length_s:
            return None
        window = PairingWindow(asyncio.get_running_loop().time(), length_s)
        rules = PairingRules(self._passkey, self._may_pair)
        has_passkeys = any(device.config.passkey is not None for device in over_bluez)
        return PairingAgent(rules, window, has_passkeys=has_passkeys)

    def _passkey(self, address: str) -> int | None:
        return next((one.config.passkey for one in self._devices if one.address == address), None)

    def _may_pair(self, address: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        return any(one.address == address and one.window.is_open(now_s) for one in self._devices)


def first_adapter(root: Path = Path("/")) -> str:
    """The adapter that is meant where none is named; empty where this machine shows none."""
    return next(iter(bluetooth_adapters(root)), "")


def open_descriptors() -> int:
    """File descriptors of this process; 0 where the system does not tell."""
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 0
