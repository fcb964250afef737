"""What the agreement of two detectors is good for: measured, on given recordings.

    python -m models.training.agreement --data DIR

Recordings pass through the live resampler, filters, detector and quality gate; the `qrs` pack gives its second opinion
once a second. Printed are: how well agreement tells ten seconds in which the detector is right from ten in which it
errs; agreement in fibrillation, tachycardia and asystole; and asystole alarms with and without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import wfdb

from agent.alarms.limits import Limits
from agent.alarms.observation import Beat, BeatStatus, Condition, Observation, Quality, SignalStart
from agent.alarms.rule import Rule
from agent.alarms.rules import rhythm_rules
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


def hear(name: str, x: Float64, opine: Opine) -> Heard:
    """Both opinions on a signal (n,) in mV at 250 Hz."""
    filters, detector, quality = EcgFilters(), QrsDetector(), SignalQuality()
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
    confirmed = np.array(
        [(mark.r_index, mark.decided_index) for mark in marks if mark.status == "confirmed"], dtype=np.int64
    ).reshape(-1, 2)
    agreements: list[float | None] = [None] * (WINDOW // HOP - 1)
    for end, row in zip(ends.tolist(), answers, strict=True):
        agreements += opinion.push([state], [end], row[None], [confirmed])
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


def alarms(heard: Heard, rule: Rule, *, with_agreement: bool = True, until_s: float = np.inf) -> list[Condition]:
    """What a rule raised up to a time, shown the beats as `agent.patient` shows them."""
    out: list[Condition] = []
    poor_until_ns = last_ns = -1
    for known in observations(heard, with_agreement=with_agreement):
        seen = known
        if seen.at_ns > until_s * 1e9:
            break
        if isinstance(seen, Quality) and not seen.good:
            poor_until_ns = seen.at_ns
        if isinstance(seen, Beat) and seen.status == BeatStatus.CONFIRMED:
            joined = last_ns >= 0 and poor_until_ns <= last_ns
            rr_s = (seen.r_ns - last_ns) / 1e9 if joined else None
            last_ns, seen = seen.r_ns, replace(seen, rr_s=rr_s)
        out += [*rule.advance(seen.at_ns), *rule.see(seen)]
    return [condition for condition in out if condition.active]


def rule_named(name: str) -> Rule:
    """A new rule as it ships."""
    return next(rule for rule in rhythm_rules(Limits()) if rule.name == name)


# -- the measurements ------------------------------------------------------------------------------------------------


def separation(data: Path, records: Sequence[Record], opine: Opine) -> None:
    """Right against wrong seconds, record by record and together; and alarms of people who had no such thing."""
    pairs = []
    raised: list[str] = []
    for case in qrs.load(data, records):
        heard = hear(case.name, case.x, opine)
        pairs.append(right_or_wrong(heard, case.beats / ANALYSIS_RATE_HZ, case.unscored_s))
        raised += [
            f"{case.name} {name} {'with' if k else 'without'}"
            for name in ("asystole", "tachycardia")
            for k in (False, True)
            for _ in alarms(heard, rule_named(name), with_agreement=k)
        ]
        if case.name in {"mitdb/116", "mitdb/208", "mitdb/203"}:
            print_separation(case.name, pairs[-1:])
    print_separation(f"all {len(pairs)} records, {records[0].database}", pairs)
    counted = [f"{line} {raised.count(line)}" for line in sorted(set(raised))]
    print(f"alarms, with and without agreement: {', '.join(counted)}")


def stress(data: Path, opine: Opine) -> None:
    """Right against wrong seconds of 118 and 119 with electrode motion."""
    noise = qrs.load_noises(data, slice(0, 10))["em"][0]
    for snr_db in (12, 6, 0):
        pairs = []
        for case in qrs.load(data, [Record("mitdb", "118"), Record("mitdb", "119")]):
            noisy = add_noise(case.x, case.beats, noise, snr_db, stress_schedule(len(case.x)))
            heard = hear(case.name, noisy, opine)
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
    ours: list[str] = []
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
        for kind in ("asystole", "bradycardia", "tachycardia"):
            for k in (False, True):
                found = alarms(heard, rule_named(kind), with_agreement=k, until_s=ALARM_S)
                raised = [condition for condition in found if _late(condition.at_ns)]
                if raised and (not k or kind == "tachycardia"):
                    said = heard.agreement[raised[0].at_ns // 1_000_000_000 - 1]
                    truth = "true" if alarm.lower() == kind and is_true == "1" else "false or other"
                    title = f"{kind}{' gated' if k else ''}: {name} ({alarm} {is_true}), {truth}, agreement"
                    ours.append(f"{title} {said:.2f}" if said is not None else title)
    print("\ncinc2015: least agreement of the good seconds among the last 16 before the alarm")
    for title, value in sorted(at_alarm.items()):
        print_distribution(title, np.array(value))
    print("our own alarms in those seconds, ungated; and tachycardia as it is gated")
    print("\n".join(f"  {line}" for line in sorted(ours)))


def _late(at_ns: int) -> bool:
    """Whether an alarm falls into the seconds before the Challenge's."""
    return at_ns > (ALARM_S - 16) * 1e9


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
    separation(args.data, [Record("mitdb", name) for name in DS1], opine)
    separation(args.data, [Record("svdb", name) for name in SVDB], opine)
    stress(args.data, opine)
    rhythms(args.data, opine)
    challenge(args.data, opine)


if __name__ == "__main__":
    main()
