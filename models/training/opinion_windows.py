"""Windows for the second opinion on beats: recordings through the live filters, varied, with what is true of each step.

What is varied (leads, gain, noise, steps) is varied behind the filters, which are linear; another rate and a heart that
stands still are made of the raw signal. Ventricular fibrillation and asystole are stretches without beats. In the
ventricular tachycardias of vfdb, whose beats nobody annotated, those of the agent's own detector are taken.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.signal.beats import QrsDetector
from agent.signal.filters import MORPHOLOGY_DELAY, EcgFilters
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.second_opinion import FIRST_STEP, HOP, STEP, STEPS, WINDOW, prepare
from models.training import qrs
from models.training.datasets import Record, read
from models.training.vf_records import RhythmRecording, VfRecord, read_rhythm

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Stretches = list[tuple[float, float]]

DATABASE_WEIGHT = {"mitdb": 2.0, "svdb": 1.0, "cudb": 1.0, "vfdb": 1.0}
"""How often a record of each is drawn."""
BEATLESS = frozenset({"VF", "ASYS"})
"""Flutter is left out: nobody annotates beats in it, but a detector may well count its waves."""
NOT_STILL = frozenset({"vfdb/424", "vfdb/427"})
"""What is annotated as asystole there has agonal complexes and artefact in it: of no use as a stretch without beats."""
STRETCHES = ((0.82, 0.94), (1.06, 1.25))
"""Every recording is also taken as if it had been made at another rate, between these shares of its own."""
LEAST_VT_BEATS = 6
_SOFT = 1.5
"""A step is a beat's wholly when the R peak is within half a step of its middle, not at all from this many on."""


@dataclass(frozen=True, slots=True, eq=False)
class Path250:
    """A recording's morphology path and the truth about it."""

    patient: str
    leads: Float32
    """(1 or 2, n) mV: the analysed lead first."""
    beats: Indices
    """Reference R peaks, samples of the input."""
    unknown: Stretches
    """[from, to) samples of which nothing is known."""
    size_mv: float
    """Usual peak to peak of a QRS; 1 where there is none."""


