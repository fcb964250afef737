"""Which codec reads a payload, and that no payload brings anything but chunks or a DecodeError."""

from __future__ import annotations

import json
import math

import cbor2
import pytest
from bridge_examples import ACC, CGM, ECG, TWO_LEADS, assert_valid, ecg_chunk, reading
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge import codecs, frame
from firmware_bridge.chunk import DecodeError, Stream
from firmware_bridge.codecs import CODECS, FORMATS, cbor_chunk, json_chunk, nightscout, senml

STREAMS = (ECG, TWO_LEADS, CGM, ACC)
PAYLOADS = {
    "frame": frame.encode(ecg_chunk()),
    "cbor": cbor_chunk.encode(ecg_chunk()),
    "json": json_chunk.encode(ecg_chunk()),
    "senml": senml.encode(ecg_chunk()),
}
CONTENT_TYPES = {
    "frame": "application/vnd.vagus.frame",
    "cbor": "application/cbor",
    "json": "application/json",
    "senml": "application/senml+json",
}
thorough = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def decodes_or_refuses(payload: bytes, stream: Stream, content_type: str | None, wanted: str) -> None:
    try:
        chunks = codecs.decode(payload, stream, content_type, wanted)
    except DecodeError as error:
        assert len(str(error)) < 1500  # noqa: PT017 - the claim is about what may be raised
        str(error).encode()
        assert_valid(list(error.chunks), stream)
        return
    assert_valid(chunks, stream)


def test_the_formats_a_configuration_may_name() -> None:
    assert FORMATS == ("auto", "frame", "cbor", "json", "nightscout", "senml")


@pytest.mark.parametrize("sent", PAYLOADS)
def test_a_content_type_decides_over_the_configuration(sent: str) -> None:
    for wanted in FORMATS:
        if sent == "json" and wanted in ("nightscout", "senml"):
            continue  # application/json is theirs too
        (chunk,) = codecs.decode(PAYLOADS[sent], ECG, CONTENT_TYPES[sent].upper() + "; charset=utf-8", wanted)
        assert chunk.samples.tobytes() == ecg_chunk().samples.tobytes()


@pytest.mark.parametrize("content_type", [None, "", "text/plain", ";;;", "application/octet-stream"])
@pytest.mark.parametrize("sent", PAYLOADS)
def test_without_a_known_content_type_the_configuration_decides_and_else_the_looks(
    sent: str, content_type: str | None
) -> None:
    for wanted in (sent, "auto"):
        (chunk,) = codecs.decode(PAYLOADS[sent], ECG, content_type, wanted)
        assert len(chunk.samples) == 250
    for wanted in set(PAYLOADS) - {sent}:
        with pytest.raises(DecodeError):
            codecs.decode(PAYLOADS[sent], ECG, content_type, wanted)


def test_entries_are_told_from_chunks_and_packs_by_their_looks() -> None:
    for payload in (nightscout.encode(reading(104)), senml.encode(reading(104)), json_chunk.encode(reading(104))):
        for content_type in (None, "application/json"):
            (chunk,) = codecs.decode(payload, CGM, content_type)
            assert chunk.samples.tolist() == [[104.0]]
    assert codecs.decode(b'[{"type":"mbg","mbg":90,"date":1795000000123}]', CGM) == []
    assert codecs.decode(b"[]", CGM, "application/json", "nightscout") == []


@pytest.mark.parametrize(
    "payload", [b"[]", b"{}", b"[1]", b"null", b'"samples"', b'{"a":1}', b"hello", b"\x00", b"\x02"]
)
def test_what_looks_like_nothing_known_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        codecs.decode(payload, ECG)


@pytest.mark.parametrize("wanted", FORMATS)
def test_empty_and_oversized_payloads_are_refused_before_any_codec(wanted: str) -> None:
    for payload in (b"", b"\x01" * ((1 << 20) + 1)):
        with pytest.raises(DecodeError, match=f"payload of {len(payload)} bytes"):
            codecs.decode(payload, ECG, None, wanted)


def test_a_format_nobody_knows_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="'xml' is not one of auto, frame") as raised:
        codecs.decode(b"<a/>", ECG, None, "xml")
    assert not isinstance(raised.value, DecodeError)


@thorough
@given(st.binary(max_size=300), st.sampled_from(STREAMS), st.sampled_from(FORMATS))
def test_any_bytes(payload: bytes, stream: Stream, wanted: str) -> None:
    decodes_or_refuses(payload, stream, None, wanted)


