"""The Bluetooth source against virtual wearables, over real ATT, GATT and pairing, in time that flies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bumble", reason="bumble is not installed")

from bleak.exc import BleakDBusError

from agent.config import BleConfig
from agent.ingest.ble_bumble import bumble_backend
from firmware_bridge.emulator import Air, HeartRateStrap, PolarH10
from tests.peers.ble_house import House, LoopTime, fly, house, wearable

STRAP, OTHER = "F0:11:22:33:44:01", "F0:11:22:33:44:02"


def strap_of(air: Air, address: str = STRAP, **more: Any) -> HeartRateStrap:
    return HeartRateStrap(air, address, time=LoopTime(), **more)


def named(name: str) -> BleConfig:
    """A strap that is known by its name alone."""
    return replace(wearable("heart-rate-strap", STRAP, more=f'name = "{name}"'), address="")


def newer_than(count: int) -> Callable[[House], bool]:
    """More readings than there were."""
    return lambda inside: len(inside.chunks("hr")) > count


class Socket:
    """Where an adapter is plugged in, and pulled out again."""

    def __init__(self, air: Air) -> None:
        self._air = air
        self._transport: Any = None
        self.is_broken = False

    async def plug(self) -> Any:
        if self.is_broken:
            raise OSError("no such device")
        self._transport = await self._air.adapter()
        return self._transport

    def pull_out(self) -> None:
        self.is_broken = True
        self._transport.controller.pull_out()
        self._transport.source.terminated.set_result(None)

    def hang(self) -> None:
        self._transport.controller.answers = False


def test_a_strap_is_found_connected_and_listened_to() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air), house(air, wearable("heart-rate-strap", STRAP)) as inside:
            await inside.until(lambda one: len(one.chunks("hr")) == 600, 700)
            status = inside.status()
        assert {float(chunk.samples[0, 0]) for chunk in inside.chunks()} == {72.0}
        assert (status.state, status.words, status.battery_percent) == ("connected", "it sends", 90)
        assert (status.model, status.rssi_dbm, status.trouble) == ("Example HRM 1.0", -50, "")
        assert status.counts == {"connections": 1}

    fly(scenario())


def test_it_may_be_known_by_its_name() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air), house(air, named("HRM 4711")) as inside:
            await inside.until(newer_than(3))

    fly(scenario())


def test_a_name_that_two_devices_have_is_refused() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air), strap_of(air, OTHER), house(air, named("HRM 4711")) as inside:
            status = await inside.until_status(lambda one: one.state == "refused")
            assert '2 devices are called "HRM 4711"' in status.trouble
            assert inside.chunks() == []

    fly(scenario())


def test_an_orderly_end_stops_the_device_and_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        air = Air()
        async with PolarH10(air, STRAP, time=LoopTime()) as strap:
            async with house(air, wearable("polar-h10", STRAP)) as inside:
                await inside.until(lambda one: bool(one.chunks("ecg")))
                frames, stopped, stop = strap.frames, [], strap._stop
                monkeypatch.setattr(strap, "_stop", lambda one: (stopped.append(one), stop(one)))
            assert inside.status().state == "stopped"
            assert len(stopped) == 1
            await asyncio.sleep(5)
            assert strap.connection is None
            assert strap.frames <= frames + 1

    fly(scenario())


def test_each_adapter_has_its_own_wearables() -> None:
    async def scenario() -> None:
        rooms = {"hci0": Air(), "hci1": Air()}
        backends = {name: bumble_backend(air.adapter) for name, air in rooms.items()}
        first = wearable("heart-rate-strap", STRAP, "p1", 'device = "one"\nadapter = "hci0"')
        second = wearable("heart-rate-strap", OTHER, "p2", 'device = "two"\nadapter = "hci1"')
        async with (
            strap_of(rooms["hci0"]),
            strap_of(rooms["hci1"], OTHER),
            house(rooms["hci0"], first, second, backend_of=backends.__getitem__) as inside,
        ):
            await inside.until(lambda one: min(len(one.chunks(device=name)) for name in ("one", "two")) > 3)

    fly(scenario())


def test_what_nobody_takes_is_dropped_oldest_first_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.ingest.ble.BUFFER_CHUNKS", 10)

    async def scenario() -> None:
        air = Air()
        async with strap_of(air), house(air, wearable("heart-rate-strap", STRAP)) as inside:
            inside.is_busy.set()
            await inside.until_status(lambda one: one.counts.get("overflow", 0) >= 20)
            dropped = inside.status().counts["overflow"]
            inside.is_busy.clear()
            await inside.until(newer_than(10))
            times_ns = [chunk.t0_ns for chunk in inside.chunks()]
        seconds = [round(apart / 1e9) for apart in np.diff(times_ns)]
        assert max(seconds) == dropped + 1
        assert seconds.count(1) == len(seconds) - 1

    fly(scenario())


def test_a_passkey_of_the_config_is_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        air = Air()
        backend = bumble_backend(air.adapter, passkey=lambda _: 123_456)
        config = wearable("heart-rate-strap", STRAP)
        async with strap_of(air, bonds=True, passkey=123_456), house(air, config, backend=backend) as inside:
            await inside.until(newer_than(3))

    fly(scenario())


def test_after_90_s_out_of_range_it_sends_again_within_10_s() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, house(air, wearable("heart-rate-strap", STRAP)) as inside:
            await inside.until(newer_than(70), 100)
            await strap.go_away()
            status = await inside.until_status(lambda one: one.state == "searching")
            assert status.words.startswith("not found for ")
            await asyncio.sleep(90)
            count = len(inside.chunks())
            await strap.come_back()
            await inside.until(newer_than(count), 10)
            assert inside.status().counts["links lost"] == 1

    fly(scenario())


def test_a_link_that_is_connected_and_silent_is_ended() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air) as strap, house(air, wearable("heart-rate-strap", STRAP)) as inside:
            await inside.until(newer_than(3))
            strap.faults.silent = True
            await inside.until_status(lambda one: one.counts.get("silent links") == 1)
            strap.faults.silent = False
            await inside.until(newer_than(len(inside.chunks())))
            assert inside.status().counts["connections"] == 2

    fly(scenario())


def test_a_control_point_that_does_not_answer_is_given_up_and_asked_again() -> None:
    async def scenario() -> None:
        air = Air()
        async with PolarH10(air, STRAP, time=LoopTime()) as strap, house(air, wearable("polar-h10", STRAP)) as inside:
            strap.faults.silent = True
            status = await inside.until_status(lambda one: one.counts.get("connection failures", 0) == 2)
            assert "no answer in 10 s" in status.words
            strap.faults.silent = False
            await inside.until(lambda one: bool(one.chunks("ecg")))

    fly(scenario())


@pytest.mark.parametrize("how", ["pulled out", "hanging"])
def test_an_adapter_that_is_gone_is_alarmed_and_its_return_ends_that(how: str) -> None:
    async def scenario() -> None:
        air = Air()
        socket = Socket(air)
        backend = bumble_backend(socket.plug)
        config = wearable("heart-rate-strap", STRAP)
        async with strap_of(air), house(air, config, backend=backend) as inside:
            await inside.until(newer_than(3))
            if how == "hanging":
                socket.hang()
            else:
                socket.pull_out()
            socket.is_broken = True
            async with asyncio.timeout(300):
                while not inside.source.troubles():
                    await asyncio.sleep(1)
            assert "the Bluetooth adapter does not work" in inside.source.troubles()["bluetooth"]
            count = len(inside.chunks())
            socket.is_broken = False
            await inside.until(newer_than(count), 180)
            assert inside.source.troubles() == {}

    fly(scenario())


def test_pairing_where_it_is_asked_for() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air, bonds=True), house(air, wearable("heart-rate-strap", STRAP)) as inside:
            await inside.until(newer_than(30))
            assert inside.status().trouble == ""
        times_ns = [chunk.t0_ns for chunk in inside.chunks()]
        assert times_ns == sorted(set(times_ns))

    fly(scenario())


def test_connections_that_fail_in_the_air_alarm_nobody() -> None:
    async def scenario() -> None:
        air = Air()
        plain = bumble_backend(air.adapter)
        failures = iter(range(4))

        class Unlucky(plain.client):  # type: ignore[misc, name-defined]
            async def connect(self, pair: bool, **more: Any) -> None:
                if next(failures, None) is not None:
                    raise BleakDBusError("org.bluez.Error.Failed", ["le-connection-abort-by-local"])
                await super().connect(pair, **more)

        backend = replace(plain, client=Unlucky)
        async with strap_of(air), house(air, wearable("heart-rate-strap", STRAP), backend=backend) as inside:
            while not inside.chunks():
                assert inside.status().trouble == ""
                await asyncio.sleep(0.1)
            assert inside.status().counts["connection failures"] == 4

    fly(scenario())


def test_a_device_that_refuses_to_be_paired_is_told_of_and_asked_again() -> None:
    async def scenario() -> None:
        air = Air()
        async with strap_of(air, bonds=True) as strap, house(air, wearable("heart-rate-strap", STRAP)) as inside:
            strap.refuses_pairing = True
            status = await inside.until_status(lambda one: one.state == "refused")
            assert "it has to be paired: put it into pairing mode within" in status.trouble
            strap.refuses_pairing = False
            await inside.until(newer_than(3), 180)
            assert inside.status().trouble == ""

    fly(scenario())


def test_packets_too_small_for_the_device_are_told() -> None:
    async def scenario() -> None:
        air = Air()
        strap = PolarH10(air, STRAP, time=LoopTime())
        strap.device.gatt_server.max_mtu = 100
        async with strap, house(air, wearable("polar-h10", STRAP)) as inside:
            status = await inside.until_status(lambda one: one.state == "refused")
            assert status.trouble == "its link carries packets of 100 bytes, a Polar H10 needs 232"
            assert inside.status().counts["packets too small"] >= 1

    fly(scenario())


def test_no_pairing_outside_of_its_window() -> None:
    async def scenario() -> None:
        air = Air()
        config = wearable("heart-rate-strap", STRAP, more="pair_min = 0")
        async with strap_of(air, bonds=True), house(air, config) as inside:
            status = await inside.until_status(lambda one: one.state == "refused")
            assert "it has to be paired, which is not allowed here" in status.trouble
            await asyncio.sleep(600)
            assert inside.chunks() == []

    fly(scenario())


@pytest.mark.parametrize("pair_min", [60, 1])
def test_a_lost_bond_is_told_and_renewed_within_the_window_only(pair_min: int) -> None:
    async def scenario() -> None:
        air = Air()
        config = wearable("heart-rate-strap", STRAP, more=f"pair_min = {pair_min}")
        async with strap_of(air, bonds=True) as strap, house(air, config) as inside:
            await inside.until(newer_than(70), 100)
            await strap.forget_bonds()
            strap.device.smp_manager.sessions.clear()  # in which bumble still has the key
            await strap.disconnect()
            count = len(inside.chunks())
            if pair_min == 60:
                await inside.until(newer_than(count), 60)
            else:
                status = await inside.until_status(lambda one: one.state == "refused")
                assert "it has to be paired (anew): put it into pairing mode and restart the agent" in status.trouble
                assert len(inside.chunks()) == count

    fly(scenario())
