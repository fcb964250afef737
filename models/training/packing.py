"""Write a finished pack: its weights, manifest, golden vectors, card and plots. The same for every pack."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from agent.signal.filters import MORPHOLOGY_BAND_HZ
from models.backends import open_backend
from models.manifest import MANIFEST_NAME, SCHEMA, Input, Output, Source, WeightsName
from models.pack import load, verify
from models.training import export
from models.training.datasets import ATTRIBUTION, LICENCE, LICENCES
from models.training.export import FLOAT, Exported
from models.vocabulary import PrepareStep, Task

Float32 = npt.NDArray[np.float32]

GOLDEN = "golden.npz"
GOLDEN_TOLERANCE = 0.02
MADE_WITH = ("torch", "onnxruntime", "tensorflow-cpu", "tensorflow")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the manifest says of a pack, besides what can be found out of its files."""

    task: Task
    version: str
    title: str
    intended_use: str
    input: Input
    output: Output
    latency_s: float
    parameters: int
    seed: int
    command: str
    """What makes the pack again."""
    sources: Sequence[Source]


def ecg_input(
    *,
    before_s: float,
    after_s: float = 0.0,
    hop_s: float | None = None,
    prepare: Sequence[str],
    shape: tuple[int, int],
    context: Sequence[str],
) -> Input:
    """What the manifest says of a window of the morphology path: `shape` is (channels, samples) of the signal."""
    return Input(
        kind="ecg",
        unit="mV",
        rate_hz=250,
        hop_s=hop_s,
        before_s=before_s,
        after_s=after_s,
        band_hz=MORPHOLOGY_BAND_HZ,
        prepare=cast("list[PrepareStep]", list(prepare)),
        channels=shape[0],
        samples=shape[1],
        context=list(context),
    )


def cgm_input(
    *,
    before_s: float,
    prepare: Sequence[str],
    shape: tuple[int, int],
    context: Sequence[str],
    interval_s: float = 300.0,
) -> Input:
    """What the manifest says of a window of readings on a grid: `shape` is (channels, slots) of the signal."""
    return Input(
        kind="cgm",
        unit="mg/dL",
        interval_s=interval_s,
        before_s=before_s,
        after_s=0.0,
        prepare=cast("list[PrepareStep]", list(prepare)),
        channels=shape[0],
        samples=shape[1],
        context=list(context),
    )


def sources(records: Mapping[str, Sequence[str]]) -> list[Source]:
    """What the manifest says of each database, by its name in ATTRIBUTION, with the records that were learnt from."""
    return [
        Source(
            database=database,
            title=ATTRIBUTION[database][0],
            licence=LICENCES.get(database, LICENCE),
            attribution=ATTRIBUTION[database][1],
            records=list(names),
        )
        for database, names in records.items()
    ]


def framework() -> str:
    """Names and versions of what the pack is made with."""
    found = []
    for name in MADE_WITH:  # TensorFlow comes in a package of another name on other machines
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name).split('+')[0]}")
    return ", ".join(found)


def write_pack(
    folder: Path,
    exported: Exported,
    facts: Facts,
    golden_inputs: Mapping[str, Float32],
    card: str,
    plots: Mapping[str, Path] | None = None,
) -> Path:
    """The pack in `folder`, made new and verified; its golden logits are what its own files give here.

    `golden_inputs`: some dozens of rows of each input of the network, float32, of nobody: no recording may be in them.
    `card`: the text of CARD.md (models.training.card). `plots`: file name in the pack: where it is now.
    Raises models.pack.PackError when the manifest or the golden run do not fit the network.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in export.ENDINGS:
        shutil.copyfile(exported.path(name), folder / f"{folder.name}.{export.ENDINGS[name]}")
    for file, path in (plots or {}).items():
        shutil.copyfile(path, folder / file)
    (folder / "CARD.md").write_text(card, encoding="utf-8")
    inputs = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in golden_inputs.items()}
    logits = {name: export.run(exported, name, inputs) for name in export.ENDINGS}
    _write_golden(folder / GOLDEN, inputs, logits)
    batch_us = export.microseconds_a_row(exported, inputs)
    _write_manifest(folder, facts, batch_us)
    logits["onnx"] = open_backend(load(folder)).run(inputs)
    _write_golden(folder / GOLDEN, inputs, logits)
    _write_manifest(folder, facts, batch_us)
    verify(load(folder))
    return folder


def _write_golden(path: Path, inputs: Mapping[str, Float32], logits: Mapping[WeightsName, Float32]) -> None:
    """Inputs by name; `logits` of the network on the CPU, and what each other file gave, by "logits." and its name."""
    others = {f"logits.{name}": array for name, array in logits.items() if name != "onnx"}
    arrays: dict[str, Any] = {**inputs, **others, "logits": logits["onnx"]}
    np.savez_compressed(path, **arrays)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_manifest(folder: Path, facts: Facts, batch_us: float) -> None:
    output = _keys(facts.output)
    conformal, omitted, forecast = (output.pop(name, None) for name in ("conformal", "omitted", "forecast"))
    events = {name: output.pop(name, {}) for name in ("platt", "alarm")}
    tables: dict[str, dict[str, Any]] = {
        "": {
            "schema": SCHEMA,
            "id": folder.name,
            "task": facts.task,
            "version": facts.version,
            "title": facts.title,
            "intended_use": facts.intended_use,
        },
        "input": _keys(facts.input),
        "output": output,
    }
    if omitted:
        tables["output.omitted"] = omitted
    if conformal:
        tables["output.conformal"] = {"alpha": conformal["alpha"]}
        tables["output.conformal.at_least"] = conformal["at_least"]
    if forecast:
        tables["output.forecast"] = forecast
    tables |= {f"output.{name}.{label}": table for name, labels in events.items() for label, table in labels.items()}
    tables["budget"] = {"latency_s": facts.latency_s, "parameters": facts.parameters, "batch_us": batch_us}
    for name, ending in export.ENDINGS.items():
        file = f"{folder.name}.{ending}"
        precision = "float32" if name == FLOAT else "int8"
        tables[f"weights.{name}"] = {"file": file, "sha256": _sha256(folder / file), "precision": precision}
    tables["golden"] = {"file": GOLDEN, "sha256": _sha256(folder / GOLDEN), "tolerance": GOLDEN_TOLERANCE}
    tables["training"] = {
        "seed": facts.seed,
        "command": facts.command,
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "framework": framework(),
    }
    text = "".join(_table(f"[{name}]" if name else "", keys) for name, keys in tables.items())
    text += "".join(_table("[[training.sources]]", _keys(source)) for source in facts.sources)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def _keys(table: BaseModel) -> dict[str, Any]:
    return table.model_dump(exclude_none=True)


def _table(header: str, keys: dict[str, Any]) -> str:
    """A TOML table; JSON's strings, numbers and arrays are TOML's."""
    lines = [header] if header else []
    lines += [f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)
