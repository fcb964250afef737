"""What each part of the rhythm network is worth: `python -m models.training.rhythm_compare --data DIR [--only NAME]`.

Networks that see less, or end otherwise, on the same folds of CinC 2017 and with the same recipe; float, no constants.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from agent.scoring.rhythm import f1_by_class, mean_f1
from models.training.rhythm import FOLDS, SEED, gather, pool_of, said_of, say
from models.training.rhythm_fit import Recipe, fit, logits_of
from models.training.rhythm_network import RhythmNetwork, parameters
from models.training.rhythm_records import LABELS, stratified_folds
from models.training.rhythm_scores import answers, letters, truth


class RecurrentNetwork(RhythmNetwork):
    """A GRU over what the convolution makes of the signal, in the place of its mean and maximum over time."""

    def __init__(self, *, widen: float = 1.0, dropout: float = 0.3) -> None:
        super().__init__(widen=widen, dropout=dropout)
        self.recurrent = nn.GRU(self.wave_size // 2, self.wave_size // 2, batch_first=True, bidirectional=True)

    def wave(self, signal: torch.Tensor) -> torch.Tensor:
        """(batch, `wave_size`): the mean of the states in both directions."""
        states, _ = self.recurrent(self.convolution(signal).transpose(1, 2))
        mean: torch.Tensor = states.mean(dim=1)
        return mean


class AttentiveNetwork(RhythmNetwork):
    """One transformer layer over it, before the mean and the maximum."""

    def __init__(self, *, widen: float = 1.0, dropout: float = 0.3) -> None:
        super().__init__(widen=widen, dropout=dropout)
        size = self.wave_size // 2
        self.attention = nn.TransformerEncoderLayer(size, 4, 2 * size, dropout / 3, batch_first=True)

    def wave(self, signal: torch.Tensor) -> torch.Tensor:
        """(batch, `wave_size`)."""
        steps = self.attention(self.convolution(signal).transpose(1, 2))
        return torch.cat([steps.mean(dim=1), steps.amax(dim=1)], dim=1)


@dataclass(frozen=True, slots=True)
class Rival:
    """A network, and what it is shown."""

    recipe: Recipe
    make: Callable[..., RhythmNetwork] = RhythmNetwork


_CONTEXT_ONLY = Recipe(epochs=0, warm_steps=2000, signal=False)
RIVALS = {
    "rr": Rival(replace(_CONTEXT_ONLY, beat_shape=False)),
    "rr+beat": Rival(_CONTEXT_ONLY),
    "cnn": Rival(Recipe(context=False)),
    "cnn+context": Rival(Recipe()),
    "cnn+gru+context": Rival(Recipe(), RecurrentNetwork),
    "cnn+transformer+context": Rival(Recipe(), AttentiveNetwork),
}
"""RR statistics; with the mean beat's; the convolution over signal and RR track; both: what ships; two other ends."""


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare rhythm networks on held-out recordings of CinC 2017.")
    parser.add_argument("--data", type=Path, required=True, help="folder as models.training.fetch leaves it")
    parser.add_argument("--cache", type=Path, help="folder to keep streamed recordings in (default: DIR/streamed)")
    parser.add_argument("--folds", type=int, default=1, help="how many of the five folds to hold out in turn")
    parser.add_argument("--only", choices=RIVALS, action="append", help="these networks only")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    everybody = gather(options.data, options.cache or options.data / "streamed", 3)
    pool = pool_of(everybody, np.random.default_rng(SEED))
    folds = stratified_folds(everybody.labels, FOLDS, SEED)[: options.folds]
    for name in options.only or RIVALS:
        rival = RIVALS[name]
        true: list[str] = []
        said: list[str] = []
        size = 0
        for number, held in enumerate(folds):
            network = fit(pool.without(held), rival.recipe, SEED + number, make=rival.make)
            size = parameters(network)
            test = [recording for recording in everybody.short[0] if recording.patient in held]
            found = said_of(test, lambda windows, n=network, r=rival.recipe: logits_of(n, windows, r))  # type: ignore[misc]
            true += truth(found)
            said += letters(answers(found, np.zeros(len(LABELS), dtype=np.float32)))
        by_class = ", ".join(f"{label} {f1:.3f}" for label, f1 in f1_by_class(true, said).items())
        say(f"{name}: {size} parameters, {len(true)} recordings, mean F1 {mean_f1(true, said):.4f} ({by_class})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
