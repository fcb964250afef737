"""What the glucose network is shown, and what came: readings asked about, with what stood on the grid after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from agent.scoring.glucose import Grid
from agent.scoring.glucose_events import LE54_20, LT70_30
from agent.signal.glucose_window import CLOCK, prepare_each
from agent.signal.outlook import HIGH_MG_DL, HORIZONS_MIN
from models.training.glucose_records import Person
from models.vocabulary import GLUCOSE_LABELS

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LABELS = GLUCOSE_LABELS
HIGH_SLOTS = 6
IMMINENT_SLOTS = 2
LOCAL_S = 0.0
"""The files give local times, which are read as UTC."""
LEAST_SEEN = 1 / 3
"""That nothing happened is believed where so many of the readings came in which it would have been seen: those of a
15-minute sensor are enough."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Readings that stand for a slot of the grid, and what is known of what followed."""

    patient: npt.NDArray[np.str_]
    """(n,) `<set>/<subject>`."""
    t_ns: Int64
    mg_dl: Float64
    signal: npt.NDArray[np.float16]
    """(n, 3, 36)"""
    context: Float32
    """(n, k)"""
    change: Float32
    """(n, horizons) mg/dL from the reading to the one exactly at the horizon; nan where there is none."""
    event: Bools
    """(n, labels) whether it came."""
    counted: Bools
    """(n, labels) whether that is a question: it has not come yet, and enough is known of the time after."""
    imminent: Bools
    """(n, labels) whether it came within IMMINENT_SLOTS, or at once with a sensor of 15 minutes."""
    usable: Bools
    """(n,) whether enough of the last hour is known, as the protocol has it."""
    interval_slots: Int64
    """(n,) 1 of a 5-minute sensor, 3 of a 15-minute one."""

    def __len__(self) -> int:
        return len(self.patient)

    def take(self, rows: npt.NDArray[np.generic]) -> Examples:
        return Examples(*(getattr(self, part.name)[rows] for part in fields(self)))

    def of(self, people: frozenset[str]) -> Examples:
        """Those of these people."""
        return self.take(np.isin(self.patient, sorted(people)))

    def without(self, people: frozenset[str]) -> Examples:
        """Those of everybody else."""
        return self.take(~np.isin(self.patient, sorted(people)))

    @property
    def judged(self) -> Bools:
        """(n,) usable, with a reading at every horizon: what the protocol scores a forecast on."""
        judged: Bools = self.usable & np.isfinite(self.change).all(axis=1)
        return judged

    @property
    def inputs(self) -> dict[str, Float32]:
        """The network's inputs by name, in the order in which it takes them."""
        return {"signal": self.signal.astype(np.float32), "context": self.context}


def concatenate(parts: Sequence[Examples]) -> Examples:
    """All of them behind one another; at least one."""
    return Examples(*(np.concatenate([getattr(one, part.name) for one in parts]) for part in fields(Examples)))


def examples_of(person: Person) -> Examples:
    """Every reading that stands for a slot, with the history that the agent would have had."""
    grid = person.grid
    signal, context = prepare_each(person.times_ns, person.mg_dl, LOCAL_S)
    event, counted, imminent = _events(grid)
    return Examples(
        np.full(len(grid.slot), person.patient),
        person.times_ns[grid.reading],
        grid.mg_dl,
        signal[grid.reading].astype(np.float16),
        context[grid.reading],
        np.stack([grid.ahead(minutes) - grid.mg_dl for minutes in HORIZONS_MIN], axis=1).astype(np.float32),
        event,
        counted,
        imminent,
        grid.usable,
        grid.interval_slots,
    )


def _events(grid: Grid) -> tuple[Bools, Bools, Bools]:
    """(n, labels) each: what came, where that was a question, and what is imminent."""
    ahead = grid.at(grid.slot[:, None] + np.arange(1, HIGH_SLOTS + 1))
    now = grid.mg_dl
    urgent = ahead[:, : LE54_20.horizon_slots]
    there = [ahead < LT70_30.below_mg_dl, urgent < LE54_20.below_mg_dl, ahead > HIGH_MG_DL]
    open_yet = [now >= LT70_30.below_mg_dl, now >= LE54_20.below_mg_dl, now <= HIGH_MG_DL]
    known = [np.isfinite(part).mean(axis=1) for part in (ahead, urgent, ahead)]
    event = np.stack([np.any(part, axis=1) for part in there], axis=1)
    soon = np.arange(1, HIGH_SLOTS + 1) <= np.maximum(IMMINENT_SLOTS, grid.interval_slots)[:, None]
    imminent = np.stack([np.any(part & soon[:, : part.shape[1]], axis=1) for part in there], axis=1)
    counted = np.stack(open_yet, axis=1) & (event | (np.stack(known, axis=1) >= LEAST_SEEN - 0.1))
    return event, counted, imminent


def without_clock(examples: Examples) -> Examples:
    """The same as if nobody knew the time of day."""
    context = examples.context.copy()
    context[:, CLOCK] = 0.0
    return replace(examples, context=context)


def is_sparse(examples: Examples) -> Bools:
    """(n,) whether a sensor of 15 minutes was worn."""
    sparse: Bools = examples.interval_slots > 1
    return sparse
