"""A chunk as CBOR or JSON: the same keys, the same checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import cbor2
import numpy as np
import pytest
from bridge_examples import ACC, CGM, ECG, T0_NS, TWO_LEADS, ecg_chunk, reading

from firmware_bridge.chunk import MAX_CHUNK_SAMPLES, Chunk, DecodeError, Stream
from firmware_bridge.codecs import cbor_chunk, json_chunk

Fields = dict[str, object]
Decode = Callable[[Fields, Stream], list[Chunk]]


def as_json(fields: Fields, stream: Stream) -> list[Chunk]:
    return json_chunk.decode(json.dumps(fields).encode(), stream)


def as_cbor(fields: Fields, stream: Stream) -> list[Chunk]:
    return cbor_chunk.decode(cbor2.dumps(fields), stream)


@pytest.fixture(params=[as_json, as_cbor])
def decode(request: pytest.FixtureRequest) -> Decode:
    return request.param  # type: ignore[no-any-return]


def fields(**changed: object) -> Fields:
    """Three samples of ECG; a key changed to ... is left out."""
    whole: Fields = {"t0": T0_NS, "rate": 250.0, "unit": "mV", "samples": [0.5, -1, 2.25]} | changed
    return {key: value for key, value in whole.items() if value is not ...}


@pytest.mark.parametrize("codec", [cbor_chunk, json_chunk])
@pytest.mark.parametrize(
    "sent", [ecg_chunk(), ecg_chunk(TWO_LEADS), ecg_chunk(n=1, seq=None, boot_id=0), reading(104.3)]
)
def test_a_chunk_comes_back_bit_for_bit(codec, sent: Chunk) -> None:  # type: ignore[no-untyped-def]
    (got,) = codec.decode(codec.encode(sent), sent.stream)
    assert got.samples.tobytes() == sent.samples.tobytes()
    assert (got.t0_ns, got.seq, got.boot_id, got.stream) == (sent.t0_ns, sent.seq, sent.boot_id, sent.stream)


def test_a_cbor_chunk_byte_for_byte() -> None:
    payload = bytes.fromhex(
        "a6"  # a map of six
        "627430 1b18e91efd632f4a00"  # "t0": 1795000000123456000
        "64756e6974 627556"  # "unit": "uV"
        "6472617465 f95bd0"  # "rate": 250.0
        "63736571 07"  # "seq": 7
        "657363616c65 05"  # "scale": 5
        "6773616d706c6573 d84d 46 6400 9cff e803"  # "samples": int16 little-endian 100, -100, 1000
    )
    (got,) = cbor_chunk.decode(payload, ECG)
    assert (got.t0_ns, got.seq) == (T0_NS, 7)
    assert got.samples[:, 0].tolist() == [0.5, -0.5, 5.0]


def test_a_json_chunk_as_a_person_would_write_it() -> None:
    payload = b'{"t0": "2026-11-18T12:06:40.123456+01:00", "rate": 250, "unit": "uV", "samples": [500, -1000, 2250]}'
    (got,) = json_chunk.decode(payload, ECG)
    assert got.t0_ns == T0_NS
    assert got.samples[:, 0].tolist() == [0.5, -1.0, 2.25]


@pytest.mark.parametrize("tag", sorted(cbor_chunk.TYPED_ARRAYS))
def test_every_typed_array_reads_alike(tag: int) -> None:
    data = np.array([[1, 2], [3, 4]]).astype(cbor_chunk.TYPED_ARRAYS[tag]).tobytes()
    (got,) = as_cbor(fields(samples=cbor2.CBORTag(tag, data)), TWO_LEADS)
    assert got.samples.tolist() == [[1, 2], [3, 4]]


def test_int16_cbor_is_within_half_a_count() -> None:
    sent = ecg_chunk()
    (got,) = cbor_chunk.decode(cbor_chunk.encode(sent, scale=0.001), ECG)
    assert np.abs(got.samples - sent.samples).max() <= 0.0005 + 1e-7
    with pytest.raises(ValueError, match="more than 16 bits"):
        cbor_chunk.encode(sent, scale=1e-6)


def test_time_may_be_ms_or_an_iso_string(decode: Decode) -> None:
    for start in ({"t0_ms": 1_795_000_000_123.456}, {"t0": "2026-11-18T11:06:40.123456Z"}):
        (got,) = decode(fields(**({"t0": ...} | start)), ECG)
        assert abs(got.t0_ns - T0_NS) < 500


def test_unknown_keys_and_nulls_are_let_be(decode: Decode) -> None:
    (got,) = decode(fields(battery=71, seq=None, unit=None), ECG)
    assert got.seq is None


def test_a_rate_is_taken_from_the_payload_where_none_is_configured(decode: Decode) -> None:
    (got,) = decode(fields(rate=52, unit="mg", samples=[[0, 0, 1000], [10, -20, 980]]), ACC)
    assert got.stream.rate_hz == 52.0
    assert got.samples[1, 2] == np.float32(0.98)


def test_leads_named_in_another_order_are_put_in_ours(decode: Decode) -> None:
    (got,) = decode(fields(channels=["V1", "MLII"], samples=[[1, 2], [3, 4]]), TWO_LEADS)
    assert got.samples.tolist() == [[2, 1], [4, 3]]


def test_a_lead_that_is_not_ours_is_refused(decode: Decode) -> None:
    with pytest.raises(DecodeError, match="payload has channels 'V1', 'V5', configuration has 'MLII', 'V1'"):
        decode(fields(channels=["V1", "V5"], samples=[[1, 2]]), TWO_LEADS)


def test_a_stream_without_names_takes_any(decode: Decode) -> None:
    (got,) = decode(fields(channels=["ECG"]), replace(ECG, channels=("",)))
    assert len(got.samples) == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"t0": ...}, "expected one of t0"),
        ({"t0_ms": 1_795_000_000_000}, "expected one of t0"),
        ({"t0": 1.795e18}, "expected an integer"),
        ({"t0": True}, "expected an integer"),
        ({"t0": -1}, "expected an integer"),
        ({"t0": [1]}, "t0 is a list"),
        ({"t0": 1 << 63}, "expected an integer"),
        ({"t0": 1_795_000_000}, "1990 to 2200"),
        ({"t0": 0}, "1990 to 2200"),
        ({"t0": "2026-11-18T11:06:40"}, "has no time zone"),
        ({"t0": "yesterday"}, "ISO 8601"),
        ({"t0": "0001-01-01T00:00:00+23:59"}, "1990 to 2200"),
        ({"t0": ..., "t0_ms": "1"}, "expected a number"),
        ({"t0": ..., "t0_ms": -5.5}, "1990 to 2200"),
        ({"rate": "250"}, "rate is '250'"),
        ({"rate": True}, "rate is True"),
        ({"rate": -250}, "not one a wearable has"),
        ({"rate": 1e12}, "not one a wearable has"),
        ({"rate": 360}, "payload says 360 Hz, configuration says 250 Hz"),
        ({"unit": 5}, "unit is 5"),
        ({"unit": "mmHg"}, "cannot be converted"),
        ({"unit": "x" * 300}, "unit is 'xxx"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": "1"}, "scale is '1'"),
        ({"scale": 1e300}, "is no ecg value"),
        ({"seq": -1}, "seq is -1"),
        ({"seq": 1.0}, "seq is 1.0"),
        ({"seq": 1 << 63}, "seq is"),
        ({"boot": 1 << 32}, "boot is"),
        ({"channels": "II"}, "channels is 'II'"),
        ({"channels": []}, "channels is 0 names"),
        ({"channels": ["I", "II"]}, "channels is 2 names"),
        ({"channels": [2]}, "a channel's name is 2"),
        ({"samples": ...}, "samples is None"),
        ({"samples": []}, "0 samples"),
        ({"samples": {}}, "samples is a map"),
        ({"samples": "abc"}, "samples is 'abc'"),
        ({"samples": [1, None]}, "a sample is None"),
        ({"samples": [1, "2"]}, "a sample is '2'"),
        ({"samples": [1, True]}, "a sample is True"),
        ({"samples": [1, [2]]}, "a sample is a list"),
        ({"samples": [[1], 2]}, "sample 1 is 2"),
        ({"samples": [[1], [2, 3]]}, "sample 1 is 2 values"),
        ({"samples": [[1, 2]]}, "sample 0 is 2 values"),
        ({"samples": [[[1]]]}, "a sample is a list"),
        ({"samples": [0.0, 1e30]}, "is no ecg value"),
        ({"samples": [0] * (MAX_CHUNK_SAMPLES + 1)}, "131073 samples"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(decode: Decode, changed: Fields, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(fields(**changed), ECG)


def test_a_flat_list_is_not_two_leads(decode: Decode) -> None:
    with pytest.raises(DecodeError, match="expected rows of 2 channels"):
        decode(fields(samples=[1, 2, 3, 4]), TWO_LEADS)


def test_a_glucose_stream_takes_one_reading_and_no_rate(decode: Decode) -> None:
    (got,) = decode(fields(rate=..., unit="mmol/L", samples=[5.5]), CGM)
    assert got.samples[0, 0] == np.float32(5.5 * 18.0156)
    with pytest.raises(DecodeError, match="2 samples without a sampling rate"):
        decode(fields(rate=..., unit="mg/dL", samples=[100, 101]), CGM)
    with pytest.raises(DecodeError, match="is no cgm value"):
        decode(fields(rate=..., unit="mmol/L", samples=[104.0]), CGM)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5000])
def test_json_numbers_that_are_none_are_refused(literal: str) -> None:
    with pytest.raises(DecodeError):
        json_chunk.decode(json.dumps(fields(samples=["@"])).replace('"@"', literal).encode(), ECG)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "payload of 0 bytes"),
        (b" " * ((1 << 20) + 1), "payload of 1048577 bytes"),
        (b"\xff{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"t0": 1', "not JSON"),
        (b"{} {}", "not JSON: Extra data"),
        (b"[" * 500_000, "nested too deep"),
        (b'{"a":' * 150_000, "nested too deep"),
        (b'{"t0": 1, "t0": 2}', "'t0' stands twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "stands twice"),
        (b'{"t0": 1795000000000000000, "unit": "\\ud800", "samples": [1]}', "cannot be converted"),
        (b"[1]", "expected a map"),
        (b"null", "expected a map"),
        (b"9" * 1_000_000, "thousands of digits"),
        (b'"' + b"x" * 1_000_000 + b'"', "expected a map"),
    ],
)
def test_json_that_is_hostile_or_broken_is_refused_in_words(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as raised:
        json_chunk.decode(payload, ECG)
    assert len(str(raised.value)) < 200
    str(raised.value).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81" * 1_000_000,
        b"\xa1\x61a" * 300_000,
        b"\xc1" * 1_000_000,
        b"\xd8\x55" * 100_000,
        b"\x9b\x7f" + b"\xff" * 7,
        b"\xbb\x7f" + b"\xff" * 7,
        b"\x5b\x7f" + b"\xff" * 7,
        b"\x5a\x7f\xff\xff\xff",
        b"\x9f" * 1000,
        bytes.fromhex("a18001"),
        bytes.fromhex("a1a000"),
        b"\xba\x00\x01\x38\x80"
        + b"".join(b"\x1b" + (i * ((1 << 61) - 1) % (1 << 64)).to_bytes(8) + b"\0" for i in range(80_000)),
        bytes.fromhex("a2627430016274 3002"),
        bytes.fromhex("a161ff00"),
        bytes.fromhex("d81c81d81d00"),
        cbor2.dumps(cbor2.CBORTag(35, "(a+)+$")),
        cbor2.dumps(cbor2.CBORTag(5, [1 << 60, 3])),
        cbor2.dumps(cbor2.CBORTag(4, [1 << 60, 3])),
        cbor2.dumps(fields(samples=cbor2.CBORTag(36, "a: b"))),
        cbor2.dumps(fields(t0=1 << 4_000_000)),
        cbor2.dumps(fields(samples=[1, 1 << 64])),
        cbor2.dumps(fields(samples=[1.0, float("nan")])),
        cbor2.dumps(fields(rate=float("nan"))),
        cbor2.dumps(fields(scale=float("inf"))),
        cbor2.dumps(fields()) + b"\0",
        cbor2.dumps(fields(samples=cbor2.CBORTag(85, b"\0" * 5))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(85, b""))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(85, "abcd"))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(85, [1]))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(87, b"\0" * 16))),
        cbor2.dumps(fields(samples=cbor2.CBORTag((1 << 64) - 1, b"\0" * 4))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(85, b"\1\0\x80\x7f"))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(81, b"\x7f\x80\0\1"))),
        cbor2.dumps(fields(samples=cbor2.CBORTag(64, bytes(MAX_CHUNK_SAMPLES + 1)))),
        cbor2.dumps(cbor2.undefined),
    ],
)
def test_cbor_that_is_hostile_or_broken_is_refused_in_words(payload: bytes) -> None:
    with pytest.raises(DecodeError) as raised:
        cbor_chunk.decode(payload, ECG)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("stride", [1, 37])
def test_the_largest_chunks_come_back_whole(stride: int) -> None:
    counts = (np.arange(MAX_CHUNK_SAMPLES // stride) * 7919 % 1000).astype("<i2")
    typed = cbor2.dumps(fields(samples=cbor2.CBORTag(77, counts.tobytes())))
    listed = cbor2.dumps(fields(samples=counts.tolist()))
    for payload in (typed, listed):
        (got,) = cbor_chunk.decode(payload, ECG)
        assert (got.samples[:, 0] == counts).all()
        with pytest.raises(DecodeError, match="bytes follow the CBOR map"):
            cbor_chunk.decode(payload + b"\0", ECG)
