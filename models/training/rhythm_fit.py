"""How the rhythm network is fitted: which windows are drawn, how they are altered, and what their loss is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from agent.signal.rhythm_window import CONTEXT, RATE_HZ, SAMPLES, SIGNAL_SHAPE, THIN
from models.training.rhythm_examples import Streamed, Windows, cut
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

    epochs: int = 30
    """Passes over the short recordings."""
    batch: int = 96
    """Windows of short recordings in a step; beside them come `long_batch` of long ones and `timed_batch` without signal."""
    long_batch: int = 16
    timed_batch: int = 16
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
    inverted: float = 0.25
    short: float = 0.4
    """Share of windows that are cut shorter than what there is."""
    signal: bool = True
    context: bool = True
    widen: float = 1.0
    dropout: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What is learnt from: variants of the same short recordings, long recordings, and beat times without signal."""

    short: Sequence[Sequence[Streamed]]
    long: Sequence[Streamed] = ()
    timed: Sequence[Streamed] = ()


def draw_span(samples: int, rng: np.random.Generator, shorter: float) -> tuple[int, int]:
    """A random window of a recording of so many kept samples: all of half a minute, or (`shorter`) less."""
    most = min(samples, SAMPLES)
    least = min(most, round(6 * RATE_HZ))
    length = int(rng.integers(least, most + 1)) if rng.random() < shorter else most
    start = int(rng.integers(samples - length + 1))
    return start, start + length


def hide_signal(windows: Windows, rows: npt.NDArray[np.bool_]) -> None:
    """Leave of these windows only what beat times tell."""
    windows.signal[rows, 0] = 0
    windows.context[rows, RR_FEATURES:] = 0


def draw(pool: Pool, chosen: Int64, recipe: Recipe, rng: np.random.Generator) -> Windows:
    """The windows of one step: of the `chosen` short recordings, and as many others as the recipe says."""
    picked: list[Streamed] = []
    spans: list[tuple[int, int]] = []
    timed_from = len(chosen)
    for index in chosen.tolist():
        variants = pool.short[0 if rng.random() < 0.5 else rng.integers(len(pool.short))]
        picked.append(_altered(variants[index], rng, recipe))
        spans.append(draw_span(len(picked[-1].path), rng, recipe.short))
    for source, number in ((pool.long, recipe.long_batch), (pool.timed, recipe.timed_batch)):
        if source is pool.timed:
            timed_from = len(picked)
        for _ in range(number if source else 0):
            recording, span = _of_one_rhythm(source, rng, recipe)
            picked.append(_piece(_altered_piece(recording, span, rng, recipe)))
            spans.append((0, len(picked[-1].path)))
    windows = cut(picked, spans)
    rows = np.arange(len(windows))
    hide_signal(windows, (rows >= timed_from) | (rng.random(len(windows)) < recipe.without_signal))
    blind = rng.random(len(windows)) < recipe.without_beats
    blind[timed_from:] = False
    windows.signal[blind, 1] = 0
    windows.context[blind, 2:RR_FEATURES] = 0
    return windows


def _of_one_rhythm(source: Sequence[Streamed], rng: np.random.Generator, recipe: Recipe) -> tuple[Streamed, tuple[int, int]]:
    """A window of a random long recording, every second one in fibrillation where there is any."""
    want_a = rng.random() < 0.5
    holders = [s for s in source if any(label == _A for _, label in s.rhythms) == want_a] or list(source)
    recording = holders[rng.integers(len(holders))]
    total = recording.samples // THIN
    for _ in range(20):
        start, to = draw_span(total, rng, recipe.short)
        at = start / RATE_HZ
        label = [label for t, label in recording.rhythms if t <= at][-1:]
        if label and (label[0] == _A) == want_a and label[0] != UNKNOWN:
            break
    return recording, (start, to)


def _altered(recording: Streamed, rng: np.random.Generator, recipe: Recipe) -> Streamed:
    path = recording.path
    if rng.random() < recipe.inverted:
        path = -path
    if rng.random() < 0.2 and len(path) > 2:
        path = path.copy()
        path[1:-1] = 0.5 * path[1:-1] + 0.25 * (path[2:] + path[:-2])
    return replace(recording, path=path)


def _altered_piece(
    recording: Streamed, span: tuple[int, int], rng: np.random.Generator, recipe: Recipe
) -> tuple[Streamed, tuple[int, int]]:
    start, to = span
    path = recording.path[start:to] if len(recording.path) else np.zeros(to - start, dtype=np.float32)
    piece = replace(recording, path=path)
    return _altered(piece, rng, recipe), span


def _piece(found: tuple[Streamed, tuple[int, int]]) -> Streamed:
    """The stretch of a long recording as a recording of its own."""
    recording, (start, to) = found
    low, high = np.searchsorted(recording.r_index, [start * THIN, to * THIN])
    offset = start * THIN
    return replace(
        recording,
        samples=(to - start) * THIN,
        r_index=recording.r_index[low:high] - offset,
        decided_index=recording.decided_index[low:high] - offset,
        rhythms=tuple((at - start / RATE_HZ, label) for at, label in recording.rhythms),
    )


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


def fit(pool: Pool, recipe: Recipe, seed: int, report: Callable[[str], None] = lambda _: None) -> RhythmNetwork:
    """A network fitted to the pool; the same seed and machine give the same network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = RhythmNetwork(widen=recipe.widen, dropout=recipe.dropout)
    people = len(pool.short[0])
    steps = recipe.epochs * (people // recipe.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.2)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaging), use_buffers=True
    )
    network.train()
    step = 0
    for epoch in range(recipe.epochs):
        order = rng.permutation(people)
        losses: list[float] = []
        for start in range(0, people - recipe.batch + 1, recipe.batch):
            if step == steps:
                break
            windows = draw(pool, order[start : start + recipe.batch], recipe, rng)
            signal, context = tensors(windows, recipe)
            context = context + 0.05 * torch.randn_like(context)
            loss = loss_of(network(signal, context), torch.from_numpy(windows.label), recipe)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
            losses.append(float(loss.detach()))
            step += 1
        report(f"epoch {epoch + 1}/{recipe.epochs}: loss {np.mean(losses):.3f}")
    fitted: RhythmNetwork = averaged.module
    fitted.eval()
    return fitted


def tensors(windows: Windows, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """The two inputs, the one that the recipe leaves out all noughts."""
    signal = torch.from_numpy(windows.signal.astype(np.float32))
    context = torch.from_numpy(windows.context)
    return (signal if recipe.signal else signal * 0, context if recipe.context else context * 0)


def logits_of(network: RhythmNetwork, windows: Windows, recipe: Recipe) -> Float32:
    """(n, labels) float32."""
    signal, context = tensors(windows, recipe)
    assert signal.shape[1:] == SIGNAL_SHAPE  # noqa: S101
    with torch.no_grad():
        parts = [network(signal[i : i + 512], context[i : i + 512]).numpy() for i in range(0, len(windows), 512)]
    return np.concatenate(parts) if parts else np.empty((0, len(LABELS)), dtype=np.float32)
