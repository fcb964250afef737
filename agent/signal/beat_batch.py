"""The beats of a ward whose time has come, and the classifier's inputs of all of them as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, zip_longest

import numpy as np
import numpy.typing as npt

from agent.signal.beat_features import AFTER_SAMPLES, BEFORE_SAMPLES, BeatFeatures
from agent.signal.pending import DueBeat
from agent.signal.track import EcgTrack

Float32 = npt.NDArray[np.float32]


@dataclass(slots=True)
class Due:
    """A beat to be classified."""

    track: EcgTrack
    beat: DueBeat
    window: Float32 | None
    """The morphology path around it; None where the run does not hold it."""
    row: int | None = None
    """Which of the batch it is; None where it is not in it."""


def due_beats(track: EcgTrack) -> list[Due]:
    """The track's beats whose time has come, in order; each is given once."""
    return [
        Due(track, beat, track.window(beat.r_index, BEFORE_SAMPLES, AFTER_SAMPLES))
        for beat in track.pending.take_due(track.count)
    ]


def batch(features: BeatFeatures, due: Sequence[Sequence[Due]]) -> dict[str, Float32]:
    """Inputs of the beats of each track whose window is held: everybody's first, then everybody's second, and so on.

    Each of these beats is told its row. Empty where there are none.
    """
    parts: list[tuple[Float32, Float32]] = []
    rows = count()
    for turn in zip_longest(*([one for one in beats if one.window is not None] for beats in due if beats)):
        shown = [one for one in turn if one is not None]
        windows = np.stack([one.window for one in shown if one.window is not None])
        parts.append(features.push([one.track.features for one in shown], windows, [one.beat for one in shown]))
        for one in shown:
            one.row = next(rows)
    if not parts:
        return {}
    signal, context = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return {"signal": signal, "context": context}
