"""What every virtual wearable is: a name that it advertises, a battery, who made it, perhaps a bond, and its faults."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from bumble import att, core, gatt, hci
from bumble.device import Device, DeviceConfiguration
from bumble.host import Host
from bumble.keys import MemoryKeyStore
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport.common import AsyncPipeSink

from firmware_bridge.codecs.bluetooth_device import BatteryLevel, DeviceText
from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import DeviceTime
from firmware_bridge.emulator.faults import Faults

ADVERTISING_INTERVAL_MS = 50
_BATTERY, _BATTERY_LEVEL = 0x180F, 0x2A19
_INFORMATION, _MAKER, _MODEL, _FIRMWARE = 0x180A, 0x2A29, 0x2A24, 0x2A26
_MAX_ADVERTISED = 31


@dataclass(frozen=True, slots=True)
class About:
    """What a wearable says of itself."""

    name: str
    maker: str = ""
    model: str = ""
    firmware: str = ""


class RefusedWriteError(Exception):
    """A write that the device answers with an ATT error of this code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"ATT error 0x{code:02x}")


class Peripheral:
    """A wearable that advertises while it is switched on and nobody is connected.

    Switch it on with `async with`. A subclass says in `services` what it has and in `play` what it sends; `bonds` is
    whether it has to be paired, `passkey` the number that it then shows.
    """

    advertised: tuple[int | str, ...] = ()
    """Its services that it advertises, as 16-bit numbers or in full."""

    def __init__(
        self,
        air: Air,
        address: str,
        about: About,
        *,
        time: DeviceTime | None = None,
        bonds: bool = False,
        passkey: int | None = None,
    ) -> None:
        self.address, self.about, self.bonds, self.passkey = address, about, bonds, passkey
        self.time = time or DeviceTime()
        self.faults = Faults()
        self.refuses_pairing = False
        self.write_error: int | None = None
        """The ATT error with which it refuses every write to a control point; None: it does not."""
        self.controller = air.controller(about.name)
        config = DeviceConfiguration(about.name, hci.Address(address), irk=os.urandom(16))
        self.device = Device(config=config, host=Host(self.controller, AsyncPipeSink(self.controller)))
        self.device.keystore = MemoryKeyStore()
        self.device.pairing_config_factory = self._pairing
        self.device.on(Device.EVENT_CONNECTION, self._connected)
        self.connection: Any = None
        self.connections = 0
        """How often somebody connected."""
        self.sent = 0
        """Notifications sent."""
        self.heard = asyncio.Event()
        """Somebody is connected and has subscribed to something."""
        server = self.device.gatt_server
        server.on(server.EVENT_CHARACTERISTIC_SUBSCRIPTION, lambda *_: self.heard.set())
        self.in_range = True
        self._battery = self.value(_BATTERY_LEVEL, bytes(BatteryLevel(90)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._while_connected: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._add_services()
        await self.device.power_on()
        await self._advertise()
        self.spawn(self.live())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.in_range = False
        self.controller.pull_out()
        await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failures and error is None:
            raise self._failures[0]

    def services(self) -> Sequence[gatt.Service]:
        """What it has beside its battery and its name plate."""
        return ()

    async def live(self) -> None:
        """Do what it does whether or not somebody is connected, until it is switched off."""

    async def play(self) -> None:
        """Send, from connection to disconnection, which cancels this."""

    # What can be done to it

    async def disconnect(self) -> None:
        """It hangs up, and can be connected to again."""
        if self.connection is not None:
            await self.connection.disconnect(hci.HCI_REMOTE_USER_TERMINATED_CONNECTION_ERROR)

    async def go_away(self) -> None:
        """It is carried out of range: the link breaks as by a time-out, and nobody hears it."""
        self.in_range = False
        await self.device.stop_advertising()
        self.controller.break_links()

    async def come_back(self) -> None:
        """It is in range again."""
        self.in_range = True
        await self._advertise()

    async def forget_bonds(self) -> None:
        """It has been reset, or was paired with somebody else, and knows nobody any more."""
        await self.device.keystore.delete_all()
        self.device.smp_manager.sessions.clear()  # in which bumble still has the keys

    async def update_firmware(self) -> None:
        """It starts anew, and has other services, or the same ones elsewhere: what `services` gives now."""
        await self.disconnect()
        server = self.device.gatt_server
        server.attributes.clear()
        server.services.clear()
        server.attributes_by_handle.clear()
        self.device.add_default_services()
        self._add_services()

    async def set_battery(self, percent: int) -> None:
        """How full its battery is, told to whoever asked to be told."""
        self._battery.value = bytes(BatteryLevel(percent))
        await self.device.notify_subscribers(self._battery)

    # What a subclass is made of

    def value(self, number: int | str, content: bytes | Callable[[], bytes]) -> gatt.Characteristic:
        """A characteristic that can be read, and tells of changes where it is the battery's."""
        properties = gatt.Characteristic.Properties.READ
        if number == _BATTERY_LEVEL:
            properties |= gatt.Characteristic.Properties.NOTIFY
        held = content if isinstance(content, bytes) else att.AttributeValue(read=lambda _: content())
        return gatt.Characteristic(_uuid(number), properties, self._permissions(), held)

    def setting(
        self, number: int | str, content: Callable[[], bytes], written: Callable[[bytes], None]
    ) -> gatt.Characteristic:
        """A characteristic that is read and may be written to."""
        properties = gatt.Characteristic.Properties.READ | gatt.Characteristic.Properties.WRITE
        value = att.AttributeValue(read=lambda _: content(), write=lambda _, data: self._write(written, data))
        return gatt.Characteristic(_uuid(number), properties, self._permissions(), value)

    def sink(self, number: int | str, written: Callable[[bytes], None]) -> gatt.Characteristic:
        """A characteristic that is only written to, and does not say whether that went well."""
        value = att.AttributeValue(read=lambda _: b"", write=lambda _, data: written(data))
        properties = gatt.Characteristic.Properties.WRITE_WITHOUT_RESPONSE
        return gatt.Characteristic(_uuid(number), properties, self._permissions(), value)

    def source(self, number: int | str, *, indicates: bool = False) -> gatt.Characteristic:
        """A characteristic that is only listened to."""
        properties = gatt.Characteristic.Properties.INDICATE if indicates else gatt.Characteristic.Properties.NOTIFY
        return self._with_guarded_subscription(
            gatt.Characteristic(_uuid(number), properties, gatt.Characteristic.READABLE, b"")
        )

    def control_point(
        self, number: int | str, written: Callable[[bytes], None], content: bytes | None = None
    ) -> gatt.Characteristic:
        """A characteristic that is written to and answers by indications; `content` is what there is to read in it."""
        properties = gatt.Characteristic.Properties.WRITE | gatt.Characteristic.Properties.INDICATE
        if content is not None:
            properties |= gatt.Characteristic.Properties.READ

        value = att.AttributeValue(read=lambda _: content or b"", write=lambda _, data: self._write(written, data))
        return self._with_guarded_subscription(
            gatt.Characteristic(_uuid(number), properties, self._permissions(), value)
        )

    def service(self, number: int | str, *characteristics: gatt.Characteristic) -> gatt.Service:
        """A service of these characteristics."""
        return gatt.Service(_uuid(number), list(characteristics))

    async def notify(self, characteristic: gatt.Characteristic, frame: bytes) -> None:
        """Send a frame, with the faults that befall it, if somebody listens."""
        if not self.device.gatt_server.subscribers.get(self.connection, {}).get(characteristic.handle):
            return
        for one in self.faults.frames(frame):
            self.sent += 1
            await self.device.notify_subscribers(characteristic, one)
        if self.faults.link_breaks:
            self.faults.link_breaks = False
            await asyncio.sleep(0.01)  # what was sent is on its way through two controllers
            self.controller.break_links()

    def answer(self, characteristic: gatt.Characteristic, answer: bytes) -> None:
        """Indicate an answer, after what is being done now."""
        if not self.faults.silent:
            self.spawn(self.device.indicate_subscribers(characteristic, answer))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside; what goes wrong in it is raised when the wearable is switched off."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def while_connected(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Likewise, until the link ends."""
        task = self.spawn(work)
        self._while_connected.add(task)
        task.add_done_callback(self._while_connected.discard)
        return task

    def _add_services(self) -> None:
        self.device.add_services(self._standard_services())
        self.device.add_services(self.services())

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _write(self, written: Callable[[bytes], None], data: bytes) -> None:
        if self.write_error is not None:
            raise att.ATT_Error(self.write_error)
        try:
            written(data)
        except RefusedWriteError as error:
            raise att.ATT_Error(error.code) from None

    def _permissions(self) -> int:
        both = gatt.Characteristic.READABLE | gatt.Characteristic.WRITEABLE
        guarded = gatt.Characteristic.READ_REQUIRES_ENCRYPTION | gatt.Characteristic.WRITE_REQUIRES_ENCRYPTION
        return int(both | guarded if self.bonds else both)

    def _with_guarded_subscription(self, characteristic: gatt.Characteristic) -> gatt.Characteristic:
        """Who wants to be told has to be paired as well, where the device bonds."""
        switch = self.device.gatt_server.make_descriptor_value(characteristic)
        kind = gatt.GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR
        characteristic.descriptors = (gatt.Descriptor(kind, self._permissions(), switch),)
        return characteristic

    def _standard_services(self) -> list[gatt.Service]:
        plate = {_MAKER: self.about.maker, _MODEL: self.about.model, _FIRMWARE: self.about.firmware}
        texts = [
            gatt.Characteristic(
                _uuid(number),
                gatt.Characteristic.Properties.READ,
                gatt.Characteristic.READABLE,
                bytes(DeviceText(text)),
            )
            for number, text in plate.items()
            if text
        ]
        return [self.service(_BATTERY, self._battery), self.service(_INFORMATION, *texts)]

    async def _advertise(self) -> None:
        if self.in_range and self.connection is None:
            await self.device.start_advertising(
                advertising_data=self._advertisement(),
                advertising_interval_min=ADVERTISING_INTERVAL_MS,
                advertising_interval_max=ADVERTISING_INTERVAL_MS,
            )

    def _advertisement(self) -> bytes:
        short = b"".join(one.to_bytes(2, "little") for one in self.advertised if isinstance(one, int))
        long = b"".join(_uuid(one).to_bytes() for one in self.advertised if isinstance(one, str))
        parts: list[tuple[int, bytes]] = [(core.AdvertisingData.FLAGS, b"\x06")]
        if short:
            parts.append((core.AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, short))
        if long:
            parts.append((core.AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, long))
        room = _MAX_ADVERTISED - len(bytes(core.AdvertisingData(parts))) - 2
        parts.append((core.AdvertisingData.COMPLETE_LOCAL_NAME, self.about.name.encode()[:room]))
        return bytes(core.AdvertisingData(parts))

    def _connected(self, connection: Any) -> None:
        self.connection = connection
        self.connections += 1
        connection.on(connection.EVENT_DISCONNECTION, self._disconnected)
        self.while_connected(self.play())

    def _disconnected(self, _reason: int) -> None:
        self.connection = None
        self.heard.clear()
        for task in self._while_connected:
            task.cancel()
        self.spawn(self._advertise())

    def _pairing(self, _connection: Any) -> PairingConfig:
        return PairingConfig(sc=True, mitm=self.passkey is not None, bonding=self.bonds, delegate=_Delegate(self))


class _Delegate(PairingDelegate):  # type: ignore[misc]
    """A device with a small display, or none."""

    def __init__(self, peripheral: Peripheral) -> None:
        shows = peripheral.passkey is not None
        super().__init__(io_capability=self.DISPLAY_OUTPUT_ONLY if shows else self.NO_OUTPUT_NO_INPUT)
        self._peripheral = peripheral

    async def accept(self) -> bool:
        return not self._peripheral.refuses_pairing

    async def generate_passkey(self) -> int:
        return self._peripheral.passkey or 0


def _uuid(number: int | str) -> core.UUID:
    return core.UUID.from_16_bits(number) if isinstance(number, int) else core.UUID(number)
