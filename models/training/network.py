"""The beat network and how it is fitted: a small convolution over the beat beside a small net over its context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from agent.signal.beat_features import SIGNAL_SHAPE
from models.training.examples import LABELS, NOT_S, Examples

Float32 = npt.NDArray[np.float32]

_S = LABELS.index("S")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides how a network is fitted, besides the examples."""

    steps: int = 600
    batch: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.03
    averaging: float = 0.98
    """Fading mean of the weights over about fifty steps: calmer than the last step's."""
    class_weight: tuple[float, ...] = (1.0, 2.0, 2.0, 1.0, 2.0)
    """How often each class of LABELS, and NOT_S, is drawn, beside its numbers."""
    rhythm_weight: float = 0.1
    """How often a recording is drawn of which only the rhythm is known."""
    crowding: float = 0.5
    """A person's n beats of one class count as n ** (1 - crowding): nobody's thousands drown others' dozens."""


class BeatNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Logits (batch, labels) of `signal` (batch, 2, 125) and `context` (batch, features)."""

    def __init__(self, features: int, dropout: float = 0.2) -> None:
        super().__init__()
        channels, _ = SIGNAL_SHAPE
        self.convolution = nn.Sequential(
            *convolution(channels, 16, 7, 2),
            *convolution(16, 24, 5, 2),
            *convolution(24, 32, 5, 2),
            *convolution(32, 32, 3, 1),
        )
        self.shape = nn.Sequential(nn.Linear(32 * 16, 32), nn.ReLU(), nn.Dropout(dropout))
        self.rhythm = nn.Sequential(
            nn.Linear(features, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(48, 32),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(dropout), nn.Linear(48, len(LABELS)))

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        shape = self.shape(self.convolution(signal).flatten(1))
        logits: torch.Tensor = self.head(torch.cat([shape, self.rhythm(context)], dim=1))
        return logits


def convolution(inputs: int, outputs: int, width: int, stride: int) -> list[nn.Module]:
    """A convolution that keeps length / stride, its batch normalisation and its rectifier."""
    return [nn.Conv1d(inputs, outputs, width, stride, width // 2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


def parameters(network: nn.Module) -> int:
    return int(sum(parameter.numel() for parameter in network.parameters()))


def draw_weights(examples: Examples, recipe: Recipe) -> npt.NDArray[np.float64]:
    """How likely each example is to be drawn; ignored ones never are."""
    people = np.unique(examples.patient, return_inverse=True)[1]
    used = examples.label >= 0
    group = people * (NOT_S + 1) + np.maximum(examples.label, 0)
    crowd = np.bincount(group[used], minlength=int(group.max()) + 1).astype(np.float64)
    weight = np.maximum(crowd, 1.0)[group] ** -recipe.crowding
    weight *= np.array(recipe.class_weight)[np.maximum(examples.label, 0)]
    weight *= np.where(np.char.startswith(examples.patient, "cinc2017/"), recipe.rhythm_weight, 1.0)
    weight[~used] = 0.0
    shares: npt.NDArray[np.float64] = weight / weight.sum()
    return shares


def fit(
    examples: Examples,
    recipe: Recipe,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    network: nn.Module | None = None,
) -> BeatNetwork:
    """A network fitted to `examples`; the same seed and machine give the same network. `network`: of another kind."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = network or BeatNetwork(examples.context.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.2
    )
    cumulative = np.cumsum(draw_weights(examples, recipe))
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaging), use_buffers=True
    )
    network.train()
    for step in range(recipe.steps):
        drawn = np.minimum(np.searchsorted(cumulative, rng.random(recipe.batch)), len(cumulative) - 1)
        signal = torch.from_numpy(examples.signal[drawn].astype(np.float32))
        context = torch.from_numpy(examples.context[drawn])
        label = torch.from_numpy(examples.label[drawn].astype(np.int64))
        signal = signal * (1 + 0.1 * torch.randn(recipe.batch, 1, 1)) + 0.05 * torch.randn_like(signal)
        signal = torch.roll(signal, int(rng.integers(-2, 3)), 2)
        context = context + 0.05 * torch.randn_like(context)
        loss = _loss(network(signal, context), label, recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        if (step + 1) % 250 == 0:
            report(f"step {step + 1}/{recipe.steps}: loss {loss.item():.3f}")
    fitted: BeatNetwork = averaged.module
    fitted.eval()
    return fitted


def _loss(logits: torch.Tensor, label: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Cross entropy; where all that is known is "not S", the cost of calling it S."""
    known = functional.cross_entropy(logits, label.clamp(max=NOT_S - 1), label_smoothing=smoothing, reduction="none")
    called_s = torch.softmax(logits, dim=1)[:, _S].clamp(max=0.999)
    return torch.where(label == NOT_S, -torch.log1p(-called_s), known).mean()


def logits_of(network: BeatNetwork, examples: Examples) -> Float32:
    """(n, labels) float32."""
    parts: list[Float32] = []
    with torch.no_grad():
        for start in range(0, len(examples), 4096):
            rows = slice(start, start + 4096)
            signal = torch.from_numpy(examples.signal[rows].astype(np.float32))
            parts.append(network(signal, torch.from_numpy(examples.context[rows])).numpy())
    return np.concatenate(parts) if parts else np.empty((0, len(LABELS)), dtype=np.float32)


def shift(network: BeatNetwork, bias: Float32) -> None:
    """Move the logits by a constant: the operating point, found on people held out."""
    with torch.no_grad():
        network.head[-1].bias += torch.from_numpy(bias)
