"""Wearables made of software, on a Bluetooth link made of software: for tests and for the demo. They need bumble."""

from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import DeviceTime
from firmware_bridge.emulator.faults import Faults, FrameFault
from firmware_bridge.emulator.heart_rate_strap import HeartRateStrap
from firmware_bridge.emulator.peripheral import About, Peripheral
from firmware_bridge.emulator.polar_h10 import PolarH10
from firmware_bridge.emulator.signal import Played, Repeated, Signal

__all__ = [
    "About",
    "Air",
    "DeviceTime",
    "Faults",
    "FrameFault",
    "HeartRateStrap",
    "Peripheral",
    "Played",
    "PolarH10",
    "Repeated",
    "Signal",
]
