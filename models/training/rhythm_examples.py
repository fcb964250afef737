"""Recordings streamed through the live signal path, once, and kept: what the rhythm windows are cut from.

Of each recording stays what the engine keeps of a person, for the whole of it: the thinned morphology path, and the R
peaks with the sample at which each was known. Windows cut from that are those that live windows are, bit for bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.signal.beats import CONFIRM_S, QrsDetector
from agent.signal.filters import EcgFilters
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.rhythm_window import HOP_S, RATE_HZ, SAMPLES, THIN, prepare, thin
from models.training.rhythm_records import UNKNOWN, BeatTimes, RhythmRecording

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
_NOISE_PIECE_S = 12.0
_REFRACTORY = 45


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """What the engine makes of a recording, from its first sample to its last."""

    patient: str
    path: Float32
    """Morphology path, mV, thinned."""
    samples: int
    """Length of the run at 250 Hz."""
    r_index: Int32
    decided_index: Int32
    """Samples at 250 Hz: the R peaks of confirmed beats, and when each was confirmed."""
    rhythms: tuple[tuple[float, int], ...]


def stream(recording: RhythmRecording, signal: Float64, rate_hz: float, stretch: float = 1.0) -> Streamed:
    """`signal` played through resampler, filters and detector; reference times are divided by `stretch`."""
    resampler, filters, detector = Resampler(rate_hz), EcgFilters(), QrsDetector()
    filter_state, detector_state = filters.new_state(), detector.new_state()
    beats: list[tuple[int, int]] = []
    paths: list[Float64] = []
    step = max(1, round(10.0 * rate_hz))
    for start in range(0, len(signal), step):
        chunk = resampler.push(signal[start : start + step])
        detection, morphology = filters.push([filter_state], chunk[None])
        marks = detector.push([detector_state], detection, morphology)[0]
        beats += [(mark.r_index, mark.decided_index) for mark in marks if mark.status == "confirmed"]
        paths.append(morphology[0])
    path = np.concatenate(paths).astype(np.float32)  # as the engine keeps it
    found = np.array(beats, dtype=np.int32).reshape(-1, 2)
    rhythms = tuple((at / stretch, label) for at, label in recording.rhythms)
    return Streamed(
        recording.patient, thin(path[: len(path) // THIN * THIN]), len(path), found[:, 0], found[:, 1], rhythms
    )


def stream_variant(recording: RhythmRecording, number: int, noise: dict[str, Float64]) -> Streamed:
    """Number 0 is the analysis lead as recorded; every other is altered, the same way each time.

    Odd: the analysis lead with recorded noise and another rate. Even: with noise, mixed with the other lead where there
    is one, and another rate.
    """
    main = recording.signals[:, recording.lead]
    if number == 0:
        return stream(recording, main, recording.rate_hz)
    rng = np.random.default_rng([number, zlib.crc32(recording.patient.encode())])
    other = recording.signals[:, (recording.lead + 1) % recording.signals.shape[1]]
    angle = rng.uniform(0.2, 0.8) * np.pi if number % 2 == 0 and recording.signals.shape[1] > 1 else 0.0
    signal = np.cos(angle) * main + np.sin(angle) * other
    signal = signal + noise_track(signal, recording.rate_hz, noise, rng)
    stretch = float(np.round(rng.uniform(0.92, 1.08), 3))
    return stream(recording, signal, recording.rate_hz * stretch, stretch)


def noise_track(signal: Float64, rate_hz: float, noise: dict[str, Float64], rng: np.random.Generator) -> Float64:
    """Pieces of recorded noise at 3 to 24 dB, half of the time."""
    size = float(np.percentile(signal, 99) - np.percentile(signal, 1)) / 2
    track = np.zeros(len(signal))
    piece = int(_NOISE_PIECE_S * rate_hz)
    names = sorted(noise)
    for start in range(0, len(signal), piece):
        if rng.random() < 0.5:
            continue
        source = noise[names[rng.integers(len(names))]]
        column = source[:, rng.integers(source.shape[1])]
        at = rng.integers(len(column) - int(piece * 360 / rate_hz) - 2)
        n = min(piece, len(signal) - start)
        grain = np.interp(at + np.arange(n) * 360 / rate_hz, np.arange(len(column)), column)
        grain = grain - grain.mean()
        track[start : start + n] = grain / (grain.std() + 1e-9) * size * 10 ** (-rng.uniform(3.0, 24.0) / 20) / 2
    return track


def from_beats(recording: BeatTimes) -> Streamed:
    """Reference beats as if they had been detected, each known 0.6 s later; without a signal."""
    beats = np.round(recording.beats_s * ANALYSIS_RATE_HZ).astype(np.int32)
    beats = beats[np.append(True, np.diff(beats) > _REFRACTORY)]
    end = int(beats[-1]) if len(beats) else 0
    decided = beats + np.int32(CONFIRM_S * ANALYSIS_RATE_HZ)
    return Streamed(recording.patient, np.zeros(0, np.float32), end, beats, decided, recording.rhythms)


def save(path: Path, streamed: list[Streamed]) -> None:
    """Keep streamed recordings in one file: they take minutes to make."""
    np.savez(
        path,
        patient=np.array([s.patient for s in streamed]),
        samples=np.array([s.samples for s in streamed]),
        path_lengths=np.array([len(s.path) for s in streamed]),
        beat_counts=np.array([len(s.r_index) for s in streamed]),
        rhythm_counts=np.array([len(s.rhythms) for s in streamed]),
        path=np.concatenate([s.path for s in streamed]),
        r_index=np.concatenate([s.r_index for s in streamed]),
        decided_index=np.concatenate([s.decided_index for s in streamed]),
        rhythms=np.array([r for s in streamed for r in s.rhythms], dtype=np.float64),
    )


def load(path: Path) -> list[Streamed]:
    """What `save` kept."""
    with np.load(path) as kept:
        ends = {name: np.cumsum(kept[name]) for name in ("path_lengths", "beat_counts", "rhythm_counts")}

        def cut(name: str, lengths: str) -> list[npt.NDArray[np.generic]]:
            return list(np.split(kept[name], ends[lengths][:-1]))

        rows = zip(
            kept["patient"].tolist(),
            cut("path", "path_lengths"),
            kept["samples"].tolist(),
            cut("r_index", "beat_counts"),
            cut("decided_index", "beat_counts"),
            cut("rhythms", "rhythm_counts"),
            strict=True,
        )
        return [
            Streamed(patient, path, samples, r, decided, tuple((float(t), int(label)) for t, label in rhythms))
            for patient, path, samples, r, decided, rhythms in rows
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of one or several recordings, ready for the network."""

    signal: npt.NDArray[np.float16]
    """(n, 2, SAMPLES)."""
    context: Float32
    """(n, features)."""
    label: npt.NDArray[np.int64]
    """Index in LABELS, NOT_A, or UNKNOWN where more than one rhythm is in the window."""
    start_s: Float64
    end_s: Float64
    patient: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: npt.NDArray[np.bool_] | Int64) -> Windows:
        """Some of them."""
        return Windows(*(getattr(self, name)[index] for name in Windows.__slots__))


