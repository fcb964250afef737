"""What is asked of an adapter through bleak, every wait bounded. bleak is imported at first use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.ingest.ble_errors import DAEMON_DIED, RadioError, link_error, radio_error
from firmware_bridge.devices import Advertisement, LinkError

if TYPE_CHECKING:
    from bleak import BleakClient, BleakScanner
    from bleak.backends.client import BaseBleakClient
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData, BaseBleakScanner

log = logging.getLogger(__name__)

CONNECT_S = 30.0
"""A device that advertises answers within this and has said what it has, or has gone again."""
CALL_S = 10.0
"""Patience with anything that the adapter itself is asked for."""
DAEMON_S = 2.0
"""Patience with the bus, about nothing that matters much."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device that was heard just now."""

    address: str
    """In upper case."""
    advertisement: Advertisement
    rssi_dbm: int
    at_s: float
    """On the event loop's clock."""
    handle: BLEDevice
    """What a connection is made with; of use only while fresh."""
    bonded: bool | None = None
    """Whether there is a bond with it; None: not known before it is spoken with."""
    changes_address: bool = False
    """Whether this address is one of those that change every few minutes, as far as is known."""


class Backend(Protocol):
    """Who carries bleak's calls in the place of this platform's own: one adapter."""

    @property
    def client(self) -> type[BaseBleakClient]: ...

    @property
    def scanner(self) -> type[BaseBleakScanner]: ...

    async def power_cycle(self) -> None: ...

    async def close(self) -> None: ...


class Radio:
    """One adapter."""

    def __init__(self, adapter: str = "", backend: Backend | None = None) -> None:
        """`adapter`: empty for the first one. `backend`: None for the platform's own."""
        self.adapter = adapter
        self._backend = backend
        self._scanner: BleakScanner | None = None

    @property
    def name(self) -> str:
        """As status and log call it."""
        return f"the adapter {self.adapter}" if self.adapter else "the Bluetooth adapter"

    @property
    def is_bluez(self) -> bool:
        """Whether the platform's own daemon is spoken to, with its agent and its D-Bus."""
        return self._backend is None

    async def start_scan(self, heard: Callable[[Sighting], None]) -> None:
        """Tell `heard` of every advertisement from now on; raises RadioError."""
        from bleak import BleakScanner  # noqa: PLC0415 - not before it is needed

        loop = asyncio.get_running_loop()

        def came(device: BLEDevice, data: AdvertisementData) -> None:
            heard(_sighting(device, data, loop.time()))

        async with _asking("the search"):
            if self._backend is None:
                scanner = BleakScanner(came, bluez={"adapter": self.adapter} if self.adapter else {})
            else:
                scanner = BleakScanner(came, backend=self._backend.scanner)
            await scanner.start()
            self._scanner = scanner

    async def stop_scan(self) -> None:
        """Tell nobody any more; raises RadioError, after which the search counts as ended all the same."""
        scanner, self._scanner = self._scanner, None
        if scanner is not None:
            async with _asking("the end of the search"):
                await scanner.stop()

    async def connect(self, sighting: Sighting, lost: Callable[[], None]) -> BleakClient:
        """A connected client with its services known; `lost` is called once the link is. Raises LinkError.

        Whoever has it must disconnect it, also after it was lost: with BlueZ that closes a socket.
        """
        from bleak import BleakClient  # noqa: PLC0415

        def ended(_client: BleakClient) -> None:
            lost()

        daemon = await self._daemon()
        try:
            async with asyncio.timeout(CONNECT_S):
                if self._backend is None:
                    client = await _connect_over_bluez(sighting, ended)
                else:
                    client = BleakClient(sighting.handle, ended, timeout=CONNECT_S, backend=self._backend.client)
                    await client.connect()
        except Exception as error:
            if daemon and daemon != await self._daemon():
                raise LinkError("lost", f"the connection: {DAEMON_DIED}") from error
            found = link_error(error, "the connection")
            # What a radio cannot do at the moment is nothing that the device refuses.
            raise found if found.fault != "refused" else LinkError("lost", str(found)) from error
        try:
            obey()
        except asyncio.CancelledError:
            await at_most(CALL_S, client.disconnect(), "disconnecting")
            raise
        return client

    async def forget(self, sighting: Sighting) -> None:
        """Forget what is kept of a device that is not connected: its services and its bond. Raises LinkError."""
        from bleak import BleakClient  # noqa: PLC0415

        try:
            async with asyncio.timeout(CALL_S):
                if self._backend is None:
                    from bleak_retry_connector import clear_cache  # noqa: PLC0415

                    await clear_cache(sighting.address)
                    await BleakClient(sighting.handle).unpair()
                else:
                    await BleakClient(sighting.handle, backend=self._backend.client).unpair()
        except Exception as error:
            raise link_error(error, "forgetting the device") from error

    async def _daemon(self) -> str:
        """Which bluetoothd runs, as far as can be told."""
        with suppress(Exception):
            if self._backend is None:
                from agent.ingest.ble_bluez import daemon, system_bus  # noqa: PLC0415

                async with asyncio.timeout(DAEMON_S), system_bus() as bus:
                    return await daemon(bus)
        return ""

    async def power_cycle(self) -> None:
        """Switch the adapter off and on; every link on it is lost. Raises RadioError."""
        async with _asking("switching it off and on"):
            if self._backend is not None:
                await self._backend.power_cycle()
                return
            from agent.ingest.ble_bluez import power_cycle  # noqa: PLC0415

            await power_cycle(self.adapter)

    async def hang_up(self, is_ours: Callable[[str, str], bool]) -> int:
        """End links that a killed agent or a hung daemon has left; returns how many. `is_ours`: by address and name.

        A device that is connected advertises no more, so that it would never be found.
        """
        if self._backend is not None:
            return 0
        async with _asking("ending old links"):
            from agent.ingest.ble_bluez import hang_up  # noqa: PLC0415

            return await hang_up(self.adapter, is_ours)

    async def close(self) -> None:
        """Let go of everything."""
        with suppress(RadioError):
            await self.stop_scan()
        if self._backend is not None:
            with suppress(Exception):
                await self._backend.close()


