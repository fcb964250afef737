"""Training examples: recordings streamed through the live signal path, and their beats put beside the reference.

What the network learns from is what it will see: the same resampler, filters, detector and features as in the agent,
so detection errors and their jitter are part of the examples. Variants of a recording (its other lead, a mix of leads,
noise, another gain and rate) are made from the raw signal and streamed in the same way.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.signal.beat_features import AFTER_SAMPLES, BEFORE_SAMPLES, CONTEXT, SIGNAL_SHAPE, BeatFeatures
from agent.signal.beats import QrsDetector
from agent.signal.filters import MORPHOLOGY_DELAY, EcgFilters
from agent.signal.pending import DueBeat, PendingBeats
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from models.training.datasets import RHYTHM_RATE_HZ, Recording
from models.training.simulated_rhythms import seeded, simulate

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

LABELS = ("N", "S", "V", "Q")
"""What the network tells apart; Q is a detection with no beat under it."""
IGNORED = -1
NOT_S = len(LABELS)
"""A beat in atrial fibrillation: normal or ventricular, but never supraventricular ectopic."""
MATCH_S = 0.150
_NOISE_PIECE_S = 40.0
_ENOUGH_ECTOPY = 20


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Detected beats of one or several recordings, in order of time within each."""

    signal: npt.NDArray[np.float16]
    """(n, 2, 125)."""
    context: Float32
    """(n, features)."""
    label: npt.NDArray[np.int8]
    """Index in LABELS, NOT_S, or IGNORED for fusion and unclassifiable beats and stretches of fibrillation."""
    time_s: Float32
    patient: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Examples:
        return Examples(*(getattr(self, name)[index] for name in Examples.__slots__))


