"""The analysed ECG of all patients, from new samples to what was seen in them: one call a stage, one batch a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.alarms.observation import Beat, BeatStatus, Observation, Prediction, Quality, SignalLost, SignalStart
from agent.inference import Inputs, Models, ruled_out
from agent.leads import SecondLead
from agent.patient import PatientState
from agent.signal.beat_batch import batch, due_beats
from agent.signal.beat_features import BeatFeatures
from agent.signal.beats import BeatMark, QrsDetector
from agent.signal.filters import EcgFilters
from agent.signal.last_samples import LastSamples
from agent.signal.lead import analysis_lead
from agent.signal.pending import PendingBeats
from agent.signal.quality import QualityMark, SignalQuality
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.second_opinion import SecondOpinion
from agent.signal.track import KEEP_S, EcgTrack, append_morphology
from agent.spare import OPINION
from agent.windows import KEPT_SAMPLES, QUESTIONS, SECOND_OPINION, TOGETHER, Question
from firmware_bridge.chunk import Chunk, Gap, Stream

FIBRILLATES_FROM = 0.7
"""Probability of atrial fibrillation from which early beats are taken for part of it."""

Lead = PatientState | SecondLead
"""What holds a track, and the beats that wait on it."""


@dataclass(slots=True)
class Piece:
    """One lead's next stretch of signal in this round, and what was seen in it."""

    patient: PatientState
    lead: Lead
    """Whose track, and beats that wait, these are."""
    track: EcgTrack
    x: np.ndarray[tuple[int], np.dtype[np.float64]]
    seen: list[Observation] = field(default_factory=list)
    confirmed: list[BeatMark] = field(default_factory=list)
    seconds: list[QualityMark] = field(default_factory=list)


