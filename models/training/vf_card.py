"""What only the fibrillation pack says of itself: windows and alarms by database, invented rhythms, its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.alarms.fibrillation import Fibrillation
from agent.evaluate.reference import Span
from agent.scoring.episodes import GRACE_S, LEAST_EPISODE_S, AlarmScore, Share
from agent.signal.vf_window import (
    AFTER_S,
    BEFORE_S,
    CONTEXT,
    HOP_S,
    PREPARE,
    SIGNAL_SHAPE,
    STILL_MV,
    WINDOW_SAMPLES,
    prepare,
)
from models.manifest import Conformal, Output, Source, WeightsName
from models.pack import probabilities
from models.training.card import Card, Table, agreement_table
from models.training.packing import Facts, ecg_input, framework, sources
from models.training.plots import confusion_matrix, reliability, roc
from models.training.scores import calibration_error
from models.training.vf_examples import LABELS
from models.training.vf_trial import (
    SITES,
    SPECIFICITY,
    HeldOut,
    alarm_scores,
    database,
    scored,
    shares,
    summed,
    total,
)

Float32 = npt.NDArray[np.float32]

VERSION = "0.1.0"
TITLE = "Shockable rhythm: ventricular fibrillation, flutter and fast tachycardia"
INTENDED_USE = (
    "Research. Says of the last seconds of one ECG lead of an adult whether the rhythm is one that a defibrillator "
    "would shock. Not a medical device, not validated for diagnosis or therapy; it must never decide on a shock."
)
LATENCY_S = 0.1
WORST = 6
QUIET = ("OTHER", "ASYS", "NOISE")
PLOTS = {
    "confusion.png": "Held-out windows of vfdb and cudb, 8-bit network: reference over answer",
    "roc.png": "Held-out windows, 8-bit network: sensitivity over false positive rate",
    "reliability.png": "Held-out windows of vfdb and cudb, 8-bit network: how often right over how sure",
}


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """How the pack came to be, and what it said of people it had not met."""

    command: str
    seed: int
    parameters: int
    bias: float
    temperature: float
    folds: int
    people: Sequence[str]
    """Everybody learnt from; noise and standstill are nobody."""
    spans: Mapping[str, Sequence[Span]]
    held_out: HeldOut
    """At the operating point, as are the others."""
    other_site: HeldOut
    """vfdb and cudb, each said by a network that saw nobody of it."""
    invented: Sequence[HeldOut]
    """Per fold, recorded noise that was not learnt from, and standstill under it."""
    agreement: Mapping[WeightsName, float]
    conformal: Conformal | None = None

    @property
    def sources(self) -> list[Source]:
        by_database: dict[str, list[str]] = {}
        for patient in self.people:
            site, _, name = patient.partition("/")
            if site not in {"noise", "standstill"}:
                by_database.setdefault(site, []).append(name)
        if "cinc2017" in by_database:
            by_database["cinc2017"] = [f"{len(by_database['cinc2017'])} recordings of the given nine tenths"]
        return sources({**by_database, "nstdb": ["bw", "em", "ma"]})


def facts(trial: Trial) -> Facts:
    """What the manifest says."""
    return Facts(
        task="vf",
        version=VERSION,
        title=TITLE,
        intended_use=INTENDED_USE,
        input=ecg_input(
            hop_s=HOP_S, before_s=BEFORE_S, after_s=AFTER_S, prepare=PREPARE, shape=SIGNAL_SHAPE, context=CONTEXT
        ),
        output=Output(labels=list(LABELS), temperature=trial.temperature, conformal=trial.conformal),
        latency_s=LATENCY_S,
        parameters=trial.parameters,
        seed=trial.seed,
        command=trial.command,
        sources=trial.sources,
    )


def golden_inputs() -> dict[str, Float32]:
    """64 windows of invented waves, from sinus-like spikes over fast sines to a flat line: no recording is in them."""
    rng = np.random.default_rng(64)
    t = np.arange(WINDOW_SAMPLES) / 250.0
    windows = []
    for number in range(64):
        hz = 0.8 + 0.1 * number
        phase = 2 * np.pi * (hz * t + 0.3 * np.sin(0.7 * t))
        wave = np.sin(phase) if number % 3 else np.exp(-((((phase / (2 * np.pi)) % 1.0 - 0.5) / (0.02 * hz)) ** 2))
        size = (1.0, 0.3, 0.1, 0.01)[number % 4]
        windows.append(size * wave + 0.02 * rng.normal(size=len(t)))
    signal, context = prepare(np.stack(windows))
    return {"signal": signal, "context": context}


def plots(trial: Trial, folder: Path) -> dict[str, Path]:
    """The plots of PLOTS, written into `folder`."""
    judged = trial.held_out.of(scored(trial.held_out.examples))
    site = database(judged.examples)
    said, truth = probabilities(judged.int8_logits, trial.temperature), judged.examples.label
    answer = said.argmax(axis=1)
    apart = np.isin(site, SITES)
    counts = np.bincount(truth[apart].astype(np.int64) * 2 + answer[apart], minlength=4).reshape(2, 2)
    drawn = (
        confusion_matrix(folder / "confusion.png", counts, LABELS),
        roc(folder / "roc.png", {name: (truth[site == name] == 1, said[site == name, 1]) for name in SITES}),
        reliability(folder / "reliability.png", said[apart].max(axis=1), (answer == truth)[apart]),
    )
    return {path.name: path for path in drawn}


def card(trial: Trial) -> Card:
    """What CARD.md says."""
    judged = int(scored(trial.held_out.examples).sum())
    return Card(
        title=TITLE,
        version=VERSION,
        intended_use=INTENDED_USE,
        protocol=_protocol(trial),
        tables=[
            _windows(trial),
            _quiet(trial),
            _alarms(trial),
            _worst(trial),
            agreement_table(trial.agreement, judged, "windows"),
        ],
        network=_network(trial),
        sources=trial.sources,
        limits=_limits(),
        plots=PLOTS,
    )


def summary(trial: Trial) -> list[str]:
    """The tables in a few lines of text."""
    tables = (_windows(trial), _quiet(trial), _alarms(trial), _worst(trial))
    return [" | ".join(row) for table in tables for row in (table.header, *table.rows)]


def _protocol(trial: Trial) -> list[str]:
    return [
        f"Leave-people-out: {trial.folds} folds; each window was answered by a network fitted without any recording of "
        f"that person. Windows of {BEFORE_S:g} s end at every second of the streamed first lead. One is scored where "
        "all of it lies in one annotated rhythm and its last three seconds passed the quality gate. Shockable are "
        "fibrillation and flutter (VF) and tachycardia of 150 a minute and more (VT); slower tachycardia is not "
        "scored. The bounds are one-sided 90 % lower bounds (Wilson) in which each window counts as independent.",
        "Other site: cudb answered by a network that saw nobody of cudb, vfdb by one that saw nobody of vfdb. Alarms "
        "are those of the live rule on the same answers. An episode counts from "
        f"{LEAST_EPISODE_S:g} s on, if no alarm was on when it began; one that was never announced counts as late. An "
        f"alarm is false when it is raised outside and not within {GRACE_S:g} s after any shockable rhythm; it is "
        "counted per hour of rhythm that is not shockable.",
        f"The operating point ({trial.bias:+g} on the logit of shockable, at which the specificity of people in vfdb "
        f"and cudb is {100 * SPECIFICITY:g} % in the mean) and the temperature were found on these same "
        "held-out answers; so were the limits of the alarm. The network that ships was fitted once, to everybody; no "
        "score of it exists here, and the blind records were not looked at.",
    ]


def _windows(trial: Trial) -> Table:
    rows = []
    for protocol, held_out, names in (
        ("folds", trial.held_out, (*SITES, "mitdb", "svdb")),
        ("other site", trial.other_site, SITES),
    ):
        for name, logits in (("8 bit", held_out.int8_logits), ("float", held_out.float_logits)):
            found = shares(held_out, logits, trial.spans)
            for site in names:
                mine = {patient: kinds for patient, kinds in found.items() if patient.startswith(site)}
                each = [kinds["VF"].value for kinds in mine.values() if "VF" in kinds]
                rows.append(
                    (
                        protocol,
                        site,
                        name,
                        _share(total(mine, ("VF",))),
                        f"{100 * float(np.median(each)):.1f} of {len(each)}" if each else "-",
                        _share(total(mine, ("VT",))),
                        _share(total(mine, ("OTHER",))),
                        _share(total(mine, ("ASYS",))),
                        _share(total(mine, ("NOISE",))),
                    )
                )
    said = probabilities(trial.held_out.int8_logits, trial.temperature)
    chosen = scored(trial.held_out.examples) & np.isin(database(trial.held_out.examples), SITES)
    error = calibration_error(said[chosen], trial.held_out.examples.label[chosen])
    return Table(
        ("protocol", "people of", "network", "VF Se", "VF Se median", "VT Se", "other Sp", "asystole Sp", "noise Sp"),
        rows,
        before="Windows called right, % (lower bound) of how many:",
        after=f"Expected calibration error on vfdb and cudb at temperature {trial.temperature:g}: {error:.4f}.",
    )


def _quiet(trial: Trial) -> Table:
    """Of windows in which nothing is to shock, how many were called so."""
    rows = []
    site = database(trial.held_out.examples)
    called = trial.held_out.int8_logits.argmax(axis=1) == 1
    usable = scored(trial.held_out.examples)
    for name in ("cinc2015", "cinc2017"):
        chosen = usable & (site == name)
        people = len(np.unique(trial.held_out.examples.patient[chosen]))
        rows.append((name, str(people), f"{int(called[chosen].sum())} of {int(chosen.sum())}"))
    for name, what in (("noise", "recorded noise alone"), ("standstill", "simulated standstill")):
        of_folds = []
        for one in trial.invented:
            chosen = database(one.examples) == name
            of_folds.append(Share(int((one.int8_logits[chosen].argmax(axis=1) == 1).sum()), int(chosen.sum())))
        most = max(of_folds, key=lambda share: share.part)
        rows.append((what, "-", f"{most.part} of {most.of} (worst fold)"))
    return Table(("windows of", "recordings", "called shockable"), rows, before="Where nothing is to shock:")


def _alarms(trial: Trial) -> Table:
    rows = []
    for protocol, held_out in (("folds", trial.held_out), ("other site", trial.other_site)):
        scores = alarm_scores(held_out, trial.temperature, trial.spans)
        fibrillation = alarm_scores(held_out, trial.temperature, trial.spans, ("VF",))
        for site in (*SITES, ""):
            all_of, vf = summed(scores, site), summed(fibrillation, site)
            rows.append(
                (
                    protocol,
                    site or "both",
                    _within(all_of),
                    _within(vf),
                    f"{_median(all_of):.1f}",
                    str(all_of.covered),
                    f"{all_of.false_alarms} in {all_of.quiet_s / 3600:.1f} h",
                    f"{all_of.false_per_hour:.2f}",
                )
            )
    return Table(
        (
            "protocol",
            "people of",
            "announced in 10 s",
            "VF only",
            "median s",
            "alarm already on",
            "false alarms",
            "an hour",
        ),
        rows,
        before="Alarms of the 8-bit network:",
    )


def _worst(trial: Trial) -> Table:
    found = shares(trial.held_out, trial.held_out.int8_logits, trial.spans)
    scores = alarm_scores(trial.held_out, trial.temperature, trial.spans)
    here = [patient for patient in found if patient.partition("/")[0] in SITES]

    def missed(patient: str) -> int:
        share = total({patient: found[patient]}, ("VF", "VT"))
        return share.of - share.part

    def false(patient: str) -> int:
        share = total({patient: found[patient]}, QUIET)
        return share.of - share.part

    chosen = sorted(here, key=missed)[-WORST:] + sorted(here, key=false)[-WORST:]
    rows = [
        (
            patient,
            f"{missed(patient)} of {total({patient: found[patient]}, ('VF', 'VT')).of}",
            f"{false(patient)} of {total({patient: found[patient]}, QUIET).of}",
            str(scores[patient].false_alarms),
        )
        for patient in dict.fromkeys(reversed(chosen))
    ]
    return Table(
        ("record", "shockable windows missed", "others called shockable", "false alarms"),
        rows,
        before="Records with most missed windows and with most false ones, held out:",
    )


def _network(trial: Trial) -> list[str]:
    return [
        f"{trial.parameters} parameters: four convolutions over the last {BEFORE_S:g} s at 62.5 Hz (as they are and "
        f"divided by their own size), beside a small net over {len(CONTEXT)} measures of height, regularity and shape.",
        "8 bit: U8 activations, S8 weights per channel (7 bits used), min-max calibration. A window's answer is the "
        "same bits in any batch.",
        f"The alarm: the mean of the last {Fibrillation.AVERAGED} probabilities reaches "
        f"{Fibrillation('').on_at:g}; it ends below {Fibrillation.OFF_AT:g}.",
        f"Constant added to the logit of shockable: {trial.bias:+g}. Temperature {trial.temperature:g}. "
        f"Seed {trial.seed}.",
        f"Made with {framework()}: `{trial.command}`.",
    ]


def _limits() -> list[str]:
    return [
        "Few people: 7 with fibrillation or flutter in vfdb and mitdb, 17 in cudb. One of them moves every figure.",
        "Wide complexes at 105 to 135 a minute (418, cu03, cu09) are taken for shockable again and again.",
        "Chest compressions: where their wave hides the fibrillation beneath (cu20, cu30), it is mostly missed.",
        f"Fibrillation below {STILL_MV:g} mV from peak to peak passes for standstill; a wrong gain misleads.",
        "Adults, surface ECG, recordings of decades ago. Children and implanted devices were not seen.",
    ]


def _share(share: Share) -> str:
    return f"{100 * share.value:.2f} ({100 * share.lower_bound:.2f}) of {share.of}" if share.of else "-"


def _within(score: AlarmScore) -> str:
    share = score.within(10.0)
    return f"{share.part} of {share.of}"


def _median(score: AlarmScore) -> float:
    return float(np.median(score.delays_s)) if score.delays_s else math.nan
