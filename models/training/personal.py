"""What calibration for each person gives: `python -m models.training.personal --answers NPZ`.

NPZ holds what networks said of people whom they had not met, one row a reading, as `models.training.glucose` writes it:
`subject`, `set`, `t_ns`, `mg_dl`, `f30`, `f30_low`, `f30_high`, `f60`, `f60_low`, `f60_high`, `p_low`, `p_urgent`,
`p_high`, `usable`. Every person is streamed through `PersonalCalibration` from nothing, one push a reading, and what
came out is scored as `vagus evaluate glucose` scores it, beside the answers as they came under one threshold for all.
What holds of people at large is counted from others than the one tested; with --other-site, of other sets only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.scoring.glucose import Grid, on_grid
from agent.scoring.glucose_events import LE54_20, LT70_30, LowScore, Target, lows_of
from agent.signal.outlook import Expected, Forecast, Outlook, Risk
from agent.signal.personal import SLOT_NS, PersonalCalibration
from agent.signal.personal_alarm import HOLD_DROP, new_budget
from agent.signal.personal_population import CANDIDATES, LOW, URGENT_LOW, AlarmPrior

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

COLUMNS = (
    "t_ns", "mg_dl", "f30", "f30_low", "f30_high", "f60", "f60_low", "f60_high", "p_low", "p_urgent", "p_high",
    "usable",
)  # fmt: skip
TASKS: tuple[tuple[Target, AlarmPrior], ...] = ((LT70_30, LOW), (LE54_20, URGENT_LOW))
FIRST_DAYS = 21
POLICIES = {
    "threshold of people at large": (0.0, 99.0, 1.0),
    "at most 1.5 budgets": (0.0, 1.5, 1.0),
    "at most 1 budget": (0.0, 1.0, 1.0),
    "half way to the budget": (0.5, 99.0, 1.0),
    "all the way": (1.0, 99.0, 1.0),
    "as it ships": None,
}
"""Ways to hold the budget: share_of_budget, most_of_budget and aim of AlarmPrior."""


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person's readings and what was said after them."""

    name: str
    site: str
    said: dict[str, Float64]
    grid: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """What `PersonalCalibration` made of one person; arrays (n,) or (n, tasks) over the grid."""

    mean: Float64
    """(n, 2) mg/dL at 30 and 60 min."""
    low: Float64
    high: Float64
    p: Float64
    """(n, 2) of low and urgent low."""
    on: Bools
    """(n, 2) whether the alarm is on, by `start_at` and `end_below` alone."""
    scores: Float64
    """(n, 2) what is compared with thresholds."""
    personal: PersonalCalibration


def people_of(path: Path) -> list[Person]:
    """Everybody in a file of answers, on the scoring grid."""
    with np.load(path) as data:
        columns = {name: data[name] for name in ("subject", "set", *COLUMNS)}
    names, firsts = np.unique(columns["subject"], return_index=True)
    out = []
    for name in names[np.argsort(firsts)].tolist():
        rows = np.flatnonzero(columns["subject"] == name)
        said = {column: columns[column][rows] for column in COLUMNS}
        grid = on_grid(said["t_ns"] / 1e9, said["mg_dl"])
        out.append(Person(name, str(columns["set"][rows[0]]), said, grid))
    return out


def stream(person: Person, personal: PersonalCalibration) -> Streamed:
    """Push one person's readings of the grid, one by one."""
    at = person.grid.reading
    columns = {name: values[at].tolist() for name, values in person.said.items()}
    n = len(at)
    numbers = np.full((n, 10), np.nan)
    on = np.zeros((n, 2), np.bool_)
    state = [False, False]
    for i, row in enumerate(zip(*(columns[name] for name in COLUMNS), strict=True)):
        t_ns, mg_dl, f30, l30, h30, f60, l60, h60, p_low, p_urgent, p_high, usable = row
        expected = (Expected(30, f30, l30, h30), Expected(60, f60, l60, h60))
        outlook = personal.push(t_ns, mg_dl, Forecast(expected, p_low, p_urgent, p_high, 1.0, usable=usable))
        numbers[i] = _numbers(outlook, personal)
        for k, risk in enumerate((outlook.low, outlook.urgent_low)):
            state[k] = _on(state[k], risk)
        on[i] = state
    return Streamed(numbers[:, 0:2], numbers[:, 2:4], numbers[:, 4:6], numbers[:, 6:8], on, numbers[:, 8:10], personal)


