"""What the machine says of itself in /proc, /sys and /run: its name, clock, adapters and heat.

Every function takes the folder those are in, so that a test can lay out a machine of its own.
"""

from __future__ import annotations

import ctypes
import os
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
    text = _read(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        word = int(text or "0", 16)
    except ValueError:
        return []
    return [words for bit, words in _PI_THROTTLED.items() if word >> bit & 1]


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
