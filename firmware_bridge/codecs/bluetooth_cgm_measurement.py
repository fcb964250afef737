"""CGM Measurement (0x2AA7): records of one reading each, one or several in a notification.

A record does not say whether an E2E-CRC ends it; two bytes more than its fields take are one. That a device's records
must have one, its features say, and `bluetooth_cgm_readings` holds them to it: a flag flipped on the way can make the
CRC pass for a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_cgm_annunciation import (
    AnnunciationOrder,
    SensorCalibration,
    SensorStatus,
    SensorWarning,
)
from firmware_bridge.codecs.bluetooth_cgm_crc import is_secured, with_crc
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat

MIN_SIZE = 6


class MeasurementFlag(IntFlag):
    """Which optional fields a record has."""

    TREND = 1
    QUALITY = 2
    WARNING = 32
    CALIBRATION = 64
    STATUS = 128


_KNOWN = int(MeasurementFlag.TREND | MeasurementFlag.QUALITY | 224)
_STATUS_FIRST = (MeasurementFlag.STATUS, MeasurementFlag.CALIBRATION, MeasurementFlag.WARNING)
_OCTETS = {AnnunciationOrder.STATUS_FIRST: _STATUS_FIRST, AnnunciationOrder.WARNING_FIRST: _STATUS_FIRST[::-1]}


@dataclass(frozen=True, slots=True)
class CgmMeasurement:
    """One record; `bytes(m)` and `CgmMeasurement.from_bytes` are each other's inverse, byte for byte.

    Raises DecodeError on a field out of its range.
    """

    concentration: Sfloat
    """Glucose in mg/dL; the profile knows no other unit."""
    offset_min: int
    """Minutes since the session started, 0 to 65,535."""
    trend: Sfloat | None = None
    """mg/dL a minute, as the device reckons."""
    quality: Sfloat | None = None
    """Per cent, as the device reckons."""
    status: SensorStatus | None = None
    calibration: SensorCalibration | None = None
    warning: SensorWarning | None = None
    secured: bool = False
    """Whether an E2E-CRC ends the record."""
    order: AnnunciationOrder = AnnunciationOrder.STATUS_FIRST

    def __post_init__(self) -> None:
        check_range("time offset", self.offset_min, 0, 0xFFFF, 4)
        for octet in (self.status, self.calibration, self.warning):
            check_range("annunciation octet", octet or 0, 0, 0xFF, MIN_SIZE)

    @property
    def mg_dl(self) -> float | None:
        """The reading; None where a special value says that there is none."""
        return self.concentration.value

    @property
    def flags(self) -> MeasurementFlag:
        flags = MeasurementFlag(0)
        for flag, present in (
            (MeasurementFlag.TREND, self.trend),
            (MeasurementFlag.QUALITY, self.quality),
            (MeasurementFlag.STATUS, self.status),
            (MeasurementFlag.CALIBRATION, self.calibration),
            (MeasurementFlag.WARNING, self.warning),
        ):
            if present is not None:
                flags |= flag
        return flags

    def __bytes__(self) -> bytes:
        octets = {
            MeasurementFlag.STATUS: self.status,
            MeasurementFlag.CALIBRATION: self.calibration,
            MeasurementFlag.WARNING: self.warning,
        }
        body = bytes(self.concentration) + self.offset_min.to_bytes(2, "little")
        body += bytes(octet for flag in _OCTETS[self.order] if (octet := octets[flag]) is not None)
        body += b"".join(bytes(part) for part in (self.trend, self.quality) if part is not None)
        size = 2 + len(body) + 2 * self.secured
        body = bytes([size, self.flags]) + body
        return with_crc(body) if self.secured else body

    @classmethod
    def from_bytes(
        cls, data: bytes, order: AnnunciationOrder = AnnunciationOrder.STATUS_FIRST, base: int = 0
    ) -> CgmMeasurement:
        """The record that `data`, all of it, is; raises DecodeError, counting bytes from `base`."""
        reader = ByteReader(data, base)
        size = reader.unsigned(1, "size")
        check_range("size", size, MIN_SIZE, 0xFF, base)
        if size != len(data):
            raise DecodeError(f"a record of {size} bytes is declared, {len(data)} are there", base)
        flags = reader.unsigned(1, "flags")
        if flags & ~_KNOWN:
            raise DecodeError(f"flags 0x{flags:02x} have bits this profile does not know", base + 1)
        concentration = Sfloat(reader.unsigned(2, "concentration"))
        offset_min = reader.unsigned(2, "time offset")
        octets = {flag: reader.unsigned(1, "annunciation") for flag in _OCTETS[order] if flags & flag}
        status, calibration, warning = map(octets.get, _STATUS_FIRST)
        trend = Sfloat(reader.unsigned(2, "trend")) if flags & MeasurementFlag.TREND else None
        quality = Sfloat(reader.unsigned(2, "quality")) if flags & MeasurementFlag.QUALITY else None
        return cls(
            concentration,
            offset_min,
            trend,
            quality,
            None if status is None else SensorStatus(status),
            None if calibration is None else SensorCalibration(calibration),
            None if warning is None else SensorWarning(warning),
            secured=is_secured(data, reader.offset - base, base),
            order=order,
        )


def measurements(
    notification: bytes, order: AnnunciationOrder = AnnunciationOrder.STATUS_FIRST
) -> list[CgmMeasurement]:
    """All records of a notification, in the order sent; raises DecodeError where any byte is not part of one."""
    if not notification:
        raise DecodeError("an empty notification", 0)
    records, at = [], 0
    while at < len(notification):
        # A size of 0 would never move on; from_bytes refuses it.
        record = notification[at : at + max(notification[at], 1)]
        records.append(CgmMeasurement.from_bytes(record, order, at))
        at += len(record)
    return records
