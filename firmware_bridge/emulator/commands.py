"""What somebody at a keyboard can do to a virtual wearable, in a word or two: "away", "battery 12"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from firmware_bridge.emulator.faults import FrameFault
from firmware_bridge.emulator.own_firmware import OwnFirmware
from firmware_bridge.emulator.peripheral import Peripheral
from firmware_bridge.emulator.polar_h10 import PolarH10


async def _restart(device: Peripheral) -> None:
    if isinstance(device, PolarH10):
        await device.switch_off_and_on()
    elif isinstance(device, OwnFirmware):
        await device.reboot()
    else:
        await device.disconnect()


async def _silent(device: Peripheral) -> None:
    device.faults.silent = True


async def _well(device: Peripheral) -> None:
    device.faults.silent = False
    device.faults.by_chance({})
    device.refuses_pairing = False


async def _refuse(device: Peripheral) -> None:
    device.refuses_pairing = True


async def _noisy(device: Peripheral) -> None:
    device.faults.by_chance({fault: 0.02 for fault in FrameFault if fault is not FrameFault.CUT})


async def _cut(device: Peripheral) -> None:
    device.faults.once(FrameFault.CUT)


COMMANDS: Mapping[str, tuple[str, Callable[[Peripheral], Awaitable[None]]]] = {
    "away": ("out of range", Peripheral.go_away),
    "back": ("in range again", Peripheral.come_back),
    "hang-up": ("ends the link, and can be connected to again", Peripheral.disconnect),
    "silent": ("stays connected and sends nothing", _silent),
    "noisy": ("frames are lost, doubled, late and damaged, some of each hundred", _noisy),
    "cut": ("the link breaks in mid-frame", _cut),
    "restart": ("switched off and on; its clock begins anew", _restart),
    "forget": ("knows no longer whom it was paired with", Peripheral.forget_bonds),
    "refuse": ("does not let itself be paired", _refuse),
    "well": ("nothing of silent, noisy and refuse any more", _well),
}
BATTERY = "battery"


async def obey(device: Peripheral, line: str) -> str:
    """Do what a line says; returns what that means. Raises ValueError, with what can be said, where it says nothing."""
    word, _, rest = line.strip().partition(" ")
    if word == BATTERY and rest.isdigit() and int(rest) <= 100:
        await device.set_battery(int(rest))
        return f"its battery is at {rest} %"
    if word not in COMMANDS or rest:
        raise ValueError(f"one of {', '.join(COMMANDS)}, {BATTERY} PER CENT")
    words, act = COMMANDS[word]
    await act(device)
    return words
