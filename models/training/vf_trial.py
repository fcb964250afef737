"""What fibrillation networks said of people they had not met, and what their alarms would have been worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.alarms.fibrillation import Fibrillation
from agent.alarms.observation import Prediction
from agent.evaluate.reference import Span
from agent.scoring.episodes import (
    SHOCKABLE,
    AlarmScore,
    RhythmSpan,
    Share,
    Stretch,
    kind_of,
    score_alarms,
    window_kinds,
    window_shares,
)
from agent.signal.filters import MORPHOLOGY_DELAY
from agent.signal.resample import ANALYSIS_RATE_HZ
from agent.signal.vf_window import BEFORE_S
from firmware_bridge.chunk import NS_PER_S
from models.pack import probabilities
from models.training.vf_examples import LABELS, UNKNOWN, Examples

Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

SPECIFICITY = 0.975
"""What the operating point must reach in the mean over people with ventricular arrhythmia, held out."""
SITES = ("vfdb", "cudb")
"""Databases of people with ventricular arrhythmia; all others hold none to speak of."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Windows of people, and what networks fitted without these people said of them."""

    examples: Examples
    float_logits: Float32
    int8_logits: Float32

    def at(self, bias: float) -> HeldOut:
        """The same with `bias` added to the logit of "shockable"."""
        moved = np.array([0.0, bias], dtype=np.float32)
        return HeldOut(self.examples, self.float_logits + moved, self.int8_logits + moved)

    def of(self, chosen: Bools) -> HeldOut:
        return HeldOut(self.examples.take(chosen), self.float_logits[chosen], self.int8_logits[chosen])


def database(examples: Examples) -> npt.NDArray[np.str_]:
    """Where each window is from."""
    return np.array([patient.partition("/")[0] for patient in examples.patient.tolist()])


def scored(examples: Examples) -> Bools:
    """Windows whose answer counts: of one kind, on signal that passed the quality gate."""
    chosen: Bools = (examples.kind != UNKNOWN) & examples.usable
    return chosen


def operating_point(held_out: HeldOut) -> float:
    """The constant to add to the logit of "shockable" that lets the mean specificity of the people at SITES be so.

    The mean over people and not over windows: one person with a rhythm on the border would decide it alone.
    """
    chosen = scored(held_out.examples) & np.isin(database(held_out.examples), SITES) & (held_out.examples.label == 0)
    evidence = (held_out.int8_logits[:, 1] - held_out.int8_logits[:, 0])[chosen]
    person = held_out.examples.patient[chosen]
    each = [evidence[person == one] for one in np.unique(person)]

    def specificity(bias: float) -> float:
        return float(np.mean([(mine + bias <= 0).mean() for mine in each]))

    return next(
        (bias for bias in np.round(np.arange(2.0, -8.0, -0.05), 2).tolist() if specificity(bias) >= SPECIFICITY), -8.0
    )


def kinds_of(spans: Sequence[Span]) -> list[RhythmSpan]:
    """The spans by the kinds that are scored."""
    return [RhythmSpan(span.start_s, span.stop_s, kind_of(span.rhythm)) for span in spans]


def shares(held_out: HeldOut, logits: Float32, spans: Mapping[str, Sequence[Span]]) -> dict[str, dict[str, Share]]:
    """Per person and kind, the share of windows called right, of those wholly in one rhythm and on usable signal."""
    lag_s = MORPHOLOGY_DELAY / ANALYSIS_RATE_HZ
    called = logits[:, 1] > logits[:, 0]
    out: dict[str, dict[str, Share]] = {}
    for patient in np.unique(held_out.examples.patient).tolist():
        if patient not in spans:
            continue
        mine = (held_out.examples.patient == patient) & held_out.examples.usable
        stops = held_out.examples.end_s[mine].astype(np.float64) - lag_s
        kinds = window_kinds(kinds_of(spans[patient]), stops - BEFORE_S, stops)
        out[patient] = window_shares(kinds, called[mine].tolist())
    return out


def total(shares_of: Mapping[str, Mapping[str, Share]], kinds: Sequence[str], site: str = "") -> Share:
    """The sum over people (of `site`) and `kinds`."""
    found = Share(0, 0)
    for patient, by_kind in shares_of.items():
        if patient.startswith(site):
            for kind in kinds:
                found = found + by_kind.get(kind, Share(0, 0))
    return found


def alarms(end_s: npt.NDArray[np.floating], shockable: Float32, usable: Bools) -> list[Stretch]:
    """The live rule's alarms on one person's probabilities, in order of time, each from its decision to its end."""
    rule = Fibrillation("ventricular_fibrillation")
    found: list[Stretch] = []
    begun_s: float | None = None
    for end, share, is_usable in zip(end_s.tolist(), shockable.tolist(), usable.tolist(), strict=True):
        at_ns = round(end * NS_PER_S)
        label = LABELS[int(share >= 0.5)]
        start_ns = at_ns - round(BEFORE_S * NS_PER_S)
        seen = Prediction("vf", start_ns, at_ns, label, max(share, 1 - share), (1 - share, share), usable=is_usable)
        for condition in (*rule.advance(at_ns), *rule.see(seen)):
            if condition.active:
                begun_s = condition.at_ns / NS_PER_S
            elif begun_s is not None:
                found.append(Stretch(begun_s, condition.at_ns / NS_PER_S))
                begun_s = None
    return found if begun_s is None else [*found, Stretch(begun_s, float(end_s[-1]) + 1.0)]


def alarm_scores(
    held_out: HeldOut, temperature: float, spans: Mapping[str, Sequence[Span]], kinds: Sequence[str] = SHOCKABLE
) -> dict[str, AlarmScore]:
    """Per person at SITES, what the alarms of the 8-bit network are worth."""
    examples = held_out.examples
    said = probabilities(held_out.int8_logits, temperature)[:, 1]
    out: dict[str, AlarmScore] = {}
    for patient in np.unique(examples.patient).tolist():
        if patient.partition("/")[0] in SITES:
            mine = np.flatnonzero(examples.patient == patient)
            mine = mine[np.argsort(examples.end_s[mine], kind="stable")]
            raised = alarms(examples.end_s[mine].astype(np.float64), said[mine], examples.usable[mine])
            out[patient] = score_alarms(kinds_of(spans[patient]), raised, kinds)
    return out


def summed(scores: Mapping[str, AlarmScore], site: str = "") -> AlarmScore:
    """All people (of `site`) together."""
    total_score = AlarmScore((), 0, 0, 0.0)
    for patient, score in scores.items():
        if patient.startswith(site):
            total_score = total_score.add(score)
    return total_score
