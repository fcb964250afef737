"""What the second opinion learns from, and that its network answers the steps it is asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("wfdb")

import torch

from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.second_opinion import FIRST_STEP, HOP, SIGNAL_SHAPE, STEP, STEPS, WINDOW
from models.training.datasets import RefusedRecordError
from models.training.opinion_windows import Path250, Windows, beatless_paths, targets
from models.training.second_opinion import OpinionNetwork, golden_inputs, hop_ends
from models.training.vf_records import VfRecord

NOISES = {name: np.zeros(2 * WINDOW, np.float32) for name in ("em0", "em1")}


def path(beats: list[int], unknown: list[tuple[float, float]] | None = None, seconds: int = 20) -> Path250:
    leads = np.random.default_rng(0).normal(0, 0.1, (2, seconds * 250)).astype(np.float32)
    return Path250("mitdb/101", leads, np.array(beats, dtype=np.int64), unknown or [], 1.0)


def test_a_step_is_a_beats_where_the_r_peak_comes_out_of_the_filters() -> None:
    target, weight = targets(path([1000]))
    where = 1000 + MORPHOLOGY_DELAY
    assert target[where] == 1
    assert target[where - STEP] == target[where + STEP] == pytest.approx(0.5)
    assert target[[where - 2 * STEP, where + 2 * STEP]].sum() == 0
    assert weight.min() == 1


def test_nothing_is_learnt_of_a_stretch_that_nobody_annotated() -> None:
    _, weight = targets(path([1000], [(1500, 3000)]))
    assert weight[1500:3000].max() == 0
    assert weight[:1400].min() == weight[3100:].min() == 1


def test_a_beat_is_in_the_steps_of_every_window_that_holds_it() -> None:
    beats = list(range(700, 4900, 200))
    _, y, w = Windows([path(beats)], NOISES, seed=3).draw(64)
    assert y.shape == w.shape == (64, STEPS)
    assert np.all(y.sum(axis=1) >= HOP // 200)  # a second holds at least one beat of every 0.8 s


def test_the_same_seed_draws_the_same_windows() -> None:
    first, second = (Windows([path([1000, 1200])], NOISES, seed=5).draw(16)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (16, *SIGNAL_SHAPE)


def test_the_network_sees_half_a_second_to_either_side_of_a_step_and_no_more() -> None:
    network = OpinionNetwork().eval()
    torch.manual_seed(0)
    some = torch.randn(1, *SIGNAL_SHAPE)
    for step in (0, 12, STEPS - 1):
        touched = some.clone().requires_grad_()
        network(touched)[0, step].backward()
        seen = torch.nonzero(touched.grad[0].abs().sum(dim=0))[:, 0]
        # The moving mean's half width, 24 samples, follows the last sample of the input.
        first, last = (WINDOW - 24 - 2 * (SIGNAL_SHAPE[1] - int(i)) for i in (seen.min(), seen.max()))
        middle = FIRST_STEP + STEP * step + STEP // 2
        assert middle - 140 <= first < middle - 100
        assert middle + 100 < last <= middle + 140


def test_windows_end_at_every_whole_second_from_the_third_on() -> None:
    assert hop_ends(1749).tolist() == [750, 1000, 1250, 1500]
    assert golden_inputs()["signal"].shape == (64, *SIGNAL_SHAPE)


def test_records_that_judge_are_refused() -> None:
    with pytest.raises(RefusedRecordError):
        beatless_paths(Path("nowhere"), VfRecord("cudb", "cu08"))
