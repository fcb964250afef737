"""What the agreement of two detectors is good for: measured, on given recordings.

    python -m models.training.agreement --data DIR

Recordings pass through the live resampler, filters, detector and quality gate; the `qrs` pack gives its second opinion
once a second. Printed are: how well agreement tells ten seconds in which the detector is right from ten in which it
errs; agreement in fibrillation, tachycardia and asystole; and asystole alarms with and without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.alarms.observation import Beat, BeatStatus, Condition, Observation, Quality, SignalStart
from agent.alarms.rate import NoBeats
from agent.scoring import match_beats
from agent.signal.beats import BeatMark, QrsDetector
from agent.signal.filters import EcgFilters
from agent.signal.quality import QualityMark, SignalQuality
from agent.signal.resample import ANALYSIS_RATE_HZ, Resampler
from agent.signal.second_opinion import AGREEMENT_S, HOP, HORIZON, WINDOW, SecondOpinion, prepare
from models.backends import open_backend
from models.pack import load
from models.pack import shipped as pack_folder
from models.training import qrs
from models.training.datasets import DS1, SVDB, Record
from models.training.noise_stress import add_noise, stress_schedule
from models.training.vf_records import CINC2015, CUDB, VFDB, VfRecord, read_rhythm

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Opine = Callable[[Float32], npt.NDArray[np.floating]]
"""Step probabilities (rows, 25) of `signal` inputs (rows, 2, 250)."""

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_CHUNK = 20 * ANALYSIS_RATE_HZ
_NS_PER_SAMPLE = 4_000_000
ALARM_S = 300
"""When the Challenge's alarm sounded; its event lies in the seconds before."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What both detectors and the quality gate said of one run."""

    name: str
    marks: list[BeatMark]
    seconds: list[QualityMark]
    agreement: list[float | None]
    """Of each second, at its end."""

    @property
    def confirmed(self) -> Float64:
        """R peaks of the detector, s."""
        return np.sort([m.r_index for m in self.marks if m.status == "confirmed"]) / ANALYSIS_RATE_HZ


