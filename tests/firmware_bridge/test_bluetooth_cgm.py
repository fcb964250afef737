"""The CGM profile's characteristics: worked examples, round trips over all that is optional, damage of every sort."""

from __future__ import annotations

import itertools

import pytest
from bluetooth_examples import decodes_back_or_refuses, octets, refuses_every_shortening, secured_or_not, sfloats, words
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_cgm_annunciation import (
    AnnunciationOrder,
    SensorCalibration,
    SensorStatus,
    SensorWarning,
)
from firmware_bridge.codecs.bluetooth_cgm_crc import e2e_crc, with_crc
from firmware_bridge.codecs.bluetooth_cgm_feature import CgmFeature, CgmFeatures
from firmware_bridge.codecs.bluetooth_cgm_measurement import CgmMeasurement, measurements
from firmware_bridge.codecs.bluetooth_cgm_session_run import CgmSessionRun
from firmware_bridge.codecs.bluetooth_cgm_session_start import CgmSessionStart
from firmware_bridge.codecs.bluetooth_cgm_status import CgmStatus
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_glucose_sample import SampleLocation, SampleType
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat

RISING = bytes.fromhex("0A016A001E0005F0E18F")
BARE = bytes.fromhex("06006A001E00")
START = CgmSessionStart(DateTime(2026, 11, 23, 19, 59, 30), 4, 0)
SECURED_FEATURE = bytes.fromhex("009000591C45")


def test_the_crc_is_mcrf4xx() -> None:
    assert e2e_crc(b"123456789") == 0x6F91
    assert e2e_crc(b"") == 0xFFFF


def test_a_measurement_with_a_trend_and_a_crc() -> None:
    record = CgmMeasurement.from_bytes(RISING)
    assert record == CgmMeasurement(Sfloat.of(106), 30, trend=Sfloat.of(0.5), secured=True)
    assert record.mg_dl == 106.0
    assert bytes(record) == RISING


def test_an_interstitial_sensor_under_the_skin() -> None:
    feature = CgmFeature.from_bytes(SECURED_FEATURE)
    assert feature == CgmFeature(
        CgmFeatures.E2E_CRC | CgmFeatures.TREND, SampleType.INTERSTITIAL_FLUID, SampleLocation.SUBCUTANEOUS_TISSUE
    )
    assert feature.secured
    assert bytes(feature) == SECURED_FEATURE


def test_a_device_without_crc_says_ffff() -> None:
    feature = CgmFeature.from_bytes(bytes.fromhex("00800159FFFF"))
    assert not feature.secured
    assert feature.features == CgmFeatures.TREND | CgmFeatures.QUALITY
    with pytest.raises(DecodeError, match=r"crc is not 0xffff.*byte 4"):
        CgmFeature.from_bytes(bytes.fromhex("008001590000"))


def test_a_sensor_meant_to_run_ten_days() -> None:
    assert CgmSessionRun.from_bytes(bytes.fromhex("F000")) == CgmSessionRun(240)


def test_a_session_that_started_in_the_evening_in_berlin() -> None:
    data = bytes.fromhex("EA070B17133B1E0400")
    assert CgmSessionStart.from_bytes(data) == START
    assert START.utc_ns() == 1_795_460_370 * 10**9  # 2026-11-23T18:59:30Z


def test_summer_time_and_odd_zones_count() -> None:
    summer = CgmSessionStart(DateTime(2026, 7, 1, 12, 0, 0), 4, 4)
    assert summer.utc_ns() == 1_782_900_000 * 10**9  # 10:00 UTC
    nepal = CgmSessionStart(DateTime(2026, 7, 1, 12, 0, 0), 23, 0)
    assert nepal.utc_ns() == 1_782_886_500 * 10**9  # 06:15 UTC
    newfoundland = CgmSessionStart(DateTime(2026, 7, 1, 12, 0, 0), -14, 4)
    assert newfoundland.utc_ns() == 1_782_916_200 * 10**9  # 14:30 UTC


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("000000000000000400", "never told the date"),
        ("EA070B00133B1E0400", "never told the date"),
        ("EA070B17133B1E8000", "no time zone"),
        ("EA070B17133B1E04FF", "daylight saving"),
    ],
)
def test_an_unknown_start_says_what_is_not_known(data: str, reason: str) -> None:
    start = CgmSessionStart.from_bytes(bytes.fromhex(data))
    assert bytes(start).hex().upper() == data
    with pytest.raises(DecodeError, match=reason):
        start.utc_ns()


