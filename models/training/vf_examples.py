"""Training examples for the fibrillation network: recordings streamed through the live signal path, cut every second.

What the network learns from is what it will see: the same resampler, filters, quality marks and window as in the agent.
Filters are linear, so other gains, signs, mixes of leads and added noise are made from their output; only another
rate is an approximation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.evaluate.reference import Span
from agent.signal.filters import MORPHOLOGY_DELAY, EcgFilters
from agent.signal.quality import SignalQuality
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.vf_window import CONTEXT, WINDOW_SAMPLES, prepare
from models.training.vf_records import RhythmRecording

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int8 = npt.NDArray[np.int8]

LABELS = ("other", "shockable")
KINDS = ("OTHER", "NOISE", "ASYS", "VT", "VF")
"""What a window is beyond its label; weights and the second head of the network go by it."""
UNKNOWN = -1
_KIND_OF = {"N": 0, "AFIB": 0, "AFL": 0, "OTHER": 0, "NOISE": 1, "ASYS": 2, "VT": 3, "VF": 4, "VFL": 4}
DECIDING_S = 3.0
"""A window is what its last seconds are: what lies before is context."""
SLOWEST_HZ = 1.7
SLOWED_BPM = (50.0, 125.0)
"""Rates to which regular fast rhythms are slowed: wide beats at these rates are no reason to shock."""
REGULAR, IRREGULAR = 0.7, 0.55
"""Likeness of a window to itself a cycle later from which it is a regular rhythm, below which it is none."""
SLOWEST_IRREGULAR = 0.65
"""Fibrillation is shockable at any rate: irregular windows may be played as slowly as this."""
FINE_MV = 0.25
"""Height of fibrillation below which it is not made by changing the gain."""
_LAG_S = MORPHOLOGY_DELAY / ANALYSIS_RATE_HZ
_CHUNK_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """One recording after the live signal path."""

    patient: str
    morphology: Float32
    """(leads, n) at 250 Hz, mV; row 0 is the analysed lead."""
    good: npt.NDArray[np.bool_]
    """Per whole second of the analysed lead, whether it passed the quality gate."""
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> int:
        return len(self.good)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Windows of one or several recordings."""

    signal: npt.NDArray[np.float16]
    """(n, 2, m)."""
    context: Float32
    """(n, k)."""
    kind: Int8
    """Index in KINDS, or UNKNOWN where the deciding seconds are not of one kind."""
    end_s: Float32
    """Seconds since the recording began at which the window ends."""
    usable: npt.NDArray[np.bool_]
    """Whether every deciding second passed the quality gate."""
    patient: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def label(self) -> Int8:
        """Index in LABELS, or UNKNOWN."""
        known = np.where(self.kind >= KINDS.index("VT"), 1, 0)
        label: Int8 = np.where(self.kind == UNKNOWN, UNKNOWN, known).astype(np.int8)
        return label

    def take(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Examples:
        return Examples(*(getattr(self, name)[index] for name in Examples.__slots__))


def concatenate(parts: Sequence[Examples]) -> Examples:
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Examples.__slots__))