def concatenate(parts: list[Examples]) -> Examples:
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Examples.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One way to see a recording: a signal in mV and the rate it is said to have."""

    recording: Recording
    """What it was made of: the reference beats belong to this one."""
    signal: Float64
    rate_hz: float
    stretch: float
    """Seconds of the recording per second of the variant: reference times are divided by this."""


def variant(recording: Recording, number: int, noise: dict[str, Float64]) -> Variant:
    """Number 0 is the analysis lead as recorded; every other is altered, the same way each time.

    1: a mix of both leads. 2: the analysis lead with noise, gain and another rate. 3: another mix, noisy, inverted.
    4: the analysis lead with most normal beats cut out, so that ectopy becomes frequent, often the majority.
    From 5 on: the person's beats in an invented rhythm, half of them noisy; where there are too few, as 1.
    """
    if number >= 5 and (simulated := simulate(recording, seeded(recording, number))):
        return _as_played(simulated, number, noise)
    rng = np.random.default_rng([number, zlib.crc32(recording.record.patient.encode())])
    if number == 4:
        recording = dense(recording, rng)
    main = recording.signals[:, recording.lead]
    other = recording.signals[:, (recording.lead + 1) % recording.signals.shape[1]]
    if number == 0:
        return Variant(recording, main, recording.rate_hz, 1.0)
    angle = 0.0 if number in {2, 4} else rng.uniform(0.25, 0.75) * np.pi
    signal = np.cos(angle) * main + np.sin(angle) * other
    stretch = float(rng.uniform(0.88, 1.14))
    if number in {2, 3}:
        signal = signal + _noise_track(signal, recording.rate_hz, noise, rng)
    if number == 3:
        signal = -signal
    signal = signal * float(np.exp(rng.uniform(-0.7, 0.7)))
    return Variant(recording, signal, recording.rate_hz * stretch, stretch)


def _as_played(simulated: Recording, number: int, noise: dict[str, Float64]) -> Variant:
    rng = np.random.default_rng([number, 1, zlib.crc32(simulated.record.patient.encode())])
    signal = simulated.signals[:, 0]
    if rng.random() < 0.5:
        signal = signal + _noise_track(signal, simulated.rate_hz, noise, rng)
    return Variant(simulated, signal * float(np.exp(rng.uniform(-0.5, 0.5))), simulated.rate_hz, 1.0)


def dense(recording: Recording, rng: np.random.Generator) -> Recording:
    """The recording without most of its normal beats: kept are the first twenty, the neighbours of others, and a few.

    Cuts lie before the P wave, so what remains has natural intervals. A recording with little ectopy is left whole.
    """
    beats, classes = recording.beat_samples, recording.beat_classes
    other = ~np.isin(classes, ["N"])
    if other.sum() < _ENOUGH_ECTOPY or recording.unscored:
        return recording
    near = np.convolve(other, np.ones(5), mode="same") > 0
    keep = near | (np.arange(len(beats)) < 20) | (rng.random(len(beats)) < 0.08)
    before_p = np.round(0.25 * recording.rate_hz).astype(int)
    edges = np.maximum(beats[1:] - before_p, (beats[:-1] + beats[1:]) // 2)
    starts, ends = np.append(0, edges), np.append(edges, len(recording.signals))
    pieces = [np.arange(start, end) for start, end in zip(starts[keep], ends[keep], strict=True)]
    offset = np.append(0, np.cumsum([len(piece) for piece in pieces])[:-1])
    return replace(
        recording,
        signals=recording.signals[np.concatenate(pieces)],
        beat_samples=beats[keep] - starts[keep] + offset,
        beat_classes=classes[keep],
    )


def _noise_track(signal: Float64, rate_hz: float, noise: dict[str, Float64], rng: np.random.Generator) -> Float64:
    """Pieces of recorded noise at 0 to 24 dB, half of the time."""
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
        decibels = rng.uniform(0.0, 24.0)
        track[start : start + n] = grain / (grain.std() + 1e-9) * size * 10 ** (-decibels / 20) / 2
    return track


def stream(signal: Float64, rate_hz: float, chunk_s: float = 10.0) -> tuple[list[DueBeat], Float32]:
    """Confirmed beats as they became due (samples at 250 Hz) and the morphology path of a recording, in chunks."""
    resampler, filters, detector = Resampler(rate_hz), EcgFilters(), QrsDetector()
    filter_state, detector_state = filters.new_state(), detector.new_state()
    pending = PendingBeats()
    beats: list[DueBeat] = []
    paths: list[Float32] = []
    count = 0
    step = max(1, round(chunk_s * rate_hz))
    for start in range(0, len(signal), step):
        chunk = resampler.push(signal[start : start + step])
        detection, morphology = filters.push([filter_state], chunk[None])
        for mark in detector.push([detector_state], detection, morphology)[0]:
            pending.note(mark)
        count += len(chunk)
        beats += pending.take_due(count)
        paths.append(morphology[0].astype(np.float32))
    return beats, np.concatenate(paths)


def examples_of(recording: Recording, number: int, noise: dict[str, Float64]) -> Examples:
    """Examples of one variant of one recording."""
    seen = variant(recording, number, noise)
    beats, morphology = stream(seen.signal, seen.rate_hz)
    recording = seen.recording
    scale = ANALYSIS_RATE_HZ / (recording.rate_hz * seen.stretch)
    reference = np.round(recording.beat_samples * scale).astype(np.int64)
    unscored = [(start * scale, end * scale) for start, end in recording.unscored]
    labels = match(
        np.array([beat.r_index for beat in beats], dtype=np.int64), reference, recording.beat_classes, unscored
    )
    return featurize(beats, morphology, labels, recording.record.patient)


def rhythm_examples(rhythms: list[tuple[str, str, Float64]]) -> list[Examples]:
    """Examples of recordings of which only the rhythm is known: all beats N in sinus rhythm, NOT_S in fibrillation."""
    parts: list[Examples] = []
    for name, rhythm, signal in rhythms:
        beats, morphology = stream(signal, RHYTHM_RATE_HZ)
        labels = np.full(len(beats), LABELS.index("N") if rhythm == "N" else NOT_S, dtype=np.int8)
        parts.append(featurize(beats, morphology, labels, f"cinc2017/{name}"))
    return parts


def featurize(beats: list[DueBeat], morphology: Float32, labels: npt.NDArray[np.int8], patient: str) -> Examples:
    """Features of beats (samples at 250 Hz); those before whose R peak the path is too short are left out."""
    features = BeatFeatures()
    state = features.new_state()
    kept = [
        (beat, label)
        for beat, label in zip(beats, labels.tolist(), strict=True)
        if beat.r_index + MORPHOLOGY_DELAY >= BEFORE_SAMPLES
    ]
    signal = np.empty((len(kept), *SIGNAL_SHAPE), dtype=np.float16)
    context = np.empty((len(kept), len(CONTEXT)), dtype=np.float32)
    for i, (beat, _) in enumerate(kept):
        at = beat.r_index + MORPHOLOGY_DELAY
        window = morphology[None, at - BEFORE_SAMPLES : at + AFTER_SAMPLES]
        signal[i : i + 1], context[i : i + 1] = features.push([state], window, [beat])
    return Examples(
        signal,
        context,
        np.array([label for _, label in kept], dtype=np.int8),
        np.array([beat.r_index / ANALYSIS_RATE_HZ for beat, _ in kept], dtype=np.float32),
        np.full(len(kept), patient),
    )


def reference_counts(recording: Recording, after_s: float) -> dict[str, int]:
    """Reference beats of each class past `after_s` seconds, outside fibrillation: the denominators of sensitivity."""
    at = recording.beat_samples
    counted = at >= after_s * recording.rate_hz
    for start, end in recording.unscored:
        counted &= (at < start) | (at >= end)
    names, counts = np.unique(recording.beat_classes[counted], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def match(
    beats: npt.NDArray[np.int64],
    reference: npt.NDArray[np.int64],
    classes: npt.NDArray[np.str_],
    unscored: list[tuple[float, float]],
) -> npt.NDArray[np.int8]:
    """Label of each detected beat: that of the nearest reference beat within 150 ms, each given away once.

    A detection without one is Q; fusion and unclassifiable beats, and all in `unscored` stretches, are IGNORED.
    """
    labels = np.full(len(beats), LABELS.index("Q"), dtype=np.int8)
    if len(reference) and len(beats):
        place = np.clip(np.searchsorted(reference, beats), 1, len(reference) - 1) if len(reference) > 1 else 0
        before, after = reference[np.maximum(place, 1) - 1 if len(reference) > 1 else 0], reference[place]
        nearest = np.where(np.abs(beats - before) <= np.abs(after - beats), np.maximum(place, 1) - 1, place)
        distance = np.abs(reference[nearest] - beats)
        taken: dict[int, int] = {}
        for i in np.argsort(distance, kind="stable"):
            if distance[i] > MATCH_S * ANALYSIS_RATE_HZ or int(nearest[i]) in taken:
                continue
            taken[int(nearest[i])] = int(i)
            name = str(classes[nearest[i]])
            labels[i] = LABELS.index(name) if name in "NSV" else IGNORED
    for start, end in unscored:
        labels[(beats >= start) & (beats < end)] = IGNORED
    return labels
