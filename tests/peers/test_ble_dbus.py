"""What is said to BlueZ over D-Bus, on a bus of its own with a BlueZ of few words; the real one: `make test-bluez`."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from agent.doctor import Check
from agent.doctor.bluetooth import bluetooth_checks
from agent.ingest import ble_bluez, ble_pairing
from agent.ingest.ble_bluez import hang_up, objects, power_cycle, system_bus
from agent.ingest.ble_errors import RadioError
from agent.ingest.ble_pairing import AGENT, PairingAgent, PairingRules, PairingWindow

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")
Run = Callable[[Coroutine[Any, Any, None]], None]
OURS, OTHER = "F0:11:22:33:44:01", "F0:11:22:33:44:02"
BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>
"""


class FewWords:
    """A BlueZ that has an adapter and devices, and takes an agent for pairing."""

    def __init__(self) -> None:
        self.called: list[tuple[str, str, list[Any]]] = []
        """(member, path, values), in order."""
        self.connected = {OURS: True, OTHER: True}
        self.agent: str = ""
        """Whose connection the agent is on."""
        self.denies = False
        self.registered = asyncio.Event()
        self.bus: MessageBus | None = None

    async def start(self) -> None:
        self.bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        self.bus.add_message_handler(self._handle)
        await self.bus.request_name("org.bluez")

    async def stop(self) -> None:
        assert self.bus is not None
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()
        self.agent = ""
        self.registered.clear()

    async def ask_agent(self, member: str, address: str) -> Message:
        """What the agent answers."""
        assert self.bus is not None
        device = f"/org/bluez/hci0/dev_{address.replace(':', '_')}"
        reply = await self.bus.call(
            Message(
                destination=self.agent, path=ble_pairing.PATH, interface=AGENT, member=member, signature="o",
                body=[device],
            )
        )  # fmt: skip
        assert reply is not None
        return reply

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        self.called.append((message.member or "", message.path or "", message.body))
        if self.denies:
            return Message.new_error(message, "org.freedesktop.DBus.Error.AccessDenied", "not for you")
        if message.member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [self._objects()])
        if message.member == "RegisterAgent":
            self.agent = message.sender or ""
        if message.member == "RequestDefaultAgent" and message.sender != self.agent:
            return Message.new_error(message, "org.bluez.Error.DoesNotExist", "who are you?")
        if message.member == "RequestDefaultAgent":
            self.registered.set()
        return Message.new_method_return(message)

    def _objects(self) -> dict[str, Any]:
        adapter = {"Powered": Variant("b", True), "Address": Variant("s", "B8:27:EB:00:00:01")}
        found: dict[str, Any] = {"/org/bluez/hci0": {ble_bluez.ADAPTER: adapter}}
        for address, connected in self.connected.items():
            held = {"Address": Variant("s", address), "Connected": Variant("b", connected)}
            found[f"/org/bluez/hci0/dev_{address.replace(':', '_')}"] = {ble_bluez.DEVICE: held}
        return found


@asynccontextmanager
async def bluez(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FewWords]:
    """A bus, and a BlueZ on it."""
    socket = folder / "bus"
    (folder / "bus.conf").write_text(BUS.format(socket=socket))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={socket}")
    daemon = await asyncio.create_subprocess_exec(
        "dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork", "--print-address",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert daemon.stdout is not None
    await daemon.stdout.readline()
    service = FewWords()
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        daemon.terminate()
        await daemon.wait()


def test_links_of_ours_are_ended_and_no_others(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with bluez(tmp_path, monkeypatch) as service:
            assert await hang_up("hci0", lambda address, _: address == OURS) == 1
            ended = [path for member, path, _ in service.called if member == "Disconnect"]
            assert ended == ["/org/bluez/hci0/dev_F0_11_22_33_44_01"]
            service.connected[OURS] = False
            assert await hang_up("", lambda address, _: address == OURS) == 0
            with pytest.raises(RadioError, match="no adapter hci7"):
                await hang_up("hci7", lambda *_: True)

    run(scenario())


def test_an_adapter_is_switched_off_and_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ble_bluez, "OFF_S", 0.0)

    async def scenario() -> None:
        async with bluez(tmp_path, monkeypatch) as service:
            await power_cycle("")
            switched = [values[2].value for member, _, values in service.called if member == "Set"]
            assert switched == [False, True]
            service.denies = True
            with pytest.raises(RadioError) as refusal:
                await power_cycle("")
            assert refusal.value.fault == "denied"

    run(scenario())


def test_whoever_may_be_paired_is_answered_and_nobody_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ble_pairing, "TRY_AGAIN_S", 0.05)

    async def scenario() -> None:
        async with bluez(tmp_path, monkeypatch) as service:
            window = PairingWindow(asyncio.get_running_loop().time(), 3600.0)
            rules = PairingRules({OURS: 12_345}.get, {OURS}.__contains__)
            agent = asyncio.create_task(PairingAgent(rules, window, has_passkeys=True).run())
            await service.registered.wait()
            assert (await service.ask_agent("RequestPasskey", OURS)).body == [12_345]
            assert (await service.ask_agent("RequestConfirmation", OTHER)).error_name == ble_pairing.REJECTED

            # A bluetoothd that is started anew knows nobody, and is told again.
            await service.stop()
            await service.start()
            await service.registered.wait()
            assert (await service.ask_agent("RequestPasskey", OURS)).body == [12_345]
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)

    run(scenario())


def test_nobody_is_answered_once_the_window_is_closed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with bluez(tmp_path, monkeypatch) as service:
            window = PairingWindow(asyncio.get_running_loop().time(), 0.5)
            rules = PairingRules(lambda _: None, lambda _: True)
            await PairingAgent(rules, window, has_passkeys=False).run()
            assert service.registered.is_set()
            reply = await service.ask_agent("RequestConfirmation", OURS)
            assert reply.message_type is MessageType.ERROR
            assert reply.error_name != ble_pairing.REJECTED  # there is nobody to reject anything

    run(scenario())


def test_the_doctor_asks_bluez(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sys/class/bluetooth/hci0").mkdir(parents=True)

    async def scenario() -> None:
        async with bluez(tmp_path, monkeypatch) as service:
            async with system_bus() as bus:
                assert "/org/bluez/hci0" in await objects(bus)
            found = await asyncio.to_thread(_checked, tmp_path)
            assert found["adapter hci0"].detail == "B8:27:EB:00:00:01, switched on"
            service.denies = True
            assert "may not speak to it" in (await asyncio.to_thread(_checked, tmp_path))["bluetooth service"].detail

    run(scenario())


def _checked(root: Path) -> dict[str, Check]:
    return {check.name: check for check in bluetooth_checks(root, wanted=True, ask_version=lambda: "5.66")}