def stream(signal: Float64, rate_hz: float) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Morphology path (n,) mV at 250 Hz of a recording, and whether each of its whole seconds passed the gate."""
    resampler, filters, quality = Resampler(rate_hz), EcgFilters(), SignalQuality()
    filter_state, quality_state = filters.new_state(), quality.new_state()
    paths: list[Float32] = []
    good: list[bool] = []
    step = round(_CHUNK_S * rate_hz)
    for start in range(0, len(signal), step):
        x = resampler.push(signal[start : start + step])[None]
        detection, morphology = filters.push([filter_state], x)
        good += [mark.good for mark in quality.push([quality_state], x, detection, morphology)[0]]
        paths.append(morphology[0].astype(np.float32))
    return np.concatenate(paths), np.array(good, dtype=np.bool_)


def streamed(recording: RhythmRecording) -> Streamed:
    """The recording with its analysed lead first."""
    leads = [recording.lead, *(lead for lead in range(recording.signals.shape[1]) if lead != recording.lead)]
    paths = [stream(recording.signals[:, lead], recording.rate_hz) for lead in leads]
    return Streamed(recording.patient, np.stack([path for path, _ in paths]), paths[0][1], recording.spans)


def kinds(spans: Sequence[Span], ends_s: Float64, deciding_s: float = DECIDING_S) -> Int8:
    """Kind of the window that ends at each of `ends_s`: of its deciding seconds, where they are of one kind.

    Fibrillation and tachycardia may mix (the later names the window); with anything else, or slow tachycardia, in
    them, the kind is UNKNOWN. Noise and asystole among other rhythms that are not shockable are what is last.
    """
    stop = ends_s - _LAG_S
    start = stop - deciding_s
    found = np.full(len(ends_s), UNKNOWN, dtype=np.int8)
    shockable = np.zeros(len(ends_s), dtype=np.bool_)
    quiet = np.zeros(len(ends_s), dtype=np.bool_)
    spoilt = np.zeros(len(ends_s), dtype=np.bool_)
    for span in spans:
        touches = (span.start_s < stop) & (span.stop_s > start)
        kind = _KIND_OF.get(span.rhythm, UNKNOWN)
        spoilt |= touches & (kind == UNKNOWN)
        shockable |= touches & (kind >= KINDS.index("VT"))
        quiet |= touches & (kind >= 0) & (kind < KINDS.index("VT"))
        found[touches] = kind
    found[spoilt | (shockable & quiet)] = UNKNOWN
    return found


def too_slow(examples: Examples) -> npt.NDArray[np.bool_]:
    """Which windows of fibrillation show mostly waves slower than SLOWEST_HZ, as of chest compressions, above it."""
    crossings_hz = examples.context[:, CONTEXT.index("crossing_rate")] * 10.0 / 2.0
    slow: npt.NDArray[np.bool_] = (examples.kind == KINDS.index("VF")) & (crossings_hz < SLOWEST_HZ)
    return slow


def plain_examples(recording: Streamed, every_s: int = 1) -> Examples:
    """The windows that the agent would ask about in the analysed lead, or every `every_s`-th of them."""
    first = -(-WINDOW_SAMPLES // ANALYSIS_RATE_HZ)
    ends = np.arange(first, recording.seconds + 1, every_s)
    windows = np.stack(
        [recording.morphology[0, end * ANALYSIS_RATE_HZ - WINDOW_SAMPLES : end * ANALYSIS_RATE_HZ] for end in ends]
        or [np.empty(WINDOW_SAMPLES, dtype=np.float32)]
    )[: len(ends)]
    usable = _deciding_good(recording, ends)
    return _examples(windows, kinds(recording.spans, ends.astype(np.float64)), ends, usable, recording.patient)


def varied_examples(
    recording: Streamed, counts: dict[str, float], noise: Sequence[Float32], rng: np.random.Generator
) -> Examples:
    """Altered windows: of each kind, `counts` (mean) for every second there is of it.

    Each has its own place within the second, gain, sign, rate, mix of leads, noise and baseline. `counts` of "SLOWED"
    are drawn from regular tachycardia or flutter and played so slowly that it is none: OTHER. Windows that do not pass
    the quality gate are left out.
    """
    ends = np.arange(1, recording.seconds + 1)
    chosen: list[float] = []
    found = kinds(recording.spans, ends.astype(np.float64))
    found[~_deciding_good(recording, ends)] = UNKNOWN
    for kind, name in enumerate(KINDS):
        places = ends[found == kind].astype(np.float64)
        times = rng.poisson(counts.get(name, 0.0), len(places))
        chosen += np.repeat(places, times).tolist()
    fast = ends[found >= KINDS.index("VT")].astype(np.float64)
    slowed = np.repeat(fast, rng.poisson(counts.get("SLOWED", 0.0), len(fast))).tolist()
    at = np.array([*chosen, *slowed]) - rng.random(len(chosen) + len(slowed)) * 0.999
    kind_at = kinds(recording.spans, at)
    kind_at[len(chosen) :][kind_at[len(chosen) :] >= KINDS.index("VT")] = KINDS.index("OTHER")
    windows, kept = [], []
    for number, (end_s, kind) in enumerate(zip(at.tolist(), kind_at.tolist(), strict=True)):
        rates = _rates(recording, kind)
        if number >= len(chosen):
            bpm, likeness = _cycle(recording.morphology[0], end_s)
            if not likeness >= REGULAR:
                continue
            rates = (SLOWED_BPM[0] / bpm, SLOWED_BPM[1] / bpm)
        elif kind >= KINDS.index("VT") and _cycle(recording.morphology[0], end_s)[1] < IRREGULAR:
            rates = (SLOWEST_IRREGULAR, rates[1])
        window = _vary(recording.morphology, end_s, kind, rates, noise, rng)
        if kind != UNKNOWN and window is not None:
            windows.append(window)
            kept.append(number)
    stacked = np.stack(windows) if windows else np.empty((0, WINDOW_SAMPLES))
    return _examples(stacked, kind_at[kept], at[kept], np.ones(len(kept), dtype=np.bool_), recording.patient)


def noise_examples(noise: Sequence[Float32], count: int, rng: np.random.Generator, patient: str) -> Examples:
    """Recorded noise alone, alone on two places at once, and at many sizes: NOISE."""
    windows = []
    for _ in range(count):
        window = _grain(noise, rng) * _log_uniform(rng, 0.15, 3.0)
        if rng.random() < 0.4:
            window = window + _grain(noise, rng) * _log_uniform(rng, 0.15, 3.0)
        windows.append(window)
    return _named(np.stack(windows), "NOISE", patient)


def standstill_examples(noise: Sequence[Float32], count: int, rng: np.random.Generator, patient: str) -> Examples:
    """A heart that stands still under wander, hiss, mains hum and faint recorded noise: ASYS."""
    t = np.arange(WINDOW_SAMPLES) / ANALYSIS_RATE_HZ
    windows = []
    for _ in range(count):
        window = _log_uniform(rng, 0.001, 0.02) * rng.normal(size=len(t))
        window = window + _wander(t, rng) * _log_uniform(rng, 0.005, 0.4)
        if rng.random() < 0.5:
            window = window + _grain(noise, rng) * _log_uniform(rng, 0.005, 0.12)
        if rng.random() < 0.3:
            hum_hz = (50.0, 60.0)[rng.integers(2)]
            window = window + _log_uniform(rng, 0.002, 0.05) * np.sin(2 * np.pi * hum_hz * t + rng.uniform(0, 6.3))
        windows.append(window)
    return _named(np.stack(windows), "ASYS", patient)


def _deciding_good(recording: Streamed, ends_s: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether every deciding second of the windows that end at `ends_s` passed the quality gate."""
    deciding = round(DECIDING_S)
    return np.array([recording.good[max(end - deciding, 0) : end].all() for end in ends_s], dtype=np.bool_)


