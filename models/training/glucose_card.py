"""What only the glucose pack says of itself: errors beside what people have, alarms against false ones, its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.evaluate.incumbents import ar2, ar2_loss
from agent.scoring.glucose import ForecastScore, interval, resampled, total
from agent.scoring.glucose_events import LowScore, low_score
from agent.signal.glucose_window import CONTEXT, HISTORY_S, PREPARE, SIGNAL_SHAPE, UNIT_MG_DL
from agent.signal.outlook import HORIZONS_MIN
from models.manifest import Forecast, Output, Source, WeightsName
from models.training import export
from models.training.card import FILES, Card, Table
from models.training.glucose_examples import LABELS
from models.training.glucose_figures import PLOTS, nightscout_lows
from models.training.glucose_records import TRAINABLE
from models.training.glucose_scores import (
    COVERAGE,
    ENDS_AT,
    FALSE_A_DAY,
    TARGETS,
    Calibration,
    HeldOut,
    alarm_scores,
    forecasts,
    is_sparse_grid,
    last_value,
    nightscout,
    pooled,
    scores_of,
    threshold,
)
from models.training.packing import Facts, cgm_input, framework, sources

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

VERSION = "0.1.0"
TITLE = "Glucose in 30 and 60 minutes, and whether it will be low or high"
INTENDED_USE = (
    "Research. From the readings of a continuous glucose sensor and their times alone, forecasts glucose 30 and 60 "
    "minutes ahead with an interval, and says how likely a low or a high is. Not a medical device, not validated for "
    "diagnosis or therapy; no dose of insulin or carbohydrate may rest on it."
)
ORIGIN = (
    "The readings are those of the three sets as published, brought to one table a person (timestamp, mg/dL). To make "
    "the pack again, get the sets at the addresses above and write them as DIR/glucose/SET/SUBJECT.csv with the "
    "columns timestamp,glucose_mg_dl; readings in mmol/L are multiplied by 18."
)
LAST_LIMIT = "Suggestive of what may come is all that a forecast is. A finger-prick decides; no dosing may rest on it."
LATENCY_S = 0.0
WORST = 6


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """How the pack came to be, and what was said of people that networks had not met."""

    command: str
    seed: int
    parameters: int
    folds: int
    calibration: Calibration
    held_out: HeldOut
    other_site: HeldOut
    """Each set answered by a network that saw nobody of it."""
    files: Mapping[WeightsName, tuple[float, float]]
    """RMSE at the horizons of each file of the pack on one sample of readings."""
    sample: int

    @property
    def sources(self) -> list[Source]:
        return sources(TRAINABLE)


def facts(trial: Trial) -> Facts:
    """What the manifest says."""
    return Facts(
        task="glucose",
        version=VERSION,
        title=TITLE,
        intended_use=INTENDED_USE,
        input=cgm_input(before_s=float(HISTORY_S), prepare=PREPARE, shape=SIGNAL_SHAPE, context=CONTEXT),
        output=output(trial.calibration),
        latency_s=LATENCY_S,
        parameters=trial.parameters,
        seed=trial.seed,
        command=trial.command,
        sources=trial.sources,
    )


def output(calibration: Calibration) -> Output:
    """The manifest's [output]."""
    return Output(
        labels=list(LABELS),
        forecast=Forecast(
            minutes=list(HORIZONS_MIN),
            unit_mg_dl=UNIT_MG_DL,
            coverage=COVERAGE,
            widen_mg_dl=list(calibration.widen_mg_dl),
        ),
        platt=dict(calibration.platt),
        alarm=dict(calibration.alarm),
    )


# -- tables ------------------------------------------------------------------------------------------------------------


def card(trial: Trial) -> Card:
    """What CARD.md says."""
    return Card(
        title=TITLE,
        version=VERSION,
        intended_use=INTENDED_USE,
        protocol=_protocol(trial),
        tables=_tables(trial),
        network=_network(trial),
        sources=trial.sources,
        limits=_limits(),
        plots=PLOTS,
        origin=ORIGIN,
        last_limit=LAST_LIMIT,
    )


def summary(trial: Trial) -> list[str]:
    """The tables in a few lines of text."""
    return [" | ".join(row) for table in _tables(trial) for row in (table.header, *table.rows)]


def _tables(trial: Trial) -> list[Table]:
    return [
        _errors(trial),
        _sets(trial),
        _alarms(trial),
        _population(trial),
        _people(trial),
        _worst(trial),
        _files(trial),
    ]