def _numbers(outlook: Outlook, personal: PersonalCalibration) -> list[float]:
    if not outlook.expected:
        return [np.nan] * 10
    near, far = outlook.expected
    scores = personal.outcomes.said[-1].scores
    return [
        near.mg_dl, far.mg_dl, near.low_mg_dl, far.low_mg_dl, near.high_mg_dl, far.high_mg_dl,
        outlook.low.p, outlook.urgent_low.p, *scores,
    ]  # fmt: skip


def _on(on: bool, risk: Risk) -> bool:
    if risk.p >= risk.start_at:
        return True
    return on and risk.p >= risk.end_below


def population_of(people: Sequence[Person], streamed: Sequence[Streamed]) -> list[list[AlarmPrior]]:
    """[task][person]: the prior with that person's own false notifications and detections alone, as counts."""
    out: list[list[AlarmPrior]] = []
    for k, (target, prior) in enumerate(TASKS):
        counted = []
        for person, one in zip(people, streamed, strict=True):
            lows = lows_of(person.grid, target)
            scores = [lows.score(one.scores[:, k] >= threshold) for threshold in prior.candidates()]
            counted.append(
                replace(
                    prior,
                    false_per_day=(*(float(score.false) for score in scores), float(scores[0].days)),
                    sensitivity=(*(float(score.detected) for score in scores), float(scores[0].events)),
                )
            )
        out.append(counted)
    return out


def pooled(prior: AlarmPrior, counted: Sequence[AlarmPrior]) -> AlarmPrior:
    """The prior of several people from their counts."""
    false = np.sum([each.false_per_day for each in counted], axis=0)
    found = np.sum([each.sensitivity for each in counted], axis=0)
    return replace(
        prior,
        false_per_day=tuple(round(float(x), 4) for x in false[:CANDIDATES] / false[CANDIDATES]),
        sensitivity=tuple(round(float(x), 4) for x in found[:CANDIDATES] / max(found[CANDIDATES], 1.0)),
    )


def rmse(people: Sequence[Person], means: Sequence[Float64], minutes: int) -> tuple[float, Float64]:
    """Pooled and (people,) of each, mg/dL."""
    sums = []
    for person, mean in zip(people, means, strict=True):
        off = (person.grid.ahead(minutes) - mean)[person.grid.usable]
        off = off[~np.isnan(off)]
        sums.append((float(np.sum(off**2)), len(off)))
    squares, counts = np.array(sums).T
    return float(np.sqrt(squares.sum() / counts.sum())), np.sqrt(squares / np.maximum(counts, 1))


def covered(people: Sequence[Person], low: Sequence[Float64], high: Sequence[Float64], minutes: int) -> list[float]:
    """Share of outcomes inside the interval: pooled, least and greatest of a person."""
    inside = []
    for person, a, b in zip(people, low, high, strict=True):
        truth = person.grid.ahead(minutes)
        known = person.grid.usable & ~np.isnan(truth) & ~np.isnan(a)
        inside.append((int(np.sum((truth >= a)[known] & (truth <= b)[known])), int(known.sum())))
    hits, counts = np.array(inside).T
    shares = hits / np.maximum(counts, 1)
    return [float(hits.sum() / counts.sum()), float(shares.min()), float(shares.max())]


def alarm_line(name: str, scores: Sequence[LowScore]) -> str:
    """One row of the table of alarms."""
    events, detected, early, notified, false, true, days = (
        np.array([float(getattr(score, field)) for score in scores])
        for field in ("events", "detected", "early", "notified", "false", "true", "days")
    )
    most = float(np.max(false / np.maximum(days, 1e-9)))
    return (
        f"| {name} | {events.sum():.0f} | {detected.sum() / events.sum():.3f} | {early.sum() / events.sum():.3f} |"
        f" {notified.sum() / events.sum():.3f} | {false.sum() / days.sum():.2f} | {most:.2f} |"
        f" {true.sum() / (true.sum() + false.sum()):.2f} |"
    )


ALARM_HEAD = """
| {} | events | sensitivity | early | by notification | false/day | most of a person | precision |
|---|---|---|---|---|---|---|---|"""


def scored(
    people: Sequence[Person], alarms: Sequence[Bools], target: Target, days: float | None = None
) -> list[LowScore]:
    """Each person's alarms (n,) against their lows, within the first `days` where given."""
    out = []
    for person, on in zip(people, alarms, strict=True):
        slot = person.grid.slot
        among = None if days is None else slot < slot[0] + int(288 * days)
        out.append(lows_of(person.grid, target).score(on, among))
    return out