def hear(name: str, x: Float64, opine: Opine, detector: QrsDetector | None = None) -> Heard:
    """Both opinions on a signal (n,) in mV at 250 Hz."""
    filters, detector, quality = EcgFilters(), detector or QrsDetector(), SignalQuality()
    states = [filters.new_state()], [detector.new_state()], [quality.new_state()]
    marks: list[BeatMark] = []
    seconds: list[QualityMark] = []
    paths: list[Float64] = []
    for start in range(0, len(x), _CHUNK):
        chunk = x[None, start : start + _CHUNK]
        detection, morphology = filters.push(states[0], chunk)
        marks += detector.push(states[1], detection, morphology)[0]
        seconds += quality.push(states[2], chunk, detection, morphology)[0]
        paths.append(morphology[0])
    path = np.concatenate(paths)
    ends = np.arange(WINDOW, len(path) + 1, HOP)
    answers = np.concatenate(
        [
            opine(prepare(path[block[:, None] + np.arange(-WINDOW, 0)]))
            for block in np.array_split(ends, 1 + len(ends) // 256)
        ]
    )
    opinion = SecondOpinion()
    state = opinion.new_state()
    confirmed = [mark for mark in marks if mark.status == "confirmed"]
    agreements: list[float | None] = [None] * (WINDOW // HOP - 1)
    handed = 0
    for end, row in zip(ends.tolist(), answers.tolist(), strict=True):
        new = handed
        while new < len(confirmed) and confirmed[new].decided_index < end:
            new += 1
        agreements.append(opinion.push(state, end, row, confirmed[handed:new]))
        handed = new
    return Heard(name, marks, seconds, agreements[: len(seconds)])


def right_or_wrong(heard: Heard, beats_s: Float64, unknown_s: Sequence[tuple[float, float]]) -> tuple[Float64, Float64]:
    """Agreement, and the detector's errors (missed + extra) in the ten seconds it is about, of each good second."""
    match = match_beats(beats_s, heard.confirmed)
    wrong_s = np.sort(np.concatenate((beats_s[match.missed], heard.confirmed[match.extra])))
    agreements, errors = [], []
    for second, value in zip(heard.seconds, heard.agreement, strict=True):
        to_s = (second.end_index - HORIZON) / ANALYSIS_RATE_HZ
        known = all(to_s < low or to_s - AGREEMENT_S > high for low, high in unknown_s)
        if value is None or not second.good or not known or to_s < 2 * AGREEMENT_S:
            continue
        agreements.append(value)
        errors.append(np.diff(np.searchsorted(wrong_s, (to_s - AGREEMENT_S, to_s)))[0])
    return np.array(agreements), np.array(errors, dtype=np.float64)


def print_separation(title: str, pairs: Sequence[tuple[Float64, Float64]]) -> None:
    """How many of the windows with one error, with several, and without any lie below each threshold."""
    value = np.concatenate([a for a, _ in pairs])
    errors = np.concatenate([e for _, e in pairs])
    print(
        f"\n{title}: {len(value)} seconds; detector right in {np.mean(errors == 0):.4f}, 3 or more errors in "
        f"{np.mean(errors >= 3):.4f} of them"
    )
    for threshold in THRESHOLDS:
        low = value < threshold
        shares = [
            f"{100 * low[chosen].mean():6.2f}" if chosen.any() else "     -"
            for chosen in (errors == 0, (errors >= 1) & (errors < 3), errors >= 3)
        ]
        print(f"  below {threshold:.1f}: right {shares[0]} %, 1 or 2 errors {shares[1]} %, 3 or more {shares[2]} %")


def within(heard: Heard, spans_s: Sequence[tuple[float, float]]) -> Float64:
    """Agreement of the good seconds that lie, with the ten before them, in one of the spans."""
    return np.array(
        [
            value
            for second, value in zip(heard.seconds, heard.agreement, strict=True)
            if value is not None
            and second.good
            and any(low + AGREEMENT_S + 1 <= second.end_index / ANALYSIS_RATE_HZ <= high for low, high in spans_s)
        ]
    )


def observations(heard: Heard, *, with_agreement: bool) -> list[Observation]:
    """What the rules are shown, in the order in which it is known."""
    seen: list[Observation] = [SignalStart(0)]
    for second, value in zip(heard.seconds, heard.agreement, strict=True):
        start, end = second.start_index * _NS_PER_SAMPLE, second.end_index * _NS_PER_SAMPLE
        agreed = value if with_agreement else None
        seen.append(Quality(start, end, second.good, second.reason, second.activity_mv, agreed))
    for mark in heard.marks:
        r_ns, at_ns = mark.r_index * _NS_PER_SAMPLE, mark.decided_index * _NS_PER_SAMPLE
        seen.append(Beat(r_ns, at_ns, BeatStatus(mark.status)))
    return sorted(seen, key=lambda o: (o.at_ns, isinstance(o, Beat)))


def asystoles(heard: Heard, *, with_agreement: bool, until_s: float = np.inf) -> list[Condition]:
    """Asystole alarms raised up to a time."""
    rule, out = NoBeats("asystole", 4.0, "Asystole"), []
    for seen in observations(heard, with_agreement=with_agreement):
        if seen.at_ns > until_s * 1e9:
            break
        out += [*rule.advance(seen.at_ns), *rule.see(seen)]
    return [condition for condition in out if condition.active]


# -- the measurements ------------------------------------------------------------------------------------------------


def separation(data: Path, records: Sequence[Record], opine: Opine, detector: QrsDetector | None) -> None:
    """Right against wrong seconds, record by record and together; and asystole alarms of people who had none."""
    pairs, doubtful = [], 0
    alarms = [0, 0]
    for case in qrs.load(data, records):
        heard = hear(case.name, case.x, opine, detector)
        value, errors = right_or_wrong(heard, case.beats / ANALYSIS_RATE_HZ, case.unscored_s)
        pairs.append((value, errors))
        doubtful += int((value < 0.9).sum())
        for k in (False, True):
            alarms[k] += len(asystoles(heard, with_agreement=k))
        if case.name in {"mitdb/116", "mitdb/208", "mitdb/203"}:
            print_separation(case.name, [(value, errors)])
    print_separation(f"all {len(pairs)} records, {records[0].database}", pairs)
    print(f"asystole alarms: {alarms[0]} without, {alarms[1]} with agreement")


def stress(data: Path, opine: Opine, detector: QrsDetector | None) -> None:
    """Right against wrong seconds of 118 and 119 with electrode motion."""
    noise = qrs.load_noises(data, slice(0, 10))["em"][0]
    for snr_db in (12, 6, 0):
        pairs = []
        for case in qrs.load(data, [Record("mitdb", "118"), Record("mitdb", "119")]):
            noisy = add_noise(case.x, case.beats, noise, snr_db, stress_schedule(len(case.x)))
            heard = hear(case.name, noisy, opine, detector)
            pairs.append(right_or_wrong(heard, case.beats / ANALYSIS_RATE_HZ, ()))
        print_separation(f"118 and 119, electrode motion at {snr_db} dB", pairs)


def rhythms(data: Path, opine: Opine) -> None:
    """Agreement in each rhythm of vfdb and cudb."""
    values: dict[str, list[Float64]] = {}
    for record in [*(VfRecord("vfdb", n) for n in VFDB), *(VfRecord("cudb", n) for n in CUDB)]:
        recording = read_rhythm(data, record)
        x = Resampler(recording.rate_hz).push(recording.signals[:, recording.lead])
        heard = hear(record.patient, x, opine)
        for rhythm in {span.rhythm for span in recording.spans}:
            spans = [(s.start_s, s.stop_s) for s in recording.spans if s.rhythm == rhythm]
            values.setdefault(rhythm, []).append(within(heard, spans))
    print("\nvfdb and cudb: agreement of good seconds in each rhythm")
    for rhythm, parts in sorted(values.items()):
        print_distribution(rhythm, np.concatenate(parts))


def print_distribution(title: str, value: Float64) -> None:
    if len(value):
        below = "  ".join(f"<{t:.1f} {100 * np.mean(value < t):5.1f} %" for t in THRESHOLDS)
        print(f"  {title:>28}: {len(value):6d} s, median {np.median(value):.2f}, {below}")


def challenge(data: Path, opine: Opine) -> None:
    """The Challenge's alarms: agreement when they sounded; our own alarms, true and false, with and without."""
    table = [line.split(",") for line in (data / "cinc2015" / "ALARMS").read_text(encoding="ascii").split()]
    at_alarm: dict[str, list[float]] = {}
    ours: dict[str, list[list[str]]] = {"1": [[], []], "0": [[], []]}
    for name, alarm, is_true in table:
        if name not in CINC2015:
            raise ValueError(f"{name} is not one of the alarms that may be learnt from")
        header = wfdb.rdrecord(str(data / "cinc2015" / name), sampto=ALARM_S * ANALYSIS_RATE_HZ)
        heard = hear(name, held(np.asarray(header.p_signal[:, 0], dtype=np.float64)), opine)
        last = [
            value
            for second, value in zip(heard.seconds, heard.agreement, strict=True)
            if value is not None and second.good and second.end_index >= (ALARM_S - 16) * ANALYSIS_RATE_HZ
        ]
        if last:
            at_alarm.setdefault(f"{alarm} {'true' if is_true == '1' else 'false'}", []).append(min(last))
        for k in (False, True):
            raised = [c for c in asystoles(heard, with_agreement=k) if c.at_ns > (ALARM_S - 16) * 1e9]
            if alarm == "Asystole" and raised:
                ours[is_true][k].append(name)
            elif raised:
                ours["0"][k].append(name)
    print("\ncinc2015: least agreement of the good seconds among the last 16 before the alarm")
    for title, value in sorted(at_alarm.items()):
        print_distribution(title, np.array(value))
    true = sum(alarm == "Asystole" and is_true == "1" for _, alarm, is_true in table)
    print(f"asystole in the last 16 s: {true} true among {len(table)} alarms")
    for k, title in enumerate(("without", "with")):
        print(f"  {title} agreement: true {len(ours['1'][k])}, false {len(ours['0'][k])} ({', '.join(ours['0'][k])})")


def held(x: Float64) -> Float64:
    """Missing samples repeat the last valid one; 0 before the first."""
    at = np.maximum.accumulate(np.where(np.isnan(x), -1, np.arange(len(x))))
    filled: Float64 = np.where(at >= 0, x[np.maximum(at, 0)], 0.0)
    return filled


def shipped() -> Opine:
    """The shipped pack's probabilities."""
    pack = load(pack_folder("qrs"))
    backend = open_backend(pack)
    return lambda signal: pack.probabilities(backend.run({"signal": signal}))


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    opine = shipped()
    print("pack and detector have seen mitdb DS1, svdb and, but for asystole, the fibrillation of vfdb and cudb")
    separation(args.data, [Record("mitdb", name) for name in DS1], opine, None)
    separation(args.data, [Record("svdb", name) for name in SVDB], opine, None)
    stress(args.data, opine, None)
    rhythms(args.data, opine)
    challenge(args.data, opine)


if __name__ == "__main__":
    main()
