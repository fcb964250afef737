"""From a CGM's records to chunks in UTC, and what the sensor says of itself beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bluetooth_examples import octets, sfloats, words
from bridge_examples import CGM, ECG, assert_valid
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_annunciation import SensorCalibration, SensorStatus, SensorWarning
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement, measurements
from firmware_bridge.codecs.bluetooth_cgm_readings import SensorNotice, notice, readings
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat, Special

START = CgmSessionStart(DateTime(2026, 11, 23, 19, 59, 30), 4, 0)
START_NS = 1_795_460_370 * 10**9
SECURED = CgmFeature.from_bytes(bytes.fromhex("009000591C45"))


def test_two_records_of_one_notification_become_two_chunks_in_utc() -> None:
    got = readings(CGM, START, measurements(bytes.fromhex("06006A001E00060068002300")))
    chunks = [reading.chunk for reading in got if reading.chunk is not None]
    assert [chunk.t0_ns - START_NS for chunk in chunks] == [30 * 60 * 10**9, 35 * 60 * 10**9]
    assert [chunk.samples.tolist() for chunk in chunks] == [[[106.0]], [[104.0]]]
    assert_valid(chunks, CGM)
    assert all(reading.notice == SensorNotice() and reading.notice.trustworthy for reading in got)


def test_the_unit_is_mg_dl_whatever_the_configuration_says_is_sent() -> None:
    (got,) = readings(replace(CGM, sent_unit="mmol/L"), START, [CgmMeasurement(Sfloat.of(5.5), 0)])
    assert got.chunk is not None
    assert got.chunk.samples.tolist() == [[5.5]]


@pytest.mark.parametrize("special", [Special.NAN, Special.NRES, Special.RESERVED])
def test_a_special_value_is_no_reading(special: Special) -> None:
    (got,) = readings(CGM, START, [CgmMeasurement(Sfloat.of(special), 5)])
    assert got.chunk is None
    assert got.t_ns == START_NS + 300 * 10**9
    assert got.notice.beyond == ""


@pytest.mark.parametrize(
    ("record", "beyond", "mg_dl"),
    [
        (CgmMeasurement(Sfloat.of(Special.NEGATIVE_INFINITY), 5), "below", 39.0),
        (CgmMeasurement(Sfloat.of(Special.POSITIVE_INFINITY), 5), "above", 400.0),
        (CgmMeasurement(Sfloat.of(Special.NAN), 5, warning=SensorWarning.BELOW_DEVICE_RANGE), "below", 39.0),
        (CgmMeasurement(Sfloat.of(50), 5, warning=SensorWarning.BELOW_DEVICE_RANGE), "below", 39.0),
        (CgmMeasurement(Sfloat.of(20), 5, warning=SensorWarning.BELOW_DEVICE_RANGE), "below", 20.0),
        (CgmMeasurement(Sfloat.of(450), 5, warning=SensorWarning.ABOVE_DEVICE_RANGE), "above", 450.0),
    ],
)
def test_what_lies_beyond_the_range_is_a_reading_to_act_on(record: CgmMeasurement, beyond: str, mg_dl: float) -> None:
    (got,) = readings(CGM, START, [record])
    assert got.chunk is not None
    assert (got.notice.beyond, got.chunk.samples.tolist()) == (beyond, [[mg_dl]])


@pytest.mark.parametrize(
    ("said", "heard", "trustworthy"),
    [
        ({"status": SensorStatus.SENSOR_MALFUNCTION}, SensorNotice(malfunction=True), False),
        ({"status": SensorStatus.SENSOR_TYPE_WRONG}, SensorNotice(malfunction=True), False),
        ({"status": SensorStatus.DEVICE_FAULT}, SensorNotice(malfunction=True), False),
        ({"status": SensorStatus.SESSION_STOPPED}, SensorNotice(session_stopped=True), False),
        ({"status": SensorStatus.BATTERY_LOW}, SensorNotice(battery_low=True), True),
        ({"status": SensorStatus.DEVICE_ALERT}, SensorNotice(device_alert=True), True),
        ({"calibration": SensorCalibration.TIME_SYNC_REQUIRED}, SensorNotice(time_sync_required=True), True),
        ({"calibration": SensorCalibration.CALIBRATION_RECOMMENDED}, SensorNotice(calibration="recommended"), True),
        ({"calibration": SensorCalibration(12)}, SensorNotice(calibration="required"), True),
        ({"calibration": SensorCalibration.TEMPERATURE_TOO_LOW}, SensorNotice(wrong_temperature=True), False),
        ({"calibration": SensorCalibration.TEMPERATURE_TOO_HIGH}, SensorNotice(wrong_temperature=True), False),
        ({"warning": SensorWarning.BELOW_DEVICE_RANGE}, SensorNotice(beyond="below"), True),
        ({"warning": SensorWarning.ABOVE_DEVICE_RANGE}, SensorNotice(beyond="above"), True),
        ({"warning": SensorWarning.BELOW_HYPO}, SensorNotice(), True),
    ],
)
def test_what_the_sensor_says_of_itself(said: dict[str, int], heard: SensorNotice, trustworthy: bool) -> None:
    got = notice(CgmMeasurement(Sfloat.of(40), 5, **said))  # type: ignore[arg-type]
    assert got == heard
    assert got.trustworthy == trustworthy
    whole = {"status": SensorStatus(0), "calibration": SensorCalibration(0), "warning": SensorWarning(0)} | said
    assert notice(CgmStatus(5, **whole)) == heard  # type: ignore[arg-type]


def test_a_record_without_the_crc_it_must_have_is_refused() -> None:
    plain = CgmMeasurement(Sfloat.of(106), 30)
    assert readings(CGM, START, [replace(plain, secured=True)], SECURED)
    with pytest.raises(DecodeError, match="a record has no CRC"):
        readings(CGM, START, [plain], SECURED)


def test_a_flag_flipped_on_the_way_does_not_get_past_the_features() -> None:
    flipped = bytes.fromhex("0A036A001E0005F0E18F")
    with pytest.raises(DecodeError, match="a record has no CRC"):
        readings(CGM, START, measurements(flipped), SECURED)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (replace(START, local=DateTime(0, 0, 0, 0, 0, 0)), "session start is not known"),
        (replace(START, zone_quarters=None), "no time zone"),
        (replace(START, local=DateTime(1970, 1, 1, 0, 0, 0)), "1990 to 2200"),
        (replace(START, local=DateTime(9999, 12, 31, 0, 0, 0)), "1990 to 2200"),
    ],
)
def test_without_a_believable_start_there_is_no_time(start: CgmSessionStart, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        readings(CGM, start, [CgmMeasurement(Sfloat.of(106), 30)])


def test_a_collector_that_knows_the_zone_fills_it_in() -> None:
    told = replace(START, zone_quarters=None)
    (got,) = readings(CGM, replace(told, zone_quarters=4), [CgmMeasurement(Sfloat.of(106), 0)])
    assert got.t_ns == START_NS


@pytest.mark.parametrize("mg_dl", [-5.0, 1010.0, 2e4])
def test_a_concentration_that_cannot_be_is_refused(mg_dl: float) -> None:
    with pytest.raises(DecodeError, match="is no cgm value"):
        readings(CGM, START, [CgmMeasurement(Sfloat.of(mg_dl), 0)])


def test_glucose_is_no_ecg() -> None:
    with pytest.raises(DecodeError, match="cannot be converted"):
        readings(ECG, START, [CgmMeasurement(Sfloat.of(100), 0)])


@settings(deadline=None)
@given(
    st.builds(
        CgmMeasurement,
        sfloats,
        words,
        status=st.none() | octets.map(SensorStatus),
        calibration=st.none() | octets.map(SensorCalibration),
        warning=st.none() | octets.map(SensorWarning),
    )
)
def test_any_record_is_a_valid_chunk_none_or_a_reason(record: CgmMeasurement) -> None:
    try:
        (got,) = readings(CGM, START, [record])
    except DecodeError:
        assert record.mg_dl is not None
        assert not 0 <= record.mg_dl <= 1000
        return
    assert (got.chunk is None) == (record.mg_dl is None)
    if got.chunk is not None:
        assert_valid([got.chunk], CGM)
