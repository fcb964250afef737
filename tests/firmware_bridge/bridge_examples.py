"""Streams and chunks that the tests of the bridge start from."""

from __future__ import annotations

import numpy as np

from firmware_bridge.chunk import Chunk, Stream

T0_NS = 1_795_000_000_123_456_000
ECG = Stream("p1", "belt", "ecg", "ecg", "mV", 250.0, ("II",))
TWO_LEADS = Stream("p1", "holter", "ecg", "ecg", "mV", 250.0, ("MLII", "V1"))
CGM = Stream("p1", "sensor", "glucose", "cgm", "mg/dL", 0.0, interval_s=300.0)
ACC = Stream("p1", "belt", "acc", "acc", "g", 0.0, ("x", "y", "z"))


def ecg_chunk(stream: Stream = ECG, n: int = 250, seq: int | None = 7, boot_id: int = 3) -> Chunk:
    """A second of something, different in every channel."""
    phase = np.arange(n)[:, None] / 20 + np.arange(len(stream.channels))
    return Chunk(stream, T0_NS, np.sin(phase).astype(np.float32), seq, boot_id)


def reading(mg_dl: float, stream: Stream = CGM) -> Chunk:
    return Chunk(stream, 1_795_000_000_123_000_000, np.array([[mg_dl]], np.float32))


def assert_valid(chunks: list[Chunk], stream: Stream) -> None:
    """What every decoder promises of what it lets through."""
    for chunk in chunks:
        assert type(chunk.t0_ns) is int
        assert 631_152_000 * 10**9 <= chunk.t0_ns < 7_258_118_400 * 10**9
        assert chunk.samples.dtype == np.float32
        assert chunk.samples.shape == (len(chunk.samples), len(stream.channels))
        assert 1 <= len(chunk.samples) <= 1 << 17
        assert np.isfinite(chunk.samples).all()
        assert chunk.stream.key == stream.key
        assert chunk.stream.rate_hz == 0 or 0.1 <= chunk.stream.rate_hz <= 4000
        assert chunk.stream.rate_hz > 0 or len(chunk.samples) == 1
        assert chunk.seq is None or 0 <= chunk.seq < 1 << 63
    assert [c.t0_ns for c in chunks] == sorted(c.t0_ns for c in chunks)
