"""Files of glucose readings through the live engine, many people side by side, and what it said at each row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
import numpy.typing as npt

from agent.alarms.alert import AlertEvent, Phase
from agent.alarms.limits import Limits
from agent.alarms.observation import Observation
from agent.engine import Engine
from agent.inference import Models
from agent.ingest.glucose_csv import RECORDED, GlucoseFile
from agent.patient import Person
from agent.signal.outlook import Outlook
from firmware_bridge.chunk import NS_PER_S, Chunk

Float64 = npt.NDArray[np.float64]
LOW_RULE, URGENT_RULE = "predicted_low", "urgent_low_soon"
IN_FORCE_NS = 15 * 60 * NS_PER_S
"""So long does an outlook stand for a row that brought no new one: a reading twice, a late one, one that cannot be."""
FIGURES = ("f30", "f30_lo", "f30_hi", "f60", "f60_lo", "f60_hi", "p_lt70_30", "p_le54_20")


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the engine said at each row of a file, knowing the rows' times up to it and no later one."""

    figures: dict[str, Float64]
    """FIGURES, each (n,); nan where nothing was said."""
    alarm_low: npt.NDArray[np.bool_]
    """(n,) a low within 30 min is alarmed on."""
    alarm_urgent: npt.NDArray[np.bool_]
    """(n,) an urgent low within 20 min is."""
    counts: Counter[str]
    """Rows: "said" anew; "in force", said at a row before; and blank ones, "no reading" or "nothing said"."""


class Heard:
    """What was heard of one person while the readings streamed."""

    def __init__(self) -> None:
        self._t_ns = array("q")
        self._figures = array("d")
        self._changes: dict[str, list[tuple[int, bool]]] = {LOW_RULE: [], URGENT_RULE: []}

    def take(self, outlook: Outlook) -> None:
        """The next outlook. They come in the order of their times: only a reading newer than all before brings one."""
        at = {one.minutes: one for one in outlook.expected}
        self._t_ns.append(outlook.t_ns)
        for minutes in (30, 60):
            self._figures.extend((at[minutes].mg_dl, at[minutes].low_mg_dl, at[minutes].high_mg_dl))
        self._figures.extend((outlook.low.p, outlook.urgent_low.p))

    def alert(self, event: AlertEvent) -> None:
        """The next alert, in the order of the time at which they were decided; those of other rules are passed over."""
        if event.rule in self._changes:
            self._changes[event.rule].append((event.at_ns, event.phase is not Phase.END))

    def at_rows(self, file: GlucoseFile) -> Said:
        """Per row what was in force at its own time, so that a row late in the file is told nothing of what follows."""
        t_ns = np.frombuffer(self._t_ns, dtype=np.int64)
        table = np.frombuffer(self._figures, dtype=np.float64).reshape(len(t_ns), len(FIGURES))
        is_reading = np.isfinite(file.mg_dl)
        place = np.searchsorted(t_ns, file.t_ns, side="right") - 1
        known = is_reading & (place >= 0)
        known[known] = file.t_ns[known] - t_ns[place[known]] <= IN_FORCE_NS
        figures = np.full((len(place), len(FIGURES)), np.nan)
        figures[known] = table[place[known]]
        fresh = np.zeros(len(place), dtype=np.bool_)
        fresh[known] = file.t_ns[known] == t_ns[place[known]]
        first = np.zeros(len(place), dtype=np.bool_)
        first[np.flatnonzero(fresh)[np.unique(place[fresh], return_index=True)[1]]] = True
        return Said(
            {name: figures[:, column] for column, name in enumerate(FIGURES)},
            self._on(LOW_RULE, file) & is_reading,
            self._on(URGENT_RULE, file) & is_reading,
            Counter(
                {
                    "said": int(first.sum()),
                    "in force": int((known & ~first).sum()),
                    "nothing said": int((is_reading & ~known).sum()),
                    "no reading": int((~is_reading).sum()),
                }
            ),
        )

    def _on(self, rule: str, file: GlucoseFile) -> npt.NDArray[np.bool_]:
        """(n,) whether the alarm is on at each row's time, by what was decided up to then."""
        at_ns = np.array([at for at, _ in self._changes[rule]], dtype=np.int64)
        states = np.array([False, *(state for _, state in self._changes[rule])], dtype=np.bool_)
        on: npt.NDArray[np.bool_] = states[np.searchsorted(at_ns, file.t_ns, side="right")]
        return on


def stream(
    files: Sequence[GlucoseFile], models: Models, *, readings_a_step: int = 1, limits: Limits | None = None
) -> list[Said]:
    """The rows of each file that are readings, in its order, one chunk each, `readings_a_step` of everybody a step."""
    streams = [file.stream() for file in files]
    heard = {file.subject: Heard() for file in files}

    def watch(patient: str, observation: Observation) -> None:
        if isinstance(observation, Outlook):
            heard[patient].take(observation)

    persons = [Person(one.patient, (one,), limits or Limits(local=RECORDED)) for one in streams]
    engine = Engine(persons, models, watch=watch)
    cut = (batched(file.chunks(one), readings_a_step) for file, one in zip(files, streams, strict=True))
    for step in zip_longest(*cut, fillvalue=()):
        for event in engine.step([chunk for chunks in step for chunk in chunks]):
            heard[event.patient].alert(event)
    return [heard[file.subject].at_rows(file) for file in files]


def batched(chunks: Iterator[Chunk], size: int) -> Iterator[list[Chunk]]:
    """So many at a time, fewer at the end."""
    while batch := list(islice(chunks, size)):
        yield batch
