"""Kinds of network for beats, side by side: `python -m models.training.compare --data DIR`.

The convolution that ships sees one beat, with the past in hand-made scalars. A recurrent net (Cho et al., EMNLP 2014)
and a transformer (Vaswani et al., NeurIPS 2017) see the last sixteen beats as a sequence besides. All are fitted by the
same recipe to the same examples, and judged on the same people held out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agent.signal.beat_features import CONTEXT
from models.training import datasets, scores
from models.training.beat import FOLDS, SEED, gather, say
from models.training.examples import LABELS, Examples, concatenate
from models.training.network import BeatNetwork, Recipe, fit, logits_of, parameters

Float32 = npt.NDArray[np.float32]

BEATS = 16
SEEN = (
    "rr_vs_q50",
    "rr_vs_mean2048",
    "qrs_similarity_normal",
    "qrs_similarity_last",
    "qrs_amplitude_ratio",
    "qrs_width_ratio",
    "p_correlation",
    "p_difference",
    "p_correlation_without_t",
    "p_difference_without_t",
    "t_difference",
    "cluster_is_normal",
)
"""What is kept of each beat of the sequence."""


class Sequence(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """The shipped network with a view of the last BEATS beats beside its context; `encode` makes (batch, 32) of it."""

    def __init__(self, encode: nn.Module) -> None:
        super().__init__()
        self.encode = encode
        self.single = BeatNetwork(len(CONTEXT) + 32)

    def forward(self, signal: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        own, past = context[:, : len(CONTEXT)], context[:, len(CONTEXT) :]
        logits: torch.Tensor = self.single(
            signal, torch.cat([own, self.encode(past.reshape(-1, BEATS, len(SEEN)))], dim=1)
        )
        return logits


class Recurrent(nn.Module):  # type: ignore[misc]
    """A gated recurrent unit's last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(len(SEEN), 32, batch_first=True)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.gru(past)[1][0]
        return last


class Attention(nn.Module):  # type: ignore[misc]
    """Two layers of self-attention, four heads; the last beat's place is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.put = nn.Linear(len(SEEN), 32)
        self.place = nn.Parameter(0.1 * torch.randn(BEATS, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.layers(self.put(past) + self.place)[:, -1]
        return last


KINDS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: BeatNetwork(len(CONTEXT)),
    "convolution + recurrent": lambda: Sequence(Recurrent()),
    "convolution + transformer": lambda: Sequence(Attention()),
}


def with_past(examples: Examples) -> Examples:
    """The same, with SEEN of the last BEATS beats (oldest first, this one last) behind the context of each.

    `examples`: of one stream, in order of time. Before the first beat there are zeros.
    """
    rows = examples.context[:, [CONTEXT.index(name) for name in SEEN]]
    padded = np.concatenate((np.zeros((BEATS - 1, len(SEEN)), np.float32), rows))
    past = np.lib.stride_tricks.sliding_window_view(padded, BEATS, axis=0).transpose(0, 2, 1)
    return replace(examples, context=np.concatenate((examples.context, past.reshape(len(rows), -1)), axis=1))


def microseconds_a_beat(network: nn.Module, width: int) -> float:
    """Median time of a batch of 256 on one thread, as torch runs it in float, by beat."""
    signal, context = torch.zeros(256, 2, 125), torch.zeros(256, width)
    times = []
    with torch.no_grad():
        for _ in range(50):
            start = time.perf_counter()
            network(signal, context)
            times.append(time.perf_counter() - start)
    return float(np.median(times)) / 256 * 1e6


def held_out(kind: str, plain: Examples, extra: Examples, folds: list[frozenset[str]], recipe: Recipe) -> str:
    """One row of the table: how well people are told apart that the networks had not met."""
    tests: list[Examples] = []
    logits: list[Float32] = []
    for number, held in enumerate(folds):
        away = [part.take(~np.isin(part.patient, list(held))) for part in (plain, extra)]
        test = plain.take(np.isin(plain.patient, list(held)))
        datasets.assert_disjoint([set(np.unique(part.patient).tolist()) for part in (concatenate(away), test)])
        torch.manual_seed(SEED + number)
        is_single = kind == "convolution"
        width = len(CONTEXT) if is_single else plain.context.shape[1]
        train = concatenate(away)
        network = fit(replace(train, context=train.context[:, :width]), recipe, SEED + number, network=KINDS[kind]())
        test = test.take(scores.scored(test))
        tests.append(test)
        logits.append(logits_of(network, replace(test, context=test.context[:, :width])))
    truth, said = np.concatenate([test.label for test in tests]), np.concatenate(logits)
    counts = scores.confusion(truth, (said + scores.operating_point(said, truth)).argmax(axis=1))
    s, v = (100 * scores.score(counts, label).f1 for label in "SV")
    us = microseconds_a_beat(network, width)
    state = 0 if is_single else 4 * BEATS * len(SEEN)
    return f"| {kind} | {s:.1f} | {v:.1f} | {(s + v) / 2:.1f} | {parameters(network)} | {us:.1f} | {state} |"


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints the table."""
    parser = argparse.ArgumentParser(description="Compare kinds of network on people held out.")
    parser.add_argument("--data", type=Path, required=True, help="folder with mitdb/, svdb/, noise/ and cinc2017/")
    parser.add_argument("--variants", type=int, default=3, help="how many variants of each recording to learn from")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    records = datasets.beat_records()
    plain, extra = gather(options.data, records, options.variants, with_past)
    folds = datasets.folds(records, FOLDS, SEED)
    say(f"{len(plain)} beats and {len(extra)} more, {FOLDS} folds, labels {' '.join(LABELS)}")
    say("| network | S F1 | V F1 | mean | parameters | µs a beat (float, batch 256) | bytes of past a person |")
    say("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        say(held_out(kind, plain, extra, folds, Recipe()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
