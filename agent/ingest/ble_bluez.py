"""What bleak does not do with BlueZ, over D-Bus: switch an adapter off and on, end links that nobody owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from agent.ingest.ble_errors import RadioError

SERVICE = "org.bluez"
ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
OFF_S = 2.0
"""A controller that is switched on again at once may not have noticed."""

Objects = dict[str, dict[str, dict[str, Any]]]


@asynccontextmanager
async def system_bus() -> AsyncIterator[MessageBus]:
    """A connection of our own to the system's bus; raises OSError where there is none."""
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        yield await bus.connect()
    finally:
        bus.disconnect()


async def call(
    bus: MessageBus, path: str, interface: str, member: str, signature: str = "", body: list[Any] | None = None
) -> Any:
    """One call to BlueZ, and the first value of its answer; raises RadioError."""
    message = Message(
        destination=SERVICE, path=path, interface=interface, member=member, signature=signature, body=body or []
    )
    reply = await bus.call(message)
    if reply is None or reply.message_type is MessageType.ERROR:
        name = reply.error_name if reply is not None else "no answer"
        words = f"{member}: {name} {' '.join(map(str, reply.body)) if reply is not None else ''}".rstrip()
        raise RadioError("denied" if name and "AccessDenied" in name else "failed", words)
    return reply.body[0] if reply.body else None


async def daemon(bus: MessageBus) -> str:
    """The name on the bus of the bluetoothd that runs, another one after each start; empty where none runs."""
    message = Message(
        destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus",
        member="GetNameOwner", signature="s", body=[SERVICE],
    )  # fmt: skip
    reply = await bus.call(message)
    return str(reply.body[0]) if reply is not None and reply.message_type is MessageType.METHOD_RETURN else ""


async def objects(bus: MessageBus) -> Objects:
    """All that BlueZ knows: path → interface → property → value. Raises RadioError."""
    managed = await call(bus, "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    return {
        path: {name: {key: value.value for key, value in held.items()} for name, held in interfaces.items()}
        for path, interfaces in managed.items()
    }


def adapter_path(known: Objects, adapter: str) -> str:
    """The path of an adapter, of the first one where `adapter` is empty; raises RadioError."""
    paths = sorted(path for path, interfaces in known.items() if ADAPTER in interfaces)
    for path in paths:
        if not adapter or path.endswith(f"/{adapter}"):
            return path
    raise RadioError("absent", f"BlueZ knows no adapter {adapter}".rstrip())


async def power_cycle(adapter: str) -> None:
    """Switch an adapter off and on; raises RadioError."""
    async with system_bus() as bus:
        path = adapter_path(await objects(bus), adapter)
        for powered in (False, True):
            await call(
                bus,
                path,
                "org.freedesktop.DBus.Properties",
                "Set",
                "ssv",
                [ADAPTER, "Powered", Variant("b", powered)],
            )
            if not powered:
                await asyncio.sleep(OFF_S)


async def hang_up(adapter: str, is_ours: Callable[[str, str], bool]) -> int:
    """Disconnect the devices that are connected on an adapter and are ours, by address and name; raises RadioError."""
    async with system_bus() as bus:
        known = await objects(bus)
        on = adapter_path(known, adapter)
        ended = 0
        for path, interfaces in known.items():
            device = interfaces.get(DEVICE)
            if device is None or not path.startswith(f"{on}/") or not device.get("Connected"):
                continue
            if is_ours(str(device.get("Address", "")).upper(), str(device.get("Name", ""))):
                await call(bus, path, DEVICE, "Disconnect")
                ended += 1
        return ended
