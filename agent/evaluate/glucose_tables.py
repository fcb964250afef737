"""The tables of `vagus evaluate glucose`: what vagus said beside what people have today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.evaluate.report import seen_in_training
from agent.scoring.glucose import (
    DRAWS,
    ZONES,
    Float64,
    ForecastScore,
    interval,
    resampled,
    total,
)
from agent.scoring.glucose_events import LE54_20, LT70_30, LowScore, Target
from agent.signal.outlook import HORIZONS_MIN
from models.pack import available_packs

PACK = "glucose"
LAST, LINE, AR2, VAGUS = "last value", "line of 15 min", "AR2", "vagus"
NIGHTSCOUT, TUNED, XDRIP = "Nightscout", "Nightscout tuned", "xDrip"
FORECASTERS = (LAST, LINE, AR2, VAGUS)
SETTINGS = {
    LT70_30: {
        LINE: "drawn on 30 min it is below 70",
        AR2: "any of six points is below 70",
        NIGHTSCOUT: "its own: below 80 in 20 min, loss > 0.05",
        TUNED: "below 80 in 20 min, loss by the other people here: at most 1 false/day on them",
        XDRIP: "its own: 70 in less than 40 min",
        VAGUS: "its pack's, then calibrated on each person's own past",
    },
    LE54_20: {
        LINE: "drawn on 20 min it is 54 or below",
        AR2: "any of four points is 54 or below",
        NIGHTSCOUT: "its own: below 80 in 20 min, loss > 0.10 (urgent)",
        TUNED: "below 80 in 20 min, loss by the other people here: at most 0.5 false/day on them",
        VAGUS: "its pack's, then calibrated on each person's own past",
    },
}
"""When each alarms; no threshold was chosen on the person whom it is scored on."""
BUDGETS = {LT70_30: 1.0, LE54_20: 0.5}
"""False notifications a day."""


@dataclass(frozen=True, slots=True, eq=False)
class PersonScore:
    """One person's scores."""

    subject: str
    readings: int
    silent: int
    """Usable samples of which vagus said nothing, scored as the last value."""
    counts: Counter[str]
    """Rows by what was said: see `agent.evaluate.glucose_stream.Said`."""
    forecasts: dict[tuple[str, int, int], ForecastScore]
    """By (method, minutes ahead, slots between readings of the sensor worn)."""
    lows: dict[tuple[str, str, int], LowScore]
    """By (method, name of the target, slots between readings)."""
    losses: dict[tuple[str, float, int], LowScore]
    """Of Nightscout's rule, by (name of the target, least loss, slots between readings)."""

    @property
    def set_name(self) -> str:
        return self.subject.partition("/")[0]

    def wearing(self, interval_slots: int) -> PersonScore | None:
        """The days with a sensor of that interval only; None where there are none."""
        if not self.forecasts[VAGUS, HORIZONS_MIN[0], interval_slots].n:
            return None
        return replace(
            self,
            forecasts={key: score for key, score in self.forecasts.items() if key[2] == interval_slots},
            lows={key: score for key, score in self.lows.items() if key[2] == interval_slots},
        )

    def forecast(self, method: str, minutes: int) -> ForecastScore:
        """Whatever sensor was worn."""
        return total([score for key, score in self.forecasts.items() if key[:2] == (method, minutes)])

    def low(self, method: str, target: Target) -> LowScore:
        """Whatever sensor was worn. Raises ValueError of a method that has no score."""
        return total([score for key, score in self.lows.items() if key[:2] == (method, target.name)])

    def loss(self, target: Target, least_loss: float) -> LowScore:
        """Of Nightscout's rule at that loss, whatever sensor was worn."""
        return total([score for key, score in self.losses.items() if key[:2] == (target.name, least_loss)])


def tuned(people: Sequence[PersonScore]) -> list[PersonScore]:
    """The same people with Nightscout's rule at a loss that keeps the budget on all the others; one alone is as before.

    That is what its users could have had who share their experience, and none of it comes from the person scored.
    """
    if len(people) < 2:
        return list(people)
    added: list[dict[tuple[str, str, int], LowScore]] = [{} for _ in people]
    for target, budget in BUDGETS.items():
        losses = sorted({loss for name, loss, _ in people[0].losses if name == target.name})
        each = [[person.loss(target, loss) for loss in losses] for person in people]
        false = np.array([[score.false for score in row] for row in each])
        days = np.array([[score.days for score in row] for row in each])
        with np.errstate(invalid="ignore", divide="ignore"):
            others = (false.sum(axis=0) - false) / (days.sum(axis=0) - days)
        for person, lows, rates in zip(people, added, others, strict=True):
            kept = np.flatnonzero(rates <= budget)
            loss = losses[int(kept[0])] if len(kept) else losses[-1]
            lows |= {
                (TUNED, target.name, worn): score
                for (name, least, worn), score in person.losses.items()
                if name == target.name and least == loss
            }
    return [replace(person, lows=person.lows | lows) for person, lows in zip(people, added, strict=True)]