def _protocol(trial: Trial) -> list[str]:
    people = len(trial.held_out.grids)
    return [
        f"Leave-people-out: the {people} people are in {trial.folds} folds, each with a share of every set; a person's "
        "readings were answered by a network fitted without that person. Other site: each of the three sets was "
        "answered by a network that saw nobody of it. Scored as `vagus evaluate glucose` scores "
        "(agent/scoring/glucose.py): readings on a grid of 5 minutes, targets real readings exactly 30 and 60 minutes "
        "later, samples with at least 75 % of the last hour; RMSE is pooled over samples.",
        "A low is announced where the alarm was on at any usable reading within the horizon before it, and early where "
        "it was 15 minutes before; a false alert is a notification with no such reading after it, said again after 30 "
        "minutes of standing. The live rules may doubt readings and add freshness, which this does not.",
        "The widening of the interval, the probabilities' calibration and the alarm's thresholds were found on the "
        "folds' answers, so the folds' coverage and false alerts a day are met by construction; of the other site "
        "they are not. The network that ships was fitted once, to everybody; no score of it exists here, and the "
        "people who judge were not looked at.",
    ]


def _errors(trial: Trial) -> Table:
    rows = []
    for protocol, held_out in (("folds", trial.held_out), ("other site", trial.other_site)):
        ours = forecasts(held_out, trial.calibration, held_out.outputs)
        full = forecasts(held_out, trial.calibration, held_out.float_outputs)
        timeless = forecasts(held_out, trial.calibration, held_out.timeless)
        methods = {"last value": last_value, "AR2": nightscout, "float": full, "8 bit": ours}
        methods["8 bit, hour unknown"] = timeless
        for sensor, slots in (("5 min", 1), ("15 min", 3)):
            for name, predict in methods.items():
                each = [
                    pooled(scores_of(held_out.grids, predict, minutes, lambda grid: grid.interval_slots == slots))  # noqa: B023 (called at once)
                    for minutes in HORIZONS_MIN
                ]
                rows.append((protocol, sensor, name, *_figures(each)))
    return Table(
        (
            "protocol",
            "sensor",
            "forecast",
            "RMSE 30 / 60",
            "MAE",
            "MARD %",
            "Clarke A %",
            "A+B %",
            "RMSE < 70",
            "covered %",
        ),
        rows,
        before="Errors in mg/dL at 30 / 60 minutes, and how much the interval that should hold 90 % holds:",
    )


def _sets(trial: Trial) -> Table:
    """Errors and coverage of each set, all sensors."""
    rows = []
    for dataset in TRAINABLE:
        for protocol, held_out in (("folds", trial.held_out), ("other site", trial.other_site)):
            grids = {patient: grid for patient, grid in held_out.grids.items() if patient.startswith(f"{dataset}/")}
            predict = forecasts(held_out, trial.calibration, held_out.outputs)
            ours, theirs = (
                [pooled(scores_of(grids, each, minutes)) for minutes in HORIZONS_MIN] for each in (predict, nightscout)
            )
            ratios = [float(mine.rmse) / float(other.rmse) for mine, other in zip(ours, theirs, strict=True)]
            rows.append(
                (
                    dataset,
                    protocol,
                    f"{len(grids)}",
                    " / ".join(f"{float(one.rmse):.2f}" for one in ours),
                    " / ".join(f"{float(one.rmse):.2f}" for one in theirs),
                    " / ".join(f"{ratio:.3f}" for ratio in ratios),
                    " / ".join(f"{100 * float(one.coverage):.1f}" for one in ours),
                )
            )
    return Table(
        ("set", "protocol", "people", "RMSE 30 / 60", "AR2", "ratio", "covered %"),
        rows,
        before="Set by set, 8 bit, sensors of both kinds:",
    )


def _figures(each: Sequence[ForecastScore]) -> tuple[str, ...]:
    def both(form: str, *values: object) -> str:
        return " / ".join(form.format(float(value)) for value in values)  # type: ignore[arg-type]

    covered = [float(one.coverage) for one in each]
    return (
        both("{:.2f}", *(one.rmse for one in each)),
        both("{:.1f}", *(one.mae for one in each)),
        both("{:.1f}", *(100 * one.mard for one in each)),
        both("{:.1f}", *(100 * one.zone("A") for one in each)),
        both("{:.1f}", *(100 * (one.zone("A") + one.zone("B")) for one in each)),
        both("{:.1f}", *(one.rmse_low for one in each)),
        both("{:.1f}", *(100 * one for one in covered)) if np.isfinite(covered).all() else "-",
    )


