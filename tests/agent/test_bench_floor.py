"""The floor that `vagus bench --floor` prints: what is counted is counted right; how fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.bench import floor
from agent.cli import main
from agent.inference import shipped_models


def test_products_are_counted_from_the_layers_that_have_weights() -> None:
    """Of the second opinion: six convolutions, (outputs) x (channels) x (inputs of each), as its card draws them."""
    qrs = shipped_models().qrs
    assert qrs is not None
    steps = (49 * 24 * 2 * 10, 47 * 24 * 24 * 3, 43 * 24 * 24 * 3, 35 * 24 * 24 * 3, 27 * 24 * 24 * 3, 25 * 24 * 3)
    assert floor.macs(qrs.pack) == sum(steps)


def test_every_network_that_is_asked_has_its_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "BATCHES", (1, 2))
    monkeypatch.setattr(floor, "MOST", 2)
    monkeypatch.setattr(floor, "_BEST_OF", 1)
    assert main(["bench", "--floor", "--json", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert set(figures["networks"]) == set(shipped_models().by_task)
    assert figures["us_a_second"] == pytest.approx(sum(of["us_a_second"] for of in figures["networks"].values()))
    assert "sums and products a patient-second" in capsys.readouterr().out
