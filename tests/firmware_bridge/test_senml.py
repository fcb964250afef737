"""SenML packs (RFC 8428): base fields, whose records are whose, series and single readings."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bridge_examples import ACC, CGM, ECG, TWO_LEADS, ecg_chunk, reading

from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs import senml

T0_S = 1_795_000_000
T0 = T0_S * 10**9
HR = Stream("p1", "belt", "hr", "hr", "1/min", 0.0)


def decode(records: object, stream: Stream = CGM) -> list[Chunk]:
    return senml.decode(json.dumps(records).encode(), stream)


@pytest.mark.parametrize("sent", [ecg_chunk(), ecg_chunk(TWO_LEADS), ecg_chunk(n=1), reading(104.3)])
def test_a_chunk_comes_back_bit_for_bit(sent: Chunk) -> None:
    (got,) = senml.decode(senml.encode(sent), sent.stream)
    assert got.samples.tobytes() == sent.samples.tobytes()
    assert (got.t0_ns, got.stream) == (sent.t0_ns, sent.stream)


def test_base_fields_hold_until_the_next_and_times_are_relative_to_them() -> None:
    first, second, third = decode(
        [
            {"bn": "urn:dev:mac:0024befffe804ff1/", "bt": T0_S, "bu": "mmol/L", "bver": 10, "n": "glucose", "v": 5.5},
            {"n": "glucose", "t": -300, "v": 5.25},
            {"bt": T0_S + 600, "n": "glucose", "u": "mg/dL", "v": 101},
        ]
    )
    assert [c.t0_ns for c in (first, second, third)] == [T0 - 300 * 10**9, T0, T0 + 600 * 10**9]
    assert [float(c.samples[0, 0]) for c in (first, second, third)] == [
        np.float32(5.25 * 18.0156),
        np.float32(5.5 * 18.0156),
        101.0,
    ]


def test_records_without_a_unit_are_in_the_one_configured_as_sent() -> None:
    (got,) = decode([{"n": "glucose", "t": T0_S, "v": 5.5}], replace(CGM, sent_unit="mmol/L"))
    assert got.samples[0, 0] == np.float32(5.5 * 18.0156)


def test_a_base_value_is_added_and_sums_text_and_booleans_are_passed_over() -> None:
    (got,) = decode(
        [
            {"bn": "glucose", "bt": T0_S, "bu": "mg/dL", "bv": 100, "v": 4.5},
            {"n": "", "vs": "ok"},
            {"vb": True},
            {"s": 12.0},
        ]
    )
    assert got.samples.tolist() == [[104.5]]


def test_senmls_own_unit_names_are_understood() -> None:
    (got,) = decode([{"n": "hr", "u": "beat/min", "t": T0_S, "v": 72}], HR)
    assert got.samples.tolist() == [[72.0]]
    (got,) = decode([{"n": "g", "u": "mol/m3", "t": T0_S, "v": 10}])
    assert got.samples[0, 0] == np.float32(180.156)


def test_of_several_sensors_only_ours_is_read() -> None:
    pack = [
        {"bn": "urn:dev:x:", "bt": T0_S, "n": "battery", "u": "%EL", "v": 71},
        {"n": "glucose", "u": "mg/dL", "v": 104},
    ]
    (got,) = decode(pack)
    assert got.samples.tolist() == [[104.0]]
    with pytest.raises(DecodeError, match="no record is this stream's; the names are 'urn:dev:x:battery'"):
        decode(pack, HR)


def test_channels_are_put_together_by_name_and_time() -> None:
    pack: list[dict[str, object]] = [{"bn": "belt/", "bt": T0_S, "bu": "m/s2"}]
    for i in range(4):
        pack += [{"n": axis, "t": i / 50, "v": 9.80665 * j} for j, axis in enumerate("zyx")]
    (got,) = decode(pack, ACC)
    assert got.stream.rate_hz == 50.0
    assert got.samples.tolist() == [[2, 1, 0]] * 4
    with pytest.raises(DecodeError, match="2 of 3 channels"):
        decode(pack[:-1], ACC)


def test_a_regular_series_is_one_chunk_and_a_hole_starts_another() -> None:
    times = [i / 250 for i in range(20) if i not in (8, 9)]
    first, second = decode([{"bn": "ecg", "bt": T0_S}, *({"t": t, "v": 0.1} for t in times)], ECG)
    assert (len(first.samples), len(second.samples)) == (8, 10)
    assert second.t0_ns == T0 + 40_000_000


def test_records_out_of_order_are_put_in_order() -> None:
    (got,) = decode([{"bt": T0_S, "t": t / 250, "v": t} for t in (2, 0, 1)], ECG)
    assert got.samples[:, 0].tolist() == [0, 1, 2]


def test_irregular_readings_without_a_rate_are_chunks_of_their_own() -> None:
    got = decode([{"bt": T0_S, "t": t, "v": 120} for t in (0, 7, 9)], replace(ACC, channels=("x",), kind="abp"))
    assert [len(c.samples) for c in got] == [1, 1, 1]


@pytest.mark.parametrize(
    ("records", "stream", "reason"),
    [
        ({"v": 1}, CGM, "payload is a map"),
        ([], CGM, "no record has a number"),
        ([{"bn": "a", "bt": T0_S}], CGM, "no record has a number"),
        ([1], CGM, "record 0 is 1"),
        ([{"v": 100}], CGM, "no time"),
        ([{"t": -5, "v": 100}], CGM, "relative to now"),
        ([{"bt": 0, "v": 100}], CGM, "relative to now"),
        ([{"t": 1e300, "v": 100}], CGM, "1990 to 2200"),
        ([{"t": T0_S * 1000, "v": 100}], CGM, "1990 to 2200"),
        ([{"t": str(T0_S), "v": 100}], CGM, "expected a number"),
        ([{"t": T0_S, "v": "100"}], CGM, "v is '100'"),
        ([{"t": T0_S, "v": None}], CGM, "v is None"),
        ([{"t": T0_S, "v": 1, "n": 5}], CGM, "n is 5"),
        ([{"t": T0_S, "v": 1, "u": 5}], CGM, "u is 5"),
        ([{"t": T0_S, "v": 1, "bver": 11}], CGM, "bver is 11"),
        ([{"t": T0_S, "v": 1, "scale_": 2}], CGM, "'scale_'"),
        ([{"t": T0_S, "v": 100, "u": "mV"}], CGM, "cannot be converted"),
        ([{"t": T0_S, "v": 1e308, "bv": 1e308}], CGM, "not a finite number"),
        ([{"t": T0_S, "v": 1e9}], CGM, "is no cgm value"),
        ([{"t": T0_S, "v": 100}, {"t": T0_S, "v": 101}], CGM, "two values for the time"),
        ([{"bt": T0_S, "t": i / 360, "v": 0} for i in range(9)], ECG, "says 360 Hz, configuration says 250 Hz"),
        ([{"bt": T0_S, "t": i * 60, "v": 1} for i in range(9)], replace(ACC, channels=("x",)), "a wearable has"),
        ([{"bt": T0_S, "t": i, "v": 100} for i in range(10_001)], CGM, "10001 readings"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(records: object, stream: Stream, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(records, stream)