def one_threshold(people: Sequence[Person], p: Sequence[Float64], target: Target, per_day: float) -> float:
    """The probability at which these people have `per_day` false notifications a day, all together."""
    lows = [lows_of(person.grid, target) for person in people]
    least, most = 0.005, 0.95
    for _ in range(14):
        middle = (least + most) / 2.0
        scores = [low.score(one >= middle) for low, one in zip(lows, p, strict=True)]
        if sum(float(s.false) for s in scores) > per_day * sum(float(s.days) for s in scores):
            least = middle
        else:
            most = middle
    return most


def compare(people: Sequence[Person], streamed: Sequence[Streamed], *, other_site: bool) -> None:
    """Print the tables."""
    raw = [[person.said[name][person.grid.reading] for person in people] for name in COLUMNS]
    said = dict(zip(COLUMNS, raw, strict=True))
    print("| forecast | RMSE 30 | RMSE 60 | people worse | covered 30 | 60 |\n|---|---|---|---|---|---|")
    before = [rmse(people, said[name], minutes) for name, minutes in (("f30", 30), ("f60", 60))]
    after = [rmse(people, [one.mean[:, k] for one in streamed], (30, 60)[k]) for k in range(2)]
    for name, figures, bounds in (
        ("as it came", before, [(said[f"f{m}_low"], said[f"f{m}_high"]) for m in (30, 60)]),
        ("personal", after, [([s.low[:, k] for s in streamed], [s.high[:, k] for s in streamed]) for k in range(2)]),
    ):
        shares = [covered(people, low, high, m) for (low, high), m in zip(bounds, (30, 60), strict=True)]
        cover = " | ".join(f"{c[0]:.3f} ({c[1]:.3f} to {c[2]:.3f})" for c in shares)
        worse = " / ".join(str(int(np.sum(f[1] > b[1] + 0.05))) for f, b in zip(figures, before, strict=True))
        print(f"| {name} | {figures[0][0]:.2f} | {figures[1][0]:.2f} | {worse} | {cover} |")
    for k, (target, prior) in enumerate(TASKS):
        print(ALARM_HEAD.format(target.name))
        p = said[("p_low", "p_urgent")[k]]
        usual = one_threshold(people, p, target, prior.per_day)
        _print_parts(f"one threshold, {usual:.3f}, chosen on them", people, [one >= usual for one in p], target)
        if other_site:
            alarms = [
                said_p >= threshold
                for said_p, threshold in zip(p, _of_other_sites(people, p, target, prior.per_day), strict=True)
            ]
            _print_parts("one threshold of other sets", people, alarms, target)
        _print_parts("personal", people, [one.on[:, k] for one in streamed], target)
    _print_states(streamed)


def _print_states(streamed: Sequence[Streamed]) -> None:
    largest = max(len(one.personal.state_json()) for one in streamed)
    drifted = [one.personal.drift_watch for one in streamed]
    errors, lows = sum(one.errors.grown for one in drifted), sum(one.lows.grown for one in drifted)
    print(
        f"\nA person's state is at most {largest} bytes. Of {len(streamed)} people's last days drift says that errors"
    )
    print(f"have grown of {errors}, that lows are more frequent of {lows}.")


def _of_other_sites(people: Sequence[Person], p: Sequence[Float64], target: Target, per_day: float) -> list[float]:
    """For each person the threshold that the people of other sets would have chosen."""
    of_site = {}
    for site in {person.site for person in people}:
        others = [i for i, person in enumerate(people) if person.site != site]
        of_site[site] = one_threshold([people[i] for i in others], [p[i] for i in others], target, per_day)
    return [of_site[person.site] for person in people]


def _print_parts(name: str, people: Sequence[Person], alarms: Sequence[Bools], target: Target) -> None:
    every = scored(people, alarms, target)
    print(alarm_line(name, every))
    print(alarm_line(f"{name}: first {FIRST_DAYS} days", scored(people, alarms, target, FIRST_DAYS)))
    for site in sorted({person.site for person in people}):
        print(alarm_line(f"{name}: {site}", [s for s, one in zip(every, people, strict=True) if one.site == site]))


