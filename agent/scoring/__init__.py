"""Beat-by-beat comparison after ANSI/AAMI EC57, as WFDB's `bxb` does it: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MATCH_WINDOW_S = 0.150
LEARNING_S = 300.0
"""The first five minutes of a record are not scored."""

AAMI_CLASS: dict[str, str] = (
    dict.fromkeys("NLRej", "N")
    | dict.fromkeys("AaJS", "S")
    | dict.fromkeys("VE", "V")
    | {"F": "F"}
    | dict.fromkeys("/fQ", "Q")
)
"""MIT-BIH beat annotation to AAMI class, de Chazal's mapping (2004). bxb itself puts j and e in S."""


def aami_class(label: str) -> str:
    """The class a beat is scored, listed and annotated as: one the model was not asked about is unclassifiable."""
    return label or "Q"


UNMATCHED = "O"
"""What a missed reference beat was "detected as", and what an extra detection "really was"."""


@dataclass(frozen=True, slots=True, eq=False)
class BeatMatch:
    """Which reference beat belongs to which detection."""

    pairs: Indices
    """(m, 2): indices into the reference and the test times, in time order."""
    missed: Indices
    """Indices of reference beats without a detection."""
    extra: Indices
    """Indices of detections without a reference beat."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Counts for one class against all others, EC57 section 4.3."""

    true_positive: int = 0
    false_negative: int = 0
    false_positive: int = 0

    @property
    def sensitivity(self) -> float:
        """Share of true ones found; nan where there are none."""
        return _share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def positive_predictivity(self) -> float:
        """Share of those called so that are; nan where none were called."""
        return _share(self.true_positive, self.true_positive + self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; nan where neither exists."""
        return _share(2 * self.true_positive, 2 * self.true_positive + self.false_negative + self.false_positive)


@dataclass(frozen=True, slots=True, eq=False)
class BeatScore:
    """One record's, or with `gross` many records', beat-by-beat result."""

    record: str
    reference_beats: int
    detected: int
    missed: int
    extra: int
    timing_error_s: Times
    """(detected,): test minus reference time of each scored pair."""
    confusion: dict[tuple[str, str], int] = field(default_factory=dict)
    """(reference class, test class) → beats, `UNMATCHED` standing for none. Empty unless both sides carried classes."""

    @property
    def sensitivity(self) -> float:
        """QRS sensitivity; nan without reference beats."""
        return _share(self.detected, self.reference_beats)

    @property
    def positive_predictivity(self) -> float:
        """QRS positive predictivity; nan without detections."""
        return _share(self.detected, self.detected + self.extra)

    @property
    def error_rate(self) -> float:
        """(missed + extra) / reference beats; nan without reference beats."""
        return _share(self.missed + self.extra, self.reference_beats)

    @property
    def jitter_s(self) -> float:
        """Standard deviation of the timing error: a constant offset is a convention, its spread is not."""
        return float(np.std(self.timing_error_s)) if len(self.timing_error_s) else float("nan")

    def class_score(self, label: str) -> ClassScore:
        """Counts of class `label` ("S": SVEB, "V": VEB).

        After EC57, unclassifiable beats (Q) and, for VEB, fusion beats (F) called V are no false positives; a missed
        beat of the class is a false negative, an extra detection called so a false positive.
        """
        forgiven = {"V": {"F", "Q"}, "S": {"Q"}}.get(label, set())
        hit = self.confusion.get((label, label), 0)
        missed = sum(n for (truth, called), n in self.confusion.items() if truth == label and called != label)
        false = sum(
            n for (truth, called), n in self.confusion.items() if called == label and truth not in {label, *forgiven}
        )
        return ClassScore(hit, missed, false)


def match_beats(reference_s: npt.ArrayLike, test_s: npt.ArrayLike, window_s: float = MATCH_WINDOW_S) -> BeatMatch:
    """Pair reference and test beats as bxb does.

    Both are ascending times in seconds. Walking both in time order, the earlier of the two current beats is paired
    with the other if they lie within `window_s` and the other is not nearer to the earlier one's successor.
    Raises ValueError if either is not ascending.
    """
    reference = np.asarray(reference_s, dtype=np.float64)
    test = np.asarray(test_s, dtype=np.float64)
    if np.any(np.diff(reference) < 0) or np.any(np.diff(test) < 0):
        raise ValueError("beat times must ascend")
    # Half a microsecond of slack: times are multiples of sampling intervals, and the window includes its bound.
    window = window_s + 5e-7
    r, t = reference.tolist(), test.tolist()
    i = j = 0
    pairs: list[tuple[int, int]] = []
    missed: list[int] = []
    extra: list[int] = []
    while i < len(r) and j < len(t):
        distance = abs(t[j] - r[i])
        if t[j] < r[i]:
            rival = abs(r[i] - t[j + 1]) if j + 1 < len(t) else float("inf")
            if distance > window or rival < distance:
                extra.append(j)
                j += 1
                continue
        else:
            rival = abs(r[i + 1] - t[j]) if i + 1 < len(r) else float("inf")
            if distance > window or rival < distance:
                missed.append(i)
                i += 1
                continue
        pairs.append((i, j))
        i += 1
        j += 1
    missed.extend(range(i, len(r)))
    extra.extend(range(j, len(t)))
    return BeatMatch(
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
        np.array(missed, dtype=np.int64),
        np.array(extra, dtype=np.int64),
    )


def score_beats(
    record: str,
    reference_s: npt.ArrayLike,
    test_s: npt.ArrayLike,
    *,
    reference_class: Sequence[str] | None = None,
    test_class: Sequence[str] | None = None,
    exclude_s: Iterable[tuple[float, float]] = (),
    start_s: float = LEARNING_S,
    end_s: float = float("inf"),
    window_s: float = MATCH_WINDOW_S,
) -> BeatScore:
    """Score detections `test_s` against reference beats `reference_s`, both ascending, in seconds.

    Beats before `start_s`, after `end_s` or within an interval of `exclude_s` (ventricular flutter or fibrillation,
    between `[` and `]`) are not counted; a detection without partner counts as inside an interval up to the match
    window beyond its ends. Classes are AAMI letters, one per beat; with both given, the confusion is filled.
    Raises ValueError on unsorted times or class lists of the wrong length.
    """
    reference = np.asarray(reference_s, dtype=np.float64)
    test = np.asarray(test_s, dtype=np.float64)
    if (reference_class is not None and len(reference_class) != len(reference)) or (
        test_class is not None and len(test_class) != len(test)
    ):
        raise ValueError("one class per beat expected")
    match = match_beats(reference, test, window_s)
    intervals = list(exclude_s)

    def counts(times: Times, margin_s: float) -> npt.NDArray[np.bool_]:
        keep = (times >= start_s) & (times <= end_s)
        for low, high in intervals:
            keep &= (times < low - margin_s) | (times > high + margin_s)
        return keep

    pairs = match.pairs[counts(reference[match.pairs[:, 0]], 0.0)]
    missed = match.missed[counts(reference[match.missed], 0.0)]
    extra = match.extra[counts(test[match.extra], window_s)]
    confusion: dict[tuple[str, str], int] = {}
    if reference_class is not None and test_class is not None:
        cells = [(reference_class[i], test_class[j]) for i, j in pairs]
        cells += [(reference_class[i], UNMATCHED) for i in missed]
        cells += [(UNMATCHED, test_class[j]) for j in extra]
        for cell in cells:
            confusion[cell] = confusion.get(cell, 0) + 1
    return BeatScore(
        record=record,
        reference_beats=len(pairs) + len(missed),
        detected=len(pairs),
        missed=len(missed),
        extra=len(extra),
        timing_error_s=test[pairs[:, 1]] - reference[pairs[:, 0]],
        confusion=confusion,
    )


def gross(scores: Iterable[BeatScore], record: str = "gross") -> BeatScore:
    """All beats of `scores` as if they were one record's: EC57's gross statistics.

    Each record's median timing offset is removed first, for where on the QRS a lead's annotations sit is a convention.
    """
    listed = list(scores)
    confusion: dict[tuple[str, str], int] = {}
    for score in listed:
        for cell, n in score.confusion.items():
            confusion[cell] = confusion.get(cell, 0) + n
    errors = [s.timing_error_s - np.median(s.timing_error_s) for s in listed if len(s.timing_error_s)]
    return BeatScore(
        record=record,
        reference_beats=sum(s.reference_beats for s in listed),
        detected=sum(s.detected for s in listed),
        missed=sum(s.missed for s in listed),
        extra=sum(s.extra for s in listed),
        timing_error_s=np.concatenate(errors) if errors else np.empty(0),
        confusion=confusion,
    )


def worst(scores: Iterable[BeatScore], n: int = 5) -> list[BeatScore]:
    """The `n` records with most errors (missed + extra), worst first."""
    return sorted(scores, key=lambda s: s.missed + s.extra, reverse=True)[:n]


def format_table(scores: Sequence[BeatScore]) -> str:
    """One line a record and the gross line, for people: beats, missed, extra, Se and +P in %, jitter in ms."""
    lines = [
        f"{'record':>10} {'beats':>7} {'missed':>6} {'extra':>6} {'Se %':>7} {'+P %':>7} {'err %':>6} {'jitter ms':>9}"
    ]
    lines += [
        f"{s.record:>10} {s.reference_beats:7d} {s.missed:6d} {s.extra:6d} {100 * s.sensitivity:7.2f} "
        f"{100 * s.positive_predictivity:7.2f} {100 * s.error_rate:6.2f} {1e3 * s.jitter_s:9.1f}"
        for s in (*scores, gross(scores))
    ]
    return "\n".join(lines)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
