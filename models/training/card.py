"""CARD.md: what a pack is, how well it does on people it had not met, and what it must not be used for."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from models.pack import probabilities
from models.training.examples import LABELS
from models.training.scores import Score, calibration_error, confusion, score

if TYPE_CHECKING:
    import numpy.typing as npt

    from models.training.packing import Facts

    Chosen = npt.NDArray[np.bool_]
    Float32 = npt.NDArray[np.float32]

WORST = 5


def card(facts: Facts, version: str, title: str, intended_use: str, omitted: dict[str, str]) -> str:
    """The text of CARD.md."""
    return "\n".join(
        [
            f"# {title}",
            "",
            f"Version {version}. **Not a medical device.** {intended_use}",
            "",
            "## Scores",
            "",
            *_protocol(facts),
            "",
            *_scores(facts),
            "",
            "Rows are the reference, columns the answer of the 8-bit network:",
            "",
            *_confusion(facts),
            "",
            "Records with most errors:",
            "",
            *_worst(facts),
            "",
            "## Network",
            "",
            *_network(facts, omitted),
            "",
            "## Training data",
            "",
            *_sources(facts),
            "",
            "## Limits",
            "",
            *_limits(),
            "",
        ]
    )


def _wrap(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(mark + text, 118, subsequent_indent=" " * len(mark), break_on_hyphens=False)


def _protocol(facts: Facts) -> list[str]:
    return _wrap(
        f"Leave-people-out: {facts.folds} folds over {len(facts.records)} people; each beat was labelled by a network "
        "fitted without any recording of that person. Beats are those of vagus's own detector on the streamed signal, "
        "one lead (MLII where there is one, else the first), matched to the reference within 150 ms; undetected "
        "reference beats count against sensitivity. The first five minutes, flutter and fibrillation are not scored, "
        "nor are reference beats that are fusion or unclassifiable. Classes: de Chazal's mapping (N: N L R e j; "
        "S: A a J S; V: V E). The operating point (a constant added to the S and V logits) and the temperature were "
        "found on these same held-out answers: two numbers and one, over all people. The network that ships was fitted "
        "once, to everybody; no score of it exists here, and the blind halves of the databases were not looked at."
    )


def _scores(facts: Facts) -> list[str]:
    lines = [
        "| held-out people of | beats S / V | network | S Se / +P | S F1 | V Se / +P | V F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    databases = sorted({record.database for record in facts.records})
    for database in [*databases, "both"]:
        chosen = _of(facts, None if database == "both" else database)
        for name, logits in (("8 bit", facts.int8_logits), ("float", facts.float_logits)):
            s, v = (_score(facts, logits, chosen, label) for label in "SV")
            truth = facts.truth.label[chosen]
            numbers = f"{int((truth == LABELS.index('S')).sum())} / {int((truth == LABELS.index('V')).sum())}"
            lines.append(f"| {database} | {numbers} | {name} | {s} | {100 * s.f1:.1f} | {v} | {100 * v.f1:.1f} |")
    probability = probabilities(facts.int8_logits, facts.temperature)
    error = calibration_error(probability, facts.truth.label.astype(np.int64))
    agreement = float((facts.int8_logits.argmax(1) == facts.float_logits.argmax(1)).mean())
    lines += [
        "",
        *_wrap(
            f"8-bit and float networks agree on {100 * agreement:.2f} % of beats. Expected calibration error of the "
            f"8-bit network's largest probability, temperature {facts.temperature:g}: {error:.4f}."
        ),
    ]
    return lines


def _confusion(facts: Facts) -> list[str]:
    counts = confusion(facts.truth.label, facts.int8_logits.argmax(axis=1))
    header = ["| | " + " | ".join(LABELS) + " |", "|---" * (len(LABELS) + 1) + "|"]
    return header + [
        f"| {label} | " + " | ".join(str(n) for n in row) + " |"
        for label, row in zip(LABELS, counts.tolist(), strict=True)
    ]


def _worst(facts: Facts) -> list[str]:
    wrong = facts.int8_logits.argmax(axis=1) != facts.truth.label
    people, place = np.unique(facts.truth.patient, return_inverse=True)
    errors = np.bincount(place, weights=wrong, minlength=len(people))
    lines = ["| record | beats | errors | S Se / +P | V Se / +P |", "|---|---|---|---|---|"]
    for i in np.argsort(-errors, kind="stable")[:WORST]:
        chosen = place == i
        counts = confusion(facts.truth.label[chosen], facts.int8_logits[chosen].argmax(axis=1))
        s, v = score(counts, "S"), score(counts, "V")
        lines.append(f"| {people[i]} | {int(chosen.sum())} | {int(errors[i])} | {s} | {v} |")
    return lines


def _network(facts: Facts, omitted: dict[str, str]) -> list[str]:
    left_out = "; ".join(f"{label} ({reason})" for label, reason in omitted.items())
    shifts = ", ".join(f"{label} {facts.bias[LABELS.index(label)]:+g}" for label in "SV")
    points = (
        f"{facts.parameters} parameters: four convolutions over the beat and its difference to the person's running "
        "normal beat, beside a small net over rhythm and shape scalars. Causal: complete 0.6 s after R.",
        "8 bit: U8 activations, S8 weights per channel (7 bits used), min-max calibration. "
        f"{facts.batch_us:g} µs a beat at batch 256 on one core of the machine that made it. A beat's answer is the "
        "same bits in any batch.",
        f"Q stands for a detection with no beat under it. Left out: {left_out}.",
        f"Constants added to the logits: {shifts}. Seed {facts.seed}.",
        f"Made with {facts.framework}: `{facts.command}`.",
    )
    return [line for point in points for line in _wrap(point, "- ")]


def _sources(facts: Facts) -> list[str]:
    lines = []
    for source in facts.sources:
        names = source["records"]
        shown = " ".join(names) if len(names) < 100 else f"{len(names)} records"
        lines += _wrap(f"**{source['title']}**, {source['licence']}. {source['attribution']} Records: {shown}.", "- ")
    return lines


def _limits() -> list[str]:
    points = (
        "Adults, surface ECG, mostly ambulatory recordings of decades ago. Children, paced hearts and intracardiac "
        "signals were not among the people it learnt from.",
        "Supraventricular ectopy is told mostly by its timing: in irregular sinus rhythm and atrial fibrillation beats "
        "may be called S that are not, and a supraventricular rhythm that lasts for many minutes may pass for normal.",
        "For the first minute of a recording the person's normal beat is still being learnt.",
        "Suggestive of an arrhythmia is all that an answer is. No treatment may rest on it.",
    )
    return [line for point in points for line in _wrap(point, "- ")]


def _of(facts: Facts, database: str | None) -> Chosen:
    if database is None:
        return np.ones(len(facts.truth), dtype=bool)
    return np.asarray(np.char.startswith(facts.truth.patient, f"{database}/"), dtype=np.bool_)


def _score(facts: Facts, logits: Float32, chosen: Chosen, label: str) -> Score:
    truth = facts.truth.label[chosen]
    people = set(facts.truth.patient[chosen].tolist())
    there = sum(
        counts.get(label, 0)
        for record, counts in zip(facts.records, facts.reference, strict=True)
        if record.patient in people
    )
    found = int((truth == LABELS.index(label)).sum())
    return score(confusion(truth, logits[chosen].argmax(axis=1)), label, max(0, there - found))
