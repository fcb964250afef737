"""PR, QRS and QT of the normal beats on a strip: measured by neurokit2 in a child process, where it is installed.

Medians over the beats that are normal and follow a normal one, each from where its first wave begins; QT is also
corrected for the rate by Fridericia's cube root. A program measured them on one lead, to be looked at: nothing decides
on them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from statistics import median
from typing import Any

from agent.intervals_child import WAVES
from agent.signal.lead import analysis_lead
from agent.uplink.evidence import EvidenceModel, parse_rfc3339_ns
from firmware_bridge.chunk import NS_PER_S

CHILD = (sys.executable, "-m", "agent.intervals_child")
LIMIT_S = 60.0
LEAST_BEATS = 3
PLAUSIBLE_MS = {"pr": (80.0, 400.0), "qrs": (40.0, 240.0), "qt": (200.0, 700.0)}
"""What is outside was measured at another wave."""


class IntervalsError(Exception):
    """They cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """In ms; None where too few beats show it."""

    beats: int
    rr_ms: float
    pr_ms: float | None
    qrs_ms: float | None
    qt_ms: float | None

    @property
    def qtc_ms(self) -> float | None:
        """QT at 60 beats a minute, after Fridericia."""
        return None if self.qt_ms is None else self.qt_ms / (self.rr_ms / 1000) ** (1 / 3)

    def values(self) -> dict[str, float]:
        """Those that there are, for evidence."""
        named = {"pr_ms": self.pr_ms, "qrs_ms": self.qrs_ms, "qt_ms": self.qt_ms, "qtc_fridericia_ms": self.qtc_ms}
        return {name: round(value) for name, value in named.items() if value is not None}

    def words(self) -> str:
        names = {"pr_ms": "PR", "qrs_ms": "QRS", "qt_ms": "QT", "qtc_fridericia_ms": "QTc (Fridericia)"}
        told = ", ".join(f"{names[name]} {value:.0f} ms" for name, value in self.values().items())
        return f"{told}, median of {self.beats} normal beats"


def is_installed() -> bool:
    """Whether neurokit2 is: `pip install 'vagus[analysis]'`."""
    return find_spec("neurokit2") is not None


def measure(evidence: EvidenceModel, child: Sequence[str] = CHILD) -> Intervals:
    """Of an alert's strip; waits for the child for up to LIMIT_S. Raises IntervalsError."""
    strip = evidence.strip
    if not strip.rate_hz or strip.unit != "mV" or not strip.samples:
        raise IntervalsError("this is no ECG")
    samples = strip.samples[min(analysis_lead(strip.channels), len(strip.samples) - 1)]
    if any(sample is None for sample in samples):
        raise IntervalsError("samples are missing")
    t0_ns = parse_rfc3339_ns(strip.t0)
    peaks = [round((parse_rfc3339_ns(beat.t) - t0_ns) * strip.rate_hz / NS_PER_S) for beat in evidence.beats]
    beats = [(peak, beat.label) for peak, beat in zip(peaks, evidence.beats, strict=True) if 0 < peak < len(samples)]
    if sum(label == "N" for _, label in beats) < LEAST_BEATS:
        raise IntervalsError("there are too few normal beats")
    asked = {"samples": samples, "rate_hz": strip.rate_hz, "r_peaks": [peak for peak, _ in beats]}
    return intervals_of(beats, _ask(child, asked), strip.rate_hz)


def intervals_of(beats: Sequence[tuple[int, str]], waves: dict[str, list[float | None]], rate_hz: float) -> Intervals:
    """From R peaks with their class, and where the waves around each begin and end: indices of samples."""
    found: dict[str, list[float]] = {"pr": [], "qrs": [], "qt": []}
    rr_ms: list[float] = []
    for place, ((before, first), (peak, label)) in enumerate(pairwise(beats), start=1):
        if (first, label) != ("N", "N"):
            continue
        rr_ms.append(1000 * (peak - before) / rate_hz)
        p_onset, r_onset, r_offset, t_offset = (waves[name][place] for name in WAVES)
        for name, begin, end in (("pr", p_onset, r_onset), ("qrs", r_onset, r_offset), ("qt", r_onset, t_offset)):
            if begin is not None and end is not None:
                low, high = PLAUSIBLE_MS[name]
                length_ms = 1000 * (end - begin) / rate_hz
                found[name] += [length_ms] if low <= length_ms <= high else []
    if len(rr_ms) < LEAST_BEATS - 1:
        raise IntervalsError("there are too few normal beats in a row")
    pr, qrs, qt = (median(ms) if len(ms) >= LEAST_BEATS - 1 else None for ms in found.values())
    return Intervals(len(rr_ms), median(rr_ms), pr, qrs, qt)


def _ask(child: Sequence[str], asked: dict[str, Any]) -> dict[str, list[float | None]]:
    try:
        done = subprocess.run(
            child, input=json.dumps(asked), capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
        told = json.loads(done.stdout)
        n = len(asked["r_peaks"])
        if any(len(told[name]) != n for name in WAVES):
            raise IntervalsError("the measuring process told something else")
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rpartition("\n")[2]
        raise IntervalsError(f"the measuring process failed: {last[:200]}") from error
    except subprocess.TimeoutExpired as error:
        raise IntervalsError(f"the measuring process took more than {LIMIT_S:g} s") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntervalsError(f"the measuring process told nothing of use: {error}") from error
    return {name: told[name] for name in WAVES}
