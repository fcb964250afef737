"""What only the rhythm pack says of itself: F1 by recording, fibrillation by time, invented people, its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.scoring.rhythm import AfTimeScore, f1_by_class, mean_f1, mean_f1_interval
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.rhythm_window import BEFORE_S, CONTEXT, HOP_S, PREPARE, SAMPLES, SIGNAL_SHAPE, THIN, prepare, thin
from models.manifest import Conformal, Output, Source, WeightsName
from models.pack import probabilities
from models.training import plots as draw
from models.training.card import Card, Table, agreement_table, confusion_table
from models.training.conformal import coverage
from models.training.datasets import DS1, SVDB
from models.training.packing import Facts, ecg_input, framework, sources
from models.training.rhythm_examples import Streamed
from models.training.rhythm_records import AFDB, LABELS, NSRDB, VFDB, cinc2017_names
from models.training.rhythm_scores import Said, alarms, answers, by_time, letters, truth, window_shares
from models.training.scores import calibration_error

Float32 = npt.NDArray[np.float32]

VERSION = "0.1.0"
TITLE = "Rhythm of the last half minute: sinus, atrial fibrillation, other, too noisy to say"
INTENDED_USE = (
    "Research. Judges half a minute of one ECG lead of an adult at a time. Not a medical device, not validated for "
    "diagnosis; paced rhythm, children and intracardiac signals were never seen."
)
GOLDEN_ROWS = 32
WORST = 5
mean_of = mean_f1
"""The challenge's figure of true and said labels."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What networks said of recordings they had not met."""

    short: list[Said]
    """CinC 2017, the 8-bit networks."""
    full: list[Said]
    """The same, the float networks."""
    long: list[Said]
    """mitdb, vfdb and svdb; and afdb and nsrdb from their reference beats alone. 8-bit networks."""
    long_recordings: Sequence[Streamed]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """How the rhythm pack came to be, and what it said of recordings it had not met."""

    held_out: HeldOut
    bias: Float32
    temperature: float
    conformal: Conformal
    agreement: Mapping[WeightsName, float]
    agreed_rows: int
    parameters: int
    folds: int
    seed: int
    command: str


def learnt_from() -> list[Source]:
    """Every database that was learnt from."""
    return sources(
        {
            "cinc2017": cinc2017_names(),
            "mitdb": DS1,
            "vfdb": VFDB,
            "svdb": [name for name in SVDB if name not in {"804", "867"}],
            "afdb": AFDB,
            "nsrdb": NSRDB,
            "nstdb": ["bw", "em", "ma"],
        }
    )


def facts(trial: Trial) -> Facts:
    """What the manifest says."""
    return Facts(
        task="rhythm",
        version=VERSION,
        title=TITLE,
        intended_use=INTENDED_USE,
        input=ecg_input(hop_s=HOP_S, before_s=BEFORE_S, prepare=PREPARE, shape=SIGNAL_SHAPE, context=CONTEXT),
        output=Output(labels=list(LABELS), temperature=trial.temperature, conformal=trial.conformal),
        latency_s=0.0,
        parameters=trial.parameters,
        seed=trial.seed,
        command=trial.command,
        sources=learnt_from(),
    )


PLOTS = {
    "confusion.png": "Held-out CinC 2017 recordings, 8-bit network: reference over answer",
    "roc.png": "Held-out CinC 2017 recordings, 8-bit network: atrial fibrillation against all else",
    "reliability.png": "Held-out CinC 2017 windows, 8-bit network: how often right over how sure",
}


def plots(trial: Trial, folder: Path) -> dict[str, Path]:
    """The plots of PLOTS, written into `folder`."""
    shares, label = window_shares(trial.held_out.short, trial.bias, trial.temperature)
    of_recordings = answers(trial.held_out.short, trial.bias)
    true = np.array([LABELS.index(letter) for letter in truth(trial.held_out.short)])
    of_af = (true == LABELS.index("A"), of_recordings[:, LABELS.index("A")])
    drawn = (
        draw.confusion_matrix(folder / "confusion.png", _counts(trial), LABELS),
        draw.roc(folder / "roc.png", {"AF": of_af}),
        draw.reliability(folder / "reliability.png", shares.max(axis=1), shares.argmax(axis=1) == label),
    )
    return {path.name: path for path in drawn}


