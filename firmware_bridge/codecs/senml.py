"""SenML in JSON (RFC 8428): base fields, names, units, values and times.

Which records are this stream's: of a pack with one name, all; of a pack with several, those whose name's last part
(after ":" or "/") is the name of one of the stream's channels, or, for a stream of one channel, of the stream or its
kind.
Records of text, booleans or data, and the sum `s`, are passed over.

Times must be absolute: a time below 2²⁸ s counts from "now" in SenML, and only whoever received it knows when that was.

A stream of single readings gives one chunk a reading. Any other is a series: records spaced alike to 1 % become one
chunk, a hole starts another. The spacing is the rate the payload states; where the configuration has none and the
spacing is not regular, each reading is a chunk of its own. A `bt` of whole seconds with small `t` beside it keeps
times exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import MAX_CHUNK_SAMPLES, NS_PER_S, Chunk, DecodeError, Stream, unit_factor
from firmware_bridge.codecs.fields import load_json, mapping, name_part, plain_number, real, seconds_ns, shown, text
from firmware_bridge.plausible import check_time, is_spot, to_chunk

VERSION = 10
MAX_READINGS = 10_000
RELATIVE_BELOW_S = 1 << 28

UNIT_ALIASES = {"beat/min": "1/min", "mol/m3": "mmol/L"}
"""SenML's registered names for units the agent knows by another name."""

_SPACING_TOLERANCE = 0.01
_KEYS = frozenset({"bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"})


@dataclass(frozen=True, slots=True)
class _Record:
    """One resolved number (RFC 8428, section 4.6)."""

    name: str
    unit: str | None
    t_ns: int
    value: float


def decode(payload: bytes, stream: Stream) -> list[Chunk]:
    """The pack's chunks for this stream, oldest first; raises DecodeError."""
    return decode_document(load_json(payload), stream)


def decode_document(document: object, stream: Stream) -> list[Chunk]:
    """As `decode`, from parsed JSON."""
    records = _of_stream(_resolve(document), stream)
    times, values = _table(records, stream)
    if is_spot(stream):
        return _singles(times, values, stream)
    return _series(times, values, stream)


def encode(chunk: Chunk) -> bytes:
    """The chunk as one pack: base name device/channel, whole seconds in `bt`, ns in `t`."""
    stream = chunk.stream
    base_s, first_ns = divmod(chunk.t0_ns, NS_PER_S)
    several = len(stream.channels) > 1
    records: list[dict[str, object]] = []
    for i, row in enumerate(chunk.samples):
        t = (first_ns + stream.duration_ns(i)) / NS_PER_S
        for name, value in zip(stream.channels, row, strict=True):
            record: dict[str, object] = {"n": name} if several else {}
            records.append(record | {"t": t, "v": plain_number(value)})
    base = {"bn": f"{stream.device}/{stream.channel}" + ("/" if several else ""), "bt": base_s, "bu": stream.unit}
    records[0] = base | records[0]
    return json.dumps(records, separators=(",", ":")).encode()


def recognizes(document: object) -> bool:
    """Whether parsed JSON looks like a pack."""
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and bool(_KEYS & set(document[0]))
    )


def _resolve(document: object) -> list[_Record]:
    if not isinstance(document, list):
        raise DecodeError(f"payload is {shown(document)}, expected an array of SenML records")
    if len(document) > MAX_CHUNK_SAMPLES:
        raise DecodeError(f"{len(document)} records, expected at most {MAX_CHUNK_SAMPLES}")
    base_name, base_unit, base_ns, base_value, base_given = "", None, 0, 0.0, False
    resolved = []
    for i, item in enumerate(document):
        record = mapping(item, f"record {i}")
        if not record.keys() <= _KEYS and (unknown := next((key for key in record if key.endswith("_")), None)):
            raise DecodeError(f"record {i} has {shown(unknown)}, which whoever does not know it must refuse")
        if record.get("bver", VERSION) != VERSION:
            raise DecodeError(f"record {i}: bver is {shown(record['bver'])}, expected {VERSION}")
        base_name = text(record.get("bn", base_name), "bn")
        if "bu" in record:
            base_unit = text(record["bu"], "bu")
        if "bt" in record:
            base_ns, base_given = seconds_ns(real(record["bt"], "bt")), True
        base_value = real(record.get("bv", base_value), "bv")
        if "v" not in record:
            continue
        t = record.get("t")
        t_ns = base_ns if t is None else base_ns + seconds_ns(real(t, f"record {i}: t"))
        if t_ns < RELATIVE_BELOW_S * NS_PER_S:
            reason = "a time relative to now, or none" if base_given or t is not None else "no time"
            raise DecodeError(f"record {i} has {reason}; expected seconds since 1970")
        unit = text(record["u"], "u") if "u" in record else base_unit
        name = base_name + text(record.get("n", ""), "n")
        resolved.append(_Record(name, unit, check_time(t_ns), base_value + real(record["v"], f"record {i}: v")))
    return resolved


