"""Kinds of glucose forecasters on the same people held out: `python -m models.training.glucose_compare --data DIR`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from agent.signal.glucose_window import CONTEXT, SIGNAL_SHAPE
from models.training.glucose import FOLDS, SEED, gather, rmse, say
from models.training.glucose_examples import Examples, is_sparse
from models.training.glucose_network import MEANS, OUTPUTS, GlucoseNetwork, Recipe, fit, outputs_of, parameters
from models.training.glucose_records import folds, read_person, subjects

OF_LAST_HOURS = CONTEXT.index("day_mean")
"""The first so many measures are of the last three hours, the others of the day."""


class _Without(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The network that ships, some of its inputs shown as noughts."""

    def __init__(self, recipe: Recipe, signal: bool, measures: int) -> None:
        super().__init__()
        self.network = GlucoseNetwork(recipe)
        self.signal, self.measures = signal, measures

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        shown = torch.cat([context[:, : self.measures], torch.zeros_like(context[:, self.measures :])], dim=1)
        outputs: torch.Tensor = self.network(signal * float(self.signal), shown)
        return outputs


class _Beside(nn.Module):  # type: ignore[misc]
    """A network over time beside one over the measures."""

    def __init__(self, over_time: nn.Module, features: int) -> None:
        super().__init__()
        self.over_time = over_time
        self.measures = nn.Sequential(nn.Linear(len(CONTEXT), 64), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(features + 64, 64), nn.ReLU(), nn.Linear(64, OUTPUTS))

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(torch.cat([self.over_time(signal), self.measures(context)], dim=1))
        return outputs


class _Gru(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(SIGNAL_SHAPE[0], width, batch_first=True)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.gru(signal.transpose(1, 2))[1][0]
        return last


class _Transformer(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(3 * SIGNAL_SHAPE[0], width)
        self.place = nn.Parameter(0.02 * torch.randn(SIGNAL_SHAPE[1] // 3, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Three readings a token."""
        tokens = signal.unflatten(2, (-1, 3)).transpose(1, 2).flatten(2)
        last: torch.Tensor = self.layers(self.into(tokens) + self.place)[:, -1]
        return last


def _tcn(_: Recipe) -> nn.Module:
    layers: list[nn.Module] = []
    channels = SIGNAL_SHAPE[0]
    for dilation in (1, 2, 4):
        layers += [nn.Conv1d(channels, 32, 3, dilation=dilation), nn.BatchNorm1d(32), nn.ReLU()]
        channels = 32
    return _Beside(nn.Sequential(*layers, nn.Flatten()), 32 * (SIGNAL_SHAPE[1] - 14))


KINDS: dict[str, Callable[[Recipe], nn.Module]] = {
    "dense (ships)": GlucoseNetwork,
    "dense, nothing of the day": lambda recipe: _Without(recipe, True, OF_LAST_HOURS),
    "dense, measures only": lambda recipe: _Without(recipe, False, len(CONTEXT)),
    "convolutions": _tcn,
    "GRU": lambda _: _Beside(_Gru(32), 32),
    "transformer": lambda _: _Beside(_Transformer(32), 32),
}


def moves_of_ar2(examples: Examples) -> np.ndarray:
    """(n, OUTPUTS) as a network would give them, with AR2's forecast as the means."""
    outputs = np.zeros((len(examples), OUTPUTS), dtype=np.float32)
    for column, name in zip(MEANS, ("ar2_30", "ar2_60"), strict=True):
        outputs[:, column] = np.sinh(examples.context[:, CONTEXT.index(name)])
    return outputs


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with glucose/SET/SUBJECT.csv")
    parser.add_argument("--fold", type=int, default=0, help="which part of the people is held out")
    parser.add_argument("--passes", type=float, default=Recipe().passes)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    gathered = gather([read_person(options.data, dataset, name) for dataset, name in subjects()])
    held = folds(gathered.people, FOLDS, SEED)[options.fold]
    train, test = gathered.examples.without(held), gathered.examples.of(held)
    test = test.take(~is_sparse(test))
    say(f"{test.judged.sum()} readings of 5-minute sensors, fold {options.fold + 1}")
    say("| what | parameters | RMSE 30 | RMSE 60 | s |\n|---|---|---|---|---|")
    for name, outputs in (("last value", np.zeros((len(test), OUTPUTS), np.float32)), ("AR2", moves_of_ar2(test))):
        say("| {} | - | {:.2f} | {:.2f} | - |".format(name, *rmse(outputs, test)))
    recipe = replace(Recipe(), passes=options.passes)
    for name, build in KINDS.items():
        start = time.monotonic()
        network = fit(train, recipe, SEED, build=build)
        errors = rmse(outputs_of(network, test), test)
        say(
            "| {} | {} | {:.2f} | {:.2f} | {:.0f} |".format(
                name, parameters(network), *errors, time.monotonic() - start
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
