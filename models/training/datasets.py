"""Recordings a pack may be made from: which, whose, under which licence, and how they are read.

The lists are closed. Records that judge the packs (all of DS2, the rest of svdb, 107 and 217) are refused by name, so
that no code path can train on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.signal.lead import analysis_lead

Float64 = npt.NDArray[np.float64]

# fmt: off
DS1 = tuple(
    str(number)
    for number in (
        101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220,
        223, 230,
    )
)
"""de Chazal's training half of the MIT-BIH Arrhythmia Database (IEEE Trans Biomed Eng 2004), without paced records."""
SVDB = tuple(
    str(number)
    for number in (
        801, 802, 803, 804, 805, 807, 809, 812, 820, 821, 822, 823, 825, 827, 828, 829, 840, 841, 842, 843,
        844, 845, 847, 848, 849, 851, 852, 853, 854, 855, 856, 857, 858, 859, 860, 861, 862, 864, 865, 867,
        868, 869, 870, 873, 874, 875, 876, 877, 878, 879, 880, 881, 884, 885, 886, 887, 888, 890, 891, 893,
    )
)
"""60 of the 78 records of the MIT-BIH Supraventricular Arrhythmia Database; the others judge."""
# fmt: on

TRAINABLE = {"mitdb": frozenset(DS1), "svdb": frozenset(SVDB)}
"""Per database, the only records that may be read here."""