def _of_stream(records: list[_Record], stream: Stream) -> list[tuple[int, _Record]]:
    """The stream's records, each with its column."""
    names = {record.name for record in records}
    if not records:
        raise DecodeError("no record has a number")
    if len(stream.channels) == 1:
        if len(names) == 1:
            return [(0, record) for record in records]
        wanted = dict.fromkeys((stream.channels[0], stream.channel, stream.kind), 0)
        # The most specific name that the pack has: its kind may well name another sensor's records.
        wanted = next(({name: 0} for name in wanted if name and any(name_part(n) == name for n in names)), {})
    else:
        wanted = {name: column for column, name in enumerate(stream.channels)}
    columns = {name: wanted[part] for name in names if (part := name_part(name)) in wanted}
    chosen = [(columns[record.name], record) for record in records if record.name in columns]
    if not chosen:
        there = ", ".join(sorted(map(shown, names))[:8])
        raise DecodeError(f"{stream.key}: no record is this stream's; the names are {there}")
    return chosen


def _table(
    records: Iterable[tuple[int, _Record]], stream: Stream
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Times (n,), ascending, and values (n, channels) in the stream's unit."""
    factors: dict[str | None, float] = {}
    rows: dict[int, list[float | None]] = {}
    for column, record in records:
        if record.unit not in factors:
            unit = record.unit or stream.sent_unit or stream.unit
            factors[record.unit] = unit_factor(UNIT_ALIASES.get(unit, unit), stream.unit)
        row = rows.setdefault(record.t_ns, [None] * len(stream.channels))
        if row[column] is not None:
            raise DecodeError(f"{stream.key}: two values for the time {record.t_ns} ns")
        row[column] = record.value * factors[record.unit]
    times = sorted(rows)
    complete: list[list[float]] = []
    for t_ns in times:
        values = [value for value in rows[t_ns] if value is not None]
        if len(values) != len(stream.channels):
            raise DecodeError(f"{stream.key}: {len(values)} of {len(stream.channels)} channels at the time {t_ns} ns")
        complete.append(values)
    return np.array(times, np.int64), np.array(complete, np.float64)


def _singles(times: npt.NDArray[np.int64], values: npt.NDArray[np.float64], stream: Stream) -> list[Chunk]:
    if len(times) > MAX_READINGS:
        raise DecodeError(f"{stream.key}: {len(times)} readings, expected at most {MAX_READINGS}")
    return [to_chunk(stream, int(t_ns), values[i : i + 1], unit=stream.unit) for i, t_ns in enumerate(times)]


def _series(times: npt.NDArray[np.int64], values: npt.NDArray[np.float64], stream: Stream) -> list[Chunk]:
    if len(times) == 1:
        return _singles(times, values, stream)
    spacing = np.diff(times)
    median_ns = float(np.median(spacing))
    breaks = np.abs(spacing - median_ns) > _SPACING_TOLERANCE * median_ns
    if stream.rate_hz == 0 and breaks.any():
        return _singles(times, values, stream)
    # Times in decimal seconds are rounded; to the mHz, two packs of one device state one rate.
    rate_hz = round(NS_PER_S / float(spacing[~breaks].mean() if not breaks.all() else median_ns), 3)
    starts = np.flatnonzero(breaks) + 1
    if len(starts) >= MAX_READINGS:
        raise DecodeError(f"{stream.key}: {len(starts) + 1} runs of regular samples, expected at most {MAX_READINGS}")
    return [
        to_chunk(stream, int(times[run[0]]), values[run], unit=stream.unit, rate_hz=rate_hz)
        for run in np.split(np.arange(len(times)), starts)
    ]
