"""The fibrillation network and how it is fitted: a small convolution over the window beside a net over its measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from agent.signal.vf_window import CONTEXT, SIGNAL_SHAPE
from models.training.network import convolution
from models.training.vf_examples import KINDS, LABELS, UNKNOWN, Examples

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides how a network is fitted, besides the examples."""

    steps: int = 600
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    averaging: float = 0.98
    dropout: float = 0.25
    kind_share: tuple[float, ...] = (0.34, 0.12, 0.08, 0.22, 0.24)
    """How often each of KINDS is drawn."""
    crowding: float = 0.5
    """A person's n windows of one kind count as n ** (1 - crowding)."""
    source_weight: tuple[tuple[str, float], ...] = (("cinc2017/", 0.15), ("noise/", 3.0), ("standstill/", 3.0))
    """How often windows of a source are drawn, beside that."""
    kind_loss: float = 0.3
    """Weight of telling the kinds apart, which only training asks for."""


class VfNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Logits (batch, labels) of `signal` (batch, 2, m) and `context` (batch, k)."""

    def __init__(self, dropout: float = 0.25, width: int = 1) -> None:
        super().__init__()
        channels, samples = SIGNAL_SHAPE
        a, b, c, d = 12 * width, 24 * width, 32 * width, 32 * width
        self.convolution = nn.Sequential(
            *convolution(channels, a, 9, 3),
            *convolution(a, b, 7, 2),
            *convolution(b, c, 5, 2),
            *convolution(c, d, 5, 2),
        )
        columns = samples
        for width_, stride in ((9, 3), (7, 2), (5, 2), (5, 2)):
            columns = (columns + 2 * (width_ // 2) - width_) // stride + 1
        third = columns // 3
        self.mean, self.most = nn.AvgPool1d(third, third), nn.MaxPool1d(third, third)
        pooled = columns // third * d * 2
        self.shape = nn.Sequential(nn.Linear(pooled, 32), nn.ReLU(), nn.Dropout(dropout))
        self.measures = nn.Sequential(
            nn.Linear(len(CONTEXT), 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(48, 32),
            nn.ReLU(),
        )
        self.trunk = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(32, len(LABELS))
        self.kind_head = nn.Linear(32, len(KINDS))

    def features(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = self.convolution(signal)
        pooled = torch.cat([self.mean(x).flatten(1), self.most(x).flatten(1)], dim=1)
        features: torch.Tensor = self.trunk(torch.cat([self.shape(pooled), self.measures(context)], dim=1))
        return features

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(signal, context))
        return logits


def draw_weights(examples: Examples, recipe: Recipe) -> npt.NDArray[np.float64]:
    """How likely each example is to be drawn; those of unknown kind never are."""
    people = np.unique(examples.patient, return_inverse=True)[1]
    used = examples.kind != UNKNOWN
    group = people * len(KINDS) + np.maximum(examples.kind, 0)
    crowd = np.bincount(group[used], minlength=int(group.max()) + 1).astype(np.float64)
    weight = np.maximum(crowd, 1.0)[group] ** -recipe.crowding
    for prefix, factor in recipe.source_weight:
        weight[np.char.startswith(examples.patient, prefix)] *= factor
    weight[~used | ~examples.usable] = 0.0
    for kind, share in enumerate(recipe.kind_share):
        of_kind = examples.kind == kind
        weight[of_kind] *= share / max(float(weight[of_kind].sum()), 1e-12)
    shares: npt.NDArray[np.float64] = weight / weight.sum()
    return shares


def fit(
    examples: Examples,
    recipe: Recipe,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    build: Callable[[float], nn.Module] = VfNetwork,
) -> nn.Module:
    """A network fitted to `examples`; the same seed and machine give the same network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build(recipe.dropout)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.2
    )
    cumulative = np.cumsum(draw_weights(examples, recipe))
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaging), use_buffers=True
    )
    labels = examples.label
    network.train()
    for step in range(recipe.steps):
        drawn = np.minimum(np.searchsorted(cumulative, rng.random(recipe.batch)), len(cumulative) - 1)
        signal = torch.from_numpy(examples.signal[drawn].astype(np.float32))
        context = torch.from_numpy(examples.context[drawn])
        context = context + 0.05 * torch.randn_like(context)
        features = network.features(signal, context)
        label = torch.from_numpy(labels[drawn].astype(np.int64))
        kind = torch.from_numpy(examples.kind[drawn].astype(np.int64))
        loss = functional.cross_entropy(network.head(features), label, label_smoothing=recipe.label_smoothing)
        loss = loss + recipe.kind_loss * functional.cross_entropy(network.kind_head(features), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        if (step + 1) % 300 == 0:
            report(f"step {step + 1}/{recipe.steps}: loss {loss.item():.3f}")
    fitted: nn.Module = averaged.module
    fitted.eval()
    return fitted


def logits_of(network: nn.Module, examples: Examples) -> Float32:
    """(n, labels) float32."""
    parts: list[Float32] = []
    with torch.no_grad():
        for start in range(0, len(examples), 2048):
            rows = slice(start, start + 2048)
            signal = torch.from_numpy(examples.signal[rows].astype(np.float32))
            parts.append(network(signal, torch.from_numpy(examples.context[rows])).numpy())
    return np.concatenate(parts) if parts else np.empty((0, len(LABELS)), dtype=np.float32)


def shift(network: nn.Module, bias: float) -> None:
    """Move the logit of "shockable" by a constant: the operating point, found on people held out."""
    with torch.no_grad():
        network.head.bias += torch.tensor([0.0, bias])


def parameters(network: VfNetwork | nn.Module) -> int:
    """Of what ships: without the head that only training asks."""
    unused = {id(parameter) for parameter in network.kind_head.parameters()}
    return int(sum(p.numel() for p in network.parameters() if id(p) not in unused))
