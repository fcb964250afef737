"""Bleak's own client and scanner against virtual wearables, over bumble's real ATT, GATT and pairing."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakError, BleakGATTProtocolError

from agent.ingest.ble_bumble import BumbleBackend, bumble_backend, controller_of
from firmware_bridge.codecs.bluetooth_heart_rate import HeartRate
from firmware_bridge.devices import uuid16
from firmware_bridge.emulator import About, Air, HeartRateStrap, Peripheral

Run = Callable[[Coroutine[Any, Any, None]], None]
ADDRESS = "F0:11:22:33:44:01"
HEART_RATE, BATTERY, MODEL = uuid16(0x2A37), uuid16(0x2A19), uuid16(0x2A24)
INSUFFICIENT_ENCRYPTION = 15


class Heard(asyncio.Queue[bytes]):
    """Notifications, in order."""

    def came(self, _sender: object, data: bytearray) -> None:
        self.put_nowait(bytes(data))


def test_a_scan_tells_name_services_and_strength(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        heard: asyncio.Queue[tuple[BLEDevice, AdvertisementData]] = asyncio.Queue()
        async with (
            HeartRateStrap(air, ADDRESS),
            BleakScanner(lambda device, told: heard.put_nowait((device, told)), backend=backend.scanner),
        ):
            device, advertisement = await heard.get()
        await backend.close()
        assert (device.address, device.name) == (ADDRESS, "HRM 4711")
        assert advertisement.service_uuids == [uuid16(0x180D)]
        assert advertisement.rssi == -50

    run(scenario())


def test_a_scan_filters_by_service(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        async with HeartRateStrap(air, ADDRESS):
            none = await BleakScanner.discover(0.2, service_uuids=[uuid16(0x181F)], backend=backend.scanner)
            one = await BleakScanner.discover(0.2, service_uuids=[uuid16(0x180D)], backend=backend.scanner)
        await backend.close()
        assert (none, [device.address for device in one]) == ([], [ADDRESS])

    run(scenario())


def test_reads_and_notifications_come_as_they_were_sent(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        heard = Heard()
        async with HeartRateStrap(air, ADDRESS), BleakClient(ADDRESS, backend=backend.client) as client:
            assert client.mtu_size == 517
            assert bytes(await client.read_gatt_char(MODEL)) == b"HRM"
            await client.start_notify(HEART_RATE, heard.came)
            first = HeartRate.from_bytes(await heard.get())
            await client.stop_notify(HEART_RATE)
            assert (first.bpm, first.contact) == (72, True)
            with pytest.raises(BleakError, match="not found"):
                await client.read_gatt_char(uuid16(0x2AA7))
        await backend.close()

    run(scenario())


def test_a_lost_link_is_told_of_and_can_be_made_anew(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        gone = asyncio.Event()
        async with HeartRateStrap(air, ADDRESS) as strap:
            client = BleakClient(ADDRESS, lambda _: gone.set(), backend=backend.client, timeout=1)
            await client.connect()
            await strap.go_away()
            await gone.wait()
            assert not client.is_connected
            with pytest.raises(BleakError, match="not connected"):
                await client.read_gatt_char(BATTERY)
            with pytest.raises(TimeoutError):
                await client.connect()
            await strap.come_back()
            await client.connect()
            assert bytes(await client.read_gatt_char(BATTERY)) == b"\x5a"
            await client.disconnect()
            assert strap.connections == 2
        await backend.close()

    run(scenario())


def test_a_read_that_waits_when_the_link_breaks_ends(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        async with HeartRateStrap(air, ADDRESS) as strap:
            client = BleakClient(ADDRESS, backend=backend.client)
            await client.connect()
            strap.controller.answers = False
            reading = asyncio.ensure_future(client.read_gatt_char(BATTERY))
            await asyncio.sleep(0)
            strap.controller.break_links()
            with pytest.raises(BleakError, match="connected"):
                await reading
        await backend.close()

    run(scenario())


def test_a_connection_that_is_given_up_leaves_the_way_free(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        async with HeartRateStrap(air, ADDRESS) as strap:
            await strap.go_away()
            waiting = asyncio.ensure_future(BleakClient(ADDRESS, backend=backend.client).connect())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await strap.come_back()
            async with BleakClient(ADDRESS, backend=backend.client, timeout=3) as client:
                assert client.is_connected
        await backend.close()

    run(scenario())


class Echo(Peripheral):
    """Keeps what is written to it, and says it again."""

    SERVICE, VALUE, AGAIN = (f"0badcafe-0000-4000-8000-00000000000{place}" for place in range(3))

    def __init__(self, air: Air) -> None:
        super().__init__(air, ADDRESS, About("Echo"))
        self._kept = b""
        self._again = self.source(self.AGAIN)
        self._value = self.setting(self.VALUE, lambda: self._kept, self._written)

    def services(self) -> Sequence[Any]:
        return [self.service(self.SERVICE, self._value, self._again)]

    def _written(self, data: bytes) -> None:
        self._kept = data
        self.spawn(self.notify(self._again, data[:MAX_NOTIFIED]))


MAX_NOTIFIED = 517 - 3


def test_values_of_any_length_are_written_read_and_notified_as_they_are(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        heard = Heard()
        async with Echo(air), BleakClient(ADDRESS, backend=backend.client) as client:
            await client.start_notify(Echo.AGAIN, heard.came)
            for length in (0, 1, 20, 21, 243, 244, 245, 511, 512):
                sent = random.Random(length).randbytes(length)
                await client.write_gatt_char(Echo.VALUE, sent, response=True)
                assert bytes(await client.read_gatt_char(Echo.VALUE)) == sent
                assert await heard.get() == sent
        await backend.close()

    run(scenario())


def test_what_is_asked_of_a_client_that_is_not_connected_is_an_error_and_disconnecting_is_none(run: Run) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter)
        async with HeartRateStrap(air, ADDRESS):
            client = BleakClient(ADDRESS, backend=backend.client)
            await client.disconnect()
            await client.connect()
            with pytest.raises(BleakError, match="connected already"):
                await client.connect()
            await client.start_notify(HEART_RATE, lambda *_: None)
            with pytest.raises(BleakError, match="subscribed to already"):
                await client.start_notify(HEART_RATE, lambda *_: None)
            await client.disconnect()
            await client.disconnect()
            for refused in (client.pair(), client.start_notify(HEART_RATE, print), client.read_gatt_char(BATTERY)):
                with pytest.raises(BleakError, match=r"(?i)not connected"):
                    await refused
        await backend.close()

    run(scenario())


def served(port: int, bonds: Path, passkey: int | None = None) -> BumbleBackend:
    return bumble_backend(f"tcp-client:127.0.0.1:{port}", bonds=bonds, passkey=lambda _: passkey)


@pytest.mark.parametrize("passkey", [None, 123456], ids=["just works", "passkey"])
def test_a_bond_outlives_the_process(run: Run, tmp_path: Path, passkey: int | None) -> None:
    async def scenario() -> None:
        air, bonds = Air(), tmp_path / "bonds.json"
        async with HeartRateStrap(air, ADDRESS, bonds=True, passkey=passkey) as strap, air.serve() as port:
            backend = served(port, bonds, passkey)
            async with BleakClient(ADDRESS, backend=backend.client) as client:
                with pytest.raises(BleakGATTProtocolError) as refusal:
                    await client.read_gatt_char(BATTERY)
                assert refusal.value.code == INSUFFICIENT_ENCRYPTION
                await client.pair()
                assert bytes(await client.read_gatt_char(BATTERY)) == b"\x5a"
            await backend.close()

            again = served(port, bonds)
            async with BleakClient(ADDRESS, backend=again.client) as client:
                assert bytes(await client.read_gatt_char(BATTERY)) == b"\x5a"

            # The device forgets; only a new pairing helps, and before it the old bond has to go.
            await strap.forget_bonds()
            async with BleakClient(ADDRESS, backend=again.client) as client:
                with pytest.raises(BleakGATTProtocolError):
                    await client.read_gatt_char(BATTERY)
                await client.unpair()
            strap.passkey = None
            async with BleakClient(ADDRESS, backend=again.client, pair=True) as client:
                assert bytes(await client.read_gatt_char(BATTERY)) == b"\x5a"
            await again.close()
        assert stat.S_IMODE(bonds.stat().st_mode) == 0o600

    run(scenario())


def test_a_wrong_passkey_and_a_refusal_are_errors(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        air = Air()
        async with HeartRateStrap(air, ADDRESS, bonds=True, passkey=123456) as strap, air.serve() as port:
            backend = served(port, tmp_path / "bonds.json", 654321)
            client = BleakClient(ADDRESS, backend=backend.client)
            for refuses in (False, True):
                strap.refuses_pairing = refuses
                await client.connect()
                with pytest.raises(BleakError, match="the pairing failed"):
                    await client.pair()
                await client.disconnect()
            await backend.close()

    run(scenario())


def test_a_controller_that_is_pulled_out_or_hangs_can_be_opened_again(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        air = Air()
        gone = asyncio.Event()
        async with HeartRateStrap(air, ADDRESS):
            async with air.serve() as port:
                backend = served(port, tmp_path / "bonds.json")
                client = BleakClient(ADDRESS, lambda _: gone.set(), backend=backend.client, timeout=1)
                await client.connect()
            await gone.wait()
            with pytest.raises(BleakBluetoothNotAvailableError):
                await BleakScanner.discover(0.1, backend=backend.scanner)
            async with air.serve(port=port):
                await client.connect()
                assert client.is_connected
                await backend.power_cycle()
                assert not client.is_connected
                await client.connect()
                await client.disconnect()
                await backend.close()

    run(scenario())


def test_the_environment_says_how_the_controller_is_reached() -> None:
    assert controller_of("bumble:tcp-client:127.0.0.1:9000") == "tcp-client:127.0.0.1:9000"
    for wrong in ("", "bumble:", "bluez", "usb:0"):
        with pytest.raises(ValueError, match="VAGUS_BLUETOOTH"):
            controller_of(wrong)