AAMI = {
    **dict.fromkeys("NLRej", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VE", "V"),
    "F": "F",
    **dict.fromkeys("/fQ", "Q"),
}
"""AAMI EC57 classes in de Chazal's mapping of the WFDB beat symbols."""

ATTRIBUTION = {
    "mitdb": (
        "MIT-BIH Arrhythmia Database 1.0.0",
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng Med Biol 20(3):45-50, 2001. "
        "https://doi.org/10.13026/C2F305",
    ),
    "svdb": (
        "MIT-BIH Supraventricular Arrhythmia Database 1.0.0",
        "Greenwald SD. Improved detection and classification of arrhythmias in noise-corrupted electrocardiograms "
        "using contextual information. PhD thesis, Harvard-MIT, 1990. https://doi.org/10.13026/C2V30W",
    ),
    "cinc2017": (
        "PhysioNet/Computing in Cardiology Challenge 2017 training set 1.0.0, nine tenths",
        "Clifford GD et al. AF classification from a short single lead ECG recording: the PhysioNet/Computing in "
        "Cardiology Challenge 2017. Computing in Cardiology 44, 2017. https://doi.org/10.22489/CinC.2017.065-469",
    ),
    "nstdb": (
        "MIT-BIH Noise Stress Test Database 1.0.0, first halves of bw, em and ma",
        "Moody GB, Muldrow WE, Mark RG. A noise stress test for arrhythmia detectors. Computers in Cardiology "
        "11:381-384, 1984. https://doi.org/10.13026/C2HS3T",
    ),
    "vfdb": (
        "MIT-BIH Malignant Ventricular Ectopy Database 1.0.0",
        "Greenwald SD. Development and analysis of a ventricular fibrillation detector. MS thesis, MIT, 1986. "
        "https://doi.org/10.13026/C22P44",
    ),
    "cudb": (
        "CU Ventricular Tachyarrhythmia Database 1.0.0",
        "Nolle FM, Badura FK, Catlett JM, Bowser RW, Sketch MH. CREI-GARD, a new concept in computerized arrhythmia "
        "monitoring systems. Computers in Cardiology 13:515-518, 1986. https://doi.org/10.13026/C2X59M",
    ),
    "cinc2015": (
        "PhysioNet/Computing in Cardiology Challenge 2015 training set 1.0.0",
        "Clifford GD, Silva I, Moody B, et al. The PhysioNet/Computing in Cardiology Challenge 2015: Reducing false "
        "arrhythmia alarms in the ICU. Computing in Cardiology 42:273-276, 2015. "
        "https://doi.org/10.1109/CIC.2015.7408639",
    ),
    "afdb": (
        "MIT-BIH Atrial Fibrillation Database 1.0.0, annotations only",
        "Moody GB, Mark RG. A new method for detecting atrial fibrillation using R-R intervals. Computers in "
        "Cardiology 10:227-230, 1983. https://doi.org/10.13026/C2MW2D",
    ),
    "nsrdb": (
        "MIT-BIH Normal Sinus Rhythm Database 1.0.0, annotations only",
        "MIT-BIH Normal Sinus Rhythm Database. PhysioNet, 1999. https://doi.org/10.13026/C2NK5R",
    ),
    "AZT1D": (
        "AZT1D: A Real-World Dataset for Type 1 Diabetes, glucose readings of 19 of 25 people",
        "Khamesian S, Arefeen A, Thompson BM, Grando A, Ghasemzadeh H. AZT1D: A Real-World Dataset for Type 1 "
        "Diabetes. Mendeley Data, V1, 2025. https://doi.org/10.17632/gk9m674wcx.1",
    ),
    "Bris-T1D_Open": (
        "BrisT1D-Open Dataset, glucose readings of 16 of 20 people",
        "James SG, Armstrong M, O'Kane A, Emerson H, Abdallah Z. BrisT1D-Open Dataset. University of Bristol, 2025. "
        "https://doi.org/10.5523/bris.33z5jc8fa6tob21ptrugzqog08",
    ),
    "T1D-UOM": (
        "T1D-UOM, A Longitudinal Multimodal Dataset of Type 1 Diabetes, V1.0.3, glucose readings of 13 of 17 people",
        "Alsuhaymi A, Bilal A, Gasca García D, Kongdee R, Lubasinski N, Thabit H, Nutter PW, Harper S. A longitudinal "
        "multimodal dataset of type 1 diabetes. Scientific Data 12:1379, 2025. "
        "https://doi.org/10.5281/zenodo.15806142",
    ),
}
"""Title and citation of every database that a pack may be made from, as their publishers ask for them."""
LICENCE = "Open Data Commons Attribution License v1.0 (ODC-By 1.0)"
CC_BY = "Creative Commons Attribution 4.0 International (CC BY 4.0)"
LICENCES = dict.fromkeys(("AZT1D", "Bris-T1D_Open", "T1D-UOM"), CC_BY)
"""Of the databases that come under another one."""
RHYTHM_RATE_HZ = 300.0
NOISE = ("bw", "em", "ma")
NOISE_SAMPLES = 325_000
"""The first half of each; the second halves judge."""


class RefusedRecordError(ValueError):
    """A record that no pack may be made from."""


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """One recording of one person."""

    database: str
    name: str

    def __post_init__(self) -> None:
        if self.name not in TRAINABLE.get(self.database, frozenset()):
            raise RefusedRecordError(f"{self.database}/{self.name} is not one of the records a pack may be made from")

    @property
    def patient(self) -> str:
        """Who it was recorded from; no two of the listed records share a person (201's second record is in DS2)."""
        return f"{self.database}/{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A record read into memory."""

    record: Record
    rate_hz: float
    signals: Float64
    """(n, leads), mV."""
    lead: int
    """The lead that is analysed."""
    beat_samples: npt.NDArray[np.int64]
    beat_classes: npt.NDArray[np.str_]
    """AAMI class of each reference beat."""
    unscored: tuple[tuple[int, int], ...]
    """Stretches of ventricular flutter or fibrillation, [from, to) samples: no beats are told apart there."""


def beat_records() -> list[Record]:
    """The records of the beat pack: DS1 and 60 of svdb."""
    return [Record("mitdb", name) for name in DS1] + [Record("svdb", name) for name in SVDB]


def folds(records: Sequence[Record], count: int, seed: int) -> list[frozenset[str]]:
    """`count` disjoint sets of patients that together hold everybody, each with its share of every database."""
    rng = np.random.default_rng(seed)
    held_out: list[set[str]] = [set() for _ in range(count)]
    turn = 0
    for database in sorted({record.database for record in records}):
        patients = sorted({record.patient for record in records if record.database == database})
        for patient in rng.permutation(patients):
            held_out[turn % count].add(str(patient))
            turn += 1
    assert_disjoint(held_out)
    return [frozenset(fold) for fold in held_out]


def assert_disjoint(groups: Iterable[Iterable[str]]) -> None:
    """Raises RefusedRecordError when a person is in two of the groups."""
    seen: set[str] = set()
    for group in map(set, groups):
        if both := seen & group:
            raise RefusedRecordError(f"in two groups at once: {', '.join(sorted(both))}")
        seen |= group


def read(data: Path, record: Record) -> Recording:
    """The recording and its reference beats from `data`/<database>/; raises FileNotFoundError where it is not there."""
    base = str(data / record.database / record.name)
    header = wfdb.rdrecord(base)
    notes = wfdb.rdann(base, "atr")
    symbols = np.array(notes.symbol)
    beats = np.isin(symbols, list(AAMI))
    signals = np.asarray(header.p_signal, dtype=np.float64)
    return Recording(
        record,
        float(header.fs),
        signals,
        analysis_lead(header.sig_name),
        np.asarray(notes.sample[beats], dtype=np.int64),
        np.array([AAMI[symbol] for symbol in symbols[beats]]),
        _fibrillation(symbols, notes.sample, len(signals)),
    )


def read_noise(data: Path) -> dict[str, Float64]:
    """First halves of the noise recordings, (n, 2) in mV at 360 Hz, by name."""
    return {
        name: np.asarray(wfdb.rdrecord(str(data / "noise" / name), sampto=NOISE_SAMPLES).p_signal, dtype=np.float64)
        for name in NOISE
    }


def read_rhythms(data: Path) -> list[tuple[str, str, Float64]]:
    """Name, rhythm ("N" sinus or "A" atrial fibrillation) and signal (n,) in mV at 300 Hz of CinC 2017's recordings.

    Empty where the data are not there. Other rhythms and noise are left out: their beats have no label.
    """
    folder = data / "cinc2017"
    table = folder / "REFERENCE-v3.csv"
    if not table.exists():
        return []
    rows = [line.split(",") for line in table.read_text(encoding="ascii").split()]
    return [
        (name, rhythm, np.asarray(wfdb.rdrecord(str(folder / "training2017" / name)).p_signal[:, 0], dtype=np.float64))
        for name, rhythm in rows
        if rhythm in {"N", "A"}
    ]


def _fibrillation(
    symbols: npt.NDArray[np.str_], samples: npt.NDArray[np.int64], length: int
) -> tuple[tuple[int, int], ...]:
    starts = samples[symbols == "["].tolist()
    ends = [*samples[symbols == "]"].tolist(), length]
    return tuple((start, next(end for end in ends if end >= start)) for start in starts)
