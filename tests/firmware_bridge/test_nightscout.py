"""Nightscout and xDrip entries, as phones really send them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bridge_examples import CGM, ECG, reading

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


def test_the_date_string_stands_in_for_the_date() -> None:
    (got,) = decode({"sgv": 100, "dateString": "2026-11-18T12:06:40.123+01:00"})
    assert got.t0_ns == T_MS * 10**6


def test_a_string_is_a_number_and_low_and_high_are_the_ends_of_the_range() -> None:
    entries = [{"sgv": sgv, "date": T_MS + i} for i, sgv in enumerate(["123", " 98.5 ", "LOW", "High", 5e1])]
    assert values(entries) == [123.0, 98.5, 39.0, 400.0, 50.0]


def test_finger_sticks_and_calibrations_are_no_sensor_readings() -> None:
    other = [{"type": "mbg", "mbg": 90, "date": T_MS}, {"type": "cal", "slope": 1.0, "date": T_MS}]
    assert values([*other, {"type": "sgv", "sgv": 104, "date": T_MS}]) == [104.0]
    assert values(other) == []
    assert values([]) == []


def test_a_receivers_error_codes_are_not_deep_hypoglycaemia() -> None:
    assert values([{"sgv": code, "date": T_MS + code} for code in (0, 1, 5, 9, 10, 12)]) == []


def test_xdrips_hint_tells_what_its_owner_sees_and_not_the_unit_of_sgv() -> None:
    assert values([{"sgv": 104, "date": T_MS, "units_hint": "mmol"}, {"sgv": 62, "date": T_MS + 1}]) == [104.0, 62.0]
    assert values([{"sgv": 104, "date": T_MS, "units_hint": "mgdl"}]) == [104.0]


def test_a_sender_that_converts_is_understood_too() -> None:
    converted = [
        {"sgv": 5.5, "date": T_MS, "units_hint": "mmol"},
        {"sgv": "LOW", "date": T_MS + 1},
        {"sgv": 7, "date": T_MS + 2},
    ]
    assert values(converted) == [np.float32(5.5 * 18.0156), 39.0, np.float32(7 * 18.0156)]


def test_mmol_configured_as_the_unit_sent_serves_as_the_hint() -> None:
    stream = replace(CGM, sent_unit="mmol/L")
    for sgv, mg_dl in ((5.5, np.float32(5.5 * 18.0156)), (104, 104.0)):
        (got,) = nightscout.decode(json.dumps({"sgv": sgv, "date": T_MS}).encode(), stream)
        assert got.samples[0, 0] == mg_dl


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (1, "entry 0 is 1"),
        ([[]], "entry 0 is a list"),
        ({"sgv": 100}, "neither date nor dateString"),
        ({"sgv": 100, "date": "x"}, "date is 'x'"),
        ({"sgv": 100, "date": True}, "date is True"),
        ({"sgv": 100, "date": -1}, "date is -1"),
        ({"sgv": 100, "date": 1_795_000_000}, "1990 to 2200"),
        ({"sgv": 100, "date": 1e300}, "1990 to 2200"),
        ({"sgv": 100, "dateString": "2026-11-18T12:06:40"}, "no time zone"),
        ({"sgv": None, "date": T_MS}, "sgv is None"),
        ({"sgv": "??0", "date": T_MS}, "expected a number, LOW or HIGH"),
        ({"sgv": "nan", "date": T_MS}, "not a finite number"),
        ({"sgv": "1e999", "date": T_MS}, "not a finite number"),
        ({"sgv": -40, "date": T_MS}, "is no cgm value"),
        ({"sgv": 5000, "date": T_MS}, "is no cgm value"),
        ({"sgv": 100, "date": T_MS, "units_hint": "stone"}, "units_hint is 'stone'"),
        ({"sgv": 100, "date": T_MS, "units_hint": ["mmol"]}, "units_hint is a list"),
        ([{"sgv": 100, "date": T_MS}] * 10_001, "10001 entries"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(document: object, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(document)


def test_glucose_is_no_ecg() -> None:
    with pytest.raises(DecodeError, match="cannot be converted to 'mV'"):
        nightscout.decode(nightscout.encode(reading(104)), ECG)