def _held(prior: AlarmPrior, policy: tuple[float, float, float] | None) -> AlarmPrior:
    if policy is None:
        return prior
    share, most, aim = policy
    return replace(prior, share_of_budget=share, most_of_budget=most, aim=aim)


def replayed(person: Person, scores: Float64, target: Target, prior: AlarmPrior) -> Bools:
    """(n,) where the alarm would be on had the budget been held as `prior` says, from scores (n,) said already.

    Twenty times faster than to stream all anew, and told by the scoring's own outcomes: for comparing policies.
    """
    lows = lows_of(person.grid, target)
    slot, right, counts = person.grid.slot.tolist(), lows.right.tolist(), lows.can_alarm.tolist()
    days = (person.grid.interval_slots / 288.0).tolist()
    budget = new_budget(prior, prior.per_day)
    best = [float(np.max(scores[a:b], initial=-99.0)) for a, b in zip(lows.first, lows.end, strict=True)]
    on = np.zeros(len(slot), np.bool_)
    waiting: deque[tuple[int, int, int]] = deque()
    alarm, said = False, -99
    for i, score in enumerate(scores.tolist()):
        while waiting and waiting[0][0] + target.horizon_slots < slot[i]:
            _, place, notified = waiting.popleft()
            budget.settle(notified, right[place], days[place])
        if lows.watched[i]:
            budget.happened(best[i])
        if counts[i]:
            waiting.append((slot[i], i, budget.notifies(slot[i] * SLOT_NS, score)))
        held = alarm and slot[i] - said < 6 and score >= budget.threshold - HOLD_DROP
        if score >= budget.threshold:
            said = said if alarm and slot[i] - said < 6 else slot[i]
        alarm = score > -90.0 and (score >= budget.threshold or held)
        on[i] = alarm
    return on


def _print_policy(
    name: str,
    policy: tuple[float, float, float] | None,
    people: Sequence[Person],
    streamed: Sequence[Streamed],
    populations: Sequence[Sequence[AlarmPrior]],
) -> None:
    for k, (target, prior) in enumerate(TASKS):
        alarms = [
            replayed(person, one.scores[:, k], target, _held(populations[i][k], policy))
            for i, (person, one) in enumerate(zip(people, streamed, strict=True))
        ]
        every = scored(people, alarms, target)
        at = new_budget(prior, prior.per_day).usual()
        usual = scored(people, [one.scores[:, k] >= at for one in streamed], target)
        rates = np.array([float(score.false) / max(float(score.days), 1e-9) for score in usual])
        most = np.argsort(rates)[len(rates) // 2 :]
        print(ALARM_HEAD.format(target.name))
        print(alarm_line(name, every))
        print(alarm_line(f"{name}: the half with most at one threshold", [every[i] for i in most]))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--other-site", action="store_true", help="people at large are those of other sets")
    parser.add_argument("--population", action="store_true", help="print what holds of all these people, and stop")
    parser.add_argument("--policies", action="store_true", help="compare ways to hold the budget, and stop")
    parser.add_argument("--sparse", action="store_true", help="score those with a reading every 15 minutes instead")
    args = parser.parse_args()
    everybody = people_of(args.answers)
    people = [one for one in everybody if (np.median(np.diff(one.grid.slot)) > 1) == args.sparse]
    began = time.process_time()
    first = [stream(person, PersonalCalibration()) for person in people]
    each = (time.process_time() - began) / sum(len(person.grid.slot) for person in people)
    sys.stderr.write(f"{1e6 * each:.0f} µs of processor a push\n")
    counted = population_of(people, first)
    if args.population:
        for (target, prior), counts in zip(TASKS, counted, strict=True):
            found = pooled(prior, counts)
            print(target.name, f"false_per_day={found.false_per_day},", f"sensitivity={found.sensitivity},", sep="\n")
        return 0
    populations = []
    for i, person in enumerate(people):
        others = [j for j, one in enumerate(people) if (one.site != person.site if args.other_site else j != i)]
        populations.append([pooled(prior, [counted[k][j] for j in others]) for k, (_, prior) in enumerate(TASKS)])
    if args.policies:
        for name, policy in POLICIES.items():
            _print_policy(name, policy, people, first, populations)
        return 0
    streamed = [
        stream(one, PersonalCalibration(population=(low, urgent)))
        for one, (low, urgent) in zip(people, populations, strict=True)
    ]
    compare(people, streamed, other_site=args.other_site)
    return 0


if __name__ == "__main__":
    sys.exit(main())
