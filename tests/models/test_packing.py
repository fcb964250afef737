"""A pack is written whole: four files that agree with the golden vectors, a manifest that is read back, a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="making a pack needs the [train] extra: torch is absent")
pytest.importorskip("onnxscript", reason="making a pack needs the [train] extra: onnxscript is absent")
pytest.importorskip("ai_edge_litert", reason="making a pack needs the [train] extra: ai-edge-litert is absent")
pytest.importorskip("tensorflow", reason="making a pack needs the [train] extra: tensorflow is absent")
pytest.importorskip("matplotlib", reason="making a pack needs the [train] extra: matplotlib is absent")

import torch
from torch import nn

from models.manifest import Conformal, Input, Output
from models.pack import PackError, load, verify
from models.training import card, conformal, export, plots
from models.training.packing import Facts, sources, write_pack

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter and TensorFlow warn of their own deprecations

LABELS = ("other", "shockable")


class Network(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 8, 7, 4, 3),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(8, outputs),
        )

    def forward(self, signal: Any) -> Any:
        return self.layers(signal)


def facts(**changes: Any) -> Facts:
    signal = {"kind": "ecg", "unit": "mV", "rate_hz": 125, "hop_s": 1.0, "before_s": 4.0, "after_s": 0.0}
    shape = {"band_hz": (0.5, 40.0), "prepare": [], "channels": 1, "samples": 500, "context": []}
    given: dict[str, Any] = {
        "task": "vf",
        "version": "0.1.0",
        "title": "Shockable rhythm",
        "intended_use": "Research.",
        "input": Input(**signal, **shape),
        "output": Output(
            labels=list(LABELS),
            temperature=1.2,
            conformal=Conformal(alpha=0.1, at_least={"other": 0.4, "shockable": 0.3}),
            omitted={},
        ),
        "latency_s": 0.5,
        "parameters": 82,
        "seed": 1,
        "command": "test",
        "sources": sources({"vfdb": ["418"], "cudb": ["cu01"]}),
    }
    return Facts(**{**given, **changes})


def signals(rows: int, seed: int) -> dict[str, np.ndarray]:
    return {"signal": np.random.default_rng(seed).normal(size=(rows, 1, 500)).astype(np.float32)}


def exported(folder: Path, outputs: int = 2) -> export.Exported:
    torch.manual_seed(1)
    return export.export_all(Network(outputs), signals(200, 1), folder, "vf")


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("pack")
    plot = plots.confusion_matrix(scratch / "confusion.png", np.array([[5, 1], [2, 9]]), LABELS)
    made = exported(scratch)
    text = card.text(
        card.Card(
            title="Shockable rhythm",
            version="0.1.0",
            intended_use="Research.",
            protocol=["Leave-people-out."],
            tables=[
                card.confusion_table(LABELS, [[5, 1], [2, 9]], "Rows are the reference:"),
                card.agreement_table(export.agreement(made, signals(50, 3)), 50, "windows"),
            ],
            network=["82 parameters."],
            sources=facts().sources,
            limits=["Adults."],
            plots={"confusion.png": "Reference over answer"},
        )
    )
    return write_pack(scratch / "vf", made, facts(), signals(32, 2), text, {"confusion.png": plot})


def test_the_pack_loads_and_says_what_it_was_told(pack_folder: Path) -> None:
    pack = load(pack_folder)
    assert verify(pack) == 0.0
    told, manifest = facts(), pack.manifest
    assert (manifest.task, manifest.input, manifest.output) == (told.task, told.input, told.output)
    assert (manifest.training.sources, manifest.training.seed) == (list(told.sources), 1)
    assert manifest.budget.parameters == 82
    assert {name: weights.precision for name, weights in manifest.weights.items()} == {
        "onnx": "int8",
        "onnx-s8": "int8",
        "tflite": "int8",
        "onnx-float": "float32",
    }


def test_the_golden_file_holds_what_each_file_gave(pack_folder: Path) -> None:
    with np.load(pack_folder / "golden.npz") as golden:
        for name in ("logits.onnx-s8", "logits.tflite"):
            assert golden[name].shape == golden["logits"].shape == (32, 2)
            assert golden[name] == pytest.approx(golden["logits"], abs=0.05)


def test_the_card_names_limits_licences_and_plots(pack_folder: Path) -> None:
    text = (pack_folder / "CARD.md").read_text(encoding="utf-8")
    for said in ("Not a medical device", "ODC-By", "Greenwald", "Nolle", "PhysioBank", "No treatment may rest on it"):
        assert said in " ".join(text.split())
    assert "![Reference over answer](confusion.png)" in text
    assert max(len(line) for line in text.splitlines()) <= 130
    assert (pack_folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_making_it_again_gives_the_same_bytes_but_for_the_time_it_takes(pack_folder: Path, tmp_path: Path) -> None:
    again = write_pack(tmp_path / "vf", exported(tmp_path), facts(), signals(32, 2), "card")
    for file in ("golden.npz", "vf.int8.onnx", "vf.tflite"):
        assert (again / file).read_bytes() == (pack_folder / file).read_bytes()


def test_a_network_with_a_logit_a_step_is_packed(tmp_path: Path) -> None:
    output = Output(labels=["beat"], steps=25, temperature=1.0)
    made = export.export_all(Network(25), signals(60, 1), tmp_path, "qrs")
    path = write_pack(tmp_path / "qrs", made, facts(task="qrs", output=output), signals(8, 2), "card")
    assert load(path).outputs == 25


def test_facts_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    made = exported(tmp_path, outputs=3)
    with pytest.raises(PackError, match="names 2 outputs"):
        write_pack(tmp_path / "vf", made, facts(), signals(8, 2), "card")


def test_each_plot_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    score = rng.random(200_000)
    truth = rng.random(200_000) < score
    for draw in (
        lambda path: plots.roc(path, {"V": (truth, score), "S": (truth, score**2)}),
        lambda path: plots.precision_recall(path, {"V": (truth, score)}),
        lambda path: plots.reliability(path, score, truth),
        lambda path: plots.training_curve(path, {"fold 1": (range(5000), np.exp(-np.arange(5000) / 1000))}),
        lambda path: plots.confusion_matrix(path, np.full((5, 5), 7), "NSVFQ"),
    ):
        one, again = draw(tmp_path / "one.png").read_bytes(), draw(tmp_path / "again.png").read_bytes()
        assert one == again
        assert 2_000 < len(one) <= plots.MAX_BYTES


def test_areas_are_those_of_known_curves() -> None:
    truth = np.array([True, False, True, False])
    true, false = plots._cumulative(truth, np.array([0.9, 0.8, 0.7, 0.7]))
    assert true.tolist() == [0, 1, 1, 2]
    assert false.tolist() == [0, 0, 1, 2]


def test_conformal_thresholds_keep_their_promise_on_new_windows() -> None:
    rng = np.random.default_rng(4)
    truth = np.repeat([0, 1, 2], [40_000, 4_000, 400])
    logits = rng.normal(size=(len(truth), 3))
    logits[np.arange(len(truth)), truth] += np.array([3.0, 1.0, 2.0])[truth]
    shares = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    half = rng.random(len(truth)) < 0.5
    found = conformal.thresholds(shares[half], truth[half], "NSV")
    seen = conformal.coverage(shares[~half], truth[~half], "NSV", found)
    assert all(
        abs(share - 0.9) < tolerance
        for share, tolerance in zip(seen.of_label.values(), (0.01, 0.03, 0.08), strict=True)
    )
    assert 0 < seen.unsure < 1


def test_a_label_with_few_windows_is_in_every_set_and_one_without_is_an_error() -> None:
    shares = np.array([[0.9, 0.1]] * 30 + [[0.99, 0.01]] * 3, dtype=np.float32)
    truth = np.array([0] * 30 + [1] * 3)
    assert conformal.thresholds(shares, truth, "NV").at_least == {"N": pytest.approx(0.9, abs=1e-5), "V": 0.0}
    with pytest.raises(ValueError, match="no held-out window is S"):
        conformal.thresholds(np.pad(shares, ((0, 0), (0, 1))), truth, "NVS")
    assert conformal.coverage(shares, truth, "NV", conformal.thresholds(shares, truth, "NV")).of_label["N"] == 1.0
