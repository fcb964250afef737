"""Trains the `qrs` pack: a small network that finds beats beside the detector, and scores it alone.

    python -m models.training.second_opinion cross --data DIR     fit to one database, score the other
    python -m models.training.second_opinion people --data DIR    fit to half of the people, score the other half
    python -m models.training.second_opinion --data DIR           fit to everybody, write models/packs/qrs

Recordings pass through the live resampler and filters; what is varied (leads, gain, noise, steps) is varied behind the
filters, which are linear. Ventricular fibrillation and asystole are stretches without beats.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import wfdb

from agent.scoring import BeatScore, format_table, gross, score_beats
from agent.signal.filters import MORPHOLOGY_DELAY, EcgFilters
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.second_opinion import FIRST_STEP, HOP, SIGNAL_SHAPE, STEP, STEPS, WINDOW, SecondOpinion, prepare
from models.training import qrs
from models.training.datasets import Record, assert_disjoint, beat_records, folds, read
from models.training.noise_stress import add_noise, noise_power, stress_schedule

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Stretches = list[tuple[float, float]]

# fmt: off
VFDB = ("418", "420", "423", "424", "425", "426", "427", "429", "430", "602", "609", "612", "614", "615")
CUDB = (
    "cu01", "cu02", "cu03", "cu04", "cu05", "cu06", "cu07", "cu08", "cu09",
)
# fmt: on
CHANNELS = 24
BATCH = 256
STEPS_OF_TRAINING = 5000
DATABASE_WEIGHT = {"mitdb": 2.0, "svdb": 1.0, "cudb": 1.0, "vfdb": 1.0}
"""How often a record of each is drawn."""
_SOFT = 1.5
"""A step is a beat's wholly when the R peak is within half a step of its middle, not at all from this many on."""


@dataclass(frozen=True, slots=True, eq=False)
class Path250:
    """A recording's morphology path and the truth about it."""

    name: str
    database: str
    patient: str
    leads: Float32
    """(1 or 2, n) mV: the analysed lead first."""
    beats: npt.NDArray[np.int64]
    """Reference R peaks, samples of the input."""
    unknown: Stretches
    """[from, to) samples of which nothing is known."""
    size_mv: float
    """Usual peak to peak of a QRS; 1 where there is none."""


class OpinionNetwork(torch.nn.Module):
    """Stem of stride 5 (125 Hz to 25 Hz), four dilated convolutions, one logit a step; no padding."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        before = SIGNAL_SHAPE[0]
        for width, stride, dilation in ((10, 5, 1), (3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 4)):
            layers += [
                torch.nn.Conv1d(before, channels, width, stride, dilation=dilation, bias=False),
                torch.nn.BatchNorm1d(channels),
                torch.nn.ReLU(),
            ]
            before = channels
        self.body = torch.nn.Sequential(*layers, torch.nn.Conv1d(channels, 1, 3), torch.nn.Flatten())

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """(batch, 2, 250) → logits (batch, 25)."""
        out: torch.Tensor = self.body(signal)
        return out


class Windows:
    """Draws varied windows of paths with the steps' targets and weights."""

    def __init__(self, paths: Sequence[Path250], noises: dict[str, Float32], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._paths = list(paths)
        self._noises = noises
        self._targets = [targets(path) for path in self._paths]
        self._ends = [_ends(path, weight) for path, (_, weight) in zip(self._paths, self._targets, strict=True)]
        per_database: dict[str, float] = {}
        sizes = np.array([len(ends) for ends in self._ends], dtype=float)
        for path, size in zip(self._paths, sizes, strict=True):
            per_database[path.database] = per_database.get(path.database, 0.0) + size
        _ = per_database
        odds = np.array([DATABASE_WEIGHT[path.database] for path in self._paths]) * (sizes > 0)
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


def _ends(path: Path250, weight: Float32) -> npt.NDArray[np.int64]:
    """Where windows may end: every tenth of a second at which most of the steps are known."""
    known = np.concatenate(([0.0], np.cumsum(weight, dtype=np.float64)))
    ends = np.arange(WINDOW, path.leads.shape[1], HOP // 10)
    share = (known[ends - WINDOW + FIRST_STEP + HOP] - known[ends - WINDOW + FIRST_STEP]) / HOP
    chosen: npt.NDArray[np.int64] = ends[share > 0.5]
    return chosen


def fit(
    paths: Sequence[Path250], noises: dict[str, Float32], seed: int, steps: int = STEPS_OF_TRAINING
) -> OpinionNetwork:
    """A network fitted to windows of `paths`; its weights are averaged over the last steps."""
    torch.manual_seed(seed)
    windows = Windows(paths, noises, seed)
    network = OpinionNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps, pct_start=0.2)
    network.train()
    for step in range(steps):
        x, y, w = (torch.from_numpy(values) for values in windows.draw(BATCH))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(x), y, w)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 499:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)
    return network.eval()


def morphology(x: Float64) -> Float64:
    """The live morphology path (n,) of a signal (n,) in mV at 250 Hz."""
    filters = EcgFilters()
    states = [filters.new_state()]
    return np.concatenate(
        [filters.push(states, x[None, at : at + qrs.CHUNK])[1][0] for at in range(0, len(x), qrs.CHUNK)]
    )


def hop_ends(length: int) -> npt.NDArray[np.int64]:
    """Ends of the windows of a run of `length` samples."""
    ends: npt.NDArray[np.int64] = np.arange(-(-WINDOW // HOP) * HOP, length + 1, HOP)
    return ends


def opine(network: OpinionNetwork, path: Float64) -> Float64:
    """Step probabilities (hops, 25) of the whole path, as live."""
    ends = hop_ends(len(path))
    out = []
    for block in np.array_split(ends, max(1, len(ends) // 256)):
        windows = path[block[:, None] + np.arange(-WINDOW, 0)]
        with torch.no_grad():
            out.append(torch.sigmoid(network(torch.from_numpy(prepare(windows)))).double().numpy())
    return np.concatenate(out)


def own_beats(probabilities: Float64) -> list[int]:
    """The network's beats of a run, by the live state machine."""
    opinion = SecondOpinion()
    state = opinion.new_state()
    found: list[int] = []
    for end, row in zip(hop_ends(len(probabilities) * HOP + WINDOW), probabilities.tolist(), strict=False):
        found += opinion.beats(state, int(end), row)
    return found
