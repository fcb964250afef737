"""The glucose network and how it is fitted: three layers over the last hours and measures of the day before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from agent.signal.glucose_window import CLOCK, CONTEXT, SIGNAL_SHAPE, UNIT_MG_DL
from agent.signal.outlook import HORIZONS_MIN
from models.training.glucose_examples import LABELS, Examples

Float32 = npt.NDArray[np.float32]

MEANS = [1, 4]
LOWS, HIGHS = [0, 3], [2, 5]
FORECASTS = 3 * len(HORIZONS_MIN)
OUTPUTS = FORECASTS + len(LABELS)
LOW_QUANTILE, HIGH_QUANTILE = 0.05, 0.95
LARGEST = 8.0
"""Outputs beyond this cost: all share one 8-bit scale, and none is needed out there."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides how a network is fitted, besides the examples."""

    passes: float = 2.5
    """Readings drawn, for every one there is: neighbours tell nearly the same."""
    batch: int = 1024
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    averaging: float = 0.99
    timeless: float = 0.25
    """Share of the examples shown without the time of day: many a device will not know it."""
    jitter: float = 0.03
    """Noise on the inputs, about that of their 8 bits."""
    width: int = 128
    layers: int = 3
    interval_loss: float = 2.0
    event_loss: float = 1.5
    imminent: float = 3.0
    """How much more an event counts that came within 10 minutes: one that is missed then is missed for good."""


class GlucoseNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """(batch, OUTPUTS) of `signal` (batch, 3, 36) and `context` (batch, k): forecasts, then logits."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        inputs = SIGNAL_SHAPE[0] * SIGNAL_SHAPE[1] + len(CONTEXT)
        body: list[nn.Module] = []
        for _ in range(recipe.layers):
            body += [nn.Linear(inputs, recipe.width), nn.BatchNorm1d(recipe.width), nn.ReLU()]
            inputs = recipe.width
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(recipe.width, OUTPUTS)

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.body(torch.cat([signal.flatten(1), context], dim=1)))
        return outputs


def loss_of(
    outputs: torch.Tensor, change: torch.Tensor, event: torch.Tensor, counted: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    """Squared error of the means, pinball loss of the interval's ends, cross entropy of the events.

    `change` in UNIT_MG_DL, nan where unknown: that costs nothing. The horizons weigh about alike.
    """
    known = torch.isfinite(change)
    truth, number = torch.nan_to_num(change), known.sum()
    scale = torch.tensor([0.75, 0.3])
    off = (outputs[:, MEANS] - truth) ** 2 * scale
    loss = (off * known).sum() / number
    for columns, quantile in ((LOWS, LOW_QUANTILE), (HIGHS, HIGH_QUANTILE)):
        beyond = truth - outputs[:, columns]
        pinball = torch.maximum(quantile * beyond, (quantile - 1) * beyond)
        loss = loss + recipe.interval_loss * (pinball * known).sum() / number
    each = functional.binary_cross_entropy_with_logits(outputs[:, FORECASTS:], event, reduction="none")
    loss = loss + recipe.event_loss * ((each * counted).sum(0) / (counted.sum(0) + 1)).sum()
    return loss + 0.05 * functional.relu(outputs.abs() - LARGEST).square().sum(1).mean()


def fit(
    examples: Examples,
    recipe: Recipe,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    build: Callable[[Recipe], nn.Module] = GlucoseNetwork,
) -> nn.Module:
    """A network fitted to `examples`; the same seed and machine give the same network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build(recipe)
    known = np.flatnonzero(np.isfinite(examples.change).any(axis=1))
    steps = max(2, round(recipe.passes * len(known) / recipe.batch))
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.1)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.averaging), use_buffers=True
    )
    network.train()
    for step in range(steps):
        rows = np.sort(rng.choice(known, recipe.batch))
        signal, context, change, event, counted = _batch(examples, rows, recipe.imminent)
        signal = signal + recipe.jitter * torch.randn_like(signal)
        context = context + recipe.jitter * torch.randn_like(context)
        context[:, CLOCK] *= torch.rand(len(context), 1) >= recipe.timeless
        outputs = network(signal, context)
        loss = loss_of(outputs, change, event, counted, recipe)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        if (step + 1) % 500 == 0:
            report(f"step {step + 1}/{steps}: loss {loss.item():.3f}")
    fitted: nn.Module = copy.deepcopy(averaged.module)
    fitted.eval()
    return fitted


def _batch(examples: Examples, rows: npt.NDArray[np.integer], imminent: float) -> tuple[torch.Tensor, ...]:
    """signal, context, change, event, and how much each event counts."""
    return (
        torch.from_numpy(examples.signal[rows].astype(np.float32)),
        torch.from_numpy(examples.context[rows]),
        torch.from_numpy(examples.change[rows] / np.float32(UNIT_MG_DL)),
        torch.from_numpy(examples.event[rows].astype(np.float32)),
        torch.from_numpy(
            examples.counted[rows] * np.where(examples.imminent[rows], np.float32(imminent), np.float32(1.0))
        ),
    )


def outputs_of(network: nn.Module, examples: Examples) -> Float32:
    """(n, OUTPUTS) float32."""
    parts: list[Float32] = []
    with torch.no_grad():
        for start in range(0, len(examples), 8192):
            rows = slice(start, start + 8192)
            signal = torch.from_numpy(examples.signal[rows].astype(np.float32))
            parts.append(network(signal, torch.from_numpy(examples.context[rows])).numpy())
    return np.concatenate(parts) if parts else np.empty((0, OUTPUTS), dtype=np.float32)


def parameters(network: nn.Module) -> int:
    return int(sum(p.numel() for p in network.parameters()))
