"""Recordings with ventricular fibrillation and tachycardia that a pack may be made from, and how they are read.

The lists are closed, as in `datasets`: records that judge the pack are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.evaluate.reference import OTHER, Span, rhythm_spans
from agent.ingest.wfdb import read_annotations
from agent.signal.lead import analysis_lead
from models.training.datasets import Record, RefusedRecordError
from models.training.rhythm_records import LABELS, read_all_cinc2017

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

_PULSE = frozenset({"PLETH", "ABP", "RESP", "ART"})


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
    signals = _held(np.asarray(header.p_signal, dtype=np.float64))
    notes = read_annotations(Path(f"{base}.atr"))
    spans = rhythm_spans(notes, float(header.fs), len(signals) / header.fs)
    # Some records only say where the rhythm changes: before the first change it is the person's own.
    spans = [Span(span.start_s, span.stop_s, span.rhythm or OTHER) for span in spans]
    return RhythmRecording(record.patient, float(header.fs), signals, analysis_lead(header.sig_name), tuple(spans))


def read_challenge(data: Path, every: int = 1) -> list[RhythmRecording]:
    """Every `every`-th given recording of CinC 2017, none of them with a rhythm to shock; empty without the data."""
    if not (data / "cinc2017" / "REFERENCE-v3.csv").exists():
        return []
    found: list[RhythmRecording] = []
    for one in read_all_cinc2017(data)[::every]:
        rhythm = "NOISE" if LABELS[one.rhythms[0][1]] == "~" else OTHER
        span = Span(0.0, len(one.signals) / one.rate_hz, rhythm)
        found.append(RhythmRecording(one.patient, one.rate_hz, one.signals, one.lead, (span,)))
    return found


def read_alarms(data: Path) -> list[RhythmRecording]:
    """The given alarms of CinC 2015 before which nothing was to shock: all but the true ventricular ones.

    The label is weak: it is known of the alarm, not of each second before it. Empty where the data are not there.
    """
    folder = data / "cinc2015"
    table = folder / "ALARMS"
    if not table.exists():
        return []
    recordings: list[RhythmRecording] = []
    for row in table.read_text(encoding="ascii").split():
        name, alarm, true = row.split(",")
        if name not in CINC2015 or (true == "1" and alarm.startswith("Ventricular")):
            continue
        header = wfdb.rdrecord(str(folder / name))
        leads = [lead for lead, unit in enumerate(header.units) if unit == "mV" and header.sig_name[lead] not in _PULSE]
        signals = _held(np.asarray(header.p_signal[:, leads], dtype=np.float64))
        span = Span(0.0, len(signals) / header.fs, OTHER)
        lead = analysis_lead([header.sig_name[lead] for lead in leads])
        recordings.append(RhythmRecording(f"cinc2015/{name}", float(header.fs), signals, lead, (span,)))
    return recordings


def _held(signals: Float64) -> Float64:
    """Without NaN: each is the last number before it, 0 before the first."""
    if not np.isnan(signals).any():
        return signals
    known = np.where(np.isnan(signals), 0, np.arange(len(signals))[:, None])
    held: Float64 = np.nan_to_num(np.take_along_axis(signals, np.maximum.accumulate(known, axis=0), axis=0))
    return held
