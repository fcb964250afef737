"""Nightscout and xDrip entries, as phones really send them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bridge_examples import CGM, ECG, reading
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.chunk import Chunk, DecodeError
from firmware_bridge.codecs import nightscout

T_MS = 1_795_000_000_123


def decode(document: object) -> list[Chunk]:
    return nightscout.decode(json.dumps(document).encode(), CGM)


def values(document: object) -> list[float]:
    return [float(chunk.samples[0, 0]) for chunk in decode(document)]


@pytest.mark.parametrize("mg_dl", [39.0, 104.0, 104.3, 400.0])
def test_a_reading_comes_back_bit_for_bit(mg_dl: float) -> None:
    (got,) = nightscout.decode(nightscout.encode(reading(mg_dl)), CGM)
    assert got.samples.tobytes() == reading(mg_dl).samples.tobytes()
    assert got.t0_ns == T_MS * 10**6


def test_an_uploaders_entry_is_read_whole() -> None:
    (got,) = nightscout.decode(
        b'{"type":"sgv","sgv":123,"date":1405792155000,"dateString":"2014-07-19T17:49:15.000Z","device":"dexcom",'
        b'"direction":"NOT COMPUTABLE","delta":-4.5,"noise":1,"filtered":0,"rssi":100,"_id":"55cf"}',
        CGM,
    )
    assert (got.t0_ns, got.samples.tolist(), got.stream) == (1_405_792_155 * 10**9, [[123.0]], CGM)


def test_readings_come_oldest_first_and_once() -> None:
    newest_first = [{"sgv": 100 + i, "date": T_MS - i * 300_000} for i in range(3)]
    assert values([*newest_first, newest_first[0]]) == [102.0, 101.0, 100.0]


def test_two_values_for_one_time_are_handed_on_in_the_order_sent() -> None:
    assert values([{"sgv": 140, "date": T_MS}, {"sgv": 90, "date": T_MS}]) == [140.0, 90.0]
    assert values([{"sgv": 90, "date": T_MS}, {"sgv": 140, "date": T_MS}, {"sgv": 90, "date": T_MS}]) == [90.0, 140.0]


@pytest.mark.parametrize(
    "when",
    [
        {"date": T_MS},
        {"date": float(T_MS)},
        {"date": str(T_MS)},
        {"date": f"{T_MS}.0"},
        {"mills": T_MS},
        {"date": None, "mills": T_MS},
        {"date": T_MS, "dateString": "Tue Feb 13 00:50:20 AEDT 2018"},
        {"dateString": "2026-11-18T12:06:40.123+01:00"},
        {"dateString": "2026-11-18T11:06:40.123Z"},
        {"dateString": "2026-11-18T06:06:40.123-0500"},
        {"sysTime": "2026-11-18T11:06:40.123Z"},
    ],
)
def test_every_way_to_say_when(when: dict[str, object]) -> None:
    (got,) = decode({"sgv": 100} | when)
    assert got.t0_ns == T_MS * 10**6


def test_a_date_with_a_fraction_of_a_millisecond_keeps_it() -> None:
    (got,) = decode({"sgv": 255, "date": 1580502615952.616})
    assert abs(got.t0_ns - 1_580_502_615_952_616_000) < 200


def test_a_string_is_a_number_and_low_and_high_are_the_ends_of_the_range() -> None:
    entries = [{"sgv": sgv, "date": T_MS + i} for i, sgv in enumerate(["123", " 98.5 ", "LOW", "High", 5e1])]
    assert values(entries) == [123.0, 98.5, 39.0, 400.0, 50.0]


def test_finger_sticks_and_calibrations_are_no_sensor_readings() -> None:
    other = [
        {"type": "mbg", "mbg": 90, "date": T_MS},
        {"type": "cal", "slope": 1.0, "date": T_MS},
        {"mbg": 90, "date": T_MS},
        {"type": "etc", "date": "x"},
    ]
    assert values([*other, {"type": "sgv", "sgv": 104, "date": T_MS}]) == [104.0]
    assert values([*other, {"type": None, "sgv": 104, "date": T_MS}]) == [104.0]
    assert values(other) == []
    assert values([]) == []


@pytest.mark.parametrize("code", [0, 1, 5, 9, 10, 12, "10", 9.0])
def test_a_receivers_error_codes_are_not_deep_hypoglycaemia(code: float | str) -> None:
    with pytest.raises(DecodeError, match="error code"):
        decode({"sgv": code, "date": T_MS})


def test_an_entry_that_cannot_be_read_costs_nothing_else() -> None:
    polled = [
        {"sgv": 104, "date": T_MS},
        {"sgv": None, "date": T_MS - 300_000},
        {"sgv": 10, "date": T_MS - 600_000},
        {"sgv": 100, "date": 1_795_000_000},
        "garbage",
        {"sgv": 5000, "date": T_MS - 900_000},
        {"sgv": 98, "date": T_MS - 1_200_000},
    ]
    with pytest.raises(DecodeError, match="entry 1: sgv is None, expected a number; 5 of 7 entries") as raised:
        decode(polled)
    assert [float(chunk.samples[0, 0]) for chunk in raised.value.chunks] == [98.0, 104.0]


def test_xdrips_hint_tells_what_its_owner_sees_and_not_the_unit_of_sgv() -> None:
    assert values([{"sgv": 104, "date": T_MS, "units_hint": "mmol"}, {"sgv": 62, "date": T_MS + 1}]) == [104.0, 62.0]
    assert values([{"sgv": 104, "date": T_MS, "units_hint": "mgdl"}]) == [104.0]


@pytest.mark.parametrize("sgv", [13, 22, 27, 35, 38])
def test_a_severe_low_with_the_hint_mmol_is_never_made_a_high(sgv: int) -> None:
    assert values([{"sgv": sgv, "date": T_MS, "units_hint": "mmol"}]) == [float(sgv)]


def test_a_sender_that_converts_is_understood_where_nothing_else_can_be_meant() -> None:
    converted = [
        {"sgv": 5.5, "date": T_MS, "units_hint": "mmol"},
        {"sgv": "LOW", "date": T_MS + 1},
        {"sgv": 7, "date": T_MS + 2},
    ]
    assert values(converted) == [np.float32(5.5 * 18.0156), 39.0, np.float32(7 * 18.0156)]


def test_mmol_that_nobody_declares_is_handed_on_for_doubt() -> None:
    assert values({"sgv": 6.900000095367432, "date": T_MS}) == [np.float32(6.9)]
    assert values([{"sgv": 5.5, "date": T_MS, "units_hint": "mgdl"}, {"sgv": 22.2, "date": T_MS + 1}]) == [
        5.5,
        np.float32(22.2),
    ]


def test_mmol_configured_as_the_unit_sent_is_taken_at_its_word() -> None:
    stream = replace(CGM, sent_unit="mmol/L")
    for sgv in (5.5, 7, 30, "6.1"):
        (got,) = nightscout.decode(json.dumps({"sgv": sgv, "date": T_MS}).encode(), stream)
        assert got.samples[0, 0] == np.float32(float(sgv) * 18.0156)
    with pytest.raises(DecodeError, match=r"1873\.62 mg/dL is no cgm value"):
        nightscout.decode(json.dumps({"sgv": 104, "date": T_MS}).encode(), stream)
    (low,) = nightscout.decode(json.dumps({"sgv": "LOW", "date": T_MS}).encode(), stream)
    assert low.samples[0, 0] == 39.0


@settings(deadline=None)
@given(st.integers(11, 333))
def test_a_tenth_of_a_mmol_comes_through_exactly(tenths: int) -> None:
    stream = replace(CGM, sent_unit="mmol/L")
    (got,) = nightscout.decode(json.dumps({"sgv": tenths / 10, "date": T_MS}).encode(), stream)
    assert got.samples[0, 0] == np.float32(tenths / 10 * 18.0156)
    assert round(float(got.samples[0, 0]) / 18.0156, 4) == tenths / 10


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (1, "entry 0 is 1"),
        ([[]], "entry 0 is a list"),
        ({"sgv": 100}, "none of date, mills, dateString, sysTime"),
        ({"sgv": 100, "date": "x"}, "date is 'x'"),
        ({"sgv": 100, "date": "nan"}, "not a finite number"),
        ({"sgv": 100, "date": True}, "date is True"),
        ({"sgv": 100, "date": -1}, "date is -1"),
        ({"sgv": 100, "date": "-1"}, "date is -1"),
        ({"sgv": 100, "date": 0}, "1990 to 2200"),
        ({"sgv": 100, "date": 1_573_564_560}, "1990 to 2200"),
        ({"sgv": 100, "date": 1e300}, "1990 to 2200"),
        ({"sgv": 100, "date": "9" * 5000}, "expected a number"),
        ({"sgv": 100, "dateString": "2026-11-18T12:06:40"}, "no time zone"),
        ({"sgv": 100, "dateString": "Tue Feb 13 00:50:20 AEDT 2018"}, "expected an ISO 8601"),
        ({"sgv": None, "date": T_MS}, "sgv is None"),
        ({"type": "sgv", "date": T_MS}, "sgv is None"),
        ({"sgv": True, "date": T_MS}, "sgv is True"),
        ({"sgv": {"sgv-mgdl": 100}, "date": T_MS}, "sgv is a map"),
        ({"sgv": "??0", "date": T_MS}, "expected a number"),
        ({"sgv": "Null", "date": T_MS}, "expected a number"),
        ({"sgv": "1_00", "date": T_MS}, "expected a number"),
        ({"sgv": "nan", "date": T_MS}, "not a finite number"),
        ({"sgv": "1e999", "date": T_MS}, "not a finite number"),
        ({"sgv": -40, "date": T_MS}, "is no cgm value"),
        ({"sgv": -5, "date": T_MS}, "is no cgm value"),
        ({"sgv": 1000.5, "date": T_MS}, "is no cgm value"),
        ({"sgv": 5000, "date": T_MS}, "is no cgm value"),
        ([{"sgv": 100, "date": T_MS}] * 10_001, "10001 entries"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(document: object, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(document)


def test_ten_thousand_entries_are_read() -> None:
    assert len(decode([{"sgv": 100, "date": T_MS + i} for i in range(10_000)])) == 10_000


def test_a_strange_hint_does_not_cost_the_readings() -> None:
    for hint in ("stone", ["mmol"], 5):
        assert values({"sgv": 100, "date": T_MS, "units_hint": hint}) == [100.0]


def test_glucose_is_no_ecg() -> None:
    with pytest.raises(DecodeError, match="cannot be converted to 'mV'"):
        nightscout.decode(nightscout.encode(reading(104)), ECG)
