"""Recordings the rhythm pack may be made from: which, whose, and what is known of their rhythm.

The lists are closed: no other recording of these databases can be named here, for others judge the packs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.signal.lead import analysis_lead
from models.training.datasets import DS1, RefusedRecordError, assert_disjoint
from models.vocabulary import RHYTHM_LABELS

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LABELS = RHYTHM_LABELS
"""CinC 2017's classes: normal sinus rhythm, atrial fibrillation, another rhythm, too noisy to tell."""
NOT_A = len(LABELS)
"""Known not to be atrial fibrillation, without saying which of the others it is."""
UNKNOWN = -1

# fmt: off
AFDB = (
    "00735", "04015", "04043", "04048", "04126", "04746", "04908", "05091", "06453", "06995", "07879", "07910",
    "08215", "08219", "08405", "08434", "08455",
)
"""Records of the MIT-BIH Atrial Fibrillation Database of which the annotations are given; no signal is."""
NSRDB = (
    "16272", "16273", "16420", "16483", "16539", "16773", "16786", "16795", "17052", "18177", "19090", "19093",
)
"""Records of the MIT-BIH Normal Sinus Rhythm Database of which the annotations are given; no signal is."""
VFDB = ("418", "420", "423", "424", "425", "426", "427", "429", "430", "602", "609", "612", "614", "615")
"""The given records of the MIT-BIH Malignant Ventricular Ectopy Database; the atria fibrillate in 423, 609 and 615."""
# fmt: on
CINC2017_RATE_HZ = 300.0
_MAT_HEADER_BYTES = 24
_RHYTHM = {
    "(AFIB": LABELS.index("A"),
    **dict.fromkeys(("(AFL", "(J", "(VFL", "(VF", "(VFIB", "(ASYS", "(NOISE", "(P", "(PM"), UNKNOWN),
}
"""WFDB rhythm annotations; every other is one that is not fibrillation. Atrial flutter is neither learnt nor scored."""


@dataclass(frozen=True, slots=True, eq=False)
class RhythmRecording:
    """A recording with its signal, and the rhythm of each stretch of it."""

    patient: str
    """database/name; in CinC 2017 every recording counts as a person of its own, for none is known."""
    rate_hz: float
    signals: Float64
    """(n, leads), mV."""
    lead: int
    rhythms: tuple[tuple[float, int], ...]
    """(second from which on, index in LABELS, NOT_A or UNKNOWN), ascending."""


@dataclass(frozen=True, slots=True, eq=False)
class BeatTimes:
    """A long recording of which only the reference beats and the rhythm are given."""

    patient: str
    beats_s: Float64
    rhythms: tuple[tuple[float, int], ...]


def cinc2017_names() -> list[str]:
    """The recordings of CinC 2017's training set that packs may be made from."""
    numbers = Path(__file__).with_name("cinc2017.txt").read_text(encoding="ascii").split()
    return [f"A{number}" for number in numbers]


def cinc2017_table(data: Path) -> dict[str, str]:
    """Name → class of the given recordings, whatever else the table of references lists."""
    given = frozenset(cinc2017_names())
    rows = (data / "cinc2017" / "REFERENCE-v3.csv").read_text(encoding="ascii").split()
    table = dict(sorted(row.split(",") for row in rows))
    return {name: label for name, label in table.items() if name in given}


def read_cinc2017(data: Path, name: str) -> RhythmRecording:
    """One of the given recordings; raises RefusedRecordError for any other."""
    table = cinc2017_table(data)
    if name not in table:
        raise RefusedRecordError(f"cinc2017/{name} is not one of the recordings a pack may be made from")
    return _cinc2017(data, name, table[name])


def read_all_cinc2017(data: Path) -> list[RhythmRecording]:
    """All given recordings, in order of their names."""
    return [_cinc2017(data, name, label) for name, label in cinc2017_table(data).items()]


