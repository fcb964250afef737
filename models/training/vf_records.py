"""Recordings with ventricular fibrillation, flutter and tachycardia that a pack may be made from, and how they are read.

The lists are closed, as in `datasets`: records that judge the pack are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.signal.lead import analysis_lead
from models.training.datasets import AAMI, RHYTHM_RATE_HZ, Record, RefusedRecordError

Float64 = npt.NDArray[np.float64]

# fmt: off
VFDB = tuple(
    str(number) for number in (418, 420, 423, 424, 425, 426, 427, 429, 430, 602, 609, 612, 614, 615)
)
"""14 of the 22 records of the MIT-BIH Malignant Ventricular Arrhythmia Database; the others judge."""
CUDB = tuple(
    f"cu{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 12, 20, 21, 23, 24, 25, 30, 33, 34, 35)
)
"""18 of the 35 records of the CU Ventricular Tachyarrhythmia Database; the others judge."""
CINC2015 = (
    "t116s", "v127l", "v140s", "t156s", "a161l", "v180s", "f196s", "v197l", "a203l", "v217l", "a219l", "t240s",
    "b265l", "v274s", "v282s", "a297l", "a310s", "v329l", "b332s", "a345l", "v347l", "t350s", "v360s", "f362s",
    "v373l", "v374s", "v380s", "v381l", "t383l", "t384s", "t393l", "v399l", "f408s", "t409l", "t412s", "a420s",
    "t425l", "b428s", "v433l", "a439l", "a449l", "b451l", "v470s", "f474s", "b488s", "b494s", "f499l", "t508s",
    "b515l", "t524s", "v532s", "v536s", "f545l", "v557l", "b561l", "f563l", "v569l", "v579l", "a584s", "v601l",
    "f610s", "v615l", "v626s", "v635l", "v640s", "v652s", "v674s", "t688s", "t690s", "a694s", "f697l", "a705l",
    "v732s", "a735l", "t741l", "t742s", "t744s", "a776s", "a778s", "v782s", "v791l", "b794s", "v797l", "t800s",
    "v805l", "a819l", "b824s", "v844s", "v845l",
)
"""The 89 alarms of the Challenge 2015 that may be learnt from."""
# fmt: on
TRAINABLE = {"vfdb": frozenset(VFDB), "cudb": frozenset(CUDB), "cinc2015": frozenset(CINC2015)}

ATTRIBUTION = {
    "vfdb": (
        "MIT-BIH Malignant Ventricular Arrhythmia Database 1.0.0",
        "Greenwald SD. Development and analysis of a ventricular fibrillation detector. MS thesis, MIT, 1986. "
        "https://doi.org/10.13026/C22P44",
    ),
    "cudb": (
        "CU Ventricular Tachyarrhythmia Database 1.0.0",
        "Nolle FM, Badura FK, Catlett JM, Bowser RW, Sketch MH. CREI-GARD, a new concept in computerized arrhythmia "
        "monitoring systems. Computers in Cardiology 13:515-518, 1986. https://doi.org/10.13026/C2X59M",
    ),
}

FAST_VT_BPM = 150.0
"""Ventricular tachycardia from this rate on is shockable here; below it is neither right nor wrong to say so."""

RHYTHM = {
    "(VF": "VF",
    "(VFIB": "VF",
    "(VFL": "VFL",
    "(VT": "VT",
    "(ASYS": "ASYS",
    "(NOISE": "NOISE",
    "(HGEA": "HGEA",
    "(VER": "VER",
    "(IVR": "VER",
}
"""Rhythm annotations told apart here; every other is "OTHER"."""


@dataclass(frozen=True, slots=True, order=True)
class VfRecord:
    """One recording of one person."""

    database: str
    name: str

    def __post_init__(self) -> None:
        if self.name not in TRAINABLE.get(self.database, frozenset()):
            raise RefusedRecordError(f"{self.database}/{self.name} is not one of the records a pack may be made from")

    @property
    def patient(self) -> str:
        """Who it was recorded from: one record a person."""
        return f"{self.database}/{self.name}"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one rhythm."""

    start_s: float
    stop_s: float
    rhythm: str
    """"VF", "VFL", "VT", "SLOW_VT", "ASYS", "NOISE", "HGEA", "VER" or "OTHER"."""


