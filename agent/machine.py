"""What the machine says of itself in /proc, /sys and /run: its name, clock, adapters, heat and supply.

Every function takes the folder those are in, so that a test can lay out a machine of its own.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX_BYTES = 1024
"""More than struct timex has anywhere."""

_PI_THROTTLED = {
    0: "the supply voltage is too low",
    1: "the processor's frequency is capped",
    2: "the processor is throttled",
    3: "the processor is at its temperature limit",
    16: "the supply voltage has been too low since the start",
    18: "the processor has been throttled since the start",
}
"""Bits of the Raspberry Pi firmware's get_throttled word."""
_PI_HOT = 1 << 2 | 1 << 3


def model_name(root: Path = Path("/")) -> str | None:
    """What the board calls itself ("Raspberry Pi 5 Model B Rev 1.0"), None where it has no device tree."""
    text = _read(root / "proc/device-tree/model")
    return text.rstrip("\0\n") or None if text is not None else None


def clock_is_synchronised(root: Path = Path("/")) -> bool | None:
    """Whether something keeps the clock right; None where that cannot be told."""
    if (root / "run/systemd/timesync/synchronized").exists():
        return True
    if root != Path("/"):
        return None
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return None
    state = adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # all zero: asks, changes nothing
    return None if state < 0 else state != _TIME_ERROR


def disk_free_mb(folder: Path) -> int | None:
    """What is free where `folder` is; None where the disk does not say."""
    try:
        return shutil.disk_usage(folder).free >> 20
    except OSError:
        return None


def bluetooth_adapters(root: Path = Path("/")) -> list[str]:
    """Names of the Bluetooth adapters, such as hci0."""
    return sorted(path.name for path in (root / "sys/class/bluetooth").glob("hci*") if ":" not in path.name)


def cpu_temperature_c(root: Path = Path("/")) -> float | None:
    """The hottest of the processor's thermal zones in degrees Celsius, None where there is none."""
    readings: list[float] = []
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        kind, text = (_read(zone / "type") or "").lower(), _read(zone / "temp")
        if text is None or not any(name in kind for name in ("cpu", "x86_pkg", "soc", "core")):
            continue
        try:
            readings.append(int(text) / 1000)
        except ValueError:
            continue
    return max((celsius for celsius in readings if -50 < celsius < 150), default=None)


def throttling(root: Path = Path("/")) -> list[str]:
    """Why a Raspberry Pi's processor is or was slowed down, in words; empty where it is not or cannot say."""
    word = _throttled_word(root)
    return [words for bit, words in _PI_THROTTLED.items() if word >> bit & 1]


def is_slowed(root: Path = Path("/")) -> bool:
    """Whether the processor is held back for its heat at this moment: by a Pi's firmware, or by the kernel."""
    return bool(_throttled_word(root) & _PI_HOT) or any(
        (_read(device / "cur_state") or "0") != "0"
        for device in (root / "sys/class/thermal").glob("cooling_device*")
        if (_read(device / "type") or "").lower().startswith(("cpufreq", "processor", "thermal-cpufreq"))
    )


def under_voltage(root: Path = Path("/")) -> bool:
    """Whether the supply voltage is too low at this moment, or was since it was last asked."""
    alarms = [
        _read(sensor / "in0_lcrit_alarm")
        for sensor in (root / "sys/class/hwmon").glob("hwmon*")
        if _read(sensor / "name") == "rpi_volt"
    ]
    return bool(_throttled_word(root) & 1) or "1" in alarms


def battery(root: Path = Path("/")) -> tuple[bool | None, int | None]:
    """Whether the machine runs on its battery, and how full in per cent that is; None where it does not say.

    Batteries of what is only connected to it, such as a mouse, are not its own.
    """
    mains, discharging, percent = False, None, None
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if _read(supply / "scope") == "Device":
            continue
        if _read(supply / "type") == "Battery":
            discharging = bool(discharging) or _read(supply / "status") == "Discharging"
            level = _read(supply / "capacity") or ""
            percent = min(int(level), percent if percent is not None else 100) if level.isdecimal() else percent
        else:
            mains = mains or _read(supply / "online") == "1"
    return (None if discharging is None else discharging and not mains), percent


def _throttled_word(root: Path) -> int:
    """A Raspberry Pi's firmware on its supply and heat; 0 on any other machine."""
    try:
        return int(_read(root / "sys/devices/platform/soc/soc:firmware/get_throttled") or "0", 16)
    except ValueError:
        return 0


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, 4096).decode("utf-8", "replace").strip()
    except OSError:  # a sensor that is asleep answers with an error
        return None
    finally:
        os.close(descriptor)
