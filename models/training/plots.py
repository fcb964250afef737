"""Plots of a pack's card: small PNG files beside it, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

MAX_BYTES = 60_000
BINS = 15
CLARKE_LINES = (
    ((0, 0), (400, 400)),
    ((0, 70), (175 / 3, 70)),
    ((175 / 3, 70), (400 / 1.2, 400)),
    ((70, 84), (70, 400)),
    ((0, 180), (70, 180)),
    ((70, 180), (290, 400)),
    ((70, 0), (70, 56)),
    ((70, 56), (400, 320)),
    ((180, 0), (180, 70)),
    ((180, 70), (400, 70)),
    ((240, 70), (240, 180)),
    ((240, 180), (400, 180)),
    ((130, 0), (180, 70)),
)
CLARKE_NAMES = (
    ((20, 20), "A"), ((350, 240), "B"), ((240, 350), "B"), ((150, 360), "C"), ((150, 10), "C"), ((20, 120), "D"),
    ((320, 110), "D"), ((20, 300), "E"), ((320, 20), "E"),
)  # fmt: skip


def confusion_matrix(path: Path, counts: npt.NDArray[np.integer], labels: Sequence[str], title: str = "") -> Path:
    """Rows the reference, columns the answer: `counts` (labels, labels), shaded by share of the row."""
    figure, axes = _figure(title)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        dark = shares[row, column] > 0.6
        text = f"{counts[row, column]}\n{100 * shares[row, column]:.1f} %"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("answer")
    axes.set_ylabel("reference")
    return _save(figure, path)


def roc(path: Path, curves: Mapping[str, tuple[Bools, Floats]], title: str = "") -> Path:
    """Sensitivity over false positive rate of each named (truth, score), with the area under it."""
    figure, axes = _figure(title)
    for name, (truth, score) in curves.items():
        true, false = _cumulative(truth, score)
        x, y = false / max(int(false[-1]), 1), true / max(int(true[-1]), 1)
        axes.plot(*_thin(x, y), label=f"{name}: area {np.trapezoid(y, x):.4f}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    return _of_shares(figure, axes, "1 - specificity", "sensitivity", path)


def precision_recall(path: Path, curves: Mapping[str, tuple[Bools, Floats]], title: str = "") -> Path:
    """Positive predictivity over sensitivity of each named (truth, score), with the average precision."""
    figure, axes = _figure(title)
    for name, (truth, score) in curves.items():
        true, false = (counts[1:] for counts in _cumulative(truth, score))
        precision, recall = true / (true + false), true / max(int(true[-1]), 1)
        average = float((np.diff(recall, prepend=0.0) * precision).sum())
        axes.plot(*_thin(recall, precision), label=f"{name}: average {average:.4f}")
    return _of_shares(figure, axes, "sensitivity", "positive predictivity", path)


def reliability(path: Path, confidence: Floats, right: Bools, title: str = "") -> Path:
    """How often answers are right over how sure they are: `confidence` (n,) in 0 to 1, `right` (n,); 15 equal bins."""
    figure, axes = _figure(title)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    numbers = np.bincount(place, minlength=BINS)
    there = numbers > 0
    sure = np.bincount(place, confidence, BINS)[there] / numbers[there]
    hits = np.bincount(place, right, BINS)[there] / numbers[there]
    error = float((np.abs(sure - hits) * numbers[there]).sum() / max(len(confidence), 1))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    axes.scatter(sure, hits, s=8 + 60 * numbers[there] / numbers.max(), label=f"calibration error {error:.4f}")
    return _of_shares(figure, axes, "calibrated probability of the answer", "share that is right", path)


def training_curve(path: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str = "") -> Path:
    """Each named (steps, values), such as losses of one fold."""
    figure, axes = _figure(title)
    for name, (steps, values) in curves.items():
        axes.plot(*_thin(np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)), label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return _save(figure, path)


def error_grid(path: Path, reference: Floats, predicted: Floats, title: str = "") -> Path:
    """How many pairs in mg/dL, (n,) each, fall where in the error grid of Clarke et al. 1987 (shaded by logarithm)."""
    figure, axes = _figure(title)
    edges = np.linspace(0, 400, 81)
    counts, _, _ = np.histogram2d(reference, predicted, bins=[edges, edges])
    shade = np.log1p(counts.T)
    axes.imshow(shade, origin="lower", extent=(0, 400, 0, 400), cmap="Blues", vmax=max(float(shade.max()), 1.0))
    for line in CLARKE_LINES:
        axes.plot(*zip(*line, strict=True), color="black", linewidth=0.6)
    for (x, y), zone in CLARKE_NAMES:
        axes.text(x, y, zone, fontsize=8)
    axes.set_xlim(0, 400)
    axes.set_ylim(0, 400)
    axes.set_xlabel("reading that came, mg/dL", fontsize=8)
    axes.set_ylabel("forecast, mg/dL", fontsize=8)
    return _save(figure, path)


def trade_off(path: Path, curves: Mapping[str, tuple[Floats, Floats]], title: str = "") -> Path:
    """Share of events over false alerts a day, of each named (false a day, share); one pair alone is a mark."""
    figure, axes = _figure(title)
    for name, (false, share) in curves.items():
        axes.plot(false, share, "o" if len(false) == 1 else "-", markersize=4, linewidth=1, label=name)
    axes.set_xlim(0, 3)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false alerts a day", fontsize=8)
    axes.set_ylabel("share of events", fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, loc="lower right")
    return _save(figure, path)


def fans(
    path: Path,
    hours: Floats,
    mg_dl: Floats,
    at: Sequence[tuple[float, Floats, Floats, Floats, Floats]],
    title: str = "",
) -> Path:
    """A course of readings with forecasts drawn from some of them: (hour, hours ahead, low, mean, high)."""
    figure, axes = _figure(title)
    axes.plot(hours, mg_dl, ".", markersize=2, color="black")
    for hour, ahead, low, mean, high in at:
        axes.fill_between(hour + ahead, low, high, alpha=0.25, color="tab:blue", linewidth=0)
        axes.plot(hour + ahead, mean, color="tab:blue", linewidth=1)
    for level in (70, 250):
        axes.axhline(level, color="grey", linewidth=0.5)
    axes.set_xlabel("hour", fontsize=8)
    axes.set_ylabel("glucose, mg/dL", fontsize=8)
    return _save(figure, path)


def _cumulative(truth: Bools, score: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """True and false positives at each distinct threshold, from none called to all."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    true = np.append(0, np.cumsum(truth[order])[ends]).astype(np.int64)
    return true, np.append(0, ends + 1).astype(np.int64) - true


def _thin(x: Floats, y: Floats, most: int = 400) -> tuple[Floats, Floats]:
    if len(x) <= most:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[kept], y[kept]


def _figure(title: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(3.6, 3.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    return figure, axes


def _of_shares(figure: Any, axes: Any, x: str, y: str, path: Path) -> Path:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower center")
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, format="png", metadata={"Software": None})
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} is {path.stat().st_size} bytes, a pack's plot may have {MAX_BYTES}")
    return path