@dataclass(frozen=True, slots=True, eq=False)
class RhythmRecording:
    """A record read into memory, with its rhythms."""

    patient: str
    rate_hz: float
    signals: Float64
    """(n, leads), mV."""
    lead: int
    """The lead that is analysed."""
    spans: tuple[Span, ...]
    """In order of time, without holes or overlap."""


def read_rhythm(data: Path, record: Record | VfRecord) -> RhythmRecording:
    """Signals and rhythms of a mitdb, svdb, vfdb or cudb record from `data`/<database>/.

    Samples that the recording marks as invalid repeat the last valid one. Raises FileNotFoundError where it is missing.
    """
    base = str(data / record.database / record.name)
    header = wfdb.rdrecord(base)
    notes = wfdb.rdann(base, "atr")
    signals = _held(np.asarray(header.p_signal, dtype=np.float64))
    spans = rhythm_spans(notes.symbol, notes.aux_note, notes.sample / header.fs, len(signals) / header.fs)
    beats_s = notes.sample[np.isin(notes.symbol, list(AAMI))] / header.fs
    spans = tuple(_rated(span, beats_s) for span in spans)
    return RhythmRecording(record.patient, float(header.fs), signals, analysis_lead(header.sig_name), spans)


def read_challenge(data: Path, every: int = 1) -> list[RhythmRecording]:
    """Every `every`-th recording of CinC 2017, none of them with a rhythm to shock; empty where the data are not there."""
    folder = data / "cinc2017"
    table = folder / "REFERENCE-v3.csv"
    if not table.exists():
        return []
    recordings: list[RhythmRecording] = []
    for row in table.read_text(encoding="ascii").split()[::every]:
        name, label = row.split(",")
        record = wfdb.rdrecord(str(folder / "training2017" / name))
        signals = np.asarray(record.p_signal, dtype=np.float64)
        span = Span(0.0, len(signals) / RHYTHM_RATE_HZ, "NOISE" if label == "~" else "OTHER")
        recordings.append(RhythmRecording(f"cinc2017/{name}", RHYTHM_RATE_HZ, signals, 0, (span,)))
    return recordings


def rhythm_spans(symbols: list[str], notes: list[str], times_s: Float64, duration_s: float) -> tuple[Span, ...]:
    """Rhythms from `+` annotations and, over them, fibrillation between `[` and `]` (to the end where none closes)."""
    changes: list[tuple[float, str]] = [(0.0, "OTHER")]
    fibrillating, beneath = False, "OTHER"
    for symbol, note, time_s in zip(symbols, notes, times_s.tolist(), strict=True):
        text = note.strip("\0 ")
        if symbol == "+" and text.startswith("("):
            beneath = RHYTHM.get(text, "OTHER")
        if symbol == "[":
            fibrillating = True
        elif symbol == "]":
            # A rhythm named when fibrillation began has ended with it.
            fibrillating, beneath = False, "OTHER" if beneath in {"VF", "VFL"} else beneath
        changes.append((time_s, (beneath if beneath == "VFL" else "VF") if fibrillating else beneath))
    merged: list[Span] = []
    ends = [time_s for time_s, _ in changes[1:]] + [duration_s]
    for (start_s, rhythm), stop_s in zip(changes, ends, strict=True):
        if stop_s <= start_s:
            continue
        if merged and merged[-1].rhythm == rhythm:
            start_s = merged.pop().start_s
        merged.append(Span(start_s, stop_s, rhythm))
    return tuple(merged)


def _rated(span: Span, beats_s: Float64) -> Span:
    """A tachycardia that its annotated beats show to be slow is called so; vfdb has no beats, and only fast ones."""
    inside = beats_s[(beats_s >= span.start_s) & (beats_s < span.stop_s)]
    if span.rhythm != "VT" or len(inside) < 3 or np.median(np.diff(inside)) <= 60.0 / FAST_VT_BPM:
        return span
    return Span(span.start_s, span.stop_s, "SLOW_VT")


def _held(signals: Float64) -> Float64:
    """Without NaN: each is the last number before it, 0 before the first."""
    if not np.isnan(signals).any():
        return signals
    known = np.where(np.isnan(signals), 0, np.arange(len(signals))[:, None])
    held: Float64 = np.nan_to_num(np.take_along_axis(signals, np.maximum.accumulate(known, axis=0), axis=0))
    return held
