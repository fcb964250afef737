"""What the shipped networks say of a window is the same bits in a batch of any size."""

from __future__ import annotations

import numpy as np
import pytest

from agent.inference import shipped_models
from models.pack import golden

MOST = 300


@pytest.mark.parametrize("task", ["beat", "qrs", "rhythm", "vf", "glucose"])
def test_a_window_gets_the_same_bits_in_a_batch_of_any_size(task: str) -> None:
    """Of 1 to 300 rows, each time with others before and behind: no run of the network sees the same company."""
    model = shipped_models().by_task[task]
    kept, _ = golden(model.pack)
    which = np.random.default_rng(4).integers(0, len(kept["signal"]), MOST)
    batch = {name: array[which] for name, array in kept.items()}
    alone = np.concatenate(
        [model.probabilities({name: array[k : k + 1] for name, array in batch.items()}) for k in range(MOST)]
    )
    for rows in range(1, MOST + 1):
        chosen = (7 * rows + np.arange(rows)) % MOST
        together = model.probabilities({name: array[chosen] for name, array in batch.items()})
        assert together.tobytes() == alone[chosen].tobytes(), rows
