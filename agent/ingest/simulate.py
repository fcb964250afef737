"""A scripted virtual patient: an ECG that goes through rhythms and faults by the book, with the truth beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, cycle, pairwise, repeat

import numpy as np
import numpy.typing as npt

from agent.ingest.simulated_ecg import (
    Times,
    add_beat,
    fibrillatory_waves,
    surroundings,
    ventricular_fibrillation,
)
from firmware_bridge.chunk import NS_PER_S, Chunk, Samples, Stream

EPOCH_NS = 946_684_800 * NS_PER_S
"""2000-01-01T00:00:00Z, where a simulation begins unless told otherwise."""

ADC_STEP_MV = 0.0025
"""Samples are whole multiples of this, as an ADC's are; it also hides the last digit in which libraries differ."""
RAIL_MV = 5.0
"""What the ADC reads while an electrode is off, and the most it reads at all."""


class Rhythm(StrEnum):
    SINUS = "sinus rhythm"
    ECTOPY = "premature beats"
    BIGEMINY = "ventricular bigeminy"
    VENTRICULAR_TACHYCARDIA = "ventricular tachycardia"
    VENTRICULAR_FIBRILLATION = "ventricular fibrillation"
    ATRIAL_FIBRILLATION = "atrial fibrillation"
    BRADYCARDIA = "bradycardia"
    TACHYCARDIA = "tachycardia"
    ASYSTOLE = "asystole"
    LEAD_OFF = "electrode off"
    SILENCE = "no data"


RATE_PER_MIN = {
    Rhythm.SINUS: 72.0,
    Rhythm.ECTOPY: 74.0,
    Rhythm.BIGEMINY: 76.0,
    Rhythm.VENTRICULAR_TACHYCARDIA: 170.0,
    Rhythm.ATRIAL_FIBRILLATION: 105.0,
    Rhythm.BRADYCARDIA: 34.0,
    Rhythm.TACHYCARDIA: 152.0,
    Rhythm.LEAD_OFF: 72.0,
    Rhythm.SILENCE: 72.0,
}
"""Where an episode does not say. Under a lead that is off or silent the heart goes on, unseen."""

# (beat, interval before it as a multiple of the basic one). After a premature ventricular beat the pause makes up for
# its prematurity; after an atrial one it does not.
_PATTERN: dict[Rhythm, tuple[tuple[str, float], ...]] = {
    Rhythm.ECTOPY: (
        *(("N", 1.0), ("N", 1.0), ("V", 0.6), ("N", 1.4)),
        *(("N", 1.0), ("N", 1.0), ("S", 0.66), ("N", 1.08)),
    ),
    Rhythm.BIGEMINY: (("V", 0.6), ("N", 1.4)),
    Rhythm.VENTRICULAR_TACHYCARDIA: (("V", 1.0),),
    Rhythm.ATRIAL_FIBRILLATION: (("N without P", 1.0),),
    Rhythm.ASYSTOLE: (),
    Rhythm.VENTRICULAR_FIBRILLATION: (),
}
_SEEN_BEFORE_S = 0.25
"""A rhythm that sets in out of nothing shows its first beat this long after, P wave included."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of the script."""

    rhythm: Rhythm
    duration_s: float
    rate_per_min: float | None = None
    beats: int | None = None
    """Stop after so many beats; what is left of the stretch is the pause after them."""


@dataclass(frozen=True, slots=True)
class TrueEpisode:
    rhythm: Rhythm
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class TrueBeat:
    t_s: float
    """Of the R peak, from the start of the simulation."""
    label: str
    """"N", "S" or "V"."""


DEMO_SCRIPT = (
    Episode(Rhythm.SINUS, 12.0),
    Episode(Rhythm.ECTOPY, 12.0),
    Episode(Rhythm.VENTRICULAR_TACHYCARDIA, 5.0, beats=12),
    Episode(Rhythm.SINUS, 8.0),
    Episode(Rhythm.ASYSTOLE, 7.0),
    Episode(Rhythm.SINUS, 6.0),
    Episode(Rhythm.LEAD_OFF, 6.0),
    Episode(Rhythm.SINUS, 5.0),
    Episode(Rhythm.SILENCE, 7.0),
    Episode(Rhythm.SINUS, 6.0),
)


