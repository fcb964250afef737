"""The samples in a frame of Polar Measurement Data, both ways: ECG, acceleration, light, rotation, magnetic field.

Verified against worked bytes: ECG, and the compressed layout by its acceleration. The other layouts are from vendor
material.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType
from firmware_bridge.codecs.polar_pmd_delta import delta_decode, delta_encode

Counts = npt.NDArray[np.int32]
"""Samples as sent: (n, channels), int32."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a body holds samples; compressed or not, its frame type says."""

    channels: int
    bits: int


LAYOUTS: dict[tuple[PmdType, int], Layout] = {
    (PmdType.ECG, 0x00): Layout(1, 24),
    (PmdType.PPG, 0x00): Layout(4, 24),
    (PmdType.PPG, 0x80): Layout(4, 24),
    (PmdType.ACC, 0x00): Layout(3, 8),
    (PmdType.ACC, 0x01): Layout(3, 16),
    (PmdType.ACC, 0x02): Layout(3, 24),
    (PmdType.ACC, 0x80): Layout(3, 16),
    (PmdType.ACC, 0x81): Layout(3, 16),
    (PmdType.GYRO, 0x80): Layout(3, 16),
    (PmdType.MAGNETOMETER, 0x80): Layout(3, 16),
}
"""By measurement and frame type. ECG is in µV; light is three diodes and what there is without them; acceleration see
`acceleration_unit`."""

_ACC_IN_G = 0x80


def counts(frame: PmdFrame) -> Counts:
    """The samples as sent; raises DecodeError."""
    layout = LAYOUTS.get((frame.measurement, frame.layout))
    if layout is None:
        raise DecodeError(f"{frame.measurement.name} frame type 0x{frame.layout:02x} is unknown", 9)
    if frame.compressed:
        return delta_decode(frame.body, layout.channels, layout.bits, PmdFrame.SIZE)
    return _signed(frame.body, layout.bits // 8, layout.channels)


def frame_of(
    measurement: PmdType, last_ns: int, samples: npt.NDArray[np.integer], frame_type: int, *, compressed: bool = False
) -> PmdFrame:
    """The frame that carries samples of shape (n, channels), the last of them taken at `last_ns`.

    Raises ValueError where the layout is not one of LAYOUTS, or a sample does not fit it.
    """
    frame = PmdFrame(measurement, last_ns, frame_type, b"", compressed)
    layout = LAYOUTS.get((measurement, frame.layout))
    if layout is None or samples.ndim != 2 or samples.shape[1] != layout.channels:
        raise ValueError(f"no {measurement.name} frame type 0x{frame.layout:02x} for samples of shape {samples.shape}")
    body = delta_encode(samples, layout.bits) if compressed else _packed(samples, layout.bits // 8)
    return PmdFrame(measurement, last_ns, frame_type, body, compressed)


def ecg_frame(last_ns: int, uv: npt.NDArray[np.integer]) -> PmdFrame:
    """The frame that carries µV of shape (n, 1); raises ValueError where one needs more than 24 bits."""
    return frame_of(PmdType.ECG, last_ns, uv, 0)


def acceleration_unit(frame: PmdFrame, factor: float) -> str:
    """The unit of a sample × `factor`, where `factor` is what the sensor said on starting: "g" or "mg"."""
    return "g" if frame.layout == _ACC_IN_G and factor != 1.0 else "mg"


def _signed(body: bytes, width: int, channels: int) -> Counts:
    """Signed little-endian numbers of `width` bytes (1 to 4), channel by channel: (n, channels)."""
    samples, rest = divmod(len(body), width * channels)
    if rest or not samples:
        raise DecodeError(
            f"{len(body)} bytes are not one or more samples of {width * channels} bytes",
            PmdFrame.SIZE + samples * width * channels,
        )
    padded = np.zeros((samples * channels, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(body, np.uint8).reshape(-1, width)
    # The bytes sit in the upper part of an int32; the arithmetic shift brings the sign down with them.
    return (padded.view("<i4") >> 8 * (4 - width)).astype(np.int32, copy=False).reshape(-1, channels)


def _packed(samples: npt.NDArray[np.integer], width: int) -> bytes:
    limit = 1 << (8 * width - 1)
    if samples.min() < -limit or samples.max() >= limit:
        raise ValueError(f"values need more than {8 * width} bits")
    return samples.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