def group_table(title: str, people: Sequence[PersonScore]) -> tuple[str, dict[str, object]]:
    """Forecasts and alarms of some people, at least one."""
    counts = sum((person.counts for person in people), Counter[str]())
    lines = [
        f"{title}: {len(people)} people, {sum(person.readings for person in people)} readings, streamed one by one; "
        f"95 % intervals by {DRAWS} draws of people",
        *_seen(people),
        f"of the rows of their files {counts['said']} brought a forecast, {counts['in force']} repeat that in force, "
        f"{counts['nothing said']} are blank as nothing was in force, {counts['no reading']} as they are no reading; "
        f"{sum(person.silent for person in people)} usable samples without one count as the last value",
    ]
    figures: dict[str, object] = {"people": len(people), "rows": dict(counts)}
    for minutes in HORIZONS_MIN:
        table, numbers = _forecast_table(people, minutes)
        lines += table
        figures[f"forecast_{minutes}"] = numbers
    for target in SETTINGS:
        table, numbers = _low_table(people, target)
        lines += table
        figures[target.name] = numbers
    return "\n".join(lines), figures


def _seen(people: Sequence[PersonScore]) -> list[str]:
    if PACK not in {path.name for path in available_packs()}:
        return ["no glucose pack ships: nothing is forecast"]
    names = sorted({person.set_name for person in people})
    return [
        f"{name}: " + seen_in_training(PACK, name, {p.subject.partition("/")[2] for p in people if p.set_name == name})
        for name in names
    ]


def _forecast_table(people: Sequence[PersonScore], minutes: int) -> tuple[list[str], dict[str, object]]:
    by_method = {method: [person.forecast(method, minutes) for person in people] for method in FORECASTERS}
    n = total(by_method[VAGUS]).n
    lines = [
        "",
        f"{f'in {minutes} min, mg/dL':<16} RMSE   (95 %)          person: median  worst    MAE  MARD %  Clarke "
        + "".join(f"{zone:>6}" for zone in ZONES)
        + f" %  RMSE < 70  90 % holds %   ({n:.0f} samples)",
    ]
    figures: dict[str, object] = {"samples": int(n)}
    drawn = {method: resampled(scores) for method, scores in by_method.items()}
    for method, scores in by_method.items():
        all_of_them = total(scores)
        low, high = interval(drawn[method].rmse)
        each = np.array([score.rmse for score in scores])
        known = each[np.isfinite(each)]
        middle, worst = (np.median(known), np.max(known)) if len(known) else (np.nan, np.nan)
        lines.append(
            f"{method:<16} {all_of_them.rmse:6.2f} ({low:6.2f} to {high:6.2f}) {middle:14.2f} {worst:6.2f} "
            f"{all_of_them.mae:6.2f}  {100 * all_of_them.mard:6.2f}        "
            + "".join(f"{100 * all_of_them.zone(zone):6.2f}" for zone in ZONES)
            + f"    {all_of_them.rmse_low:8.2f}  {_percent(all_of_them.coverage):>12}"
        )
        figures[method] = {
            "rmse": _number(all_of_them.rmse),
            "rmse_interval": [_number(low), _number(high)],
            "rmse_median_person": _number(middle),
            "rmse_worst_person": _number(worst),
            "mae": _number(all_of_them.mae),
            "mard": _number(all_of_them.mard),
            "clarke": {zone: _number(all_of_them.zone(zone)) for zone in ZONES},
            "rmse_below_70": _number(all_of_them.rmse_low),
            "interval_coverage": _number(all_of_them.coverage),
        }
    lines.append(_difference("RMSE", drawn[VAGUS].rmse, drawn[AR2].rmse, by_method, AR2))
    return lines, figures


def _difference(
    name: str, ours: Float64, theirs: Float64, by_method: dict[str, list[ForecastScore]], other: str
) -> str:
    point = float(total(by_method[VAGUS]).rmse - total(by_method[other]).rmse)
    low, high = interval(ours - theirs)
    return f"{VAGUS} less {other}: {name} {point:+.2f} ({low:+.2f} to {high:+.2f})"