def test_the_order_of_the_octets_is_the_devices() -> None:
    octets_as_sent = (SensorStatus.BATTERY_LOW, SensorCalibration.CALIBRATION_REQUIRED, SensorWarning.BELOW_HYPO)
    status_first = CgmMeasurement.from_bytes(bytes.fromhex("09E06A001E00020804"))
    assert (status_first.status, status_first.calibration, status_first.warning) == octets_as_sent
    other = CgmMeasurement.from_bytes(bytes.fromhex("09E06A001E00040802"), AnnunciationOrder.WARNING_FIRST)
    assert (other.status, other.calibration, other.warning) == octets_as_sent
    status = CgmStatus.from_bytes(bytes.fromhex("1E00020804"))
    assert (status.status, status.calibration, status.warning) == octets_as_sent
    assert CgmStatus.from_bytes(bytes.fromhex("1E00040802"), AnnunciationOrder.WARNING_FIRST).warning == 4


@pytest.mark.parametrize("order", AnnunciationOrder)
@pytest.mark.parametrize("secured", [False, True])
def test_every_combination_of_fields_comes_back(order: AnnunciationOrder, secured: bool) -> None:
    options = itertools.product(
        (None, Sfloat.of(-1.5)),
        (None, Sfloat.of(98)),
        (None, SensorStatus(0), SensorStatus.SESSION_STOPPED),
        (None, SensorCalibration.TIME_SYNC_REQUIRED),
        (None, SensorWarning.ABOVE_DEVICE_RANGE),
    )
    for trend, quality, status, calibration, warning in options:
        record = CgmMeasurement(Sfloat(0x0069), 7, trend, quality, status, calibration, warning, secured, order)
        data = bytes(record)
        assert data[0] == len(data)
        assert CgmMeasurement.from_bytes(data, order) == record
        refuses_every_shortening(data, CgmMeasurement.from_bytes)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            CgmMeasurement,
            sfloats,
            words,
            st.none() | sfloats,
            st.none() | sfloats,
            st.none() | octets.map(SensorStatus),
            st.none() | octets.map(SensorCalibration),
            st.none() | octets.map(SensorWarning),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_several_records_in_a_notification_come_back_in_order(records: list[CgmMeasurement]) -> None:
    assert measurements(b"".join(map(bytes, records))) == records


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        ("", "empty notification", 0),
        ("00", "size 0 is not 6 to 255", 0),
        ("05006A001E", "size 5 is not 6 to 255", 0),
        ("07006A001E00", "7 bytes is declared, 6 are there", 0),
        ("06046A001E00", "flags 0x04", 1),
        ("06086A001E00", "flags 0x08", 1),
        ("06016A001E00", "trend needs 2 bytes, 0 are left", 6),
        ("07016A001E0005", "trend needs 2 bytes, 1 are left", 6),
        ("07006A001E0005", "7 bytes, expected 6, or 8 with a CRC", 6),
        ("09006A001E00050505", "9 bytes, expected 6, or 8 with a CRC", 6),
        ("0A016A001E0005F0E18E", "crc is 0x8ee1, the bytes before it have 0x8fe1", 8),
        ("06006A001E000A016A001E0005F0E18E", "crc is 0x8ee1", 14),
        ("06006A001E0006046A001E00", "flags 0x04", 7),
        ("06006A001E0000", "size 0", 6),
    ],
)
def test_what_a_notification_cannot_be(data: str, reason: str, offset: int) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        measurements(bytes.fromhex(data))
    assert raised.value.offset == offset


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        ("2D060B17133B1E0400", "year 1581", 0),
        ("EA070D17133B1E0400", "month 13", 2),
        ("EA07021D133B1E0400", "day 29 is not 0 to 28", 3),
        ("EA070B20133B1E0400", "day 32", 3),
        ("EA070B17183B1E0400", "hour 24", 4),
        ("EA070B17133C1E0400", "minute 60", 5),
        ("EA070B17133B3C0400", "second 60", 6),
        ("EA070B17133B1E3900", "time zone 57", 7),
        ("EA070B17133B1E8100", "time zone -127", 7),
        ("EA070B17133B1E0401", "daylight saving 1", 8),
        ("EA070B17133B1E04000000", "crc is 0x0000", 9),
        ("EA070B17133B1E040000", "10 bytes, expected 9, or 11 with a CRC", 9),
        ("EA070B17133B1E04", "daylight saving needs 1 bytes, 0 are left", 8),
    ],
)
def test_what_a_session_start_cannot_be(data: str, reason: str, offset: int) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        CgmSessionStart.from_bytes(bytes.fromhex(data))
    assert raised.value.offset == offset


