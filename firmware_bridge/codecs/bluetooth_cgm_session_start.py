"""CGM Session Start Time (0x2AAA): when minute 0 was, on which wall clock."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.chunk import NS_PER_S, DecodeError
from firmware_bridge.codecs.bluetooth_bytes import ByteReader, check_range
from firmware_bridge.codecs.bluetooth_cgm_crc import is_secured, with_crc
from firmware_bridge.codecs.bluetooth_date_time import DateTime

QUARTER_S = 900
UNKNOWN_ZONE = -128
UNKNOWN_DST = 255
_DST_QUARTERS = (0, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class CgmSessionStart:
    """The characteristic; `bytes(s)` and `CgmSessionStart.from_bytes` are each other's inverse, byte for byte."""

    local: DateTime
    """Local time: UTC + zone + daylight saving."""
    zone_quarters: int | None
    """Quarters of an hour east of UTC in winter, −48 to 56; None: not known."""
    dst_quarters: int | None
    """Quarters of an hour that daylight saving adds: 0, 2, 4 or 8; None: not known."""
    secured: bool = False

    def __post_init__(self) -> None:
        if self.zone_quarters is not None:
            check_range("time zone", self.zone_quarters, -48, 56, DateTime.SIZE)
        if self.dst_quarters is not None and self.dst_quarters not in _DST_QUARTERS:
            raise DecodeError(f"daylight saving {self.dst_quarters} is none of 0, 2, 4, 8", DateTime.SIZE + 1)

    def __bytes__(self) -> bytes:
        zone = UNKNOWN_ZONE if self.zone_quarters is None else self.zone_quarters
        dst = UNKNOWN_DST if self.dst_quarters is None else self.dst_quarters
        body = bytes(self.local) + zone.to_bytes(1, "little", signed=True) + bytes([dst])
        return with_crc(body) if self.secured else body

    @classmethod
    def from_bytes(cls, data: bytes) -> CgmSessionStart:
        """The value that `data`, all of it, is; raises DecodeError."""
        reader = ByteReader(data)
        local = DateTime.from_bytes(reader.take(DateTime.SIZE, "session start time"))
        zone, dst = reader.signed(1, "time zone"), reader.unsigned(1, "daylight saving")
        return cls(
            local,
            None if zone == UNKNOWN_ZONE else zone,
            None if dst == UNKNOWN_DST else dst,
            secured=is_secured(data, reader.offset),
        )

    def utc_ns(self) -> int:
        """Minute 0 in UTC ns.

        Raises DecodeError where the date, the zone or daylight saving is not known: a collector that does know fills
        it in with `dataclasses.replace`.
        """
        if not self.local.known:
            raise DecodeError("the session start is not known: the sensor was never told the date")
        if self.zone_quarters is None:
            raise DecodeError("the session start has no time zone")
        if self.dst_quarters is None:
            raise DecodeError("the session start does not say whether it is in daylight saving time")
        return (self.local.since_epoch_s() - QUARTER_S * (self.zone_quarters + self.dst_quarters)) * NS_PER_S
