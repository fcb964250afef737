"""How well glucose is foreseen, and lows warned of: `vagus evaluate glucose`.

Every reading of every person goes through the live engine, one chunk a reading in the order of the file; beside what it
said stand the last value, a line, Nightscout's AR2 and xDrip's low prediction, on the same readings and scored alike.
How is written in `agent.scoring.glucose` (grid, samples, errors), `agent.scoring.glucose_events` (alarms and lows) and
`agent.evaluate.incumbents`. What is left open there and settled here:

- A row of the file is answered with the outlook in force at its own time: the one after the newest reading up to then,
  for at most 15 minutes. So a reading that came twice or late has a forecast too, and none that knows what followed.
- Where nothing is in force the columns are blank, and such a sample is scored as if the last value had been said:
  silence wins nothing. How many there were, and why, is printed.
- An alarm is on at a reading where its rule is on after that reading: hysteresis, freshness and the limits calibrated
  for the person are the live ones. Personal calibration learns along the way, as it would have then.
- What others have is scored with its own settings, and Nightscout's also with the loss that keeps to the budget of
  false notifications on all the other people scored; no threshold is chosen on the person it is scored on.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.evaluate import incumbents
from agent.evaluate.glucose_stream import Said, stream
from agent.evaluate.glucose_tables import (
    AR2,
    LAST,
    LINE,
    NIGHTSCOUT,
    VAGUS,
    XDRIP,
    PersonScore,
    by_person,
    group_table,
    tuned,
)
from agent.evaluate.report import PROCESSES, Report, in_processes
from agent.inference import shipped_models
from agent.ingest.glucose_csv import GlucoseFile, glucose_files, glucose_root, read_glucose_csv
from agent.scoring.glucose import Float64, Grid, forecast_score, on_grid
from agent.scoring.glucose_events import LE54_20, LT70_30, LowScore, Target, lows_of
from agent.signal.outlook import HORIZONS_MIN
from firmware_bridge.chunk import NS_PER_S

CSV_HEADER = (
    "subject", "timestamp", "glucose", "f30", "f30_lo", "f30_hi", "f60", "p_lt70_30", "p_le54_20", "alarm_lt70",
    "alarm_le54",
)  # fmt: skip
CSV_DECIMALS = {"f30": 2, "f30_lo": 2, "f30_hi": 2, "f60": 2, "p_lt70_30": 5, "p_le54_20": 5}
LOSSES = tuple(np.geomspace(0.02, 0.5, 48).round(4).tolist())
"""Of Nightscout's forecast, among which `tuned` chooses."""
SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True, eq=False)
class GlucoseResult:
    """One person: what stood in the file, what was said, and its score."""

    file: GlucoseFile
    said: Said
    score: PersonScore


