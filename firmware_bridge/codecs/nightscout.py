"""Glucose entries as Nightscout and xDrip write them: an array of entries, or one.

An entry of a type other than "sgv" (a finger-stick, a calibration) is no sensor reading and is passed over, and so is
an `sgv` from 0 to 12 mg/dL, where Dexcom receivers send error codes. "LOW" and "HIGH" stand for 39 and 400 mg/dL, the
ends of the sensor's range. `direction`, `delta` and `noise` are not read: trends are the agent's own to compute.

`sgv` is mg/dL. xDrip's `units_hint` names the unit its owner looks at, and its `sgv` stays mg/dL; senders that convert
exist too. So with the hint "mmol", or mmol/L configured as the unit sent, the values are taken for mmol/L only if all
of them lie below 36, where no sensor's mg/dL does and every sensor's mmol/L does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from firmware_bridge.chunk import Chunk, DecodeError, Stream, unit_factor
from firmware_bridge.codecs.fields import iso_ns, iso_text, load_json, mapping, ms_ns, plain_number, real, shown
from firmware_bridge.plausible import to_chunk

LOW_MG_DL = 39.0
HIGH_MG_DL = 400.0
ERROR_CODES_BELOW_MG_DL = 13.0
_MMOL_BELOW = 36.0
MAX_ENTRIES = 10_000

_TYPES = ("sgv", "mbg", "cal")


def decode(payload: bytes, stream: Stream) -> list[Chunk]:
    """One chunk a reading, oldest first, repeats left out; none where no entry is a sensor reading.

    Raises DecodeError if any entry is not what it claims to be.
    """
    return decode_document(load_json(payload), stream)


def decode_document(document: object, stream: Stream) -> list[Chunk]:
    """As `decode`, from parsed JSON."""
    entries = document if isinstance(document, list) else [document]
    if len(entries) > MAX_ENTRIES:
        raise DecodeError(f"{len(entries)} entries, expected at most {MAX_ENTRIES}")
    readings: set[tuple[int, float]] = set()
    hint: object = None
    for i, item in enumerate(entries):
        entry = mapping(item, f"entry {i}")
        hint = entry.get("units_hint", hint)
        if entry.get("type", "sgv") == "sgv":
            readings.add((_time_ns(entry, i), _sgv(entry, i)))
    if hint not in (None, "mgdl", "mmol"):
        raise DecodeError(f'units_hint is {shown(hint)}, expected "mgdl" or "mmol"')
    hinted = hint == "mmol" or (hint is None and stream.sent_unit == "mmol/L")
    in_mmol = hinted and all(sgv < _MMOL_BELOW for _, sgv in readings if sgv not in (LOW_MG_DL, HIGH_MG_DL))
    units = {True: ("mmol/L", unit_factor("mmol/L", "mg/dL")), False: ("mg/dL", 1.0)}
    chunks = []
    for t_ns, sgv in sorted(readings):
        unit, factor = units[in_mmol and sgv < _MMOL_BELOW]
        if not 0 <= sgv * factor < ERROR_CODES_BELOW_MG_DL:
            chunks.append(to_chunk(stream, t_ns, np.array([[sgv]]), unit=unit))
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


def _time_ns(entry: Mapping[str, object], i: int) -> int:
    if entry.get("date") is not None:
        return ms_ns(entry["date"], f"entry {i}: date")
    if entry.get("dateString") is not None:
        return iso_ns(entry["dateString"], f"entry {i}: dateString")
    raise DecodeError(f"entry {i} has neither date nor dateString")


def _sgv(entry: Mapping[str, object], i: int) -> float:
    sgv, name = entry.get("sgv"), f"entry {i}: sgv"
    if not isinstance(sgv, str):
        return real(sgv, name)
    word = sgv.strip().upper()
    if word in ("LOW", "HIGH"):
        return LOW_MG_DL if word == "LOW" else HIGH_MG_DL
    try:
        number = float(word)
    except ValueError:
        raise DecodeError(f"{name} is {shown(sgv)}, expected a number, LOW or HIGH") from None
    return real(number, name)
