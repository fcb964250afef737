"""A backend of bleak over bumble: a controller without BlueZ, be it a dongle, a pipe or one made of software.

The environment variable VAGUS_BLUETOOTH asks for it: "bumble:" and then how bumble reaches the controller, such as
"bumble:usb:0", "bumble:hci-socket:0" (Linux, adapter down) or "bumble:tcp-client:127.0.0.1:9000". Import this module
only then: it needs bumble.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bleak.args import SizedBuffer
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError
from bumble import core, gatt
from bumble.device import Peer

from agent.ingest.ble_bumble_radio import ANSWER_TIMEOUT_S, Passkey, Plug, Radio, hang_up, speaking
from firmware_bridge.devices import uuid16

VARIABLE = "VAGUS_BLUETOOTH"
MTU = 517
PAIRING_TIMEOUT_S = 30.0
_PREFIX = "bumble:"
_NAMES, _TX_POWER, _MAKER = (0x09, 0x08), 0x0A, 0xFF
_SERVICE_BYTES = {0x02: 2, 0x03: 2, 0x04: 4, 0x05: 4, 0x06: 16, 0x07: 16}
_SERVICE_DATA_BYTES = {0x16: 2, 0x20: 4, 0x21: 16}


@dataclass(frozen=True, slots=True)
class BumbleBackend:
    """What to hand to bleak: BleakClient(…, backend=client) and BleakScanner(backend=scanner)."""

    client: type[BaseBleakClient]
    scanner: type[BaseBleakScanner]
    radio: Radio

    async def power_cycle(self) -> None:
        """Close the controller and open it again, as the last thing to try; raises BleakBluetoothNotAvailableError."""
        await self.radio.close()
        await self.radio.open()

    async def close(self) -> None:
        """Disconnect everything and let go of the controller."""
        await self.radio.close()


def bumble_backend(
    controller: str | Plug, *, bonds: Path | None = None, passkey: Passkey | None = None
) -> BumbleBackend:
    """A backend on one controller; it is opened at first use.

    `controller`: how bumble reaches it, or, in tests, a function that plugs one in; `bonds`: the file that keeps the
    keys of paired devices, None: they are forgotten with the process; `passkey`: the number that a device shows.
    """
    radio = Radio(controller, bonds, passkey)
    client = type("BumbleClient", (_Client,), {"radio": radio})
    scanner = type("BumbleScanner", (_Scanner,), {"radio": radio})
    return BumbleBackend(client, scanner, radio)


def controller_of(setting: str) -> str:
    """How bumble reaches the controller that a value of VAGUS_BLUETOOTH names; raises ValueError."""
    controller = setting.removeprefix(_PREFIX)
    if controller == setting or ":" not in controller:
        raise ValueError(f'{VARIABLE} is {setting!r}, expected such as "bumble:usb:0"')
    return controller


class _Scanner(BaseBleakScanner):
    radio: Radio

    def __init__(self, detection_callback: Any, service_uuids: Any, scanning_mode: str, **_: Any) -> None:
        super().__init__(detection_callback, service_uuids)
        self._known: dict[str, AdvertisementData] = {}

    async def start(self) -> None:
        self.seen_devices = {}
        self._known.clear()
        await self.radio.listen(self)

    async def stop(self) -> None:
        await self.radio.hush(self)

    def heard(self, advertisement: Any) -> None:
        """Somebody advertises; what an earlier packet of the same device said still stands, as BlueZ has it."""
        address = advertisement.address.to_string(with_type_qualifier=False)
        data = _advertised(advertisement, self._known.get(address))
        self._known[address] = data
        if not self.is_allowed_uuid(data.service_uuids):
            return
        name = data.local_name or address.replace(":", "-")
        device = self.create_or_update_device(address, address, name, advertisement.address, data)
        self.call_detection_callbacks(device, data)


def _advertised(advertisement: Any, before: AdvertisementData | None) -> AdvertisementData:
    name = before.local_name if before else None
    makers = dict(before.manufacturer_data) if before else {}
    services = dict.fromkeys(before.service_uuids if before else ())
    service_data = dict(before.service_data) if before else {}
    tx_power = before.tx_power if before else None
    for kind, value in advertisement.data.ad_structures:
        if kind in _NAMES:
            name = value.decode(errors="replace")
        elif kind == _TX_POWER and len(value) == 1:
            tx_power = int.from_bytes(value, "little", signed=True)
        elif kind == _MAKER and len(value) >= 2:
            makers[int.from_bytes(value[:2], "little")] = value[2:]
        elif size := _SERVICE_BYTES.get(kind):
            whole = range(0, len(value) - size + 1, size)
            services |= dict.fromkeys(_uuid_text(value[at : at + size]) for at in whole)
        elif (size := _SERVICE_DATA_BYTES.get(kind)) and len(value) >= size:
            service_data[_uuid_text(value[:size])] = value[size:]
    return AdvertisementData(name, makers, service_data, list(services), tx_power, advertisement.rssi, (advertisement,))


class _Client(BaseBleakClient):
    radio: Radio

    def __init__(self, address_or_ble_device: BLEDevice | str, **kwargs: Any) -> None:
        super().__init__(
            address_or_ble_device,
            disconnected_callback=kwargs.pop("disconnected_callback", None),
            timeout=kwargs.pop("timeout", 30.0),
        )
        self._name = address_or_ble_device.name if isinstance(address_or_ble_device, BLEDevice) else None
        self._connection: Any = None
        self._callbacks: dict[int, Callable[[bytes], None]] = {}

    @property
    def name(self) -> str:
        return self._name or self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        return int(self._connected().att_mtu)

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        if self._connection is not None:
            raise BleakError("connected already")
        connection = await self.radio.connect(self.address, self._timeout)
        self._connection = connection
        connection.on(connection.EVENT_DISCONNECTION, self._disconnected)
        try:
            async with asyncio.timeout(self._timeout):
                await self._set_up(connection, pair)
        except BaseException:
            await self.disconnect()
            raise

    async def _set_up(self, connection: Any, pair: bool) -> None:
        bonded = await self.radio.bonded(str(connection.peer_address))
        if bonded:
            await self._encrypt(connection)
        with speaking("the service discovery"):
            peer = Peer(connection)
            await peer.request_mtu(MTU)
            await peer.discover_services()
            await peer.discover_characteristics()
            for service in peer.services:
                for characteristic in service.characteristics:
                    await peer.discover_descriptors(characteristic)
        self.services = _collection(peer, lambda: int(connection.att_mtu) - 3)
        if pair and not bonded:
            await self.pair()

    async def _encrypt(self, connection: Any) -> None:
        """A bond is of use only once the link is encrypted; where the device has lost it, what is protected says so."""
        with suppress(BleakError), speaking("the encryption"):
            await connection.encrypt()
        if self._connection is None:
            raise BleakError("the device does not accept the bond")

    async def disconnect(self) -> None:
        connection = self._connection
        if connection is None:
            return
        with suppress(BleakError, TimeoutError), speaking("the disconnection"):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await connection.disconnect()
        if self._connection is connection:
            hang_up(connection)

    def _disconnected(self, _reason: int) -> None:
        self._connection = None
        self._callbacks.clear()
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def pair(self, *args: Any, **kwargs: Any) -> None:
        connection = self._connected()
        with speaking("the pairing"):
            async with asyncio.timeout(PAIRING_TIMEOUT_S):
                await connection.pair()

    async def unpair(self) -> None:
        await self.disconnect()
        await self.radio.forget(self.address)
        await self.radio.forget(f"{self.address}/P")

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **kwargs: Any
    ) -> bytearray:
        self._connected()
        with speaking("the read"):
            return bytearray(await characteristic.obj.read_value())

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **kwargs: Any
    ) -> bytearray:
        self._connected()
        with speaking("the read"):
            return bytearray(await descriptor.obj.read_value())

    async def write_gatt_char(self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool) -> None:
        self._connected()
        with speaking("the write"):
            await characteristic.obj.write_value(bytes(data), with_response=response)

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        self._connected()
        with speaking("the write"):
            await descriptor.obj.write_value(bytes(data), with_response=True)

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: Callable[[bytearray], None], **kwargs: Any
    ) -> None:
        self._connected()
        if characteristic.handle in self._callbacks:
            raise BleakError(f"{characteristic.uuid} is subscribed to already")

        def came(value: bytes) -> None:
            # Bumble keeps one whose subscription was refused, and calls it once another succeeds.
            if self._callbacks.get(characteristic.handle) is came:
                callback(bytearray(value))

        self._callbacks[characteristic.handle] = came
        try:
            with speaking("the subscription"):
                await characteristic.obj.subscribe(came)
        except BaseException:
            self._callbacks.pop(characteristic.handle, None)
            raise

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        self._connected()
        callback = self._callbacks.pop(characteristic.handle, None)
        if callback is not None:
            with speaking("the end of a subscription"):
                await characteristic.obj.unsubscribe(callback)

    def _connected(self) -> Any:
        if self._connection is None:
            raise BleakError("not connected")
        return self._connection


def _collection(peer: Peer, max_write: Callable[[], int]) -> BleakGATTServiceCollection:
    found = BleakGATTServiceCollection()
    for service in peer.services:
        shown = BleakGATTService(service, service.handle, _uuid_of(service.uuid))
        found.add_service(shown)
        for characteristic in service.characteristics:
            properties = _property_names(characteristic.properties)
            one = BleakGATTCharacteristic(
                characteristic, characteristic.handle, _uuid_of(characteristic.uuid), properties, max_write, shown
            )
            found.add_characteristic(one)
            for descriptor in characteristic.descriptors:
                found.add_descriptor(BleakGATTDescriptor(descriptor, descriptor.handle, _uuid_of(descriptor.type), one))
    return found


_PROPERTY_NAMES = {
    gatt.Characteristic.Properties.BROADCAST: "broadcast",
    gatt.Characteristic.Properties.READ: "read",
    gatt.Characteristic.Properties.WRITE_WITHOUT_RESPONSE: "write-without-response",
    gatt.Characteristic.Properties.WRITE: "write",
    gatt.Characteristic.Properties.NOTIFY: "notify",
    gatt.Characteristic.Properties.INDICATE: "indicate",
    gatt.Characteristic.Properties.AUTHENTICATED_SIGNED_WRITES: "authenticated-signed-writes",
    gatt.Characteristic.Properties.EXTENDED_PROPERTIES: "extended-properties",
}


def _property_names(properties: Any) -> Any:
    return [name for flag, name in _PROPERTY_NAMES.items() if properties & flag]


def _uuid_of(identifier: core.UUID) -> str:
    return _uuid_text(identifier.to_bytes())


def _uuid_text(little_endian: bytes) -> str:
    """A UUID of 2, 4 or 16 bytes in full and in lower case."""
    if len(little_endian) == 16:
        return str(uuid.UUID(bytes=little_endian[::-1]))
    return uuid16(int.from_bytes(little_endian, "little"))
