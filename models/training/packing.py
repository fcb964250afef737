"""Write a finished pack: its weights, manifest, golden vectors and card."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.signal.beat_features import AFTER_S, BEFORE_S, CONTEXT, PREPARE, RATE_HZ, SIGNAL_SHAPE, BeatFeatures
from agent.signal.filters import MORPHOLOGY_BAND_HZ
from models.backends import open_backend
from models.manifest import MANIFEST_NAME
from models.pack import load
from models.training.card import card
from models.training.datasets import ATTRIBUTION, LICENCE, Record
from models.training.examples import LABELS, Examples

Float32 = npt.NDArray[np.float32]

VERSION = "0.1.0"
TITLE = "Heart beats: normal, supraventricular ectopic, ventricular ectopic"
INTENDED_USE = (
    "Research. Labels beats that vagus's detector found in one ECG lead of an adult. Not a medical device, not "
    "validated for diagnosis; paced rhythm, children and intracardiac signals were never seen."
)
OMITTED = {
    "F": "nine in ten fusion beats of the training records are one person's: a class of its own cannot be learnt"
}
GOLDEN_ROWS = 64
GOLDEN_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the manifest and the card say of how a pack came to be."""

    records: list[Record]
    rhythms: bool
    noise: bool
    seed: int
    command: str
    framework: str
    parameters: int
    batch_us: float
    bias: Float32
    temperature: float
    folds: int
    truth: Examples
    """Held-out beats."""
    float_logits: Float32
    """Held out, at the operating point."""
    int8_logits: Float32
    reference: list[dict[str, int]]
    """Per record, scored reference beats of each class."""

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Every database that was learnt from, as the manifest lists it."""
        by_database = {
            database: [record.name for record in self.records if record.database == database]
            for database in sorted({record.database for record in self.records})
        }
        if self.rhythms:
            by_database["cinc2017"] = ["all recordings of the given nine tenths labelled N or A"]
        if self.noise:
            by_database["nstdb"] = ["bw", "em", "ma"]
        return [
            {
                "database": database,
                "title": ATTRIBUTION[database][0],
                "licence": LICENCE,
                "attribution": ATTRIBUTION[database][1],
                "records": names,
            }
            for database, names in by_database.items()
        ]


def write_pack(folder: Path, quantized: Path, full: Path, facts: Facts) -> Path:
    """The pack in `folder` (made new); the golden logits are what its own weights give here."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(quantized, folder / "beat.int8.onnx")
    shutil.copyfile(full, folder / "beat.float.onnx")
    signal, context = golden_inputs()
    empty = np.zeros((len(signal), len(LABELS)), dtype=np.float32)
    _write_golden(folder / "golden.npz", signal, context, empty)
    _write_manifest(folder, facts)
    logits = open_backend(load(folder)).run({"signal": signal, "context": context})
    _write_golden(folder / "golden.npz", signal, context, logits)
    _write_manifest(folder, facts)
    (folder / "CARD.md").write_text(card(facts, VERSION, TITLE, INTENDED_USE, OMITTED), encoding="utf-8")
    return folder


def golden_inputs() -> tuple[Float32, Float32]:
    """Signal (64, 2, 125) and context (64, features) of an invented person's beats: no recording is in them."""
    rng = np.random.default_rng(64)
    t = (np.arange(250) - 125) / RATE_HZ
    features = BeatFeatures()
    state = features.new_state()
    signals, contexts = [], []
    r_ns = 1_000_000_000
    for number in range(GOLDEN_ROWS):
        wide, early = number % 7 == 5, number % 5 == 3 or number % 7 == 5
        r_ns += int((0.52 if early else 0.80) * 1e9 + rng.normal() * 1e7)
        width = 0.035 if wide else 0.012
        beat = (-1.4 if wide else 1.0) * np.exp(-((t / width) ** 2)) + 0.25 * np.exp(-(((t - 0.28) / 0.06) ** 2))
        if not wide:
            beat += 0.12 * np.exp(-(((t + 0.16) / 0.025) ** 2))
        signal, context = features.push(state, beat + 0.02 * rng.normal(size=len(t)), r_ns)
        signals.append(signal)
        contexts.append(context)
    return np.stack(signals), np.stack(contexts)


def _write_golden(path: Path, signal: Float32, context: Float32, logits: Float32) -> None:
    np.savez_compressed(path, signal=signal, context=context, logits=logits)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_manifest(folder: Path, facts: Facts) -> None:
    channels, samples = SIGNAL_SHAPE
    tables: dict[str, dict[str, Any]] = {
        "": {
            "schema": 2,
            "id": folder.name,
            "task": "beat",
            "version": VERSION,
            "title": TITLE,
            "intended_use": INTENDED_USE,
        },
        "input": {
            "kind": "ecg",
            "unit": "mV",
            "rate_hz": int(RATE_HZ),
            "before_s": BEFORE_S,
            "after_s": AFTER_S,
            "band_hz": list(MORPHOLOGY_BAND_HZ),
            "prepare": list(PREPARE),
            "channels": channels,
            "samples": samples,
            "context": list(CONTEXT),
        },
        "output": {"labels": list(LABELS), "temperature": facts.temperature},
        "output.omitted": OMITTED,
        "budget": {"latency_s": 0.6, "parameters": facts.parameters, "batch_us": facts.batch_us},
        "weights.onnx": {
            "file": "beat.int8.onnx",
            "sha256": _sha256(folder / "beat.int8.onnx"),
            "precision": "int8",
        },
        "weights.onnx-float": {
            "file": "beat.float.onnx",
            "sha256": _sha256(folder / "beat.float.onnx"),
            "precision": "float32",
        },
        "golden": {
            "file": "golden.npz",
            "sha256": _sha256(folder / "golden.npz"),
            "tolerance": GOLDEN_TOLERANCE,
        },
        "training": {
            "seed": facts.seed,
            "command": facts.command,
            "created": datetime.now(UTC).strftime("%Y-%m-%d"),
            "framework": facts.framework,
        },
    }
    text = "".join(_table(f"[{name}]" if name else "", keys) for name, keys in tables.items())
    text += "".join(_table("[[training.sources]]", source) for source in facts.sources)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def _table(header: str, keys: dict[str, Any]) -> str:
    """A TOML table; JSON's strings, numbers and arrays are TOML's."""
    lines = [header] if header else []
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n\n"