def _alarms(trial: Trial) -> Table:
    rows = []
    for protocol, held_out in (("folds", trial.held_out), ("other site", trial.other_site)):
        for sensor, sparse in (("5 min", False), ("15 min", True)):
            for label, target in zip(LABELS, TARGETS, strict=True):
                at = trial.calibration.alarm[label].start_at
                each = alarm_scores(held_out, trial.calibration, label, at, sparse=sparse)
                rows.append((protocol, sensor, target.name, f"8 bit, from {at:.3f}", *_alarm_figures(each)))
            theirs = _alarm_figures(nightscout_lows(held_out.grids, sparse))
            rows.append((protocol, sensor, TARGETS[0].name, "Nightscout", *theirs))
    at, tuned = _tuned_loss(trial.held_out)
    rows.append(("all", "5 min", TARGETS[0].name, f"AR2 loss, from {at:.3f}", *_alarm_figures(tuned)))
    return Table(
        ("protocol", "sensor", "event", "alarm", "events", "detected", "early", "heard", "false a day", "precision"),
        rows,
        before="Alarms at one threshold for everybody, found on the folds' 5-minute sensors for at most "
        + ", ".join(f"{FALSE_A_DAY[label]:g} ({TARGETS[k].name})" for k, label in enumerate(LABELS))
        + " false a day. Nightscout's warning has its own settings; the one on AR2's loss is tuned on those it is "
        "scored on:",
        after="early: 15 minutes before or more. heard: of the events, those with a notification within the horizon. "
        f"Alarms end below {ENDS_AT:g} of the probability at which they begin.",
    )


def _alarm_figures(each: Mapping[str, LowScore]) -> tuple[str, ...]:
    one, drawn = total(list(each.values())), resampled(list(each.values()), draws=500)
    low, high = interval(drawn.sensitivity)
    return (
        f"{int(one.events)}",
        f"{float(one.sensitivity):.3f} ({low:.3f} to {high:.3f})",
        f"{float(one.early_share):.3f}",
        f"{float(one.notified_share):.3f}",
        f"{float(one.false_per_day):.2f}",
        f"{float(one.precision):.2f}",
    )


def _population(trial: Trial) -> Table:
    """Where thresholds would be for other budgets."""
    rows = []
    for label, target in zip(LABELS, TARGETS, strict=True):
        for budget in (0.5, 1.0, 2.0):
            at = threshold(trial.held_out, trial.calibration, label, budget)
            here, there = (
                total(list(alarm_scores(one, trial.calibration, label, at, sparse=False).values()))
                for one in (trial.held_out, trial.other_site)
            )
            rows.append(
                (
                    target.name,
                    f"{budget:g}",
                    f"{at:.3f}",
                    _announced(here),
                    f"{_announced(there)} at {float(there.false_per_day):.2f}",
                )
            )
    return Table(
        ("event", "false a day", "from", "folds: detected / early", "other site: detected / early"),
        rows,
        before="What another budget would give, with 5-minute sensors:",
    )


def _announced(score: LowScore) -> str:
    return f"{float(score.sensitivity):.3f} / {float(score.early_share):.3f}"


def _tuned_loss(held_out: HeldOut) -> tuple[float, dict[str, LowScore]]:
    """Nightscout's forecast with the loss at which it gives as many false alerts as ours may."""
    grids = {patient: grid for patient, grid in held_out.grids.items() if not is_sparse_grid(grid)}
    paths = {patient: ar2(grid) for patient, grid in grids.items()}
    losses = {patient: np.where(path[:, 3] < 120.0, ar2_loss(path), 0.0) for patient, path in paths.items()}

    def at(least: float) -> dict[str, LowScore]:
        return {patient: low_score(grid, losses[patient] > least, TARGETS[0]) for patient, grid in grids.items()}

    low, high = 0.0, 0.5
    for _ in range(10):
        middle = (low + high) / 2
        too_many = float(total(list(at(middle).values())).false_per_day) > FALSE_A_DAY["lt70_30"]
        low, high = (middle, high) if too_many else (low, middle)
    return high, at(high)


