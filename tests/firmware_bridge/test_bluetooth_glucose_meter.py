"""A glucose meter's records: the worked example, every combination of fields, damage of every sort."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from bluetooth_examples import decodes_back_or_refuses, refuses_every_shortening
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.bluetooth_date_time import DateTime
from firmware_bridge.codecs.bluetooth_glucose import GlucoseMeasurement, GlucoseSample, MeterStatus
from firmware_bridge.codecs.bluetooth_glucose_context import Dose, Exercise, GlucoseContext
from firmware_bridge.codecs.bluetooth_glucose_sample import SampleLocation, SampleType
from firmware_bridge.codecs.bluetooth_medfloat import Sfloat, Special

WORKED = bytes.fromhex("0B0100EA070B17091E00000069B0110000")
NINE_THIRTY = DateTime(2026, 11, 23, 9, 30, 0)
FINGER = GlucoseSample(Sfloat(0xB069), SampleType.CAPILLARY_WHOLE_BLOOD, SampleLocation.FINGER)


def test_a_finger_stick() -> None:
    record = GlucoseMeasurement.from_bytes(WORKED)
    assert record == GlucoseMeasurement(1, NINE_THIRTY, 0, FINGER, MeterStatus(0))
    assert record.mg_dl == 105.0
    assert record.local_since_epoch_s() == 1_795_426_200
    assert bytes(record) == WORKED


def test_mol_per_litre_is_another_quantity_and_not_another_scale() -> None:
    record = GlucoseMeasurement(1, NINE_THIRTY, sample=replace(FINGER, concentration=Sfloat(0xC03A)), molar=True)
    assert record.mg_dl == 5.8 * 18.0156


def test_every_mg_dl_a_meter_can_send_comes_out_whole() -> None:
    for mg_dl in range(20, 601):
        sample = replace(FINGER, concentration=Sfloat(0xB000 | mg_dl))
        assert GlucoseMeasurement(1, NINE_THIRTY, sample=sample).mg_dl == mg_dl


def test_no_sample_and_a_special_value_are_no_reading() -> None:
    assert GlucoseMeasurement(1, NINE_THIRTY).mg_dl is None
    for special in Special:
        sample = replace(FINGER, concentration=Sfloat.of(special))
        assert GlucoseMeasurement(1, NINE_THIRTY, sample=sample).mg_dl is None
        assert GlucoseMeasurement(1, NINE_THIRTY, sample=sample, molar=True).mg_dl is None


def test_the_user_sets_the_clock() -> None:
    set_back = GlucoseMeasurement(1, NINE_THIRTY, -90)
    assert set_back.local_since_epoch_s() == 1_795_426_200 - 5400
    for beyond in (0x7FFF, -0x8000):
        with pytest.raises(DecodeError, match="further than it can say"):
            replace(set_back, offset_min=beyond).local_since_epoch_s()


def test_every_combination_of_a_measurements_fields_comes_back() -> None:
    for offset, sample, status, molar, context in itertools.product(
        (None, -5), (None, FINGER), (None, MeterStatus.BATTERY_LOW), (False, True), (False, True)
    ):
        record = GlucoseMeasurement(9, NINE_THIRTY, offset, sample, status, molar, context)
        assert GlucoseMeasurement.from_bytes(bytes(record)) == record
        refuses_every_shortening(bytes(record), GlucoseMeasurement.from_bytes)


def test_every_combination_of_a_contexts_fields_comes_back() -> None:
    dose = Dose(1, Sfloat.of(0.05))
    for fields in itertools.product(
        (None, dose), (None, 0, 2), (None, (1, 5)), (None, Exercise(1800, 60)), (None, dose), (None, Sfloat.of(6.5)),
        (None, 0), (False, True),
    ):  # fmt: skip
        context = GlucoseContext(7, *fields[:7], litres=fields[7])
        assert GlucoseContext.from_bytes(bytes(context)) == context
        refuses_every_shortening(bytes(context), GlucoseContext.from_bytes)


def test_a_breakfast_before_which_somebody_measured_themselves() -> None:
    data = bytes.fromhex("0701000132D00151")
    assert GlucoseContext.from_bytes(data) == GlucoseContext(1, Dose(1, Sfloat(0xD032)), 1, (1, 5))


def test_a_reserved_type_or_location_does_not_cost_the_reading() -> None:
    record = GlucoseMeasurement.from_bytes(bytes.fromhex("0B0100EA070B17091E00000069B0CB0000"))
    assert (record.mg_dl, record.sample) == (105.0, GlucoseSample(Sfloat(0xB069), 11, 12))
    with pytest.raises(DecodeError, match="sample type 16"):
        bytes(replace(record, sample=replace(FINGER, kind=16)))


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        ("", "flags needs 1 bytes", 0),
        ("2B0100EA070B17091E00000069B0110000", "flags 0x2b", 0),
        ("0B0100EA070D17091E00000069B0110000", "month 13", 5),
        ("0B0100EA070B17091E00000069B011000000", "1 bytes follow", 17),
    ],
)
def test_what_a_meter_does_not_send(data: str, reason: str, offset: int) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        GlucoseMeasurement.from_bytes(bytes.fromhex(data))
    assert raised.value.offset == offset


@settings(deadline=None)
@given(st.binary(max_size=24), st.integers(0, 255), st.binary(max_size=8))
def test_any_bytes(data: bytes, flags: int, rest: bytes) -> None:
    for from_bytes in (GlucoseMeasurement.from_bytes, GlucoseContext.from_bytes):
        decodes_back_or_refuses(data, from_bytes)
        decodes_back_or_refuses(bytes([flags]) + WORKED[1:10] + rest, from_bytes)
