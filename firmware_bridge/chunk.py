"""What a device says, after decoding: streams, chunks of samples, and the holes between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

NS_PER_S = 1_000_000_000

CANONICAL_UNIT = {
    "ecg": "mV",
    "ppg": "1",
    "abp": "mmHg",
    "acc": "g",
    "cgm": "mg/dL",
    "hr": "1/min",
    "spo2": "%",
    "temperature": "Cel",
}
"""The kinds of stream the agent knows, and the unit each is carried in past the codec."""

UNIT_FACTOR: dict[tuple[str, str], float] = {
    ("uV", "mV"): 1e-3,
    ("V", "mV"): 1e3,
    ("mmol/L", "mg/dL"): 18.0156,
    ("mg", "g"): 1e-3,
    ("m/s2", "g"): 1 / 9.80665,
}
"""Multiply a value in the first unit by this to have it in the second."""

MAX_RATE_HZ = 4000.0
MAX_CHANNELS = 16
MAX_CHUNK_SAMPLES = 1 << 17


class DecodeError(ValueError):
    """A payload that is not what it claims to be.

    `offset` is the byte (or, for text formats, None) at which the payload stopped making sense. `chunks`, oldest first,
    are what could be read all the same, where the format's readings stand each for itself.
    """

    def __init__(self, message: str, offset: int | None = None, chunks: tuple[Chunk, ...] = ()) -> None:
        self.offset, self.chunks = offset, chunks
        super().__init__(message if offset is None else f"{message} (byte {offset})")


def unit_factor(unit: str, canonical: str) -> float:
    """Factor from `unit` to `canonical`; raises DecodeError when the one cannot become the other."""
    if unit == canonical:
        return 1.0
    try:
        return UNIT_FACTOR[unit, canonical]
    except KeyError:
        raise DecodeError(f"unit {unit!r} cannot be converted to {canonical!r}") from None


@dataclass(frozen=True, slots=True)
class Stream:
    """One sensor's signal for one person.

    `rate_hz` is the nominal sampling rate; 0 means "one reading now and then" (a CGM, a spot check), whose chunks hold
    one sample each and whose expected spacing is `interval_s`.
    """

    patient: str
    """Pseudonym of the person; nothing that identifies anybody."""
    device: str
    channel: str
    """Name of the stream within the device: the last level of the topic, e.g. "ecg"."""
    kind: str
    """One of CANONICAL_UNIT's keys."""
    unit: str
    """UCUM-like unit of the samples; the canonical unit of `kind` past the codec."""
    rate_hz: float
    channels: tuple[str, ...] = ("",)
    """Names of the columns: ECG lead names, accelerometer axes."""
    interval_s: float = 0.0
    """Expected seconds between readings where `rate_hz` is 0."""
    sent_unit: str = ""
    """Unit of payloads that name none; empty: `unit`."""

    @property
    def key(self) -> str:
        return f"{self.patient}/{self.device}/{self.channel}"

    def duration_ns(self, n_samples: int) -> int:
        """Time that `n_samples` cover, in ns, rounded to the nearest; 0 for a stream without a rate."""
        return round(n_samples * NS_PER_S / self.rate_hz) if self.rate_hz else 0


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive samples of one stream.

    `samples` has shape (n, channels), float32, in `stream.unit`; sample i was taken at t0_ns + duration_ns(i).
    `seq` counts the chunks of one stream since the device's boot `boot_id`, or is None where the device does not count.
    """

    stream: Stream
    t0_ns: int
    """UTC nanoseconds of the first sample."""
    samples: Samples
    seq: int | None = None
    boot_id: int = 0

    @property
    def end_ns(self) -> int:
        """Time just past the last sample."""
        return self.t0_ns + self.stream.duration_ns(len(self.samples))


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a stream for which no samples came: a fact to be carried, never to be filled."""

    stream: Stream
    start_ns: int
    end_ns: int
    reason: str
    """Why: "missing", "clock step", "device restart", "rate change"."""


def check_samples(samples: npt.NDArray[np.integer | np.floating], stream: Stream) -> Samples:
    """Samples as (n, channels) float32; raises DecodeError on a shape, size or value (NaN, infinity) that cannot be."""
    array = np.asarray(samples, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != len(stream.channels):
        raise DecodeError(f"{stream.key}: samples have shape {array.shape}, expected (n, {len(stream.channels)})")
    if not 0 < len(array) <= MAX_CHUNK_SAMPLES:
        raise DecodeError(f"{stream.key}: {len(array)} samples in one chunk, expected 1 to {MAX_CHUNK_SAMPLES}")
    if not np.isfinite(array).all():
        raise DecodeError(f"{stream.key}: a sample is not a finite number")
    return array


def check_rate(rate_hz: float) -> float:
    """The rate if a wearable can have it; raises DecodeError otherwise."""
    if not math.isfinite(rate_hz) or not (rate_hz == 0 or 0.1 <= rate_hz <= MAX_RATE_HZ):
        raise DecodeError(f"sampling rate {rate_hz} Hz is not one a wearable has (0.1 to {MAX_RATE_HZ:g} Hz)")
    return rate_hz
