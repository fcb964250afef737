"""What only the beat pack says of itself: scores per class and database, an invented person's beats, its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.signal.beat_features import (
    AFTER_S,
    AFTER_SAMPLES,
    BEFORE_S,
    BEFORE_SAMPLES,
    CONTEXT,
    PREPARE,
    RATE_HZ,
    SIGNAL_SHAPE,
    BeatFeatures,
)
from agent.signal.pending import DECIDE_S, DECIDE_SAMPLES, FOLLOWER_SAMPLES, DueBeat
from models.manifest import Conformal, Output, Source, WeightsName
from models.pack import probabilities
from models.training.card import Card, Table, agreement_table, confusion_table
from models.training.datasets import Record
from models.training.examples import LABELS, Examples
from models.training.packing import Facts, ecg_input, framework, sources
from models.training.plots import confusion_matrix, precision_recall, reliability
from models.training.scores import Score, calibration_error, confusion, score

Float32 = npt.NDArray[np.float32]
Chosen = npt.NDArray[np.bool_]

VERSION = "0.1.0"
TITLE = "Heart beats: normal, supraventricular ectopic, ventricular ectopic"
INTENDED_USE = (
    "Research. Labels beats that vagus's detector found in one ECG lead of an adult. Not a medical device, not "
    "validated for diagnosis; paced rhythm, children and intracardiac signals were never seen."
)
OMITTED = {
    "F": "nine in ten fusion beats of the training records are one person's: a class of its own cannot be learnt"
}
GOLDEN_ROWS = 64
WORST = 5


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """How the beat pack came to be, and what it said of people it had not met."""

    records: Sequence[Record]
    rhythms: bool
    """Recordings of which only the rhythm is known were learnt from."""
    noise: bool
    seed: int
    command: str
    parameters: int
    bias: Float32
    temperature: float
    folds: int
    truth: Examples
    """Held-out beats."""
    float_logits: Float32
    """Of the held-out beats, at the operating point."""
    int8_logits: Float32
    in_fibrillation: Chosen
    """Beats at which the rhythm pack said atrial fibrillation: the agent does not call them S."""
    reference: Sequence[Mapping[str, int]]
    """Per record, scored reference beats of each class."""
    agreement: Mapping[WeightsName, float]
    """Of the files that ship, on all beats learnt from."""
    conformal: Conformal | None = None

    @property
    def agent_logits(self) -> Float32:
        """What the agent makes of the 8-bit network's answers."""
        return without_s(self.int8_logits, self.in_fibrillation)

    @property
    def sources(self) -> list[Source]:
        """Every database that was learnt from."""
        by_database = {
            database: [record.name for record in self.records if record.database == database]
            for database in sorted({record.database for record in self.records})
        }
        if self.rhythms:
            by_database["cinc2017"] = ["all recordings of the given nine tenths labelled N or A"]
        if self.noise:
            by_database["nstdb"] = ["bw", "em", "ma"]
        return sources(by_database)


def without_s(logits: Float32, chosen: Chosen) -> Float32:
    """`logits` (n, labels) with S ruled out at the `chosen` beats."""
    out = logits.copy()
    out[chosen, LABELS.index("S")] = -100.0
    return out


def facts(trial: Trial) -> Facts:
    """What the manifest says."""
    return Facts(
        task="beat",
        version=VERSION,
        title=TITLE,
        intended_use=INTENDED_USE,
        input=ecg_input(before_s=BEFORE_S, after_s=AFTER_S, prepare=PREPARE, shape=SIGNAL_SHAPE, context=CONTEXT),
        output=Output(labels=list(LABELS), omitted=OMITTED, temperature=trial.temperature, conformal=trial.conformal),
        latency_s=DECIDE_S,
        parameters=trial.parameters,
        seed=trial.seed,
        command=trial.command,
        sources=trial.sources,
    )


PLOTS = {
    "confusion.png": "Held-out beats, 8-bit network: reference over answer",
    "precision_recall.png": "Held-out beats, 8-bit network: positive predictivity over sensitivity",
    "reliability.png": "Held-out beats, 8-bit network: how often right over how sure",
}