async def _connect_over_bluez(sighting: Sighting, ended: Callable[[BleakClient], None]) -> BleakClient:
    """Through the retry connector: it knows which errors of BlueZ pass when asked again at once."""
    from bleak_retry_connector import BleakClientWithServiceCache, establish_connection  # noqa: PLC0415

    return await establish_connection(
        BleakClientWithServiceCache,
        sighting.handle,
        sighting.advertisement.name or sighting.address,
        ended,
        max_attempts=1,
        use_services_cache=False,
        timeout=CONNECT_S,
    )


def _sighting(device: BLEDevice, data: AdvertisementData, at_s: float) -> Sighting:
    advertisement = Advertisement(
        data.local_name or device.name or "",
        frozenset(service.lower() for service in data.service_uuids),
        frozenset(data.manufacturer_data),
    )
    held = device.details.get("props") if isinstance(device.details, dict) else None  # BlueZ's
    bonded = bool(held.get("Paired")) if isinstance(held, dict) else None
    return Sighting(device.address.upper(), advertisement, data.rssi, at_s, device, bonded, _changes_address(device))


def _changes_address(device: BLEDevice) -> bool:
    """Whether its address is random and private: the two highest bits are 01 then (Core Specification 6.B.1.3)."""
    if isinstance(device.details, dict):
        is_random = device.details.get("props", {}).get("AddressType") == "random"
        return is_random and int(device.address[:2], 16) >> 6 == 1
    return bool(getattr(device.details, "is_resolvable", False))


@asynccontextmanager
async def _asking(what: str) -> AsyncIterator[None]:
    """Bounded in time, and every error a RadioError."""
    try:
        async with asyncio.timeout(CALL_S):
            yield
    except TimeoutError as error:
        raise RadioError("failed", f"{what}: no answer in {CALL_S:.0f} s") from error
    except Exception as error:
        raise radio_error(error, what) from error


def obey() -> None:
    """Raise CancelledError where this task was cancelled and goes on all the same.

    asyncio.wait_for, as Python 3.11 has it and libraries use it, loses a cancellation that comes with the result.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def at_most(seconds: float, awaitable: Awaitable[object], what: str) -> None:
    """Wait for the end of something that must not hold anything else up; what goes wrong is for the log alone."""
    try:
        async with asyncio.timeout(seconds):
            await awaitable
    except Exception as error:
        log.info("%s: %s", what, str(error) or type(error).__name__)
