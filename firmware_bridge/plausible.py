"""From numbers in a payload to a Chunk: unit, rate, time and value are checked here, once for every codec."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import Chunk, DecodeError, Stream, check_rate, check_samples, unit_factor

PLAUSIBLE_RANGE: dict[str, tuple[float, float]] = {
    "ecg": (-1000.0, 1000.0),
    "ppg": (-(2.0**32), 2.0**32),
    "abp": (-500.0, 1000.0),
    "acc": (-200.0, 200.0),
    "cgm": (0.0, 1000.0),
    "hr": (0.0, 500.0),
    "spo2": (0.0, 100.0),
    "temperature": (-50.0, 100.0),
}
"""Lowest and highest value of each kind, in its canonical unit, that a working device can send: wide enough for a loose
lead or a flushed line (signal quality judges those), too narrow for a wrong unit or a wrong sample format."""

SPOT_KINDS = frozenset({"cgm", "hr", "spo2", "temperature"})
"""Kinds that, configured without a rate, come as one reading now and then and never take a rate from the payload."""

CGM_BELOW_MG_DL, CGM_ABOVE_MG_DL = 39.0, 400.0
"""What stands for a reading that a glucose sensor gives as below or above what it can measure: it has to be acted on,
and these are what Nightscout and most receivers put there."""

RATE_TOLERANCE = 0.01
EARLIEST_NS = 631_152_000_000_000_000
"""1990-01-01T00:00:00Z."""
LATEST_NS = 7_258_118_400_000_000_000
"""2200-01-01T00:00:00Z."""


def is_spot(stream: Stream) -> bool:
    """Whether the stream's chunks hold one reading each."""
    return stream.rate_hz == 0 and (stream.interval_s > 0 or stream.kind in SPOT_KINDS)


def check_time(t_ns: int) -> int:
    """The time if a living device can have sent it (1990 to 2200, in UTC ns); raises DecodeError otherwise."""
    if not EARLIEST_NS <= t_ns < LATEST_NS:
        shown = f"{t_ns} ns" if abs(t_ns) < 1 << 100 else f"of {t_ns.bit_length()} bits"
        raise DecodeError(f"time {shown} since 1970 lies outside the years 1990 to 2200")
    return t_ns


def agreed_stream(stream: Stream, rate_hz: float | None) -> Stream:
    """The stream a payload belongs to, given the rate it states (None where it states none).

    A stated rate must be one a wearable has. Where the configuration gives a rate, the two must agree within 1 % and
    the configured one is kept. Where it gives none, a spot stream accepts only 0, and any other takes the stated rate.
    Raises DecodeError.
    """
    if rate_hz is None:
        return stream
    check_rate(rate_hz)
    if stream.rate_hz:
        if abs(rate_hz - stream.rate_hz) > RATE_TOLERANCE * stream.rate_hz:
            raise DecodeError(f"{stream.key}: payload says {rate_hz:g} Hz, configuration says {stream.rate_hz:g} Hz")
        return stream
    if rate_hz == 0:
        return stream
    if is_spot(stream):
        raise DecodeError(f"{stream.key}: payload says {rate_hz:g} Hz, configuration says single readings (0 Hz)")
    return replace(stream, rate_hz=rate_hz)


def to_chunk(
    stream: Stream,
    t0_ns: int,
    values: npt.NDArray[np.integer | np.floating],
    *,
    unit: str | None = None,
    rate_hz: float | None = None,
    scale: float = 1.0,
    seq: int | None = None,
    boot_id: int = 0,
) -> Chunk:
    """One checked chunk.

    `values` has shape (n, channels); value × `scale` is in `unit` (None: the unit configured as sent, else the
    stream's own). Conversion is done in float64 and rounded to float32 once. Raises DecodeError on a unit, rate, time,
    shape or value that cannot be.
    """
    agreed = agreed_stream(stream, rate_hz)
    check_time(t0_ns)
    if agreed.rate_hz == 0 and len(values) > 1:
        raise DecodeError(f"{stream.key}: {len(values)} samples without a sampling rate, expected one reading")
    factor = scale * unit_factor(unit or stream.sent_unit or stream.unit, stream.unit)
    if factor == 1.0 and values.dtype == np.float32:
        _check_range(values, stream)
        return Chunk(agreed, t0_ns, check_samples(values, stream), seq, boot_id)
    # A signalling NaN or an overflow would warn in the cast; both are refused by value just below.
    with np.errstate(invalid="ignore", over="ignore"):
        values = values.astype(np.float64) * factor
        _check_range(values, stream)
        return Chunk(agreed, t0_ns, check_samples(values.astype(np.float32, copy=False), stream), seq, boot_id)


def _check_range(values: npt.NDArray[np.integer | np.floating], stream: Stream) -> None:
    if not values.size:
        raise DecodeError(f"{stream.key}: no samples")
    low, high = PLAUSIBLE_RANGE[stream.kind]
    lowest, highest = float(values.min()), float(values.max())
    if low <= lowest and highest <= high:
        return
    if not np.isfinite(values).all():
        raise DecodeError(f"{stream.key}: a sample is not a finite number")
    absurd = lowest if lowest < low else highest
    raise DecodeError(
        f"{stream.key}: {absurd:g} {stream.unit} is no {stream.kind} value ({low:g} to {high:g} {stream.unit})"
    )