def card(trial: Trial) -> Card:
    """What CARD.md says."""
    return Card(
        title=TITLE,
        version=VERSION,
        intended_use=INTENDED_USE,
        protocol=_protocol(trial),
        tables=[
            _recordings(trial),
            confusion_table(
                LABELS, _counts(trial).tolist(), "Rows are the reference, columns the answer of the 8-bit network:"
            ),
            _times(trial),
            _worst(trial),
            agreement_table(trial.agreement, trial.agreed_rows, "windows learnt from"),
        ],
        network=_network(trial),
        sources=learnt_from(),
        limits=_limits(),
        plots=PLOTS,
    )


def report(trial: Trial) -> Iterator[str]:
    """The card's figures, for people who made the pack."""
    for table in (_recordings(trial), _times(trial), _worst(trial)):
        yield from ("", table.before, " | ".join(table.header), *(" | ".join(row) for row in table.rows), table.after)
    yield f"bias {trial.bias.round(2).tolist()}, temperature {trial.temperature}"
    yield f"conformal {trial.conformal.at_least}"
    yield f"agreement {trial.agreement}"


def golden_inputs() -> dict[str, Float32]:
    """Signal and context of invented people in sinus rhythm, bigeminy, fibrillation and noise."""
    rng = np.random.default_rng(64)
    paths, beats = [], []
    t = np.arange(SAMPLES * THIN) / ANALYSIS_RATE_HZ
    for number in range(GOLDEN_ROWS):
        kind = number % 4
        rr = rng.uniform(0.45, 1.1, 80) if kind == 1 else rng.normal(0.8, 0.02, 80) * (1.0, 1.0, 0.0, 1.0)[kind]
        if kind == 2:
            rr = np.tile([0.55, 1.0], 40) + rng.normal(0.0, 0.01, 80)
        r = np.round((0.4 + np.cumsum(rr)) * ANALYSIS_RATE_HZ).astype(np.int64)
        r = r[r < len(t) - 150]
        x = np.zeros(len(t))
        for at_s in (r + MORPHOLOGY_DELAY) / ANALYSIS_RATE_HZ:
            x += np.exp(-(((t - at_s) / 0.015) ** 2)) + 0.25 * np.exp(-(((t - at_s - 0.28) / 0.05) ** 2))
            x += (0.0 if kind == 1 else 0.12) * np.exp(-(((t - at_s + 0.16) / 0.025) ** 2))
        x += rng.normal(0.0, 0.6 if kind == 3 else 0.02, len(t))
        paths.append(thin(x))
        beats.append(r)
    signal, context = prepare(np.stack(paths), np.full(GOLDEN_ROWS, SAMPLES), beats)
    return {"signal": signal, "context": context}


def _counts(trial: Trial) -> npt.NDArray[np.int64]:
    true = [LABELS.index(letter) for letter in truth(trial.held_out.short)]
    said = answers(trial.held_out.short, trial.bias).argmax(axis=1)
    counts = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    np.add.at(counts, (true, said), 1)
    return counts


def _protocol(trial: Trial) -> list[str]:
    return [
        f"{trial.folds} folds, stratified by class, over {len(trial.held_out.short)} recordings of CinC 2017 (nine "
        "tenths of the public set; no person is named in it, so a person may be in two folds) and, person by person, "
        "over the long recordings. Each recording was judged by a network fitted without it, streamed through vagus's "
        f"own filters and detector: a window of up to {BEFORE_S:g} s every {HOP_S:g} s of the run. One answer a "
        "recording is made of all its windows (agent/scoring/rhythm.py).",
        "Fibrillation by time is that of the live alarm rule on those windows; time in atrial flutter, junctional or "
        "ventricular fibrillation, paced rhythm and noise counts for neither. afdb and nsrdb are given without signal: "
        "there the network sees only the reference beats, in a window every 8 s, its other inputs are noughts. "
        "svdb has no annotated rhythms: all of it is counted as none, which some of it may not be.",
        "The operating point (a constant added to three of the logits), the temperature and the conformal thresholds "
        "were found on these same held-out answers of CinC 2017, and the alarm's limits on those of the long "
        "recordings, so the tables flatter a little. The network that ships was fitted once, to everything; no score "
        "of it exists here.",
    ]


