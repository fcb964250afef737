"""One person's ECG on its way through: where the run of signal stands, and the last seconds of it.

A run is signal without a gap. Its samples are counted at the analysis rate from 0; `time_ns` turns a count into
stream time. Native samples are kept as they came, for the evidence strip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.signal.beat_memory import FeatureState
from agent.signal.beats import BeatMark, QrsState
from agent.signal.filters import MORPHOLOGY_DELAY, FilterState
from agent.signal.last_samples import LastSamples
from agent.signal.pending import PendingBeats
from agent.signal.quality import QualityState
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.rhythm_window import SAMPLES, THIN, thin
from agent.signal.second_opinion import OpinionState
from firmware_bridge.chunk import NS_PER_S, Chunk, Samples, Stream

STRIP_S = 10.0
KEEP_S = STRIP_S + 2.0
"""Native signal kept between steps: a strip, and the decision delay before it."""
ANALYSIS_STEP_NS = NS_PER_S // ANALYSIS_RATE_HZ
_FORGET = 8 * ANALYSIS_RATE_HZ
"""Beats older than the half minute by this much are forgotten, several at once."""
_REMEMBERED = (1 << 64) - 1


@dataclass(slots=True)
class EcgTrack:
    """State of one ECG stream between steps. Small enough to be written to disk every minute."""

    lead: int
    resampler: Resampler
    filters: FilterState
    qrs: QrsState
    quality: QualityState
    features: FeatureState
    pending: PendingBeats
    stream: Stream
    native: LastSamples
    """Samples as they came, (n, channels)."""
    morphology: LastSamples
    """The morphology path."""
    thinned: LastSamples = field(default_factory=lambda: LastSamples(SAMPLES))
    """The last half minute of the morphology path at 62.5 Hz: every whole group of THIN samples of the run."""
    confirmed: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    """R peaks of the last half minute or a little more, and when each was confirmed: samples of the run, in the order
    of decision."""
    opinion: OpinionState = field(default_factory=OpinionState)
    """What the second opinion on beats remembers."""
    judged: int = 0
    """Whole seconds of the run that were judged for quality; `good` says of the last of them which passed."""
    good: int = 0
    """Bit k: whether the second k before the last judged one passed the quality gate; 64 of them between steps."""
    anchors: list[tuple[int, int, int]] = field(default_factory=list)
    """(native count, analysis count, stream time): the time line since the run began and at every slip of the clock."""

    @property
    def running(self) -> bool:
        return bool(self.anchors)

    @property
    def count(self) -> int:
        """Analysis samples of this run so far."""
        return self.morphology.count

    @property
    def source(self) -> str:
        """How alarms about this stream name it."""
        return f"{self.stream.device}/{self.stream.channel}"

    @property
    def frontier_ns(self) -> int:
        """Stream time up to which the signal has been analysed."""
        return self.time_ns(self.count)

    def append(self, chunk: Chunk) -> npt.NDArray[np.float64]:
        """Take the next aligned chunk; returns the new samples of the analysis lead at the analysis rate."""
        native = self.native
        if not self.anchors or chunk.t0_ns != self.native_time_ns(native.count):
            ahead = round(native.count * ANALYSIS_RATE_HZ / self.stream.rate_hz)
            self.anchors = [*self.anchors[-3:], (native.count, ahead, chunk.t0_ns)]
        native.append(chunk.samples)
        return self.resampler.push(chunk.samples[:, self.lead])

    def confirm(self, marks: Sequence[BeatMark]) -> None:
        """Remember beats that were confirmed."""
        if marks:
            new = np.array([(mark.r_index, mark.decided_index) for mark in marks], np.int64)
            self.confirmed = np.concatenate((self.confirmed, new))

    def judge(self, good: bool) -> None:
        """Whether the run's next second passed the quality gate."""
        self.judged += 1
        self.good = self.good << 1 | good

    def good_seconds(self, end: int, seconds: int) -> int:
        """How many of the `seconds` before analysis sample `end` passed: up to 64 before what came in this step."""
        back = self.judged - end // ANALYSIS_RATE_HZ
        return (self.good >> back & ((1 << seconds) - 1)).bit_count()

    def path(self, start: int, end: int) -> npt.NDArray[np.float32]:
        """Samples [start, end) of the morphology path, which `morphology` must still hold."""
        return self.morphology.read(start, end)

    def trim(self) -> None:
        """Forget what no later decision looks at."""
        self.native.trim()
        self.morphology.trim()
        self.thinned.trim()
        self.good &= _REMEMBERED
        oldest = self.count - SAMPLES * THIN
        if len(self.confirmed) and self.confirmed[0, 0] < oldest - _FORGET:
            self.confirmed = self.confirmed[self.confirmed[:, 0] >= oldest]

    def time_ns(self, count: int) -> int:
        """Stream time of analysis sample `count` of this run."""
        _, anchor, t_ns = self.anchors[-1]
        if count < anchor:
            _, anchor, t_ns = next((a for a in reversed(self.anchors) if a[1] <= count), self.anchors[0])
        return t_ns + (count - anchor) * ANALYSIS_STEP_NS

    def native_time_ns(self, count: int) -> int:
        """Stream time of native sample `count` of this run."""
        anchor, _, t_ns = self.anchors[-1]
        if anchor > count:
            anchor, _, t_ns = next((a for a in reversed(self.anchors) if a[0] <= count), self.anchors[0])
        return t_ns + self.stream.duration_ns(count - anchor)

    def strip(self, to_ns: int) -> tuple[int, Samples]:
        """The last STRIP_S before `to_ns` within this run: (stream time of the first, samples (n, channels))."""
        native = self.native
        if not self.anchors:
            return to_ns, native.room[:0]
        anchor, _, t_ns = next((a for a in reversed(self.anchors) if a[2] <= to_ns), self.anchors[0])
        end = anchor + int((to_ns - t_ns) * self.stream.rate_hz // NS_PER_S)
        end = min(max(end, 0), native.count)
        start = min(max(end - round(STRIP_S * self.stream.rate_hz), native.first, 0), end)
        return self.native_time_ns(start), native.read(start, end).copy()

    def window(self, r_index: int, before: int, after: int) -> npt.NDArray[np.float32] | None:
        """Morphology path around an R peak: samples [r - before, r + after); None where the run does not hold them."""
        centre = r_index + MORPHOLOGY_DELAY
        start, stop = centre - before, centre + after
        if start < self.morphology.first or stop > self.count:
            return None
        return self.morphology.read(start, stop)


def append_morphology(tracks: Sequence[EcgTrack], morphology: npt.NDArray[np.float64]) -> None:
    """Take the next samples (tracks, n) of each track's morphology path."""
    paths = morphology.astype(np.float32)
    by_phase: dict[int, list[EcgTrack]] = defaultdict(list)
    for track, path in zip(tracks, paths, strict=True):
        by_phase[track.count % THIN].append(track)
        track.morphology.append(path)
    for phase, alike in by_phase.items():
        if phase or len(alike) < len(tracks):
            begin = phase + paths.shape[1]
            groups = np.stack([track.path(track.count - begin, track.count) for track in alike])
        else:
            groups = paths
        thinned = thin(groups[:, : groups.shape[1] // THIN * THIN])
        for track, path in zip(alike, thinned, strict=True):
            track.thinned.append(path)
