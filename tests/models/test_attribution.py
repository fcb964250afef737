"""Attributions point at what an answer rests on: without those samples the answer falls more than without others."""

from __future__ import annotations

import numpy as np
import pytest

from agent.inference import PackModel
from models.attribution import edges, log_odds, occlusions, without
from models.pack import load, shipped

PIECES = 25


def test_pieces_cover_every_sample_once() -> None:
    for samples in (8, 24, 25, 26, 125, 1000):
        covered = [k for low, high in edges(samples, PIECES) for k in range(low, high)]
        assert covered == list(range(samples))


def test_a_piece_is_bridged_by_a_straight_line_and_the_rest_left_alone() -> None:
    signal = np.array([[0.0, 1.0, 9.0, 9.0, 4.0, 5.0]], dtype=np.float32)
    assert without(signal, [(2, 4)])[0].tolist() == pytest.approx([0, 1, 2, 3, 4, 5])
    assert without(signal, [(0, 2)])[0].tolist() == pytest.approx([9, 9, 9, 9, 4, 5])
    assert without(signal, [(4, 6)])[0].tolist() == pytest.approx([0, 1, 9, 9, 9, 9])
    assert without(signal, [(0, 6)]).shape == signal.shape


def test_the_piece_that_an_answer_rests_on_is_found() -> None:
    def peak_above_one(batch: dict[str, np.ndarray]) -> np.ndarray:
        return (batch["signal"].max(axis=(1, 2)) > 1)[:, None].astype(np.float32)

    signal = np.zeros((1, 100), dtype=np.float32)
    signal[0, 53] = 2.0
    falls = occlusions(peak_above_one, [{"signal": signal}], [0], PIECES)[0]
    assert np.flatnonzero(falls).tolist() == [13]
    assert falls[13] == pytest.approx(18.4, abs=0.1)


def test_what_a_window_rests_on_does_not_depend_on_how_many_are_explained_with_it() -> None:
    model = PackModel(load(shipped("beat")))
    signals, contexts = _golden()
    windows = [{"signal": signals[k], "context": contexts[k]} for k in range(20)]
    answers = [k % 4 for k in range(20)]
    together = occlusions(model.probabilities, windows, answers, PIECES)
    assert together.shape == (20, PIECES)
    for k, (window, answer) in enumerate(zip(windows, answers, strict=True)):
        assert together[k].tobytes() == occlusions(model.probabilities, [window], [answer], PIECES)[0].tobytes()


def test_without_the_most_attributed_samples_the_beat_pack_is_less_sure_than_without_random_ones() -> None:
    """The deletion test of Samek et al. 2017, over the pack's own golden beats."""
    pack = load(shipped("beat"))
    model = PackModel(pack)
    signals, contexts = _golden()
    rng = np.random.default_rng(5)
    aimed, random = [], []
    for signal, context in zip(signals, contexts, strict=True):
        window = {"signal": signal, "context": context}
        shares = _shares(model, signal[None], context)[0]
        answer = int(shares.argmax())
        falls = occlusions(model.probabilities, [window], [answer], PIECES)[0]
        cuts = edges(signal.shape[1], PIECES)
        most = [cuts[k] for k in np.argsort(-falls)[:4]]
        others = [[cuts[k] for k in rng.permutation(len(cuts))[:4]] for _ in range(10)]
        after = _shares(model, np.stack([without(signal, cut) for cut in (most, *others)]), context)[:, answer]
        falls_by = log_odds(shares[answer]) - log_odds(after)
        aimed.append(falls_by[0])
        random.append(falls_by[1:].mean())
    assert np.mean(aimed) > 2 * np.mean(random) + 0.1
    assert np.mean(np.array(aimed) > np.array(random)) > 0.9


def _shares(model: PackModel, signals: np.ndarray, context: np.ndarray) -> np.ndarray:
    return model.probabilities({"signal": signals, "context": np.repeat(context[None], len(signals), axis=0)})


def _golden() -> tuple[np.ndarray, np.ndarray]:
    with np.load(shipped("beat") / "golden.npz") as arrays:
        return arrays["signal"], arrays["context"]