@thorough
@given(
    st.sampled_from(sorted(PAYLOADS)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    st.sampled_from(STREAMS),
)
def test_any_payload_with_bytes_changed(sent: str, edits: list[tuple[float, int]], stream: Stream) -> None:
    # Most edits go to the first bytes, where the fields are.
    payload = bytearray(PAYLOADS[sent])
    for where, value in edits:
        payload[math.floor(where**3 * len(payload))] = value
    decodes_or_refuses(bytes(payload), stream, None, sent)


@thorough
@given(st.sampled_from(sorted(PAYLOADS)), st.floats(0, 1), st.floats(0, 1), st.binary(max_size=8))
def test_any_payload_with_a_stretch_replaced(sent: str, a: float, b: float, middle: bytes) -> None:
    start, end = sorted((int(a * len(PAYLOADS[sent])), int(b * len(PAYLOADS[sent]))))
    decodes_or_refuses(PAYLOADS[sent][:start] + middle + PAYLOADS[sent][end:], ECG, None, sent)


odd_numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from([0, -1, 1 << 63, 10**400, 250, 250.0, 1_795_000_000, 1_795_000_000_000, 1_795_000_000 * 10**9]),
)
odd_scalars = st.one_of(
    st.none(),
    st.booleans(),
    odd_numbers,
    st.text(max_size=12),
    st.sampled_from(
        ["mV", "uV", "mmol/L", "mg/dL", "LOW", "HIGH", "sgv", "mbg", "II", "\ud800", "2026-11-18T11:06:40Z"]
    ),
)
odd_values = st.recursive(odd_scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
keys = st.sampled_from(
    ["t0", "t0_ms", "rate", "unit", "scale", "channels", "seq", "boot", "samples", "sgv", "date", "dateString", "type",
     "units_hint", "bn", "bt", "bu", "bv", "bver", "n", "u", "v", "vs", "vb", "s", "t", "x_"]
)  # fmt: skip
odd_maps = st.dictionaries(keys, odd_values, max_size=10)


@thorough
@given(st.one_of(odd_maps, st.lists(odd_maps, max_size=4)), st.sampled_from(STREAMS), st.sampled_from(FORMATS[3:]))
def test_any_json_of_our_keys_with_odd_values(document: object, stream: Stream, wanted: str) -> None:
    payload = json.dumps(document).encode()
    decodes_or_refuses(payload, stream, None, wanted)
    decodes_or_refuses(payload, stream, "application/json", "auto")


@thorough
@given(
    st.dictionaries(
        st.one_of(keys, st.integers(), st.booleans()),
        st.one_of(
            st.binary(max_size=16),
            odd_values.filter(lambda value: "\\ud800" not in repr(value)),
            st.builds(cbor2.CBORTag, st.integers(0, 300), st.one_of(st.binary(max_size=16), st.integers(), st.text())),
        ),
        max_size=10,
    ),
    st.sampled_from(STREAMS),
)
def test_any_cbor_of_our_keys_with_odd_values_and_tags(document: dict[object, object], stream: Stream) -> None:
    decodes_or_refuses(cbor2.dumps(document), stream, None, "cbor")


@thorough
@given(st.sampled_from(["t0", "rate", "unit", "scale", "channels", "seq", "boot", "samples"]), odd_values)
def test_a_good_chunk_with_one_odd_field(key: str, value: object) -> None:
    good = json.loads(PAYLOADS["json"])
    decodes_or_refuses(json.dumps(good | {key: value}).encode(), ECG, None, "json")


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize(
    "payload",
    [
        b"[" * (1 << 20),
        b'[{"n":' * 100_000,
        b"\x81" * (1 << 20),
        b"\xbf" * (1 << 20),
        b"\x01" * (1 << 20),
        b"\xa1gsamples" + b"\x81" * 900_000,
        b'{"samples":' + b"[" * 900_000,
        b'{"samples":[' + b"[0]," * 200_000 + b"[0]]}",
        b'{"samples":[' + b'"' + b"x" * 500_000 + b'"' + b",1" * 200_000 + b"]}",
        b"[" + b'{"v":1},' * 120_000 + b'{"v":1}]',
        b"[" + b'{"sgv":1},' * 100_000 + b'{"sgv":1}]',
        b'{"t0":' + b"9" * 1_000_000 + b"}",
    ],
    ids=lambda payload: repr(payload[:16]),
)
def test_bombs(payload: bytes, wanted: str) -> None:
    with pytest.raises(DecodeError):
        codecs.decode(payload, ECG, None, wanted)


def test_each_codec_has_one_line_in_the_registry() -> None:
    assert len({codec.format for codec in CODECS}) == len(CODECS)