class SimulatedPatient:
    """One lead of one virtual person, computed whole from a seed: the same for the same arguments, ever.

    `samples` is (n, 1) float32 in mV at `rate_hz`; `present` (n,) is False where the sensor sends nothing. `beats` are
    those a perfect reader could see: not the ones under a lead that is off, nor while the sensor is silent.
    """

    def __init__(
        self,
        seed: int,
        rate_hz: float = 250.0,
        script: Sequence[Episode] = DEMO_SCRIPT,
        *,
        mains_hz: float = 50.0,
        motion_per_min: float = 1.0,
    ) -> None:
        self.rate_hz = rate_hz
        self.episodes = _timeline(script)
        self.duration_s = self.episodes[-1].end_s if self.episodes else 0.0
        heart, shape, world = (np.random.default_rng([seed, part]) for part in range(3))
        scheduled = list(_schedule(script, heart))
        times_s: Times = np.arange(round(self.duration_s * rate_hz)) / rate_hz
        signal = surroundings(times_s, world, mains_hz, motion_per_min)
        previous_s = 0.0
        for r_s, name in scheduled:
            add_beat(signal, times_s, r_s, r_s - previous_s, name, shape)
            previous_s = r_s
        present = np.ones(len(times_s), np.bool_)
        for episode in self.episodes:
            within = slice(round(episode.start_s * rate_hz), round(episode.end_s * rate_hz))
            match episode.rhythm:
                case Rhythm.ATRIAL_FIBRILLATION:
                    signal[within] += fibrillatory_waves(times_s[within], shape)
                case Rhythm.VENTRICULAR_FIBRILLATION:
                    signal[within] += ventricular_fibrillation(times_s[within], shape)
                case Rhythm.LEAD_OFF:
                    signal[within] = RAIL_MV
                case Rhythm.SILENCE:
                    present[within] = False
        counts = np.rint(np.clip(signal, -RAIL_MV, RAIL_MV) / ADC_STEP_MV)
        self.samples: Samples = (counts * ADC_STEP_MV).astype(np.float32)[:, np.newaxis]
        self.present: npt.NDArray[np.bool_] = present
        self.beats = tuple(
            TrueBeat(r_s, name[0])
            for r_s, name in scheduled
            if r_s < self.duration_s and self.episode_at(r_s).rhythm not in {Rhythm.LEAD_OFF, Rhythm.SILENCE}
        )

    def episode_at(self, t_s: float) -> TrueEpisode:
        """What the script has at a time; its last episode after the end."""
        return next((episode for episode in self.episodes if t_s < episode.end_s), self.episodes[-1])

    def stream(self, patient: str = "demo", device: str = "simulator") -> Stream:
        return Stream(patient, device, "ecg", kind="ecg", unit="mV", rate_hz=self.rate_hz, channels=("II",))

    def chunks(
        self,
        stream: Stream | None = None,
        *,
        t0_ns: int = EPOCH_NS,
        chunk_s: float = 0.5,
        sizes: Iterable[int] = (),
    ) -> Iterator[Chunk]:
        """The samples as their sensor would send them: none at all while it is silent, numbered from 0.

        `sizes` (in samples) overrides `chunk_s` for the first chunks. Where silence begins or ends, a chunk is cut.
        """
        stream = stream or self.stream()
        edges = (np.flatnonzero(np.diff(self.present)) + 1).tolist()
        seq = at = 0
        for size in chain(sizes, repeat(max(1, round(chunk_s * self.rate_hz)))):
            stop = min(at + size, len(self.samples))
            for begin, end in _pieces(at, stop, edges):
                if self.present[begin]:
                    yield Chunk(stream, t0_ns + stream.duration_ns(begin), self.samples[begin:end], seq)
                    seq += 1
            at = stop
            if at == len(self.samples):
                return


def _pieces(start: int, stop: int, edges: Sequence[int]) -> Iterator[tuple[int, int]]:
    cuts = [start, *(edge for edge in edges if start < edge < stop), stop]
    return ((begin, end) for begin, end in pairwise(cuts) if begin < end)


def _timeline(script: Sequence[Episode]) -> tuple[TrueEpisode, ...]:
    start_s = 0.0
    timeline = []
    for episode in script:
        timeline.append(TrueEpisode(episode.rhythm, start_s, start_s + episode.duration_s))
        start_s += episode.duration_s
    return tuple(timeline)


