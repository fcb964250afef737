"""Heart rate, oxygen, temperature, a device's clock, battery and name: worked examples, round trips, damage."""

from __future__ import annotations

import itertools

import pytest
from bluetooth_examples import decodes_back_or_refuses, refuses_every_shortening, sfloats
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_current_time import AdjustReason, CurrentTime
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_device import BatteryLevel, DeviceText
from firmware_bridge.codecs.bluetooth_heart_rate import HeartRate
from firmware_bridge.codecs.bluetooth_medfloat import Float, Sfloat, Special
from firmware_bridge.codecs.bluetooth_oximeter import (
    OximeterDeviceStatus,
    OximeterMeasurementStatus,
    Oximetry,
    Saturation,
)
from firmware_bridge.codecs.bluetooth_thermometer import Temperature

NINE_THIRTY = DateTime(2026, 11, 23, 9, 30, 0)
CODECS = (
    HeartRate.from_bytes,
    Oximetry.from_bytes,
    Temperature.from_bytes,
    CurrentTime.from_bytes,
    BatteryLevel.from_bytes,
    DeviceText.from_bytes,
)


def test_a_strap_with_contact_and_two_intervals() -> None:
    data = bytes.fromhex("164855035803")
    got = HeartRate.from_bytes(data)
    assert got == HeartRate(72, contact_bits=3, rr_intervals=(853, 856))
    assert (got.contact, [round(rr, 4) for rr in got.rr_s]) == (True, [0.8330, 0.8359])
    assert bytes(got) == data


def test_a_strap_that_cannot_tell_contact_and_one_that_fell_off() -> None:
    assert HeartRate.from_bytes(bytes.fromhex("0048")).contact is None
    assert HeartRate.from_bytes(bytes.fromhex("0248")).contact is None
    assert HeartRate.from_bytes(bytes.fromhex("0448")).contact is False


def test_every_combination_of_a_heart_rates_fields_comes_back() -> None:
    for contact, energy, rr, wide in itertools.product(
        range(4), (None, 500), (None, (), (853,), (853, 856, 900)), (False, True)
    ):
        said = HeartRate(72, contact, energy, rr, wide)
        assert HeartRate.from_bytes(bytes(said)) == said
    with pytest.raises(DecodeError, match="heart rate 300 is not 0 to 255"):
        HeartRate(300)
    assert HeartRate.from_bytes(bytes(HeartRate(300, wide=True))).bpm == 300


def test_half_an_interval_is_not_one() -> None:
    with pytest.raises(DecodeError, match="RR interval needs 2 bytes, 1 are left") as raised:
        HeartRate.from_bytes(bytes.fromhex("1648550358"))
    assert raised.value.offset == 4


def test_an_oximeter_with_fast_values() -> None:
    data = bytes.fromhex("016200410063004000")
    got = Oximetry.from_bytes(data)
    assert (got.normal.spo2.value, got.normal.pulse_rate.value) == (98.0, 65.0)
    assert got.fast == Saturation(Sfloat.of(99), Sfloat.of(64))
    assert bytes(got) == data


@settings(deadline=None)
@given(
    st.builds(
        Oximetry,
        st.builds(Saturation, sfloats, sfloats),
        st.none() | st.builds(Saturation, sfloats, sfloats),
        st.none() | st.builds(Saturation, sfloats, sfloats),
        st.none() | st.integers(0, 0xFFFF).map(OximeterMeasurementStatus),
        st.none() | st.integers(0, 0xFF_FFFF).map(OximeterDeviceStatus),
        st.none() | sfloats,
    )
)
def test_any_oximetry_comes_back(said: Oximetry) -> None:
    assert Oximetry.from_bytes(bytes(said)) == said
    refuses_every_shortening(bytes(said), Oximetry.from_bytes)


def test_a_temperature_in_the_body_at_a_time() -> None:
    data = bytes.fromhex("066E0100FFEA070B17091E0002")
    got = Temperature.from_bytes(data)
    assert got == Temperature(Float.of(36.6), time=NINE_THIRTY, site=2)
    assert got.celsius == 36.6
    assert bytes(got) == data


def test_fahrenheit_is_converted_and_a_special_value_is_no_temperature() -> None:
    fever = Temperature(Float.of(100.4), fahrenheit=True).celsius
    assert fever == pytest.approx(38.0, abs=1e-12)
    assert Temperature(Float.of(Special.NAN), fahrenheit=True).celsius is None


def test_every_combination_of_a_temperatures_fields_comes_back() -> None:
    for fahrenheit, time, site in itertools.product((False, True), (None, NINE_THIRTY), (None, 0, 6)):
        said = Temperature(Float.of(37.2), fahrenheit, time, site)
        assert Temperature.from_bytes(bytes(said)) == said
        refuses_every_shortening(bytes(said), Temperature.from_bytes)


def test_a_devices_clock_at_half_past_a_second() -> None:
    data = bytes.fromhex("EA070B17123B1E018001")
    got = CurrentTime.from_bytes(data)
    assert got == CurrentTime(DateTime(2026, 11, 23, 18, 59, 30), 1, 128, AdjustReason.MANUAL)
    assert bytes(got) == data
    refuses_every_shortening(data, CurrentTime.from_bytes)


def test_a_battery_nearly_full_and_one_that_is_none() -> None:
    assert BatteryLevel.from_bytes(b"\x5a") == BatteryLevel(90)
    with pytest.raises(DecodeError, match="battery level 101"):
        BatteryLevel.from_bytes(b"\x65")


def test_a_makers_name_padded_and_one_that_is_no_text() -> None:
    assert DeviceText.from_bytes(b"Polar Electro Oy\0\0").text == "Polar Electro Oy"
    assert DeviceText.from_bytes("Müller\x1b[2J".encode()).text == "Müller?[2J"
    with pytest.raises(DecodeError, match="not UTF-8") as raised:
        DeviceText.from_bytes(b"H10\xff")
    assert raised.value.offset == 3
    with pytest.raises(DecodeError, match="more than 512 bytes"):
        DeviceText.from_bytes(b"x" * 513)


@settings(deadline=None)
@given(st.binary(max_size=24))
def test_any_bytes(data: bytes) -> None:
    for from_bytes in CODECS:
        decodes_back_or_refuses(data, from_bytes)
