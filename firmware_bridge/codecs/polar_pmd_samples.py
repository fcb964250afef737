"""The samples in a frame of Polar Measurement Data, both ways."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.chunk import DecodeError
from firmware_bridge.codecs.polar_pmd import PmdFrame, PmdType

Counts = npt.NDArray[np.int32]
"""Samples as sent: (n, channels), int32."""


def ecg_uv(frame: PmdFrame) -> Counts:
    """ECG in µV, (n, 1); raises DecodeError where the frame holds no such thing."""
    if frame.measurement is not PmdType.ECG:
        raise DecodeError(f"a frame of {frame.measurement.name} where ECG is expected", 0)
    if frame.layout != 0:
        raise DecodeError(f"ECG frame type 0x{frame.layout:02x} is unknown", 9)
    return _signed(frame.body, 3, 1)


def ecg_frame(last_ns: int, uv: npt.NDArray[np.integer]) -> PmdFrame:
    """The frame that carries µV of shape (n, 1); raises ValueError where one needs more than 24 bits."""
    return PmdFrame(PmdType.ECG, last_ns, 0, _packed(uv, 3))


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


def _packed(counts: npt.NDArray[np.integer], width: int) -> bytes:
    limit = 1 << (8 * width - 1)
    if counts.min() < -limit or counts.max() >= limit:
        raise ValueError(f"values need more than {8 * width} bits")
    return counts.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
