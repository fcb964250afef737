"""From a CGM's records to chunks in UTC, and what the sensor says of itself beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from firmware_bridge.chunk import NS_PER_S, Chunk, DecodeError, Stream
from firmware_bridge.codecs.bluetooth_cgm_annunciation import SensorCalibration, SensorStatus, SensorWarning
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_medfloat import Special
from firmware_bridge.plausible import CGM_ABOVE_MG_DL, CGM_BELOW_MG_DL, to_chunk

_BROKEN = SensorStatus.SENSOR_MALFUNCTION | SensorStatus.SENSOR_TYPE_WRONG | SensorStatus.DEVICE_FAULT
_WRONG_TEMPERATURE = SensorCalibration.TEMPERATURE_TOO_HIGH | SensorCalibration.TEMPERATURE_TOO_LOW
_CALIBRATE = SensorCalibration.CALIBRATION_RECOMMENDED | SensorCalibration.CALIBRATION_REQUIRED


@dataclass(frozen=True, slots=True)
class SensorNotice:
    """What a CGM says of itself with a reading, or in its status. All empty where it says nothing."""

    malfunction: bool = False
    """The sensor, or the device around it, is broken, or they do not belong together."""
    wrong_temperature: bool = False
    """Too warm or too cold for a valid result."""
    session_stopped: bool = False
    battery_low: bool = False
    device_alert: bool = False
    """Something that the maker defines."""
    time_sync_required: bool = False
    """The times of readings may be wrong until the sensor is told the time."""
    calibration: str = ""
    """"required" or "recommended"; empty: neither."""
    beyond: str = ""
    """"below" or "above" the range of the device, whatever number stands there; empty: within."""

    @property
    def trustworthy(self) -> bool:
        """Whether the device itself stands by the reading."""
        return not (self.malfunction or self.wrong_temperature or self.session_stopped)


@dataclass(frozen=True, slots=True, eq=False)
class CgmReading:
    """One record in stream time."""

    t_ns: int
    """When, in UTC ns."""
    chunk: Chunk | None
    """The one sample; None where the record holds no number."""
    notice: SensorNotice


def readings(
    stream: Stream,
    start: CgmSessionStart,
    records: Iterable[CgmMeasurement],
    feature: CgmFeature | None = None,
) -> list[CgmReading]:
    """The records of one session, in the order given, in UTC.

    One below or above what the sensor can measure is the end of a sensor's range: CGM_BELOW_MG_DL, CGM_ABOVE_MG_DL. A
    record with any other special value has no chunk: it says that there is no reading. Raises DecodeError where the
    session's start is not known in UTC, a value or time cannot be, or `feature` says that records are secured and one
    is not.
    """
    start_ns = start.utc_ns()
    return [_reading(stream, start_ns, record, feature) for record in records]


def notice(said: CgmMeasurement | CgmStatus) -> SensorNotice:
    """What the annunciation octets of a measurement or a status say; an octet that is not sent says nothing."""
    status = said.status or SensorStatus(0)
    calibration = said.calibration or SensorCalibration(0)
    warning = said.warning or SensorWarning(0)
    special = said.concentration.special if isinstance(said, CgmMeasurement) else None
    below = warning & SensorWarning.BELOW_DEVICE_RANGE or special is Special.NEGATIVE_INFINITY
    above = warning & SensorWarning.ABOVE_DEVICE_RANGE or special is Special.POSITIVE_INFINITY
    required = calibration & SensorCalibration.CALIBRATION_REQUIRED
    return SensorNotice(
        malfunction=bool(status & _BROKEN),
        wrong_temperature=bool(calibration & _WRONG_TEMPERATURE),
        session_stopped=bool(status & SensorStatus.SESSION_STOPPED),
        battery_low=bool(status & SensorStatus.BATTERY_LOW),
        device_alert=bool(status & SensorStatus.DEVICE_ALERT),
        time_sync_required=bool(calibration & SensorCalibration.TIME_SYNC_REQUIRED),
        calibration="required" if required else "recommended" if calibration & _CALIBRATE else "",
        beyond="below" if below else "above" if above else "",
    )


def _reading(stream: Stream, start_ns: int, record: CgmMeasurement, feature: CgmFeature | None) -> CgmReading:
    if feature is not None and feature.secured and not record.secured:
        raise DecodeError(f"{stream.key}: a record has no CRC, and the device says that all have one")
    t_ns = start_ns + record.offset_min * 60 * NS_PER_S
    said = notice(record)
    mg_dl = _at_the_end_of_its_range(record.mg_dl, said)
    chunk = None if mg_dl is None else to_chunk(stream, t_ns, np.array([[mg_dl]]), unit="mg/dL")
    return CgmReading(t_ns, chunk, said)


def _at_the_end_of_its_range(mg_dl: float | None, said: SensorNotice) -> float | None:
    match said.beyond:
        case "below":
            return min(CGM_BELOW_MG_DL, mg_dl if mg_dl is not None else CGM_BELOW_MG_DL)
        case "above":
            return max(CGM_ABOVE_MG_DL, mg_dl if mg_dl is not None else CGM_ABOVE_MG_DL)
        case _:
            return mg_dl
