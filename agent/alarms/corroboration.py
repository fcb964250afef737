"""When a second lead or the pulse speaks against an alarm, and what it says.

Each of these holds back on positive evidence only: a pulse that goes on as before, or plain beats on another lead. What
could not be seen holds back nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from agent.alarms.observation import Condition
from agent.alarms.rule import NS, seconds
from agent.alarms.witnesses import Beating, Witnesses

TRANSIT_NS = 700_000_000
"""The pulse of the last beat has passed this long after its R peak: what comes later is of another beat."""
LONGEST_PULSE_S = 2.2
"""A pulse that comes seldomer than this does not go on."""
SURE = 0.9
"""Least probability of a beat on another lead that speaks against ventricular fibrillation or tachycardia ..."""
PLAIN = 0.6
"""... and against asystole, where any beat does."""
PLAINLY_NOT = 0.2
"""Mean probability over both leads, below which a beat is no ventricular one."""
APART = 1.15
"""By how much a rate must lie on the other side of the limit to speak against it."""
FIRST_APART = 1.05
"""The same for the analysed lead against the second: where it disagrees at all, the second raises nothing."""
RATE_S = 8.0
UNCHANGED = (0.75, 1.35)
"""Strength of pulses that go on as before."""
VF_PULSES_S = 4.0
"""What goes on through fibrillation is looked for over so long."""
VF_BEATS_S = 6.0
"""The same for beats on another lead, of which the last is known more than a second later."""
LOOKED_BACK_S = 40.0
"""What began longer ago than this is compared with the pulse of that long ago."""
LEAST_SINUS_BEATS = 4


def objection(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    """What speaks against a condition, known at `at_ns`, as the end of a sentence; "" where nothing does."""
    match condition.rule:
        case "asystole" | "pause":
            return _against_no_beats(witnesses, condition, at_ns)
        case "bradycardia":
            return _against_slow(witnesses, condition, at_ns)
        case "tachycardia":
            return _against_fast(witnesses, condition, at_ns)
        case "ventricular_tachycardia":
            return _against_run(witnesses, condition, at_ns)
        case "ventricular_fibrillation":
            return _against_fibrillation(witnesses, condition, at_ns)
        case _:
            return ""


def support(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    """What bears a condition out, as the end of a sentence; "" where nothing does."""
    if condition.rule not in {"asystole", "pause", "ventricular_fibrillation"}:
        return ""
    since_ns = max(condition.onset_ns, at_ns - seconds(VF_PULSES_S)) + TRANSIT_NS
    still = [
        pulse.name
        for pulse in witnesses.pulses.values()
        if pulse.trusted(condition.onset_ns) and not pulse.between(since_ns, at_ns)
    ]
    return f"no pulse in the {' or '.join(still)} either" if still else ""


def _against_no_beats(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    since_ns = condition.onset_ns + TRANSIT_NS
    if at_ns - since_ns > seconds(2 * LONGEST_PULSE_S):  # asked again later: of now, not of when it began
        since_ns = at_ns - seconds(2 * LONGEST_PULSE_S)
    beating = witnesses.beating(since_ns, at_ns, 2)
    if beating is not None and _goes_on(beating, since_ns, at_ns):
        return _pulse_goes_on(beating)
    other = witnesses.other(condition.lead)
    beats = other.beating(since_ns, at_ns, 2, PLAIN) if other else []
    if other and beats and _unbroken([since_ns, *(beat.r_ns for beat in beats), at_ns]):
        return f"{witnesses.name(1 - condition.lead) or 'the other lead'} shows {len(beats)} beats meanwhile"
    return ""


def _goes_on(beating: Beating, since_ns: int, at_ns: int) -> bool:
    return _unbroken([since_ns, *(pulse.t_ns for pulse in beating.pulses), at_ns])


def _unbroken(times_ns: Sequence[int]) -> bool:
    """Whether a heart that beats at these times beats on."""
    return max(b - a for a, b in pairwise(times_ns)) <= seconds(LONGEST_PULSE_S)


def _pulse_goes_on(beating: Beating) -> str:
    return f"the pulse goes on at {beating.rate_per_min:.0f}/min ({beating.name})"


def _against_slow(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    limit = float(dict(condition.values)["limit_bpm"])
    since_ns = max(condition.onset_ns, at_ns - seconds(RATE_S))
    first = witnesses.leads[0].rate(since_ns, at_ns) if condition.lead else None
    if first is not None and first > FIRST_APART * limit:
        return _shows_rate(witnesses, 0, first)
    if beating := witnesses.beating(since_ns, at_ns, 4):
        fast_enough = 60.0 / max(beating.intervals_s) >= APART * limit
        return _pulse_goes_on(beating) if fast_enough and _goes_on(beating, since_ns, at_ns) else ""
    other = witnesses.other(condition.lead)
    beats = other.beating(since_ns, at_ns, 5, SURE) if other else []
    if not beats:
        return ""
    rate = 60.0 * (len(beats) - 1) * NS / (beats[-1].r_ns - beats[0].r_ns)
    if rate < APART * limit or not _unbroken([beats[-1].r_ns, at_ns]):
        return ""
    return _shows_rate(witnesses, 1 - condition.lead, rate)


def _shows_rate(witnesses: Witnesses, lead: int, rate: float) -> str:
    return f"{witnesses.name(lead) or 'the other lead'} shows {rate:.0f} bpm"


def _against_fast(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    """Only the pulse speaks here, borne out by the other lead where it sees beats: fast beats may well not be felt.

    What the second lead alone shows, the first may deny, unless the pulse is as fast.
    """
    values = dict(condition.values)
    limit, rate = float(values["limit_bpm"]), float(values["heart_rate_bpm"])
    since_ns = max(condition.onset_ns, at_ns - seconds(RATE_S))
    beating = witnesses.beating(since_ns, at_ns, 5)
    first = witnesses.leads[0].rate(since_ns, at_ns) if condition.lead else None
    if first is not None and first * FIRST_APART < limit and (beating is None or beating.rate_per_min < limit):
        return _shows_rate(witnesses, 0, first)
    if beating is None or not beating.regular or not _goes_on(beating, since_ns, at_ns):
        return ""
    if APART * beating.rate_per_min > limit:
        return ""
    other = witnesses.other(condition.lead)
    beats = other.between(since_ns, at_ns) if other else []
    if len(beats) >= 5:
        seen = 60.0 * (len(beats) - 1) * NS / (beats[-1].r_ns - beats[0].r_ns)
        return _pulse_goes_on(beating) if abs(seen / beating.rate_per_min - 1.0) < 0.1 else ""
    every_second = abs(rate / beating.rate_per_min - 2.0) < 0.2  # of a fast heart every second beat may be felt
    return "" if every_second else _pulse_goes_on(beating)


def _against_run(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    other = witnesses.other(condition.lead)
    beats = other.beating(condition.onset_ns - 1, at_ns, LEAST_SINUS_BEATS, SURE) if other else []
    if beats:
        return f"{witnesses.name(1 - condition.lead) or 'the other lead'} shows {len(beats)} normal beats meanwhile"
    if other and (against := _no_run(witnesses, condition, at_ns)):
        return against
    rate = float(dict(condition.values)["rate_bpm"])
    beating = _as_before(witnesses, condition.onset_ns, max(condition.onset_ns, at_ns - 6 * NS), at_ns, 4)
    return _pulse_goes_on(beating) if beating is not None and rate > 1.3 * beating.rate_per_min else ""


def _no_run(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    """What of the last beats shows, taken over both leads or asked about later, that they are no run."""
    values = dict(condition.values)
    own, other = witnesses.leads[condition.lead], witnesses.leads[1 - condition.lead]
    run = own.between(condition.onset_ns - 1, at_ns)[-int(values["limit_beats"]) :]
    if len(run) < 2:
        return ""
    if float(values["limit_bpm"]) * median(b.r_ns - a.r_ns for a, b in pairwise(run)) >= 60.0 * NS:
        return "the run is over"
    name = witnesses.name(1 - condition.lead) or "the other lead"
    for beat in run:
        same = other.at(beat.r_ns, at_ns)
        if beat.ventricular < PLAINLY_NOT or (same and beat.ventricular + same.ventricular < 2 * PLAINLY_NOT):
            return f"with {name} one of its beats is a normal one"
    between = [beat for beat in other.between(run[0].r_ns, at_ns) if beat.r_ns < run[-1].r_ns and beat.usable]
    missed = [beat for beat in between if own.at(beat.r_ns, at_ns) is None]
    if any(beat.label in {"N", "S"} and beat.probability >= SURE for beat in missed):
        return f"{name} shows a normal beat between"
    return ""


def _against_fibrillation(witnesses: Witnesses, condition: Condition, at_ns: int) -> str:
    other = witnesses.other(condition.lead)
    beats_ns = max(condition.onset_ns, at_ns - seconds(VF_BEATS_S))
    beats = other.beating(beats_ns, at_ns, LEAST_SINUS_BEATS, SURE) if other else []
    if beats and _unbroken([beats[-1].r_ns, at_ns]):
        return f"{witnesses.name(1 - condition.lead) or 'the other lead'} shows {len(beats)} normal beats meanwhile"
    beating = _as_before(witnesses, condition.onset_ns, at_ns - seconds(VF_PULSES_S), at_ns, 4)
    return _pulse_goes_on(beating) if beating is not None else ""


def _as_before(witnesses: Witnesses, onset_ns: int, since_ns: int, at_ns: int, least: int) -> Beating | None:
    """A pulse of the same rate and strength as before something began, and regular."""
    beating = witnesses.beating(since_ns, at_ns, least)
    if beating is None or not beating.regular or not _goes_on(beating, since_ns, at_ns):
        return None
    before = witnesses.rate_before(beating.name, max(onset_ns, at_ns - seconds(LOOKED_BACK_S)))
    weakest, strongest = UNCHANGED
    same = before is not None and abs(beating.rate_per_min / before - 1.0) < 0.15
    return beating if same and all(weakest <= one.strength <= strongest for one in beating.pulses) else None
