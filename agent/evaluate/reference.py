"""What a recording's reference annotations say of its rhythm: stretches of time with a name each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.ingest.wfdb import Annotations
from agent.scoring import AAMI_CLASS

RHYTHM = {
    "(N": "N",
    "(NSR": "N",
    "(AFIB": "AFIB",
    "(AFL": "AFL",
    "(VF": "VF",
    "(VFIB": "VF",
    "(VFL": "VFL",
    "(VT": "VT",
    "(ASYS": "ASYS",
    "(NOISE": "NOISE",
}
"""Rhythm annotations of PhysioNet's databases that are told apart here; every other is OTHER."""
OTHER = "OTHER"
UNKNOWN = ""
"""Before the first annotation of a recording that has some."""
FAST_VT_BPM = 150.0
"""A ventricular tachycardia of at least this rate counts as shockable; the slower is SLOW_VT."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one rhythm, [start_s, stop_s)."""

    start_s: float
    stop_s: float
    rhythm: str


def rhythm_spans(notes: Annotations, rate_hz: float, duration_s: float) -> list[Span]:
    """The rhythms of a recording in order of time, without holes or overlap.

    `+` annotations name them; over these, fibrillation lasts from `[` to `]`, or to the end where none closes it.
    A recording that only has `[` and `]` is OTHER where it does not fibrillate.
    """
    named = any(symbol == "+" and text.startswith("(") for symbol, text in zip(notes.symbol, notes.aux, strict=True))
    beneath = UNKNOWN if named else OTHER
    changes = [(0.0, beneath)]
    fibrillates = False
    for symbol, text, at in zip(notes.symbol, notes.aux, notes.sample.tolist(), strict=True):
        if symbol == "+" and text.startswith("("):
            beneath = RHYTHM.get(text.strip("\0 "), OTHER)
        elif symbol == "[":
            fibrillates = True
        elif symbol == "]":
            # A rhythm named when fibrillation began has ended with it.
            fibrillates, beneath = False, OTHER if beneath in {"VF", "VFL"} else beneath
        else:
            continue
        changes.append((at / rate_hz, "VF" if fibrillates and beneath != "VFL" else beneath))
    stops = [at_s for at_s, _ in changes[1:]] + [duration_s]
    spans = [Span(at_s, stop_s, name) for (at_s, name), stop_s in zip(changes, stops, strict=True) if stop_s > at_s]
    beats = np.array([symbol in AAMI_CLASS for symbol in notes.symbol], dtype=bool)
    return [_rated(span, notes.sample[beats] / rate_hz) for span in _merged(spans)]


def _merged(spans: list[Span]) -> list[Span]:
    out: list[Span] = []
    for span in spans:
        if out and out[-1].rhythm == span.rhythm:
            out[-1] = Span(out[-1].start_s, span.stop_s, span.rhythm)
        else:
            out.append(span)
    return out


def _rated(span: Span, beats_s: np.ndarray) -> Span:
    """A tachycardia that its annotated beats show to be slow is called so."""
    inside = beats_s[(beats_s >= span.start_s) & (beats_s < span.stop_s)]
    if span.rhythm != "VT" or len(inside) < 3 or np.median(np.diff(inside)) <= 60.0 / FAST_VT_BPM:
        return span
    return Span(span.start_s, span.stop_s, "SLOW_VT")