def _people(trial: Trial) -> Table:
    """Quantiles over people."""
    rows = []
    for protocol, held_out in (("folds", trial.held_out), ("other site", trial.other_site)):
        predict = forecasts(held_out, trial.calibration, held_out.outputs)
        for minutes in HORIZONS_MIN:
            ours, theirs = (
                np.array([float(one.rmse) for one in scores_of(held_out.grids, each, minutes).values()])
                for each in (predict, nightscout)
            )
            quantiles = np.nanquantile(ours, [0.1, 0.5, 0.9])
            rows.append(
                (
                    protocol,
                    f"{minutes} min",
                    " / ".join(f"{value:.1f}" for value in quantiles),
                    f"{int(np.sum(ours < theirs))} of {int(np.isfinite(ours).sum())}",
                    f"{float(np.nanmax(ours / theirs)):.3f}",
                )
            )
    return Table(
        ("protocol", "horizon", "RMSE, 10 / 50 / 90 % of people", "better than AR2", "worst ratio to AR2"),
        rows,
        before="From person to person:",
    )


def _worst(trial: Trial) -> Table:
    predict = forecasts(trial.held_out, trial.calibration, trial.held_out.outputs)
    scores = {minutes: scores_of(trial.held_out.grids, predict, minutes) for minutes in HORIZONS_MIN}
    other = scores_of(trial.held_out.grids, nightscout, 30)
    alarms = alarm_scores(trial.held_out, trial.calibration, "lt70_30", trial.calibration.alarm["lt70_30"].start_at)
    by_error = sorted(scores[30], key=lambda patient: -np.nan_to_num(float(scores[30][patient].rmse)))[:WORST]
    by_alarm = sorted(alarms, key=lambda patient: -np.nan_to_num(float(alarms[patient].false_per_day)))[:WORST]
    rows = [
        (
            patient,
            f"{float(scores[30][patient].rmse):.1f} / {float(scores[60][patient].rmse):.1f}",
            f"{float(other[patient].rmse):.1f}",
            f"{100 * float(scores[30][patient].coverage):.0f}",
            f"{float(alarms[patient].false_per_day):.2f}",
            f"{int(alarms[patient].detected)} of {int(alarms[patient].events)}",
        )
        for patient in dict.fromkeys([*by_error, *by_alarm])
    ]
    return Table(
        ("person", "RMSE 30 / 60", "AR2 30", "covered % at 30", "false a day", "lows detected"),
        rows,
        before="People with the largest errors and with most false alerts of a low, held out:",
    )


def _files(trial: Trial) -> Table:
    full = trial.files[export.FLOAT]
    rows = [
        (
            FILES.get(name, "float ONNX"),
            f"{values[0]:.3f} / {values[1]:.3f}",
            f"{values[0] - full[0]:+.3f} / {values[1] - full[1]:+.3f}",
        )
        for name, values in trial.files.items()
    ]
    return Table(
        ("file", "RMSE 30 / 60", "more than float"),
        rows,
        before=f"The network in its files, on {trial.sample} readings drawn from those it was fitted to (only the "
        "differences say anything):",
    )


def _network(trial: Trial) -> list[str]:
    alarm = ", ".join(
        f"{label} from {one.start_at:g}, ends below {one.end_below:g}" for label, one in trial.calibration.alarm.items()
    )
    return [
        f"{trial.parameters} parameters: dense layers over the last three hours (each reading less the last one, each "
        "change, and which readings there were, every 5 minutes) and "
        f"{len(CONTEXT)} measures of level, slope, the AR2 path, the last 24 hours and the local time of day, "
        "which a quarter of the examples did not know.",
        f"Outputs: change at {HORIZONS_MIN[0]} and {HORIZONS_MIN[1]} min (5 %, mean, 95 %) in {UNIT_MG_DL:g} mg/dL; "
        "then three logits.",
        "8 bit: U8 activations, S8 weights per channel (7 bits used), min-max calibration. A reading's answer is the "
        "same bits in any batch.",
        f"Interval widened by {', '.join(f'{one:+g}' for one in trial.calibration.widen_mg_dl)} mg/dL. "
        f"Alarms of somebody of whom nothing is known: {alarm}.",
        f"Seed {trial.seed}. Made with {framework()}: `{trial.command}`.",
    ]


def _limits() -> list[str]:
    return [
        "Type 1 diabetes only, in three sets of two countries; nobody without insulin was seen.",
        "Insulin, meals and movement are not known to it: what the readings do not show yet is missed.",
        "Rare extremes come as a surprise: forecasts are drawn to the middle, most of all those for 60 minutes.",
        "False alerts differ from person to person by a factor of ten at one threshold: calibrate per person.",
        "Sensors of 15 minutes: 13 people, and less is known of each hour; a quarter of their lows come unannounced.",
        "Probabilities above one half say some points too much (see the plot): what is about to come weighs more.",
    ]