def evaluate_glucose(args: argparse.Namespace) -> int:
    """`vagus evaluate glucose --data DIR`: tables for all people, each set, each kind of sensor, and person by person.

    DIR holds `<set>/<subject>.csv`, or a folder `glucose` that does. 2 where a file cannot be read; a row that is no
    reading is told of and left out.
    """
    root = glucose_root(args.data)
    subjects = args.records or glucose_files(args.data)
    groups = balanced([(subject, _size(root, subject)) for subject in subjects], PROCESSES)
    done = in_processes(_evaluate, [(root, group) for group in groups], "glucose")
    if done is None:
        return 2
    found = {result.file.subject: result for group in done for result in group}
    results = [found[subject] for subject in dict.fromkeys(subjects)]
    _tell_faults([fault for result in results for fault in result.file.faults])
    report = Report()
    scores = tuned([result.score for result in results])
    report.add("all", *group_table("all people", scores))
    for name in sorted({score.set_name for score in scores}):
        members = [score for score in scores if score.set_name == name]
        report.add(name, *group_table(name, members))
    for minutes in (5, 15):
        wearing = [part for score in scores if (part := score.wearing(minutes // 5)) is not None]
        if wearing:
            report.add(f"{minutes}-minute sensors", *group_table(f"{minutes}-minute sensors", wearing))
    report.add("by person", *by_person(scores))
    report.write(args.json, args.predictions, CSV_HEADER, _rows(results))
    return 0


def balanced(sizes: Sequence[tuple[str, int]], parts: int) -> list[list[str]]:
    """Names in so many groups of about the same total size; fewer where there are fewer names."""
    groups: list[list[str]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for name, size in sorted(dict(sizes).items(), key=lambda one: (-one[1], one[0])):
        least = loads.index(min(loads))
        groups[least].append(name)
        loads[least] += size + 1
    return [group for group in groups if group]


def score_person(file: GlucoseFile, said: Said) -> PersonScore:
    """Everybody's forecasts and alarms for one person, on the same samples."""
    grid = on_grid(file.t_ns / NS_PER_S, file.mg_dl)
    path = incumbents.ar2(grid)
    at = grid.reading
    ours = {name: column[at] for name, column in said.figures.items()}
    forecasts = {}
    for minutes in HORIZONS_MIN:
        name = f"f{minutes}"
        silent = np.isnan(ours[name])
        methods: dict[str, tuple[Float64, ...]] = {
            LAST: (grid.mg_dl,),
            LINE: (incumbents.linear(grid, minutes),),
            AR2: (path[:, minutes // incumbents.STEP_MIN - 1],),
            VAGUS: (np.where(silent, grid.mg_dl, ours[name]), ours[f"{name}_lo"], ours[f"{name}_hi"]),
        }
        for method, forecast in methods.items():
            for worn in (1, 3):
                reference = np.where(grid.usable & (grid.interval_slots == worn), grid.ahead(minutes), np.nan)
                forecasts[method, minutes, worn] = forecast_score(reference, *forecast)
    lows: dict[tuple[str, str, int], LowScore] = {}
    losses: dict[tuple[str, float, int], LowScore] = {}
    for target, alarms in _alarms(grid, path, said, at).items():
        known = lows_of(grid, target)
        for worn in (1, 3):
            for method, alarm in alarms.items():
                lows[method, target.name, worn] = known.score(alarm, grid.interval_slots == worn)
        for loss in LOSSES:
            alarm = incumbents.nightscout_low(path, loss)
            for worn in (1, 3):
                losses[target.name, loss, worn] = known.score(alarm, grid.interval_slots == worn)
    silent_samples = int(np.sum(np.isnan(ours["f30"]) & grid.usable))
    return PersonScore(file.subject, len(file.readings), silent_samples, Counter(said.counts), forecasts, lows, losses)


def _alarms(
    grid: Grid, path: Float64, said: Said, at: npt.NDArray[np.int64]
) -> dict[Target, dict[str, npt.NDArray[np.bool_]]]:
    line_now, slope = incumbents.line(grid)
    out = {}
    for target, native, ours in (
        (LT70_30, {NIGHTSCOUT: incumbents.nightscout_low(path), XDRIP: incumbents.xdrip_low(grid)}, said.alarm_low),
        (LE54_20, {NIGHTSCOUT: incumbents.nightscout_low(path, incumbents.URGENT_LOSS)}, said.alarm_urgent),
    ):
        out[target] = {
            LINE: line_now + slope * target.horizon_min < target.below_mg_dl,
            AR2: path[:, : target.horizon_slots].min(axis=1) < target.below_mg_dl,
            **native,
            VAGUS: ours[at],
        }
    return out


def _size(root: Path, subject: str) -> int:
    path = root / f"{subject}.csv"
    return path.stat().st_size if path.exists() else 0


def _evaluate(task: tuple[Path, list[str]]) -> list[GlucoseResult]:
    root, subjects = task
    files = [read_glucose_csv(root / f"{subject}.csv") for subject in subjects]
    results = zip(files, stream(files, shipped_models()), strict=True)
    return [GlucoseResult(file, said, score_person(file, said)) for file, said in results]


def _tell_faults(faults: Sequence[str]) -> None:
    for fault in faults[:SHOWN_FAULTS]:
        sys.stderr.write(f"vagus evaluate glucose: {fault}\n")
    if len(faults) > SHOWN_FAULTS:
        sys.stderr.write(f"vagus evaluate glucose: and {len(faults) - SHOWN_FAULTS} more rows that are no reading\n")


def _rows(results: Sequence[GlucoseResult]) -> Iterator[Sequence[object]]:
    """Every row of every file in its order."""
    for result in results:
        file, said = result.file, result.said
        columns = [_texts(said.figures[name], decimals) for name, decimals in CSV_DECIMALS.items()]
        alarms = [alarm.astype(np.int64).tolist() for alarm in (said.alarm_low, said.alarm_urgent)]
        yield from zip([file.subject] * len(file.texts), file.timestamps, file.texts, *columns, *alarms, strict=True)


def _texts(figures: Float64, decimals: int) -> list[str]:
    return ["" if figure != figure else f"{figure:.{decimals}f}" for figure in figures.tolist()]  # noqa: PLR0124 (nan)
