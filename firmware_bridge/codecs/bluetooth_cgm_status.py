"""CGM Status (0x2AA9): how the sensor is at this minute of the session."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_cgm_annunciation import (
    AnnunciationOrder,
    SensorCalibration,
    SensorStatus,
    SensorWarning,
)
from firmware_bridge.codecs.bluetooth_cgm_crc import is_secured, with_crc


@dataclass(frozen=True, slots=True)
class CgmStatus:
    """The characteristic; `bytes(s)` and `CgmStatus.from_bytes` are each other's inverse, byte for byte."""

    offset_min: int
    """Minutes since the session started: the sensor's now."""
    status: SensorStatus
    calibration: SensorCalibration
    warning: SensorWarning
    secured: bool = False
    order: AnnunciationOrder = AnnunciationOrder.STATUS_FIRST

    def __post_init__(self) -> None:
        check_range("time offset", self.offset_min, 0, 0xFFFF, 0)
        for octet in (self.status, self.calibration, self.warning):
            check_range("annunciation octet", octet, 0, 0xFF, 2)

    def __bytes__(self) -> bytes:
        octets = bytes([self.status, self.calibration, self.warning])
        if self.order is AnnunciationOrder.WARNING_FIRST:
            octets = octets[::-1]
        body = self.offset_min.to_bytes(2, "little") + octets
        return with_crc(body) if self.secured else body

    @classmethod
    def from_bytes(cls, data: bytes, order: AnnunciationOrder = AnnunciationOrder.STATUS_FIRST) -> CgmStatus:
        """The value that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        offset_min = reader.unsigned(2, "time offset")
        octets = reader.take(3, "annunciation")
        status, calibration, warning = octets if order is AnnunciationOrder.STATUS_FIRST else octets[::-1]
        return cls(
            offset_min,
            SensorStatus(status),
            SensorCalibration(calibration),
            SensorWarning(warning),
            secured=is_secured(data, reader.offset),
            order=order,
        )