def cut(streamed: Sequence[Streamed], spans: Sequence[tuple[int, int]]) -> Windows:
    """One window of each recording: `spans` are [from, to) in kept samples, at most SAMPLES apart."""
    path = np.zeros((len(spans), SAMPLES), dtype=np.float32)
    known = np.array([to - start for start, to in spans], dtype=np.int64)
    beats: list[Int64] = []
    labels = np.empty(len(spans), dtype=np.int64)
    for row, (recording, (start, to)) in enumerate(zip(streamed, spans, strict=True)):
        path[row, SAMPLES - (to - start) :] = recording.path[start:to]
        seen = (recording.r_index >= start * THIN) & (recording.decided_index < to * THIN)
        beats.append(recording.r_index[seen].astype(np.int64) - (to - SAMPLES) * THIN)
        labels[row] = label_between(recording.rhythms, start / RATE_HZ, to / RATE_HZ)
    signal, context = prepare(path, known, beats)
    return Windows(
        signal.astype(np.float16),
        context,
        labels,
        np.array([start for start, _ in spans]) / RATE_HZ,
        np.array([to for _, to in spans]) / RATE_HZ,
        np.array([recording.patient for recording in streamed]),
    )


def label_between(rhythms: Sequence[tuple[float, int]], start_s: float, end_s: float) -> int:
    """The rhythm from `start_s` to `end_s`; UNKNOWN where it changes within."""
    last = UNKNOWN
    inside: set[int] = set()
    for at_s, label in rhythms:
        if at_s <= start_s:
            last = label
        elif at_s < end_s:
            inside.add(label)
    inside.add(last)
    return inside.pop() if len(inside) == 1 else UNKNOWN


def together(parts: Sequence[Windows]) -> Windows:
    """All of them, in order."""
    return Windows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Windows.__slots__))


def live_spans(samples: int, hop_s: float = HOP_S) -> list[tuple[int, int]]:
    """The windows that the engine looks at in a run of so many samples at 250 Hz, as spans of kept samples."""
    hop = round(hop_s * RATE_HZ)
    return [(max(0, to - SAMPLES), to) for to in range(hop, samples // THIN + 1, hop)]
