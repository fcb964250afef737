"""Sensor Status Annunciation: three octets of bits by which a CGM says how it is, in a measurement and in its status.

A bit that is not named here is kept and means nothing.
"""

from __future__ import annotations

from enum import Enum, IntFlag


class SensorStatus(IntFlag):
    """The status octet: whether the sensor works."""

    SESSION_STOPPED = 1
    BATTERY_LOW = 2
    SENSOR_TYPE_WRONG = 4
    """The sensor is not one for this device."""
    SENSOR_MALFUNCTION = 8
    DEVICE_ALERT = 16
    """Something the maker defines."""
    DEVICE_FAULT = 32


class SensorCalibration(IntFlag):
    """The calibration and temperature octet."""

    TIME_SYNC_REQUIRED = 1
    """The sensor's time and the collector's must be made to agree."""
    CALIBRATION_NOT_ALLOWED = 2
    CALIBRATION_RECOMMENDED = 4
    CALIBRATION_REQUIRED = 8
    TEMPERATURE_TOO_HIGH = 16
    """For a valid result, when it was measured."""
    TEMPERATURE_TOO_LOW = 32


class SensorWarning(IntFlag):
    """The warning octet: the device's own opinion of the value, by levels set in the device."""

    BELOW_PATIENT_LOW = 1
    ABOVE_PATIENT_HIGH = 2
    BELOW_HYPO = 4
    ABOVE_HYPER = 8
    FALLING_FAST = 16
    RISING_FAST = 32
    BELOW_DEVICE_RANGE = 64
    """Lower than the device can process."""
    ABOVE_DEVICE_RANGE = 128


class AnnunciationOrder(Enum):
    """In which order a device sends the octets it sends: sources and makers differ, so it is said per device."""

    STATUS_FIRST = "status-first"
    """Status, calibration and temperature, warning."""
    WARNING_FIRST = "warning-first"
    """Warning, calibration and temperature, status."""
