"""Wearables made of software, on a Bluetooth link made of software: for tests and for the demo. They need bumble."""

from firmware_bridge.emulator.air import Air
from firmware_bridge.emulator.device_time import DeviceTime
from firmware_bridge.emulator.faults import Faults, FrameFault
from firmware_bridge.emulator.glucose_sensor import GlucoseSensor
from firmware_bridge.emulator.heart_rate_strap import HeartRateStrap
from firmware_bridge.emulator.own_firmware import OwnFirmware, Sensor, at_rate
from firmware_bridge.emulator.oximeter import Oximeter
from firmware_bridge.emulator.peripheral import About, Peripheral
from firmware_bridge.emulator.polar_h10 import PolarH10
from firmware_bridge.emulator.signal import Played, Repeated, Signal
from firmware_bridge.emulator.thermometer import Thermometer

__all__ = [
    "About",
    "Air",
    "DeviceTime",
    "Faults",
    "FrameFault",
    "GlucoseSensor",
    "HeartRateStrap",
    "OwnFirmware",
    "Oximeter",
    "Peripheral",
    "Played",
    "PolarH10",
    "Repeated",
    "Sensor",
    "Signal",
    "Thermometer",
    "at_rate",
]