def _schedule(script: Sequence[Episode], rng: np.random.Generator) -> Iterator[tuple[float, str]]:
    """(time of the R peak in s, name of the beat's shape), in order."""
    breath, tone = rng.random(2)
    last_s = 0.0
    for episode, stretch in zip(script, _timeline(script), strict=True):
        pattern = _PATTERN.get(episode.rhythm, (("N", 1.0),))
        basic_s = 60 / (episode.rate_per_min or RATE_PER_MIN.get(episode.rhythm, 72.0))
        for count, (name, factor) in enumerate(cycle(pattern)):
            variation = _variation(episode.rhythm, last_s, (breath, tone), rng)
            r_s = last_s + max(0.28, basic_s * factor * variation)
            if r_s < stretch.start_s:
                r_s = stretch.start_s + _SEEN_BEFORE_S
            if r_s >= stretch.end_s or count == episode.beats:
                break
            yield r_s, name
            last_s = r_s


def _variation(rhythm: Rhythm, t_s: float, phase: tuple[float, float], rng: np.random.Generator) -> float:
    """Factor on an RR interval: breathing and vessel tone move a sinus node, nothing moves a ventricular focus."""
    jitter = float(rng.standard_normal())
    if rhythm == Rhythm.ATRIAL_FIBRILLATION:
        return float(np.exp(0.24 * jitter))
    if rhythm == Rhythm.VENTRICULAR_TACHYCARDIA:
        return 1 + 0.008 * jitter
    breathing = float(np.sin(2 * np.pi * (0.25 * t_s + phase[0])))
    vessels = float(np.sin(2 * np.pi * (0.1 * t_s + phase[1])))
    return 1 + 0.035 * breathing + 0.02 * vessels + 0.008 * jitter


@dataclass(frozen=True, slots=True)
class CgmReading:
    t_s: float
    mg_dl: float


CGM_DAY = (
    (0.0, 112.0),
    (3.0, 104.0),
    (7.5, 118.0),
    (8.7, 188.0),
    (11.5, 96.0),
    (13.4, 171.0),
    (16.5, 64.0),
    (17.3, 132.0),
)
"""(hour, mg/dL): two meals, a dip before supper that ends with juice."""


def cgm_readings(
    seed: int,
    course: Sequence[tuple[float, float]] = CGM_DAY,
    *,
    interval_s: float = 300.0,
    hour_s: float = 3600.0,
) -> tuple[CgmReading, ...]:
    """Glucose along a course of (hour, mg/dL), one reading every `interval_s`, with a sensor's slow error on it.

    `hour_s` shortens the course's hours, for a day in a minute.
    """
    rng = np.random.default_rng([seed, 3])
    hours, values = (np.array(column) for column in zip(*course, strict=True))
    t_s = np.arange(0.0, (hours[-1] - hours[0]) * hour_s + 1e-9, interval_s)
    # Between two points the curve eases in and out, as absorption does.
    leg = np.clip(np.searchsorted(hours, hours[0] + t_s / hour_s, side="right") - 1, 0, len(hours) - 2)
    share = (hours[0] + t_s / hour_s - hours[leg]) / (hours[leg + 1] - hours[leg])
    mg_dl = values[leg] + (values[leg + 1] - values[leg]) * (1 - np.cos(np.pi * share)) / 2
    error = 0.0
    readings = []
    for at_s, true_mg_dl in zip(t_s.tolist(), mg_dl.tolist(), strict=True):
        error = 0.8 * error + 1.2 * float(rng.standard_normal())
        readings.append(CgmReading(at_s, float(np.clip(round(true_mg_dl + error), 40, 400))))
    return tuple(readings)


def cgm_chunks(
    readings: Iterable[CgmReading],
    patient: str = "demo",
    device: str = "cgm",
    *,
    t0_ns: int = EPOCH_NS,
    interval_s: float = 300.0,
) -> Iterator[Chunk]:
    """One chunk a reading, as a glucose sensor sends them."""
    stream = Stream(patient, device, "cgm", kind="cgm", unit="mg/dL", rate_hz=0.0, interval_s=interval_s)
    for seq, reading in enumerate(readings):
        sample = np.array([[reading.mg_dl]], np.float32)
        yield Chunk(stream, t0_ns + round(reading.t_s * NS_PER_S), sample, seq)