class EcgFlow:
    """Holds no patient: their state is in the leads of the pieces.

    Each round, `append` makes a piece of a lead's next samples; `condition`, `judge`, `ask` and `classify` then go over
    all pieces, and each adds to what was `seen`, or to the beats that wait on the lead.
    """

    def __init__(self, models: Models, mains_hz: float) -> None:
        self._models = models
        self._by_task = models.by_task
        self._filters = EcgFilters(mains_hz)
        self._detector = QrsDetector()
        self._quality = SignalQuality()
        self._features = BeatFeatures()
        self._opinion = SecondOpinion()

    def append(self, patient: PatientState, lead: Lead, chunk: Chunk) -> Piece:
        mine = lead.cut(chunk)
        if lead.track is None:
            lead.track = self._new_track(mine.stream)
        fresh = not lead.track.running
        x = lead.track.append(mine)
        return Piece(patient, lead, lead.track, x, [SignalStart(mine.t0_ns)] if fresh else [])

    def _new_track(self, stream: Stream) -> EcgTrack:
        return EcgTrack(
            lead=analysis_lead(stream.channels),
            resampler=Resampler(stream.rate_hz),
            filters=self._filters.new_state(),
            qrs=self._detector.new_state(),
            quality=self._quality.new_state(),
            features=self._features.new_state(),
            stream=stream,
            pending=PendingBeats(),
            native=LastSamples(round(KEEP_S * stream.rate_hz)),
            morphology=LastSamples(KEPT_SAMPLES),
        )

    @staticmethod
    def closing(lead: Lead, track: EcgTrack, gap: Gap) -> list[Observation]:
        """What is still waiting, for what follows it or for its second to be judged, is a pulse, but no evidence."""
        waiting, lead.waiting = lead.waiting, []
        for r_index in track.pending.clear():
            rr_s = _rr_s(lead, r_index)
            waiting.append(Beat(track.time_ns(r_index), track.frontier_ns, BeatStatus.CONFIRMED, rr_s))
        at_ns = track.frontier_ns
        beats = [beat.judged(at_ns, usable=False) for beat in waiting]
        return lead.seen([*beats, SignalLost(at_ns, gap.reason)])

    def end_run(self, lead: Lead, gap: Gap) -> None:
        """Forget the signal before the gap; the person's normal beat is kept, unless the device changed its rate."""
        old = lead.track
        if old is None:
            return
        lead.track = None
        lead.last_confirmed = None
        if gap.reason == "rate change":
            return
        lead.track = self._new_track(old.stream)
        lead.track.features = old.features
        self._features.gap(old.features)

    def condition(self, pieces: list[Piece]) -> None:
        """Filter, detect and judge quality: patients with equally many new samples together."""
        by_length: dict[int, list[Piece]] = defaultdict(list)
        for piece in pieces:
            if len(piece.x):
                by_length[len(piece.x)].append(piece)
        for group in by_length.values():
            tracks = [piece.track for piece in group]
            x = np.concatenate([piece.x for piece in group]).reshape(len(group), -1)
            detection, morphology = self._filters.push([track.filters for track in tracks], x)
            marks = self._detector.push([track.qrs for track in tracks], detection, morphology)
            quality = self._quality.push([track.quality for track in tracks], x, detection, morphology)
            append_morphology(tracks, morphology)
            for row, piece in enumerate(group):
                track = piece.track
                piece.seconds = quality[row]
                for second in quality[row]:
                    track.judge(second.good)
                for mark in marks[row]:
                    # A beat confirmed without having been proposed is news too: silence is not judged past it.
                    is_news = track.pending.note(mark)
                    if is_news or mark.status == "withdrawn":
                        status = BeatStatus.PROVISIONAL if is_news else BeatStatus.WITHDRAWN
                        r_ns, at_ns = track.time_ns(mark.r_index), track.time_ns(mark.decided_index)
                        piece.seen.append(Beat(r_ns, at_ns, status))
                    if mark.status == "confirmed":
                        piece.confirmed.append(mark)
                track.confirm(piece.confirmed)

    def classify(self, pieces: list[Piece]) -> None:
        """One batch over the beats of all patients that are due."""
        due = [due_beats(piece.track) for piece in pieces]
        inputs = batch(self._features, due)
        model = self._models.beat
        answers = model.answer(inputs) if model and inputs else []
        for piece, one in ((piece, one) for piece, beats in zip(pieces, due, strict=True) for one in beats):
            track, lead, r_index = piece.track, piece.lead, one.beat.r_index
            r_ns, at_ns, rr_s = track.time_ns(r_index), track.time_ns(one.beat.due_index), _rr_s(lead, r_index)
            if model is None or one.row is None:
                lead.waiting.append(Beat(r_ns, at_ns, BeatStatus.CONFIRMED, rr_s))
                continue
            said = answers[one.row]
            if said.label == "S" and _fibrillates(piece, at_ns):
                said = ruled_out(said, model.pack.labels, "S")
            lead.waiting.append(
                Beat(
                    r_ns,
                    at_ns,
                    BeatStatus.CONFIRMED,
                    rr_s,
                    label=said.label,
                    probability=said.probability,
                    unsure=said.unsure,
                    inputs=None if said.label == "N" else _kept(inputs, one.row),
                    ventricular=said.probabilities[model.pack.labels.index("V")],
                )
            )

    def ask(self, pieces: list[Piece]) -> None:
        """What is asked by the clock: one batch a model over the windows of all patients, of the first lead only."""
        pieces = [piece for piece in pieces if piece.lead is piece.patient]
        for task, question in QUESTIONS.items():
            model = self._by_task.get(task)
            if model is None:
                continue
            for asked in _ended(question, pieces):
                inputs = question.inputs([(piece.track, end) for piece, end in asked])
                for row, ((piece, end), said) in enumerate(zip(asked, model.answer(inputs), strict=True)):
                    track = piece.track
                    piece.seen.append(
                        Prediction(
                            task=task,
                            start_ns=track.time_ns(max(0, end - question.window)),
                            at_ns=track.time_ns(end),
                            label=said.label,
                            probability=said.probability,
                            probabilities=said.probabilities,
                            unsure=said.unsure,
                            usable=question.usable(track, end),
                            inputs=_kept(inputs, row) if said.label in question.alarming else None,
                        )
                    )

    def judge(self, pieces: list[Piece]) -> None:
        """The quality of each second, with how far the second opinion on its beats agrees."""
        agreement = self._agreement(pieces)
        for piece in pieces:
            for second in piece.seconds:
                piece.seen.append(
                    Quality(
                        start_ns=piece.track.time_ns(second.start_index),
                        at_ns=piece.track.time_ns(second.end_index),
                        good=second.good,
                        reason=second.reason,
                        activity_mv=second.activity_mv,
                        agreement=agreement.get((id(piece), second.end_index)),
                    )
                )

    def _agreement(self, pieces: list[Piece]) -> dict[tuple[int, int], float | None]:
        """How far the second opinion agrees at the ends of its windows, by piece and sample."""
        model = self._models.qrs
        agreement: dict[tuple[int, int], float | None] = {}
        if model is None:
            return agreement
        doubted = [piece for piece in pieces if piece.lead is piece.patient and OPINION not in piece.patient.undone]
        for asked in _ended(SECOND_OPINION, doubted):
            shares = model.probabilities(SECOND_OPINION.inputs([(piece.track, end) for piece, end in asked]))
            hops: dict[int, list[int]] = defaultdict(list)
            for row, (piece, end) in enumerate(asked):
                hops[(end - piece.track.count) // SECOND_OPINION.hop].append(row)
            for _, rows in sorted(hops.items()):
                tracks, ends = [asked[row][0].track for row in rows], [asked[row][1] for row in rows]
                opinions, beats = [track.opinion for track in tracks], [track.confirmed for track in tracks]
                said = self._opinion.push(opinions, ends, shares[rows], beats)
                agreement.update(((id(asked[row][0]), asked[row][1]), one) for row, one in zip(rows, said, strict=True))
        return agreement


def _fibrillates(piece: Piece, at_ns: int) -> bool:
    """Whether the rhythm last said by then is atrial fibrillation, in which no beat is a premature one of the atria."""
    last = piece.patient.predictions.get("rhythm")
    for seen in piece.seen:
        if isinstance(seen, Prediction) and seen.task == "rhythm" and seen.at_ns <= at_ns:
            last = seen
    return last is not None and last.usable and last.label == "A" and last.probability >= FIBRILLATES_FROM


def _kept(batch: Inputs, row: int) -> dict[str, npt.NDArray[np.float16]]:
    """What a model was shown of one window, small enough to be kept until an alarm may need it."""
    return {name: value[row].astype(np.float16) for name, value in batch.items()}


def _ended(question: Question, pieces: Sequence[Piece]) -> Iterator[list[tuple[Piece, int]]]:
    """Whose windows ended among the new samples, and at which sample, so many at a time."""
    ended = [
        (piece, end) for piece in pieces for end in question.ends(piece.track.count - len(piece.x), piece.track.count)
    ]
    for at in range(0, len(ended), TOGETHER):
        yield ended[at : at + TOGETHER]


def _rr_s(lead: Lead, r_index: int) -> float | None:
    """Interval from the beat before, which is now this one; None for the first of a run."""
    last, lead.last_confirmed = lead.last_confirmed, r_index
    return None if last is None else (r_index - last) / ANALYSIS_RATE_HZ