class Windows:
    """Draws varied windows of paths with the steps' targets and weights."""

    def __init__(self, paths: Sequence[Path250], noises: dict[str, Float32], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._paths = list(paths)
        self._noises = noises
        self._targets = [targets(path) for path in self._paths]
        self._ends = [_ends(path, weight) for path, (_, weight) in zip(self._paths, self._targets, strict=True)]
        sizes = np.array([len(ends) for ends in self._ends])
        odds = np.array([DATABASE_WEIGHT[path.patient.partition("/")[0]] for path in self._paths]) * (sizes > 0)
        self._odds = odds / odds.sum()

    def draw(self, count: int) -> tuple[Float32, Float32, Float32]:
        """Inputs (count, 2, 250), targets and weights (count, 25)."""
        rng = self._rng
        x = np.empty((count, WINDOW))
        y, w = np.empty((count, STEPS), np.float32), np.empty((count, STEPS), np.float32)
        size = np.empty(count)
        steps = FIRST_STEP + STEP // 2 + STEP * np.arange(STEPS)
        for k, which in enumerate(rng.choice(len(self._paths), count, p=self._odds)):
            path, (target, weight) = self._paths[which], self._targets[which]
            start = int(rng.choice(self._ends[which])) - WINDOW
            window = path.leads[:, start : start + WINDOW]
            x[k] = window[0]
            if len(window) > 1 and rng.random() < 0.4:
                angle = rng.uniform(0, 2 * np.pi)
                x[k] = np.cos(angle) * window[0] + np.sin(angle) * window[1]
            y[k], w[k] = target[start + steps], weight[start + steps]
            size[k] = path.size_mv
        return prepare(self._varied(x, size)), y, w

    def _varied(self, x: Float64, size_mv: Float64) -> Float64:
        rng, count = self._rng, len(x)
        gain = np.exp(rng.normal(0, 0.5, count)) * np.where(rng.random(count) < 0.12, rng.uniform(0.15, 0.6, count), 1)
        x = x * (gain * np.where(rng.random(count) < 0.35, -1, 1))[:, None]
        for k in np.flatnonzero(rng.random(count) < 0.1):
            at = rng.integers(0, WINDOW)
            x[k, at:] = x[k, at] + (x[k, at:] - x[k, at]) * rng.uniform(0.2, 1.0)
        names = sorted(self._noises)
        for k in np.flatnonzero(rng.random(count) < 0.45):
            noise = self._noises[
                names[rng.integers(len(names))] if rng.random() < 0.5 else str(rng.choice(["em0", "em1"]))
            ]
            at = rng.integers(len(noise) - WINDOW)
            rms = size_mv[k] * gain[k] / np.sqrt(8) * 10 ** (-rng.uniform(-1, 24) / 20)
            x[k] += rng.choice([-1, 1]) * rms * noise[at : at + WINDOW]
        for k in np.flatnonzero(rng.random(count) < 0.05):
            x[k, rng.integers(0, WINDOW) :] += 2 * rng.normal()
        return x


def targets(path: Path250) -> tuple[Float32, Float32]:
    """For a step whose middle is at each sample of the path: its target and its weight, (n,) each."""
    n = path.leads.shape[1]
    target = np.zeros(n, np.float32)
    reach = int(_SOFT * STEP)
    bump = np.clip(_SOFT - np.abs(np.arange(-reach, reach + 1)) / STEP, 0, 1).astype(np.float32)
    for r in (path.beats + MORPHOLOGY_DELAY).tolist():
        low, high = max(r - reach, 0), min(r + reach + 1, n)
        if low < high:
            target[low:high] = np.maximum(target[low:high], bump[low - r + reach : high - r + reach])
    weight = np.ones(n, np.float32)
    for low_at, high_at in path.unknown:
        weight[max(0, int(low_at) - STEP) : int(high_at) + 2 * STEP] = 0
    return target, weight


def _ends(path: Path250, weight: Float32) -> Indices:
    """Where windows may end: every tenth of a second at which most of the steps are known."""
    known = np.concatenate(([0.0], np.cumsum(weight, dtype=np.float64)))
    ends = np.arange(WINDOW, path.leads.shape[1], HOP // 10)
    share = (known[ends - WINDOW + FIRST_STEP + HOP] - known[ends - WINDOW + FIRST_STEP]) / HOP
    chosen: Indices = ends[share > 0.5]
    return chosen


def morphology(x: Float64) -> Float64:
    """The live morphology path (n,) of a signal (n,) in mV at 250 Hz."""
    filters = EcgFilters()
    states = [filters.new_state()]
    return np.concatenate(
        [filters.push(states, x[None, at : at + qrs.CHUNK])[1][0] for at in range(0, len(x), qrs.CHUNK)]
    )


def beat_paths(data: Path, record: Record, noises: dict[str, list[Float64]]) -> list[Path250]:
    """A recording with annotated beats, as it is, at two other rates, and altered as another day might give it."""
    recording = read(data, record)
    out = _paths(
        record.patient,
        recording.rate_hz,
        recording.signals,
        recording.lead,
        recording.beat_samples,
        list(recording.unscored),
    )
    rng = np.random.default_rng(zlib.crc32(record.patient.encode()) + 1)
    case = qrs.altered(qrs.load(data, [record])[0], noises, rng)
    leads = morphology(case.x)[None].astype(np.float32)
    unknown = [(low * ANALYSIS_RATE_HZ, high * ANALYSIS_RATE_HZ) for low, high in case.unscored_s]
    return [*out, Path250(record.patient, leads, case.beats, unknown, _qrs_size_mv(leads, case.beats))]


def beatless_paths(data: Path, record: VfRecord) -> list[Path250]:
    """A vfdb or cudb recording: stretches without beats, and such beats as are known."""
    recording = read_rhythm(data, record)
    rate, length = recording.rate_hz, float(len(recording.signals))
    named = [
        (span.start_s * rate, span.stop_s * rate)
        for span in recording.spans
        if span.rhythm in BEATLESS and not (span.rhythm == "ASYS" and record.patient in NOT_STILL)
    ]
    if record.database == "cudb":
        notes = wfdb.rdann(str(data / record.database / record.name), "atr")
        beats = np.asarray(notes.sample[np.array(notes.symbol) == "N"], dtype=np.int64)
        edges = [0.0, *beats.tolist(), length]
        # A hole of three seconds in the annotation says nothing, unless it is a stretch named above.
        holes = [(low, high) for low, high in itertools.pairwise(edges) if high - low > 3 * rate]
    else:
        beats, tachycardia = _beats_in_tachycardia(recording)
        named += tachycardia
        holes = [(0.0, length)]
    for start, stop in named:
        halves = [half for low, high in holes for half in ((low, min(high, start)), (max(low, stop), high))]
        holes = [(low, high) for low, high in halves if low < high]
    return _paths(record.patient, rate, recording.signals, recording.lead, beats, holes)


def _beats_in_tachycardia(recording: RhythmRecording) -> tuple[Indices, Stretches]:
    """The detector's beats in each ventricular tachycardia, and where those are; in the recording's samples."""
    rate = recording.rate_hz
    x = Resampler(rate).push(recording.signals[:, recording.lead])
    (marks,) = qrs.detect([qrs.Case(recording.patient, x, np.empty(0, dtype=np.int64), ())], QrsDetector())
    found_s = np.sort([mark.r_index for mark in marks if mark.status == "confirmed"]) / ANALYSIS_RATE_HZ
    beats: list[Float64] = []
    stretches: Stretches = []
    for span in recording.spans:
        inside = found_s[(found_s >= span.start_s) & (found_s < span.stop_s)]
        if span.rhythm == "VT" and len(inside) >= LEAST_VT_BEATS:
            beats.append(inside * rate)
            stretches.append((span.start_s * rate, span.stop_s * rate))
    return np.round(np.concatenate([np.empty(0), *beats])).astype(np.int64), stretches


def _paths(
    patient: str, rate_hz: float, signals: Float64, lead: int, beats: Indices, unknown: Stretches
) -> list[Path250]:
    """At the recording's rate and at two others; `beats` and `unknown` in its own samples."""
    rng = np.random.default_rng(zlib.crc32(patient.encode()))
    order = [lead, *[k for k in range(signals.shape[1]) if k != lead][:1]]
    out = []
    for share in (1.0, *(rng.uniform(low, high) for low, high in STRETCHES)):
        resampled = [Resampler(rate_hz * share).push(np.nan_to_num(signals[:, k])) for k in order]
        leads = np.stack([morphology(x) for x in resampled]).astype(np.float32)
        scale = ANALYSIS_RATE_HZ / (rate_hz * share)
        own = np.round(beats * scale).astype(np.int64)
        stretches = [(low * scale, high * scale) for low, high in unknown]
        out.append(Path250(patient, leads, own, stretches, _qrs_size_mv(leads, own)))
    return out


def _qrs_size_mv(leads: Float32, beats: Indices) -> float:
    """Median peak to peak of the QRS in the first lead; 1 without beats."""
    inner = beats[(beats > 20) & (beats < leads.shape[1] - 30)][:400] + MORPHOLOGY_DELAY
    return float(np.median(np.ptp(leads[0][inner[:, None] + np.arange(-12, 13)], axis=1))) if len(inner) else 1.0


def filtered_noises(noises: dict[str, list[Float64]]) -> dict[str, Float32]:
    """Each channel of noise behind the live filters."""
    return {
        f"{name}{k}": morphology(channel).astype(np.float32)
        for name, channels in noises.items()
        for k, channel in enumerate(channels)
    }
