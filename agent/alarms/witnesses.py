"""What else there is to ask about a heart: its pulse, and a second lead.

A witness speaks only where it can be believed, and only of what it has seen: that a signal is missing or poor is never
a reason against an alarm. All that is asked is asked as of an instant; what became known later does not count, so the
answer is the same in any replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from agent.alarms.observation import Beat, BeatStatus, Observation, OtherLead, Pulse, Quality
from agent.alarms.rule import NS, seconds

TRUSTED_OF = 20
"""A pulse wave is believed when of so many pulses before ..."""
TRUSTED_LEAST = 10
"""... of which there must be so many, not older than TRUSTED_WITHIN_S, ..."""
TRUSTED_SHARE = 0.8
"""... this share were alike."""
TRUSTED_WITHIN_S = 40.0
FIT = 0.9
"""Least likeness of a pulse that speaks against an alarm."""
STRENGTH = (0.6, 2.0)
"""The same for its size among the pulses before."""

_KEPT_NS = 60 * NS
_AHEAD_NS = 600 * NS
"""A wave may be so far ahead of the ECG."""
_SAME_BEAT_NS = 150_000_000


@dataclass(frozen=True, slots=True)
class Beating:
    """Pulses in a row that can be believed."""

    name: str
    """Of the wave: "PPG" or "ABP"."""
    pulses: tuple[Pulse, ...]

    @property
    def intervals_s(self) -> list[float]:
        return [(b.t_ns - a.t_ns) / NS for a, b in pairwise(self.pulses)]

    @property
    def rate_per_min(self) -> float:
        """From at least two pulses."""
        return 60.0 * (len(self.pulses) - 1) * NS / (self.pulses[-1].t_ns - self.pulses[0].t_ns)

    @property
    def regular(self) -> bool:
        """No interval a quarter longer than another."""
        return max(self.intervals_s) <= 1.25 * min(self.intervals_s)


@dataclass(slots=True)
class PulseWitness:
    """One pulse wave of a person."""

    name: str
    seen: deque[Pulse] = field(default_factory=deque)
    known_ns: int | None = None
    """Stream time up to which the wave has been looked at; None before it began."""

    def take(self, pulses: Iterable[Pulse], known_ns: int, told_ns: int) -> None:
        """More of the wave, which is now known up to `known_ns`; the ECG has been told up to `told_ns`."""
        self.seen.extend(pulses)
        self.known_ns = known_ns
        keep_ns = max(min(told_ns, known_ns) - _KEPT_NS, known_ns - _AHEAD_NS)
        while self.seen and self.seen[0].t_ns < keep_ns:
            self.seen.popleft()

    def between(self, start_ns: int, at_ns: int) -> list[Pulse]:
        """Pulses after `start_ns` that were known at `at_ns`."""
        return [pulse for pulse in self.seen if start_ns < pulse.t_ns and pulse.at_ns <= at_ns]

    def trusted(self, until_ns: int) -> bool:
        """Whether the wave up to an instant was one of pulses, alike and recent."""
        since_ns = until_ns - seconds(TRUSTED_WITHIN_S)
        before = [pulse for pulse in self.seen if since_ns < pulse.t_ns <= until_ns][-TRUSTED_OF:]
        alike = sum(_alike(pulse) for pulse in before)
        return len(before) >= TRUSTED_LEAST and alike >= TRUSTED_SHARE * len(before)

    def beating(self, start_ns: int, at_ns: int, least: int) -> Beating | None:
        """The pulses of a stretch, at least `least` of them, where the wave was trusted and each of them is alike.

        A wave that is not known up to `at_ns` says nothing.
        """
        if self.known_ns is None or self.known_ns < at_ns:
            return None
        pulses = self.between(start_ns, at_ns)
        if len(pulses) < max(least, 2) or not all(_alike(pulse) for pulse in pulses) or not self.trusted(start_ns):
            return None
        return Beating(self.name, tuple(pulses))


def _alike(pulse: Pulse) -> bool:
    return pulse.fit >= FIT and STRENGTH[0] <= pulse.strength <= STRENGTH[1]


@dataclass(slots=True)
class LeadWitness:
    """What was seen on one lead."""

    name: str
    beats: deque[Beat] = field(default_factory=lambda: deque(maxlen=64))
    poor: deque[Quality] = field(default_factory=lambda: deque(maxlen=16))

    def between(self, start_ns: int, at_ns: int) -> list[Beat]:
        """Confirmed beats after `start_ns` that were known at `at_ns`."""
        return [beat for beat in self.beats if start_ns < beat.r_ns and beat.at_ns <= at_ns]

    def at(self, r_ns: int, at_ns: int) -> Beat | None:
        """The beat at an instant, if it was known at `at_ns` and the signal there was good."""
        near = [beat for beat in self.between(r_ns - _SAME_BEAT_NS, at_ns) if beat.r_ns < r_ns + _SAME_BEAT_NS]
        return next((beat for beat in near if beat.usable and beat.label), None)

    def beating(self, start_ns: int, at_ns: int, least: int, probability: float) -> list[Beat]:
        """The beats of a stretch where at least `least` came, all of them sure, on a signal that was good throughout.

        Sure is a beat that is with `probability` of the atria's or of normal conduction; else there is no answer.
        """
        beats = self.between(start_ns, at_ns)
        poor = any(second.at_ns > start_ns and second.start_ns < at_ns for second in self.poor)
        sure = all(beat.usable and beat.label in {"N", "S"} and beat.probability >= probability for beat in beats)
        return beats if len(beats) >= least and sure and not poor else []

    def rate(self, start_ns: int, at_ns: int) -> float | None:
        """Heart rate over a stretch, whatever its beats are; None where the signal was poor or they are too few."""
        beats = [beat for beat in self.between(start_ns, at_ns) if beat.usable]
        poor = any(second.at_ns > start_ns and second.start_ns < at_ns for second in self.poor)
        if poor or len(beats) < 4:
            return None
        return 60.0 * (len(beats) - 1) * NS / (beats[-1].r_ns - beats[0].r_ns)


@dataclass(slots=True)
class Witnesses:
    """All that can be asked about one person."""

    leads: tuple[LeadWitness, ...]
    """Both leads, the analysed one first; none of somebody with a single lead."""
    pulses: dict[str, PulseWitness]
    """By key of the stream."""

    def see(self, seen: Observation) -> None:
        """Take in what became known on either lead."""
        if not self.leads:
            return
        lead = self.leads[1] if isinstance(seen, OtherLead) else self.leads[0]
        inner = seen.seen if isinstance(seen, OtherLead) else seen
        match inner:
            case Beat(status=BeatStatus.CONFIRMED):
                lead.beats.append(inner)
            case Quality(good=False):
                lead.poor.append(inner)
            case _:
                pass

    def other(self, lead: int) -> LeadWitness | None:
        return self.leads[1 - lead] if self.leads else None

    def name(self, lead: int) -> str:
        """Of a lead, to be read in a sentence; "" where there is only one."""
        return f"lead {self.leads[lead].name}" if self.leads and self.leads[lead].name else ""

    def beating(self, start_ns: int, at_ns: int, least: int) -> Beating | None:
        """The first pulse wave that can be believed over a stretch."""
        found = (pulse.beating(start_ns, at_ns, least) for pulse in self.pulses.values())
        return next((one for one in found if one is not None), None)

    def rate_before(self, name: str, until_ns: int) -> float | None:
        """Usual pulse rate of a wave in the ten seconds before an instant, per minute."""
        wave = next(one for one in self.pulses.values() if one.name == name)
        before: Sequence[Pulse] = [one for one in wave.seen if until_ns - 10 * NS < one.t_ns <= until_ns]
        intervals = [(b.t_ns - a.t_ns) / NS for a, b in pairwise(before)]
        return 60.0 / median(intervals) if len(intervals) >= 4 else None
