"""A Bluetooth controller spoken to without BlueZ: bumble is the host. One central for everything in this process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakError,
    BleakGATTProtocolError,
)
from bumble import att, core, hci
from bumble.device import Device, DeviceConfiguration
from bumble.host import Host
from bumble.keys import JsonKeyStore, KeyStore, MemoryKeyStore
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport import open_transport

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5.0
"""A controller that needs longer for a command is out of order."""

Transport = Any
"""A bumble Transport: where the controller's packets come from and go to, and how to close it."""
Identity = tuple[str, str]
"""Our static random address, and the key of those that would hide it, in hex."""
Plug = Callable[[], Awaitable[Transport]]
Passkey = Callable[[str], int | None]
"""The six digits that a device with this address shows; None: it shows none."""


class AdvertisementListener(Protocol):
    """Who wants to know what is advertised."""

    def heard(self, advertisement: Any) -> None: ...


class Radio:
    """The controller, opened at first use and anew once it was lost."""

    def __init__(self, plug: str | Plug, bonds: Path | None, passkey: Passkey | None) -> None:
        self._plug = plug
        kept = None if bonds is None else _BondFile(bonds)
        self._bonds: KeyStore = kept or MemoryKeyStore()
        self._identity = kept.identity() if kept is not None else _new_identity()
        self._passkey = passkey
        self._opening = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._transport: Transport = None
        self._device: Any = None
        self._listeners: list[AdvertisementListener] = []
        self._types: dict[str, int] = {}
        """The type of every address that was heard, without which it cannot be connected to."""

    async def open(self) -> Any:
        """The central; raises BleakBluetoothNotAvailableError."""
        async with self._opening:
            if self._device is None:
                await self._close()
                try:
                    async with asyncio.timeout(2 * ANSWER_TIMEOUT_S):
                        self._device = await self._power_on()
                except Exception as error:  # a transport raises what it likes; there is no controller, whatever it is
                    await self._close()
                    raise _not_available(str(error) or "it does not answer") from error
            return self._device

    async def close(self) -> None:
        """Let go of the controller; whoever is connected is disconnected. The next use opens it again."""
        async with self._opening:
            await self._close()

    async def listen(self, listener: AdvertisementListener) -> None:
        """Tell `listener` of every advertisement from now on; raises BleakError."""
        device = await self.open()
        with speaking("the scan"):
            if not device.is_scanning:
                await device.start_scanning(filter_duplicates=False)
        self._listeners.append(listener)

    async def hush(self, listener: AdvertisementListener) -> None:
        """Tell `listener` no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners and self._device is not None and self._device.is_scanning:
            with speaking("the scan"):
                await self._device.stop_scanning()

    async def connect(self, address: str, timeout_s: float) -> Any:
        """A connection to the device with this address; raises BleakError or TimeoutError."""
        device = await self.open()
        async with self._connecting:
            peer = hci.Address(address, self._types.get(address.upper(), _likely_type(address)))
            if device.find_connection_by_bd_addr(peer, core.PhysicalTransport.LE) is not None:
                raise BleakError(f"{address} is connected already")
            attempt = asyncio.ensure_future(device.connect(peer, core.PhysicalTransport.LE, timeout=timeout_s))
            try:
                with speaking("the connection"):
                    async with asyncio.timeout(timeout_s + ANSWER_TIMEOUT_S):
                        return await asyncio.shield(attempt)
            except (asyncio.CancelledError, TimeoutError):
                await self._abandon(device, attempt)
                raise
            finally:
                # Where a bonded device hides its address, bumble scans for it, and ends the scan.
                if self._listeners and self._device is device and not device.is_scanning:
                    with suppress(BleakError), speaking("the scan"):
                        await device.start_scanning(filter_duplicates=False)

    async def bonded(self, address: str) -> bool:
        """Whether there is a bond with the device."""
        return await self._bonds.get(address) is not None

    async def forget(self, address: str) -> None:
        """Take the bond with the device away, if there is one."""
        if await self.bonded(address):
            await self._bonds.delete(address)

    async def _power_on(self) -> Device:
        plug = self._plug
        self._transport = await (open_transport(plug) if isinstance(plug, str) else plug())
        host = Host(self._transport.source, self._transport.sink)
        address, irk = self._identity
        device = Device(config=DeviceConfiguration("vagus", hci.Address(address), irk=bytes.fromhex(irk)), host=host)
        device.command_timeout = ANSWER_TIMEOUT_S
        device.keystore = self._bonds
        device.pairing_config_factory = self._pairing
        await device.power_on()
        device.on(Device.EVENT_ADVERTISEMENT, self._advertised)
        host.on("flush", self._lost)
        return device

    async def _close(self) -> None:
        device, self._device = self._device, None
        transport, self._transport = self._transport, None
        self._listeners.clear()
        if device is not None:
            _disconnect_all(device)
        if transport is not None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await transport.close()

    def _lost(self) -> None:
        """The way to the controller is gone, as when a dongle is pulled out."""
        device, self._device = self._device, None
        if device is not None:
            log.warning("the Bluetooth controller is gone")
            self._listeners.clear()
            _disconnect_all(device)

    async def _abandon(self, device: Device, attempt: asyncio.Future[Any]) -> None:
        """Nobody waits for the connection any more: neither must the controller, nor may it come to stand."""
        with suppress(Exception):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if not attempt.done():
                    await device.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())
                connection = await attempt
                await connection.disconnect()
        attempt.cancel()

    def _advertised(self, advertisement: Any) -> None:
        address = advertisement.address
        self._types[address.to_string(with_type_qualifier=False)] = address.address_type
        for listener in list(self._listeners):
            listener.heard(advertisement)

    def _pairing(self, connection: Any) -> PairingConfig:
        address = connection.peer_address.to_string(with_type_qualifier=False)
        number = self._passkey(address) if self._passkey is not None else None
        return PairingConfig(sc=True, mitm=number is not None, bonding=True, delegate=_Delegate(number))


class _Delegate(PairingDelegate):  # type: ignore[misc]
    """Answers a device that pairs: with the number it shows, or, where it shows none, with nothing."""

    def __init__(self, number: int | None) -> None:
        capability = self.NO_OUTPUT_NO_INPUT if number is None else self.KEYBOARD_INPUT_ONLY
        super().__init__(io_capability=capability)
        self._number = number

    async def get_number(self) -> int | None:
        return self._number


class _BondFile(JsonKeyStore):  # type: ignore[misc]
    """Bonds, and whose they are, in a file that only its owner may read.

    A device knows who it is bonded with by the address, so that has to outlast the process as well.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(namespace="bonds", filename=str(path))

    def identity(self) -> Identity:
        """Ours; made and kept at first use. Raises ValueError where the file holds something else."""
        kept = json.loads(self.filename.read_text()) if self.filename.exists() else {}
        if "identity" not in kept:
            kept["identity"] = _new_identity()
            self._write(kept)
        address, irk = kept["identity"]
        return str(address), str(irk)

    async def save(self, db: dict[str, Any]) -> None:
        self._write(db)

    def _write(self, content: dict[str, Any]) -> None:
        self.directory_name.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.filename.with_name(f"{self.filename.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file, sort_keys=True, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.filename)


def _new_identity() -> Identity:
    address = hci.Address.generate_static_address()
    return address.to_string(with_type_qualifier=False), os.urandom(16).hex()


@contextmanager
def speaking(about: str) -> Iterator[None]:
    """What bumble raises comes out as what bleak raises; `about` names what was being done."""
    try:
        yield
    except att.ATT_Error as error:
        raise BleakGATTProtocolError(error.error_code) from error
    except core.CommandTimeoutError as error:
        raise _not_available(f"it does not answer ({about})") from error
    except core.TimeoutError as error:
        raise TimeoutError(f"no answer to {about}") from error
    except (core.BaseBumbleError, hci.HCI_Error) as error:
        raise BleakError(f"{about} failed: {error}") from error
    except asyncio.CancelledError as error:
        if _cancelled():
            raise
        # Bumble cancels what waits on a link that breaks.
        raise BleakError(f"{about} failed: disconnected") from error


def _cancelled() -> bool:
    """Whether somebody wants the task that runs to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def hang_up(connection: Any) -> None:
    """Take a connection for ended, without a word from the controller."""
    connection.device.on_disconnection(connection.handle, hci.HCI_CONNECTION_TERMINATED_BY_LOCAL_HOST_ERROR)


def _disconnect_all(device: Device) -> None:
    for connection in list(device.connections.values()):
        hang_up(connection)


def _not_available(why: str) -> BleakBluetoothNotAvailableError:
    return BleakBluetoothNotAvailableError(
        f"the Bluetooth controller cannot be used: {why}", BleakBluetoothNotAvailableReason.NO_BLUETOOTH
    )


def _likely_type(address: str) -> int:
    """Of an address never heard: one that begins with two set bits is a static random one, as wearables mostly have."""
    return int(hci.Address.RANDOM_DEVICE_ADDRESS if int(address[:2], 16) >= 0xC0 else hci.Address.PUBLIC_DEVICE_ADDRESS)