def _cinc2017(data: Path, name: str, label: str) -> RhythmRecording:
    """From the values of its .mat: its header's initial value is unreliable."""
    path = data / "cinc2017" / "training2017" / f"{name}.mat"
    values = np.fromfile(path, dtype="<i2", offset=_MAT_HEADER_BYTES).astype(np.float64) / 1000.0
    return RhythmRecording(f"cinc2017/{name}", CINC2017_RATE_HZ, values[:, None], 0, ((0.0, LABELS.index(label)),))


def read_mitdb(data: Path, name: str) -> RhythmRecording:
    """A record of DS1 with its annotated rhythms; raises RefusedRecordError for any other."""
    if name not in DS1:
        raise RefusedRecordError(f"mitdb/{name} is not one of the records a pack may be made from")
    base = str(data / "mitdb" / name)
    header = wfdb.rdrecord(base)
    signals = np.asarray(header.p_signal, dtype=np.float64)
    return RhythmRecording(
        f"mitdb/{name}",
        float(header.fs),
        signals,
        analysis_lead(header.sig_name),
        _rhythms(base, float(header.fs)),
    )


def read_vfdb(data: Path, name: str) -> RhythmRecording:
    """One of the given records with its annotated rhythms; raises RefusedRecordError for any other."""
    if name not in VFDB:
        raise RefusedRecordError(f"vfdb/{name} is not one of the records a pack may be made from")
    base = str(data / "vfdb" / name)
    header = wfdb.rdrecord(base)
    signals = np.asarray(header.p_signal, dtype=np.float64)
    return RhythmRecording(f"vfdb/{name}", float(header.fs), signals, 0, _rhythms(base, float(header.fs)))


def read_afdb(data: Path, name: str) -> BeatTimes:
    """Reference beats (.qrs) and rhythms of one of the listed AF records."""
    if name not in AFDB:
        raise RefusedRecordError(f"afdb/{name} is not one of the records a pack may be made from")
    base = str(data / "afdb_annotations_only" / name)
    beats = wfdb.rdann(base, "qrs")
    rate_hz = float(wfdb.rdheader(base).fs)
    return BeatTimes(f"afdb/{name}", np.asarray(beats.sample, np.float64) / rate_hz, _rhythms(base, rate_hz))


def read_nsrdb(data: Path, name: str) -> BeatTimes:
    """Reference beats of one of the listed normal people."""
    if name not in NSRDB:
        raise RefusedRecordError(f"nsrdb/{name} is not one of the records a pack may be made from")
    base = str(data / "nsrdb_annotations_only" / name)
    notes = wfdb.rdann(base, "atr")
    beat = np.isin(np.array(notes.symbol), list("NSVFJ"))
    rate_hz = float(wfdb.rdheader(base).fs)
    return BeatTimes(f"nsrdb/{name}", np.asarray(notes.sample[beat], np.float64) / rate_hz, ((0.0, NOT_A),))


def _rhythms(base: str, rate_hz: float) -> tuple[tuple[float, int], ...]:
    notes = wfdb.rdann(base, "atr")
    found = [
        (float(at) / rate_hz, _RHYTHM.get(note.strip("\x00"), NOT_A))
        for at, note in zip(notes.sample, notes.aux_note, strict=True)
        if note.startswith("(")
    ]
    return ((0.0, UNKNOWN), *found) if not found or found[0][0] > 0 else tuple(found)


def stratified_folds(labels: dict[str, int], count: int, seed: int) -> list[frozenset[str]]:
    """`count` disjoint sets of names that together hold all, each with its share of every class and database."""
    rng = np.random.default_rng(seed)
    held_out: list[set[str]] = [set() for _ in range(count)]
    turn = 0
    groups: dict[tuple[str, int], list[str]] = {}
    for name, label in sorted(labels.items()):
        groups.setdefault((name.split("/", maxsplit=1)[0], label), []).append(name)
    for group in sorted(groups):
        for name in rng.permutation(groups[group]):
            held_out[turn % count].add(str(name))
            turn += 1
    assert_disjoint(held_out)
    return [frozenset(fold) for fold in held_out]
