"""The rhythm network: a strided convolution over half a minute beside a small net over its RR statistics."""

from __future__ import annotations

import torch
from torch import nn

from agent.signal.rhythm_window import CONTEXT, SIGNAL_SHAPE
from models.training.rhythm_records import LABELS

_LAYERS = ((32, 15, 5), (48, 5, 2), (64, 5, 2), (64, 5, 2))
"""Channels, width and stride of each convolution."""


class RhythmNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Logits (batch, labels) of `signal` (batch, 2, samples) and `context` (batch, features)."""

    def __init__(self, *, widen: float = 1.0, dropout: float = 0.3) -> None:
        super().__init__()
        inputs = SIGNAL_SHAPE[0]
        layers: list[nn.Module] = []
        for number, (channels, width, stride) in enumerate(_LAYERS):
            outputs = round(channels * widen)
            layers += [
                nn.Conv1d(inputs, outputs, width, stride, width // 2, bias=False),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
            ]
            if 0 < number < len(_LAYERS) - 1:
                layers.append(nn.Dropout(dropout / 3))
            inputs = outputs
        self.wave_size = 2 * inputs
        self.convolution = nn.Sequential(*layers)
        self.mean = nn.AdaptiveAvgPool1d(1)
        self.max = nn.AdaptiveMaxPool1d(1)
        self.rhythm = nn.Sequential(
            nn.Linear(len(CONTEXT), 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(64, 48),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * inputs + 48, 48),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(48, len(LABELS)),
        )

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.answer(self.wave(signal), context)

    def wave(self, signal: torch.Tensor) -> torch.Tensor:
        """(batch, `wave_size`): what the convolution makes of the signal, mean and maximum over time."""
        wave = self.convolution(signal)
        return torch.cat([self.mean(wave).flatten(1), self.max(wave).flatten(1)], dim=1)

    def answer(self, wave: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Logits from that and the context."""
        logits: torch.Tensor = self.head(torch.cat([wave, self.rhythm(context)], dim=1))
        return logits


def parameters(network: nn.Module) -> int:
    """How many numbers were fitted."""
    return int(sum(parameter.numel() for parameter in network.parameters()))