def _low_table(people: Sequence[PersonScore], target: Target) -> tuple[list[str], dict[str, object]]:
    methods = {key[0] for person in people for key in person.lows}
    by_method = {m: [person.low(m, target) for person in people] for m in SETTINGS[target] if m in methods}
    any_of_them = total(by_method[VAGUS])
    lines = [
        "",
        f"{target.name}: {any_of_them.events:.0f} lows in {any_of_them.days:.0f} days "
        f"({any_of_them.unwatched:.0f} more began where nothing could alarm); the last value never warns",
        f"{'':<16} found (95 %)           ≥ 15 min early (95 %)   notified, early   false/day (95 %)       "
        "person: median  worst  precision  alarms where",
    ]
    figures: dict[str, object] = {"events": int(any_of_them.events), "unwatched": int(any_of_them.unwatched)}
    for method, scores in by_method.items():
        all_of_them, drawn = total(scores), resampled(scores)
        each = np.array([score.false_per_day for score in scores])
        known = each[np.isfinite(each)]
        middle, worst = (np.median(known), np.max(known)) if len(known) else (np.nan, np.nan)
        spans = [interval(figure) for figure in (drawn.sensitivity, drawn.early_share, drawn.false_per_day)]
        found, early, false = (f"({low:.3f} to {high:.3f})" for low, high in spans)
        lines.append(
            f"{method:<16} {all_of_them.sensitivity:.3f} {found}  {all_of_them.early_share:.3f} {early}      "
            f"{all_of_them.notified_share:.3f} {all_of_them.notified_early_share:.3f}      "
            f"{all_of_them.false_per_day:6.3f} {false:<17} {middle:7.2f} {worst:6.2f} "
            f"{all_of_them.precision:10.2f}  {SETTINGS[target][method]}"
        )
        figures[method] = {
            "sensitivity": _number(all_of_them.sensitivity),
            "early": _number(all_of_them.early_share),
            "sensitivity_notified": _number(all_of_them.notified_share),
            "early_notified": _number(all_of_them.notified_early_share),
            "false_per_day": _number(all_of_them.false_per_day),
            "precision": _number(all_of_them.precision),
            "sensitivity_interval": [_number(bound) for bound in spans[0]],
            "early_interval": [_number(bound) for bound in spans[1]],
            "false_per_day_interval": [_number(bound) for bound in spans[2]],
            "false_per_day_median_person": _number(middle),
            "false_per_day_worst_person": _number(worst),
            "alarms_where": SETTINGS[target][method],
        }
    return lines, figures


def by_person(people: Sequence[PersonScore]) -> tuple[str, dict[str, object]]:
    """A line a person: vagus, with Nightscout's figure behind a stroke."""
    lines = [
        "by person: vagus / AR2 for forecasts, vagus / Nightscout for lows < 70 within 30 min; then ≤ 54 within 20 min",
        f"{'':<32} days   RMSE 30        RMSE 60        90 %   lows  found        early        false/day     "
        "≤ 54  found  early  false/day",
    ]
    figures: dict[str, object] = {}
    for person in people:
        ours, theirs = person.low(VAGUS, LT70_30), person.low(NIGHTSCOUT, LT70_30)
        urgent = person.low(VAGUS, LE54_20)
        scores = {minutes: [person.forecast(method, minutes) for method in (VAGUS, AR2)] for minutes in HORIZONS_MIN}
        lines.append(
            f"{person.subject:<32} {ours.days:5.0f}  "
            + "".join(f"{mine.rmse:6.2f} / {their.rmse:<6.2f}" for mine, their in scores.values())
            + f" {_percent(scores[30][0].coverage):>5}  {ours.events:5.0f}  "
            f"{ours.sensitivity:.3f} / {theirs.sensitivity:.3f}  {ours.early_share:.3f} / {theirs.early_share:.3f}  "
            f"{ours.false_per_day:5.2f} / {theirs.false_per_day:<5.2f}  {urgent.events:4.0f}  "
            f"{urgent.sensitivity:.3f}  {urgent.early_share:.3f}  {urgent.false_per_day:5.2f}"
        )
        figures[person.subject] = {
            "days": _number(ours.days),
            "rmse": {str(minutes): _number(mine.rmse) for minutes, (mine, _) in scores.items()},
            "rmse_ar2": {str(minutes): _number(their.rmse) for minutes, (_, their) in scores.items()},
            "interval_coverage": _number(scores[30][0].coverage),
            "lows": int(ours.events),
            "sensitivity": _number(ours.sensitivity),
            "early": _number(ours.early_share),
            "false_per_day": _number(ours.false_per_day),
            "urgent_lows": int(urgent.events),
            "urgent_sensitivity": _number(urgent.sensitivity),
            "urgent_early": _number(urgent.early_share),
            "urgent_false_per_day": _number(urgent.false_per_day),
        }
    return "\n".join(lines), figures


def _percent(part: Float64) -> str:
    return "–" if np.isnan(part) else f"{100 * part:.1f}"


def _number(figure: Float64 | float) -> float | None:
    """For JSON, which knows no nan."""
    return float(figure) if np.isfinite(figure) else None
