"""Glucose entries as Nightscout and xDrip write them: an array of entries, or one.

An entry that cannot be read costs nothing else: the others are read, and the error says how many were not, and why the
first of them. An entry of a type other than "sgv" (a finger-stick, a calibration) is no sensor reading and is passed
over. Whole numbers from 0 to 12 are refused: there, Dexcom receivers send error codes. "LOW" and "HIGH" stand for 39
and 400 mg/dL, the ends of the sensor's range. `direction`, `delta` and `noise` are not read: trends are the agent's own
to compute.

When: `date` or `mills` (epoch ms, as a number or a string), else `dateString` or `sysTime` (ISO 8601 with a zone). Of
several values for one time all are handed on, in the order of the payload: what comes later corrects what came before.

Which unit: `sgv` is mg/dL. xDrip's `units_hint` names the unit that its owner looks at, while its `sgv` stays whole
mg/dL, 35 on a bad day. Senders that convert exist too; with the hint "mmol" the values are taken for mmol/L where they
can be nothing else, all of them below 28 and not all whole. mmol/L configured as the unit sent is taken at its word.
Values that look like mmol/L, with nobody saying so, are handed on as they are: to be doubted, not converted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np

from firmware_bridge.chunk import Chunk, DecodeError, Stream, unit_factor
from firmware_bridge.codecs.fields import iso_ns, iso_text, load_json, mapping, ms_ns, plain_number, real, shown
from firmware_bridge.plausible import CGM_ABOVE_MG_DL, CGM_BELOW_MG_DL, check_time, to_chunk

ERROR_CODES_BELOW = 13.0
MAX_ENTRIES = 10_000

_MMOL_BELOW = 28.0
_ENDS = {"LOW": CGM_BELOW_MG_DL, "HIGH": CGM_ABOVE_MG_DL}
_TYPES = ("sgv", "mbg", "cal")
_MS_KEYS, _ISO_KEYS = ("date", "mills"), ("dateString", "sysTime")

_Reading = tuple[int, float, str]
"""UTC ns, value, unit."""


def decode(payload: bytes, stream: Stream) -> list[Chunk]:
    """One chunk a reading, oldest first, exact repeats left out; none where no entry is a sensor reading.

    Raises DecodeError if any entry is not what it claims to be; the readings of the others are in it.
    """
    return decode_document(load_json(payload), stream)


def decode_document(document: object, stream: Stream) -> list[Chunk]:
    """As `decode`, from parsed JSON."""
    entries = document if isinstance(document, list) else [document]
    if len(entries) > MAX_ENTRIES:
        raise DecodeError(f"{len(entries)} entries, expected at most {MAX_ENTRIES}")
    unit_factor("mg/dL", stream.unit)
    said: list[_Reading] = []
    refused: list[DecodeError] = []
    for i, item in enumerate(entries):
        try:
            entry = mapping(item, f"entry {i}")
            if _is_sensor_reading(entry):
                said.append((_time_ns(entry, i), *_sgv(entry, i)))
        except DecodeError as error:
            refused.append(error)
    unit = "mmol/L" if _is_mmol(stream, entries, said) else "mg/dL"
    chunks: list[Chunk] = []
    for t_ns, value, own_unit in sorted(dict.fromkeys(said), key=lambda reading: reading[0]):
        try:
            chunks.append(_chunk(stream, t_ns, value, own_unit or unit))
        except DecodeError as error:
            refused.append(error)
    if refused:
        others = f"; {len(refused)} of {len(entries)} entries were refused" if len(entries) > 1 else ""
        raise DecodeError(f"{refused[0]}{others}", chunks=tuple(chunks))
    return chunks


def encode(chunk: Chunk) -> bytes:
    """The one reading of a chunk in mg/dL as an array of one entry; its time is rounded to ms."""
    t_ms = (chunk.t0_ns + 500_000) // 1_000_000
    value = plain_number(chunk.samples[0, 0])
    entry = {
        "type": "sgv",
        "sgv": int(value) if value.is_integer() else value,
        "date": t_ms,
        "dateString": iso_text(t_ms * 1_000_000),
        "device": chunk.stream.device,
    }
    return json.dumps([entry], separators=(",", ":")).encode()


def recognizes(document: object) -> bool:
    """Whether parsed JSON looks like entries."""
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and ("sgv" in first or ("date" in first and first.get("type") in _TYPES))


def _is_sensor_reading(entry: Mapping[str, object]) -> bool:
    kind = entry.get("type")
    if kind is None:
        return "sgv" in entry or not ("mbg" in entry or "slope" in entry)
    return kind == "sgv"


def _time_ns(entry: Mapping[str, object], i: int) -> int:
    for key in _MS_KEYS:
        if (value := entry.get(key)) is not None:
            name = f"entry {i}: {key}"
            return check_time(ms_ns(_number(value, name) if isinstance(value, str) else value, name))
    for key in _ISO_KEYS:
        if entry.get(key) is not None:
            return check_time(iso_ns(entry[key], f"entry {i}: {key}"))
    raise DecodeError(f"entry {i} has none of {', '.join(_MS_KEYS + _ISO_KEYS)}")


def _sgv(entry: Mapping[str, object], i: int) -> tuple[float, str]:
    """The value, and its unit where that is beyond doubt."""
    sgv, name = entry.get("sgv"), f"entry {i}: sgv"
    if not isinstance(sgv, str):
        return real(sgv, name), ""
    word = sgv.strip().upper()
    if word in _ENDS:
        return _ENDS[word], "mg/dL"
    return float(_number(word, name)), ""


def _number(word: str, name: str) -> int | float:
    """The number that a string is, an integer exactly; raises DecodeError."""
    # Python reads 1_000 as a number; nobody who writes entries does.
    if "_" in word or len(word) > 40:
        raise DecodeError(f"{name} is {shown(word)}, expected a number")
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return real(float(word), name)
    except DecodeError:
        raise
    except ValueError:
        raise DecodeError(f"{name} is {shown(word)}, expected a number") from None


def _is_mmol(stream: Stream, entries: Iterable[object], said: Iterable[_Reading]) -> bool:
    if stream.sent_unit == "mmol/L":
        return True
    if not any(isinstance(entry, dict) and entry.get("units_hint") == "mmol" for entry in entries):
        return False
    values = [value for _, value, unit in said if not unit]
    return all(value < _MMOL_BELOW for value in values) and not all(value.is_integer() for value in values)


def _chunk(stream: Stream, t_ns: int, value: float, unit: str) -> Chunk:
    if value == 0 or (unit == "mg/dL" and 0 < value < ERROR_CODES_BELOW and value.is_integer()):
        raise DecodeError(f"{stream.key}: sgv {value:g} is an error code, or none")
    return to_chunk(stream, t_ns, np.array([[value]]), unit=unit)