def plots(trial: Trial, folder: Path) -> dict[str, Path]:
    """The plots of PLOTS, written into `folder`."""
    shares = probabilities(trial.int8_logits, trial.temperature)
    truth, answer = trial.truth.label, shares.argmax(axis=1)
    curves = {label: (truth == k, shares[:, k]) for k, label in enumerate(LABELS) if label in "SV"}
    drawn = (
        confusion_matrix(folder / "confusion.png", confusion(truth, answer), LABELS),
        precision_recall(folder / "precision_recall.png", curves),
        reliability(folder / "reliability.png", shares.max(axis=1), answer == truth),
    )
    return {path.name: path for path in drawn}


def card(trial: Trial) -> Card:
    """What CARD.md says."""
    return Card(
        title=TITLE,
        version=VERSION,
        intended_use=INTENDED_USE,
        protocol=[_protocol(trial)],
        tables=[
            _scores(trial),
            confusion_table(
                LABELS,
                confusion(trial.truth.label, trial.agent_logits.argmax(axis=1)).tolist(),
                "Rows are the reference, columns the answer that the agent takes:",
            ),
            _worst(trial),
            agreement_table(trial.agreement, len(trial.truth), "beats"),
        ],
        network=_network(trial),
        sources=trial.sources,
        limits=_limits(),
        plots=PLOTS,
    )


def golden_inputs() -> dict[str, Float32]:
    """Signal (64, 2, 125) and context (64, features) of an invented person's beats: no recording is in them."""
    rng = np.random.default_rng(64)
    features = BeatFeatures()
    state = features.new_state()
    wide = [number % 7 == 5 for number in range(GOLDEN_ROWS + 1)]
    early = [number % 5 == 3 or wide[number] for number in range(GOLDEN_ROWS + 1)]
    apart = [round((0.52 if is_early else 0.80) * RATE_HZ + 2.5 * rng.normal()) for is_early in early]
    r_peaks = np.cumsum(apart)
    t = np.arange(r_peaks[-1] + AFTER_SAMPLES) / RATE_HZ
    path = 0.02 * rng.normal(size=len(t))
    for r, is_wide in zip(r_peaks, wide, strict=True):
        at = t - r / RATE_HZ
        path += (-1.4 if is_wide else 1.0) * np.exp(-((at / (0.035 if is_wide else 0.012)) ** 2))
        path += 0.25 * np.exp(-(((at - 0.28) / 0.06) ** 2))
        path += (0.0 if is_wide else 0.12) * np.exp(-(((at + 0.16) / 0.025) ** 2))
    signals, contexts = [], []
    for r, later in zip(r_peaks.tolist(), r_peaks[1:].tolist(), strict=False):
        due = DueBeat(r, r + DECIDE_SAMPLES, (later,) if later <= r + DECIDE_SAMPLES - FOLLOWER_SAMPLES else ())
        window = path[None, r - BEFORE_SAMPLES : r + AFTER_SAMPLES].astype(np.float32)
        signal, context = features.push([state], window, [due])
        signals.append(signal)
        contexts.append(context)
    return {"signal": np.concatenate(signals), "context": np.concatenate(contexts)}


def _protocol(trial: Trial) -> str:
    return (
        f"Leave-people-out: {trial.folds} folds over {len(trial.records)} people; each beat was labelled by a network "
        "fitted without any recording of that person. Beats are those of vagus's own detector on the streamed signal, "
        "one lead (MLII where there is one, else the first), matched to the reference within 150 ms; undetected "
        "reference beats count against sensitivity. The first five minutes, flutter and fibrillation are not scored, "
        "nor are reference beats that are fusion or unclassifiable. Classes: de Chazal's mapping (N: N L R e j; "
        "S: A a J S; V: V E). The operating point (a constant added to the S and V logits) and the temperature were "
        "found on these same held-out answers: two numbers and one, over all people. The network that ships was fitted "
        "once, to everybody; no score of it exists here, and the blind halves of the databases were not looked at. As "
        "the agent uses it: where the rhythm pack last said atrial fibrillation, no beat is called S; that pack has "
        "learnt the rhythms of these recordings (of svdb, which names none, that all but 804 and 867 have none)."
    )


