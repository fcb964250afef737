"""The map that a CBOR or JSON chunk is. Keys (all but time and samples optional; unknown keys are let be):

| key | value |
|---|---|
| `t0` | UTC ns of the first sample, an integer; in JSON also an ISO 8601 string with zone |
| `t0_ms` | in place of `t0`: UTC ms, a number |
| `rate` | samples a second; left out, or 0, for a single reading |
| `unit` | of sample × scale; left out: the unit configured |
| `scale` | physical value of one count, 1 unless given |
| `channels` | names of the columns, in their order |
| `seq` | counts this stream's chunks since the device's start |
| `boot` | changes at each start of the device, up to 2³² − 1 |
| `samples` | rows of one number per channel; for one channel also a flat list; in CBOR also a typed array |
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import Chunk, DecodeError, Stream
from firmware_bridge.codecs.fields import MAX_COUNTER, iso_ns, ms_ns, real, shown, text, whole
from firmware_bridge.plausible import to_chunk


def chunk_from_map(
    fields: Mapping[str, object], samples: npt.NDArray[np.integer | np.floating], stream: Stream
) -> Chunk:
    """The chunk of a map whose samples, (n, channels), are read already; raises DecodeError."""
    unit, rate, scale = fields.get("unit"), fields.get("rate"), fields.get("scale")
    seq, boot, names = fields.get("seq"), fields.get("boot"), fields.get("channels")
    factor = 1.0 if scale is None else real(scale, "scale")
    if factor == 0:
        raise DecodeError("scale is 0")
    return to_chunk(
        stream,
        _start_ns(fields),
        samples if names is None else in_stream_order(samples, names, stream),
        unit=None if unit is None else text(unit, "unit"),
        rate_hz=None if rate is None else real(rate, "rate"),
        scale=factor,
        seq=None if seq is None else whole(seq, "seq", MAX_COUNTER),
        boot_id=0 if boot is None else whole(boot, "boot", 0xFFFF_FFFF),
    )


def map_from_chunk(chunk: Chunk) -> dict[str, object]:
    """Every field of a chunk but its samples."""
    stream = chunk.stream
    fields: dict[str, object] = {"t0": chunk.t0_ns, "unit": stream.unit}
    if stream.rate_hz:
        fields["rate"] = stream.rate_hz
    if any(stream.channels):
        fields["channels"] = list(stream.channels)
    if chunk.seq is not None:
        fields["seq"] = chunk.seq
    if chunk.boot_id:
        fields["boot"] = chunk.boot_id
    return fields


def in_stream_order(
    samples: npt.NDArray[np.integer | np.floating], names: object, stream: Stream
) -> npt.NDArray[np.integer | np.floating]:
    """The columns, named `names` by the payload, in the order the configuration names them.

    A stream configured without names takes the columns as they come. Raises DecodeError where the names are not the
    configured ones: a lead taken for another is worse than none.
    """
    if not isinstance(names, list) or len(names) != len(stream.channels) or samples.shape[1] != len(names):
        given = f"{len(names)} names" if isinstance(names, list) else shown(names)
        raise DecodeError(f"channels is {given}, expected the names of {len(stream.channels)} channels")
    stated = tuple(text(name, "a channel's name") for name in names)
    if stated == stream.channels or not any(stream.channels):
        return samples
    if sorted(stated) != sorted(stream.channels):
        here, there = ", ".join(map(shown, stated)), ", ".join(map(shown, stream.channels))
        raise DecodeError(f"{stream.key}: payload has channels {here}, configuration has {there}")
    return samples[:, [stated.index(name) for name in stream.channels]]


def _start_ns(fields: Mapping[str, object]) -> int:
    t0, t0_ms = fields.get("t0"), fields.get("t0_ms")
    if (t0 is None) == (t0_ms is None):
        raise DecodeError("expected one of t0 (ns) and t0_ms (ms)")
    if t0 is None:
        return ms_ns(t0_ms, "t0_ms")
    if isinstance(t0, str):
        return iso_ns(t0, "t0")
    return whole(t0, "t0", MAX_COUNTER)