def _rates(recording: Streamed, kind: int) -> tuple[float, float]:
    """How slow and how fast a window of `kind` may be played without becoming another kind."""
    if kind >= KINDS.index("VT"):
        return 0.9, 1.25
    # Some of the people with fibrillation have wide beats in between: played fast, they are tachycardia.
    return (0.8, 1.2) if recording.patient.startswith(("vfdb/", "cudb/")) else (0.8, 1.6)


def _cycle(path: Float32, end_s: float) -> tuple[float, float]:
    """Rate a minute at which the window that ends at `end_s` repeats itself best, and how well: up to 1."""
    stop = int(end_s * ANALYSIS_RATE_HZ)
    if stop < WINDOW_SAMPLES:
        return math.nan, math.nan
    piece = path[stop - WINDOW_SAMPLES : stop].astype(np.float64)
    x = (piece - _smooth(piece))[::4]
    likeness = np.correlate(x, x, mode="full")[len(x) - 1 :] / max(float(x @ x), 1e-9)
    lags = np.arange(10, 30)  # 0.16 to 0.47 s
    best = int(lags[np.argmax(likeness[lags])])
    return 60.0 * ANALYSIS_RATE_HZ / 4 / best, float(likeness[best])


def _vary(
    morphology: Float32,
    end_s: float,
    kind: int,
    rates: tuple[float, float],
    noise: Sequence[Float32],
    rng: np.random.Generator,
) -> Float64 | None:
    """One altered window that ends at `end_s`; None where the recording does not hold all of it."""
    rate = float(rng.uniform(*rates))
    stop = end_s * ANALYSIS_RATE_HZ
    start = stop - WINDOW_SAMPLES * rate
    if start < 0 or stop > morphology.shape[1]:
        return None
    first, last = int(start), min(int(stop) + 2, morphology.shape[1])
    piece = morphology[0, first:last].astype(np.float64)
    if len(morphology) > 1 and rng.random() < 0.5:
        angle = rng.uniform(0.0, np.pi)
        piece = np.cos(angle) * piece + np.sin(angle) * morphology[1, first:last]
    place = start - first + np.arange(WINDOW_SAMPLES) * rate
    window = np.interp(place, np.arange(len(piece)), piece)
    gain = _log_uniform(rng, 0.45, 2.2)
    height = float(np.median(np.ptp(window[: len(window) // 250 * 250].reshape(-1, 250), axis=1)))
    if kind == KINDS.index("ASYS"):
        gain = min(gain, 1.0)
    elif kind >= KINDS.index("VT"):
        # Smaller than FINE_MV it would not be shockable.
        gain = max(gain, min(1.0, FINE_MV / max(height, 1e-6)))
    window = window * gain * (-1.0 if rng.random() < 0.5 else 1.0)
    if kind != KINDS.index("ASYS"):
        if rng.random() < 0.4:
            size = float(np.std(window - _smooth(window)))
            decibels = rng.uniform(3.0 if kind >= KINDS.index("VT") else -6.0, 24.0)
            grain = _grain(noise, rng)
            window = window + grain / max(float(np.std(grain)), 1e-6) * size * 10 ** (-decibels / 20)
        if rng.random() < 0.3:
            window = window + _log_uniform(rng, 0.002, 0.05) * rng.normal(size=len(window))
    if rng.random() < 0.3:
        window = window + _wander(np.arange(WINDOW_SAMPLES) / ANALYSIS_RATE_HZ, rng) * _log_uniform(rng, 0.02, 1.0)
    varied: Float64 = window
    return varied


def _smooth(window: Float64) -> Float64:
    """A moving mean of a second."""
    smooth: Float64 = np.convolve(np.pad(window, 125, mode="edge"), np.full(251, 1 / 251), mode="valid")
    return smooth


def _grain(noise: Sequence[Float32], rng: np.random.Generator) -> Float64:
    """A window of recorded noise, about its mean, of either sign, at a rate of its own."""
    source = noise[int(rng.integers(len(noise)))]
    rate = rng.uniform(0.8, 1.25)
    at = rng.integers(len(source) - int(WINDOW_SAMPLES * rate) - 2)
    piece = source[at : at + int(WINDOW_SAMPLES * rate) + 2].astype(np.float64)
    grain = np.interp(np.arange(WINDOW_SAMPLES) * rate, np.arange(len(piece)), piece)
    return np.asarray((grain - grain.mean()) * (-1.0 if rng.random() < 0.5 else 1.0))


def _wander(t: Float64, rng: np.random.Generator) -> Float64:
    """Slow waves of unit size, as breathing makes."""
    total = np.zeros(len(t))
    for _ in range(3):
        total += rng.random() * np.sin(2 * np.pi * rng.uniform(0.05, 0.6) * t + rng.uniform(0, 6.3))
    return total


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _named(windows: Float64, kind: str, patient: str) -> Examples:
    """Invented windows, each usable."""
    found = np.full(len(windows), KINDS.index(kind), dtype=np.int8)
    return _examples(windows, found, np.zeros(len(windows)), np.ones(len(windows), dtype=np.bool_), patient)


def _examples(
    windows: npt.NDArray[np.floating], found: Int8, ends_s: npt.ArrayLike, usable: npt.NDArray[np.bool_], patient: str
) -> Examples:
    signal, context = prepare(windows)
    return Examples(
        signal.astype(np.float16),
        context,
        found,
        np.asarray(ends_s, dtype=np.float32),
        usable,
        np.full(len(windows), patient, dtype="<U24"),
    )