def _scores(trial: Trial) -> Table:
    rows = []
    databases = sorted({record.database for record in trial.records})
    for database in [*databases, "both"]:
        chosen = _of(trial, None if database == "both" else database)
        for name, logits in (
            ("8 bit, as the agent uses it", trial.agent_logits),
            ("8 bit alone", trial.int8_logits),
            ("float alone", trial.float_logits),
        ):
            s, v = (_score(trial, logits, chosen, label) for label in "SV")
            truth = trial.truth.label[chosen]
            numbers = f"{int((truth == LABELS.index('S')).sum())} / {int((truth == LABELS.index('V')).sum())}"
            rows.append((database, numbers, name, str(s), f"{100 * s.f1:.1f}", str(v), f"{100 * v.f1:.1f}"))
    probability = probabilities(trial.int8_logits, trial.temperature)
    error = calibration_error(probability, trial.truth.label)
    agreement = float((trial.int8_logits.argmax(1) == trial.float_logits.argmax(1)).mean())
    return Table(
        ("held-out people of", "beats S / V", "network", "S Se / +P", "S F1", "V Se / +P", "V F1"),
        rows,
        after=f"8-bit and float networks agree on {100 * agreement:.2f} % of beats. Expected calibration error of the "
        f"8-bit network's largest probability, temperature {trial.temperature:g}: {error:.4f}.",
    )


def _worst(trial: Trial) -> Table:
    wrong = trial.agent_logits.argmax(axis=1) != trial.truth.label
    people, place = np.unique(trial.truth.patient, return_inverse=True)
    errors = np.bincount(place, weights=wrong, minlength=len(people))
    rows = []
    for i in np.argsort(-errors, kind="stable")[:WORST]:
        chosen = place == i
        counts = confusion(trial.truth.label[chosen], trial.agent_logits[chosen].argmax(axis=1))
        s, v = score(counts, "S"), score(counts, "V")
        rows.append((str(people[i]), str(int(chosen.sum())), str(int(errors[i])), str(s), str(v)))
    return Table(
        ("record", "beats", "errors", "S Se / +P", "V Se / +P"),
        rows,
        before="Records with most errors, as the agent takes the answers:",
    )


def _network(trial: Trial) -> list[str]:
    left_out = "; ".join(f"{label} ({reason})" for label, reason in OMITTED.items())
    shifts = ", ".join(f"{label} {trial.bias[LABELS.index(label)]:+g}" for label in "SV")
    return [
        f"{trial.parameters} parameters: four convolutions over the beat and its difference to the person's running "
        f"normal beat, beside a small net over rhythm and shape scalars. Causal: complete {DECIDE_S:g} s after R.",
        "8 bit: U8 activations, S8 weights per channel (7 bits used), min-max calibration. A beat's answer is the same "
        "bits in any batch.",
        f"Q stands for a detection with no beat under it. Left out: {left_out}.",
        f"Constants added to the logits: {shifts}. Seed {trial.seed}.",
        f"Made with {framework()}: `{trial.command}`.",
    ]


def _limits() -> list[str]:
    return [
        "Adults, surface ECG, mostly ambulatory recordings of decades ago. Children, paced hearts and intracardiac "
        "signals were not among the people it learnt from.",
        "Supraventricular ectopy is told mostly by its timing: in irregular sinus rhythm and atrial fibrillation beats "
        "may be called S that are not, and a supraventricular rhythm that lasts for many minutes may pass for normal.",
        "For the first minute of a recording the person's normal beat is still being learnt.",
    ]


def _of(trial: Trial, database: str | None) -> Chosen:
    if database is None:
        return np.ones(len(trial.truth), dtype=bool)
    return np.asarray(np.char.startswith(trial.truth.patient, f"{database}/"), dtype=np.bool_)


def _score(trial: Trial, logits: Float32, chosen: Chosen, label: str) -> Score:
    truth = trial.truth.label[chosen]
    people = set(trial.truth.patient[chosen].tolist())
    there = sum(
        counts.get(label, 0)
        for record, counts in zip(trial.records, trial.reference, strict=True)
        if record.patient in people
    )
    found = int((truth == LABELS.index(label)).sum())
    return score(confusion(truth, logits[chosen].argmax(axis=1)), label, max(0, there - found))
