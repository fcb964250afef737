"""Services and characteristics to which the Bluetooth SIG has assigned a number, as UUIDs in full and lower case."""

from __future__ import annotations

from firmware_bridge.devices.profile import uuid16

CURRENT_TIME_SERVICE = uuid16(0x1805)
GLUCOSE_SERVICE = uuid16(0x1808)
HEALTH_THERMOMETER_SERVICE = uuid16(0x1809)
HEART_RATE_SERVICE = uuid16(0x180D)
CGM_SERVICE = uuid16(0x181F)
PULSE_OXIMETER_SERVICE = uuid16(0x1822)
POLAR_SERVICE = uuid16(0xFEEE)
"""Advertised by everything that Polar makes."""

GLUCOSE_MEASUREMENT = uuid16(0x2A18)
TEMPERATURE_MEASUREMENT = uuid16(0x2A1C)
CURRENT_TIME = uuid16(0x2A2B)
HEART_RATE_MEASUREMENT = uuid16(0x2A37)
RECORD_ACCESS_CONTROL_POINT = uuid16(0x2A52)
PLX_SPOT_CHECK = uuid16(0x2A5E)
PLX_CONTINUOUS = uuid16(0x2A5F)
CGM_MEASUREMENT = uuid16(0x2AA7)
CGM_FEATURE = uuid16(0x2AA8)
CGM_STATUS = uuid16(0x2AA9)
CGM_SESSION_START = uuid16(0x2AAA)
CGM_SESSION_RUN = uuid16(0x2AAB)
CGM_CONTROL_POINT = uuid16(0x2AAC)
