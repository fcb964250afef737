"""How the rhythm network is fitted: which windows are drawn, how they are altered, and what their loss is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from agent.signal.rhythm_window import CONTEXT, RATE_HZ, SAMPLES, THIN
from models.training.rhythm_examples import Streamed, Windows, cut, label_between, together
from models.training.rhythm_network import RhythmNetwork
from models.training.rhythm_records import LABELS, NOT_A, UNKNOWN

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_A = LABELS.index("A")
RR_FEATURES = sum(name.startswith("rr_") or name in {"seconds_known", "beats_per_second"} for name in CONTEXT)
"""The first so many features are known from beat times alone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides how a network is fitted, besides the recordings."""

    epochs: int = 40
    """Passes over the short recordings."""
    batch: int = 96
    """Windows of short recordings in a step ..."""
    long_batch: int = 16
    timed_batch: int = 16
    """... and beside them of long ones, and without signal."""
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    averaging: float = 0.99
    a_share: float = 1.3
    """How much more often fibrillation counts in the loss than its numbers say, and noise ..."""
    noise_share: float = 1.3
    without_signal: float = 0.15
    """Share of windows of which only the beats are shown."""
    without_beats: float = 0.05
    signal: bool = True
    """What is left out is shown as noughts: the signal, the context, or of it what is not of beat times alone."""
    context: bool = True
    beat_shape: bool = True
    widen: float = 1.0
    warm_steps: int = 600
    """Steps in which only the context's branch learns: it needs no convolution, so they cost little."""
    wave_weight: float = 0.5
    """Weight of a loss on the convolution alone, which would else leave easy cases to the context."""
    dropout: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Windows to learn from: of short recordings with one label each, of long ones, and of beat times alone."""

    short: Windows
    long: Windows
    timed: Windows

    def without(self, people: frozenset[str]) -> Pool:
        """Nothing of these people."""
        return Pool(*(part.take(~np.isin(part.patient, list(people))) for part in (self.short, self.long, self.timed)))

    @property
    def people(self) -> set[str]:
        return {str(name) for part in (self.short, self.long, self.timed) for name in np.unique(part.patient)}


def bank(recordings: Sequence[Streamed], each: int, shorter: float, rng: np.random.Generator) -> Windows:
    """`each` random windows of every recording, of one rhythm each; a quarter upside down, a fifth smoothed.

    `shorter`: share of them cut to less than half a minute. Where a recording holds fibrillation and something else,
    half of its windows are fibrillation.
    """
    picked: list[Streamed] = []
    spans: list[tuple[int, int]] = []
    for recording in recordings:
        labels = {label for _, label in recording.rhythms}
        mixed = _A in labels and len(labels) > 1
        for number in range(each):
            span = _span_of_one_rhythm(recording, shorter, rng, (number % 2 == 0) if mixed else None)
            if span is not None:
                picked.append(_altered(piece(recording, *span), rng))
                spans.append((0, span[1] - span[0]))
    return cut(picked, spans)


def _span_of_one_rhythm(
    recording: Streamed, shorter: float, rng: np.random.Generator, in_fibrillation: bool | None
) -> tuple[int, int] | None:
    total = recording.samples // THIN
    for _ in range(40):
        start, to = draw_span(total, rng, shorter)
        label = label_between(recording.rhythms, start / RATE_HZ, to / RATE_HZ)
        if label != UNKNOWN and in_fibrillation in {None, label == _A}:
            return start, to
    return None


def draw_span(samples: int, rng: np.random.Generator, shorter: float) -> tuple[int, int]:
    """A random window of a recording of so many kept samples: all of half a minute, or (`shorter`) less."""
    most = min(samples, SAMPLES)
    least = min(most, round(6 * RATE_HZ))
    length = int(rng.integers(least, most + 1)) if rng.random() < shorter else most
    start = int(rng.integers(samples - length + 1))
    return start, start + length


def piece(recording: Streamed, start: int, to: int) -> Streamed:
    """A stretch of a recording as a recording of its own; without a signal it gets a flat one."""
    low, high = np.searchsorted(recording.r_index, [start * THIN, to * THIN])
    offset = start * THIN
    return replace(
        recording,
        path=recording.path[start:to] if len(recording.path) else np.zeros(to - start, dtype=np.float32),
        samples=(to - start) * THIN,
        r_index=recording.r_index[low:high] - offset,
        decided_index=recording.decided_index[low:high] - offset,
        rhythms=tuple((at - start / RATE_HZ, label) for at, label in recording.rhythms),
    )


def _altered(recording: Streamed, rng: np.random.Generator) -> Streamed:
    path = recording.path
    if rng.random() < 0.25:
        path = -path
    if rng.random() < 0.2 and len(path) > 2:
        path = path.copy()
        path[1:-1] = 0.5 * path[1:-1] + 0.25 * (path[2:] + path[:-2])
    return replace(recording, path=path)


def hide_signal(windows: Windows) -> Windows:
    """Only what beat times tell of these windows."""
    signal, context = windows.signal.copy(), windows.context.copy()
    signal[:, 0] = 0
    context[:, RR_FEATURES:] = 0
    return replace(windows, signal=signal, context=context)


class _Draw:
    """Draws the windows of a step: a random one of each chosen short recording, and as many others as asked."""

    def __init__(self, pool: Pool, recipe: Recipe) -> None:
        self._pool, self._recipe = pool, recipe
        _, self._person = np.unique(pool.short.patient, return_inverse=True)
        order = np.argsort(self._person, kind="stable")
        self._of_person = np.split(order, np.cumsum(np.bincount(self._person))[:-1])
        self.people = len(self._of_person)
        self._others = [
            (part, number, np.flatnonzero(part.label == _A), np.flatnonzero(part.label == NOT_A))
            for part, number in ((pool.long, recipe.long_batch), (pool.timed, recipe.timed_batch))
        ]

    def context(self, number: int, rng: np.random.Generator) -> tuple[Float32, Int64]:
        """Context and label of random windows of short recordings."""
        rows = rng.integers(len(self._pool.short), size=number)
        return self._pool.short.context[rows], self._pool.short.label[rows]

    def step(self, chosen: Int64, rng: np.random.Generator) -> tuple[Float32, Float32, Int64]:
        recipe = self._recipe
        rows = np.array([rng.choice(self._of_person[person]) for person in chosen.tolist()])
        parts = [self._pool.short.take(rows)]
        for part, number, af, rest in self._others:
            if len(af) and len(rest):
                parts.append(part.take(np.concatenate([rng.choice(af, number // 2), rng.choice(rest, number // 2)])))
        windows = together(parts)
        signal, context, label = windows.signal.astype(np.float32), windows.context, windows.label
        hidden = rng.random(len(signal)) < recipe.without_signal
        signal[hidden, 0] = 0
        context[hidden, RR_FEATURES:] = 0
        blind = rng.random(len(signal)) < recipe.without_beats
        blind &= np.abs(signal[:, 0]).max(axis=1) > 0
        signal[blind, 1] = 0
        context[blind, 2:RR_FEATURES] = 0
        return signal, context, label


def loss_of(logits: torch.Tensor, label: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Cross entropy; where all that is known is "not fibrillation", the cost of calling it that; nothing if unknown."""
    plain = functional.cross_entropy(
        logits, label.clamp(0, NOT_A - 1), label_smoothing=recipe.label_smoothing, reduction="none"
    )
    called_a = torch.softmax(logits, dim=1)[:, _A].clamp(max=0.999)
    each = torch.where(label == NOT_A, -torch.log1p(-called_a), plain)
    weight = torch.ones_like(each)
    weight[label == UNKNOWN] = 0.0
    weight[label == _A] = recipe.a_share
    weight[label == LABELS.index("~")] = recipe.noise_share
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def fit(
    pool: Pool,
    recipe: Recipe,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    make: Callable[..., RhythmNetwork] = RhythmNetwork,
) -> RhythmNetwork:
    """A network fitted to the pool; the same seed and machine give the same network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = make(widen=recipe.widen, dropout=recipe.dropout)
    source = _Draw(pool, recipe)
    steps = recipe.epochs * (source.people // recipe.batch)
    beside = torch.nn.Linear(network.wave_size, len(LABELS))
    _warm_up(network, source, recipe, rng)
    if not steps:
        network.eval()
        return network
    weights = [*network.parameters(), *beside.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.2)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaging), use_buffers=True
    )
    network.train()
    for epoch in range(recipe.epochs):
        order = rng.permutation(source.people)
        losses: list[float] = []
        for start in range(0, source.people - recipe.batch + 1, recipe.batch):
            signal, context, label = source.step(order[start : start + recipe.batch], rng)
            inputs = tensors(signal, context, recipe)
            jittered = inputs[1] + 0.05 * torch.randn_like(inputs[1])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                wave = network.wave(inputs[0])
            said = network.answer(wave.float(), jittered)
            truth = torch.from_numpy(label)
            loss = loss_of(said, truth, recipe)
            alone = recipe.wave_weight * loss_of(beside(wave.float()), truth, recipe)
            optimizer.zero_grad()
            (loss + alone).backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
            losses.append(float(loss.detach()))
        report(f"epoch {epoch + 1}/{recipe.epochs}: loss {np.mean(losses):.3f}")
    fitted: RhythmNetwork = averaged.module
    fitted.eval()
    return fitted


def _warm_up(network: RhythmNetwork, source: _Draw, recipe: Recipe, rng: np.random.Generator) -> None:
    """Let the branch of the context and the head learn as if there were no signal."""
    weights = [*network.rhythm.parameters(), *network.head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    network.train()
    for _ in range(recipe.warm_steps if recipe.context else 0):
        context, label = source.context(256, rng)
        if not recipe.beat_shape:
            context[:, RR_FEATURES:] = 0
        jittered = torch.from_numpy(context) + 0.05 * torch.randn(context.shape)
        said = network.answer(torch.zeros(len(context), network.wave_size), jittered)
        optimizer.zero_grad()
        loss_of(said, torch.from_numpy(label), recipe).backward()
        optimizer.step()


def tensors(signal: Float32, context: Float32, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """The two inputs, what the recipe leaves out all noughts."""
    shown = context * np.float32(recipe.context)
    if not recipe.beat_shape:
        shown[:, RR_FEATURES:] = 0
    return torch.from_numpy(signal if recipe.signal else np.zeros_like(signal)), torch.from_numpy(shown)


def logits_of(network: RhythmNetwork, windows: Windows, recipe: Recipe) -> Float32:
    """(n, labels) float32."""
    parts: list[Float32] = []
    with torch.no_grad():
        for i in range(0, len(windows), 512):
            rows = slice(i, i + 512)
            inputs = tensors(windows.signal[rows].astype(np.float32), windows.context[rows], recipe)
            parts.append(network(*inputs).numpy())
    return np.concatenate(parts) if parts else np.empty((0, len(LABELS)), dtype=np.float32)


def shift(network: RhythmNetwork, bias: Float32) -> None:
    """Move the logits by a constant: the operating point, found on recordings held out."""
    with torch.no_grad():
        network.head[-1].bias += torch.from_numpy(bias)