def _recordings(trial: Trial) -> Table:
    nought = np.zeros(len(LABELS), dtype=np.float32)
    rows = []
    for name, said, bias in (
        ("8 bit", trial.held_out.short, trial.bias),
        ("8 bit, constants 0", trial.held_out.short, nought),
        ("float", trial.held_out.full, trial.bias),
    ):
        true, answer = truth(said), letters(answers(said, bias))
        low, high = mean_f1_interval(true, answer)
        by_class = f1_by_class(true, answer)
        rows.append(
            (name, f"{mean_f1(true, answer):.4f}", f"{low:.3f} to {high:.3f}", *(f"{by_class[x]:.3f}" for x in LABELS))
        )
    shares, label = window_shares(trial.held_out.short, trial.bias, trial.temperature)
    covered = coverage(shares, label, LABELS, trial.conformal)
    return Table(
        ("network", "mean F1 of N, A, O", "95 % interval", *LABELS),
        rows,
        after=f"Calibration error of a window's largest probability, temperature {trial.temperature:g}: "
        f"{calibration_error(shares, label.astype(np.int8)):.4f}. {100 * covered.unsure:.1f} % of windows are unsure; "
        f"of the others {100 * covered.right_when_sure:.1f} % are right, of all {100 * covered.right:.1f} %.",
    )


def _scored(trial: Trial) -> Iterator[tuple[str, AfTimeScore]]:
    by_name = {recording.patient: recording for recording in trial.held_out.long_recordings}
    for said in trial.held_out.long:
        recording = by_name[said.patient]
        run_s = recording.samples / ANALYSIS_RATE_HZ
        yield (
            said.patient,
            by_time(
                said, recording.rhythms, run_s, alarms(said, trial.bias, trial.temperature, trial.conformal, run_s)
            ),
        )


def _times(trial: Trial) -> Table:
    total: dict[str, AfTimeScore] = {}
    for patient, score in _scored(trial):
        database = patient.partition("/")[0]
        total[database] = total.get(database, AfTimeScore()) + score
    rows = [
        (
            database,
            f"{(score.true_s + score.missed_s) / 3600:.2f}",
            f"{(score.rest_s + score.false_s) / 3600:.2f}",
            f"{100 * score.sensitivity:.2f} / {100 * score.specificity:.2f}",
            f"{score.episodes_found}/{score.episodes}",
            f"{score.said_true}/{score.said}",
        )
        for database, score in sorted(total.items())
    ]
    return Table(
        ("held-out people of", "hours of AF", "other hours", "AF Se / Sp by time, %", "episodes found", "said rightly"),
        rows,
        before="Atrial fibrillation by the alarm:",
    )


def _worst(trial: Trial) -> Table:
    scores = sorted(_scored(trial), key=lambda row: -(row[1].missed_s + row[1].false_s))[: 2 * WORST]
    rows = [(patient, f"{score.missed_s:.0f}", f"{score.false_s:.0f}") for patient, score in scores]
    return Table(("record", "s of AF missed", "s of AF said falsely"), rows, before="Long records with most errors:")


def _network(trial: Trial) -> list[str]:
    shifts = ", ".join(f"{label} {value:+.1f}" for label, value in zip(LABELS, trial.bias.tolist(), strict=True))
    return [
        f"{trial.parameters} parameters: four strided convolutions over half a minute of ECG at 62.5 Hz and its RR "
        "intervals, mean and maximum over time, beside a small net over RR statistics and the mean beat.",
        "8 bit: U8 activations, S8 weights per channel (7 bits used), min-max calibration. A window's answer is the "
        "same bits in any batch.",
        f"Constants added to the logits: {shifts}. Seed {trial.seed}.",
        f"Made with {framework()}: `{trial.command}`.",
    ]


def _limits() -> list[str]:
    return [
        "Other is whatever is neither sinus rhythm nor fibrillation by CinC 2017's labels, mostly ectopy and odd "
        "rates; it is taken for sinus rhythm about one time in five.",
        "Fibrillation with a regular ventricular rate, and atrial flutter, are not told reliably.",
        "It learnt from a hand-held lead I recorder and from ambulatory recordings of decades ago; the long ones were "
        "few people.",
        "Windows of fewer than some ten seconds, at the start of a run, are judged on little.",
    ]


__all__ = ["HeldOut", "Trial", "card", "facts", "golden_inputs", "learnt_from", "mean_of", "plots", "probabilities"]