def test_a_leap_day_is_a_day() -> None:
    assert CgmSessionStart.from_bytes(bytes.fromhex("E807021D133B1E0400")).local.day == 29


CODECS = (
    CgmMeasurement.from_bytes,
    CgmFeature.from_bytes,
    CgmStatus.from_bytes,
    CgmSessionStart.from_bytes,
    CgmSessionRun.from_bytes,
)
EXAMPLES = (
    RISING,
    BARE,
    SECURED_FEATURE,
    with_crc(bytes.fromhex("1E00020804")),
    with_crc(bytes(START)),
    with_crc(b"\xf0\x00"),
)


@settings(deadline=None)
@given(secured_or_not(st.binary(max_size=20)))
def test_any_bytes(data: bytes) -> None:
    for from_bytes in CODECS:
        decodes_back_or_refuses(data, from_bytes)


@settings(deadline=None)
@given(st.binary(min_size=5, max_size=18), st.booleans())
def test_any_bytes_that_state_their_size(rest: bytes, crc: bool) -> None:
    data = bytes([1 + len(rest) + 2 * crc]) + rest
    decodes_back_or_refuses(with_crc(data) if crc else data, CgmMeasurement.from_bytes)


@settings(deadline=None)
@given(
    st.builds(DateTime, st.integers(1990, 2100), *(st.integers(1, n) for n in (12, 28, 23, 59, 59))),
    st.integers(-128, 127),
    st.sampled_from((0, 2, 4, 8, 255, 3)),
)
def test_any_session_start(local: DateTime, zone: int, dst: int) -> None:
    data = bytes(local) + zone.to_bytes(1, "little", signed=True) + bytes([dst])
    decodes_back_or_refuses(data, CgmSessionStart.from_bytes)
    decodes_back_or_refuses(with_crc(data), CgmSessionStart.from_bytes)


@pytest.mark.parametrize("data", EXAMPLES, ids=bytes.hex)
def test_one_bit_wrong_anywhere_is_never_another_value(data: bytes) -> None:
    for from_bytes in CODECS:
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            decodes_back_or_refuses(bytes(damaged), from_bytes)
    if data == BARE:
        return
    (own,) = [codec for codec in CODECS if _reads(codec, data)]
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        # A flag that makes the CRC a field leaves the record without one, which the device's features then give away.
        assert not _reads(own, bytes(damaged)) or (bit == 9 and not CgmMeasurement.from_bytes(bytes(damaged)).secured)


def _reads(from_bytes: object, data: bytes) -> bool:
    try:
        from_bytes(data)  # type: ignore[operator]
    except DecodeError:
        return False
    return True


def test_fields_out_of_range_are_refused_when_built() -> None:
    with pytest.raises(DecodeError, match="time offset 65536"):
        CgmMeasurement(Sfloat(0), 65_536)
    with pytest.raises(DecodeError, match="run time -1"):
        CgmSessionRun(-1)
    with pytest.raises(DecodeError, match="features"):
        CgmFeature(CgmFeatures(1 << 24), SampleType.INTERSTITIAL_FLUID, SampleLocation.FINGER)
    with pytest.raises(DecodeError, match="time zone 60"):
        CgmSessionStart(DateTime(2026, 1, 1, 0, 0, 0), 60, 0)
